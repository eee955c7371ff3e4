"""Orders past their date, orders rejected after fills, and rests that the symbol does not take."""

from __future__ import annotations

import asyncio

import pytest

from kernel.clock import NS_PER_S
from kernel.errors import ValidationError
from kernel.events import TermsAccepted, intent_stream
from kernel.models import ExecType, OrdStatus, ReconciliationStatus, UnsolicitedCancelPolicy
from kernel.order_spec import OcoMode, StandardOrder, StandardOrderGroup, TimeInForce
from kernel.venues.base import AmendDialect
from tests.scenarios.field.lab import BTCUSDT, COIN, Lab, field_lab, order

pytestmark = pytest.mark.looptime
RECREATE = UnsolicitedCancelPolicy.RECREATE


def until(lab: Lab, seconds: float, **terms: int) -> StandardOrder:
    """An order that is good for some seconds from now."""
    expire_at_ns = lab.venue.clock.now_ns() + round(seconds * NS_PER_S)
    return order("BUY", terms.pop("quantity", COIN), time_in_force=TimeInForce.GTD, expire_at_ns=expire_at_ns, **terms)


@pytest.mark.parametrize("status", [OrdStatus.CANCELED, OrdStatus.EXPIRED])
@pytest.mark.parametrize("early_s", [0, 0.2])
async def test_an_order_past_its_date_is_not_placed_again(status: OrdStatus, early_s: float) -> None:
    """However the venue reports the end at its date, or a little before, RECREATE places nothing after it."""
    async with field_lab() as lab:
        await lab.kernel.place_order(until(lab, 60), intent_id="a", on_unsolicited_cancel=RECREATE)
        (item,) = lab.venue.open_orders()
        lab.venue.fill(item, COIN // 4)
        await asyncio.sleep(60 - early_s - lab.venue.clock.now_ns() % NS_PER_S / NS_PER_S)
        lab.venue.end(item, status)
        await asyncio.sleep(100)
        state = await lab.kernel.get_order_state("a")
        assert lab.venue.count("submit") == 1
        assert (state.status.ord_status, state.reconciliation_status) == (status, ReconciliationStatus.SYNCED)


async def test_an_order_that_ends_before_its_date_is_placed_again() -> None:
    """Long before its date, an end by the venue is no end of the order's own."""
    async with field_lab() as lab:
        await lab.kernel.place_order(until(lab, 600), intent_id="a", on_unsolicited_cancel=RECREATE)
        lab.venue.end(lab.venue.open_orders()[0], OrdStatus.EXPIRED, text="maintenance")
        await asyncio.sleep(5)
        assert len(lab.venue.open_orders()) == 1


async def test_a_date_that_has_passed_is_refused() -> None:
    """Neither a new order, nor a change, nor a group may have a date that has passed; repeating a command still may."""
    async with field_lab() as lab:
        with pytest.raises(ValidationError, match=r"expire_at_ns 20.*Z has passed"):
            await lab.kernel.place_order(until(lab, -1))
        orders = (order("BUY", COIN), until(lab, 0))
        with pytest.raises(ValidationError, match="has passed"):
            await lab.kernel.place_order_group(StandardOrderGroup(orders=orders, mode=OcoMode.ONE_CANCELS_OTHER))
        known = until(lab, 10)
        await lab.kernel.place_order(known, intent_id="a")
        with pytest.raises(ValidationError, match="has passed"):
            await lab.kernel.modify_order("a", until(lab, -1))
        await asyncio.sleep(20)
        assert await lab.kernel.place_order(known, intent_id="a", wait="recorded") == "a"


async def test_nothing_is_submitted_after_its_date() -> None:
    """An order that could not be sent before its date is rejected locally, and its status is terminal."""
    async with field_lab() as lab:
        await lab.kernel.pause(reason="maintenance")
        await lab.kernel.place_order(until(lab, 10), intent_id="a", wait="recorded")
        await asyncio.sleep(20)
        await lab.kernel.resume()
        await asyncio.sleep(5)
        assert lab.venue.count("submit") == 0
        assert (await lab.kernel.get_order_state("a")).status.ord_status is OrdStatus.REJECTED


async def test_an_order_rejected_after_fills_has_ended() -> None:
    """A rest that is rejected gives a terminal status, and the wait for one ends."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a")
        (item,) = lab.venue.open_orders()
        lab.venue.fill(item, COIN // 4)
        lab.venue.end(item, OrdStatus.REJECTED, text="margin")
        await asyncio.sleep(5)
        state = await lab.kernel.get_order_state("a")
        assert (state.status.ord_status, state.status.cum_qty) == (OrdStatus.REJECTED, COIN // 4)
        assert state.reconciliation_status is ReconciliationStatus.FAILED
        lab.venue.fill(item, COIN // 4)  # law 5: it counts, the status stays
        await asyncio.sleep(5)
        state = await lab.kernel.get_order_state("a")
        assert (state.status.ord_status, state.status.cum_qty) == (OrdStatus.REJECTED, COIN // 2)


@pytest.mark.parametrize(
    ("filled", "placed"),
    [(40_000_500, 59_999_000), (COIN - 500, None), (COIN - 2_000, None)],
    ids=["off the lot", "less than a lot", "below the minimum notional"],
)
async def test_of_a_rest_off_the_lot_what_fits_is_placed(filled: int, placed: int | None) -> None:
    """RECREATE rounds an odd rest down to the lot; if nothing is left of it, the order is done, and the log says why."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a", on_unsolicited_cancel=RECREATE)
        (item,) = lab.venue.open_orders()
        lab.venue.fill(item, filled)
        lab.venue.end(item, OrdStatus.CANCELED)
        await asyncio.sleep(10)
        assert [item.quantity for item in lab.venue.open_orders()] == ([placed] if placed else [])
        state = await lab.kernel.get_order_state("a")
        assert state.reconciliation_status is ReconciliationStatus.SYNCED
        (accepted,) = [e for e in await lab.log.read_stream(intent_stream("a")) if isinstance(e, TermsAccepted)]
        assert accepted.quantity == filled + (placed or 0)
        assert "lot size" in accepted.text or "minimum" in accepted.text
        if placed is None:
            assert state.status.ord_status is OrdStatus.CANCELED
            return
        lab.venue.fill(lab.venue.open_orders()[0], placed)
        await asyncio.sleep(10)
        assert (await lab.kernel.get_order_state("a")).status.ord_status is OrdStatus.FILLED
        assert lab.venue.count("submit") == 2


