"""A log in a PostgreSQL schema: where several hosts share a log.

Built by `open_log("postgresql://…")`. Each log is a schema `log_<exchange_id>`. Durable by `synchronous_commit=on`, set
for each session. A commit is one statement on the writer's own connection as long as the head is where this writer left
it: it moves the head from there, and inserts if it could. Otherwise it is a transaction in two round trips: lock the
head row and look up ids and streams, then insert, move the head, notify and commit. A connection that is lost in
between is replaced, and the same batch decided again under the lock: what was committed after all is known by its
command ids.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
from eventsourcing.persistence import ApplicationRecorder
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresFactory
from psycopg.conninfo import make_conninfo
from psycopg.sql import Composed

from kernel.clock import Clock, IdFactory
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


class PostgresRecorder(TableRecorder, PostgresApplicationRecorder):
    """The log's tables in one schema."""

    datastore: Datastore

    def __init__(self, datastore: Datastore, *, settings: LogSettings | None = None) -> None:
        # The library's constructors look up composite types in the database, for inserts that are never made here.
        self.datastore = datastore
        self.events_table_name = "log"
        self.channel_name = datastore.schema
        self.sql_create_statements: list[Composed] = []
        self.settings = settings or LogSettings()
        self.sql = postgres_sql.statements(datastore.schema)
        self._deadline_shortened = threading.Event()
        self._lock = threading.RLock()
        """Guards the writer's connection."""
        self._connection: Connection | None = None
        self.writer = this_process()
        self.backend_pid: int | None = None
        """The server's process behind the writer's connection: its notifications are our own."""
        self._unsettled: set[bytes] = set()
        """Command ids that a transaction of the running commit inserted, whose end is not known."""
        self._version_cache = VersionCache()
        self._sole_writer = False
        """Whether the head was where this writer left it at the last commit."""
        with self._lock, translated():
            self._writer_connection()

    def create_table(self) -> None:
        """Create schema and tables where they are missing; two that do it at once wait for each other."""
        with self._lock, translated():
            connection = self._writer_connection()
            with connection.transaction():
                self._create_tables(connection)

    def _create_tables(self, connection: Connection) -> None:
        connection.execute(postgres_sql.LOCK_CREATION, (self.datastore.schema,))
        if connection.execute(postgres_sql.TABLES, (self.datastore.schema,)).fetchone():
            return  # somebody else was first, and may be writing already
        for statement in self.sql.create:
            connection.execute(statement)
        connection.execute(self.sql.insert_head, (*_head_values(EMPTY_HEAD), LAYOUT_VERSION))

    # ------------------------------------------------------------------------------------------------------- writing
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
        """See `LogRecorder.commit`; a lost connection is waited for up to the settings' `reconnect_timeout_s`.

        Making the attempt again is safe however the one before it ended: it looks the command ids up under the head's
        lock, which the lost transaction has either let go of, or still holds.
        """
        with self._lock:
            self._unsettled.clear()
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
        """How long a lost database is waited for."""
        deadline_s = self.settings.reconnect_timeout_s
        return min(deadline_s, CLOSING_DEADLINE_S) if self._deadline_shortened.is_set() else deadline_s

    def shorten_deadline(self) -> None:
        """See `LogRecorder.shorten_deadline`."""
        self._deadline_shortened.set()

    def _attempt(self, commands: list[Command], now_ns: int) -> Batch:
        """One attempt: at once where nobody else writes and nothing has to be looked up, else under the head's lock."""
        batch = self._append_optimistic(commands, now_ns)
        if batch is None:
            with self._transaction() as connection:
                batch = self._record(connection, commands, now_ns)
            self._sole_writer = batch.previous == self._seen
        self._seen = batch.head
        self._version_cache.learn(commands, batch)
        return batch

    def _append_optimistic(self, commands: list[Command], now_ns: int) -> Batch | None:
        """A commit in one round trip, on the head that this writer left; None when that can't be, or is not the head."""
        recall, head = self._version_cache, self._seen
        recall.at(head)
        if not self._sole_writer or self._unsettled or recall.unknown_streams(commands):
            return None
        batch = decide(commands, head=head, known=recall.commands, versions=recall.versions, now_ns=now_ns)
        if has_refusals(batch) or not batch.rows:
            return None
        self._unsettled.update(row[6] for row in batch.rows)
        if not self._move(head, batch):
            self._unsettled.clear()
            return None
        return batch

    def _move(self, head: Head, batch: Batch) -> bool:
        """Whether the head was still there, and is moved now, with the rows inserted."""
        values = (*_head_values(batch.head), head.position, head.chain_hash, *_columns(batch), *_streams(batch))
        try:
            with translated():
                connection = self._writer_connection()
                self.before_commit()
                row = connection.execute(self.sql.append, values, prepare=True).fetchone()
        except RowRefused:  # an id or a stream was there already, against what was presumed
            row = None
        self._sole_writer = row is not None and row[0] == 1
        return self._sole_writer

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """A pipelined transaction on the writer's connection, which is usable or closed afterwards."""
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
        """Called between the rows and the commit: the place where tests lose the connection."""

    def _record(self, connection: Connection, commands: list[Command], now_ns: int) -> Batch:
        batch = self._decide(connection, commands, now_ns)
        batch.outcomes = self._settled(commands, batch.outcomes)
        if batch.rows:
            self._unsettled.update(row[6] for row in batch.rows)
            self._insert(connection, batch)
        return batch

    def _settled(self, commands: list[Command], outcomes: list[Outcome]) -> list[Outcome]:
        """The outcomes, in which what an attempt before this one turns out to have recorded is no duplicate."""
        settled = list(outcomes)
        ours = set(self._unsettled)
        for index, (command, outcome) in enumerate(zip(commands, outcomes, strict=True)):
            if isinstance(outcome, Appended) and outcome.duplicate and command.command_id in ours:
                ours.discard(command.command_id)
                settled[index] = replace(outcome, duplicate=False)
        return settled

    def _decide(self, connection: Connection, commands: list[Command], now_ns: int) -> Batch:
        """The first round trip: everything that the decision needs, under the head's lock."""
        command_ids = [command.command_id for command in commands]
        stream_ids = streams_of(commands)
        locked = connection.execute(self.sql.lock_head, binary=True, prepare=True)
        found = connection.execute(self.sql.known, (command_ids,), binary=True, prepare=True)
        streams = connection.execute(self.sql.versions, (stream_ids,), binary=True, prepare=True)
        row = locked.fetchone()
        if row is None:
            raise IntegrityError("the log has no head row")
        known = {command_id: (first, last) for command_id, first, last in found}
        head = self._check_head(Head(*row))
        return decide(commands, head=head, known=known, versions=dict(streams.fetchall()), now_ns=now_ns)

    def _insert(self, connection: Connection, batch: Batch) -> None:
        """The second round trip, but for the commit itself."""
        connection.execute(self.sql.insert_rows, _columns(batch), prepare=True)
        connection.execute(self.sql.upsert_streams, _streams(batch), prepare=True)
        connection.execute(self.sql.update_head, _head_values(batch.head), prepare=True)

    def adopt_identity(self, identity: Identity, created: Command, now_ns: int) -> Identity:
        """See `LogRecorder.claim`."""
        with self._lock, self._transaction() as connection:
            row = connection.execute(self.sql.lock_identity).fetchone()
            assert row is not None, "create_table makes the head row"
            existing = Identity(*row)
            if existing.exchange_id:
                return existing
            connection.execute(self.sql.set_identity, (identity.exchange_id, identity.log_id))
            self._record(connection, [created], now_ns)
            return identity

    def restore(self, identity: Identity, pages: Iterable[Sequence[StoredRow]]) -> Head:
        """See `LogRecorder.restore`. The tables are made in the same transaction: where it fails there are none."""
        with self._lock, translated():
            connection = self._writer_connection()
            with connection.transaction():
                connection.execute(postgres_sql.WAIT_FOR_PAGES)
                self._create_tables(connection)
                head = self._restore_rows(connection, identity, pages)
        self._seen = head
        return head

    def _restore_rows(self, connection: Connection, identity: Identity, pages: Iterable[Sequence[StoredRow]]) -> Head:
        existing = connection.execute(self.sql.lock_identity).fetchone()
        locked = connection.execute(self.sql.head, binary=True).fetchone()
        assert existing is not None, "the tables have a head row"
        assert locked is not None, "the tables have a head row"
        head = Head(*locked)
        check_empty(Identity(*existing), head)
        for batch in restored_batches(pages, log_id=identity.log_id, exchange_id=identity.exchange_id, head=head):
            connection.execute(self.sql.insert_rows, _columns(batch), prepare=True)
            connection.execute(self.sql.upsert_streams, _streams(batch), prepare=True)
            head = batch.head
        connection.execute(self.sql.update_head, _head_values(head))
        connection.execute(self.sql.set_identity, (identity.exchange_id, identity.log_id))
        return head

    # ------------------------------------------------------------------------------------------------------- reading
    def newest_archive(self) -> tuple[int, str] | None:
        """See `TableRecorder.newest_archive`."""
        found: tuple[int, str] | None = self.datastore.read(lambda c: c.execute(self.sql.archive).fetchone())
        return found

    def tables(self) -> set[str]:
        """See `TableRecorder.tables`."""
        schema = (self.datastore.schema,)
        return {name for (name,) in self.datastore.read(lambda c: c.execute(postgres_sql.TABLES, schema).fetchall())}

    def identity(self) -> Identity | None:
        """See `LogRecorder.identity`."""
        row = self.datastore.read(lambda c: c.execute(self.sql.identity).fetchone())
        if row is None:
            raise IntegrityError("the log has no head row")
        identity = Identity(*row)
        return identity if identity.exchange_id or identity.layout_version > LAYOUT_VERSION_MAX else None

    def head(self) -> Head:
        """See `LogRecorder.head`."""
        row = self.datastore.read(lambda c: c.execute(self.sql.head, binary=True).fetchone())
        if row is None:
            raise IntegrityError("the log has no head row")
        return Head(*row)

    def select(self, query: RowQuery) -> list[StoredRow]:
        """See `LogRecorder.select`."""
        statement, values = postgres_sql.select_rows(self.sql.rows, query)
        rows = self.datastore.read(lambda c: c.execute(statement, values, binary=True, prepare=True).fetchall())
        return [_stored_row(row) for row in rows]

    def stream_with(self, field: str, value: str, *, upto: int) -> str | None:
        """See `LogRecorder.stream_with`."""
        written = canonical_json(value).decode()[1:-1]
        row = self.datastore.read(lambda c: c.execute(self.sql.naming[field], (written, upto)).fetchone())
        return None if row is None else str(row[0])

    def stream_heads(self, after: str, limit: int) -> list[StreamHead]:
        """See `LogRecorder.stream_heads`."""
        values = {"after": after, "limit": limit}
        rows = self.datastore.read(lambda c: c.execute(self.sql.stream_heads, values).fetchall())
        return [StreamHead(*row) for row in rows]

    def repeated_commands(self, after: int, upto: int) -> list[tuple[int, int]]:
        """See `LogRecorder.repeated_commands`."""
        rows = self.datastore.read(lambda c: c.execute(self.sql.repeated_commands, (after, upto)).fetchall())
        return [(position, first) for position, first in rows]

    def close(self) -> None:
        """See `LogRecorder.close`."""
        self._deadline_shortened.set()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
        self.datastore.close()


