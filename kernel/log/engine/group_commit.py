"""The one writer thread of a log: drains what is waiting into one transaction after another.

Used by the threaded logs (SQLite, PostgreSQL). Promises: a bounded queue, in which facts always find room; no artificial
delay, so batches form while a commit is under way; the callers of a batch hear of it in one call per event loop; what
was taken before the end is written before the thread ends. How a batch is written is passed in.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from kernel.errors import BusyError, LogUnavailableError
from kernel.log.base import Appended, LogSettings
from kernel.log.engine.batch import Outcome
from kernel.log.engine.records import Command
from kernel.log.engine.tail_feed import call_on

Commit = Callable[[list["Pending"]], None]
"""Writes a batch and settles every command of it. Must not raise for what a database can do."""
Idle = Callable[[], float | None]
"""Called when nothing is waiting: how many seconds to wait for work before it is called again; None for ever."""


@dataclass(slots=True)
class Pending:
    """A command that waits for its commit."""

    command: Command
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Appended]
    taken_ns: int
    """When it was taken."""


class WriterThread:
    """A queue and the thread that empties it. The thread starts with the first need."""

    def __init__(self, *, name: str, commit: Commit, idle: Idle, settings: LogSettings) -> None:
        self._commit = commit
        self._idle = idle
        self._settings = settings
        self._queue: deque[Pending] = deque()
        self._changed = threading.Condition()
        self._wake_requested = False
        self._closing = False
        self._started = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def closing(self) -> bool:
        """Whether the end was asked for."""
        return self._closing

    def put(self, pending: Pending, *, is_fact: bool) -> None:
        """Queue a command. `BusyError` when the queue is full, unless it is a fact; `LogUnavailableError` after the end."""
        with self._changed:
            if self._closing:
                raise LogUnavailableError("the log is closed")
            waiting = len(self._queue)
            if waiting >= self._settings.queue_commands_max and not is_fact:
                raise BusyError(
                    f"{waiting} commands wait for the log's writer, the limit: nothing was written, try again"
                )
            self._queue.append(pending)
            self._start()
            if waiting == 0:
                self._changed.notify()

    def wake(self) -> None:
        """Have `idle` called now."""
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
        """Take nothing more, write what was taken, and return when the thread has ended. Blocks. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._started:
            self._thread.join()

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch:
                self._commit(batch)
            elif self._closing:
                return

    def _take(self) -> list[Pending]:
        """What is waiting, within the bounds of one commit; empty after the end, or when it is time to look around."""
        with self._changed:
            if self._queue:
                return self._drain()
            if self._closing:
                return []
        wait_s = self._idle()
        with self._changed:
            if not self._queue and not self._closing and not self._wake_requested:
                self._changed.wait(wait_s)
            self._wake_requested = False
            return self._drain()

    def _drain(self) -> list[Pending]:
        batch: list[Pending] = []
        bytes_left = self._settings.batch_bytes_max
        while self._queue and len(batch) < self._settings.batch_commands_max:
            bytes_left -= self._queue[0].command.bytes_size
            if bytes_left < 0 and batch:
                break
            batch.append(self._queue.popleft())
        return batch


def answer_all(
    batch: list[Pending],
    outcomes: list[Outcome],
    *,
    also: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] | None = None,
) -> None:
    """Tell every caller its outcome, and call what is in `also`, with one call into each loop."""
    calls: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = also or {}
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Appended], Outcome]]] = {}
    for pending, outcome in zip(batch, outcomes, strict=True):
        by_loop.setdefault(pending.loop, []).append((pending.future, outcome))
    for loop, answers in by_loop.items():
        calls.setdefault(loop, []).append(partial(_answer, answers))
    for loop, functions in calls.items():
        call_on(loop, partial(_call_all, functions))


def _answer(answers: list[tuple[asyncio.Future[Appended], Outcome]]) -> None:
    for future, outcome in answers:
        if future.done():  # the caller was cancelled; the command stands
            continue
        if isinstance(outcome, Appended):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)


def _call_all(functions: list[Callable[[], None]]) -> None:
    for function in functions:
        function()
