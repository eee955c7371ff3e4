"""How far long work is, for people: a bar on stderr where that is a terminal, and nothing anywhere else.

Called by the CLI around what reads much of a log. Rich is imported only where there is a bar to draw.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

Progress = Callable[[int, int], None]
"""Told how many events are done, and how many there are to do. May be called often."""


@contextmanager
def progress_bar(what: str, *, stream: TextIO | None = None) -> Iterator[Progress]:
    """A bar for as long as the block runs; yields what it is told by. It is gone when the block ends."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(file=stream), transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
