"""How far long work is, as a bar on stderr: for people only, so nothing where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from replay.folding import Progress


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """What to tell of how many events are done, and of how many; the bar goes with the end of the block."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
