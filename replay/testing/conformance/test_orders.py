"""Level 2: orders, their reports, and what each list and query shows of them."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from msgspec import structs

from kernel.errors import NotSent, OutcomeUnknown, Rejected, VenueError
from kernel.models import ExecType, OrdStatus
from kernel.order_spec import OrderType, Side, StandardOrder, TimeInForce
from kernel.venues.base import Dedupe, ExecutionReport, ModifyRequest
from replay.testing.conformance.bench import CLOCK, DAY_NS, ENDED, TIMES, Bench, NotObservable, shows
from replay.testing.conformance.kit import Kit, case


async def found_by_id(bench: Bench, client_order_id: str) -> ExecutionReport | None:
    """Query an order by its client order id; None also where there is no such query."""
    try:
        return await bench.venue.order(bench.symbol.symbol_id, client_order_id, None)
    except OutcomeUnknown:
        return None


@case("O-01", level=2)
async def test_submit_and_cancel(bench: Bench) -> None:
    """An order rests with the terms that were sent, exactly, until it is canceled."""
    order = bench.order()
    report = await bench.submit(order)
    assert report.exec_type is ExecType.NEW
    assert report.exchange_order_id
    assert (report.symbol_id, report.side) == (order.symbol_id, Side.BUY)
    assert report.order_qty in (None, order.quantity)
    assert report.price in (None, order.price)
    canceled = await bench.cancel(report)
    assert canceled.ord_status in (None, *ENDED)
    assert canceled.cum_qty in (None, 0)


@case("O-02", level=2, ability="client_order_ids")
async def test_client_order_id(bench: Bench) -> bool:
    """An order carries our client order id, up to the longest that is declared."""
    name = bench.new_id().ljust(bench.capabilities.client_order_id_max_length, "z")
    return (await bench.submit(client_order_id=name)).client_order_id == name


@case("O-03", level=2, ability="lists_open_orders")
async def test_listed(bench: Bench) -> bool:
    """The list of open orders shows an order from its acceptance to its end."""
    report = await bench.submit()
    if not bench.capabilities.lists_open_orders:
        return await bench.is_listed(report)
    await bench.eventually("the list shows the order", lambda: bench.is_listed(report))
    await bench.cancel(report)

    async def gone() -> bool:
        return not await bench.is_listed(report)

    await bench.eventually("the list no longer shows it", gone)
    return True


@case("O-04", level=2, ability="orders_carry_client_id")
async def test_listed_client_id(bench: Bench) -> bool:
    """The list of open orders shows client order ids."""
    name = bench.new_id()
    report = await bench.submit(client_order_id=name)
    if not bench.capabilities.lists_open_orders:
        raise NotObservable("open orders are not listed")
    await bench.eventually("the list shows the order", lambda: bench.is_listed(report))
    listed = (await bench.snapshot()).open_orders
    return any(item.client_order_id == name for item in listed)


@case("O-05", level=2, ability="lookup")
async def test_lookup(bench: Bench) -> bool:
    """A query by client order id shows an open order."""
    name = bench.new_id()
    report = await bench.submit(client_order_id=name)
    if not bench.capabilities.lookup:
        return await found_by_id(bench, name) is not None

    async def found() -> bool:
        seen = await found_by_id(bench, name)
        return seen is not None and seen.exchange_order_id == report.exchange_order_id

    await bench.eventually("the query shows the order", found)
    return all([await found() for _ in range(TIMES)])


@case("O-06", level=2, ability="lookup_closed")
async def test_lookup_closed(bench: Bench) -> bool:
    """A query by client order id shows an order that has ended, with its final quantity."""
    name = bench.new_id()
    await bench.cancel(await bench.submit(client_order_id=name))

    async def ended() -> bool:
        seen = await found_by_id(bench, name)
        return seen is not None and seen.ord_status in ENDED and seen.cum_qty == 0

    if not bench.capabilities.sees_closed:
        return await ended()
    await bench.eventually("the query shows the end", ended)
    return True


@case("O-07", level=2, ability="dedupe")
async def test_duplicate_id(bench: Bench) -> bool:
    """A client order id of an open order is refused, with an unknown outcome and never a rejection."""
    if not bench.capabilities.client_order_ids:
        raise NotObservable("orders carry no client order id")
    name = bench.new_id()
    await bench.submit(client_order_id=name)
    try:
        await bench.submit(client_order_id=name)
    except OutcomeUnknown as refusal:
        if not refusal.duplicate:
            raise AssertionError("the error does not say that the id is a duplicate") from refusal
        return True
    return False


@case("O-08", level=2)
async def test_dedupe_period(bench: Bench) -> None:
    """A client order id is accepted again after the order has ended, unless the venue refuses it for ever."""
    capabilities = bench.capabilities
    if not capabilities.client_order_ids or capabilities.dedupe_for_ns is not None:
        raise NotObservable("the venue refuses ids for a period, or takes none")
    name = bench.new_id()
    await bench.cancel(await bench.submit(client_order_id=name))
    try:
        await bench.submit(client_order_id=name)
    except OutcomeUnknown:
        assert capabilities.dedupe is Dedupe.FOR_EVER
    else:
        assert capabilities.dedupe is not Dedupe.FOR_EVER


@case("O-09", level=2)
async def test_the_stream(bench: Bench) -> None:
    """The stream reports the acceptance of an order."""
    report = await bench.submit()
    await bench.eventually("the stream reports the order", lambda: bench.is_reported(report))


@case("O-10", level=2)
async def test_a_trade(bench: Bench) -> None:
    """A trade has a key, a quantity, a price and a side, and the stream and the list name it by the same key."""
    trade = await bench.trade()
    assert trade.side is Side.BUY
    assert trade.last_qty
    assert trade.last_px
    if not bench.capabilities.lists_trades:
        return

    async def listed() -> bool:
        streamed = {item.fill_key for item in bench.reports if item.fill_key} or {str(trade.fill_key)}
        fills = (await bench.snapshot()).fills
        keys = [item.fill_key for item in fills]
        assert len(keys) == len(set(keys)), f"fill keys are given twice: {keys}"
        return streamed <= set(keys)

    await bench.eventually("the list has the trades of the stream", listed)


@case("O-11", level=2, ability="lists_trades")
async def test_listed_trades(bench: Bench) -> bool:
    """The list of trades shows a trade."""
    trade = await bench.trade()

    async def listed() -> bool:
        return shows((await bench.snapshot()).fills, trade)

    if not bench.capabilities.lists_trades:
        return await listed()
    await bench.eventually("the list shows the trade", listed)
    return True


@case("O-12", level=2, ability="trades_carry_client_id")
async def test_traded_client_id(bench: Bench) -> bool:
    """The list of trades shows client order ids."""
    if not bench.capabilities.lists_trades:
        raise NotObservable("trades are not listed")
    trade = await bench.trade()
    shown: list[str | None] = []

    async def listed() -> bool:
        fills = (await bench.snapshot()).fills
        shown[:] = [item.client_order_id for item in fills if item.exchange_order_id == trade.exchange_order_id]
        return bool(shown)

    await bench.eventually("the list shows the trade", listed)
    return any(shown)


@case("O-13", level=2, ability="amend")
async def test_modify(bench: Bench) -> bool:
    """An order can be changed; without that ability a change is rejected and the order stays as it is."""
    report = await bench.submit()
    order = bench.order()
    terms = structs.replace(order, price=bench.price(bench.config.rest_price * Decimal("0.99")))
    cancel = bench.cancel_request(report.client_order_id, report.exchange_order_id)
    request = ModifyRequest(**structs.asdict(cancel), order=terms)
    try:
        changed = await bench.venue.modify(request)
    except Rejected:
        assert not bench.capabilities.lists_open_orders or await bench.is_listed(report)
        return False
    assert changed.price in (None, terms.price)
    return True


@case("O-14", level=2, ability="cancel_reports_cum_qty")
async def test_canceled_quantity(bench: Bench) -> bool:
    """The report of a cancel has the filled quantity."""
    return (await bench.cancel(await bench.submit())).cum_qty is not None


@case("O-15", level=2, ability="validity_window")
async def test_an_old_request(bench: Bench) -> bool:
    """A request that arrives after the end of its validity is refused for certain."""
    window_ns = bench.capabilities.validity_window_ns or 60 * 10**9
    skew_ns = bench.capabilities.clock_skew_ns
    try:
        await bench.submit(stamp_ns=CLOCK.now_ns() - 2 * window_ns - 2 * skew_ns - 10**9)
    except (Rejected, NotSent):
        return True
    return False


@case("O-16", level=2)
async def test_precision(bench: Bench) -> None:
    """All decimals of a price and a quantity survive, in reports, lists and queries."""
    order = bench.order()
    assert order.price is not None
    exact = bench.order(
        price=order.price + max(1, bench.symbol.tick_size), quantity=order.quantity + max(1, bench.symbol.lot_size)
    )
    report = await bench.submit(exact)
    shown = [report]
    if bench.capabilities.lists_open_orders:
        await bench.eventually("the list shows the order", lambda: bench.is_listed(report))
        shown.extend((await bench.snapshot()).open_orders)
    if (found := await found_by_id(bench, str(report.client_order_id))) is not None:
        shown.append(found)
    for item in shown:
        if item.exchange_order_id == report.exchange_order_id:
            assert (item.order_qty, item.price) in ((exact.quantity, exact.price), (None, None))


@case("O-17", level=2)
async def test_a_request_from_the_future(bench: Bench) -> None:
    """A request that is stamped in the future is accepted, or refused for certain: its outcome is known."""
    try:
        await bench.submit(stamp_ns=CLOCK.now_ns() + DAY_NS)
    except (Rejected, NotSent):
        return
    except OutcomeUnknown as problem:
        raise AssertionError(f"the outcome of a request with a future stamp is unknown: {problem}") from problem


async def is_accepted(bench: Bench, order: StandardOrder) -> bool:
    """Submit an order; returns whether the venue takes it. Raises `OutcomeUnknown` if that is not certain."""
    try:
        return (await bench.submit(order)).ord_status is not OrdStatus.REJECTED
    except (Rejected, NotSent):
        return False


@pytest.mark.parametrize("kind", OrderType)
def test_order_types(conformance_kit: Kit, kind: OrderType) -> None:
    """Orders of a type that is declared are accepted, others refused for certain."""

    async def accepted(bench: Bench) -> bool:
        if kind in bench.capabilities.order_types - bench.symbol.order_types:
            raise NotObservable(f"the symbol takes no {kind} orders")
        terms: dict[str, Any] = {}
        if kind in (OrderType.STOP, OrderType.STOP_LIMIT):
            trigger = bench.price_above(await bench.trade())
            terms = {"stop_price": trigger} | ({"price": trigger} if kind is OrderType.STOP_LIMIT else {})
        return await is_accepted(bench, bench.order(kind, **terms))

    conformance_kit.run(f"T-{kind}", 2, f"A {kind} order is accepted", kind, accepted)


@pytest.mark.parametrize("kind", TimeInForce)
def test_times_in_force(conformance_kit: Kit, kind: TimeInForce) -> None:
    """Orders with a time in force that is declared are accepted, others refused for certain."""

    async def accepted(bench: Bench) -> bool:
        if kind in bench.capabilities.times_in_force - bench.symbol.times_in_force:
            raise NotObservable(f"the symbol takes no {kind} orders")
        return await is_accepted(bench, bench.order(time_in_force=kind))

    conformance_kit.run(f"T-{kind}", 2, f"A {kind} order is accepted", kind, accepted)


@case("R-01", level=2)
async def test_rejections(bench: Bench) -> None:
    """An order that the venue refuses for its terms or for funds is a rejection, and nothing is open."""
    unknown = structs.replace(bench.order(), symbol_id="NO-SUCH-SYMBOL")
    for order in (bench.largest_order(), unknown):
        try:
            report = await bench.submit(order)
        except Rejected:
            continue
        else:
            assert report.ord_status is OrdStatus.REJECTED, f"{order.symbol_id} {order.quantity} was accepted"


@case("R-02", level=2)
async def test_cancel_of_an_unknown_order(bench: Bench) -> None:
    """The cancel of an order that is not open has an unknown outcome: it does not tell how the order ended."""
    report = await bench.submit()
    await bench.cancel(report)
    for target in (report, structs.replace(report, client_order_id=bench.new_id(), exchange_order_id=None)):
        try:
            await bench.cancel(target)
        except OutcomeUnknown:
            continue
        except Rejected as problem:
            raise AssertionError(f"a cancel of an order that is not open was rejected: {problem}") from problem
        raise AssertionError("a cancel of an order that is not open was accepted")


@case("R-03", level=2)
async def test_no_session(bench: Bench) -> None:
    """Without a session nothing is sent, and nothing is queued until there is one."""
    await bench.close()
    try:
        await bench.submit()
    except NotSent:
        pass
    except VenueError as problem:
        raise AssertionError(f"a request without a session raised {type(problem).__name__}, not NotSent") from problem
    else:
        raise AssertionError("a request without a session was accepted")
    await bench.connect()
    assert await bench.orders_open() == 0


@case("R-04", level=2)
async def test_immediate_orders(bench: Bench) -> None:
    """An order that is immediate or canceled, and cannot trade, ends by itself."""
    if TimeInForce.IOC not in bench.symbol.times_in_force:
        raise NotObservable("the symbol takes no immediate orders")
    report = await bench.submit(bench.order(OrderType.LIMIT, time_in_force=TimeInForce.IOC))

    async def ended() -> bool:
        seen = await found_by_id(bench, str(report.client_order_id))
        known = [item for item in (report, seen, *bench.reports) if item is not None]
        if any(item.ord_status in ENDED and item.exchange_order_id == report.exchange_order_id for item in known):
            return True
        return bench.capabilities.lists_open_orders and not await bench.is_listed(report)

    await bench.eventually("the order ends", ended)


@case("R-05", level=2)
async def test_a_new_session(bench: Bench) -> None:
    """A new session reports what happens from then on."""
    report = await bench.submit()
    await bench.close()
    bench.reports.clear()
    await bench.connect()
    await bench.cancel(report)
    if not bench.polled:
        await bench.eventually("the new session reports the cancel", lambda: bench.is_reported(report))


@case("R-06", level=2)
async def test_a_session_that_breaks(bench: Bench) -> None:
    """A request whose session ends before its answer is not rejected; one that was not sent never arrives."""
    name = bench.new_id()
    request = asyncio.create_task(bench.submit(client_order_id=name))
    await asyncio.sleep(0)
    await bench.close()
    try:
        await request
    except Rejected as problem:
        raise AssertionError(f"a request without an answer was rejected: {problem}") from problem
    except NotSent:
        await bench.connect()
        assert await bench.orders_open() == 0, "a request that was not sent has arrived"
    except OutcomeUnknown:
        return
