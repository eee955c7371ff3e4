"""A progress bar for people: on stderr, and only where that is a terminal. Used by the verbs that work for long."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from replay.folding import Progress


@contextmanager
def progress_bar(title: str) -> Iterator[Progress | None]:
    """What to tell of progress, for as long as the block runs; None where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
