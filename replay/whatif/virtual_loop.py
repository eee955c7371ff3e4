"""An event loop on virtual time: nothing is waited for, an hour passes as fast as what happens in it.

Used by `forking`, in a thread of its own, by `replay.testing`, and by our own simulation. Nothing outside of the loop can
be waited for: no files, no sockets, no threads. The same tasks take the same steps every time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.BaseEventLoop):
    """Time passes only when nothing is left to do, and then at once to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._selector = self

    def time(self) -> float:
        """Seconds since the loop began."""
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """Nothing is ready but timers: go to the next one."""
        if timeout is None and not self._stopping:  # type: ignore[attr-defined]
            raise RuntimeError("deadlock: every task waits, and no timer is set that could wake one")
        if timeout:
            self._now_s = max(self._now_s, self._scheduled[0]._when)  # type: ignore[attr-defined]
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nothing has to be woken: it never sleeps."""


def run_virtually(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end on a virtual loop of its own.

    Args:
        main: Called without arguments on the loop.

    Returns:
        What the coroutine returns.

    Raises:
        RuntimeError: An event loop runs in this thread already, or every task waits and no timer is set.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())
