"""A log in a SQLite file: the embedded default, opened by `open_log("sqlite:///…")`. One file is one log.

Durable by WAL with `synchronous=FULL`, verified after opening. Writes run under `BEGIN IMMEDIATE`, so that a decision reads
the head it will move. The writer's connection polls `PRAGMA data_version` for other processes' commits, at once after a
write to the WAL where the system reports it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel.clock import Clock
from kernel.errors import IntegrityError, KernelError, LogUnavailableError, UnsafeFileError
from kernel.log.backends.sqlite_lease import FileLease, is_locked, lock_file
from kernel.log.base import Head, LogSettings, StoredRow, StreamHead
from kernel.log.engine.batch import Batch, decide, restored_batches
from kernel.log.engine.group_commit import Pending
from kernel.log.engine.recorder import (
    ARCHIVE_TABLE,
    EMPTY_HEAD,
    LAYOUT_VERSION,
    LAYOUT_VERSION_MAX,
    NAMING_TOPICS,
    Identity,
    RowQuery,
    RowRefused,
    TableRecorder,
    check_empty,
)
from kernel.log.engine.records import COLUMNS, Command
from kernel.log.engine.threaded_log import ThreadedLog
from kernel.log.engine.version_cache import VersionCache, has_refusals, streams_of

if TYPE_CHECKING:
    from kernel.log.backends.file_watch import FileWatch

BUSY_TIMEOUT_S = 10
"""How long a commit waits for another process's commit."""
BUSY_CODES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
"""Primary result codes after which a retry may succeed."""
CACHED_STATEMENTS = 128
IDLE_CONNECTIONS_MAX = 4
BACKUP_PAGES = 4_096
"""Pages copied between checks whether to stop."""
SYNCHRONOUS_FULL = 2
POLL_INTERVAL_S_MIN = 0.001
POLL_INTERVAL_S_MAX = 0.05
"""The interval between polls for other processes' commits, which grows while none arrive."""
REST_S = 0.001
"""Time after an own commit before writes are watched: under load, own ones would be reported as well."""

