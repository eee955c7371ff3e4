"""The log's rows straight from the database, without the kernel's code.

Used by the witness. Reads block, so they are made on a thread. A database that can't be read now raises `Unreadable`.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import psycopg
from psycopg import sql

COLUMNS = ("position", "stream_id", "version", "topic", "recorded_at_ns", "meta", "state")
ROWS_MAX = 2_000
"""Rows of one read."""


class Unreadable(Exception):
    """The database cannot be read."""


class Rows(ABC):
    """A reader of one log's rows. One read at a time."""

    errors: ClassVar[type[Exception]]
    """Errors of the driver."""

    def __init__(self, query: Any) -> None:
        self._query = query
        self._connection: Any = None

    @abstractmethod
    def _connect(self) -> Any:
        """A connection for reading."""

    def after(self, position: int) -> list[dict[str, Any]]:
        """The next rows after a position, in order, at most `ROWS_MAX`. Raises `Unreadable`."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            found = self._connection.execute(self._query, (position, ROWS_MAX)).fetchall()
        except self.errors as problem:
            self.close()
            raise Unreadable(str(problem)) from problem
        return [dict(zip(COLUMNS, row, strict=True)) for row in found]

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(self.errors):
                connection.close()


class PostgresRows(Rows):
    """Rows of a log in a PostgreSQL schema."""

    errors = psycopg.Error

    def __init__(self, url: str, exchange_id: str) -> None:
        columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        table = sql.Identifier(f"log_{exchange_id}", "log")
        query = sql.SQL("SELECT {} FROM {} WHERE position > %s ORDER BY position LIMIT %s").format(columns, table)
        super().__init__(query)
        self._url = url

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._url, autocommit=True, connect_timeout=5)


class SQLiteRows(Rows):
    """Rows of a log in a SQLite file."""

    errors = sqlite3.Error

    def __init__(self, path: Path) -> None:
        super().__init__(f"SELECT {', '.join(COLUMNS)} FROM log WHERE position > ? ORDER BY position LIMIT ?")
        self._path = path

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, check_same_thread=False)
