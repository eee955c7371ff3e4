"""Level 3: a kernel at the venue. After each case nothing is left to do, and each intent has at most one order."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from kernel import EventSourcedKernel
from kernel.errors import ExchangeError, KernelError
from kernel.models import OrdStatus
from kernel.order_spec import OrderType
from replay.audit.verify import verify
from replay.testing.conformance.bench import Bench, NotObservable
from replay.testing.conformance.faulty_venue import FaultyVenue
from replay.testing.conformance.kit import case
from replay.testing.conformance.target import Target

CHILD_TIMEOUT_S = 60.0


async def place(bench: Bench, kernel: EventSourcedKernel, intent_id: str, **terms: Any) -> None:
    await kernel.place_order(bench.order(**terms), intent_id=intent_id, wait="recorded")


def cum_qty(kernel: EventSourcedKernel, intent_id: str) -> int:
    """Return an intent's filled quantity as folded; 0 before anything was sent."""
    state = kernel.state.observed_order(intent_id)
    return state.status.cum_qty if state is not None else 0


async def finished(bench: Bench, kernel: EventSourcedKernel, *intent_ids: str, orders: int = 1) -> None:
    """Wait until each intent has its orders and nothing is left to do; then cancel, wait again, and verify the log."""
    await bench.converged(kernel)
    for intent_id in intent_ids:
        assert await bench.orders_at_venue(kernel, intent_id) == orders, f"{intent_id} has another number of orders"
    await kernel.cancel_all_orders()
    await bench.converged(kernel)
    for intent_id in intent_ids:
        state = await kernel.get_order_state(intent_id)
        assert not any(item.live for item in state.venue_orders), f"{intent_id} has a live order"
    report = await verify(kernel.log)
    assert report.ok, "; ".join(map(str, report.problems))


@case("K-01", level=3)
async def test_an_order(bench: Bench) -> None:
    """An order is placed and canceled."""
    async with bench.kernel() as kernel:
        await place(bench, kernel, "a")
        await finished(bench, kernel, "a")
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
        await kernel.cancel_all_orders()
        await bench.converged(kernel)


@case("K-03", level=3)
async def test_a_fill(bench: Bench) -> None:
    """A market order fills, once, and the position says so."""
    if OrderType.MARKET not in bench.symbol.order_types:
        raise NotObservable("the symbol takes no market orders")
    order = bench.order(OrderType.MARKET)
    async with bench.kernel() as kernel:
        await kernel.place_order(order, intent_id="a", wait="recorded")

        def filled() -> bool:
            return cum_qty(kernel, "a") == order.quantity

        await bench.eventually("the order fills", filled)
        await finished(bench, kernel, "a")
        (position,) = await kernel.get_positions(bench.symbol.symbol_id)
        if bench.capabilities.lists_trades:
            assert position.quantity == order.quantity


@case("K-04", level=3)
async def test_a_lost_answer(bench: Bench) -> None:
    """An order whose answer is lost is found and not placed again."""
    venue = FaultyVenue(bench.target.venue())
    async with bench.kernel(venue) as kernel:
        venue.lost_answers.add("submit")
        await place(bench, kernel, "a")
        await settled(bench, kernel, "a")


@case("K-05", level=3)
async def test_a_lost_request(bench: Bench) -> None:
    """An order whose request is lost is placed again once its absence is proven, or stays unknown."""
    venue = FaultyVenue(bench.target.venue())
    async with bench.kernel(venue) as kernel:
        venue.lost_requests.add("submit")
        await place(bench, kernel, "a")
        await settled(bench, kernel, "a")


async def settled(bench: Bench, kernel: EventSourcedKernel, intent_id: str) -> None:
    """Wait until the order works, or until it is known that only an operator can tell; never two orders."""
    provable = bench.capabilities.validity_window_ns is not None and bench.capabilities.lists_open_orders
    if provable and bench.capabilities.client_order_ids and bench.capabilities.orders_carry_client_id:
        await finished(bench, kernel, intent_id)
        return
    await bench.eventually("the outcome is known, or known to be unknown", lambda: _is_decided(kernel, intent_id))
    assert await _open_orders(bench, kernel, intent_id) <= 1


def _is_decided(kernel: EventSourcedKernel, intent_id: str) -> bool:
    state = kernel.state.observed_order(intent_id)
    return state is not None and (bool(state.venue_orders) or state.reconciliation_status == "UNKNOWN")


async def _open_orders(bench: Bench, kernel: EventSourcedKernel, intent_id: str) -> int:
    """Return the number of an intent's open orders; where none shows its client order id, that of all new orders."""
    listed = (await bench.plain_snapshot()).open_orders
    sent = {name for name, _ in kernel.state.record(intent_id).sends}
    if any(item.client_order_id for item in listed):
        return len([item for item in listed if item.client_order_id in sent])
    return len([item for item in listed if item.exchange_order_id not in bench.open_before])


