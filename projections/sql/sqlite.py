"""The tables in a SQLite file of their own, beside the log's: whoever writes them holds no writer of the log back.

Made by `replay.readmodel.sync.open_tables`. WAL, so that people can ask while it is written; `synchronous=NORMAL`,
because after a power cut the file is at most a few transactions old, and catches up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Open the file; `NotFoundError` where there is none and none is to be made."""
        self.where = str(path)
        if not path.parent.is_dir():
            raise LogUnavailableError(f"there is no directory {path.parent}: create it first")
        if not create and not path.exists():
            raise NotFoundError(f"there are no tables at {path}: `orderctl tables sync` makes them")
        with self._translated():
            check_database(path, create=create)
            uri = f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
            self._connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S
            )
            try:
                names = self.table_names()  # before anything is written to what may be somebody else's
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
            raise LogUnavailableError(f"the tables in {self.where} can't be used now: {problem}") from problem
        except sqlite3.DatabaseError as problem:
            raise IntegrityError(f"{self.where} is damaged, or no SQLite database: {problem}") from problem

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `TableStore.transaction`."""
        with self._within("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See `TableStore.snapshot`."""
        with self._within("BEGIN"):
            yield

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
        """See `TableStore.execute`."""
        with self._translated():
            return self._connection.execute(statement, values).fetchall()

    def update(self, statement: str, values: Sequence[Any]) -> int:
        """See `TableStore.update`."""
        with self._translated():
            return self._connection.execute(statement, values).rowcount

    def execute_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """See `TableStore.execute_many`."""
        with self._translated():
            self._connection.executemany(statement, rows)

    def type_of(self, column: Column) -> str:
        """See `TableStore.type_of`. ANY keeps a value as it is given."""
        return TYPES[column.kind]

    def stored(self, column: Column, value: Any) -> Any:
        """See `TableStore.stored`."""
        return value if -INTEGER_MAX <= value <= INTEGER_MAX else str(value)

    def lock(self) -> None:
        """Nothing to do: a transaction that writes has the file for itself."""

    def table_names(self) -> set[str]:
        """See `TableStore.table_names`."""
        return {name for (name,) in self.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def set_view(self, table: SqlTable, number: int) -> None:
        """See `TableStore.set_view`."""
        self.execute(f"DROP VIEW IF EXISTS {table.name}")
        self.execute(f"CREATE VIEW {table.name} AS SELECT {', '.join(table.names)} FROM {named(table, number)}")

    def create_home(self) -> None:
        """Nothing to do: the file is there, and the transaction has it for itself."""

    def close(self) -> None:
        """See `TableStore.close`."""
        self._connection.close()
