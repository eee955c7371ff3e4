"""Brackets whose parents fill in three parts, with the kernel killed between them, on both databases."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kernel import events
from kernel.controller import EventSourcedKernel
from kernel.log import open_log
from kernel.models import AttemptKind, Finding
from kernel.order_spec import OcoMode, OrderType, Side, StandardOrder, StandardOrderGroup
from projections import State
from replay import open_kernel
from tests.integration.conftest import FIRST_ON_POSTGRESQL, FIRST_ON_SQLITE
from tests.integration.world import World

PARENT, PROFIT, LOSS = "parent", "profit", "loss"
CHILDREN = (PROFIT, LOSS)
LOT = 10_000
PARTS = (3 * LOT, 2 * LOT, 5 * LOT)
ENTRY, EXITS = 6_000_000, (6_900_000, 7_000_000)
BRACKET = StandardOrderGroup(
    mode=OcoMode.ONE_TRIGGERS_OTHER,
    orders=tuple(
        StandardOrder(symbol_id="BTCUSDT", side=side, order_type=OrderType.LIMIT, quantity=sum(PARTS), price=price)
        for side, price in ((Side.BUY, ENTRY), (Side.SELL, EXITS[0]), (Side.SELL, EXITS[1]))
    ),
)
STOP = 5_900_000
PROTECTED = StandardOrderGroup(
    mode=OcoMode.ONE_TRIGGERS_OTHER,
    orders=(
        *BRACKET.orders[:2],
        StandardOrder(
            symbol_id="BTCUSDT", side=Side.SELL, order_type=OrderType.STOP, quantity=sum(PARTS), stop_price=STOP
        ),
    ),
)
OPEN = ("NEW", "PARTIALLY_FILLED")


@pytest.fixture
async def world(log_url: str, exchange_id: str, tmp_path: Path) -> AsyncIterator[World]:
    """An exchange without market trades, and a leading kernel, as processes."""
    async with World(log_url, exchange_id, tmp_path, speed="step", maker_fee_bps=0) as running:
        yield running


@pytest.fixture
async def poor_world(log_url: str, exchange_id: str, tmp_path: Path) -> AsyncIterator[World]:
    """An exchange with its default fees, where the account has nothing of the base asset, and a leading kernel."""
    balances = {"USDT": 10**14}
    async with World(log_url, exchange_id, tmp_path, speed="step", symbols="full", balances=balances) as running:
        yield running


@FIRST_ON_SQLITE
async def test_the_children_never_exceed_what_the_parent_filled(world: World) -> None:
    """At each step, killed at three kinds of moments, the children have at most what the parent has filled."""
    async with open_kernel(world.url, exchange_id=world.exchange_id) as strategy:
        await strategy.place_order_group(BRACKET, group_id="bracket", intent_ids=(PARENT, *CHILDREN))
        assert await children_at_venue(world) == (0, 0)

        await world.kernel.kill()
        await world.traded(ENTRY - 1, PARTS[0])
        await goes_on(world, strategy, filled=PARTS[0])

        async with killed_at(world, strategy, lambda event: is_fill_of(PARENT, event)):
            await world.traded(ENTRY - 1, PARTS[1])
        await goes_on(world, strategy, filled=sum(PARTS[:2]))

        async with killed_at(world, strategy, lambda event: is_attempt_of(CHILDREN, event)):
            await world.traded(ENTRY - 1, PARTS[2])
        await goes_on(world, strategy, filled=sum(PARTS))

        await undone(world, strategy)
        held_at_every_position([event async for event in history(strategy)])
        await same_when_folded_again(strategy)


@FIRST_ON_POSTGRESQL
async def test_the_stop_works_for_what_was_bought(poor_world: World) -> None:
    """Fees are taken from what is bought, and there is nothing else to sell: from the first fill on, and after each kill,
    the stop works for the rest of what was bought."""
    world = poor_world
    async with open_kernel(world.url, exchange_id=world.exchange_id) as strategy:
        await strategy.place_order_group(PROTECTED, group_id="bracket", intent_ids=(PARENT, *CHILDREN))
        await world.traded(ENTRY - 1, PARTS[0])
        await is_protected(strategy, filled=PARTS[0])

        await world.kernel.kill()
        await world.traded(ENTRY - 1, PARTS[1])
        await world.kernel.start()
        await is_protected(strategy, filled=sum(PARTS[:2]))

        async with killed_at(world, strategy, lambda event: is_attempt_of((LOSS,), event)):
            await world.traded(ENTRY - 1, PARTS[2])
        await world.kernel.start()
        await is_protected(strategy, filled=sum(PARTS))

        await world.traded(STOP - 1, LOT)
        sold = after_fees(sum(PARTS))
        await strategy.wait_until(LOSS, lambda record: record.cum_qty == sold and not record.may_be_live, timeout_s=60)
        truth = await world.truth()
        assert not [order for order in truth["orders"] if order["status"] in OPEN]
        assert not open_findings(strategy)
        await same_when_folded_again(strategy)


def after_fees(bought: int) -> int:
    """What can be sold of a bought quantity, in lots: a fee of 10 bps is taken from it."""
    return (bought - bought // 1_000) // 1_000 * 1_000


async def is_protected(strategy: EventSourcedKernel, *, filled: int) -> None:
    """Wait until the stop works for what was bought."""
    quantity = after_fees(filled)
    await strategy.wait_until(LOSS, lambda record: works_for(strategy, record.intent_id, quantity), timeout_s=60)


@asynccontextmanager
async def killed_at(
    world: World, strategy: EventSourcedKernel, holds: Callable[[events.BaseEvent], bool]
) -> AsyncIterator[None]:
    """Kill the kernel as soon as the log has an event that the block causes."""
    after = strategy.state.position
    yield
    async with asyncio.timeout(240):
        async for event in strategy.events(after=after):
            if holds(event):
                break
    await world.kernel.kill()


def is_fill_of(intent_id: str, event: events.BaseEvent) -> bool:
    return isinstance(event, events.OrderFilled) and event.intent_id == intent_id


def is_attempt_of(intent_ids: tuple[str, ...], event: events.BaseEvent) -> bool:
    return isinstance(event, events.AttemptStarted) and event.intent_id in intent_ids


async def goes_on(world: World, strategy: EventSourcedKernel, *, filled: int) -> None:
    """Check the exchange, restart the kernel, and wait until both children work for the filled quantity."""
    check_truth(await children_at_venue(world), filled)
    await world.kernel.start()
    for intent_id in CHILDREN:
        await strategy.wait_until(intent_id, lambda record: works_for(strategy, record.intent_id, filled), timeout_s=60)
    assert check_truth(await children_at_venue(world), filled) == (filled, filled)


def works_for(strategy: EventSourcedKernel, intent_id: str, quantity: int) -> bool:
    """Whether one order of an intent works for a quantity and nothing is unresolved."""
    record = strategy.state.record(intent_id)
    return not record.unresolved and [facts.quantity for facts in record.live_orders] == [quantity]


async def children_at_venue(world: World) -> tuple[int, int]:
    """Return the filled and open quantity of each child at the exchange, by its price."""
    truth = await world.truth()
    taken: Counter[int] = Counter()
    for order in truth["orders"]:
        taken[order["price"]] += order["quantity"] if order["status"] in OPEN else order["cum_qty"]
    return taken[EXITS[0]], taken[EXITS[1]]


def check_truth(children: tuple[int, int], filled: int) -> tuple[int, int]:
    """Check that no child exceeds the parent's fills at the exchange."""
    assert max(children) <= filled, f"children {children} where the parent has filled {filled}"
    return children


