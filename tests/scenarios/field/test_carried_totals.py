"""An order that replaces another may carry its CumQty on (FIX) or begin at 0: no fill counts twice."""

from __future__ import annotations

import asyncio

import pytest

from kernel.errors import OutcomeUnknown
from kernel.models import ExecType, OrderState, OrdStatus, ReconciliationStatus
from kernel.venues.base import AmendDialect, AmendQuantity, ExecutionReport, ModifyRequest
from tests.scenarios.field.lab import COIN, FieldOrder, Lab, field_lab, order, paper_lab

pytestmark = pytest.mark.looptime
LOT = COIN // 10


def replaced(lab: Lab, request: ModifyRequest, *, carries: bool, **fields: object) -> ExecutionReport:
    """The venue replaces the target by a new order, and counts what it filled in the new one's totals, or does not."""
    old = lab.venue.target(request)
    old.open, old.status = False, OrdStatus.CANCELED
    filled = old.cum_qty
    total = request.order.quantity if carries else request.order.quantity - filled
    made = FieldOrder(f"r{old.id}", request.client_order_id, request.order, total, request.order.price)
    made.cum_qty = filled if carries else 0
    made.status = OrdStatus.PARTIALLY_FILLED if made.cum_qty else OrdStatus.NEW
    lab.venue.orders["BTCUSDT", made.id] = made
    return lab.venue.report(made, ExecType.REPLACED, orig_client_order_id=old.client_order_id, **fields)


async def state(lab: Lab) -> OrderState:
    return await lab.kernel.get_order_state("o")


async def is_worked(lab: Lab, quantity: int, filled: int) -> FieldOrder:
    """One order works, and what it and the others filled adds up."""
    found = await state(lab)
    assert (found.status.order.quantity, found.status.cum_qty) == (quantity, filled)
    assert found.status.leaves_qty == quantity - filled
    assert found.reconciliation_status is ReconciliationStatus.SYNCED
    assert await lab.position() == filled
    (working,) = lab.venue.open_orders()
    return working


@pytest.mark.parametrize("lookup", [True, False])
@pytest.mark.parametrize(("carries", "declared"), [(True, True), (True, False), (False, False)])
async def test_the_fills_before_a_replace_count_once(carries: bool, declared: bool, lookup: bool) -> None:
    """Also through a second replace, a late fill of the replaced order, and to the end."""
    dialect = {"amend": AmendDialect.CANCEL_REPLACE, "replace_keeps_cum_qty": declared, "lookup": lookup}
    async with field_lab(**dialect) as lab:
        lab.venue.on_modify = lambda request: replaced(lab, request, carries=carries)
        await lab.kernel.place_order(order(quantity=10 * LOT), intent_id="o")
        await asyncio.sleep(5)
        (first,) = lab.venue.open_orders()
        lab.venue.fill(first, 3 * LOT)
        await asyncio.sleep(5)
        await lab.kernel.modify_order("o", order(quantity=10 * LOT, price=5_900_000))
        await asyncio.sleep(200)
        working = await is_worked(lab, 10 * LOT, 3 * LOT)
        lab.venue.fill(working, 2 * LOT)
        await asyncio.sleep(5)
        await lab.kernel.modify_order("o", order(quantity=12 * LOT, price=5_800_000))
        await asyncio.sleep(200)
        working = await is_worked(lab, 12 * LOT, 5 * LOT)
        assert working.quantity - working.cum_qty == 7 * LOT
        assert lab.venue.count("modify") == 2
        lab.venue.fill(working, 7 * LOT)
        await asyncio.sleep(100)
        found = await state(lab)
        assert (found.status.ord_status, found.status.cum_qty) == (OrdStatus.FILLED, 12 * LOT)
        assert lab.findings() == {}


