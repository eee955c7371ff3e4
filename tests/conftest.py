"""Fixtures that every tier may use."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import running_postgres


def pytest_configure(config: pytest.Config) -> None:
    """Say that there is no event loop yet: else pytest-asyncio makes one to put back, and nobody closes it.

    A shell without job control starts background jobs with SIGINT ignored, and so would be every process that a test stops
    as Ctrl-C does. Where no bytecode may be written beside the modules, it is kept in pytest's cache: each worker and each
    process of a test would compile the project again.
    """
    asyncio.set_event_loop(None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.pluginmanager.hasplugin("cacheprovider") and os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        sys.dont_write_bytecode = False
        sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(config.cache.mkdir("bytecode"))


# No property has a stopwatch: one that holds on a busy machine is the same property. `.ci/run` looks at more examples.
settings.register_profile("quick", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("quick"), max_examples=150)
settings.load_profile("quick")

REPR_OF_AN_OBJECT = re.compile(r" at 0x[0-9a-f]{6,}")
PROCESSES = tuple(Path(__file__).parent / name for name in ("cli", "integration"))
"""Where tests start processes, and share those of their module: a file's tests run one after the other, on one worker."""


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in this hook too
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests that start processes, and refuse ids that name another object in each run."""
    for item in items:
        if REPR_OF_AN_OBJECT.search(item.nodeid):
            raise pytest.UsageError(f"{item.nodeid} has another id in the next run: give its parameter an id")
        if any(item.path.is_relative_to(folder) for folder in PROCESSES) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish() -> None:
    """The garbage collector need not look at thousands of tests and modules again while they run."""
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a real PostgreSQL server, started with the first test that asks for it."""
    with running_postgres() as url:
        yield url


@pytest.fixture
def exchange_id() -> str:
    """An exchange id that no other test uses, so that a log on a shared server is fresh."""
    return f"t-{uuid.uuid4().hex[:16]}"
