"""Blocking work in a thread, for somebody on a loop: what it is told, what it tells, and how it ends.

Used by whatever reads and writes files and databases by blocking calls. Promises that who is cancelled waits for the thread
all the same: what it works with is nobody else's until it is through.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from replay.formatting.progress_bar import Progress

T = TypeVar("T")
Stopped = Callable[[], bool]
"""Whether blocking work should end."""


async def in_thread(function: Callable[[], T], *, stop: threading.Event | None = None) -> T:
    """What a blocking function returns. Who is cancelled waits for it; `stop` is set then, for it to look at."""
    working = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        await asyncio.wait([working])
        working.exception()  # nobody asks for it any more
        raise


async def until_stopped(work: Callable[[Stopped], T]) -> T:
    """The result of long blocking work, which is told to stop, and waited for, when the caller is cancelled."""
    stop = threading.Event()
    return await in_thread(partial(work, stop.is_set), stop=stop)


def on_loop(progress: Progress | None) -> Progress:
    """What a thread tells its progress to, for somebody on the running loop."""
    loop = asyncio.get_running_loop()

    def report_progress(done: int, total: int) -> None:
        if progress is not None:
            loop.call_soon_threadsafe(progress, done, total)

    return report_progress
