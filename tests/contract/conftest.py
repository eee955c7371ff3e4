"""Fixtures: the log's backends, and the paper exchange in process and over a socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kernel.log import EventLog
from kernel.venues import PaperConfig, PaperVenue
from tests.contract.backends import Backend, MemoryBackend, PostgresBackend, SQLiteBackend
from tests.contract.venue_worlds import CLOCK, MakeWorld
from tests.paper_world import PaperWorld


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, exchange_id: str, tmp_path: Path) -> Backend:
    """A new store of each backend."""
    if request.param == "memory":
        return MemoryBackend(exchange_id)
    return _database(request, exchange_id, tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, exchange_id: str, tmp_path: Path) -> SQLiteBackend | PostgresBackend:
    """A new store of each backend with a database."""
    return _database(request, exchange_id, tmp_path)


def _database(request: pytest.FixtureRequest, exchange_id: str, tmp_path: Path) -> SQLiteBackend | PostgresBackend:
    if request.param == "sqlite":
        return SQLiteBackend(exchange_id, tmp_path / "log.db")
    return PostgresBackend(exchange_id, request.getfixturevalue("postgres_url"))


@pytest.fixture
async def log(backend: Backend) -> AsyncIterator[EventLog]:
    """A log on each backend, with its first event."""
    async with backend.open() as log:
        yield log


@pytest.fixture(params=["in-process", "wire"])
async def make_world(request: pytest.FixtureRequest) -> AsyncIterator[MakeWorld]:
    """A factory of exchanges of the form under test; ids count from 1."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(faults: Any = None, tape: Any = None, **config: Any) -> PaperWorld:
            settings = PaperConfig(**({"first_id": 1} | config))
            world = PaperWorld(request.param, CLOCK, config=settings, faults=faults, tape=tape)
            return await stack.enter_async_context(world)

        yield make


@pytest.fixture
async def world(make_world: MakeWorld) -> PaperWorld:
    """An exchange with default settings."""
    return await make_world()


@pytest.fixture
async def venue(world: PaperWorld) -> PaperVenue:
    """A connected venue."""
    return await world.venue()
