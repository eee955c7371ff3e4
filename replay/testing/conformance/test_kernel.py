"""Level 3: a kernel at the venue. After each case nothing is left to do and the log verifies (`Bench.kernel`)."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from kernel import EventSourcedKernel
from kernel.errors import ConflictError, ExchangeError, KernelError, VenueError
from kernel.models import AttemptOutcome, OrdStatus
from kernel.order_spec import OrderType, Side, StandardOrder, TimeInForce
from kernel.venues.base import ExecutionReport, SubmitRequest
from replay.testing.conformance.bench import Bench, NotObservable
from replay.testing.conformance.kit import case
from replay.testing.conformance.target import Target

CHILD_TIMEOUT_S = 60.0


async def place(bench: Bench, kernel: EventSourcedKernel, intent_id: str, **terms: Any) -> None:
    await kernel.place_order(bench.order(**terms), intent_id=intent_id, wait="recorded")


def cum_qty(kernel: EventSourcedKernel, intent_id: str) -> int:
    """Return an intent's filled quantity as folded; 0 before anything was sent."""
    state = kernel.state.observed_order(intent_id)
    return state.status.cum_qty if state is not None else 0


@case("K-01", level=3)
async def test_an_order(bench: Bench) -> None:
    """An order is placed and canceled."""
    async with bench.kernel() as kernel:
        await place(bench, kernel, "a")
        await bench.works(kernel, "a")
        await kernel.cancel_all_orders()
        await bench.converged(kernel)
        assert (await kernel.get_order_state("a")).status.ord_status is OrdStatus.CANCELED


@case("K-02", level=3)
async def test_a_change(bench: Bench) -> None:
    """A change of price takes effect, by whatever dialect the venue has."""
    async with bench.kernel() as kernel:
        await place(bench, kernel, "a")
        await bench.converged(kernel)
        price = bench.price(bench.config.rest_price * Decimal("0.99"))
        await kernel.modify_order("a", bench.order(price=price), wait="recorded")
        await bench.converged(kernel)
        live = [item for item in (await kernel.get_order_state("a")).venue_orders if item.live]
        assert [item.price for item in live] == [price]


@case("K-03", level=3)
async def test_a_fill(bench: Bench) -> None:
    """A market order fills, once, and the position says so."""
    if OrderType.MARKET not in bench.symbol.order_types:
        raise NotObservable("the symbol takes no market orders")
    order = bench.order(OrderType.MARKET)
    async with bench.kernel() as kernel:
        await kernel.place_order(order, intent_id="a", wait="recorded")
        await bench.eventually("the order fills", lambda: cum_qty(kernel, "a") == order.quantity)
        await bench.works(kernel, "a")
        if bench.capabilities.lists_trades:
            (position,) = await kernel.get_positions(bench.symbol.symbol_id)
            assert position.quantity == order.quantity


@case("K-04", level=3)
async def test_a_lost_answer(bench: Bench) -> None:
    """An order whose answer is lost is found and not placed again."""
    venue = bench.new_venue()
    async with bench.kernel(venue) as kernel:
        venue.lost_answers.add("submit")
        await place(bench, kernel, "a")
        await bench.works(kernel, "a")
        assert venue.calls["submit"] == 1


@case("K-05", level=3)
async def test_a_lost_request(bench: Bench) -> None:
    """An order whose request is lost is placed again once its absence is proven, or stays unknown."""
    venue = bench.new_venue()
    async with bench.kernel(venue) as kernel:
        venue.lost_requests.add("submit")
        await place(bench, kernel, "a")
        await bench.works(kernel, "a")


@case("K-06", level=3)
async def test_a_lost_cancel(bench: Bench) -> None:
    """A cancel whose request or answer is lost takes effect in the end."""
    for fault in ("lost_requests", "lost_answers"):
        venue = bench.new_venue()
        async with bench.kernel(venue) as kernel:
            intent_id = fault.replace("_", "-")
            await place(bench, kernel, intent_id)
            await bench.works(kernel, intent_id)
            getattr(venue, fault).add("cancel")


@case("K-07", level=3)
async def test_a_lost_session(bench: Bench) -> None:
    """After the session breaks, the kernel connects again and its orders are as they were."""
    venue = bench.new_venue()
    async with bench.kernel(venue) as kernel:
        await place(bench, kernel, "a")
        await bench.converged(kernel)
        connects = venue.calls["connect"]
        await venue.inner.close()
        await bench.eventually("the kernel connects again", lambda: venue.calls["connect"] > connects)
        await kernel.wait_ready(bench.config.timeout_s)
        await place(bench, kernel, "b")
        await bench.works(kernel, "a", "b")


@case("K-08", level=3)
async def test_a_fill_while_down(bench: Bench) -> None:
    """A fill while no kernel runs is booked at the next start, once."""
    if OrderType.MARKET not in bench.symbol.order_types:
        raise NotObservable("the symbol takes no market orders")
    has = bench.capabilities
    if not (has.lookup or has.lists_open_orders or has.lists_trades):
        raise NotObservable("the venue shows an order in its stream only")
    order = bench.order(OrderType.MARKET)
    await kill_after_submit(bench, order)
    async with bench.kernel() as kernel:
        if not bench.settles:  # whether the stream told of the order before the kill decides what can be known of it
            assert await bench.orders_open() <= 1
            return
        await bench.eventually("the fill is found", lambda: cum_qty(kernel, "a") == order.quantity)
        await bench.works(kernel, "a")


