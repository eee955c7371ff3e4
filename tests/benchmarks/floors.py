"""The floors: what the database, and the event-sourcing library, take for the same bytes.

Used by the rows of the benchmark. Each is as durable as the log that it is compared with.
"""

from __future__ import annotations

import pickle
import sqlite3
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

ROW_COLUMNS = 12


class PayloadAggregate(Aggregate):
    """An aggregate of one event with a payload like ours."""

    @event("Wished")
    def __init__(self, payload: str) -> None:
        self.payload = payload


def library_application(url: str, directory: Path, name: str) -> Application[Any]:
    """The library's application on a fresh database of the same kind."""
    if url.startswith("sqlite"):
        env = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(directory / f"{name}.db")}
    else:
        env = {"PERSISTENCE_MODULE": "eventsourcing.postgres", **postgres_environment(url), "POSTGRES_SCHEMA": "public"}
    library = type(name.title().replace("-", ""), (Application,), {"name": name.replace("-", "_"), "env": env})
    application: Application[Any] = library()
    return application


def postgres_environment(url: str) -> dict[str, str]:
    """A libpq URL as the library's environment variables."""
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(url)
    return {
        "POSTGRES_DBNAME": str(parts["dbname"]),
        "POSTGRES_HOST": str(parts["host"]),
        "POSTGRES_PORT": str(parts.get("port") or 5432),
        "POSTGRES_USER": str(parts["user"]),
        "POSTGRES_PASSWORD": str(parts.get("password") or ""),
    }


class RawTable:
    """A table with the log's columns, written with bare multi-row inserts."""

    def __init__(self, url: str, directory: Path, name: str) -> None:
        self._position = 0
        self._is_sqlite = url.startswith("sqlite")
        if self._is_sqlite:
            self._connection: Any = sqlite3.connect(directory / f"{name}.db", isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
        else:
            import psycopg

            self._connection = psycopg.connect(url, autocommit=True)
            self._connection.execute("SET synchronous_commit = on")
        blob = "BLOB" if self._is_sqlite else "bytea"
        self._name = name.replace("-", "_")
        self._connection.execute(
            f"CREATE TABLE {self._name} (position bigint PRIMARY KEY, stream_id text, version bigint, topic text,"
            f" schema_version int, recorded_at_ns bigint, command_id {blob}, command_index int, meta text, state text,"
            f" leaf_hash {blob}, chain_hash {blob})"
        )

    def put(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows by one statement, which commits unless a transaction was begun."""
        mark = "?" if self._is_sqlite else "%s"
        one = "(" + ", ".join([mark] * ROW_COLUMNS) + ")"
        statement = f"INSERT INTO {self._name} VALUES " + ", ".join([one] * len(rows))
        self._connection.execute(statement, [item for row in rows for item in row])

    def put_all(self, pages: Iterable[list[tuple[Any, ...]]]) -> None:
        """Insert pages of rows in one transaction."""
        self._connection.execute("BEGIN")
        for rows in pages:
            self.put(rows)
        self._connection.execute("COMMIT")

    def insert(self, rows: int, state: str, meta: str) -> float:
        """The seconds of one durable commit of rows."""
        values = []
        for _ in range(rows):
            self._position += 1
            command_id = self._position.to_bytes(16, "big")
            values.append(
                (self._position, f"intent:{self._position:032d}", 1, "IntentCreated", 1, time.time_ns(), command_id, 0,
                 meta, state, bytes(32), bytes(32))
            )  # fmt: skip
        began = time.perf_counter()
        self.put(values)
        return time.perf_counter() - began

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


RAW_COLUMNS = (
    "position, stream_id, version, topic, schema_version, recorded_at_ns, command_id, command_index, meta, state,"
    " leaf_hash, chain_hash"
)
PAGE_ROWS = 1_000


def raw_pages(url: str, schema: str) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of a log as the driver returns them, in pages by position."""
    if url.startswith("sqlite"):
        connection: Any = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        statement = f"SELECT {RAW_COLUMNS} FROM log WHERE position > ? ORDER BY position LIMIT {PAGE_ROWS}"
    else:
        import psycopg

        connection = psycopg.connect(url, autocommit=True)
        statement = f'SELECT {RAW_COLUMNS} FROM "{schema}".log WHERE position > %s ORDER BY position LIMIT {PAGE_ROWS}'
    with closing(connection):
        cursor, after = connection.cursor(), 0
        while rows := cursor.execute(statement, (after,)).fetchall():
            after = rows[-1][0]
            yield rows


def write_rows(pages: Iterable[list[tuple[Any, ...]]], path: Path) -> None:
    """Write raw rows to a file."""
    with path.open("wb") as file:
        for rows in pages:
            file.write(pickle.dumps(rows))


def hash_rows(pages: Iterable[list[tuple[Any, ...]]]) -> bytes:
    """The chain hash at the end of raw rows; computes leaf and chain of each, and nothing else."""
    number, length, chain = struct.Struct(">IQ").pack, struct.Struct(">I").pack, bytes(32)
    for rows in pages:
        for position, stream_id, version, topic, schema, at_ns, command_id, index, meta, state, _, _ in rows:
            stream, kind, envelope, payload = stream_id.encode(), topic.encode(), meta.encode(), state.encode()
            leaf = sha256(
                b"".join((
                    b"\x00\x01", length(len(stream)), stream, number(8, version), length(len(kind)), kind,
                    number(8, schema), number(8, at_ns), length(len(command_id)), command_id, number(8, index),
                    length(len(envelope)), envelope, length(len(payload)), payload,
                ))
            ).digest()  # fmt: skip
            chain = sha256(b"".join((b"\x02", chain, position.to_bytes(8, "big"), leaf))).digest()
    return chain
