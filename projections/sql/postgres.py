"""The tables in a PostgreSQL schema beside the log's: `read_<exchange id>`. Made by `replay.readmodel.sync.connect`.

Sessions are configured like the log's. A transaction lasts one batch; a comparison reads under one snapshot without locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg.sql import Identifier

from kernel.errors import NotFoundError
from kernel.log.backends import postgres_sql
from kernel.log.backends.postgres_datastore import Datastore, translated
from kernel.log.factory import without_password
from projections.sql.schema import Column, ColumnType, SqlTable
from projections.sql.store import TableStore, named

TYPES = {
    ColumnType.TEXT: 'text COLLATE "C"',
    ColumnType.INTEGER: "bigint",
    ColumnType.NUMBER: "numeric",
    ColumnType.FLAG: "smallint",
}
"""Text sorts by bytes, as in SQLite."""


class PostgresTables(TableStore):
    """The tables in one schema."""

    mark = "%s"
    types = TYPES
    bytes_type = "bytea"

    def __init__(self, url: str, *, exchange_id: str, create: bool = True) -> None:
        """Open a session. Raises `NotFoundError` if there is no such schema and `create` is off."""
        self._schema = f"read_{exchange_id}"
        self.prefix = Identifier(self._schema).as_string(None) + "."
        self.where = f"schema {self._schema} of {without_password(url)}"
        self._datastore = Datastore(url, schema=self._schema)
        self._connection = self._datastore.connect()
        if not create and not self.table_names():
            self.close()
            raise NotFoundError(f"there are no tables in {self.where}: run `orderctl tables sync` first")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with translated(), self._connection.transaction():
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with self.transaction():
            self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with translated():
            cursor = self._connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def update(self, statement: str, values: Sequence[Any]) -> int:
        with translated():
            return self._connection.execute(statement.encode(), values).rowcount

    def execute_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with translated(), self._connection.cursor() as cursor:
            cursor.executemany(statement.encode(), rows)

    def stored(self, column: Column, value: Any) -> Any:
        return value

    def lock(self) -> None:
        """Writers lock their row of the same table by updating it."""
        self.execute(self.sql("LOCK TABLE @projection IN SHARE ROW EXCLUSIVE MODE"))

    def table_names(self) -> set[str]:
        return {name for (name,) in self.execute(postgres_sql.TABLES, (self._schema,))}

    def set_view(self, table: SqlTable, number: int) -> None:
        """Replace the view in place, which keeps grants and dependent objects."""
        columns = ", ".join(table.names)
        source = self.sql(f"@{named(table, number)}")
        self.execute(self.sql(f"CREATE OR REPLACE VIEW @{table.name} AS SELECT {columns} FROM {source}"))

    def create_home(self) -> None:
        self.execute(postgres_sql.LOCK_CREATION, (self._schema,))
        self.execute(f"CREATE SCHEMA IF NOT EXISTS {Identifier(self._schema).as_string(None)}")

    def close(self) -> None:
        self._connection.close()
        self._datastore.close()
