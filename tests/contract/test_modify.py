"""`modify_order` at each kind of venue: the same promises, whatever the venue's way of changing an order.

The whole kernel on the memory log and virtual time, with the paper exchange in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from kernel import EventSourcedKernel, events
from kernel.clock import LoopClock, SeededIds
from kernel.errors import ConflictError, ExchangeError, NotFoundError, ValidationError
from kernel.log import EventLog, open_log
from kernel.models import AttemptKind, OrdStatus, ReconciliationStatus
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.venues import PaperVenue
from kernel.venues.base import AmendDialect, AmendQuantity
from kernel.venues.paper_config import PaperConfig
from kernel.venues.paper_faults import FaultPlan, fault
from replay import open_kernel

LOT = 10_000
LAST = 6_180_000
DIALECTS: dict[str, dict[str, Any]] = {
    "none": {},
    "in place": {"amend": AmendDialect.IN_PLACE},
    "in place, remaining": {"amend": AmendDialect.IN_PLACE, "amend_quantity": AmendQuantity.REMAINING},
    "replace": {"amend": AmendDialect.CANCEL_REPLACE},
    "replace, not atomic": {"amend": AmendDialect.CANCEL_REPLACE, "amend_atomic": False},
}
virtual_time = pytest.mark.looptime
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def bid(lots: int = 10, price: int = LAST - 100_000) -> StandardOrder:
    """A buy order behind the market."""
    return StandardOrder(
        symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=lots * LOT, price=price
    )


@dataclass
class Bench:
    """A kernel that leads, and its exchange."""

    kernel: EventSourcedKernel
    log: EventLog
    venue: PaperVenue
    faults: FaultPlan

    async def works(self) -> list[tuple[int, int, int]]:
        """Total, filled part and price of each open order at the exchange."""
        orders = (await self.venue.truth())["orders"]
        return [
            (order["quantity"], order["cum_qty"], order["price"])
            for order in orders
            if order["status"] in ("NEW", "PARTIALLY_FILLED")
        ]

    async def sends(self) -> list[tuple[AttemptKind, int]]:
        """Kind and quantity of each attempt for the intent `mine`."""
        found = await self.log.read_stream(events.intent_stream("mine"))
        return [(event.kind, event.order.quantity) for event in found if isinstance(event, events.AttemptStarted)]


@asynccontextmanager
async def a_bench(dialect: str = "in place", **config: Any) -> AsyncIterator[Bench]:
    """A kernel that is ready, at an exchange with this dialect."""
    clock, faults = LoopClock(), FaultPlan()
    settings = {"ladder_levels": 0, "first_id": 1} | DIALECTS[dialect] | config
    venue = PaperVenue(
        tape=(), speed="step", symbol="BTCUSDT", config=PaperConfig(**settings), clock=clock, faults=faults
    )
    async with (
        open_log("memory://", exchange_id="paper", clock=clock, ids=SeededIds(1)) as log,
        open_kernel(log, venue=venue, clock=clock, ids=SeededIds(2)) as kernel,
    ):
        await kernel.wait_ready(10)
        yield Bench(kernel, log, venue, faults)


@virtual_time
@every_dialect
async def test_the_order_has_the_new_terms_when_the_call_returns(dialect: str) -> None:
    """Price and total are the wanted ones at the venue, in one order, and the state says which generation it serves."""
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
async def test_the_total_counts_what_has_filled(dialect: str) -> None:
    """After three of ten are filled, a total of seven leaves four to work; position and fills stay."""
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
async def test_a_total_at_what_has_filled_cancels_the_rest(dialect: str) -> None:
    """Nothing works any more, and the filled part stays."""
    async with a_bench(dialect) as bench:
        await bench.kernel.place_order(bid(10, LAST), intent_id="mine")
        await bench.venue.admin("trade", symbol_id="BTCUSDT", price=LAST - 1, quantity=3 * LOT)
        await bench.kernel.modify_order("mine", bid(3, LAST))
        assert await bench.works() == []
        assert (await bench.kernel.get_order_state("mine")).status.cum_qty == 3 * LOT


@virtual_time
@every_dialect
async def test_what_the_market_does_not_take_leaves_the_order_as_it_was(dialect: str) -> None:
    """A change that the venue's own rules refuse is an `ExchangeError`, and the old order works on where it can."""
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
async def test_what_was_refused_can_be_mended() -> None:
    """Other terms are another generation: the order that worked on gets them."""
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
async def test_a_change_that_is_not_answered_is_found_out(dialect: str, kind: str) -> None:
    """Whatever became of the request, one order with the wanted terms works in the end, and little more was sent."""
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
    """Canceled while a change is on its way: nothing works, and the change is too late from then on."""
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
async def test_the_shown_part_is_changed_too(dialect: str) -> None:
    """An order shows as much in the book as the change asks for, and is one order at the end."""
    async with a_bench(dialect, symbols="full") as bench:
        await bench.kernel.place_order(bid(10).model_copy(update={"display_quantity": 5 * LOT}), intent_id="mine")
        await bench.kernel.modify_order("mine", bid(10).model_copy(update={"display_quantity": 2 * LOT}))
        assert await bench.works() == [(10 * LOT, 0, LAST - 100_000)]
        shown = [
            order["display_quantity"] for order in (await bench.venue.truth())["orders"] if order["status"] == "NEW"
        ]
        assert shown == [2 * LOT]


@virtual_time
async def test_the_same_terms_again_are_no_event() -> None:
    """A strategy's own retry of a change is not another one."""
    async with a_bench() as bench:
        await bench.kernel.place_order(bid(10), intent_id="mine")
        await bench.kernel.modify_order("mine", bid(7))
        head = await bench.log.head()
        await bench.kernel.modify_order("mine", bid(7))
        assert (await bench.log.head()).position == head.position


@virtual_time
async def test_a_change_from_another_generation_is_a_conflict() -> None:
    """With `expected_generation`, a change is made from what was read, or not at all."""
    async with a_bench() as bench:
        await bench.kernel.place_order(bid(10), intent_id="mine")
        await bench.kernel.modify_order("mine", bid(7), expected_generation=1)
        with pytest.raises(ConflictError, match="generation 2, expected 1"):
            await bench.kernel.modify_order("mine", bid(6), expected_generation=1)
        assert await bench.works() == [(7 * LOT, 0, LAST - 100_000)]


@virtual_time
async def test_what_cannot_be_changed_is_told_and_nothing_recorded() -> None:
    """An unknown intent, another side or symbol, an order that does not fit, one that is filled."""
    async with a_bench() as bench:
        with pytest.raises(NotFoundError):
            await bench.kernel.modify_order("nobody", bid(7))
        await bench.kernel.place_order(bid(10, LAST), intent_id="mine")
        head = await bench.log.head()
        for changed, name in (
            ({"side": Side.SELL}, "side"),
            ({"symbol_id": "ETHUSDT"}, "symbol_id"),
            ({"quantity": 10 * LOT + 1}, "lot_size"),
        ):
            with pytest.raises(ValidationError, match=name):
                await bench.kernel.modify_order("mine", bid(10, LAST).model_copy(update=changed))
        assert (await bench.log.head()).position == head.position
        await bench.venue.admin("trade", symbol_id="BTCUSDT", price=LAST - 1, quantity=50 * LOT)
        await asyncio.sleep(0.1)
        assert (await bench.kernel.get_order_state("mine")).status.ord_status is OrdStatus.FILLED
        with pytest.raises(ExchangeError, match="too late to modify: the order is FILLED"):
            await bench.kernel.modify_order("mine", bid(20, LAST))
