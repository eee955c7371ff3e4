"""A log in a PostgreSQL schema: where several hosts share a log.

Built by `open_log("postgresql://…")`. Each log is a schema `log_<exchange_id>`. Durable by `synchronous_commit=on`, set
for each session. A commit is one transaction on the writer's own connection, in two round trips: lock the head row and
look up ids and streams, then insert, move the head, notify and commit. A connection that is lost in between is replaced,
and the same batch decided again under the lock: what the lost transaction did commit is then known by its command ids.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
from eventsourcing.persistence import ApplicationRecorder
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore, PostgresFactory
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import Composed

from kernel.clock import Clock
from kernel.errors import IntegrityError, KernelError, LogUnavailableError, ValidationError
from kernel.log import postgres_tables
from kernel.log.base import Appended, Head, LogSettings, StoredRow
from kernel.log.batch import Batch, Outcome, decide
from kernel.log.listener import Listener
from kernel.log.recorder import EMPTY_HEAD, LAYOUT_VERSION, Identity, Query, RowRefused, Sources, TableRecorder
from kernel.log.records import Command, this_process
from kernel.log.threaded import ThreadedLog

Connection = psycopg.Connection[tuple[Any, ...]]

RETRY_DELAY_S_MIN = 0.02
RETRY_DELAY_S_MAX = 1.0
IDLE_CONNECTIONS_MAX = 4


class Datastore(PostgresDatastore):
    """Connections to one schema: a small stack of idle ones for readers, no pool with threads of its own."""

    def __init__(self, conninfo: str, *, schema: str) -> None:
        super().__init__("", "", "", "", "", schema=schema, originator_id_type="text")
        self.pool.close()
        self.conninfo = _with_defaults(conninfo)
        self._idle: list[Connection] = []
        self._idle_lock = threading.Lock()
        self._closed = False

    def connect(self) -> Connection:
        """A new session, durable and in autocommit mode; `LogUnavailableError` when there is none to be had."""
        with translated():
            connection = psycopg.connect(self.conninfo, autocommit=True)
            try:
                connection.execute(postgres_tables.SET_SESSION)
                _check_encoding(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """A session for one read; kept for the next one."""
        connection = self._take()
        try:
            with translated():
                yield connection
        finally:
            self._put(connection)

    def _take(self) -> Connection:
        with self._idle_lock:
            if self._closed:
                raise LogUnavailableError("the log is closed")
            while self._idle:
                connection = self._idle.pop()
                if not connection.closed:
                    return connection
        return self.connect()

    def _put(self, connection: Connection) -> None:
        with self._idle_lock:
            if not self._closed and not connection.closed and len(self._idle) < IDLE_CONNECTIONS_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Let go of idle sessions. Idempotent; also called when the constructor failed."""
        super().close()
        if not hasattr(self, "_idle_lock"):
            return
        with self._idle_lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()


