"""The log as a recorder of the `eventsourcing` library, for its users: `PERSISTENCE_MODULE=kernel.log.backends.library:…`.

The kernel itself does not import the library: that takes longer than to read an order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from eventsourcing.persistence import ApplicationRecorder, Notification, NotSupportedError, StoredEvent, Subscription
from eventsourcing.persistence import IntegrityError as RecordedAlready
from eventsourcing.popo import POPOFactory
from eventsourcing.sqlite import SQLiteFactory

from kernel.clock import SeededIds, SystemClock
from kernel.log.backends.memory import MemoryRecorder
from kernel.log.backends.sqlite import SQLiteRecorder
from kernel.log.base import Appended
from kernel.log.engine.recorder import LogRecorder, RowQuery, RowRefused, TableRecorder
from kernel.log.engine.records import Command, PreparedEvent, PreparedWrite, check_stream_id
from kernel.models import Evidence

LIBRARY_ACTOR = "library"


class LibraryRecorder(ApplicationRecorder):
    """The library's interface to the recorder of a log."""

    def __init__(self, recorder: LogRecorder) -> None:
        self.recorder = recorder

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Record each event at exactly the version that it names, or none."""
        if not stored_events:
            return []
        now_ns = SystemClock().now_ns()
        command_id = kwargs.get("command_id") or SeededIds().command_id(now_ns)
        meta = self.recorder.writer.meta(LIBRARY_ACTOR, Evidence.COMMAND)
        command = Command(command_id, [_write(stored) for stored in stored_events], meta, None, False)
        try:
            outcome = self.recorder.commit([command], now_ns).outcomes[0]
        except RowRefused as problem:
            raise RecordedAlready(str(problem)) from problem
        if isinstance(outcome, Appended):
            return list(range(outcome.first_position, outcome.last_position + 1))
        raise RecordedAlready(str(outcome)) from outcome

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        query = RowQuery(stream_id=str(originator_id), after_version=gt, upto_version=lte, descending=desc, limit=limit)
        rows = self.recorder.select(query)
        return [StoredEvent(row.stream_id, row.version, row.topic, row.state) for row in rows]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        after = None if start is None else start - 1 if inclusive_of_start else start
        rows = self.recorder.select(RowQuery(after=after, upto=stop, topics=tuple(topics), limit=limit))
        return [Notification(row.stream_id, row.version, row.topic, row.state, id=row.position) for row in rows]

    def max_notification_id(self) -> int | None:
        """Return the head's position; None for an empty log, as the library expects."""
        return self.recorder.head().position or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """Refuse: the library's subscription can miss an event until the next one arrives. `EventLog.tail` does not."""
        raise NotSupportedError("use EventLog.tail to follow the log")


def _write(stored: StoredEvent) -> PreparedWrite:
    stream_id = str(stored.originator_id)
    check_stream_id(stream_id)
    event = PreparedEvent(stored.topic, 1, stored.state, None)
    return PreparedWrite(stream_id, stored.originator_version - 1, [event])


def prepared(recorder: TableRecorder) -> LibraryRecorder:
    """Return a recorder for the library, with its tables created; closed when the log is refused."""
    try:
        recorder.create_table()
        recorder.check_whole()
    except BaseException:
        recorder.close()
        raise
    return LibraryRecorder(recorder)


class MemoryRecorderFactory(POPOFactory):
    """The library's factory of a recorder in memory."""

    def application_recorder(self) -> ApplicationRecorder:
        return LibraryRecorder(MemoryRecorder())


class SQLiteRecorderFactory(SQLiteFactory):
    """The library's factory of a recorder in the file that `SQLITE_DBNAME` names."""

    def application_recorder(self) -> ApplicationRecorder:
        return prepared(SQLiteRecorder(cast(str, self.env.get(self.SQLITE_DBNAME))))
