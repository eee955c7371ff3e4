"""Runs blocking work in a thread for a caller on an event loop: its progress, its cancellation, its result.

A cancelled caller still waits for the thread, which owns the files and connections that it works with until it ends.
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
"""Returns whether blocking work should stop."""


async def in_thread(function: Callable[[], T], *, stop: threading.Event | None = None) -> T:
    """Run a blocking function. On cancellation `stop` is set, and the function is awaited before the error propagates."""
    working = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        await asyncio.wait([working])
        working.exception()  # mark it as retrieved
        raise


async def until_stopped(work: Callable[[Stopped], T]) -> T:
    """Run blocking work that polls whether to stop, which is when the caller is cancelled."""
    stop = threading.Event()
    return await in_thread(partial(work, stop.is_set), stop=stop)


def on_loop(progress: Progress | None) -> Progress:
    """A progress callback for a thread, which calls `progress` on the running loop."""
    loop = asyncio.get_running_loop()

    def report_progress(done: int, total: int) -> None:
        if progress is not None:
            loop.call_soon_threadsafe(progress, done, total)

    return report_progress
