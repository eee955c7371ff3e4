"""Connections to a PostgreSQL schema, and the translation of psycopg's errors.

Used by the log, by its lease, and by `projections.sql.postgres`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from kernel.errors import KernelError, LogUnavailableError, ValidationError
from kernel.log.backends import postgres_sql
from kernel.log.backends.postgres_binary_arrays import register
from kernel.log.engine.recorder import RowRefused

Connection = psycopg.Connection[tuple[Any, ...]]
T = TypeVar("T")

IDLE_CONNECTIONS_MAX = 4


class Datastore:
    """Connections to one schema: a small stack of idle ones for readers instead of a pool with threads."""

    def __init__(self, conninfo: str, *, schema: str) -> None:
        self.conninfo = with_defaults(conninfo)
        self.schema = schema
        self._idle: list[Connection] = []
        self._idle_lock = threading.Lock()
        self._closed = False

    def connect(self) -> Connection:
        """Open a durable session in autocommit mode; raises `LogUnavailableError` if it cannot."""
        with translated():
            connection = psycopg.connect(self.conninfo, autocommit=True)
            try:
                connection.execute(postgres_sql.SET_SESSION)
                register(connection)
                _check_encoding(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def read(self, function: Callable[[Connection], T]) -> T:
        """Run a read on an idle session, and again on a new one if that is dead."""
        connection = self._take()
        try:
            return self._read_on(connection, function)
        except LogUnavailableError:
            if not connection.closed:
                raise
        return self._read_on(self.connect(), function)

    def _read_on(self, connection: Connection, function: Callable[[Connection], T]) -> T:
        try:
            with translated():
                return function(connection)
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
        """Close idle sessions. Idempotent."""
        with self._idle_lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()


def with_defaults(conninfo: str) -> str:
    """Add the default parameters to a connection string; raises `ValidationError` if it is malformed."""
    try:
        parameters = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError as problem:
        raise ValidationError(f"the log's URL is not a PostgreSQL URI: {problem}") from problem
    return make_conninfo("", **{**postgres_sql.CONNECTION_DEFAULTS, **parameters})


def _check_encoding(connection: Connection) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise KernelError(f"the database's encoding is {encoding}: create a database with encoding UTF8")


@contextmanager
def translated() -> Iterator[None]:
    """Translate psycopg's errors: transient ones to unavailability."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError) as problem:
        raise LogUnavailableError(f"the database cannot be used: {_one_line(problem)}") from problem
    except (psycopg.IntegrityError, psycopg.DataError) as problem:
        raise RowRefused(_one_line(problem)) from problem
    except psycopg.Error as problem:
        raise KernelError(f"the database refuses the statement: {_one_line(problem)}") from problem


def _one_line(problem: psycopg.Error) -> str:
    return " ".join(str(problem).split()) or type(problem).__name__