def _columns(batch: Batch) -> tuple[bytes, ...]:
    """The rows by column, packed."""
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


def _head_values(head: Head) -> tuple[int, bytes, int, int]:
    return head.position, head.chain_hash, head.epoch, head.recorded_at_ns


def _stored_row(row: tuple[Any, ...]) -> StoredRow:
    stored: Row = (*row[:8], row[8].encode(), row[9].encode(), *row[10:])
    return StoredRow(*stored)


def _rollback(connection: Connection) -> None:
    """Leave the connection out of any transaction, or closed."""
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()


def exchanges_at(conninfo: str) -> list[str]:
    """The exchange ids whose logs a database has, in order."""
    with translated(), psycopg.connect(with_defaults(conninfo), autocommit=True) as connection:
        return [exchange_id for (exchange_id,) in connection.execute(postgres_sql.EXCHANGES).fetchall()]


class PostgresRecorderFactory(PostgresFactory):
    """The library's factory for our recorder, named by `PERSISTENCE_MODULE` with the library's `POSTGRES_…` variables."""

    def application_recorder(self) -> ApplicationRecorder:
        """A recorder on the schema; its tables are created."""
        env = self.env
        conninfo = make_conninfo(
            "",
            dbname=env.get(self.POSTGRES_DBNAME),
            host=env.get(self.POSTGRES_HOST),
            port=env.get(self.POSTGRES_PORT) or "5432",
            user=env.get(self.POSTGRES_USER),
            password=env.get(self.POSTGRES_PASSWORD),
        )
        recorder = PostgresRecorder(Datastore(conninfo, schema=env.get(self.POSTGRES_SCHEMA) or "log"))
        return recorder.prepared()


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

    def lease(self, *, clock: Clock, ids: IdFactory | None = None) -> AdvisoryLease:
        """See `EventLog.lease`."""
        datastore = self._recorder.datastore
        return AdvisoryLease(datastore.connect, name=datastore.schema, clock=clock, ids=ids)

    async def lease_is_held(self) -> bool:
        """See `EventLog.lease_is_held`."""
        return await asyncio.to_thread(is_locked, self._recorder.datastore)

    async def _watch(self) -> None:
        await self._call(self._listener.start)

    def _release(self) -> None:
        self._listener.stop()
        super()._release()
