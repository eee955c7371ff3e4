"""The read models as tables in a database: for other processes, and for people who ask in SQL.

Used by `replay.readmodel.sync`, which keeps them current, and `replay.readmodel.rebuild`, which makes them anew and
compares. A set of tables is a version: `orders_v1`, `orders_v2`; the views `orders`, … show the active one. Promises:
position and rows change in one transaction, and only from the position that the writer knows, so that two writers can't
mix; another version becomes active in one transaction; a writer that dies leaves the active version as it was. The log
is neither read nor locked here.

SQLite has them in a file of its own (`kernel.read.db` beside `kernel.db`), PostgreSQL in a schema `read_<exchange id>`.
All calls block; `sql_sqlite` and `sql_postgres` say how each database is spoken to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

from kernel.errors import ConflictError, KernelError
from projections.sql.schema import FILLS, PROJECTION, TABLES, Changes, Column, ColumnType, Key, Row, SqlTable

PAGE_ROWS = 2_000
NO_CHAIN = bytes(32)


class TablesVersion(NamedTuple):
    """One set of the tables: a row of `projection`."""

    number: int
    code_hash: str
    """The fold version of the code that filled it (`kernel.platform.version`)."""
    position: int
    """Everything up to this position of the log is in it."""
    chain_hash: bytes
    """The log's chain hash there."""
    active: bool
    was_active: bool
    """Whether it is, or ever was, the active one: what never was is what a broken rebuild left."""
    log_id: str


class TableStore(ABC):
    """The tables in one database, over one connection. Not to be used by two threads at a time."""

    where: str
    """The database, for people; without a password."""
    mark = "?"
    """A value's place in a statement."""
    prefix = ""
    """Before each table's name."""

    # ------------------------------------------------------------------------------------- how the database is spoken to
    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """A transaction that writes; rolled back by any error."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """A transaction that reads, and sees one state of the database throughout. It holds no writer back."""

    @abstractmethod
    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement gives."""

    @abstractmethod
    def update(self, statement: str, values: Sequence[Any]) -> int:
        """How many rows a statement changed."""

    @abstractmethod
    def execute_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """One statement for each row of values."""

    @abstractmethod
    def type_of(self, column: Column) -> str:
        """A column's type."""

    @abstractmethod
    def stored(self, column: Column, value: Any) -> Any:
        """A value as the database takes it."""

    @abstractmethod
    def lock(self) -> None:
        """Inside a transaction: hold back whoever else wants to write or to switch."""

    @abstractmethod
    def table_names(self) -> set[str]:
        """What the file or the schema holds."""

    @abstractmethod
    def set_view(self, table: SqlTable, number: int) -> None:
        """Let a table's view show a version."""

    @abstractmethod
    def create_home(self) -> None:
        """Inside a transaction: make the place of the tables, if need be, and hold back whoever does it too."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection."""

    # --------------------------------------------------------------------------------------------------------- versions
    def sql(self, statement: str) -> str:
        """A statement in the database's own form: `?` for values, `@name` for a table of ours."""
        return statement.replace("?", self.mark).replace("@", self.prefix)

    def exists(self) -> bool:
        """Whether there are tables of ours. Raises `KernelError` for a database that holds something else."""
        names = self.table_names()
        if names and "projection" not in names:
            raise KernelError(f"{self.where} holds something else than tables of this software: {sorted(names)[:5]}")
        return bool(names)

    def set_up(self) -> None:
        """Create what is missing; nothing happens when it is all there."""
        if self.exists():
            return
        chain = self.type_of_chain()
        with self.transaction():
            self.create_home()
            self.execute(
                self.sql(
                    "CREATE TABLE IF NOT EXISTS @projection (name text NOT NULL, version bigint NOT NULL, "
                    f"code_hash text NOT NULL, position bigint NOT NULL, chain_hash {chain} NOT NULL, "
                    "active int NOT NULL, was_active int NOT NULL, log_id text NOT NULL, PRIMARY KEY (name, version))"
                )
            )

    def type_of_chain(self) -> str:
        """The type of bytes."""
        return "BLOB"

    def versions(self) -> list[TablesVersion]:
        """All that there are, oldest first."""
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
        """The one that people see."""
        return next((version for version in self.versions() if version.active), None)

    def create(self, *, code: str, log_id: str) -> TablesVersion:
        """A new, empty version; active if it is the first. What broken rebuilds have left is taken away."""
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
        key, order = ", ".join(table.key), ", ".join(table.walked_by)
        lines = [
            f"{column.name} {self.type_of(column)}{'' if column.nullable else ' NOT NULL'}" for column in table.columns
        ]
        unique = f", UNIQUE ({key})" if order != key else ""
        self.execute(
            self.sql(f"CREATE TABLE @{name} ({', '.join(lines)}, PRIMARY KEY ({order}){unique}){self.options}")
        )
        for index in table.indexes:
            label = f"{name}_by_{'_'.join(index)}"
            self.execute(self.sql(f"CREATE INDEX {label} ON @{name} ({', '.join(index)})"))

    options = ""
    """What stands behind a table's columns."""

    def _drop(self, number: int) -> None:
        for table in TABLES:
            self.execute(self.sql(f"DROP TABLE IF EXISTS @{named(table, number)}"))
        self.execute(self.sql("DELETE FROM @projection WHERE name = ? AND version = ?"), (PROJECTION, number))

    def switch(self, number: int, *, behind: bool = False) -> bool:
        """Make a version the active one, with its views, and keep the one before it for rollback; others go.

        False, and nothing happens, where it is behind the active one, unless that is wanted. `ConflictError` where there
        is no such version any more.
        """
        with self.transaction():
            self.lock()
            known = {item.number: item for item in self.versions()}
            before = next((item for item in known.values() if item.active), None)
            if number not in known:
                raise ConflictError(f"version {number} of the tables was taken away by another rebuild")
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
        """Take a version away that never was active."""
        with self.transaction():
            self.lock()
            if any(item.number == number and not item.was_active for item in self.versions()):
                self._drop(number)

    # ------------------------------------------------------------------------------------------------------------- rows
    def write(
        self, number: int, changes: Changes, *, after: int, position: int, chain_hash: bytes, if_active: bool
    ) -> bool:
        """Rows and position, in one transaction. False, and nothing is written, where the version is not at `after` any
        more, is gone, or (with `if_active`) no longer is the active one."""
        condition = " AND active = 1" if if_active else ""
        moved = "UPDATE @projection SET position = ?, chain_hash = ? WHERE name = ? AND version = ? AND position = ?"
        with self.transaction():
            if not self.update(self.sql(moved + condition), (position, chain_hash, PROJECTION, number, after)):
                return False
            self._mark_fills(number, changes)
            for table in TABLES:
                self._take(table, number, changes.gone[table.name])
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

    def _take(self, table: SqlTable, number: int, keys: Iterable[Key]) -> None:
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
        """All rows of a version, in the table's order, fetched page by page."""
        order = table.walked_by
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
    """A table's name in a version."""
    return f"{table.name}_v{number}"


