"""The blocking interface to a log's storage.

Implemented by each backend; called by the logs from their threads, and by `LibraryRecorder` for users of the
`eventsourcing` library. Both ways of writing go through `commit`: one locked head, one chain, no gaps. Recorders know no
event loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import LiteralString

import msgspec

from kernel import events
from kernel.errors import ConflictError, IntegrityError, KernelError, NotFoundError, SchemaError
from kernel.log import hashing
from kernel.log.base import Head, StoredRow, StreamHead
from kernel.log.engine.batch import Batch
from kernel.log.engine.records import Command, Writer, this_process

LAYOUT_VERSION = 1
"""Table layout of new logs."""
LAYOUT_VERSION_MAX = 2
"""Newest layout that can be opened: 2 adds the unused archive tables of version 0.1.0."""
ARCHIVE_TABLE = "log_segment"
"""In layout 2: one row per part of the log that version 0.1.0 archived."""
TABLES = frozenset({"log", "log_head", "log_stream"})
EMPTY_HEAD = Head(position=0, chain_hash=hashing.GENESIS, epoch=0, recorded_at_ns=0)

NAMING_TOPICS = {
    "client_order_id": (events.AttemptStarted.topic,),
    "exchange_order_id": tuple(
        report.topic
        for report in (
            events.OrderAccepted,
            events.OrderCanceled,
            events.OrderExpired,
            events.OrderFilled,
            events.OrderModified,
            events.OrderRejected,
            events.OrderStateObserved,
            events.OrderTriggered,
        )
    ),
}
"""Events searched for an order id: those that can be the first to contain it."""


class RowRefused(Exception):
    """The database refused a row that was decided to be valid: the batch is rolled back, and retried one by one."""


class Identity(msgspec.Struct, frozen=True):
    """The account and the id of a log."""

    exchange_id: str
    log_id: str
    layout_version: int

    def check(self, exchange_id: str) -> None:
        """Raise `SchemaError` for a newer layout, `ConflictError` for a log of another account."""
        if self.layout_version > LAYOUT_VERSION_MAX:
            raise SchemaError(
                f"the log's table layout is version {self.layout_version}, this code supports versions up to "
                f"{LAYOUT_VERSION_MAX}: upgrade to open it"
            )
        if self.exchange_id != exchange_id:
            raise ConflictError(
                f"this is the log of {self.exchange_id!r}, not of {exchange_id!r}: choose another log or exchange id"
            )


def check_empty(identity: Identity, head: Head) -> None:
    """Raise `ConflictError` unless the log is new."""
    if identity.exchange_id or head.position:
        whose = f"the log of {identity.exchange_id!r}" if identity.exchange_id else "a log"
        raise ConflictError(
            f"there is {whose} with {head.position} events: rows can be restored into an empty log only"
        )


class RowQuery(msgspec.Struct, frozen=True):
    """Filter, order and limit of a read."""

    after: int | None = None
    upto: int | None = None
    stream_id: str | None = None
    after_version: int | None = None
    upto_version: int | None = None
    topics: tuple[str, ...] = ()
    descending: bool = False
    limit: int | None = None

    def clauses(self, placeholder: LiteralString) -> tuple[LiteralString, list[object]]:
        """Return the WHERE, ORDER BY and LIMIT clauses with their values."""
        candidates: tuple[tuple[LiteralString, object], ...] = (
            ("position > ", self.after),
            ("position <= ", self.upto),
            ("stream_id = ", self.stream_id),
            ("version > ", self.after_version),
            ("version <= ", self.upto_version),
        )
        wheres = [comparison + placeholder for comparison, value in candidates if value is not None]
        values = [value for _, value in candidates if value is not None]
        if self.topics:
            wheres.append("topic IN (" + ", ".join([placeholder] * len(self.topics)) + ")")
            values += self.topics
        text: LiteralString = " WHERE " + " AND ".join(wheres) if wheres else ""
        text += " ORDER BY version" if self.stream_id is not None else " ORDER BY position"
        text += " DESC" if self.descending else ""
        if self.limit is not None:
            text += " LIMIT " + placeholder
            values.append(self.limit)
        return text, values


class LogRecorder(ABC):
    """A log's storage: blocking, safe to call from any thread."""

    _seen: Head = EMPTY_HEAD
    """The newest head that this recorder has committed."""

    @cached_property
    def writer(self) -> Writer:
        """The process that writes."""
        return this_process()

    def _check_head(self, head: Head) -> Head:
        """Return the head, after checking that it is not before the last commit, nor a different one at its position."""
        seen = self._seen
        if head.position < seen.position:
            raise truncated(seen.position, head.position)
        if head.position == seen.position and head.chain_hash != seen.chain_hash:
            raise IntegrityError("the head's chain hash is not the one that was committed", position=head.position)
        return head

    @abstractmethod
    def commit(self, commands: list[Command], now_ns: int) -> Batch:
        """Decide and record commands in one transaction that locks the head.

        Raises `LogUnavailableError` if the database cannot be used (whether the commands are recorded is then unknown),
        `IntegrityError` if the log is damaged, `RowRefused` if the database refused a row.
        """

    @abstractmethod
    def adopt_identity(self, identity: Identity, created: Command, now_ns: int) -> Identity:
        """Return the log's identity; an empty log gets `identity` and the event `created`, in one transaction."""

    @abstractmethod
    def restore(self, identity: Identity, pages: Iterable[Sequence[StoredRow]]) -> Head:
        """Insert stored rows unchanged into an empty log, which gets `identity`, in one transaction.

        Raises `ConflictError` if the log has an owner or events, `IntegrityError` if the rows do not follow from each
        other, `LogUnavailableError` if the database cannot be used.
        """

    @abstractmethod
    def identity(self) -> Identity | None:
        """Return the log's identity; None for a new log."""

    @abstractmethod
    def head(self) -> Head:
        """Return the head row."""

    @abstractmethod
    def select(self, query: RowQuery) -> list[StoredRow]:
        """Return the rows that match a query."""

    @abstractmethod
    def streams_with(self, field: str, value: str, *, upto: int) -> list[str]:
        """Return the streams of events up to a position with an `exchange_order_id` or `client_order_id`, newest first."""

    @abstractmethod
    def stream_heads(self, after: str, limit: int) -> list[StreamHead]:
        """Return the next streams after a name, in order, each consistent in itself."""

    @abstractmethod
    def repeated_commands(self, after: int, upto: int) -> list[tuple[int, int]]:
        """See `EventLog.repeated_commands`."""

    @abstractmethod
    def close(self) -> None:
        """Close every connection. Idempotent."""

    def shorten_deadline(self) -> None:  # noqa: B027 (most have none)
        """Stop retrying a lost database for long, because the log is closing. Callable from any thread."""

    def chain_at(self, position: int) -> bytes | None:
        """Return the chain hash at a position; None after the end."""
        if position == 0:
            return hashing.GENESIS
        rows = self.select(RowQuery(after=position - 1, upto=position))
        return rows[0].chain_hash if rows else None

    def check_end(self) -> None:
        """Raise `IntegrityError` unless the last row matches the head: the log was truncated, or grew past its head."""
        rows = self.select(RowQuery(descending=True, limit=1))
        head = self.head()
        last = rows[0].position if rows else 0
        if last < head.position:  # truncated, or another process appended between the two reads
            rows = self.select(RowQuery(after=head.position - 1, upto=head.position))
            last = rows[0].position if rows else last
        if last != head.position:
            raise IntegrityError(
                f"the head is at {head.position}, the last event at {last}: the log was truncated or its head changed",
                position=min(last, head.position) + 1,
            )
        if rows[0].chain_hash != head.chain_hash:
            raise IntegrityError("the head's chain hash is not that of the last event", position=head.position)


