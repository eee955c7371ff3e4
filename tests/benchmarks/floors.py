"""The floors: what the database, and the event-sourcing library, do with the same bytes.

Used by the rows of the benchmark. Each is as durable as the log that it is compared with.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

ROW_COLUMNS = 12


class Wish(Aggregate):
    """An aggregate of one event, carrying a payload like ours."""

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
    """A libpq URL as the library's environment."""
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
    """A table of the log's columns, written with bare multi-row inserts."""

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

    def insert(self, rows: int, state: str, meta: str) -> float:
        """Seconds that one durable commit of so many rows takes."""
        values = []
        for _ in range(rows):
            self._position += 1
            command_id = self._position.to_bytes(16, "big")
            values.append(
                (self._position, f"intent:{self._position:032d}", 1, "IntentCreated", 1, time.time_ns(), command_id, 0,
                 meta, state, bytes(32), bytes(32))
            )  # fmt: skip
        mark = "?" if self._is_sqlite else "%s"
        one = "(" + ", ".join([mark] * ROW_COLUMNS) + ")"
        statement = f"INSERT INTO {self._name} VALUES " + ", ".join([one] * rows)
        flat = [item for row in values for item in row]
        began = time.perf_counter()
        self._connection.execute(statement, flat)
        return time.perf_counter() - began

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()
