"""What every recorder of ours can do, and the event-sourcing library's recorder interface on top of it.

Subclassed by `memory`, `sqlite` and `postgres` together with the library's own recorders; called by the logs (from the
writer's and the readers' threads) and, through the library's interface, by whoever uses the library on our tables.
Promises: both ways of writing go through `commit`, so there is one locked head, one chain and no gap. Recorders block;
they know no event loop.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from eventsourcing.persistence import ApplicationRecorder, Notification, NotSupportedError, StoredEvent, Subscription
from eventsourcing.persistence import IntegrityError as RecordedAlready

from kernel import events
from kernel.clock import Clock, IdFactory, SeededIds, SystemClock
from kernel.errors import ConflictError, IntegrityError
from kernel.events import canonical_json
from kernel.log import hashing
from kernel.log.base import Appended, Archived, Head, StoredRow, StreamHead
from kernel.log.batch import Batch
from kernel.log.records import Command, PreparedWrite, Writer, check_stream_id, prepare_state
from kernel.log.segments import Archives, Segment
from kernel.models import Evidence

LAYOUT_VERSION = 2
"""Version of the tables. A higher one in the database was made by newer code; a lower one is read and written as well."""
CUT_LAYOUT_VERSION = 2
"""The first layout of which something can be archived."""
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


def named_in(field: str, topic: str, state: bytes) -> str | None:
    """The id that an event names in a field of `NAMING_TOPICS`; None where it names none."""
    if topic not in NAMING_TOPICS[field] or field.encode() not in state:
        return None
    try:
        found = json.loads(state)
    except ValueError:  # what a user of the event-sourcing library wrote may be anything
        return None
    value = found.get(field) if isinstance(found, dict) else None
    return value if isinstance(value, str) and value else None


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
class Query:
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


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a recorder takes time and ids from when the library's interface gives none."""

    clock: Clock = field(default_factory=SystemClock)
    ids: IdFactory = field(default_factory=SeededIds)


