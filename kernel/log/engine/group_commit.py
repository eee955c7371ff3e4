"""The writer thread of a log: commits the queued commands, one transaction after another.

Used by `ThreadedLog`. The queue is bounded, but always accepts facts. Batches form while a commit is running, without an
artificial delay. What was queued before `stop` is written before the thread ends.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

import msgspec

from kernel.errors import BusyError, LogUnavailableError
from kernel.log.base import Appended, LogSettings
from kernel.log.engine.batch import Outcome
from kernel.log.engine.records import Command
from kernel.log.engine.tail_feed import call_on

BATCH_COMMANDS_MAX = 512


class Pending(msgspec.Struct):
    """A command that waits for its commit."""

    command: Command
    future: asyncio.Future[Appended]
    taken_ns: int
    """When it was queued."""


class WriterThread:
    """A queue and the thread that empties it; the thread starts when first needed.

    `commit` writes a batch and answers each command of it; it must not raise for what a database can do. `idle` is called
    when the queue is empty, and returns the seconds until its next call, None for never.
    """

    def __init__(
        self,
        *,
        name: str,
        commit: Callable[[list[Pending]], None],
        idle: Callable[[], float | None],
        settings: LogSettings,
    ) -> None:
        self.commit, self.idle, self.settings = commit, idle, settings
        self._queue: deque[Pending] = deque()
        self._changed = threading.Condition()
        self._wake_requested = False
        self._closing = False
        self._started = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def put(self, pending: Pending, *, is_fact: bool) -> None:
        """Queue a command; `BusyError` if the queue is full (never for a fact), `LogUnavailableError` if it is closed."""
        with self._changed:
            if self._closing:
                raise LogUnavailableError("the log is closed")
            waiting = len(self._queue)
            if waiting >= self.settings.queue_commands_max and not is_fact:
                raise BusyError(f"the log's queue is full with {waiting} commands: nothing was written, try again")
            self._queue.append(pending)
            self._start()
            if waiting == 0:
                self._changed.notify()

    def wake(self) -> None:
        """Call `idle` now."""
        with self._changed:
            self._wake_requested = True
            if not self._closing:
                self._start()
            self._changed.notify()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._thread.start()

    def stop(self) -> None:
        """Refuse further commands, write the queued ones, and end the thread. Blocks. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._started:
            self._thread.join()

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch:
                self.commit(batch)
            elif self._closing:
                return

    def _take(self) -> list[Pending]:
        """Wait for commands, and return a batch; empty when closing, or when `idle` is due."""
        with self._changed:
            if self._queue:
                return self._drain()
            if self._closing:
                return []
        wait_s = self.idle()
        with self._changed:
            if not self._queue and not self._closing and not self._wake_requested:
                self._changed.wait(wait_s)
            self._wake_requested = False
            return self._drain()

    def _drain(self) -> list[Pending]:
        batch: list[Pending] = []
        bytes_left = self.settings.batch_bytes_max
        while self._queue and len(batch) < BATCH_COMMANDS_MAX:
            bytes_left -= self._queue[0].command.bytes_size
            if bytes_left < 0 and batch:
                break
            batch.append(self._queue.popleft())
        return batch


Calls = dict[asyncio.AbstractEventLoop, list[Callable[[], None]]]


def answer_all(batch: list[Pending], outcomes: list[Outcome], *, also: Calls | None = None) -> None:
    """Answer every caller, after the calls in `also`, with one call into each event loop."""
    calls: Calls = also or {}
    answers: dict[asyncio.AbstractEventLoop, list[tuple[Pending, Outcome]]] = {}
    for pending, outcome in zip(batch, outcomes, strict=True):
        answers.setdefault(pending.future.get_loop(), []).append((pending, outcome))
    for loop, answered in answers.items():
        calls.setdefault(loop, []).append(partial(_answer, answered))
    for loop, functions in calls.items():
        call_on(loop, partial(_call_all, functions))


def _answer(answered: list[tuple[Pending, Outcome]]) -> None:
    for pending, outcome in answered:
        if pending.future.done():  # the caller was canceled; the command is recorded
            continue
        if isinstance(outcome, Appended):
            pending.future.set_result(outcome)
        else:
            pending.future.set_exception(outcome)


def _call_all(functions: list[Callable[[], None]]) -> None:
    for function in functions:
        function()
