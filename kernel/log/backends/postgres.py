"""A log in a PostgreSQL schema `log_<exchange_id>`, shared by several hosts; opened by `open_log("postgresql://…")`.

Durable by `synchronous_commit=on`, set for each session. While the head is where this writer left it, a commit is one
statement that moves the head and inserts if it could. Otherwise it is a transaction of two round trips: lock the head and
look up ids and streams, then insert, move the head, notify and commit. After a lost connection the batch is decided again
under the lock: command ids show what was committed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from msgspec.structs import replace
from psycopg.sql import SQL

from kernel.clock import Clock
from kernel.errors import IntegrityError, LogUnavailableError
from kernel.events import canonical_json
from kernel.log.backends import postgres_sql
from kernel.log.backends.postgres_binary_arrays import bytea_array, int8_array, text_array
from kernel.log.backends.postgres_datastore import Connection, Datastore, translated, with_defaults
from kernel.log.backends.postgres_lease import AdvisoryLease, is_locked
from kernel.log.backends.postgres_notifications import Listener
from kernel.log.base import Appended, Head, LogSettings, StoredRow, StreamHead
from kernel.log.engine.batch import Batch, Outcome, decide, restored_batches
from kernel.log.engine.recorder import (
    EMPTY_HEAD,
    LAYOUT_VERSION,
    LAYOUT_VERSION_MAX,
    Identity,
    RowQuery,
    RowRefused,
    TableRecorder,
    check_empty,
)
from kernel.log.engine.records import Command, Row, this_process
from kernel.log.engine.threaded_log import ThreadedLog
from kernel.log.engine.version_cache import VersionCache, has_refusals, streams_of

RETRY_DELAY_S_MIN = 0.02
RETRY_DELAY_S_MAX = 1.0
CLOSING_DEADLINE_S = 1.0


class PostgresRecorder(TableRecorder):
    """The log's tables in one schema."""

    def __init__(self, datastore: Datastore, *, settings: LogSettings | None = None) -> None:
        self.datastore = datastore
        self.settings = settings or LogSettings()
        self.sql = postgres_sql.Statements(datastore.schema)
        self._deadline_shortened = threading.Event()
        self._lock = threading.RLock()
        """Guards the writer's connection."""
        self._connection: Connection | None = None
        self.backend_pid: int | None = None
        """The server process of the writer's connection, whose notifications are this process's own."""
        self._uncertain: set[bytes] = set()
        """Command ids inserted by an attempt of the running commit whose outcome is unknown."""
        self._version_cache = VersionCache()
        self._sole_writer = False
        """True if no other writer had moved the head at the last commit."""
        with self._lock, translated():
            self._writer_connection()

    def create_table(self) -> None:
        """Create the schema and its tables if they are missing; concurrent callers wait for each other."""
        with self._lock, translated():
            connection = self._writer_connection()
            with connection.transaction():
                self._create_tables(connection)

    def _create_tables(self, connection: Connection) -> None:
        connection.execute(postgres_sql.LOCK_CREATION, (self.datastore.schema,))
        if connection.execute(postgres_sql.TABLES, (self.datastore.schema,)).fetchone():
            return  # another process created them, and may be writing
        for statement in self.sql.create:
            connection.execute(statement)
        connection.execute(self.sql.insert_head, (*_head_values(EMPTY_HEAD), LAYOUT_VERSION))

    def _writer_connection(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection = self.datastore.connect()
            row = connection.execute("SELECT session_user::text, pg_backend_pid()").fetchone()
            assert row is not None
            self._connection = connection
            self.writer = this_process(session_user=row[0])
            self.backend_pid = row[1]
        return self._connection

    def commit(self, commands: list[Command], now_ns: int) -> Batch:
        """See `LogRecorder.commit`; a lost connection is retried up to the settings' `reconnect_timeout_s`.

        A retry is safe however the attempt before it ended: it looks the command ids up under the head's lock, which the
        lost transaction has either released or still holds.
        """
        with self._lock:
            self._uncertain.clear()
            began_s = time.monotonic()
            delay_s = RETRY_DELAY_S_MIN
            while True:
                try:
                    return self._attempt(commands, now_ns)
                except LogUnavailableError:
                    lost = self._connection is None or self._connection.closed
                    if not lost or time.monotonic() + delay_s > began_s + self._reconnect_deadline_s():
                        raise
                if self._deadline_shortened.wait(delay_s):
                    time.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_DELAY_S_MAX)

    def _reconnect_deadline_s(self) -> float:
        deadline_s = self.settings.reconnect_timeout_s
        return min(deadline_s, CLOSING_DEADLINE_S) if self._deadline_shortened.is_set() else deadline_s

    def shorten_deadline(self) -> None:
        self._deadline_shortened.set()

    def _attempt(self, commands: list[Command], now_ns: int) -> Batch:
        """Commit optimistically if possible, else under the head's lock."""
        batch = self._append_optimistic(commands, now_ns)
        if batch is None:
            with self._transaction() as connection:
                batch = self._record(connection, commands, now_ns)
            self._sole_writer = batch.previous == self._seen
        self._seen = batch.head
        self._version_cache.learn(commands, batch)
        return batch

    def _append_optimistic(self, commands: list[Command], now_ns: int) -> Batch | None:
        """Commit in one round trip on the head that this writer left; None if a look-up is needed or the head moved."""
        cache, head = self._version_cache, self._seen
        cache.at(head)
        if not self._sole_writer or self._uncertain or cache.unknown_streams(commands):
            return None
        batch = decide(commands, head=head, known=cache.commands, versions=cache.versions, now_ns=now_ns)
        if has_refusals(batch) or not batch.rows:
            return None
        self._uncertain.update(row[6] for row in batch.rows)
        if not self._move(head, batch):
            self._uncertain.clear()
            return None
        return batch

    def _move(self, head: Head, batch: Batch) -> bool:
        """Move the head and insert the rows in one statement; False if the head was not at `head`."""
        values = (*_head_values(batch.head), head.position, head.chain_hash, *_columns(batch), *_streams(batch))
        try:
            with translated():
                connection = self._writer_connection()
                self.before_commit()
                row = connection.execute(self.sql.append, values, prepare=True).fetchone()
        except RowRefused:  # an id or a stream exists, against the presumption
            row = None
        self._sole_writer = row is not None and row[0] == 1
        return self._sole_writer

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Yield the writer's connection in a pipelined transaction; it is usable or closed afterwards."""
        with translated():
            connection = self._writer_connection()
            try:
                self._version_cache.forget()
                with connection.pipeline():
                    connection.execute("BEGIN")
                    yield connection
                    self.before_commit()
                    connection.execute("COMMIT")
            except BaseException:
                _rollback(connection)
                raise

    def before_commit(self) -> None:
        """Do nothing; tests lose the connection here."""

    def _record(self, connection: Connection, commands: list[Command], now_ns: int) -> Batch:
        batch = self._decide(connection, commands, now_ns)
        self._mark_own(commands, batch.outcomes)
        if batch.rows:
            self._uncertain.update(row[6] for row in batch.rows)
            self._insert(connection, batch)
        return batch

    def _mark_own(self, commands: list[Command], outcomes: list[Outcome]) -> None:
        """Clear the duplicate flag of commands that an earlier attempt of this commit recorded."""
        own = set(self._uncertain)
        for index, (command, outcome) in enumerate(zip(commands, outcomes, strict=True)):
            if isinstance(outcome, Appended) and outcome.duplicate and command.command_id in own:
                own.discard(command.command_id)
                outcomes[index] = replace(outcome, duplicate=False)

    def _decide(self, connection: Connection, commands: list[Command], now_ns: int) -> Batch:
        """Read what the decision needs under the head's lock: the first round trip."""
        command_ids = [command.command_id for command in commands]
        stream_ids = streams_of(commands)
        locked = connection.execute(self.sql.lock_head, binary=True, prepare=True)
        found = connection.execute(self.sql.known, (command_ids,), binary=True, prepare=True)
        streams = connection.execute(self.sql.versions, (stream_ids,), binary=True, prepare=True)
        head = self._check_head(Head(*_head_row(locked)))
        known = {command_id: (first, last) for command_id, first, last in found}
        return decide(commands, head=head, known=known, versions=dict(streams.fetchall()), now_ns=now_ns)

    def _insert(self, connection: Connection, batch: Batch) -> None:
        connection.execute(self.sql.insert_rows, _columns(batch), prepare=True)
        connection.execute(self.sql.upsert_streams, _streams(batch), prepare=True)
        connection.execute(self.sql.update_head, _head_values(batch.head), prepare=True)

    def adopt_identity(self, identity: Identity, created: Command, now_ns: int) -> Identity:
        with self._lock, self._transaction() as connection:
            existing = Identity(*_head_row(connection.execute(self.sql.lock_identity)))
            if existing.exchange_id:
                return existing
            connection.execute(self.sql.set_identity, (identity.exchange_id, identity.log_id))
            self._record(connection, [created], now_ns)
            return identity

    def restore(self, identity: Identity, pages: Iterable[Sequence[StoredRow]]) -> Head:
        """See `LogRecorder.restore`. The tables are created in the same transaction."""
        with self._lock, translated():
            connection = self._writer_connection()
            with connection.transaction():
                connection.execute(postgres_sql.WAIT_FOR_PAGES)
                self._create_tables(connection)
                head = self._restore_rows(connection, identity, pages)
        self._seen = head
        return head

    def _restore_rows(self, connection: Connection, identity: Identity, pages: Iterable[Sequence[StoredRow]]) -> Head:
        existing = Identity(*_head_row(connection.execute(self.sql.lock_identity)))
        head = Head(*_head_row(connection.execute(self.sql.head, binary=True)))
        check_empty(existing, head)
        for batch in restored_batches(pages, log_id=identity.log_id, exchange_id=identity.exchange_id, head=head):
            connection.execute(self.sql.insert_rows, _columns(batch), prepare=True)
            connection.execute(self.sql.upsert_streams, _streams(batch), prepare=True)
            head = batch.head
        connection.execute(self.sql.update_head, _head_values(head))
        connection.execute(self.sql.set_identity, (identity.exchange_id, identity.log_id))
        return head

    def newest_archive(self) -> tuple[int, str] | None:
        found: tuple[int, str] | None = self.datastore.read(lambda c: c.execute(self.sql.archive).fetchone())
        return found

    def tables(self) -> set[str]:
        schema = (self.datastore.schema,)
        return {name for (name,) in self.datastore.read(lambda c: c.execute(postgres_sql.TABLES, schema).fetchall())}

    def identity(self) -> Identity | None:
        identity = Identity(*self.datastore.read(lambda c: _head_row(c.execute(self.sql.identity))))
        return identity if identity.exchange_id or identity.layout_version > LAYOUT_VERSION_MAX else None

    def head(self) -> Head:
        return Head(*self.datastore.read(lambda c: _head_row(c.execute(self.sql.head, binary=True))))

    def select(self, query: RowQuery) -> list[StoredRow]:
        clauses, values = query.clauses("%s")
        statement = self.sql.rows + SQL(clauses)
        rows = self.datastore.read(lambda c: c.execute(statement, values, binary=True, prepare=True).fetchall())
        return [_stored_row(row) for row in rows]

    def streams_with(self, field: str, value: str, *, upto: int) -> list[str]:
        written = canonical_json(value).decode()[1:-1]
        rows = self.datastore.read(lambda c: c.execute(self.sql.naming[field], (written, upto)).fetchall())
        return [str(name) for (name,) in rows]

    def stream_heads(self, after: str, limit: int) -> list[StreamHead]:
        values = {"after": after, "limit": limit}
        rows = self.datastore.read(lambda c: c.execute(self.sql.stream_heads, values).fetchall())
        return [StreamHead(*row) for row in rows]

    def repeated_commands(self, after: int, upto: int) -> list[tuple[int, int]]:
        rows = self.datastore.read(lambda c: c.execute(self.sql.repeated_commands, (after, upto)).fetchall())
        return [(position, first) for position, first in rows]

    def close(self) -> None:
        self._deadline_shortened.set()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
        self.datastore.close()