def truncated(known: int, end: int) -> IntegrityError:
    """Return the error for a log that ends before a position known to be recorded."""
    return IntegrityError(f"the log ended at {known} and now ends at {end}: it was truncated", position=end + 1)


class TableRecorder(LogRecorder):
    """A recorder over tables in a database."""

    @abstractmethod
    def tables(self) -> set[str]:
        """Return the names of the existing tables."""

    @abstractmethod
    def newest_archive(self) -> tuple[int, str] | None:
        """Return the last position and the file of the newest archive in `ARCHIVE_TABLE`; None if nothing is archived."""

    @abstractmethod
    def create_table(self) -> None:
        """Create the missing tables in one transaction."""

    def ensure_tables(self, where: str, *, create: bool) -> None:
        """Create the tables in an empty database; refuse one that holds something else, or only a part of a log."""
        tables = self.tables()
        if not tables and not create:
            raise NotFoundError(f"there is no log in {where}")
        if not tables:
            self.create_table()
        elif missing := TABLES - tables:
            raise KernelError(
                f"{where} is not a log of this software: it lacks the tables {', '.join(sorted(missing))}"
            )
        else:
            self.check_whole()

    def check_whole(self) -> None:
        """Raise `SchemaError` if a part of the log is in archives."""
        archive = self.newest_archive() if ARCHIVE_TABLE in self.tables() else None
        if archive is None:
            return
        raise SchemaError(
            f"positions 1 to {archive[0]} of this log are in archives, which this version does not read: restore them "
            f"with version 0.1.0, the newest archive first (orderctl archive --restore {archive[1]})"
        )
