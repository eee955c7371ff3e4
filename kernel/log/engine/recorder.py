"""What every recorder of ours can do, and the event-sourcing library's recorder interface on top of it.

Subclassed by `memory`, `sqlite` and `postgres` together with the library's own recorders; called by the logs (from the
writer's and the readers' threads) and, through the library's interface, by whoever uses the library on our tables.
Promises: both ways of writing go through `commit`, so there is one locked head, one chain and no gap. Recorders block;
they know no event loop.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from eventsourcing.persistence import ApplicationRecorder, Notification, NotSupportedError, StoredEvent, Subscription
from eventsourcing.persistence import IntegrityError as RecordedAlready

from kernel import events
from kernel.clock import SeededIds, SystemClock
from kernel.errors import ConflictError, IntegrityError, SchemaError
from kernel.events import canonical_json
from kernel.log import hashing
from kernel.log.base import Appended, Head, StoredRow, StreamHead
from kernel.log.engine.batch import Batch
from kernel.log.engine.records import Command, PreparedWrite, Writer, check_stream_id, prepare_state
from kernel.models import Evidence

LAYOUT_VERSION = 1
"""Layout of the tables that a new log gets."""
LAYOUT_VERSION_MAX = 2
"""Newest layout that can be opened: 2 has tables for archives beside, which nothing uses. Newer code made a higher one."""
ARCHIVE_TABLE = "log_segment"
"""In layout 2: a row for each part of the log that version 0.1.0 moved to an archive."""
LIBRARY_ACTOR = "library"
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
"""Which events are looked through for an id: those that can be the first to name it."""


class RowRefused(Exception):
    """The database refused a row that was decided to be fine: the batch is rolled back, and its commands go one by one."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose log it is."""

    exchange_id: str
    log_id: str
    layout_version: int


def check_empty(identity: Identity, head: Head) -> None:
    """`ConflictError` unless nobody has written to a log yet."""
    if identity.exchange_id or head.position:
        whose = f"the log of {identity.exchange_id!r}" if identity.exchange_id else "a log"
        raise ConflictError(f"there is {whose} with {head.position} events: rows are put into an empty log only")


@dataclass(frozen=True, slots=True)
class RowQuery:
    """Which rows, in which order, and how many of them."""

    after: int | None = None
    upto: int | None = None
    stream_id: str | None = None
    after_version: int | None = None
    upto_version: int | None = None
    topics: tuple[str, ...] = ()
    descending: bool = False
    limit: int | None = None

    def conditions(self) -> list[tuple[str, object]]:
        """Comparisons with their values; `topics` not among them."""
        candidates: tuple[tuple[str, object], ...] = (
            ("position >", self.after),
            ("position <=", self.upto),
            ("stream_id =", self.stream_id),
            ("version >", self.after_version),
            ("version <=", self.upto_version),
        )
        return [(comparison, value) for comparison, value in candidates if value is not None]

    def order(self) -> str:
        """The column that rows are ordered by, with the direction."""
        column = "version" if self.stream_id is not None else "position"
        return column + (" DESC" if self.descending else "")


