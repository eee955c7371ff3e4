"""Commands to one intent without the state of the others: they are accepted and refused as ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from kernel import events
from kernel.errors import AlreadyExistsError, ExchangeError, NotFoundError, ValidationError
from kernel.lifecycle.decide import CancelIntent, decide
from kernel.log import Write, open_log
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.safety.limit_settings import Limits, LimitSettings
from kernel.settings import KernelSettings
from kernel.venues import PaperVenue
from kernel.venues.paper.matching.config import built_in_symbols
from projections import State, checkpoint
from projections.checkpoint import CheckpointFiles
from replay import open_kernel
from replay.host.bootstrap import open_client
from replay.log_access.command_state import CommandScope, command_state, most_open_orders
from replay.log_access.log_reader import chain_at, fold
from tests.commands import an_append
from tests.recorded import log_of, simulated

ORDER = StandardOrder(symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=100_000, price=5_000_000)


@pytest.mark.parametrize("seed", range(4))
def test_no_more_orders_are_open_than_are_counted(seed: int, tmp_path: Path) -> None:
    """From any checkpoint on, its open orders and the intents with later events are never fewer than those open."""

    recorder = simulated(seed)

    async def compare() -> None:
        log = log_of(recorder)
        head = (await log.head()).position
        whole = await fold(log, State())
        for position in range(1, head, head // 5):
            files = CheckpointFiles(tmp_path / str(position), log.log_id)
            state = await fold(log, State(), upto=position)
            files.write(checkpoint.image(state, await chain_at(log, position)))
            for symbol_id in whole.intent_symbols():
                now, then = [await most_open_orders(log, files, symbol_id, upto=end) for end in (head, position)]
                assert now >= whole.open_orders(symbol_id)
                assert then == state.open_orders(symbol_id)

    asyncio.run(compare())


async def test_it_knows_its_own_order_only(tmp_path: Path) -> None:
    """The kernel gets the venue's answer to its order, and ignores the others; a repeated id places nothing new."""
    url = f"sqlite:///{tmp_path}/kernel.db"
    async with open_kernel(url, exchange_id="paper", venue=PaperVenue(seed=1)) as leader:
        await leader.wait_ready()
        await leader.place_order(ORDER, intent_id="theirs")
        async with open_client(url, "paper", scope=CommandScope("mine", "BTCUSDT")) as client:
            await leader.place_order(ORDER, intent_id="later")
            assert await client.place_order(ORDER, intent_id="mine") == "mine"
            assert [intent.intent_id for intent in client.state.intents()] == ["mine"]
            assert client.state.record("mine").live_orders == leader.state.record("mine").live_orders
        async with open_client(url, "paper", scope=CommandScope("theirs", "BTCUSDT")) as client:
            assert await client.place_order(ORDER, intent_id="theirs") == "theirs"
            with pytest.raises(AlreadyExistsError):
                await client.place_order(structs.replace(ORDER, price=4_000_000), intent_id="theirs")
        assert len(list(leader.state.intents())) == 3


async def test_a_full_symbol_is_decided_on_the_whole_state(tmp_path: Path) -> None:
    """Where the symbol may be full, the whole log decides."""
    url = f"sqlite:///{tmp_path}/kernel.db"
    async with open_log(url, exchange_id="paper") as log:
        symbol = structs.replace(built_in_symbols()[0], max_open_orders=1)
        await log.append(an_append(writes=(Write(events.REFERENCE_STREAM, (events.SymbolObserved(symbol=symbol),)),)))
        assert await command_state(log, None, CommandScope("b", "BTCUSDT")) is not None
        async with open_client(url, "paper", scope=CommandScope("a", "BTCUSDT")) as client:
            await client.place_order(ORDER, intent_id="a", wait="recorded")
        assert await command_state(log, None, CommandScope("b", "BTCUSDT")) is None
        async with open_client(url, "paper", scope=CommandScope("b", "BTCUSDT")) as client:
            await client.place_order(ORDER, intent_id="b", wait="recorded")  # the first is not at the venue


async def test_limits_are_decided_on_the_whole_state(tmp_path: Path) -> None:
    """The limits of the leader count all orders."""
    url = f"sqlite:///{tmp_path}/kernel.db"
    limited = KernelSettings(limits=LimitSettings(default=Limits(open_orders_max=1)))
    async with open_kernel(url, exchange_id="paper", venue=PaperVenue(seed=1), settings=limited) as leader:
        await leader.wait_ready()
        await leader.place_order(ORDER, intent_id="a")
    async with open_client(url, "paper", scope=CommandScope("b", "BTCUSDT")) as client:
        with pytest.raises(ValidationError, match="open_orders_max"):
            await client.place_order(ORDER, intent_id="b", wait="recorded")
    async with open_log(url, exchange_id="paper") as log:
        assert await command_state(log, None, CommandScope("a")) is None
        assert await command_state(log, None, CommandScope("a", is_limited=False)) is not None


async def test_a_change_and_a_cancel_know_their_own_order_only(tmp_path: Path) -> None:
    """A change and a cancel reach the venue, and are refused once the order has ended; an unknown id is not found."""
    url = f"sqlite:///{tmp_path}/kernel.db"
    async with open_kernel(url, exchange_id="paper", venue=PaperVenue(seed=1)) as leader:
        await leader.wait_ready()
        for name in ("mine", "theirs"):
            await leader.place_order(ORDER, intent_id=name)
        async with open_client(url, "paper", scope=CommandScope("mine")) as client:
            await client.modify_order("mine", structs.replace(ORDER, quantity=50_000))
            assert [order.quantity for order in client.state.record("mine").live_orders] == [50_000]
            await client.cancel_order("mine")
            assert [intent.intent_id for intent in client.state.intents()] == ["mine"]
            with pytest.raises(ExchangeError, match="canceled"):
                await client.modify_order("mine", ORDER)
        async with open_client(url, "paper", scope=CommandScope("nobody")) as client:
            with pytest.raises(NotFoundError):
                await client.cancel_order("nobody")
        assert leader.state.live_intent_ids() == ["theirs"]


@pytest.mark.parametrize("seed", range(4))
def test_a_cancel_is_decided_as_on_the_whole_state(seed: int) -> None:
    """What a cancel of any intent does, or why it is refused, is the same on its own streams as on the whole log."""

    recorder = simulated(seed)

    async def compare() -> None:
        log = log_of(recorder)
        whole = await fold(log, State())
        for intent in [*whole.intents()]:
            alone = await command_state(log, None, CommandScope(intent.intent_id, is_limited=False))
            if alone is not None:
                outcomes = [outcome_of_cancel(state, intent.intent_id) for state in (whole, alone)]
                assert outcomes[0] == outcomes[1]

    asyncio.run(compare())


def outcome_of_cancel(state: State, intent_id: str) -> object:
    """Return the events of a cancel, or the text of its refusal."""
    command = CancelIntent(intent_id, 0, is_exit=state.is_exit(intent_id))
    try:
        return decide(state.record(intent_id), command)
    except ExchangeError as refusal:
        return str(refusal)
