"""Reading and tailing a log, the same on every backend.

Base of `MemoryLog` and `ThreadedLog`. Reads come in bounded pages. A tail gets every position once and in order,
recomputes the hashes of each row that it reads, waits for a lost database, and ends with `close`.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import ParamSpec, TypeVar

from kernel.errors import IntegrityError, LogUnavailableError
from kernel.events import INTENT_STREAM_PREFIX, BaseEvent
from kernel.log import hashing
from kernel.log.base import EventLog, Head, LogSettings, StoredRow, StreamHead
from kernel.log.engine.batch import Batch
from kernel.log.engine.recorder import Identity, LogRecorder, RowQuery, truncated
from kernel.log.engine.records import event_of
from kernel.log.engine.tail_feed import Subscription, TailHub

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

READ_RETRY_DELAY_S = 0.2
"""How long a tail waits between attempts to reach a lost database."""


class RecordedLog(EventLog):
    """A log over a recorder."""

    def __init__(self, recorder: LogRecorder, identity: Identity, *, url: str, settings: LogSettings) -> None:
        self.exchange_id = identity.exchange_id
        self.log_id = identity.log_id
        self.url = url
        self.settings = settings
        self._recorder = recorder
        self._tail_hub = TailHub()
        self._closed = False

    @property
    def recorder(self) -> LogRecorder:
        """The log's storage."""
        return self._recorder

    @abstractmethod
    async def _call(self, function: Callable[[], T]) -> T:
        """Call a blocking function, and return its result."""

    async def _watch(self) -> None:
        """Start to watch for other processes' commits; called before a tail's first read."""

    def _ensure_open(self) -> None:
        if self._closed:
            raise LogUnavailableError(f"the log {self.url} is closed")

    async def _read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._ensure_open()
        return await self._call(partial(function, *args, **kwargs))

    async def head(self) -> Head:
        return await self._read(self._recorder.head)

    def tail(self, after: int) -> AsyncIterator[list[BaseEvent]]:
        """See `EventLog.tail`. The iterator survives a canceled wait and has `aclose`."""
        self._ensure_open()
        return Tail(self, after)

    async def read(self, after: int = 0, upto: int | None = None) -> AsyncIterator[list[StoredRow]]:
        end = (await self.head()).position if upto is None else upto
        while after < end:
            rows = await self._read(self._recorder.select, RowQuery(after, end, limit=self.settings.page_rows))
            if not rows:
                return
            after = rows[-1].position
            yield rows

    async def intent_ids_of(
        self, *, client_order_id: str | None = None, exchange_order_id: str | None = None, upto: int
    ) -> list[str]:
        found: list[str] = []
        for field, value in (("exchange_order_id", exchange_order_id), ("client_order_id", client_order_id)):
            if value:
                found += await self._read(self._recorder.streams_with, field, value, upto=upto)
        return list(dict.fromkeys(name.removeprefix(INTENT_STREAM_PREFIX) for name in found))

    async def stream_rows(self, stream_id: str, *, after_version: int = -1, upto_version: int) -> list[StoredRow]:
        query = RowQuery(stream_id=stream_id, after_version=after_version, upto_version=upto_version)
        return await self._read(self._recorder.select, query)

    async def stream_heads(self, after: str = "") -> list[StreamHead]:
        return await self._read(self._recorder.stream_heads, after, self.settings.page_rows)

    async def repeated_commands(self, after: int, upto: int) -> list[tuple[int, int]]:
        return await self._read(self._recorder.repeated_commands, after, upto)

    async def newest(self, stream_id: str, topic: str, *, upto: int, limit: int) -> list[BaseEvent]:
        query = RowQuery(stream_id=stream_id, topics=(topic,), upto=upto, descending=True, limit=limit)
        return [_checked_event(row) for row in reversed(await self._read(self._recorder.select, query))]

    async def read_stream(self, stream_id: str, after_version: int = 0) -> list[BaseEvent]:
        events: list[BaseEvent] = []
        page_rows = self.settings.page_rows
        while True:
            query = RowQuery(stream_id=stream_id, after_version=after_version, limit=page_rows)
            rows = await self._read(self._recorder.select, query)
            events.extend(_stream_events(rows, after_version))
            if len(rows) < page_rows:
                return events
            after_version = rows[-1].version


def _stream_events(rows: list[StoredRow], after_version: int) -> list[BaseEvent]:
    events = []
    for version, row in enumerate(rows, start=after_version + 1):
        if row.version != version:
            raise IntegrityError(f"version {version} of stream {row.stream_id} is missing", position=row.position)
        events.append(_checked_event(row))
    return events