async def undone(world: World, strategy: EventSourcedKernel) -> None:
    """The first child fills in part while nobody leads, and then to its end: the other one is gone, nothing is held."""
    await world.kernel.kill()
    await world.traded(EXITS[0] + 1, 4 * LOT)
    await world.kernel.start()
    left = sum(PARTS) - 4 * LOT
    await strategy.wait_until(LOSS, lambda _: works_for(strategy, LOSS, left), timeout_s=60)
    await world.traded(EXITS[0] + 1, left)
    for intent_id in CHILDREN:
        await strategy.wait_until(intent_id, lambda record: not record.may_be_live, timeout_s=60)
    truth = await world.truth()
    assert sum(trade["last_qty"] if trade["side"] == "BUY" else -trade["last_qty"] for trade in truth["trades"]) == 0
    assert not [order for order in truth["orders"] if order["status"] in OPEN]
    assert [position.quantity for position in strategy.state.positions()] == [0]
    assert not open_findings(strategy)


def open_findings(strategy: EventSourcedKernel) -> list[Finding]:
    """Return what is not resolved: on a busy machine a restart takes longer than an exit may be missing unreported."""
    return [finding for finding in strategy.state.findings() if finding.resolved_at_ns is None]


async def history(strategy: EventSourcedKernel) -> AsyncIterator[events.BaseEvent]:
    """Return every event of the log."""
    head = (await strategy.log.head()).position
    async for batch in strategy.log.tail(0):
        for event in batch:
            yield event
        if batch[-1].position >= head:
            return


def held_at_every_position(recorded: list[events.BaseEvent]) -> None:
    """As the log tells it: no child was ever sent for more than the parent's fills recorded before, and never had more
    filled, alone or together."""
    filled: Counter[str] = Counter()
    submits = 0
    for event in recorded:
        if isinstance(event, events.OrderFilled):
            filled[event.intent_id] += event.last_qty
        elif is_attempt_of(CHILDREN, event):
            assert isinstance(event, events.AttemptStarted)
            submits += event.kind is AttemptKind.SUBMIT
            assert event.kind is not AttemptKind.SUBMIT or event.order.quantity <= filled[PARENT]
        assert filled[PROFIT] + filled[LOSS] <= filled[PARENT]
    assert filled == {PARENT: sum(PARTS), PROFIT: sum(PARTS)}
    assert submits >= 2 * len(PARTS), "each part makes both children larger"


async def same_when_folded_again(strategy: EventSourcedKernel) -> None:
    """Check that a fold from position 1 equals the live state."""
    async with open_log(strategy.log.url, exchange_id=strategy.exchange_id, create=False) as log:
        state = State()
        async for batch in log.tail(0):
            state.apply(batch)
            if state.position >= strategy.state.position:
                break
    await strategy.state.reached(state.position)
    for intent_id in (PARENT, *CHILDREN):
        assert state.record(intent_id) == strategy.state.record(intent_id)
    assert state.group("bracket") == strategy.state.group("bracket")
