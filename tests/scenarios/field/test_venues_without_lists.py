"""Venues that list nothing, or not everything: what is complete and what is absent is relative to what they offer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs

from kernel.clock import NS_PER_S, LoopClock
from kernel.errors import NotReadyError, OutcomeUnknown
from kernel.models import AttemptOutcome, ExecType, OrdStatus, ReconciliationStatus
from kernel.order_spec import OcoMode, OrderType, StandardOrderGroup
from kernel.safety.readiness import VENUE_SNAPSHOT_COMPLETE
from kernel.venues.base import (
    AmendDialect,
    ExecutionReport,
    ModifyRequest,
    SubmitRequest,
    VenueCapabilities,
    VenueSnapshot,
)
from replay import open_kernel
from tests.scenarios.field.lab import COIN, FieldVenue, Lab, field_lab, order

pytestmark = pytest.mark.looptime

NO_LISTS = {"lists_open_orders": False, "lists_trades": False, "lists_balances": False}


class PartlyListingVenue(FieldVenue):
    """A venue that shows only the lists of its capabilities, and calls a snapshot without the others incomplete."""

    async def snapshot(self, since_ns: int, symbols: Any) -> VenueSnapshot:
        known = self.capabilities
        assert known.lists_open_orders or known.lists_trades or known.lists_balances, "nothing can be listed"
        taken = await super().snapshot(since_ns, symbols)
        hidden: dict[str, Any] = {}
        hidden |= {} if known.lists_open_orders else {"open_orders": (), "open_orders_complete": False}
        hidden |= {} if known.lists_trades else {"fills": (), "fills_complete": False}
        hidden |= {} if known.lists_balances else {"balances": None}
        return structs.replace(taken, **(hidden | {"complete": not hidden}))

    async def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> ExecutionReport | None:
        assert client_order_id is None or self.capabilities.lookup
        assert client_order_id or exchange_order_id
        return await super().order(symbol_id, client_order_id, exchange_order_id)


def listing(**capabilities: Any) -> PartlyListingVenue:
    return PartlyListingVenue(LoopClock(), VenueCapabilities(**({"validity_window_ns": 5 * NS_PER_S} | capabilities)))


async def place(lab: Lab, name: str = "b", **terms: Any) -> None:
    await lab.kernel.place_order(order(**terms), intent_id=name, wait="recorded")


@pytest.mark.parametrize("lookup", [True, False])
@pytest.mark.parametrize(
    "lists",
    [
        NO_LISTS,
        {"lists_open_orders": False},
        {"lists_trades": False},
        {"lists_balances": False},
        {"lists_open_orders": False, "lists_balances": False},
    ],
)
async def test_a_venue_without_a_list_becomes_ready_and_works(lists: dict[str, bool], lookup: bool) -> None:
    """Orders are placed, filled and canceled; what happened while the kernel was down is found by the order's status."""
    venue = listing(lookup=lookup, **lists)
    async with field_lab(venue=venue) as lab:
        await place(lab)
        await asyncio.sleep(1)
        (made,) = venue.orders.values()
        venue.fill(made, COIN // 4)
        await asyncio.sleep(1)
        assert await lab.position() == COIN // 4
        venue.fill(made, COIN // 4, tell=False)
        await asyncio.sleep(120)
        state = lab.kernel.state.order_state("b")
        assert state is not None
        assert state.status.cum_qty == COIN // 2
        assert state.reconciliation_status is ReconciliationStatus.SYNCED
        await place(lab, "next", price=5_000_000)
        await asyncio.sleep(1)
        assert venue.count("submit") == 2
        await lab.kernel.cancel_order("next")
        venue.end(made, OrdStatus.CANCELED)
        await asyncio.sleep(120)
        assert venue.open_orders() == []
        assert lab.kernel.state.live_intent_ids() == [] or not venue.capabilities.lists_trades
        assert venue.count("submit") == 2
        unpriced = venue.capabilities.lists_balances and not venue.capabilities.lists_trades
        assert set(lab.findings()) == ({"BALANCE_DRIFT"} if unpriced else set())  # what the lost fill cost is not known


async def test_statuses_stand_in_for_the_list_before_anything_is_sent() -> None:
    """After a restart the status of each live order is queried before the snapshot counts as complete."""
    venue = listing(lookup=False, **NO_LISTS)
    async with field_lab(venue=venue) as lab:
        for number in range(3):
            await place(lab, f"b{number}")
        await asyncio.sleep(1)
        await lab.kernel.stop()
        for item in venue.open_orders():
            venue.fill(item, COIN, tell=False)
        venue.calls.clear()
        async with open_kernel(lab.log, venue=venue, clock=venue.clock) as second:
            await second.wait_ready(30)
            assert venue.count("order") == 3
            assert {item.status.ord_status for item in second.state.order_states()} == {OrdStatus.FILLED}


async def test_absence_is_never_proven_without_list_and_lookup() -> None:
    """A lost submit stays UNKNOWN, with few queries; only an operator resolves it."""
    venue = listing(lookup=False, **NO_LISTS)
    async with field_lab(venue=venue) as lab:

        def lost(request: SubmitRequest) -> ExecutionReport:
            raise OutcomeUnknown("connection reset")

        venue.on_submit = lost
        await place(lab)
        await asyncio.sleep(300)
        assert venue.count("submit") == 1
        assert venue.count("order") == 0
        assert "UNKNOWN_TOO_LONG" in lab.findings()
        venue.on_submit = venue.accept
        await lab.kernel.resolve_attempt("b", AttemptOutcome.DEAD, evidence="the venue's support says so")
        await asyncio.sleep(1)
        assert venue.count("submit") == 2
        assert lab.findings() == {}


async def test_a_lookup_proves_absence_without_lists() -> None:
    """With a lookup that also shows ended orders, lists are not needed to send a lost submit again."""
    venue = listing(**NO_LISTS)
    async with field_lab(venue=venue) as lab:

        def lost(request: SubmitRequest) -> ExecutionReport:
            venue.on_submit = venue.accept
            raise OutcomeUnknown("connection reset")

        venue.on_submit = lost
        await place(lab)
        await asyncio.sleep(60)
        assert venue.count("submit") == 2
        assert venue.count("snapshot") == 0


async def test_an_incomplete_list_that_is_offered_stays_incomplete() -> None:
    """What is offered and missing keeps the snapshot incomplete, whatever else is not offered."""
    venue = listing(lists_balances=False)
    async with field_lab(venue=venue) as lab:
        listed = venue.snapshot

        async def partly(since_ns: int, symbols: Any) -> VenueSnapshot:
            return structs.replace(await listed(since_ns, symbols), fills_complete=False)

        venue.snapshot = partly  # type: ignore[method-assign]
        await lab.kernel.stop()
        async with open_kernel(lab.log, venue=venue, clock=venue.clock) as second:
            with pytest.raises(NotReadyError, match=VENUE_SNAPSHOT_COMPLETE):
                await second.wait_ready(20)
        venue.snapshot = listed  # type: ignore[method-assign]


async def test_an_ended_order_without_a_list_of_trades_keeps_its_quantity() -> None:
    """Gone from the list of open orders, it is asked for by id: without a list of trades, no fill is no evidence."""
    venue = listing(lookup=False, lists_trades=False)
    async with field_lab(venue=venue) as lab:
        await lab.kernel.place_order(order(), intent_id="b", wait="recorded", on_unsolicited_cancel="RECREATE")
        await asyncio.sleep(1)
        (made,) = venue.orders.values()
        venue.fill(made, COIN, tell=False)
        assert venue.report(made, ExecType.ORDER_STATUS).cum_qty == COIN
        await asyncio.sleep(200)
        state = lab.kernel.state.order_state("b")
        assert state is not None
        assert (state.status.ord_status, state.status.cum_qty) == (OrdStatus.FILLED, COIN)
        assert venue.count("submit") == 1


async def test_a_venue_with_neither_lists_nor_status_works() -> None:
    """Only answers and the stream tell: after a restart the kernel becomes ready, and works on what it knows."""
    venue = listing(lookup=False, **NO_LISTS)
    async with field_lab(venue=venue) as lab:
        await place(lab)
        await asyncio.sleep(1)
        await lab.kernel.stop()

        def refused(symbol_id: str, client_order_id: str | None, order_id: str | None) -> ExecutionReport | None:
            raise OutcomeUnknown("this venue has no query of one order")

        venue.on_order = refused
        async with open_kernel(lab.log, venue=venue, clock=venue.clock) as second:
            await second.wait_ready(30)
            await second.cancel_order("b")
            assert venue.open_orders() == []


@pytest.mark.parametrize("lists", [NO_LISTS, {"lists_trades": False}])
async def test_what_a_replaced_order_filled_is_queried(lists: dict[str, bool]) -> None:
    """Without a list of trades the status of a replaced order tells its final quantity: the rest alone works on."""
    async with field_lab(venue=listing(amend=AmendDialect.CANCEL_REPLACE, **lists)) as lab:

        def change(request: ModifyRequest) -> ExecutionReport:
            old = lab.venue.target(request)
            old.open, old.status = False, OrdStatus.CANCELED
            new = lab.venue.new_order(
                SubmitRequest(**{name: getattr(request, name) for name in SubmitRequest.__struct_fields__})
            )
            new.quantity -= request.cum_qty
            return lab.venue.report(new, ExecType.REPLACED, orig_client_order_id=old.client_order_id)

        lab.venue.on_modify = change
        await place(lab)
        await asyncio.sleep(1)
        lab.venue.fill(lab.venue.open_orders()[0], COIN // 4, tell=False)
        await lab.kernel.modify_order("b", order(price=6_000_100), wait="recorded")
        await asyncio.sleep(20)
        assert [item.quantity for item in lab.venue.open_orders()] == [COIN * 3 // 4]
        state = await lab.kernel.get_order_state("b")
        assert (state.status.cum_qty, state.reconciliation_status) == (COIN // 4, ReconciliationStatus.SYNCED)


async def test_an_order_that_keeps_its_client_order_id_is_no_ghost() -> None:
    """An order changed in place is queried by its venue id as well, before it counts as missed and is placed again."""
    async with field_lab(venue=listing(amend=AmendDialect.IN_PLACE, **NO_LISTS)) as lab:
        await place(lab)
        await asyncio.sleep(1)
        await lab.kernel.modify_order("b", order(price=6_000_100), wait="recorded")
        await asyncio.sleep(600)
        assert [(item.id, item.price) for item in lab.venue.open_orders()] == [("1", 6_000_100)]
        assert not lab.findings(resolved=True)


@pytest.mark.parametrize("lists", [NO_LISTS, {"lists_trades": False}])
async def test_the_exits_of_a_bracket_whose_trades_are_not_told(lists: dict[str, bool]) -> None:
    """A part of the stop's fill that no trade explains holds the other exit back for a query only."""
    async with field_lab(venue=listing(order_types=frozenset(OrderType), **lists)) as lab:
        orders = (order(), order("SELL", price=6_120_000), order("SELL", kind="STOP", stop_price=5_900_000))
        await lab.kernel.place_order_group(
            StandardOrderGroup(mode=OcoMode.ONE_TRIGGERS_OTHER, orders=orders), group_id="g", wait="recorded"
        )
        await asyncio.sleep(1)
        lab.venue.fill(lab.venue.open_orders()[0], COIN, tell=False)
        await asyncio.sleep(100)
        (stop,) = [item for item in lab.venue.open_orders() if item.order.stop_price is not None]
        lab.venue.fill(stop, COIN // 4, 5_900_000, tell=False)
        await asyncio.sleep(100)
        left = {item.order.order_type: item.quantity - item.cum_qty for item in lab.venue.open_orders()}
        assert left == {OrderType.LIMIT: COIN * 3 // 4, OrderType.STOP: COIN * 3 // 4}
