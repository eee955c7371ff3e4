"""Versions of the tables in one database, written and compared.

Used by `replay.readmodel`. A set of tables is a version: `orders_v1`, `orders_v2`; the views `orders`, … show the active
one. Promises: rows and position change in one transaction, and only from the position that the writer knows, so that two
writers cannot interleave; another version becomes active in one transaction; a writer that dies leaves the active version
intact. The log is neither read nor locked here. All calls block.

SQLite keeps them in a file of its own (`kernel.read.db` beside `kernel.db`), PostgreSQL in a schema `read_<exchange id>`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

from kernel.errors import ConflictError, KernelError
from projections.sql.schema import FILLS, PROJECTION, TABLES, Changes, Column, ColumnType, Key, Row, SqlTable, Value

PAGE_ROWS = 2_000
NO_CHAIN = bytes(32)


class TablesVersion(NamedTuple):
    """One version of the tables: a row of `projection`."""

    number: int
    code_hash: str
    """Fold version of the code that filled it (`kernel.platform.version`)."""
    position: int
    """The last position of the log that it contains."""
    chain_hash: bytes
    """The log's chain hash at that position."""
    active: bool
    was_active: bool
    """True if it is or ever was active: others are left over from interrupted rebuilds."""
    log_id: str


class TableStore(ABC):
    """The tables in one database, over one connection, which one thread may use at a time."""

    where: str
    """The database, for messages; without a password."""
    mark = "?"
    """The placeholder of a value."""
    prefix = ""
    """Precedes each table's name."""
    options = ""
    """Follows the columns of CREATE TABLE."""
    types: Mapping[ColumnType, str]
    """The SQL types of columns."""
    bytes_type = "BLOB"
    """The SQL type of a chain hash."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """A transaction that writes; any error rolls it back."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """A transaction that reads one snapshot of the database. It blocks no writer."""

    @abstractmethod
    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute a statement; returns its rows."""

    @abstractmethod
    def update(self, statement: str, values: Sequence[Any]) -> int:
        """Execute a statement; returns the number of changed rows."""

    @abstractmethod
    def execute_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute a statement for each row of values."""

    @abstractmethod
    def stored(self, column: Column, value: Any) -> Any:
        """Convert a NUMBER for the database."""

    @abstractmethod
    def lock(self) -> None:
        """Inside a transaction: lock out other writers and switches."""

    @abstractmethod
    def table_names(self) -> set[str]:
        """The tables in the file or the schema."""

    @abstractmethod
    def set_view(self, table: SqlTable, number: int) -> None:
        """Make a table's view show a version."""

    @abstractmethod
    def create_home(self) -> None:
        """Inside a transaction: create the schema if missing, and lock out others that create it."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    def sql(self, statement: str) -> str:
        """A statement in the database's dialect: `?` marks a value, `@name` a table."""
        return statement.replace("?", self.mark).replace("@", self.prefix)

    def exists(self) -> bool:
        """Return whether the database has our tables. Raises `KernelError` if it has only others."""
        names = self.table_names()
        if names and "projection" not in names:
            raise KernelError(
                f"{self.where} has other tables ({', '.join(sorted(names)[:5])}): choose another database"
            )
        return bool(names)

    def set_up(self) -> None:
        """Create the table of versions if it is missing."""
        if self.exists():
            return
        with self.transaction():
            self.create_home()
            self.execute(
                self.sql(
                    "CREATE TABLE IF NOT EXISTS @projection (name text NOT NULL, version bigint NOT NULL, "
                    f"code_hash text NOT NULL, position bigint NOT NULL, chain_hash {self.bytes_type} NOT NULL, "
                    "active int NOT NULL, was_active int NOT NULL, log_id text NOT NULL, PRIMARY KEY (name, version))"
                )
            )

    def versions(self) -> list[TablesVersion]:
        """All versions, oldest first."""
        statement = (
            "SELECT version, code_hash, position, chain_hash, active, was_active, log_id FROM @projection "
            "WHERE name = ? ORDER BY version"
        )
        rows = self.execute(self.sql(statement), (PROJECTION,))
        return [
            TablesVersion(number, code, position, bytes(chain), bool(active), bool(was), log_id)
            for number, code, position, chain, active, was, log_id in rows
        ]

    def active(self) -> TablesVersion | None:
        return next((version for version in self.versions() if version.active), None)

    def create(self, *, code: str, log_id: str) -> TablesVersion:
        """Create an empty version, active if it is the first, and drop those that interrupted rebuilds left."""
        with self.transaction():
            self.lock()
            known = self.versions()
            number = max((item.number for item in known), default=0) + 1
            for item in known:
                if not item.was_active:
                    self._drop(item.number)
            first = not any(item.active for item in known)
            made = TablesVersion(number, code, 0, NO_CHAIN, first, first, log_id)
            values = (PROJECTION, number, code, 0, NO_CHAIN, int(first), int(first), log_id)
            self.execute(self.sql("INSERT INTO @projection VALUES (?, ?, ?, ?, ?, ?, ?, ?)"), values)
            for table in TABLES:
                self._create_table(table, number)
                if first:
                    self.set_view(table, number)
        return made

    def _create_table(self, table: SqlTable, number: int) -> None:
        name = named(table, number)
        key, order = ", ".join(table.key), ", ".join(table.ordered_by)
        lines = [
            f"{column.name} {self.types[column.kind]}{'' if column.nullable else ' NOT NULL'}"
            for column in table.columns
        ]
        unique = f", UNIQUE ({key})" if order != key else ""
        self.execute(
            self.sql(f"CREATE TABLE @{name} ({', '.join(lines)}, PRIMARY KEY ({order}){unique}){self.options}")
        )
        for index in table.indexes:
            label = f"{name}_by_{'_'.join(index)}"
            self.execute(self.sql(f"CREATE INDEX {label} ON @{name} ({', '.join(index)})"))

    def _drop(self, number: int) -> None:
        for table in TABLES:
            self.execute(self.sql(f"DROP TABLE IF EXISTS @{named(table, number)}"))
        self.execute(self.sql("DELETE FROM @projection WHERE name = ? AND version = ?"), (PROJECTION, number))

    def switch(self, number: int, *, behind: bool = False) -> bool:
        """Make a version active with its views, keep the previous one for rollback, and drop the others.

        Returns whether that happened: not if the version is behind the active one, unless `behind` allows that. Raises
        `ConflictError` if another rebuild dropped the version.
        """
        with self.transaction():
            self.lock()
            known = {item.number: item for item in self.versions()}
            before = next((item for item in known.values() if item.active), None)
            if number not in known:
                raise ConflictError(f"another rebuild dropped version {number} of the tables: run this one again")
            if before is not None and before.position > known[number].position and not behind:
                return False
            statement = "UPDATE @projection SET active = 0 WHERE name = ? AND version <> ?"
            self.execute(self.sql(statement), (PROJECTION, number))
            statement = "UPDATE @projection SET active = 1, was_active = 1 WHERE name = ? AND version = ?"
            self.execute(self.sql(statement), (PROJECTION, number))
            for table in TABLES:
                self.set_view(table, number)
            kept = {number, before.number if before is not None else number}
            for item in known.values():
                if item.number not in kept and item.was_active:
                    self._drop(item.number)
        return True

    def discard(self, number: int) -> None:
        """Drop a version if it never was active."""
        with self.transaction():
            self.lock()
            if any(item.number == number and not item.was_active for item in self.versions()):
                self._drop(number)

    def write(
        self, number: int, changes: Changes, *, after: int, position: int, chain_hash: bytes, if_active: bool
    ) -> bool:
        """Write rows and position in one transaction.

        Returns False if the version is no longer at `after`, is dropped, or is inactive with `if_active`.
        """
        condition = " AND active = 1" if if_active else ""
        moved = "UPDATE @projection SET position = ?, chain_hash = ? WHERE name = ? AND version = ? AND position = ?"
        with self.transaction():
            if not self.update(self.sql(moved + condition), (position, chain_hash, PROJECTION, number, after)):
                return False
            self._mark_fills(number, changes)
            for table in TABLES:
                self._delete(table, number, changes.gone[table.name])
                self._put(table, number, changes.rows[table.name].values())
        return True

    def _put(self, table: SqlTable, number: int, rows: Iterable[Row]) -> None:
        places = ", ".join("?" * len(table.columns))
        changed = [name for name in table.names if name not in table.key and name not in table.first_kept]
        sets = ", ".join(f"{name} = excluded.{name}" for name in changed)
        statement = (
            f"INSERT INTO @{named(table, number)} ({', '.join(table.names)}) VALUES ({places}) "
            f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {sets}"
        )
        self.execute_many(self.sql(statement), (self._values(table.columns, row) for row in rows))

    def _delete(self, table: SqlTable, number: int, keys: Iterable[Key]) -> None:
        where = " AND ".join(f"{name} = ?" for name in table.key)
        columns = key_columns(table)
        statement = self.sql(f"DELETE FROM @{named(table, number)} WHERE {where}")
        self.execute_many(statement, (self._values(columns, key) for key in keys))

    def _mark_fills(self, number: int, changes: Changes) -> None:
        where = " AND ".join(f"{name} = ?" for name in FILLS.key)
        columns = key_columns(FILLS)
        statement = self.sql(f"UPDATE @{named(FILLS, number)} SET counts = ? WHERE {where}")
        self.execute_many(statement, ([counts, *self._values(columns, key)] for key, counts in changes.counts.items()))

    def _values(self, columns: Sequence[Column], row: Sequence[Any]) -> list[Any]:
        return [
            self.stored(column, value) if column.kind is ColumnType.NUMBER and value is not None else value
            for column, value in zip(columns, row, strict=True)
        ]

    def rows(self, table: SqlTable, number: int) -> Iterator[Row]:
        """All rows of a version in the table's order, read in pages."""
        order = table.ordered_by
        names, ordered = ", ".join(table.names), ", ".join(order)
        begin = f"SELECT {names} FROM @{named(table, number)}"
        end = f" ORDER BY {ordered} LIMIT {PAGE_ROWS}"
        places = ", ".join("?" * len(order))
        page = self.execute(self.sql(begin + end))
        while page:
            found = [read_row(table, row) for row in page]
            yield from found
            if len(page) < PAGE_ROWS:
                return
            last = table.part(found[-1], order)
            page = self.execute(self.sql(f"{begin} WHERE ({ordered}) > ({places}){end}"), last)


