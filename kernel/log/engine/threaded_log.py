"""A log over a database: one thread writes, a small pool of threads reads, and the event loop never waits for a disk.

Base of `SQLiteLog` and `PostgresLog`.
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
from kernel.log.engine.batch import Batch
from kernel.log.engine.group_commit import Calls, Pending, WriterThread, answer_all
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
        """The head after this writer's last commit."""
        self._closing: asyncio.Task[None] | None = None

    async def append(self, append: Append) -> Appended:
        """See `EventLog.append`. The command of a caller that is canceled while it waits may be recorded."""
        self._ensure_open()
        command = prepare(append, self._recorder.writer)
        pending = Pending(command, asyncio.get_running_loop().create_future(), self._clock.now_ns())
        self._writer.put(pending, is_fact=append.is_fact)
        return await pending.future

    def _idle(self) -> float | None:
        return None

    def _now_ns(self, batch: list[Pending]) -> int:
        try:
            return self._clock.now_ns()
        except RuntimeError:  # a clock that follows an event loop has no time on this thread
            return max(pending.taken_ns for pending in batch)

    def _commit(self, pending: list[Pending]) -> None:
        try:
            batch = self._recorder.commit([each.command for each in pending], self._now_ns(pending))
        except RowRefused as problem:
            self._commit_one_by_one(pending, problem)
        except KernelError as problem:
            answer_all(pending, [_own(problem, problem) for _ in pending])
        except Exception as problem:  # the boundary of the thread: each caller must get an answer
            answer_all(pending, [_own(KernelError(f"the log's writer failed: {problem!r}"), problem) for _ in pending])
        else:
            self._publish(pending, batch)

    def _commit_one_by_one(self, pending: list[Pending], problem: RowRefused) -> None:
        """Find the command whose row the database refused, though it was decided to be valid."""
        if len(pending) > 1:
            for each in pending:
                self._commit([each])
            return
        text = f"the database refuses a row that its head and its streams allow: {problem}"
        answer_all(pending, [_own(IntegrityError(text), problem)])

    def _publish(self, pending: list[Pending], batch: Batch) -> None:
        """Answer the callers and give the batch to the tails, with one call into each event loop."""
        foreign = self._seen_position is not None and batch.previous.position != self._seen_position
        self._seen_position = batch.head.position
        calls: Calls = {}
        for subscription in self._tail_hub.subscriptions():
            if foreign:
                calls.setdefault(subscription.loop, []).append(subscription.wake)
            if batch.rows:
                calls.setdefault(subscription.loop, []).append(partial(subscription.publish, batch))
        answer_all(pending, batch.outcomes, also=calls)

    async def _call(self, function: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, function)
        except RuntimeError as problem:
            if self._closed:
                raise LogUnavailableError(f"the log {self.url} is closed") from problem
            raise

    async def close(self) -> None:
        if self._closing is None:
            self._closed = True
            self._closing = asyncio.ensure_future(self._close())
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            await asyncio.wait([self._closing])  # threads own files until then; a second cancellation does not wait
            raise

    async def _close(self) -> None:
        self._recorder.shorten_deadline()
        await asyncio.to_thread(self._writer.stop)
        self._tail_hub.close()
        await asyncio.to_thread(self._release)  # not on a reader's thread: all of them may wait for this

    def _release(self) -> None:
        self._recorder.close()
        self._readers.shutdown(wait=True)


def _own(error: KernelError, cause: Exception) -> KernelError:
    """Return a copy of an error for one caller, who raises it with a traceback of its own."""
    own = copy.copy(error)
    own.__cause__ = cause
    return own
