"""While it is paused, nothing is sent; commands are recorded and carried out on resume. All together, or one intent."""

from __future__ import annotations

import asyncio

import pytest

from kernel import events
from kernel.clock import LoopClock, SeededIds
from kernel.errors import NotFoundError
from kernel.log.engine.records import event_of
from kernel.models import OrdStatus, ReconciliationStatus
from replay import open_kernel
from tests.desk import Desk, a_desk, settled
from tests.orders import buy

virtual_time = pytest.mark.looptime


def statuses(desk: Desk) -> list[OrdStatus]:
    return [order.status for order in desk.exchange.truth]


@virtual_time
async def test_a_pause_of_all_holds_orders_and_cancels() -> None:
    """Commands are recorded under a pause and sent on resume; the pause has actor and reason."""
    async with a_desk() as desk:
        works = await desk.kernel.place_order(buy())
        assert await desk.kernel.pause(reason="maintenance")
        assert not await desk.kernel.pause(reason="again")
        await desk.kernel.place_order(buy(), intent_id="later", wait="recorded")
        await desk.kernel.cancel_order(works, wait="recorded")
        await asyncio.sleep(100)
        assert statuses(desk) == [OrdStatus.NEW]
        (condition,) = [item for item in (await desk.kernel.health_check())["conditions"] if not item["status"]]
        assert (condition["type"], condition["message"]) == ("NOT_PAUSED", "strategy:test: maintenance")

        assert await desk.kernel.resume()
        assert not await desk.kernel.resume()
        await desk.kernel.wait_ready(1)
        await asyncio.sleep(1)
        assert statuses(desk) == [OrdStatus.CANCELED, OrdStatus.NEW]
        paused = [row async for page in desk.log.read() for row in page if row.topic in ("Paused", "Resumed")]
        assert [event_of(row).actor for row in paused] == ["strategy:test", "strategy:test"]


@virtual_time
async def test_a_pause_of_one_intent_holds_only_that() -> None:
    """The others go on; its own cancel waits for the resume."""
    async with a_desk() as desk:
        held = await desk.kernel.place_order(buy())
        assert await desk.kernel.pause(held, reason="look at it", actor="operator:ann")
        assert not await desk.kernel.pause(held)
        assert (await desk.kernel.get_order_state(held)).reconciliation_status is ReconciliationStatus.PAUSED
        await desk.kernel.cancel_order(held, wait="recorded")
        await desk.kernel.place_order(buy())
        await asyncio.sleep(100)
        assert statuses(desk) == [OrdStatus.NEW, OrdStatus.NEW]
        (event,) = [item for item in await desk.log.read_stream(events.intent_stream(held)) if item.topic == "Paused"]
        assert (event.actor, getattr(event, "reason", "")) == ("operator:ann", "look at it")

        assert await desk.kernel.resume(held)
        assert not await desk.kernel.resume(held)
        await asyncio.sleep(1)
        assert statuses(desk) == [OrdStatus.CANCELED, OrdStatus.NEW]


@virtual_time
async def test_fills_are_recorded_under_a_pause() -> None:
    """Orders at the venue go on, and their fills are recorded."""
    async with a_desk() as desk:
        intent_id = await desk.kernel.place_order(buy(2))
        await desk.kernel.pause(intent_id)
        await desk.kernel.pause()
        desk.exchange.fill("#0", 2)
        await settled()
        assert (await desk.kernel.get_order_state(intent_id)).status.ord_status is OrdStatus.FILLED


@virtual_time
async def test_a_kernel_without_a_venue_pauses_the_leader() -> None:
    """The pause is in the log, so every leader obeys it."""
    async with (
        a_desk() as desk,
        open_kernel(desk.log, clock=LoopClock(), ids=SeededIds(9), actor="operator:bob") as other,
    ):
        await other.pause(reason="audit")
        await desk.kernel.place_order(buy(), wait="recorded")
        await asyncio.sleep(10)
        assert statuses(desk) == []
        await other.resume()
        await asyncio.sleep(1)
        assert statuses(desk) == [OrdStatus.NEW]


@virtual_time
async def test_an_unknown_intent_cannot_be_paused() -> None:
    """An unknown intent is a `NotFoundError`."""
    async with a_desk() as desk:
        for command in (desk.kernel.pause, desk.kernel.resume):
            with pytest.raises(NotFoundError, match="nobody"):
                await command("nobody")