def _checked_event(row: StoredRow) -> BaseEvent:
    if hashing.leaf_hash(row) != row.leaf_hash:
        raise IntegrityError("a column was changed: the leaf hash does not match", position=row.position)
    return event_of(row)


class Tail(AsyncIterator[list[BaseEvent]]):
    """Batches of events after a position. A canceled wait loses nothing."""

    def __init__(self, log: RecordedLog, after: int) -> None:
        self._log = log
        self._after = after
        self._chain: bytes | None = None
        """The chain hash at `_after`; None before the first read."""
        self._subscription: Subscription | None = None
        self._done = False

    def __aiter__(self) -> Tail:
        return self

    async def __anext__(self) -> list[BaseEvent]:
        if self._done:
            raise StopAsyncIteration
        try:
            events = await self._next()
        except asyncio.CancelledError:
            raise
        except BaseException:
            await self.aclose()
            raise
        if events is None:
            await self.aclose()
            raise StopAsyncIteration
        return events

    async def aclose(self) -> None:
        """Stop. Idempotent."""
        self._done = True
        if self._subscription is not None:
            self._log._tail_hub.unsubscribe(self._subscription)
            self._subscription = None

    async def _next(self) -> list[BaseEvent] | None:
        subscription = self._subscription
        if subscription is None:
            subscription = self._subscription = self._log._tail_hub.subscribe(asyncio.get_running_loop())
        if self._chain is None and not await self._begin(subscription):
            return None
        while True:
            batch = subscription.take(self._after)
            events = self._hand_over(batch, subscription) if batch is not None else None
            if events is None and subscription.must_read and not subscription.closed:
                events = await self._read(subscription)
            if events:
                return events
            if subscription.closed:
                return None
            if not subscription.must_read:
                await subscription.wait()

    async def _begin(self, subscription: Subscription) -> bool:
        """Watch for commits, then find the first chain hash, so that no commit is missed. False once the log is closed."""
        log = self._log
        try:
            await self._read_with_retry(log._watch)
            chain = await self._read_with_retry(partial(log._call, lambda: log._recorder.chain_at(self._after)))
            head = await self._read_with_retry(log.head) if chain is None else None
        except LogUnavailableError:
            if log._closed or subscription.closed:
                return False
            raise
        if head is not None:
            raise IntegrityError(
                f"position {self._after} is after the end of the log at {head.position}: the log was truncated, or it is"
                " another log",
                position=head.position + 1,
            )
        self._chain = chain
        return True

    def _hand_over(self, batch: Batch, subscription: Subscription) -> list[BaseEvent] | None:
        """Return the events of a batch of this process's writer without a read; None if only their bytes are known."""
        events = batch.events()
        if events is None:
            subscription.must_read = True
            return None
        if batch.chain_at(self._after) != self._chain:
            raise IntegrityError("the chain hash does not follow from the event before", position=self._after + 1)
        events = events[self._after - batch.previous.position :]
        assert events[0].position == self._after + 1, "handed over out of order"
        self._after = batch.head.position
        self._chain = batch.head.chain_hash
        return events

    async def _read(self, subscription: Subscription) -> list[BaseEvent] | None:
        subscription.must_read = False
        limit = self._log.settings.page_rows
        try:
            rows = await self._read_with_retry(partial(self._log._call, lambda: self._page(limit)))
        except BaseException:
            subscription.must_read = not self._log._closed
            if self._log._closed:  # the end of the log is on its way to the subscription
                return None
            raise
        if not rows:
            return None
        assert self._chain is not None
        chain = hashing.verify_rows(rows, after=self._after, chain=self._chain)
        events = [event_of(row) for row in rows]
        subscription.must_read = subscription.must_read or len(rows) == limit
        self._after, self._chain = rows[-1].position, chain
        return events

    async def _read_with_retry(self, read: Callable[[], Awaitable[T]]) -> T:
        """Retry a read until the database answers or the log is closed: a kernel is useless without its reader."""
        loop = asyncio.get_running_loop()
        warn_at_s = loop.time() + self._log.settings.reconnect_timeout_s
        while True:
            try:
                return await read()
            except LogUnavailableError as problem:
                if self._log._closed:
                    raise
                if loop.time() > warn_at_s:
                    warn_at_s = float("inf")
                    logger.warning("position %d cannot be read, retrying until it can: %s", self._after + 1, problem)
            await asyncio.sleep(READ_RETRY_DELAY_S)

    def _page(self, limit: int) -> list[StoredRow]:
        rows = self._log._recorder.select(RowQuery(after=self._after, limit=limit))
        if not rows and (head := self._log._recorder.head()).position < self._after:
            raise truncated(self._after, head.position)
        return rows
