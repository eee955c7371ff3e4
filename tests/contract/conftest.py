"""The backends, and the paper exchange in both its forms, as fixtures."""

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


@pytest.fixture(params=["in-process", "wire"])
async def make_world(request: pytest.FixtureRequest) -> AsyncIterator[MakeWorld]:
    """Makes an exchange of the form under test; ids are counted from 1."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(faults: Any = None, tape: Any = None, **config: Any) -> PaperWorld:
            given = PaperConfig(**({"first_id": 1} | config))
            world = PaperWorld(request.param, CLOCK, config=given, faults=faults, tape=tape)
            return await stack.enter_async_context(world)

        yield make


@pytest.fixture
async def world(make_world: MakeWorld) -> PaperWorld:
    """An exchange as it comes."""
    return await make_world()


@pytest.fixture
async def venue(world: PaperWorld) -> PaperVenue:
    """A connected venue."""
    return await world.venue()
