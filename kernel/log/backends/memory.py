"""A log in memory, for tests and simulations: the same bytes, hashes and promises as on a database, except durability.

Opened by `open_log("memory://")`. Appends run on the event loop without a thread, so that a virtual clock can drive them.
Log objects over one `MemoryRecorder` are like processes over one database.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from kernel.clock import Clock
from kernel.errors import KernelError
from kernel.events import canonical_json
from kernel.lease import FAR_FUTURE_NS, Lease
from kernel.log.base import Append, Appended, Head, LogSettings, StoredRow, StreamHead
from kernel.log.engine.batch import Batch, decide, restored_batches
from kernel.log.engine.recorded_log import RecordedLog
from kernel.log.engine.recorder import (
    EMPTY_HEAD,
    LAYOUT_VERSION,
    NAMING_TOPICS,
    Identity,
    LogRecorder,
    RowQuery,
    check_empty,
)
from kernel.log.engine.records import Command, Row, prepare
from kernel.log.engine.tail_feed import TailHub, call_on

T = TypeVar("T")


class LeasePlace:
    """The holder of one recorder's lease."""

    def __init__(self) -> None:
        self.holder: str | None = None
        self.released = asyncio.Event()
        """Set by each release, cleared by each acquisition."""


class MemoryLease(Lease):
    """A lease within this process."""

    def __init__(self, place: LeasePlace) -> None:
        super().__init__()
        self._place = place

    @property
    def held(self) -> bool:
        return self._place.holder == self.holder

    async def acquire(self, wait: bool = True) -> bool:
        while not self.held and self._place.holder is not None:
            if not wait:
                return False
            await self._place.released.wait()
        self._place.holder = self.holder
        self._place.released.clear()
        return True

    def deadline_ns(self) -> int | None:
        return FAR_FUTURE_NS if self.held else None

    async def release(self) -> None:
        if self.held:
            self._place.holder = None
            self._place.released.set()


class MemoryRecorder(LogRecorder):
    """The rows, as tuples in a list."""

    def __init__(self) -> None:
        self._database_lock = threading.RLock()
        self.rows: list[Row] = []
        self.tail_hubs: list[TailHub] = []
        """One per log object over this recorder."""
        self.lease_place = LeasePlace()
        self._head = EMPTY_HEAD
        self._identity: Identity | None = None
        self._streams: dict[str, list[int]] = {}
        self._versions: dict[str, int] = {}
        self._commands: dict[bytes, tuple[int, int]] = {}

    def commit(self, commands: list[Command], now_ns: int) -> Batch:
        with self._database_lock:
            batch = decide(commands, head=self._head, known=self._commands, versions=self._versions, now_ns=now_ns)
            self._store(batch)
        return batch

    def _store(self, batch: Batch) -> None:
        for row in batch.rows:
            self.rows.append(row)
            self._streams.setdefault(row[1], []).append(row[0])
            first, _ = self._commands.get(row[6], (row[0], 0))
            self._commands[row[6]] = (first, row[0])
        self._versions.update(batch.versions)
        self._head = batch.head

    def adopt_identity(self, identity: Identity, created: Command, now_ns: int) -> Identity:
        with self._database_lock:
            if self._identity is None:
                self._identity = identity
                self.commit([created], now_ns)
            return self._identity

    def restore(self, identity: Identity, pages: Iterable[Sequence[StoredRow]]) -> Head:
        with self._database_lock:
            check_empty(self._identity or Identity("", "", LAYOUT_VERSION), self._head)
            try:
                for batch in restored_batches(
                    pages, log_id=identity.log_id, exchange_id=identity.exchange_id, head=EMPTY_HEAD
                ):
                    self._store(batch)
            except BaseException:
                self._clear()
                raise
            self._identity = identity
            return self._head

    def _clear(self) -> None:
        for kept in (self.rows, self._streams, self._versions, self._commands):
            kept.clear()
        self._head = EMPTY_HEAD

    def identity(self) -> Identity | None:
        return self._identity

    def head(self) -> Head:
        return self._head

    def select(self, query: RowQuery) -> list[StoredRow]:
        with self._database_lock:
            selected = [row for row in self._candidates(query) if _matches(row, query)]
        if query.descending:
            selected.reverse()
        return [StoredRow(*row) for row in selected[: query.limit]]

    def _candidates(self, query: RowQuery) -> list[Row]:
        if query.stream_id is not None:
            return [self.rows[position - 1] for position in self._streams.get(query.stream_id, ())]
        start = max(query.after or 0, 0)
        if query.limit is not None and not query.topics and not query.descending:
            return self.rows[start : start + query.limit]
        return self.rows[start:]

    def streams_with(self, field: str, value: str, *, upto: int) -> list[str]:
        text = canonical_json(value)
        with self._database_lock:
            found = (row for row in reversed(self.rows[:upto]) if text in row[9] and _named(field, row) == value)
            return list(dict.fromkeys(row[1] for row in found))

    def stream_heads(self, after: str, limit: int) -> list[StreamHead]:
        with self._database_lock:
            newest: dict[str, int] = {}
            for row in self.rows:
                newest[row[1]] = max(newest.get(row[1], row[2]), row[2])
            names = sorted(name for name in {*newest, *self._versions} if name > after)
            return [StreamHead(name, newest.get(name), self._versions.get(name)) for name in names[:limit]]

    def repeated_commands(self, after: int, upto: int) -> list[tuple[int, int]]:
        with self._database_lock:
            first: dict[bytes, int] = {}
            begins = [(row[0], row[6]) for row in self.rows if row[7] == 0]
            for position, command_id in begins:
                first.setdefault(command_id, position)
            return [(at, first[name]) for at, name in begins if after < at <= upto and first[name] < at]

    def close(self) -> None:
        """Do nothing: there are no connections."""