@pytest.mark.parametrize("amend", [AmendDialect.NONE, AmendDialect.IN_PLACE])
async def test_a_change_that_leaves_an_odd_rest_works_what_fits(amend: AmendDialect) -> None:
    """A change of a partly filled order rounds its rest down to the lot, and does not fail."""
    async with field_lab(amend=amend) as lab:
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a")
        lab.venue.fill(lab.venue.open_orders()[0], 40_000_500)
        await asyncio.sleep(1)
        await lab.kernel.modify_order("a", order("BUY", COIN, 5_900_000), wait="recorded")
        await asyncio.sleep(5)
        (item,) = lab.venue.open_orders()
        assert (item.price, item.quantity - item.cum_qty) == (5_900_000, 59_999_000)
        assert (await lab.kernel.get_order_state("a")).reconciliation_status is ReconciliationStatus.SYNCED


@pytest.mark.parametrize("amend", [AmendDialect.NONE, AmendDialect.IN_PLACE])
async def test_a_change_that_leaves_less_than_the_minimum_is_done(amend: AmendDialect) -> None:
    """A change to a total of which too little is left cancels the rest, and the order is done."""
    async with field_lab(amend=amend) as lab:
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a")
        lab.venue.fill(lab.venue.open_orders()[0], COIN // 2)
        await asyncio.sleep(1)
        await lab.kernel.modify_order("a", order("BUY", COIN // 2 + BTCUSDT.lot_size), wait="recorded")
        await asyncio.sleep(5)
        state = await lab.kernel.get_order_state("a")
        assert not lab.venue.open_orders()
        assert (state.status.ord_status, state.reconciliation_status) == (
            OrdStatus.CANCELED,
            ReconciliationStatus.SYNCED,
        )


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("told_s", [None, 0, -3_600])
async def test_a_bust_whose_time_tells_nothing(told_s: int | None, ends: bool) -> None:
    """A bust with the time of its trade, an older one or none leaves no total that includes the trade; the rest works."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a", on_unsolicited_cancel=RECREATE)
        (item,) = lab.venue.open_orders()
        await asyncio.sleep(5)
        busted = lab.venue.fill(item, COIN // 4)
        await asyncio.sleep(20)
        lab.venue.fill(item, COIN // 8)
        await asyncio.sleep(20)
        item.cum_qty -= COIN // 4
        time_ns = None if told_s is None else (busted.transact_time_ns or 0) + told_s * NS_PER_S
        fields = {"fill_key": "bust", "ref_fill_key": busted.fill_key, "cum_qty": None, "transact_time_ns": time_ns}
        lab.venue.trades.remove(busted)
        lab.venue.tell(lab.venue.report(item, ExecType.TRADE_CANCEL, **fields))
        await asyncio.sleep(1)
        if ends:
            lab.venue.end(item, OrdStatus.CANCELED)
        await asyncio.sleep(100)
        assert await lab.position() == COIN // 8
        state = await lab.kernel.get_order_state("a")
        assert (state.status.cum_qty, state.status.leaves_qty) == (COIN // 8, COIN - COIN // 8)
        assert state.reconciliation_status is ReconciliationStatus.SYNCED