def _columns(batch: Batch) -> tuple[bytes, ...]:
    position, stream_id, version, topic, schema_version, at_ns, command, index, meta, state, leaf, chain = zip(
        *batch.rows, strict=True
    )
    return (
        int8_array(position),
        text_array([each.encode() for each in stream_id]),
        int8_array(version),
        text_array([each.encode() for each in topic]),
        int8_array(schema_version),
        int8_array(at_ns),
        bytea_array(command),
        int8_array(index),
        text_array(meta),
        text_array(state),
        bytea_array(leaf),
        bytea_array(chain),
    )


def _streams(batch: Batch) -> tuple[bytes, bytes]:
    return text_array([each.encode() for each in batch.versions]), int8_array([*batch.versions.values()])


def _head_row(cursor: psycopg.Cursor[tuple[Any, ...]]) -> tuple[Any, ...]:
    row = cursor.fetchone()
    if row is None:
        raise IntegrityError("the log has no head row")
    return row


def _head_values(head: Head) -> tuple[int, bytes, int, int]:
    return head.position, head.chain_hash, head.epoch, head.recorded_at_ns


def _stored_row(row: tuple[Any, ...]) -> StoredRow:
    stored: Row = (*row[:8], row[8].encode(), row[9].encode(), *row[10:])
    return StoredRow(*stored)