@pytest.mark.parametrize("declared", [True, False])
async def test_a_fill_that_is_told_after_the_replace(declared: bool) -> None:
    """The new order's CumQty shows a fill of the old one before that is told: it is not the new order's own."""
    async with field_lab(amend=AmendDialect.CANCEL_REPLACE, replace_keeps_cum_qty=declared) as lab:
        lab.venue.on_modify = lambda request: replaced(lab, request, carries=True)
        await lab.kernel.place_order(order(quantity=10 * LOT), intent_id="o")
        await asyncio.sleep(5)
        (first,) = lab.venue.open_orders()
        late = lab.venue.fill(first, 3 * LOT, tell=False)
        await lab.kernel.modify_order("o", order(quantity=10 * LOT, price=5_900_000))
        await asyncio.sleep(1)
        lab.venue.tell(late)
        await asyncio.sleep(200)
        await is_worked(lab, 10 * LOT, 3 * LOT)
        assert (lab.venue.count("submit"), lab.venue.count("modify")) == (1, 1)
        assert lab.findings() == {}


async def test_a_replace_whose_answer_was_lost() -> None:
    """The new order is found by a query; its totals include what the old one filled."""
    async with field_lab(amend=AmendDialect.CANCEL_REPLACE, replace_keeps_cum_qty=True) as lab:

        def lost(request: ModifyRequest) -> ExecutionReport:
            replaced(lab, request, carries=True)
            raise OutcomeUnknown("timeout")

        lab.venue.on_modify = lost
        await lab.kernel.place_order(order(quantity=10 * LOT), intent_id="o")
        await asyncio.sleep(5)
        (first,) = lab.venue.open_orders()
        lab.venue.fill(first, 3 * LOT)
        await asyncio.sleep(5)
        await lab.kernel.modify_order("o", order(quantity=10 * LOT, price=5_900_000))
        await asyncio.sleep(200)
        await is_worked(lab, 10 * LOT, 3 * LOT)
        assert lab.findings() == {}


@pytest.mark.parametrize("quantity", AmendQuantity)
@pytest.mark.parametrize("keeps", [True, False])
async def test_at_the_paper_exchange(keeps: bool, quantity: AmendQuantity) -> None:
    """The paper exchange carries the totals on or not."""
    dialect = {"amend": AmendDialect.CANCEL_REPLACE, "amend_quantity": quantity, "replace_keeps_cum_qty": keeps}
    async with paper_lab(**dialect) as (kernel, venue):
        await kernel.place_order(order(quantity=10 * LOT), intent_id="o")
        for price, more in ((5_900_000, 3 * LOT), (5_800_000, 2 * LOT)):
            await venue.admin("trade", symbol_id="BTCUSDT", price=5_700_000, quantity=more)
            await asyncio.sleep(5)
            await kernel.modify_order("o", order(quantity=10 * LOT, price=price))
            await asyncio.sleep(100)
        found = await kernel.get_order_state("o")
        assert (found.status.cum_qty, found.status.leaves_qty) == (5 * LOT, 5 * LOT)
        assert found.reconciliation_status is ReconciliationStatus.SYNCED
        works = [item for item in (await venue.truth())["orders"] if item["leaves_qty"]]
        assert [item["leaves_qty"] for item in works] == [5 * LOT]
        assert len((await venue.truth())["orders"]) == 3


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_lost_replace_is_resolved_by_the_lists(arrives: bool) -> None:
    """Without lookup, the lists show what became of it, though they show the other order each time too."""
    async with field_lab(amend=AmendDialect.CANCEL_REPLACE, lookup=False, lookup_closed=False) as lab:

        def on_modify(request: ModifyRequest) -> ExecutionReport:
            is_first = lab.venue.count("modify") == 1
            if is_first and not arrives:
                raise OutcomeUnknown("timeout")
            answer = replaced(lab, request, carries=False)
            if is_first:
                raise OutcomeUnknown("timeout")
            return answer

        lab.venue.on_modify = on_modify
        await lab.kernel.place_order(order(quantity=10 * LOT), intent_id="o")
        lab.venue.fill(lab.venue.open_orders()[0], 3 * LOT)
        await asyncio.sleep(5)
        await lab.kernel.modify_order("o", order(quantity=10 * LOT, price=5_900_000), wait="recorded")
        await asyncio.sleep(30)
        working = await is_worked(lab, 10 * LOT, 3 * LOT)
        assert (working.quantity, working.price) == (7 * LOT, 5_900_000)
        assert lab.venue.count("modify") == (1 if arrives else 2)
        assert lab.findings() == {}