LISTED = {
    field: "topic IN (" + ", ".join(f"'{topic}'" for topic in topics) + ")" for field, topics in NAMING_TOPICS.items()
}
NAMED = {
    field: "(" + " OR ".join(f"topic = '{topic}'" for topic in topics) + ") AND json_valid(state)"
    for field, topics in NAMING_TOPICS.items()
}
"""Rows that may contain an id. Index and query must use the same expression, so queries name LISTED, too: it is that of
older logs, whose list SQLite builds anew for each row that it inserts."""
CREATE_TABLES = (
    """CREATE TABLE IF NOT EXISTS log (
        position INTEGER PRIMARY KEY,
        stream_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        topic TEXT NOT NULL,
        schema_version INTEGER NOT NULL,
        recorded_at_ns INTEGER NOT NULL,
        command_id BLOB NOT NULL,
        command_index INTEGER NOT NULL,
        meta TEXT NOT NULL,
        state TEXT NOT NULL,
        leaf_hash BLOB NOT NULL,
        chain_hash BLOB NOT NULL
    ) STRICT""",
    "CREATE UNIQUE INDEX IF NOT EXISTS log_by_stream ON log (stream_id, version)",
    "CREATE UNIQUE INDEX IF NOT EXISTS log_by_command ON log (command_id) WHERE command_index = 0",
    *(
        f"CREATE INDEX IF NOT EXISTS log_by_{field} ON log (json_extract(state, '$.{field}')) WHERE {NAMED[field]}"
        for field in NAMING_TOPICS
    ),
    """CREATE TABLE IF NOT EXISTS log_head (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        position INTEGER NOT NULL,
        chain_hash BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        recorded_at_ns INTEGER NOT NULL,
        layout_version INTEGER NOT NULL,
        exchange_id TEXT NOT NULL,
        log_id TEXT NOT NULL
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS log_stream (stream_id TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TRIGGER IF NOT EXISTS log_no_update BEFORE UPDATE ON log
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no update'); END""",
    """CREATE TRIGGER IF NOT EXISTS log_no_delete BEFORE DELETE ON log
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no delete'); END""",
    """CREATE TRIGGER IF NOT EXISTS log_head_no_delete BEFORE DELETE ON log_head
        BEGIN SELECT RAISE(ABORT, 'the head of the log stays'); END""",
    """CREATE TRIGGER IF NOT EXISTS log_stream_no_delete BEFORE DELETE ON log_stream
        BEGIN SELECT RAISE(ABORT, 'the streams of the log stay'); END""",
)
INSERT_HEAD = "INSERT INTO log_head VALUES (1, ?, ?, ?, ?, ?, '', '') ON CONFLICT DO NOTHING"
SELECT_HEAD = "SELECT position, chain_hash, epoch, recorded_at_ns FROM log_head"
UPDATE_HEAD = "UPDATE log_head SET position = ?, chain_hash = ?, epoch = ?, recorded_at_ns = ?"
SELECT_IDENTITY = "SELECT exchange_id, log_id, layout_version FROM log_head"
SELECT_ARCHIVE = f"SELECT last_position, uri FROM {ARCHIVE_TABLE} ORDER BY last_position DESC LIMIT 1"
UPDATE_IDENTITY = "UPDATE log_head SET exchange_id = ?, log_id = ?"
CHUNKS = (64, 16, 4, 1)
"""Rows per statement; there is a prepared statement for each size."""
ROW = "(?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), ?, ?)"
INSERT_ROWS = {size: "INSERT INTO log VALUES " + ", ".join([ROW] * size) for size in CHUNKS}
UPSERT = " ON CONFLICT (stream_id) DO UPDATE SET version = excluded.version"
UPSERT_STREAMS = {size: "INSERT INTO log_stream VALUES " + ", ".join(["(?, ?)"] * size) + UPSERT for size in CHUNKS}
SELECT_STREAM = "SELECT version FROM log_stream WHERE stream_id = ?"
SELECT_NAMING = {
    field: f"SELECT stream_id FROM log WHERE json_extract(state, '$.{field}') = ? AND {NAMED[field]} "
    f"AND {LISTED[field]} AND position <= ? GROUP BY stream_id ORDER BY max(position) DESC"
    for field in NAMING_TOPICS
}
SELECT_FIRST = "SELECT position FROM log WHERE command_id = ? AND command_index = 0"
STREAM_HEADS = """
    SELECT stream_id, (SELECT max(version) FROM log WHERE log.stream_id = names.stream_id),
        (SELECT version FROM log_stream WHERE log_stream.stream_id = names.stream_id)
    FROM (
        SELECT stream_id FROM (SELECT stream_id FROM log_stream WHERE stream_id > ?1 ORDER BY stream_id LIMIT ?2)
        UNION SELECT * FROM (SELECT DISTINCT stream_id FROM log WHERE stream_id > ?1 ORDER BY stream_id LIMIT ?2)
    ) names ORDER BY stream_id LIMIT ?2
"""
REPEATED_COMMANDS = """
    SELECT position, (SELECT min(position) FROM log first WHERE first.command_id = again.command_id AND command_index = 0)
    FROM log again WHERE position > ? AND position <= ? AND command_index = 0
"""
SELECT_NEXT_COMMAND = "SELECT position FROM log WHERE position > ? AND command_id <> ? ORDER BY position LIMIT 1"
SELECT_ROWS = (
    "SELECT " + ", ".join(f"CAST({c} AS BLOB)" if c in ("meta", "state") else c for c in COLUMNS) + " FROM log"
)
ROW_OF: Callable[[Iterable[Any]], StoredRow] = partial(tuple.__new__, StoredRow)