def _rollback(connection: Connection) -> None:
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()


def exchanges_at(conninfo: str) -> list[str]:
    """Return the exchange ids of a database's logs, in order."""
    with translated(), psycopg.connect(with_defaults(conninfo), autocommit=True) as connection:
        return [exchange_id for (exchange_id,) in connection.execute(postgres_sql.EXCHANGES).fetchall()]


class PostgresLog(ThreadedLog):
    """A log in a PostgreSQL schema."""

    _recorder: PostgresRecorder

    def __init__(
        self, recorder: PostgresRecorder, identity: Identity, *, url: str, clock: Clock, settings: LogSettings
    ) -> None:
        super().__init__(recorder, identity, url=url, clock=clock, settings=settings)
        self._listener = Listener(
            name=f"log-listen-{self.exchange_id}",
            connect=recorder.datastore.connect,
            listen=recorder.sql.listen,
            is_own=lambda pid: pid == recorder.backend_pid,
            wake=self._tail_hub.wake,
            fallback_s=settings.listen_fallback_s,
            ready_timeout_s=settings.reconnect_timeout_s,
        )

    def lease(self, *, clock: Clock) -> AdvisoryLease:
        datastore = self._recorder.datastore
        return AdvisoryLease(datastore.connect, name=datastore.schema, clock=clock)

    async def lease_is_held(self) -> bool:
        return await asyncio.to_thread(is_locked, self._recorder.datastore)

    async def _watch(self) -> None:
        await self._call(self._listener.start)

    def _release(self) -> None:
        self._listener.stop()
        super()._release()