@case("K-09", level=3)
async def test_a_kill(bench: Bench) -> None:
    """A kernel that gets SIGKILL between a request and its answer finds its order at the next start."""
    await kill_after_submit(bench, bench.order())
    async with bench.kernel() as kernel:
        await bench.works(kernel, "a")


async def kill_after_submit(bench: Bench, order: StandardOrder) -> None:
    """Let a kernel in another process place an order, and kill it when the venue has executed the request."""
    child = get_context("spawn").Process(target=place_and_die, args=(bench.target, bench.scratch, order))
    child.start()
    await asyncio.to_thread(child.join, CHILD_TIMEOUT_S)
    assert child.exitcode == -signal.SIGKILL, f"the child ended with {child.exitcode}"


def place_and_die(target: Target, scratch: Path, order: StandardOrder) -> None:
    """Place an order and kill this process when the venue has executed the request."""

    def kill(name: str) -> None:
        if name == "submit":
            os.kill(os.getpid(), signal.SIGKILL)

    async def placed() -> None:
        bench = Bench(target, scratch)
        venue = bench.new_venue()
        venue.after = kill
        async with bench, bench.kernel(venue) as kernel:
            await kernel.place_order(order, intent_id="a", wait="recorded")
            await asyncio.sleep(CHILD_TIMEOUT_S)

    asyncio.run(placed())


@case("K-10", level=3)
async def test_foreign_orders(bench: Bench) -> None:
    """Orders of the account that no intent owns are left alone: one with an unusual client order id, one without any."""
    foreign = [await bench.submit()]
    for client_order_id in (f"{bench.new_id().upper()}-9_Z", ""):
        with suppress(VenueError):  # the venue, or the adapter, does not take such an id
            foreign.append(await bench.submit(client_order_id=client_order_id))
    async with bench.kernel() as kernel:
        await place(bench, kernel, "a")
        await bench.converged(kernel)
    assert await bench.orders_open() == len(foreign), "the kernel touched an order that is not its own"


@case("K-11", level=3)
async def test_unexpected_exceptions(bench: Bench) -> None:
    """An exception that the port does not know stops nothing."""
    # The submit is last: without client order ids, one whose outcome stays unknown holds back the orders after it.
    for name in ("snapshot", "cancel", "symbols", "reports", "submit"):
        venue = bench.new_venue()
        async with bench.kernel(venue) as kernel:
            venue.exceptions[name] = KeyError("price")
            await place(bench, kernel, f"after-{name}")
            await bench.converged(kernel)


@case("K-12", level=3)
async def test_a_rejection(bench: Bench) -> None:
    """A rejected order ends its generation, and is not sent again."""
    venue = bench.new_venue()
    async with bench.kernel(venue) as kernel:
        with suppress(ExchangeError):
            await kernel.place_order(bench.largest_order(), intent_id="a", ack_timeout_s=bench.config.timeout_s)
        sent = venue.calls["submit"]
        await bench.converged(kernel)
        await kernel.force_reconciliation()
        await bench.converged(kernel)
        assert venue.calls["submit"] == sent <= 1


@case("K-13", level=3)
async def test_an_unsupported_order(bench: Bench) -> None:
    """An order that the symbol does not take is refused before anything is sent."""
    refused = [
        bench.order(quantity=bench.symbol.max_quantity + max(1, bench.symbol.lot_size)),
        *(bench.order(kind) for kind in set(OrderType) - bench.symbol.order_types),
        *(bench.order(time_in_force=kind) for kind in set(TimeInForce) - bench.symbol.times_in_force),
    ]
    venue = bench.new_venue()
    async with bench.kernel(venue) as kernel:
        for number, order in enumerate(refused):
            try:
                await kernel.place_order(order, intent_id=f"a{number}")
            except KernelError:
                assert venue.calls["submit"] == 0
            else:
                raise AssertionError(f"{order} was accepted")


@case("K-14", level=3)
async def test_our_id_on_another_order(bench: Bench) -> None:
    """An order of the other side that has our client order id is left alone, and ours is placed once or stays unknown."""
    if not bench.capabilities.client_order_ids:
        raise NotObservable("orders carry no client order id")
    price = bench.price_above(await bench.trade())
    others: list[ExecutionReport] = []

    async def place_other(request: SubmitRequest) -> None:
        order = bench.order(side=Side.SELL, price=price)
        others.append(await bench.submit(order, client_order_id=request.client_order_id))

    venue = bench.new_venue()
    async with bench.kernel(venue) as kernel:
        venue.before_submit = place_other
        await place(bench, kernel, "a")

        def decided() -> bool:
            state = kernel.state.observed_order("a")
            return state is not None and state.reconciliation_status in ("UNKNOWN", "SYNCED")

        await bench.eventually("the order works, or its outcome is unknown", decided)
        assert others, "the other order was not placed"
        state = await kernel.get_order_state("a")
        ids = {item.exchange_order_id for item in state.venue_orders}
        assert others[0].exchange_order_id not in ids, "the kernel takes the other order for its own"
        await kernel.cancel_all_orders()
        if state.reconciliation_status == "UNKNOWN":
            await bench.eventually("an operator resolves the order", lambda: _is_resolved(kernel, "a"))
    assert await bench.orders_open() == 1, "the kernel touched the other order"


async def _is_resolved(kernel: EventSourcedKernel, intent_id: str) -> bool:
    with suppress(ConflictError):  # until no evidence can come any more
        await kernel.resolve_attempt(intent_id, AttemptOutcome.DEAD, evidence="the kit placed the other order")
    state = kernel.state.observed_order(intent_id)
    return state is not None and state.reconciliation_status != "UNKNOWN"