class Connections:
    """Connections to one file, with the pragmas of a durable log; idle ones are kept for readers."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def connect(self) -> sqlite3.Connection:
        with _translated(self.uri):
            connection = sqlite3.connect(
                self.uri,
                uri=True,
                check_same_thread=False,
                isolation_level=None,
                cached_statements=CACHED_STATEMENTS,
                timeout=BUSY_TIMEOUT_S,
            )
            try:
                self._set_up(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        journal = _to_wal(connection, time.monotonic() + BUSY_TIMEOUT_S)
        connection.execute("PRAGMA synchronous = FULL")
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        if journal != "wal" or synchronous != SYNCHRONOUS_FULL:
            raise LogUnavailableError(
                f"{self.uri} cannot be written durably (journal_mode {journal}, synchronous {synchronous}; WAL and "
                "FULL are required): put it on a local disk"
            )

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection to read on."""
        with self._lock:
            if self._closed:
                raise LogUnavailableError("the log is closed")
            idle = self._idle.pop() if self._idle else None
        connection = idle or self.connect()
        try:
            with _translated(self.uri):
                yield connection
        finally:
            with self._lock:
                kept = not self._closed and len(self._idle) < IDLE_CONNECTIONS_MAX
                if kept:
                    self._idle.append(connection)
            if not kept:
                connection.close()

    def close(self) -> None:
        """Close idle connections; one that is read on is closed afterwards. Idempotent."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()


def _to_wal(connection: sqlite3.Connection, deadline_s: float) -> str:
    """Switch to WAL if possible, and return the journal mode. SQLite's busy timeout does not apply to the switch."""
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return str(mode)
        except sqlite3.OperationalError as problem:
            if problem.sqlite_errorcode & 0xFF not in BUSY_CODES or time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)


class SQLiteRecorder(TableRecorder):
    """The log's tables in one SQLite file."""

    def __init__(self, uri: str) -> None:
        self._connections = Connections(uri)
        self._lock = threading.RLock()
        """Guards the writer's connection between the log's thread and users of the library's interface."""
        self._connection: sqlite3.Connection | None = None
        self._data_version: int | None = None
        self._version_cache = VersionCache()
        self._closed = False

    def create_table(self) -> None:
        with self._transaction() as connection:
            for statement in CREATE_TABLES:
                connection.execute(statement)
            head = EMPTY_HEAD
            connection.execute(
                INSERT_HEAD, (head.position, head.chain_hash, head.epoch, head.recorded_at_ns, LAYOUT_VERSION)
            )

    def _writer_connection(self) -> sqlite3.Connection:
        if self._closed:
            raise LogUnavailableError("the log is closed")
        if self._connection is None:
            self._connection = self._connections.connect()
        return self._connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the writer's connection in a transaction with the write lock; rolled back by any error."""
        with self._lock, _translated(self._connections.uri):
            connection = self._writer_connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self._version_cache.forget()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def commit(self, commands: list[Command], now_ns: int) -> Batch:
        with self._lock:
            try:
                return self._attempt(commands, now_ns, careful=False)
            except RowRefused:  # an id or a stream exists, against the presumption
                return self._attempt(commands, now_ns, careful=True)

    def _attempt(self, commands: list[Command], now_ns: int, *, careful: bool) -> Batch:
        with self._transaction() as connection:
            batch = self._record(connection, commands, now_ns, careful=careful)
        self._seen = batch.head
        self._version_cache.learn(commands, batch)
        return batch

    def _record(self, connection: sqlite3.Connection, commands: list[Command], now_ns: int, *, careful: bool) -> Batch:
        batch = self._decide(connection, commands, now_ns, careful=careful)
        if not careful and has_refusals(batch):
            batch = self._decide(connection, commands, now_ns, careful=True)
        if batch.rows:
            _insert(connection, batch)
        return batch

    def _decide(self, connection: sqlite3.Connection, commands: list[Command], now_ns: int, *, careful: bool) -> Batch:
        head = self._check_head(Head(*connection.execute(SELECT_HEAD).fetchone()))
        cache = self._version_cache
        if careful:
            cache.forget()
        cache.at(head)
        streams = streams_of(commands) if careful else cache.unknown_streams(commands)
        cache.versions.update(_versions(connection, streams))
        known = _known(connection, commands, head) if careful else cache.commands
        return decide(commands, head=head, known=known, versions=cache.versions, now_ns=now_ns)

    def adopt_identity(self, identity: Identity, created: Command, now_ns: int) -> Identity:
        with self._transaction() as connection:
            existing = Identity(*connection.execute(SELECT_IDENTITY).fetchone())
            if existing.exchange_id:
                return existing
            connection.execute(UPDATE_IDENTITY, (identity.exchange_id, identity.log_id))
            self._record(connection, [created], now_ns, careful=True)
            return identity

    def restore(self, identity: Identity, pages: Iterable[Sequence[StoredRow]]) -> Head:
        with self._transaction() as connection:
            head = Head(*connection.execute(SELECT_HEAD).fetchone())
            check_empty(Identity(*connection.execute(SELECT_IDENTITY).fetchone()), head)
            for batch in restored_batches(pages, log_id=identity.log_id, exchange_id=identity.exchange_id, head=head):
                _insert(connection, batch)
                head = batch.head
            connection.execute(UPDATE_IDENTITY, (identity.exchange_id, identity.log_id))
        self._seen = head
        return head

    def changed_elsewhere(self) -> bool:
        """Return whether another connection may have committed since the last call; True at first."""
        with self._lock, _translated(self._connections.uri):
            (version,) = self._writer_connection().execute("PRAGMA data_version").fetchone()
            changed = bool(version != self._data_version)
            self._data_version = version
            return changed

    def tables(self) -> set[str]:
        with self._connections.reading() as connection:
            return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def newest_archive(self) -> tuple[int, str] | None:
        with self._connections.reading() as connection:
            found: tuple[int, str] | None = connection.execute(SELECT_ARCHIVE).fetchone()
        return found

    def identity(self) -> Identity | None:
        with self._connections.reading() as connection:
            identity = Identity(*_head_row(connection.execute(SELECT_IDENTITY)))
        return identity if identity.exchange_id or identity.layout_version > LAYOUT_VERSION_MAX else None

    def head(self) -> Head:
        with self._connections.reading() as connection:
            return Head(*_head_row(connection.execute(SELECT_HEAD)))

    def select(self, query: RowQuery) -> list[StoredRow]:
        clauses, values = query.clauses("?")
        with self._connections.reading() as connection:
            return [*map(ROW_OF, connection.execute(SELECT_ROWS + clauses, values))]

    def streams_with(self, field: str, value: str, *, upto: int) -> list[str]:
        with self._connections.reading() as connection:
            return [str(row[0]) for row in connection.execute(SELECT_NAMING[field], (value, upto))]

    def stream_heads(self, after: str, limit: int) -> list[StreamHead]:
        with self._connections.reading() as connection:
            return [StreamHead(*row) for row in connection.execute(STREAM_HEADS, (after, limit))]

    def repeated_commands(self, after: int, upto: int) -> list[tuple[int, int]]:
        with self._connections.reading() as connection:
            found = connection.execute(REPEATED_COMMANDS, (after, upto)).fetchall()
        return [(position, first) for position, first in found if first < position]

    def back_up(self, path: Path, *, stopped: Callable[[], bool]) -> None:
        """Copy the current state to a new file while writers continue; `LogUnavailableError` once `stopped` is true."""

        def check(status: int, remaining: int, total: int) -> None:
            if stopped():
                raise LogUnavailableError(f"the backup was stopped with {remaining} of {total} pages left")

        # Not a connection of the pool, which would be closed during the copy when the log is.
        own = self._connections.connect()
        with (
            _translated(self._connections.uri),
            closing(own) as connection,
            closing(sqlite3.connect(path)) as copy,
        ):
            connection.execute("BEGIN")  # one snapshot, as any other connection's commit would restart the copy
            try:
                connection.execute(SELECT_HEAD).fetchone()
                connection.backup(copy, pages=BACKUP_PAGES, progress=check)
            finally:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        self._connections.close()


