"""Fixtures that every tier may use."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import pytest

from tests.postgres import running_postgres


def pytest_configure(config: pytest.Config) -> None:
    """Say that there is no event loop yet: else pytest-asyncio makes one to put back, and nobody closes it."""
    asyncio.set_event_loop(None)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a real PostgreSQL server, started with the first test that asks for it."""
    with running_postgres() as url:
        yield url


@pytest.fixture
def exchange_id() -> str:
    """An exchange id that no other test uses, so that a log on a shared server is fresh."""
    return f"t-{uuid.uuid4().hex[:16]}"