class LogRecorder(ApplicationRecorder):
    """A recorder of ours: blocking, safe to call from any thread."""

    writer: Writer
    _seen: Head = EMPTY_HEAD
    """The newest head that this recorder has committed."""

    def _check_head(self, head: Head) -> Head:
        """The head, which must not lie before what was committed here, nor be another one at the same position."""
        seen = self._seen
        if head.position < seen.position:
            raise IntegrityError(
                f"the log ended at {seen.position} and now ends at {head.position}: it was cut off",
                position=head.position + 1,
            )
        if head.position == seen.position and head.chain_hash != seen.chain_hash:
            raise IntegrityError("the head's chain hash is not the one that was committed", position=head.position)
        return head

    @abstractmethod
    def commit(self, commands: list[Command], now_ns: int) -> Batch:
        """Decide and record commands in one transaction on the locked head.

        Raises `LogUnavailableError` (nothing is known to be recorded), `IntegrityError`, `RowRefused`.
        """

    @abstractmethod
    def adopt_identity(self, identity: Identity, created: Command, now_ns: int) -> Identity:
        """Whose log it is. An empty log becomes `identity`'s, with `created` as its first event, in one transaction."""

    @abstractmethod
    def restore(self, identity: Identity, pages: Iterable[Sequence[StoredRow]]) -> Head:
        """Put stored rows back as they are, into an empty log that becomes `identity`'s, in one transaction.

        Each row's hashes are checked on the way. Raises `ConflictError` (the log is somebody's already, or not empty),
        `IntegrityError`, `LogUnavailableError`, and what `pages` raises: then nothing was written.
        """

    @abstractmethod
    def identity(self) -> Identity | None:
        """Whose log it is; None when nobody's yet."""

    @abstractmethod
    def head(self) -> Head:
        """The head row."""

    @abstractmethod
    def select(self, query: RowQuery) -> list[StoredRow]:
        """The rows asked for."""

    @abstractmethod
    def stream_with(self, field: str, value: str, *, upto: int) -> str | None:
        """The intent's stream that names a venue order, or that something was sent for under a client order id: `field` is
        `exchange_order_id` or `client_order_id`. Of several the newest, up to a position; None without one."""

    @abstractmethod
    def stream_heads(self, after: str, limit: int) -> list[StreamHead]:
        """The next streams after a name, in order, each as it was in one instant."""

    @abstractmethod
    def repeated_commands(self, after: int, upto: int) -> list[tuple[int, int]]:
        """Positions after one, up to another, where a command begins whose id began a command before, and where it did."""

    @abstractmethod
    def close(self) -> None:
        """Let go of every connection. Idempotent."""

    def shorten_deadline(self) -> None:
        """The log is being closed: don't wait long for a database that is away. From any thread."""

    def chain_at(self, position: int) -> bytes | None:
        """The chain hash of one position; None when it is not there."""
        if position == 0:
            return hashing.GENESIS
        rows = self.select(RowQuery(after=position - 1, upto=position))
        return rows[0].chain_hash if rows else None

    # ------------------------------------------------------------------------------ the library's interface
    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """The library's write: each event lands exactly at the version that it names, or nothing is written."""
        if not stored_events:
            return []
        now_ns = SystemClock().now_ns()
        command = self._library_command(stored_events, kwargs.get("command_id") or SeededIds().command_id(now_ns))
        try:
            outcome = self.commit([command], now_ns).outcomes[0]
        except RowRefused as problem:
            raise RecordedAlready(str(problem)) from problem
        if isinstance(outcome, Appended):
            return list(range(outcome.first_position, outcome.last_position + 1))
        raise RecordedAlready(str(outcome)) from outcome

    def _library_command(self, stored_events: Sequence[StoredEvent], command_id: bytes) -> Command:
        writer = self.writer
        origin: dict[str, Any] = {
            "actor": LIBRARY_ACTOR,
            "evidence": Evidence.COMMAND,
            "os_user": writer.os_user,
            "host": writer.host,
            "pid": writer.pid,
            "session_user": writer.session_user,
        }
        meta = canonical_json({key: value for key, value in origin.items() if value is not None})
        command = Command(command_id, [], meta, origin, None, False, 0)
        for index, stored in enumerate(stored_events):
            command.writes.append(_library_write(stored, command, index))
        return command

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The library's read of one stream."""
        query = RowQuery(stream_id=str(originator_id), after_version=gt, upto_version=lte, descending=desc, limit=limit)
        return [StoredEvent(row.stream_id, row.version, row.topic, row.state) for row in self.select(query)]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """The library's read of the log by position."""
        after = None if start is None else start - 1 if inclusive_of_start else start
        query = RowQuery(after=after, upto=stop, topics=tuple(topics), limit=limit)
        return [
            Notification(row.stream_id, row.version, row.topic, row.state, id=row.position)
            for row in self.select(query)
        ]

    def max_notification_id(self) -> int | None:
        """The head's position; None when the log is empty, as the library has it."""
        return self.head().position or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """Refused: the library's subscription can miss an event until the next one comes. `EventLog.tail` does not."""
        raise NotSupportedError("use EventLog.tail to follow the log")


class TableRecorder(LogRecorder):
    """A recorder over tables in a database."""

    @abstractmethod
    def tables(self) -> set[str]:
        """Names of the tables that are there."""

    @abstractmethod
    def newest_archive(self) -> tuple[int, str] | None:
        """Last position and file of the newest archive in `ARCHIVE_TABLE`; None where the whole log is in its tables."""

    def check_whole(self) -> None:
        """Raise `SchemaError` where version 0.1.0 moved the first events to an archive: the log is not all here."""
        archive = self.newest_archive() if ARCHIVE_TABLE in self.tables() else None
        if archive is None:
            return
        raise SchemaError(
            f"positions 1 to {archive[0]} of this log are in archives, which this version does not read: put them back "
            f"with version 0.1.0, the newest archive first (orderctl archive --restore {archive[1]})"
        )

    @abstractmethod
    def create_table(self) -> None:
        """Create what is missing, in one transaction (the library's name for it)."""

    def prepared(self) -> Self:
        """This recorder for the library, on tables that are there and hold a whole log; closed where that is refused."""
        try:
            self.create_table()
            self.check_whole()
        except BaseException:
            self.close()
            raise
        return self


def missing_tables(tables: set[str]) -> set[str]:
    """Which of a log's tables are not among these."""
    return {"log", "log_head", "log_stream"} - tables


def _library_write(stored: StoredEvent, command: Command, index: int) -> PreparedWrite:
    stream_id = str(stored.originator_id)
    check_stream_id(stream_id)
    event = prepare_state(stored.topic, 1, stored.state, command, index)
    return PreparedWrite(stream_id, stored.originator_version - 1, hashing.leaf_prefix(stream_id), [event])