def _head_row(cursor: sqlite3.Cursor) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = cursor.fetchone()
    if row is None:
        raise IntegrityError("the log has no head row")
    return row


def _known(connection: sqlite3.Connection, commands: list[Command], head: Head) -> dict[bytes, tuple[int, int]]:
    known: dict[bytes, tuple[int, int]] = {}
    for command in commands:
        found = connection.execute(SELECT_FIRST, (command.command_id,)).fetchone()
        if found is None:
            continue
        following = connection.execute(SELECT_NEXT_COMMAND, (found[0], command.command_id)).fetchone()
        known[command.command_id] = (found[0], following[0] - 1 if following else head.position)
    return known


def _versions(connection: sqlite3.Connection, streams: list[str]) -> dict[str, int]:
    versions: dict[str, int] = {}
    for stream_id in streams:
        found = connection.execute(SELECT_STREAM, (stream_id,)).fetchone()
        if found is not None:
            versions[stream_id] = found[0]
    return versions


def _insert(connection: sqlite3.Connection, batch: Batch) -> None:
    head = batch.head
    try:
        for statement, values in _in_chunks(INSERT_ROWS, batch.rows):
            connection.execute(statement, values)
    except sqlite3.IntegrityError as problem:
        raise RowRefused(str(problem)) from problem
    for statement, values in _in_chunks(UPSERT_STREAMS, list(batch.versions.items())):
        connection.execute(statement, values)
    connection.execute(UPDATE_HEAD, (head.position, head.chain_hash, head.epoch, head.recorded_at_ns))


