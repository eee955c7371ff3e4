"""The event-sourcing library's own test cases for recorders, run on each backend.

Its aggregate, tracking, process and factory cases do not apply: a log has no separate aggregates and no tracking table.
"""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import Any
from unittest import TestCase

import pytest
from eventsourcing.persistence import InfrastructureFactory
from eventsourcing.tests.persistence import ApplicationRecorderTestCase, NonInterleavingNotificationIDsBaseCase
from eventsourcing.utils import Environment
from psycopg.conninfo import conninfo_to_dict

from kernel.log.backends.library import LibraryRecorder
from kernel.log.engine.recorder import LogRecorder, RowQuery
from kernel.log.hashing import GENESIS, verify_rows


class Recorders(TestCase):
    """Creates recorders through the factories that `PERSISTENCE_MODULE` names, and checks each chain at the end."""

    environment: dict[str, str]

    def new_originator_id(self) -> str:
        """Return an originator id, which is text."""
        return str(uuid.uuid4())

    def create_recorder(self) -> Any:
        factory = InfrastructureFactory[Any].construct(Environment("", self.environment))
        recorder = factory.application_recorder()
        assert isinstance(recorder, LibraryRecorder)
        self.addCleanup(factory.close)
        self.addCleanup(self.check, recorder.recorder)
        return recorder

    @staticmethod
    def check(recorder: LogRecorder) -> None:
        """Check that the rows that the library wrote are gapless and hashed."""
        rows = recorder.select(RowQuery())
        assert verify_rows(rows, after=0, chain=GENESIS) == recorder.head().chain_hash
        assert len(rows) == recorder.head().position
        recorder.close()


class MemoryRecorders(Recorders):
    """In memory."""

    def setUp(self) -> None:
        self.environment = {"PERSISTENCE_MODULE": "kernel.log.backends.library:MemoryRecorderFactory"}


class SQLiteRecorders(Recorders):
    """In a file."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        name = str(Path(directory.name) / "log.db")
        self.environment = {
            "PERSISTENCE_MODULE": "kernel.log.backends.library:SQLiteRecorderFactory",
            "SQLITE_DBNAME": name,
        }


class PostgresRecorders(Recorders):
    """In a schema."""

    @pytest.fixture(autouse=True)
    def _server(self, postgres_url: str) -> None:
        server = conninfo_to_dict(postgres_url)
        self.environment = {
            "PERSISTENCE_MODULE": "kernel.log.backends.postgres_library:PostgresRecorderFactory",
            "POSTGRES_DBNAME": str(server.get("dbname") or "postgres"),
            "POSTGRES_HOST": str(server.get("host") or ""),
            "POSTGRES_PORT": str(server.get("port") or "5432"),
            "POSTGRES_USER": str(server.get("user") or ""),
            "POSTGRES_PASSWORD": str(server.get("password") or ""),
            "POSTGRES_SCHEMA": f"library_{uuid.uuid4().hex}",
        }


class TestMemoryRecorder(MemoryRecorders, ApplicationRecorderTestCase[Any]):
    """The application recorder's case in memory."""


class TestSQLiteRecorder(SQLiteRecorders, ApplicationRecorderTestCase[Any]):
    """The application recorder's case on SQLite."""


class TestPostgresRecorder(PostgresRecorders, ApplicationRecorderTestCase[Any]):
    """The application recorder's case on PostgreSQL."""


class TestMemoryNonInterleaving(MemoryRecorders, NonInterleavingNotificationIDsBaseCase):
    """Concurrent writers do not interleave in memory."""


class TestSQLiteNonInterleaving(SQLiteRecorders, NonInterleavingNotificationIDsBaseCase):
    """Concurrent writers do not interleave on SQLite."""


class TestPostgresNonInterleaving(PostgresRecorders, NonInterleavingNotificationIDsBaseCase):
    """Concurrent writers do not interleave on PostgreSQL."""


del (
    ApplicationRecorderTestCase,
    NonInterleavingNotificationIDsBaseCase,
)  # or they would be collected as tests themselves
