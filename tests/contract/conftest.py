"""The backends as fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kernel.log import EventLog
from tests.contract.backends import Backend, MemoryBackend, PostgresBackend, SQLiteBackend


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, exchange_id: str, tmp_path: Path) -> Backend:
    """Each backend in turn, fresh."""
    if request.param == "memory":
        return MemoryBackend(exchange_id)
    return _database(request, exchange_id, tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, exchange_id: str, tmp_path: Path) -> SQLiteBackend | PostgresBackend:
    """Each backend that is a database of its own."""
    return _database(request, exchange_id, tmp_path)


def _database(request: pytest.FixtureRequest, exchange_id: str, tmp_path: Path) -> SQLiteBackend | PostgresBackend:
    if request.param == "sqlite":
        return SQLiteBackend(exchange_id, tmp_path / "log.db")
    return PostgresBackend(exchange_id, request.getfixturevalue("postgres_url"))


@pytest.fixture
async def log(backend: Backend) -> AsyncIterator[EventLog]:
    """A log on the backend, with its first event in it."""
    async with backend.open() as log:
        yield log
