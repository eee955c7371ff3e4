"""The tables in a SQLite file of their own, so that writing them never blocks a writer of the log.

Made by `replay.readmodel.sync.connect`. WAL lets people query while it is written. `synchronous=NORMAL` may lose the last
transactions in a power cut; the next sync writes them again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from kernel.errors import IntegrityError, LogUnavailableError, NotFoundError
from kernel.platform.private_files import check_database, tighten_database
from projections.sql.schema import Column, ColumnType, SqlTable
from projections.sql.store import TableStore, named

BUSY_TIMEOUT_S = 10
INTEGER_MAX = 2**63 - 1
TYPES = {ColumnType.TEXT: "TEXT", ColumnType.INTEGER: "INTEGER", ColumnType.NUMBER: "ANY", ColumnType.FLAG: "INTEGER"}


class SQLiteTables(TableStore):
    """The tables in one file."""

    options = " STRICT"
    types = TYPES

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Open the file. Raises `NotFoundError` if there is none and `create` is off."""
        self.where = str(path)
        if not path.parent.is_dir():
            raise LogUnavailableError(f"directory {path.parent} does not exist: create it first")
        if not create and not path.exists():
            raise NotFoundError(f"there are no tables at {path}: run `orderctl tables sync` first")
        with self._translated():
            check_database(path, create=create)
            uri = f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
            self._connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S
            )
            try:
                names = self.table_names()  # before writing to a file that may be another program's
                if not names or "projection" in names:
                    self._connection.execute("PRAGMA journal_mode = WAL")
                    tighten_database(path)
                self._connection.execute("PRAGMA synchronous = NORMAL")
            except BaseException:
                self._connection.close()
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as problem:
            raise LogUnavailableError(f"the tables in {self.where} cannot be used now: {problem}") from problem
        except sqlite3.DatabaseError as problem:
            raise IntegrityError(f"{self.where} is damaged or not a SQLite database: {problem}") from problem

    def transaction(self) -> AbstractContextManager[None]:
        return self._within("BEGIN IMMEDIATE")

    def snapshot(self) -> AbstractContextManager[None]:
        return self._within("BEGIN")

    @contextmanager
    def _within(self, begin: str) -> Iterator[None]:
        with self._translated():
            self._connection.execute(begin)
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._translated():
            return self._connection.execute(statement, values).fetchall()

    def update(self, statement: str, values: Sequence[Any]) -> int:
        with self._translated():
            return self._connection.execute(statement, values).rowcount

    def execute_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._translated():
            self._connection.executemany(statement, rows)

    def stored(self, column: Column, value: Any) -> Any:
        return value if -INTEGER_MAX <= value <= INTEGER_MAX else str(value)

    def lock(self) -> None:
        """Nothing to do: a write transaction locks the file."""

    def table_names(self) -> set[str]:
        return {name for (name,) in self.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def set_view(self, table: SqlTable, number: int) -> None:
        self.execute(f"DROP VIEW IF EXISTS {table.name}")
        self.execute(f"CREATE VIEW {table.name} AS SELECT {', '.join(table.names)} FROM {named(table, number)}")

    def create_home(self) -> None:
        """Nothing to do: opening created the file."""

    def close(self) -> None:
        self._connection.close()