class LogRecorder(ApplicationRecorder):
    """A recorder of ours: blocking, safe to call from any thread."""

    sources: Sources
    writer: Writer
    archives: Archives
    """Reads what was archived."""
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
    def claim(self, identity: Identity, created: Command, now_ns: int) -> Identity:
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
    def select(self, query: Query) -> list[StoredRow]:
        """The rows asked for."""

    @abstractmethod
    def stream_with(self, field: str, value: str, *, upto: int) -> str | None:
        """The intent's stream that names a venue order, or that something was sent for under a client order id: `field` is
        `exchange_order_id` or `client_order_id`. Of several the newest, up to a position; None without one."""

    def stream_with_all(self, field: str, value: str, *, upto: int) -> str | None:
        """`stream_with`, where what names the id may be archived."""
        return self.stream_with(field, value, upto=upto)

    @abstractmethod
    def stream_heads(self, after: str, limit: int) -> list[StreamHead]:
        """The next streams after a name, in order, each as it was in one instant."""

    @abstractmethod
    def repeated_commands(self, after: int, upto: int) -> list[tuple[int, int]]:
        """Positions after one, up to another, where a command begins whose id began a command before, and where it did."""

    def repeated_all(self, after: int, upto: int) -> list[tuple[int, int]]:
        """`repeated_commands`, where the command before may be archived."""
        return self.repeated_commands(after, upto)

    def archived(self, after: int, upto: int) -> Archived:
        """See `EventLog.archived`."""
        return Archived()

    @abstractmethod
    def close(self) -> None:
        """Let go of every connection. Idempotent."""

    def hurry(self) -> None:
        """The log is being closed: don't wait long for a database that is away. From any thread."""

    def segments(self) -> list[Segment]:
        """What was cut off the beginning of the log and archived, in order."""
        return []

    def has_stream(self, stream_id: str, after_version: int) -> bool:
        """Whether the table of streams has one, beyond a version."""
        return False

    def select_all(self, query: Query) -> list[StoredRow]:
        """The rows asked for, those that were archived too: they are looked for only where rows don't follow on."""
        rows = self.select(query)
        if query.descending or query.topics:
            return rows
        if query.stream_id is not None:
            return self._whole_stream(query, query.stream_id, rows)
        follows = rows[-1].position == (query.after or 0) + len(rows) if rows else query.upto is None
        segments = [] if follows else self.segments()
        return self._whole(query, segments) if segments else rows

    def _whole(self, query: Query, segments: list[Segment]) -> list[StoredRow]:
        """Rows by position: up to the last segment's end from the files, then from the database."""
        after, last, found = query.after or 0, segments[-1].last_position, list[StoredRow]()
        while after < last and (query.upto is None or after < query.upto):
            limit = None if query.limit is None else query.limit - len(found)
            if limit == 0:
                return found
            found += self.archives.page(segments, after=after, upto=query.upto, limit=limit)
            after = found[-1].position
        limit = None if query.limit is None else query.limit - len(found)
        return found + self.select(replace(query, after=after, limit=limit))

    def _whole_stream(self, query: Query, stream_id: str, rows: list[StoredRow]) -> list[StoredRow]:
        """One stream's rows by version."""
        after = query.after_version
        if after is None or (rows and rows[-1].version == after + len(rows)):
            return rows
        if not rows and query.upto_version is None and not self.has_stream(stream_id, after):
            return rows  # who asks up to a version knows that there is one, whatever the table of streams says
        archived = self.archives.stream(self.segments(), stream_id, after=after, upto=query.upto_version)
        by_version = {row.version: row for row in (*archived, *rows)}
        return [by_version[version] for version in sorted(by_version)][: query.limit]

    def chain_at(self, position: int) -> bytes | None:
        """The chain hash of one position; None when it is not there."""
        if position == 0:
            return hashing.GENESIS
        rows = self.select(Query(after=position - 1, upto=position))
        if rows:
            return rows[0].chain_hash
        segments = self.segments()
        if ends := [segment.last_hash for segment in segments if segment.last_position == position]:
            return ends[0]
        if segments and position < segments[-1].last_position:
            rows = self.select_all(Query(after=position - 1, upto=position))
        return rows[0].chain_hash if rows else None

    # ------------------------------------------------------------------------------ the library's interface
    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """The library's write: each event lands exactly at the version that it names, or nothing is written."""
        if not stored_events:
            return []
        now_ns = self.sources.clock.now_ns()
        command = self._library_command(stored_events, kwargs.get("command_id") or self.sources.ids.command_id(now_ns))
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
        self._refuse_archived()
        query = Query(stream_id=str(originator_id), after_version=gt, upto_version=lte, descending=desc, limit=limit)
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
        self._refuse_archived()
        after = None if start is None else start - 1 if inclusive_of_start else start
        query = Query(after=after, upto=stop, topics=tuple(topics), limit=limit)
        return [
            Notification(row.stream_id, row.version, row.topic, row.state, id=row.position)
            for row in self.select(query)
        ]

    def _refuse_archived(self) -> None:
        """The library's reads know of tables alone: they would leave out what was archived, and not say so."""
        if self.segments():
            raise NotSupportedError("the beginning of this log is archived: read it by EventLog")

    def max_notification_id(self) -> int | None:
        """The head's position; None when the log is empty, as the library has it."""
        return self.head().position or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """Refused: the library's subscription can miss an event until the next one comes. `EventLog.tail` does not."""
        raise NotSupportedError("use EventLog.tail to follow the log")


@dataclass(frozen=True, slots=True)
class CutStatements:
    """The SQL of one database for cutting rows off the beginning of a log: see `cutting`."""

    migrate: tuple[Any, ...]
    """From layout 1 to the newest; each may be run on what has it already."""
    segments: Any
    stream_version: Any
    add_command: Any
    """A command id that may be there already, with its first and last position."""
    add_name: Any
    """An id that an event names: `field`, `value`, `stream_id`, `position`. Only where the event before it that names it is
    of another stream, or there is none."""
    named: Any
    """The stream of the newest such event up to a position."""
    add_segment: Any
    guard: tuple[Any, ...]
    """From the first cut on, ids and stream versions of new rows are checked against what was cut."""
    delete_rows: Any
    """From a position to another."""
    put_row: Any
    """A row that may be there already."""
    repeated: Any
    """Positions of a part of the log where a command begins whose id is archived, and where that began."""
    commands: Any
    """The commands of a part, as they were added."""
    names: Any
    """The names of a part: position, field, value, stream."""
    remove_commands: Any
    """Those between two positions."""
    remove_names: Any
    """Those between two positions."""
    remove_segment: Any
    unguard: Any