class PostgresRecorder(TableRecorder, PostgresApplicationRecorder):
    """The log's tables in one schema."""

    datastore: Datastore

    def __init__(
        self, datastore: Datastore, *, settings: LogSettings | None = None, sources: Sources | None = None
    ) -> None:
        # The library's constructors look up composite types in the database, for inserts that are never made here.
        self.datastore = datastore
        self.events_table_name = "log"
        self.channel_name = datastore.schema
        self.sql_create_statements: list[Composed] = []
        self.sources = sources or Sources()
        self.settings = settings or LogSettings()
        self.sql = postgres_tables.statements(datastore.schema)
        self.closing = threading.Event()
        self._lock = threading.RLock()
        """Guards the writer's connection."""
        self._connection: Connection | None = None
        self.writer = this_process()
        self.backend_pid: int | None = None
        """The server's process behind the writer's connection: its notifications are our own."""
        self._unsettled: set[bytes] = set()
        """Command ids that a transaction of the running commit inserted, whose end is not known."""
        with self._lock:
            self._writer_connection()

    def create_table(self) -> None:
        """Create schema and tables where they are missing; two that do it at once wait for each other."""
        head = EMPTY_HEAD
        row = (head.position, head.chain_hash, head.epoch, head.recorded_at_ns, LAYOUT_VERSION)
        with self._lock, translated():
            connection = self._writer_connection()
            with connection.transaction():
                connection.execute(postgres_tables.LOCK_CREATION, (self.datastore.schema,))
                if connection.execute(postgres_tables.TABLES, (self.datastore.schema,)).fetchone():
                    return  # somebody else was first, and may be writing already
                for statement in self.sql.create:
                    connection.execute(statement)
                connection.execute(self.sql.insert_head, row)

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
            deadline_s = time.monotonic() + self.settings.reconnect_timeout_s
            delay_s = RETRY_DELAY_S_MIN
            while True:
                try:
                    return self._attempt(commands, now_ns)
                except LogUnavailableError:
                    lost = self._connection is None or self._connection.closed
                    if not lost or self.closing.is_set() or time.monotonic() + delay_s > deadline_s:
                        raise
                self.closing.wait(delay_s)
                delay_s = min(delay_s * 2, RETRY_DELAY_S_MAX)

    def _attempt(self, commands: list[Command], now_ns: int) -> Batch:
        with self._transaction() as connection:
            batch = self._record(connection, commands, now_ns)
        self._seen = batch.head
        return batch

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """A pipelined transaction on the writer's connection, which is usable or closed afterwards."""
        with translated():
            connection = self._writer_connection()
            try:
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
        for index, (command, outcome) in enumerate(zip(commands, outcomes, strict=True)):
            if isinstance(outcome, Appended) and outcome.duplicate and command.command_id in self._unsettled:
                self._unsettled.discard(command.command_id)
                settled[index] = replace(outcome, duplicate=False)
        return settled

    def _decide(self, connection: Connection, commands: list[Command], now_ns: int) -> Batch:
        """The first round trip: everything that the decision needs, under the head's lock."""
        command_ids = [command.command_id for command in commands]
        stream_ids = list({write.stream_id for command in commands for write in command.writes})
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
        head = batch.head
        columns: list[list[Any]] = [list(column) for column in zip(*batch.rows, strict=True)]
        columns[8] = [meta.decode() for meta in columns[8]]
        columns[9] = [state.decode() for state in columns[9]]
        streams = (list(batch.versions), list(batch.versions.values()))
        connection.execute(self.sql.insert_rows, columns, prepare=True)
        connection.execute(self.sql.upsert_streams, streams, prepare=True)
        head_row = (head.position, head.chain_hash, head.epoch, head.recorded_at_ns)
        connection.execute(self.sql.update_head, head_row, prepare=True)

    def claim(self, identity: Identity, created: Command, now_ns: int) -> Identity:
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

    # ------------------------------------------------------------------------------------------------------- reading
    def tables(self) -> set[str]:
        """See `TableRecorder.tables`."""
        with self.datastore.session() as connection:
            return {name for (name,) in connection.execute(postgres_tables.TABLES, (self.datastore.schema,))}

    def identity(self) -> Identity | None:
        """See `LogRecorder.identity`."""
        with self.datastore.session() as connection:
            row = connection.execute(self.sql.identity).fetchone()
        assert row is not None, "a log's tables have a head row"
        identity = Identity(*row)
        return identity if identity.exchange_id or identity.layout_version > LAYOUT_VERSION else None

    def head(self) -> Head:
        """See `LogRecorder.head`."""
        with self.datastore.session() as connection:
            row = connection.execute(self.sql.head, binary=True).fetchone()
        if row is None:
            raise IntegrityError("the log has no head row")
        return Head(*row)

    def select(self, query: Query) -> list[StoredRow]:
        """See `LogRecorder.select`."""
        statement, values = postgres_tables.select_rows(self.sql.rows, query)
        with self.datastore.session() as connection:
            rows = connection.execute(statement, values, binary=True, prepare=True).fetchall()
        return [_stored_row(row) for row in rows]

    def close(self) -> None:
        """See `LogRecorder.close`."""
        self.closing.set()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
        self.datastore.close()


def _stored_row(row: tuple[Any, ...]) -> StoredRow:
    *before, meta, state, leaf, chain = row
    return StoredRow(*before, meta.encode(), state.encode(), leaf, chain)


def _with_defaults(conninfo: str) -> str:
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError as problem:
        raise ValidationError(f"the log's URL is not a PostgreSQL URI: {problem}") from problem
    return make_conninfo("", **{**postgres_tables.CONNECTION_DEFAULTS, **given})


def _check_encoding(connection: Connection) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise KernelError(f"the database's encoding is {encoding}: a log needs UTF8, create the database with it")


def _rollback(connection: Connection) -> None:
    """Leave the connection out of any transaction, or closed."""
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()


@contextmanager
def translated() -> Iterator[None]:
    """psycopg's errors as ours: what can pass by itself is unavailability."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError) as problem:
        raise LogUnavailableError(f"the database can't be used now: {_words(problem)}") from problem
    except (psycopg.IntegrityError, psycopg.DataError) as problem:
        raise RowRefused(_words(problem)) from problem
    except psycopg.Error as problem:
        raise KernelError(f"the database refuses: {_words(problem)}") from problem


def _words(problem: psycopg.Error) -> str:
    return " ".join(str(problem).split()) or type(problem).__name__


class Factory(PostgresFactory):
    """The library's factory for our recorder: `PERSISTENCE_MODULE=kernel.log.postgres:Factory` and its `POSTGRES_…`."""

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
        recorder.create_table()
        return recorder


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
            nudge=self._feed.nudge,
            fallback_s=settings.listen_fallback_s,
        )

    async def _watch(self) -> None:
        await self._call(self._listener.start)

    def _release(self) -> None:
        self._listener.stop()
        super()._release()
