"""The part of a log that is the same on every backend: reading, tailing, and checking what was read.

Base of the memory log and of the threaded ones, which add how a blocking call is made and how an append is written.
Promises: pages of bounded size whatever the log's length; a tail gets every position once and in order, each row that
comes from the database with its hashes recomputed, waits for a database that is away, and is ended by `close`.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeVar

from kernel.errors import IntegrityError, LogUnavailableError
from kernel.events import INTENT_STREAM_PREFIX, BaseEvent
from kernel.log import hashing
from kernel.log.base import EventLog, Head, LogSettings, StoredRow, StreamHead
from kernel.log.engine.batch import Batch
from kernel.log.engine.recorder import Identity, LogRecorder, RowQuery
from kernel.log.engine.records import event_of
from kernel.log.engine.tail_feed import Subscription, TailHub

logger = logging.getLogger(__name__)

T = TypeVar("T")

READ_RETRY_DELAY_S = 0.2
"""How often a tail tries a database that is away."""


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
        """The recorder below, for the lease and for tests."""
        return self._recorder

    @abstractmethod
    async def _call(self, function: Callable[[], T]) -> T:
        """The result of a blocking function."""

    async def _watch(self) -> None:
        """Make sure that commits of others are noticed from here on; called before a tail's first read."""

    def _ensure_open(self) -> None:
        if self._closed:
            raise LogUnavailableError(f"the log {self.url} is closed")

    async def _select(self, query: RowQuery) -> list[StoredRow]:
        self._ensure_open()
        return await self._call(lambda: self._recorder.select(query))

    async def head(self) -> Head:
        """The end of the log now."""
        self._ensure_open()
        return await self._call(self._recorder.head)

    def tail(self, after: int) -> AsyncIterator[list[BaseEvent]]:
        """See `EventLog.tail`. The iterator survives a cancelled wait, and has `aclose`."""
        self._ensure_open()
        return Tail(self, after)

    async def read(self, after: int = 0, upto: int | None = None) -> AsyncIterator[list[StoredRow]]:
        """See `EventLog.read`. Rows come as they are stored, unchecked: checking is `verify`'s work."""
        end = (await self.head()).position if upto is None else upto
        while after < end:
            rows = await self._select(RowQuery(after=after, upto=end, limit=self.settings.page_rows))
            if not rows:
                return
            after = rows[-1].position
            yield rows

    async def intent_id_of(
        self, *, client_order_id: str | None = None, exchange_order_id: str | None = None, upto: int
    ) -> str | None:
        """See `EventLog.intent_id_of`."""
        self._ensure_open()
        for field, value in (("exchange_order_id", exchange_order_id), ("client_order_id", client_order_id)):
            if value:
                found = await self._call(partial(self._recorder.stream_with, field, value, upto=upto))
                if found is not None:
                    return found.removeprefix(INTENT_STREAM_PREFIX)
        return None

    async def stream_rows(self, stream_id: str, *, after_version: int = -1, upto_version: int) -> list[StoredRow]:
        """See `EventLog.stream_rows`."""
        query = RowQuery(stream_id=stream_id, after_version=after_version, upto_version=upto_version)
        rows = await self._select(query)
        return sorted(rows, key=lambda row: row.version)

    async def stream_heads(self, after: str = "") -> list[StreamHead]:
        """See `EventLog.stream_heads`."""
        self._ensure_open()
        limit = self.settings.page_rows
        return await self._call(lambda: self._recorder.stream_heads(after, limit))

    async def repeated_commands(self, after: int, upto: int) -> list[tuple[int, int]]:
        """See `EventLog.repeated_commands`."""
        self._ensure_open()
        return await self._call(lambda: self._recorder.repeated_commands(after, upto))

    async def read_stream(self, stream_id: str, after_version: int = 0) -> list[BaseEvent]:
        """See `EventLog.read_stream`. Each row's leaf is checked."""
        events: list[BaseEvent] = []
        page_rows = self.settings.page_rows
        while True:
            query = RowQuery(stream_id=stream_id, after_version=after_version, limit=page_rows)
            rows = await self._select(query)
            events.extend(_stream_events(rows, after_version))
            if len(rows) < page_rows:
                return events
            after_version = rows[-1].version


def _stream_events(rows: list[StoredRow], after_version: int) -> list[BaseEvent]:
    events = []
    for version, row in enumerate(rows, start=after_version + 1):
        if row.version != version:
            raise IntegrityError(f"stream {row.stream_id} lacks version {version}", position=row.position)
        if hashing.leaf_hash(row) != row.leaf_hash:
            raise IntegrityError("a column was changed: the leaf hash does not match", position=row.position)
        events.append(event_of(row))
    return events


class Tail(AsyncIterator[list[BaseEvent]]):
    """Batches of events from a position on. A wait that is cancelled loses nothing."""

    def __init__(self, log: RecordedLog, after: int) -> None:
        self._log = log
        self._after = after
        self._chain: bytes | None = None
        """The chain hash at `_after`; None before the first look."""
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
            events = self._hand_over(batch) if batch is not None else None
            if events is None and subscription.must_read and not subscription.closed:
                events = await self._read(subscription)
            if events:
                return events
            if subscription.closed:
                return None
            if not subscription.must_read:
                await subscription.wait()

    async def _begin(self, subscription: Subscription) -> bool:
        """Watch first, then look where to begin: what is committed in between is seen either way. False after the end."""
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
            text = f"asked to go on after position {self._after}, but the log ends at {head.position}"
            raise IntegrityError(f"{text}: it was cut off, or it is another", position=head.position + 1)
        self._chain = chain
        return True

    def _hand_over(self, batch: Batch) -> list[BaseEvent] | None:
        """A batch of this process's writer, without a read; None when only its bytes are known."""
        events = batch.events()
        if events is None:
            assert self._subscription is not None
            self._subscription.must_read = True
            return None
        if batch.chain_at(self._after) != self._chain:
            raise IntegrityError("the chain hash does not follow from the event before", position=self._after + 1)
        events = events[self._after - batch.previous.position :]
        assert events[0].position == self._after + 1, "handed over out of order"
        self._after = batch.head.position
        self._chain = batch.head.chain_hash
        return events

    async def _read(self, subscription: Subscription) -> list[BaseEvent] | None:
        """A page from the database; None when there is nothing new."""
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
        """The result of a read. A database that is away is waited for until the log is closed: nobody would begin again
        for a reader that gave up, and a kernel without its reader is of no use when the database is back."""
        loop = asyncio.get_running_loop()
        tell_at_s = loop.time() + self._log.settings.reconnect_timeout_s
        while True:
            try:
                return await read()
            except LogUnavailableError as problem:
                if self._log._closed:
                    raise
                if loop.time() > tell_at_s:
                    tell_at_s = float("inf")
                    logger.warning("position %d can't be read yet, it is waited for: %s", self._after + 1, problem)
            await asyncio.sleep(READ_RETRY_DELAY_S)

    def _page(self, limit: int) -> list[StoredRow]:
        rows = self._log._recorder.select(RowQuery(after=self._after, limit=limit))
        if not rows and (head := self._log._recorder.head()).position < self._after:
            raise IntegrityError(
                f"the log ended at {self._after} and now ends at {head.position}: it was cut off",
                position=head.position + 1,
            )
        return rows