def key_columns(table: SqlTable) -> list[Column]:
    known = {column.name: column for column in table.columns}
    return [known[name] for name in table.key]


def read_row(table: SqlTable, row: Sequence[Any]) -> Row:
    """A row as it was made: numbers are integers again, whatever the database keeps them as."""
    return tuple(
        int(value) if column.kind is ColumnType.NUMBER and value is not None else value
        for column, value in zip(table.columns, row, strict=True)
    )


# ----------------------------------------------------------------------------------------------------------- comparison
@dataclass(frozen=True, slots=True)
class RowDifference:
    """The first place where two versions of a table part."""

    table: str
    key: Key
    field: str
    """The column; empty where one side lacks the whole row."""
    expected: object
    """As the log says. None where it says that there is no such row."""
    found: object
    row: dict[str, object]
    """The row that is there on one side at least."""


def compare(table: SqlTable, expected: Iterator[Row], found: Iterator[Row]) -> RowDifference | None:
    """Walk two tables side by side: where they part first; None where they are equal."""
    for ours, theirs in zip_longest(expected, found):
        if ours != theirs:
            return row_difference(table, ours, theirs)
    return None


def row_difference(table: SqlTable, ours: Row | None, theirs: Row | None) -> RowDifference:
    """Where two rows differ that stand at the same place."""
    our_place = table.part(ours, table.walked_by) if ours is not None else None
    their_place = table.part(theirs, table.walked_by) if theirs is not None else None
    if ours is not None and theirs is not None and our_place == their_place:
        name = next(name for name, a, b in zip(table.names, ours, theirs, strict=True) if a != b)
        index = table.names.index(name)
        return RowDifference(table.name, table.key_of(ours), name, ours[index], theirs[index], as_dict(table, ours))
    is_ours = their_place is None or (our_place is not None and our_place < their_place)
    row = ours if is_ours else theirs
    assert row is not None
    whole = as_dict(table, row)
    return RowDifference(
        table.name, table.key_of(row), "", whole if is_ours else None, None if is_ours else whole, whole
    )


def as_dict(table: SqlTable, row: Row) -> dict[str, object]:
    """A row by the names of its columns."""
    return dict(zip(table.names, row, strict=True))
