"""`modify_order` at each kind of venue: the same promises, whatever the venue's way of changing an order.

The whole kernel on the memory log and virtual time, with the paper exchange in this process.
"""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from kernel.errors import ConflictError, ExchangeError, NotFoundError, ValidationError
from kernel.models import AttemptKind, OrdStatus, ReconciliationStatus
from kernel.order_spec import Side
from kernel.venues.paper.faults import fault
from tests.contract.bench import LAST, LOT, a_bench, bid, every_dialect, virtual_time


@virtual_time
@every_dialect
async def test_the_order_has_the_new_terms_when_the_call_returns(dialect: str) -> None:
    """At the venue one order has the new price and total, and the state shows the generation."""
    async with a_bench(dialect) as bench:
        await bench.kernel.place_order(bid(10), intent_id="mine")
        await bench.kernel.modify_order("mine", bid(7, LAST - 90_000))
        assert await bench.works() == [(7 * LOT, 0, LAST - 90_000)]
        state = await bench.kernel.get_order_state("mine")
        assert (state.reconciliation_status, state.observed_generation) == (ReconciliationStatus.SYNCED, 2)
        assert (state.status.order.quantity, state.status.order.price) == (7 * LOT, LAST - 90_000)


@virtual_time
@every_dialect
async def test_the_venues_own_way_is_used(dialect: str) -> None:
    """One amend where the venue can; a cancel and a submit of what is left where it cannot."""
    async with a_bench(dialect) as bench:
        await bench.kernel.place_order(bid(10), intent_id="mine")
        await bench.kernel.modify_order("mine", bid(7))
        one = [(AttemptKind.AMEND, 7 * LOT)]
        two = [(AttemptKind.CANCEL, 10 * LOT), (AttemptKind.SUBMIT, 7 * LOT)]
        assert (await bench.sends())[1:] == (two if dialect == "none" else one)


@virtual_time
@every_dialect
async def test_the_total_includes_the_filled_part(dialect: str) -> None:
    """After three of ten are filled, a total of seven leaves four to work."""
    async with a_bench(dialect) as bench:
        await bench.kernel.place_order(bid(10, LAST), intent_id="mine")
        await bench.venue.admin("trade", symbol_id="BTCUSDT", price=LAST - 1, quantity=3 * LOT)
        await bench.kernel.modify_order("mine", bid(7, LAST))
        (order,) = await bench.works()
        assert order[0] - order[1] == 4 * LOT
        state = await bench.kernel.get_order_state("mine")
        assert (state.status.cum_qty, state.status.leaves_qty, state.status.order.quantity) == (
            3 * LOT,
            4 * LOT,
            7 * LOT,
        )


@virtual_time
@every_dialect
async def test_a_total_at_the_filled_quantity_cancels_the_rest(dialect: str) -> None:
    """Nothing works any more, and the filled part stays."""
    async with a_bench(dialect) as bench:
        await bench.kernel.place_order(bid(10, LAST), intent_id="mine")
        await bench.venue.admin("trade", symbol_id="BTCUSDT", price=LAST - 1, quantity=3 * LOT)
        await bench.kernel.modify_order("mine", bid(3, LAST))
        assert await bench.works() == []
        assert (await bench.kernel.get_order_state("mine")).status.cum_qty == 3 * LOT


@virtual_time
@every_dialect
async def test_a_rejected_change_leaves_the_order_unchanged(dialect: str) -> None:
    """A change that the venue rejects is an `ExchangeError`, and the old order works on where it can."""
    async with a_bench(dialect) as bench:
        await bench.kernel.place_order(bid(10), intent_id="mine")
        await bench.venue.admin("filters", symbol_id="BTCUSDT", tick_size=700)  # the kernel has not heard of it
        with pytest.raises(ExchangeError) as caught:
            await bench.kernel.modify_order("mine", bid(10, LAST - 90_001))
        assert caught.value.intent_id == "mine"
        kept = dialect in ("in place", "in place, remaining", "replace")
        assert await bench.works() == ([(10 * LOT, 0, LAST - 100_000)] if kept else [])
        assert (await bench.kernel.get_order_state("mine")).reconciliation_status is ReconciliationStatus.FAILED


@virtual_time
async def test_a_rejected_change_can_be_corrected() -> None:
    """New terms are a new generation, which the working order gets."""
    async with a_bench() as bench:
        await bench.kernel.place_order(bid(10), intent_id="mine")
        await bench.venue.admin("filters", symbol_id="BTCUSDT", tick_size=700)
        with pytest.raises(ExchangeError):
            await bench.kernel.modify_order("mine", bid(10, LAST - 90_001))
        await bench.kernel.modify_order("mine", bid(10, 6_090_000))
        assert await bench.works() == [(10 * LOT, 0, 6_090_000)]


@virtual_time
@every_dialect
@pytest.mark.parametrize("kind", ["request_lost", "answer_lost", "request_late", "server_error", "request_doubled"])
async def test_an_unanswered_change_is_resolved(dialect: str, kind: str) -> None:
    """Whatever happened to the request, one order with the new terms works in the end."""
    async with a_bench(dialect) as bench:
        await bench.kernel.place_order(bid(10), intent_id="mine")
        operation = "cancel" if dialect == "none" else "modify"
        bench.faults.add(fault(kind, operation, delay_s=2))
        await bench.kernel.modify_order("mine", bid(7), ack_timeout_s=0.1)
        await asyncio.sleep(30)
        assert await bench.works() == [(7 * LOT, 0, LAST - 100_000)]
        assert (await bench.kernel.get_order_state("mine")).reconciliation_status is ReconciliationStatus.SYNCED
        assert len(await bench.sends()) <= 4