def named(table: SqlTable, number: int) -> str:
    return f"{table.name}_v{number}"


def key_columns(table: SqlTable) -> list[Column]:
    known = {column.name: column for column in table.columns}
    return [known[name] for name in table.key]


def read_row(table: SqlTable, row: Sequence[Any]) -> Row:
    """A row as it was written: numbers are integers again, whatever type the database has for them."""
    return tuple(
        int(value) if column.kind is ColumnType.NUMBER and value is not None else value
        for column, value in zip(table.columns, row, strict=True)
    )


@dataclass(frozen=True, slots=True)
class RowDifference:
    """The first difference between two versions of a table."""

    table: str
    key: Key
    field: str
    """The column; empty if one side lacks the row."""
    expected: object
    """According to the log; None if there is no such row."""
    found: object
    row: dict[str, Value]
    """The row, of the side that has it."""


def compare(table: SqlTable, expected: Iterator[Row], found: Iterator[Row]) -> RowDifference | None:
    """The first difference between two ordered tables, or None."""
    for ours, theirs in zip_longest(expected, found):
        if ours != theirs:
            return row_difference(table, ours, theirs)
    return None


def row_difference(table: SqlTable, ours: Row | None, theirs: Row | None) -> RowDifference:
    """The difference between two rows at the same place; the one that sorts first is missing on the other side."""
    our_place = table.part(ours, table.ordered_by) if ours is not None else None
    their_place = table.part(theirs, table.ordered_by) if theirs is not None else None
    if ours is not None and theirs is not None and our_place == their_place:
        index = next(index for index, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        row = dict(zip(table.names, ours, strict=True))
        return RowDifference(table.name, table.key_of(ours), table.names[index], ours[index], theirs[index], row)
    if ours is not None and (their_place is None or (our_place is not None and our_place < their_place)):
        row = dict(zip(table.names, ours, strict=True))
        return RowDifference(table.name, table.key_of(ours), "", row, None, row)
    assert theirs is not None
    row = dict(zip(table.names, theirs, strict=True))
    return RowDifference(table.name, table.key_of(theirs), "", None, row, row)
