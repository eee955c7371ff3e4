"""`kill -9` of kernel and exchange at random moments, on SQLite and PostgreSQL, with real processes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from kernel.controller import EventSourcedKernel
from kernel.errors import KernelError
from kernel.log import open_log
from kernel.models import Desired
from kernel.order_spec import OrderType, Side, StandardOrder
from projections import State
from replay import open_kernel
from tests.integration.conftest import FIRST_ON_POSTGRESQL
from tests.integration.world import Process, World

RESTING = StandardOrder(
    symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=10_000, price=6_000_000
)
FILLS = 300
"""Fills of the strategy that is killed."""
TAKING = structs.replace(RESTING, price=6_500_000)


@pytest.fixture
async def world(log_url: str, exchange_id: str, tmp_path: Path) -> AsyncIterator[World]:
    """An exchange and a leading kernel, each a process."""
    async with World(log_url, exchange_id, tmp_path) as running:
        yield running


async def test_no_kill_loses_or_doubles_anything(world: World) -> None:
    """Whatever is killed, acknowledged orders stay and no order is sent twice."""
    acknowledged: list[str] = []
    async with open_kernel(world.url, exchange_id=world.exchange_id) as strategy:
        trading = asyncio.create_task(trade(strategy, acknowledged, orders=60))
        await kill_at_random(world, trading, seed=11)
        await trading
        await converged(strategy, acknowledged)
        truth = await world.truth()
        compare(strategy, acknowledged, truth)
    await world.kernel.kill()
    await same_when_folded_again(world, acknowledged, truth)


async def trade(strategy: EventSourcedKernel, acknowledged: list[str], *, orders: int) -> None:
    """Place resting and taking orders, and cancel every third."""
    for number in range(orders):
        order = TAKING if number % 2 else RESTING
        intent_id = await strategy.place_order(order, intent_id=f"k-{number}", ack_timeout_s=0.1)
        acknowledged.append(intent_id)
        if number % 3 == 0:
            try:
                await strategy.cancel_order(intent_id, wait="recorded")
            except KernelError:
                assert number % 2, "only an order that takes can be too late to cancel"


async def kill_at_random(world: World, trading: asyncio.Task[None], *, seed: int) -> None:
    """Kill one of the two repeatedly during trading, at seeded moments."""
    chance = random.Random(seed)
    while not trading.done():
        await asyncio.wait({trading}, timeout=chance.uniform(0.05, 0.6))
        victim = chance.choice([world.kernel, world.kernel, world.exchange])
        await victim.kill()
        await victim.start(wait=victim is world.exchange)
    await world.kernel.kill()
    await world.kernel.start()


async def converged(strategy: EventSourcedKernel, intent_ids: list[str]) -> None:
    """Wait until nothing is unresolved and every taking order is filled."""
    for intent_id in intent_ids:
        await strategy.wait_until(intent_id, lambda record: is_converged(strategy, record.intent_id), timeout_s=60)


def is_converged(strategy: EventSourcedKernel, intent_id: str) -> bool:
    record = strategy.state.record(intent_id)
    if record.intent is None or record.unresolved:
        return False
    if any(facts.final_cum_qty is None and not facts.live for facts in record.orders):
        return False
    if record.intent.desired is Desired.CANCELED:
        return not record.live_orders
    wants_all = record.intent.order.price == TAKING.price
    return record.cum_qty == TAKING.quantity if wants_all else len(record.live_orders) == 1


def compare(strategy: EventSourcedKernel, acknowledged: list[str], truth: dict[str, Any]) -> None:
    """Check that log and exchange agree on every order and trade."""
    orders_of = Counter(item["client_order_id"] for item in truth["orders"])
    assert max(orders_of.values()) == 1, "a client order id made two orders"
    for intent_id in acknowledged:
        record = strategy.state.record(intent_id)
        ids = {client_id for client_id, _ in record.sends}
        at_venue = [item for item in truth["orders"] if item["client_order_id"] in ids]
        assert len(at_venue) <= 1, f"{intent_id} has {len(at_venue)} orders at the exchange"
        assert sum(item["cum_qty"] for item in at_venue) == record.cum_qty
        assert sum(facts.traded_qty for facts in record.orders) == record.cum_qty
    known = {client_id for intent_id in acknowledged for client_id, _ in strategy.state.record(intent_id).sends}
    assert set(orders_of) <= known, "the exchange has an order that the log does not know"


async def same_when_folded_again(world: World, acknowledged: list[str], truth: dict[str, Any]) -> None:
    """Check that a fold from position 1 equals the live state."""
    async with open_kernel(world.url, exchange_id=world.exchange_id) as live:
        async with open_log(world.url, exchange_id=world.exchange_id) as log:
            state = State()
            async for batch in log.tail(0):
                state.apply(batch)
                if state.position == live.state.position:
                    break
        for intent_id in acknowledged:
            assert state.record(intent_id) == live.state.record(intent_id)
        compare(live, acknowledged, truth)


@FIRST_ON_POSTGRESQL
async def test_a_strategy_has_each_fill_once(world: World, tmp_path: Path) -> None:
    """A strategy killed twice resumes from its last position, and has each of its fills once."""
    book = tmp_path / "book.txt"
    strategy = Process("tests.integration.strategy", world.url, world.exchange_id, str(FILLS), str(book))
    for killed_after in (FILLS // 7, FILLS // 2):
        await strategy.start(wait=False)
        await lines_in(book, killed_after)
        await strategy.kill()
    await strategy.start(wait=False)

    assert await asyncio.wait_for(strategy.ended(), 240) == 0
    keys = [line.split()[1] for line in lines_of(book)]
    truth = await world.truth()
    assert len(keys) == len(set(keys)) == FILLS
    assert len(truth["trades"]) == FILLS
    assert len(truth["orders"]) == FILLS


async def lines_in(path: Path, count: int) -> None:
    """Wait until a file has a number of lines."""
    async with asyncio.timeout(120):
        while len(lines_of(path)) < count:
            await asyncio.sleep(0.02)


def lines_of(path: Path) -> list[str]:
    """Return the complete lines that another process has written."""
    return path.read_text().split("\n")[:-1] if path.exists() else []
