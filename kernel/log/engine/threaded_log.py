"""A log whose database is written by a thread of its own: what SQLite and PostgreSQL have in common.

Base of `SQLiteLog` and `PostgresLog`. Blocking reads run on a small pool of threads, so that the event loop never waits
for a disk. Promises: see the package; an append that raises `LogUnavailableError` is not known to be recorded.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from kernel.clock import Clock
from kernel.errors import IntegrityError, KernelError, LogUnavailableError
from kernel.log.base import Append, Appended, LogSettings
from kernel.log.engine.batch import Batch, Outcome
from kernel.log.engine.group_commit import Pending, WriterThread, answer_all
from kernel.log.engine.recorded_log import RecordedLog
from kernel.log.engine.recorder import Identity, LogRecorder, RowRefused
from kernel.log.engine.records import prepare

T = TypeVar("T")

READ_THREADS_MAX = 4


class ThreadedLog(RecordedLog):
    """A log with a writer thread."""

    def __init__(
        self, recorder: LogRecorder, identity: Identity, *, url: str, clock: Clock, settings: LogSettings
    ) -> None:
        super().__init__(recorder, identity, url=url, settings=settings)
        self._clock = clock
        self._readers = ThreadPoolExecutor(READ_THREADS_MAX, thread_name_prefix=f"log-read-{self.exchange_id}")
        self._writer = WriterThread(
            name=f"log-write-{self.exchange_id}", commit=self._commit, idle=self._idle, settings=settings
        )
        self._seen_position: int | None = None
        """The head after the newest commit of this writer."""
        self._closing: asyncio.Task[None] | None = None

    async def append(self, append: Append) -> Appended:
        """See `EventLog.append`. A caller that is cancelled while it waits may find its command recorded."""
        self._ensure_open()
        command = prepare(append, self._recorder.writer)
        loop = asyncio.get_running_loop()
        pending = Pending(command, loop, loop.create_future(), self._clock.now_ns())
        self._writer.put(pending, is_fact=append.is_fact)
        return await pending.future

    # --------------------------------------------------------------------------------------- on the writer's thread
    def _idle(self) -> float | None:
        """Seconds until the writer should look around, None for never."""
        return None

    def _now_ns(self, batch: list[Pending]) -> int:
        try:
            return self._clock.now_ns()
        except RuntimeError:  # a clock that follows an event loop says nothing on this thread
            return max(pending.taken_ns for pending in batch)

    def _commit(self, pending: list[Pending]) -> None:
        try:
            batch = self._recorder.commit([each.command for each in pending], self._now_ns(pending))
        except RowRefused as problem:
            self._commit_one_by_one(pending, problem)
        except KernelError as problem:
            answer_all(pending, [_own(problem) for _ in pending])
        except Exception as problem:  # the boundary of the thread: the callers must hear of it
            answer_all(pending, [_bug(problem) for _ in pending])
        else:
            self._publish(pending, batch)

    def _commit_one_by_one(self, pending: list[Pending], problem: RowRefused) -> None:
        """The database refused a row that the decision had found fine: find out whose it was."""
        if len(pending) > 1:
            for each in pending:
                self._commit([each])
            return
        refusal = IntegrityError(f"the database refuses what its head and streams allow: {problem}")
        refusal.__cause__ = problem
        answer_all(pending, [refusal])

    def _publish(self, pending: list[Pending], batch: Batch) -> None:
        """Answer the callers and hand the batch to the tails, with one call into each loop."""
        foreign = self._seen_position is not None and batch.previous.position != self._seen_position
        self._seen_position = batch.head.position
        calls: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
        for subscription in self._tail_hub.subscriptions():
            if foreign:
                calls.setdefault(subscription.loop, []).append(subscription.wake)
            if batch.rows:
                calls.setdefault(subscription.loop, []).append(partial(subscription.publish, batch))
        outcomes: list[Outcome] = batch.outcomes
        answer_all(pending, outcomes, also=calls)

    # ------------------------------------------------------------------------------------------------ on any thread
    async def _call(self, function: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, function)
        except RuntimeError as problem:
            if self._closed:
                raise LogUnavailableError(f"the log {self.url} is closed") from problem
            raise

    async def close(self) -> None:
        """See `EventLog.close`."""
        if self._closing is None:
            self._closed = True
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._recorder.shorten_deadline()
        await asyncio.to_thread(self._writer.stop)
        self._tail_hub.close()
        await asyncio.to_thread(self._release)  # not on a reader's thread: all of them may be waiting for this

    def _release(self) -> None:
        """Let go of connections and of threads."""
        self._recorder.close()
        self._readers.shutdown(wait=True)


def _bug(problem: Exception) -> KernelError:
    error = KernelError(f"the log's writer failed: {problem!r}")
    error.__cause__ = problem
    return error


def _own(problem: KernelError) -> KernelError:
    """An error for one caller alone: each raises it with a traceback of its own."""
    error = copy.copy(problem)
    error.__cause__ = problem
    return error
