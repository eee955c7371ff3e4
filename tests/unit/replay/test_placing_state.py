"""Placing one order without the state of the others: it is accepted and refused as ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from kernel import events
from kernel.errors import AlreadyExistsError, ValidationError
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
from replay.log_access.log_reader import chain_at, fold
from replay.log_access.placing_state import most_open_orders, placing_state
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
        async with open_client(url, "paper", places=("mine", "BTCUSDT")) as client:
            await leader.place_order(ORDER, intent_id="later")
            assert await client.place_order(ORDER, intent_id="mine") == "mine"
            assert [intent.intent_id for intent in client.state.intents()] == ["mine"]
            assert client.state.record("mine").live_orders == leader.state.record("mine").live_orders
        async with open_client(url, "paper", places=("theirs", "BTCUSDT")) as client:
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
        assert await placing_state(log, None, intent_id="b", symbol_id="BTCUSDT") is not None
        async with open_client(url, "paper", places=("a", "BTCUSDT")) as client:
            await client.place_order(ORDER, intent_id="a", wait="recorded")
        assert await placing_state(log, None, intent_id="b", symbol_id="BTCUSDT") is None
        async with open_client(url, "paper", places=("b", "BTCUSDT")) as client:
            await client.place_order(ORDER, intent_id="b", wait="recorded")  # the first is not at the venue


async def test_limits_are_decided_on_the_whole_state(tmp_path: Path) -> None:
    """The limits of the leader count all orders."""
    url = f"sqlite:///{tmp_path}/kernel.db"
    limited = KernelSettings(limits=LimitSettings(default=Limits(open_orders_max=1)))
    async with open_kernel(url, exchange_id="paper", venue=PaperVenue(seed=1), settings=limited) as leader:
        await leader.wait_ready()
        await leader.place_order(ORDER, intent_id="a")
    async with open_client(url, "paper", places=("b", "BTCUSDT")) as client:
        with pytest.raises(ValidationError, match="open_orders_max"):
            await client.place_order(ORDER, intent_id="b", wait="recorded")