Steps = Sequence[tuple[Any, list[Any] | None]]
"""Statements, each with the values of every time that it is run; None to run it once, without."""


class TableRecorder(LogRecorder):
    """A recorder over tables in a database."""

    cut: CutStatements
    _can_be_cut = False
    """Whether the tables were seen that say what was cut off. They never go away again."""

    @abstractmethod
    def write(self, steps: Steps) -> None:
        """Run statements in one transaction."""

    @abstractmethod
    def ask(self, statement: Any, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a statement answers."""

    @abstractmethod
    def layout(self) -> int:
        """Version of the tables."""

    def migrate(self) -> None:
        """Bring the tables to the newest layout, in one transaction. Rows are not touched."""
        if self.layout() < LAYOUT_VERSION:
            self.write([(statement, None) for statement in self.cut.migrate])

    def segments(self) -> list[Segment]:
        """See `LogRecorder.segments`."""
        return [Segment(*row) for row in self.ask(self.cut.segments)] if self.can_be_cut() else []

    def can_be_cut(self) -> bool:
        """Whether the tables are there that say what was cut off."""
        self._can_be_cut = self._can_be_cut or self.layout() >= CUT_LAYOUT_VERSION
        return self._can_be_cut

    def stream_with_all(self, field: str, value: str, *, upto: int) -> str | None:
        """See `LogRecorder.stream_with_all`. What is archived is older than what is not."""
        found = self.stream_with(field, value, upto=upto)
        if found is not None or not self.can_be_cut():
            return found
        archived = self.ask(self.cut.named, (field, value, upto))
        return str(archived[0][0]) if archived else None

    def has_stream(self, stream_id: str, after_version: int) -> bool:
        """See `LogRecorder.has_stream`."""
        found = self.ask(self.cut.stream_version, (stream_id,))
        return bool(found) and found[0][0] > after_version and bool(self.segments())

    def repeated_all(self, after: int, upto: int) -> list[tuple[int, int]]:
        """See `LogRecorder.repeated_all`."""
        found = dict(self.ask(self.cut.repeated, (after, upto))) if self.can_be_cut() else {}
        return sorted({**found, **dict(self.repeated_commands(after, upto))}.items())

    def archived(self, after: int, upto: int) -> Archived:
        """See `EventLog.archived`. What was read while something was cut off or put back is read again."""
        while self.can_be_cut():
            segments = self.segments()
            last = segments[-1].last_position if segments else 0
            commands = [(first, command_id) for command_id, first, _ in self.ask(self.cut.commands, (after, upto))]
            names = [(at, name, value, stream) for at, name, value, stream in self.ask(self.cut.names, (after, upto))]
            if self.segments() == segments:
                return Archived(last, commands, names)
        return Archived()

    @abstractmethod
    def tables(self) -> set[str]:
        """Names of the tables that are there."""

    @abstractmethod
    def create_table(self) -> None:
        """Create what is missing, in one transaction (the library's name for it)."""


def missing_tables(tables: set[str]) -> set[str]:
    """Which of a log's tables are not among these."""
    return {"log", "log_head", "log_stream"} - tables


def _library_write(stored: StoredEvent, command: Command, index: int) -> PreparedWrite:
    stream_id = str(stored.originator_id)
    check_stream_id(stream_id)
    event = prepare_state(stored.topic, 1, stored.state, command, index)
    return PreparedWrite(stream_id, stored.originator_version - 1, hashing.leaf_prefix(stream_id), [event])