def _in_chunks(statements: Mapping[int, str], rows: Sequence[tuple[object, ...]]) -> Iterator[tuple[str, list[object]]]:
    """Yield the rows in as few statements as possible, as each one releases and reacquires the interpreter lock.

    Bytes become byte arrays, which `sqlite3` binds at once; for bytes it looks for an adapter first, a third of an insert.
    """
    start = 0
    for size, statement in statements.items():
        while len(rows) - start >= size:
            part = rows[start : start + size]
            yield statement, [bytearray(item) if type(item) is bytes else item for row in part for item in row]
            start += size


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    """Translate SQLite's errors: transient ones to unavailability, a broken file to an integrity error."""
    path = uri.removeprefix("file://").partition("?")[0]
    try:
        yield
    except sqlite3.OperationalError as problem:
        raise LogUnavailableError(f"the log {path} cannot be used: {problem}") from problem
    except sqlite3.IntegrityError as problem:
        raise RowRefused(str(problem)) from problem
    except sqlite3.DatabaseError as problem:
        raise IntegrityError(f"{path} is damaged or not a SQLite database: {problem}") from problem


class SQLiteLog(ThreadedLog):
    """A log in a SQLite file."""

    _recorder: SQLiteRecorder

    def __init__(
        self, recorder: SQLiteRecorder, identity: Identity, *, url: str, path: Path, clock: Clock, settings: LogSettings
    ) -> None:
        super().__init__(recorder, identity, url=url, clock=clock, settings=settings)
        self.path = path
        """The database file."""
        self._poll_interval_s = POLL_INTERVAL_S_MIN
        self._wal_watch: FileWatch | None = None
        self._rested = False
        """True once `REST_S` has passed since the last own commit."""

    def lease(self, *, clock: Clock) -> FileLease:
        return FileLease(lock_file(self.path))

    async def lease_is_held(self) -> bool:
        try:
            return await asyncio.to_thread(is_locked, lock_file(self.path))
        except UnsafeFileError as problem:
            raise LogUnavailableError(f"whether a kernel leads is unknown: {problem}") from problem

    async def _watch(self) -> None:
        self._writer.wake()

    def _release(self) -> None:
        """Stop readers first: SQLite crashes the process when a connection is closed during a statement."""
        if self._wal_watch is not None:
            self._wal_watch.close()
        self._readers.shutdown(wait=True)
        super()._release()

    def _commit(self, pending: list[Pending]) -> None:
        super()._commit(pending)
        self._rested = False

    def _idle(self) -> float | None:
        """Poll for other processes' commits while there are tails, less often while none arrive."""
        if not self._tail_hub:
            return None
        if self._rested:
            self._watch_wal()  # before the check: what is written after it is reported
        try:
            changed = self._recorder.changed_elsewhere()
        except KernelError:  # the next read or write reports it
            return POLL_INTERVAL_S_MAX
        if changed:
            self._tail_hub.wake()
            self._poll_interval_s = POLL_INTERVAL_S_MIN
        else:
            self._poll_interval_s = min(self._poll_interval_s * 1.5, POLL_INTERVAL_S_MAX)
        wait_s = self._poll_interval_s if self._rested else REST_S
        self._rested = True
        return wait_s

    def _watch_wal(self) -> None:
        from kernel.log.backends.file_watch import FileWatch  # a log that is only read needs none

        if self._wal_watch is None:
            self._wal_watch = FileWatch(self.path.with_name(f"{self.path.name}-wal"), self._on_wal_write)
        self._wal_watch.arm()

    def _on_wal_write(self) -> None:
        """Poll at once, and often until the commit ends."""
        self._poll_interval_s = POLL_INTERVAL_S_MIN
        self._writer.wake()