@case("K-06", level=3)
async def test_a_lost_cancel(bench: Bench) -> None:
    """A cancel whose request or answer is lost takes effect in the end."""
    for fault in ("lost_requests", "lost_answers"):
        venue = FaultyVenue(bench.target.venue())
        async with bench.kernel(venue) as kernel:
            intent_id = fault.replace("_", "-")
            await place(bench, kernel, intent_id)
            await bench.converged(kernel)
            getattr(venue, fault).add("cancel")
            await finished(bench, kernel, intent_id)


@case("K-07", level=3)
async def test_a_lost_session(bench: Bench) -> None:
    """After the session breaks, the kernel connects again and its orders are as they were."""
    venue = FaultyVenue(bench.target.venue())
    async with bench.kernel(venue) as kernel:
        await place(bench, kernel, "a")
        await bench.converged(kernel)
        connects = venue.calls["connect"]
        await venue.inner.close()
        await bench.eventually("the kernel connects again", lambda: venue.calls["connect"] > connects)
        await kernel.wait_ready(bench.config.timeout_s)
        await place(bench, kernel, "b")
        await finished(bench, kernel, "a", "b")


@case("K-08", level=3)
async def test_a_fill_while_down(bench: Bench) -> None:
    """What fills while no kernel runs is booked at the next start, once."""
    if OrderType.MARKET not in bench.symbol.order_types or not bench.capabilities.lists_trades:
        raise NotObservable("the symbol takes no market orders, or trades are not listed")
    order = bench.order(OrderType.MARKET)
    venue = FaultyVenue(bench.target.venue())
    try:
        async with bench.kernel(venue) as kernel:
            venue.lost_answers.add("submit")
            venue.after = lambda name: _break(venue) if name == "submit" else None
            await kernel.place_order(order, intent_id="a", wait="recorded")
            await bench.eventually("the request left", lambda: venue.calls["submit"] == 1)
    finally:
        venue.unreachable = False
    async with bench.kernel() as kernel:

        def filled() -> bool:
            return cum_qty(kernel, "a") == order.quantity

        if bench.capabilities.client_order_ids and bench.capabilities.trades_carry_client_id:
            await bench.eventually("the fill is found", filled)
        if bench.capabilities.sees_closed:
            await bench.converged(kernel)


def _break(venue: FaultyVenue) -> None:
    venue.unreachable = True


@case("K-09", level=3)
async def test_a_kill(bench: Bench) -> None:
    """A kernel that gets SIGKILL between a request and its answer finds its order at the next start."""
    child = get_context("spawn").Process(target=place_and_die, args=(bench.target, bench.scratch, "a"))
    child.start()
    await asyncio.to_thread(child.join, CHILD_TIMEOUT_S)
    assert child.exitcode == -signal.SIGKILL, f"the child ended with {child.exitcode}"
    async with bench.kernel() as kernel:
        await settled(bench, kernel, "a")


def place_and_die(target: Target, scratch: Path, intent_id: str) -> None:
    """Place an order and kill this process when the venue has executed the request."""

    async def placed() -> None:
        bench = Bench(target, scratch)
        async with bench, bench.kernel(bench.deadly()) as kernel:
            await place(bench, kernel, intent_id)
            await asyncio.sleep(CHILD_TIMEOUT_S)

    asyncio.run(placed())


@case("K-10", level=3)
async def test_foreign_orders(bench: Bench) -> None:
    """An order of the account that no intent owns is left alone."""
    report = await bench.submit()
    async with bench.kernel() as kernel:
        await place(bench, kernel, "a")
        await finished(bench, kernel, "a")
    if bench.capabilities.lists_open_orders:
        assert await bench.is_listed(report), "the kernel touched an order that is not its own"


@case("K-11", level=3)
async def test_unexpected_exceptions(bench: Bench) -> None:
    """An exception that the port does not know stops nothing."""
    for name in ("snapshot", "submit", "cancel", "symbols"):
        venue = FaultyVenue(bench.target.venue())
        async with bench.kernel(venue) as kernel:
            venue.exceptions[name] = KeyError("price")
            await place(bench, kernel, f"after-{name}")
            await settled(bench, kernel, f"after-{name}")


@case("K-12", level=3)
async def test_a_rejection(bench: Bench) -> None:
    """A rejected order ends its generation, and is not sent again."""
    venue = FaultyVenue(bench.target.venue())
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
    """An order type that the symbol does not take is refused before anything is sent."""
    lacking = sorted(set(OrderType) - bench.symbol.order_types)
    if not lacking:
        raise NotObservable("the symbol takes every order type")
    kind = OrderType(lacking[0])
    terms: dict[str, Any] = {"stop_price": bench.price(bench.config.rest_price)} if kind.name.startswith("STOP") else {}
    venue = FaultyVenue(bench.target.venue())
    async with bench.kernel(venue) as kernel:
        try:
            await kernel.place_order(bench.order(kind, **terms), intent_id="a")
        except KernelError:
            assert venue.calls["submit"] == 0
        else:
            raise AssertionError(f"a {kind} order was accepted")
