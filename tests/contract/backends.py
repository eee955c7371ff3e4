"""The three backends of the log as the contract suite sees them: open again, look into, and tamper with.

A backend is one store. `open` gives log objects over it, as many as wanted, which are like processes over one database.
The tampering goes around the log and its triggers, as somebody with the database's password could.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from kernel.clock import Clock, SeededIds, SystemClock
from kernel.log import EventLog, LogSettings, open_log
from kernel.log.backends.memory import MemoryRecorder
from kernel.log.engine.records import COLUMNS
from kernel.log.factory import LogFactory


class Backend(ABC):
    """One store that logs are opened on."""

    def __init__(self, exchange_id: str) -> None:
        self.exchange_id = exchange_id

    @abstractmethod
    def open(
        self,
        *,
        clock: Clock | None = None,
        settings: LogSettings | None = None,
        exchange_id: str | None = None,
        check_end: bool = True,
    ) -> EventLog:
        """A log object over the store."""

    @abstractmethod
    def update(self, position: int, column: str, value: Any) -> None:
        """Change one column of one row."""

    @abstractmethod
    def delete(self, *, above: int, upto: int) -> None:
        """Remove the rows of positions above … upto."""

    @abstractmethod
    def insert(self, row: tuple[Any, ...]) -> None:
        """Put a row in, with its columns in order."""

    @abstractmethod
    def set_head(self, position: int, chain_hash: bytes) -> None:
        """Change the head row."""

    def row(self, log_row: Any) -> tuple[Any, ...]:
        """A `StoredRow` as a tuple."""
        return tuple(getattr(log_row, column) for column in COLUMNS)


class MemoryBackend(Backend):
    """Rows in memory; stands for itself."""

    def __init__(self, exchange_id: str) -> None:
        super().__init__(exchange_id)
        self.recorder = MemoryRecorder()

    def open(
        self,
        *,
        clock: Clock | None = None,
        settings: LogSettings | None = None,
        exchange_id: str | None = None,
        check_end: bool = True,
    ) -> EventLog:
        opener = LogFactory(
            exchange_id or self.exchange_id,
            clock or SystemClock(),
            SeededIds(),
            settings or LogSettings(),
            True,
            check_end=check_end,
        )
        return opener.memory(self.recorder)

    def update(self, position: int, column: str, value: Any) -> None:
        index = next(i for i, row in enumerate(self.recorder.rows) if row[0] == position)
        row = list(self.recorder.rows[index])
        row[COLUMNS.index(column)] = value
        self.recorder.rows[index] = tuple(row)  # type: ignore[assignment]  # tampering knows no types
        self._index()

    def _index(self) -> None:
        self.recorder._streams.clear()
        for index, row in enumerate(self.recorder.rows):
            self.recorder._streams.setdefault(row[1], []).append(index + 1)

    def delete(self, *, above: int, upto: int) -> None:
        self.recorder.rows[:] = [row for row in self.recorder.rows if not above < row[0] <= upto]
        self._index()

    def insert(self, row: tuple[Any, ...]) -> None:
        self.recorder.rows.append(row)
        self.recorder.rows.sort()
        self._index()

    def set_head(self, position: int, chain_hash: bytes) -> None:
        head = self.recorder.head()
        self.recorder._head = type(head)(position, chain_hash, head.epoch, head.recorded_at_ns)


class SQLiteBackend(Backend):
    """A file."""

    def __init__(self, exchange_id: str, path: Path) -> None:
        super().__init__(exchange_id)
        self.path = path
        self.url = f"sqlite:///{path}"

    def open(
        self,
        *,
        clock: Clock | None = None,
        settings: LogSettings | None = None,
        exchange_id: str | None = None,
        check_end: bool = True,
    ) -> EventLog:
        exchange_id = exchange_id or self.exchange_id
        return open_log(self.url, exchange_id=exchange_id, clock=clock, settings=settings, check_end=check_end)

    def execute(self, statement: str, values: tuple[Any, ...] = (), *, guarded: bool = False) -> None:
        """Run a statement past the log; `guarded` leaves the triggers in place."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            if not guarded:
                for trigger in ("log_no_update", "log_no_delete", "log_head_no_delete", "log_stream_no_delete"):
                    connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
            connection.execute(statement, values)
        finally:
            connection.close()

    def update(self, position: int, column: str, value: Any) -> None:
        if column in ("meta", "state"):
            value = value.decode()
        self.execute(f"UPDATE log SET {column} = ? WHERE position = ?", (value, position))

    def delete(self, *, above: int, upto: int) -> None:
        self.execute("DELETE FROM log WHERE position > ? AND position <= ?", (above, upto))

    def insert(self, row: tuple[Any, ...]) -> None:
        values = (*row[:8], row[8].decode(), row[9].decode(), *row[10:])
        self.execute(f"INSERT INTO log VALUES ({', '.join('?' * len(values))})", values)

    def set_head(self, position: int, chain_hash: bytes) -> None:
        self.execute("UPDATE log_head SET position = ?, chain_hash = ?", (position, chain_hash))


class PostgresBackend(Backend):
    """A schema."""

    def __init__(self, exchange_id: str, url: str) -> None:
        super().__init__(exchange_id)
        self.url = url
        self.schema = f"log_{exchange_id}"

    def open(
        self,
        *,
        clock: Clock | None = None,
        settings: LogSettings | None = None,
        exchange_id: str | None = None,
        check_end: bool = True,
    ) -> EventLog:
        exchange_id = exchange_id or self.exchange_id
        return open_log(self.url, exchange_id=exchange_id, clock=clock, settings=settings, check_end=check_end)

    def execute(self, statement: str, values: tuple[Any, ...] = (), *, guarded: bool = False, column: str = "") -> None:
        """Run a statement past the log; `guarded` leaves the triggers in place."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            if not guarded:
                connection.execute("SET session_replication_role = replica")
            names = {"schema": Identifier(self.schema), "column": Identifier(column)}
            connection.execute(SQL(statement).format(**names), values)

    def update(self, position: int, column: str, value: Any) -> None:
        if column in ("meta", "state"):
            value = value.decode()
        self.execute("UPDATE {schema}.log SET {column} = %s WHERE position = %s", (value, position), column=column)

    def delete(self, *, above: int, upto: int) -> None:
        self.execute("DELETE FROM {schema}.log WHERE position > %s AND position <= %s", (above, upto))

    def insert(self, row: tuple[Any, ...]) -> None:
        values = (*row[:8], row[8].decode(), row[9].decode(), *row[10:])
        self.execute("INSERT INTO {schema}.log VALUES (" + ", ".join(["%s"] * len(values)) + ")", values)

    def set_head(self, position: int, chain_hash: bytes) -> None:
        self.execute("UPDATE {schema}.log_head SET position = %s, chain_hash = %s", (position, chain_hash))
