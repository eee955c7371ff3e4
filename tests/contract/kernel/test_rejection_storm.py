"""Many intents refused alike: the symbol's orders wait until the finding is resolved; all else goes on."""

from __future__ import annotations

import asyncio

import pytest

from kernel.clock import LoopClock, SeededIds
from kernel.errors import ExchangeError, Rejected
from kernel.models import FindingKind, OrdStatus, ReconciliationStatus
from replay import open_kernel
from tests.contract.kernel.test_pause import statuses
from tests.desk import Desk, a_desk, settled
from tests.orders import buy

virtual_time = pytest.mark.looptime
NO_FUNDS = Rejected("insufficient balance of 3.2", code="FUNDS")


async def refused(desk: Desk, count: int, refusal: Rejected = NO_FUNDS) -> None:
    """So many different intents are refused."""
    desk.exchange.script.refusal = refusal
    for _ in range(count):
        with pytest.raises(ExchangeError):
            await desk.kernel.place_order(buy())
    desk.exchange.script.refusal = None


async def waits(desk: Desk) -> bool:
    """Whether one more order is not sent."""
    before = len(desk.exchange.truth)
    await desk.kernel.place_order(buy(), wait="recorded")
    await asyncio.sleep(1)
    return len(desk.exchange.truth) == before


def storms(desk: Desk) -> list[str]:
    return [
        item.text
        for item in desk.kernel.state.findings()
        if item.kind is FindingKind.STORM and item.resolved_at_ns is None
    ]


@virtual_time
async def test_equal_rejections_stop_a_symbol_until_it_is_resolved() -> None:
    """The finding has cause and remedy; waiting orders are sent once it is resolved, and counting starts anew."""
    async with a_desk(storm_rejections=3) as desk:
        working = await desk.kernel.place_order(buy())
        await refused(desk, 2)
        assert not await waits(desk)
        await refused(desk, 1)
        assert await waits(desk)
        (text,) = storms(desk)
        assert "FUNDS" in text
        assert "orderctl resolve --finding STORM:S" in text
        await desk.kernel.cancel_order(working)
        assert (await desk.kernel.health_check())["ready"]
        await asyncio.sleep(100)

        await desk.kernel.resolve_finding("STORM:S", evidence="deposited", actor="operator:ann")
        await asyncio.sleep(1)
        assert statuses(desk) == [OrdStatus.CANCELED, OrdStatus.NEW, OrdStatus.NEW]
        await refused(desk, 2)
        assert not await waits(desk)


@virtual_time
async def test_different_reasons_or_intents_or_times_are_no_storm() -> None:
    """Only equal rejections count, of different intents, within the window; a later time begins a count of its own."""
    async with a_desk(storm_rejections=3, storm_window_s=10) as desk:
        await refused(desk, 2)
        await refused(desk, 2, Rejected("price too far", code="PRICE"))
        await asyncio.sleep(11)
        await refused(desk, 1)
        desk.exchange.script.refusal = NO_FUNDS
        (intent_id,) = [item.intent_id for item in desk.kernel.state.intents()][-1:]
        for quantity in (3, 4, 5):
            with pytest.raises(ExchangeError):
                await desk.kernel.modify_order(intent_id, buy(quantity))
        desk.exchange.script.refusal = None
        assert not await waits(desk)
        assert storms(desk) == []


@virtual_time
async def test_temporary_rejections_are_no_storm() -> None:
    """A halted symbol rejects temporarily: that does not count."""
    async with a_desk(storm_rejections=2) as desk:
        desk.exchange.script.refusal = Rejected("halted", code="HALTED", retry_after_s=1)
        for _ in range(5):
            await desk.kernel.place_order(buy(), wait="recorded")
        await asyncio.sleep(5)
        desk.exchange.script.refusal = None
        await asyncio.sleep(60)
        assert statuses(desk) == [OrdStatus.NEW] * 5


@virtual_time
async def test_zero_rejections_disable_the_storm() -> None:
    """With 0 nothing is ever stopped."""
    async with a_desk(storm_rejections=0) as desk:
        await refused(desk, 30)
        assert not await waits(desk)


@virtual_time
async def test_a_storm_outlives_the_leader() -> None:
    """A storm is folded from the log, so the next leader holds the symbol too."""
    async with a_desk(storm_rejections=3) as desk:
        await refused(desk, 3)
        await desk.kernel.stop()
        async with open_kernel(desk.log, clock=LoopClock(), ids=SeededIds(9)) as other:
            assert "S" in other.state.trading_status.storms
        await desk.kernel.start()
        await desk.kernel.wait_ready(60)
        assert await waits(desk)
        assert len(storms(desk)) == 1


@virtual_time
async def test_a_stopped_submit_has_no_attempt() -> None:
    """A waiting submit has no attempt in the log, and shows its reason."""
    async with a_desk(storm_rejections=2) as desk:
        await refused(desk, 2)
        intent_id = await desk.kernel.place_order(buy(), wait="recorded")
        await settled()
        assert await desk.topics(intent_id) == ["IntentCreated"]
        assert desk.kernel.state.order_state(intent_id) is None
        with pytest.raises(ExchangeError, match="insufficient"):
            await desk.kernel.place_order(buy(), intent_id=next(iter(desk.kernel.state.intents())).intent_id)
        failed = [item.reconciliation_status for item in desk.kernel.state.order_states()]
        assert failed == [ReconciliationStatus.FAILED] * 2
