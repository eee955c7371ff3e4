"""An event loop on virtual time: an hour passes as fast as its tasks run.

Used by `simulation` in a thread, by `replay.testing`, and by the project's own simulation. Tasks may not wait for files,
sockets or threads. The same tasks take the same steps in every run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.BaseEventLoop):
    """Time stands still while tasks run, then jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._selector = self

    def time(self) -> float:
        """Seconds since the loop was created."""
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """Jump to the next timer: nothing else is ever ready."""
        if timeout is None and not self._stopping:  # type: ignore[attr-defined]
            raise RuntimeError("deadlock: every task waits, and no timer is set that could wake one")
        if timeout:
            self._now_s = max(self._now_s, self._scheduled[0]._when)  # type: ignore[attr-defined]
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """Nothing to do: there are no I/O events."""

    def _write_to_self(self) -> None:
        """Nothing to do: the loop never sleeps."""


def run_virtually(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function on a new virtual loop.

    Args:
        main: Called without arguments on the loop.

    Returns:
        What the coroutine returns.

    Raises:
        RuntimeError: An event loop runs in this thread already, or every task waits and no timer is set.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())