@virtual_time
@every_dialect
async def test_the_last_of_several_changes_holds(dialect: str) -> None:
    """Three changes at once end in the third's terms, in one order."""
    async with a_bench(dialect, request_latency_ns=50_000_000, answer_latency_ns=50_000_000) as bench:
        await bench.kernel.place_order(bid(10), intent_id="mine")
        for lots in (9, 8, 7):
            await bench.kernel.modify_order("mine", bid(lots), wait="recorded")
        await asyncio.sleep(10)
        assert await bench.works() == [(7 * LOT, 0, LAST - 100_000)]


@virtual_time
@every_dialect
async def test_a_cancel_beats_a_change(dialect: str) -> None:
    """If the order is canceled while a change is on its way, nothing works in the end."""
    async with a_bench(dialect, request_latency_ns=50_000_000, answer_latency_ns=50_000_000) as bench:
        await bench.kernel.place_order(bid(10), intent_id="mine")
        await bench.kernel.modify_order("mine", bid(7), wait="recorded")
        await bench.kernel.cancel_order("mine")
        await asyncio.sleep(10)
        assert await bench.works() == []
        with pytest.raises(ExchangeError, match="too late"):
            await bench.kernel.modify_order("mine", bid(8))


@virtual_time
@every_dialect
async def test_the_display_quantity_is_changed_too(dialect: str) -> None:
    """The order shows the new display quantity, in one order."""
    async with a_bench(dialect, symbols="full") as bench:
        await bench.kernel.place_order(structs.replace(bid(10), display_quantity=5 * LOT), intent_id="mine")
        await bench.kernel.modify_order("mine", structs.replace(bid(10), display_quantity=2 * LOT))
        assert await bench.works() == [(10 * LOT, 0, LAST - 100_000)]
        shown = [
            order["display_quantity"] for order in (await bench.venue.truth())["orders"] if order["status"] == "NEW"
        ]
        assert shown == [2 * LOT]


@virtual_time
async def test_repeating_a_change_makes_no_event() -> None:
    """Repeating a change changes nothing."""
    async with a_bench() as bench:
        await bench.kernel.place_order(bid(10), intent_id="mine")
        await bench.kernel.modify_order("mine", bid(7))
        head = await bench.log.head()
        await bench.kernel.modify_order("mine", bid(7))
        assert (await bench.log.head()).position == head.position


@virtual_time
async def test_a_change_from_another_generation_is_a_conflict() -> None:
    """With `expected_generation`, a change applies to that generation only."""
    async with a_bench() as bench:
        await bench.kernel.place_order(bid(10), intent_id="mine")
        await bench.kernel.modify_order("mine", bid(7), expected_generation=1)
        with pytest.raises(ConflictError, match="generation 2, the change was made from 1"):
            await bench.kernel.modify_order("mine", bid(6), expected_generation=1)
        assert await bench.works() == [(7 * LOT, 0, LAST - 100_000)]


@virtual_time
async def test_invalid_changes_are_rejected_and_not_recorded() -> None:
    """An unknown intent, another side or symbol, a violation and a filled order are errors."""
    async with a_bench() as bench:
        with pytest.raises(NotFoundError):
            await bench.kernel.modify_order("nobody", bid(7))
        await bench.kernel.place_order(bid(10, LAST), intent_id="mine")
        head = await bench.log.head()
        for changed, name in (
            ({"side": Side.SELL}, "side"),
            ({"symbol_id": "ETHUSDT"}, "symbol_id"),
            ({"quantity": 10 * LOT + 1}, "is not a multiple of the lot size 0.00001"),
        ):
            with pytest.raises(ValidationError, match=name):
                await bench.kernel.modify_order("mine", structs.replace(bid(10, LAST), **changed))
        assert (await bench.log.head()).position == head.position
        await bench.venue.admin("trade", symbol_id="BTCUSDT", price=LAST - 1, quantity=50 * LOT)
        await asyncio.sleep(0.1)
        assert (await bench.kernel.get_order_state("mine")).status.ord_status is OrdStatus.FILLED
        with pytest.raises(ExchangeError, match="too late to modify: the order is FILLED"):
            await bench.kernel.modify_order("mine", bid(20, LAST))


@virtual_time
async def test_an_order_that_waits_for_a_retry_can_be_canceled() -> None:
    """An order rejected temporarily by a halted symbol ends with a cancel."""
    async with a_bench() as bench:
        await bench.venue.admin("halt", symbol_id="BTCUSDT")
        await bench.kernel.place_order(bid(), intent_id="mine", wait="recorded")
        await asyncio.sleep(1)
        state = await bench.kernel.get_order_state("mine")
        assert state.status.ord_status is OrdStatus.PENDING_NEW
        await bench.kernel.cancel_order("mine")
        await bench.venue.admin("resume", symbol_id="BTCUSDT")
        await asyncio.sleep(120)
        assert await bench.works() == []
        assert (await bench.kernel.get_order_state("mine")).status.ord_status is OrdStatus.CANCELED