def _named(field: str, row: Row) -> str | None:
    if row[3] not in NAMING_TOPICS[field]:
        return None
    try:
        found = json.loads(row[9])
    except ValueError:  # a user of the library may have written any bytes
        return None
    value = found.get(field) if isinstance(found, dict) else None
    return value if isinstance(value, str) else None


def _matches(row: Row, query: RowQuery) -> bool:
    if query.after is not None and row[0] <= query.after:
        return False
    if query.upto is not None and row[0] > query.upto:
        return False
    if query.after_version is not None and row[2] <= query.after_version:
        return False
    if query.upto_version is not None and row[2] > query.upto_version:
        return False
    return not query.topics or row[3] in query.topics


class MemoryLog(RecordedLog):
    """A log in memory."""

    _recorder: MemoryRecorder

    def __init__(self, recorder: MemoryRecorder, identity: Identity, *, clock: Clock, settings: LogSettings) -> None:
        super().__init__(recorder, identity, url="memory://", settings=settings)
        self._clock = clock
        recorder.tail_hubs.append(self._tail_hub)

    async def append(self, append: Append) -> Appended:
        """See `EventLog.append`. No other task runs between decision and write; others may run before the return."""
        self._ensure_open()
        batch = self._recorder.commit([prepare(append, self._recorder.writer)], self._clock.now_ns())
        outcome = batch.outcomes[0]
        if isinstance(outcome, KernelError):
            raise outcome
        if batch.rows:
            self._publish(batch)
        await asyncio.sleep(0)
        return outcome

    def _publish(self, batch: Batch) -> None:
        running = asyncio.get_running_loop()
        for tail_hub in self._recorder.tail_hubs:
            for subscription in tail_hub.subscriptions():
                if subscription.loop is running:
                    subscription.publish(batch)
                else:
                    call_on(subscription.loop, partial(subscription.publish, batch))

    def lease(self, *, clock: Clock) -> MemoryLease:
        return MemoryLease(self._recorder.lease_place)

    async def lease_is_held(self) -> bool:
        return self._recorder.lease_place.holder is not None

    async def _call(self, function: Callable[[], T]) -> T:
        return function()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._recorder.tail_hubs.remove(self._tail_hub)
        self._tail_hub.close()
