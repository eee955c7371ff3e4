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
    if request.param == "sqlite":
        return SQLiteBackend(exchange_id, tmp_path / "log.db")
    return PostgresBackend(exchange_id, request.getfixturevalue("postgres_url"))


@pytest.fixture
def database(backend: Backend) -> Backend:
    """Each backend that is a database of its own."""
    if not backend.durable:
        pytest.skip("memory has no database")
    return backend


@pytest.fixture
async def log(backend: Backend) -> AsyncIterator[EventLog]:
    """A log on the backend, with its first event in it."""
    async with backend.open() as log:
        yield log
