"""An event loop on virtual time, whose processes can be stopped and killed between any two of their steps.

Made by the player, one per run; time passes as in `replay.whatif.virtual_loop`. What a task schedules belongs to its
process: a stopped process takes no step, its timers and messages wait and run in order when it resumes; a killed one
never takes a step again, not even to clean up.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from replay.whatif.virtual_loop import VirtualLoop

PROCESS: contextvars.ContextVar[Steps | None] = contextvars.ContextVar("PROCESS", default=None)
"""Whose code runs."""
STEPS_MAX = 500_000
"""Some twenty times what the longest run takes: what repeats itself without a pause is a finding, not a hang."""


TRIES_MAX = 20
"""How often the remaining tasks are asked to end."""


class Endless(Exception):
    """More than `STEPS_MAX` steps were taken."""


class Steps:
    """The steps of one process: each callback of the loop is one."""

    def __init__(self) -> None:
        self.still = False
        """Whether it is stopped."""
        self.dead = False
        self.taken = 0
        self.alarm_at = -1
        """`alarm` is called before this step, to kill or pause the process."""
        self.alarm: Callable[[], None] = lambda: None
        self.waiting: deque[tuple[asyncio.Handle, Callable[..., object], Any, contextvars.Context]] = deque()

    def context(self) -> contextvars.Context:
        """A context in which everything scheduled belongs to this process."""
        context = contextvars.copy_context()
        context.run(PROCESS.set, self)
        return context


class SteppedLoop(VirtualLoop):
    """A virtual loop that counts the steps of each process."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.ending = False
        """Whether only the last steps of the remaining tasks are to be taken."""
        self.errors: list[str] = []
        """Unhandled exceptions of tasks and callbacks."""
        self.set_exception_handler(self._note)

    def _note(self, _: Any, context: dict[str, Any]) -> None:
        problem = context.get("exception")
        self.errors.append("".join(traceback.format_exception(problem)) if problem else str(context["message"]))

    # ------------------------------------------------------------------------------------------------------- processes
    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:
        """See `AbstractEventLoop.call_soon`."""
        context = contextvars.copy_context() if context is None else context
        process = context.get(PROCESS)
        handle = asyncio.Handle(self._step, (), self, context)
        handle._args = (handle, process, callback, args, context)  # type: ignore[attr-defined]
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """See `AbstractEventLoop.call_at`."""
        context = contextvars.copy_context() if context is None else context
        process = context.get(PROCESS)
        timer = asyncio.TimerHandle(when, self._step, (), self, context)
        timer._args = (timer, process, callback, args, context)  # type: ignore[attr-defined]
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def _step(
        self,
        handle: asyncio.Handle,
        process: Steps | None,
        callback: Callable[..., object],
        args: Any,
        context: contextvars.Context,
    ) -> None:
        self.steps += 1
        if self.steps > STEPS_MAX and not self.ending:
            self.stop()
            return
        if process is not None:
            process.taken += 1
            if process.taken == process.alarm_at:
                process.alarm()
            if process.still:
                process.waiting.append((handle, callback, args, context))
                return
        callback(*args)

    def go_on(self, process: Steps) -> None:
        """Resume a stopped process."""
        process.still = False
        while process.waiting:
            handle, callback, args, context = process.waiting.popleft()
            self.call_soon(_unless_cancelled, handle, callback, args, context=context)


def _unless_cancelled(handle: asyncio.Handle, callback: Callable[..., object], args: Any) -> None:
    """A waiting callback may have been canceled by an earlier one."""
    if not handle.cancelled():
        callback(*args)


def run(main: Callable[[SteppedLoop], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine to its end on a loop of its own. Raises `Endless`."""
    loop = SteppedLoop()
    try:
        return loop.run_until_complete(main(loop))
    except RuntimeError as problem:
        if loop.steps > STEPS_MAX:
            raise Endless(f"more than {STEPS_MAX} steps") from problem
        raise
    finally:
        loop.ending = True
        for _ in range(TRIES_MAX):
            left = asyncio.all_tasks(loop)
            if not left:
                break
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.sleep(1))
        loop.close()
