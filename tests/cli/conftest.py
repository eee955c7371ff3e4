"""Fixtures of the CLI tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel import events, open_log
from kernel.clock import SeededIds
from kernel.log import Append, Write
from kernel.models import Evidence
from kernel.venues.paper.matching.config import built_in_assets, built_in_symbols
from tests.cli.world import Desk, World


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the developer's `ORDERCTL_…` variables."""
    import os

    for name in list(os.environ):
        if name.startswith("ORDERCTL_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A log led by a kernel in its own process."""
    world = World(f"sqlite:///{tmp_path_factory.mktemp('live') / 'kernel.db'}")
    with world.leader():
        yield world


@pytest.fixture
def idle(tmp_path: Path) -> World:
    """A log with symbols and without a leader."""
    world = World(f"sqlite:///{tmp_path / 'kernel.db'}")
    asyncio.run(observe_markets(world.url))
    return world


async def observe_markets(url: str) -> None:
    """Record the symbols of the paper exchange."""
    made = [
        *(events.AssetObserved(asset=asset) for asset in built_in_assets()),
        *(events.SymbolObserved(symbol=symbol) for symbol in built_in_symbols()),
    ]
    async with open_log(url, exchange_id="paper") as log:
        write = Write(events.REFERENCE_STREAM, tuple(made))
        await log.append(Append(SeededIds().command_id(0), (write,), "venue:paper", Evidence.QUERY, is_fact=True))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A paper exchange and a ready kernel, each in its own process."""
    world = World(f"sqlite:///{tmp_path / 'kernel.db'}")
    journal = str(tmp_path / "exchange.journal")
    with world.child("paper-exchange", "--journal", journal, "--speed", "step") as exchange:
        address = exchange.out.get(timeout=120)
        assert address is not None
        with world.leader("--address", address) as kernel:
            yield Desk(world, kernel, address)
