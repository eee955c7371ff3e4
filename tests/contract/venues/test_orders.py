"""Amends, groups and other order types at the paper exchange, in process and over a socket: methods, errors,
faults.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kernel.clock import NS_PER_MS
from kernel.errors import NotSent, OutcomeUnknown, Rejected
from kernel.models import ExecType, OrdStatus
from kernel.order_spec import OcoMode, OrderType, StandardOrder, TimeInForce
from kernel.values import as_json
from kernel.venues import AmendDialect, AmendQuantity, Dedupe, ExecutionReport, PaperConfig, PaperVenue, Venue
from kernel.venues.paper.faults import fault
from kernel.venues.paper.matching.config import full_symbols
from tests.contract.venue_worlds import CLOCK, SHORT_S, MakeWorld, eventually, orders_of, take
from tests.paper_world import BUY, LAST, LOT, SELL, SYMBOL, PaperWorld, cancel, group, limit, modify, submit

IN_PLACE, CANCEL_REPLACE = AmendDialect.IN_PLACE, AmendDialect.CANCEL_REPLACE
OCO, OTO = OcoMode.ONE_CANCELS_OTHER, OcoMode.ONE_TRIGGERS_OTHER
SMALLER = limit(quantity=50 * LOT)
Make = Callable[..., Awaitable[PaperVenue]]
EVERYTHING: dict[str, Any] = {
    "symbols": full_symbols(),
    "native_groups": frozenset(OcoMode) - {OcoMode.NONE},
    "amend": IN_PLACE,
}


@pytest.fixture(params=[IN_PLACE, CANCEL_REPLACE])
def dialect(request: pytest.FixtureRequest) -> AmendDialect:
    """Each amend dialect."""
    found: AmendDialect = request.param
    return found


@pytest.fixture
async def make(make_world: MakeWorld) -> Make:
    """Returns a connected venue with every capability."""

    async def made(**config: Any) -> PaperVenue:
        return await (await make_world(**(EVERYTHING | config))).venue()

    return made


@pytest.fixture
async def world(make_world: MakeWorld, dialect: AmendDialect) -> PaperWorld:
    """An exchange that amends in one of the dialects."""
    return await make_world(**(EVERYTHING | {"amend": dialect}))


async def place(venue: PaperVenue, name: str = "a") -> ExecutionReport:
    """Place a resting order of 100 lots."""
    return await venue.submit(submit(name, limit(quantity=100 * LOT), CLOCK))


async def bracket(venue: PaperVenue, mode: OcoMode = OTO) -> list[ExecutionReport]:
    """A group of a buy and a sell order."""
    buy, sell = limit(BUY, quantity=100 * LOT, price=LAST - 100), limit(SELL, quantity=100 * LOT, price=LAST + 100)
    return await venue.submit_group(group(mode, CLOCK, buy=buy, sell=sell))


async def status(venue: PaperVenue, name: str) -> ExecutionReport:
    """Query an order."""
    found = await venue.order(SYMBOL, name, None)
    assert found is not None
    return found


async def test_capabilities_are_declared(make_world: MakeWorld) -> None:
    """Dialects, group modes and order types cross the wire, in a stable order."""
    config = PaperConfig(
        first_id=1,
        symbols=full_symbols(),
        amend=CANCEL_REPLACE,
        amend_quantity=AmendQuantity.REMAINING,
        amend_atomic=False,
        native_groups=frozenset(OcoMode),
    )
    port: Venue = await (await make_world(**dict(config))).venue()
    assert port.capabilities == config.capabilities()
    declared = as_json(port.capabilities)
    assert all(declared[name] == sorted(declared[name]) for name in ("native_groups", "order_types", "times_in_force"))


# --------------------------------------------------------------------------------------------------------------- amends
async def test_modify(world: PaperWorld, dialect: AmendDialect) -> None:
    """The answer is REPLACED, or NEW for the order that replaces it, as on the stream."""
    venue = await world.venue()
    await place(venue)
    answer = await venue.modify(modify("a", SMALLER, CLOCK, request_id="b"))
    assert answer.exec_type is (ExecType.REPLACED if dialect is IN_PLACE else ExecType.NEW)
    assert (answer.client_order_id, answer.orig_client_order_id) == ("b", "a")
    assert (answer.order_qty, answer.exchange_order_id) == (50 * LOT, "1" if dialect is IN_PLACE else "2")
    reports = await take(venue, 2 if dialect is IN_PLACE else 3)
    assert reports[-1] == answer
    found = await status(venue, "b")
    assert (found.leaves_qty, found.exchange_order_id) == (50 * LOT, answer.exchange_order_id)
    assert (await venue.snapshot(0, [])).open_orders == (found,)


async def test_an_amended_order_is_found_by_its_old_id(make: Make) -> None:
    """A query by the old id reports the new one, and a cancel by it cancels the order."""
    venue = await make()
    await place(venue)
    await venue.modify(modify("a", SMALLER, CLOCK, request_id="b"))
    found = await status(venue, "a")
    assert (found.client_order_id, found.orig_client_order_id) == ("b", "a")
    report = await venue.cancel(cancel("a", CLOCK, request_id="c"))
    assert (report.client_order_id, report.orig_client_order_id) == ("c", "b")


async def test_refused_amends(world: PaperWorld) -> None:
    """A refusal crosses the wire complete; a missing order or a used id is `OutcomeUnknown`."""
    venue = await world.venue()
    await place(venue)
    await place(venue, "z")
    with pytest.raises(Rejected, match="LOT_SIZE"):
        await venue.modify(modify("a", limit(quantity=LOT + 1), CLOCK))
    with pytest.raises(OutcomeUnknown) as caught:
        await venue.modify(modify("nobody", SMALLER, CLOCK))
    assert caught.value.code == "-2011"
    with pytest.raises(OutcomeUnknown) as caught:
        await venue.modify(modify("a", SMALLER, CLOCK, request_id="z"))
    assert caught.value.duplicate
    assert (await status(venue, "a")).order_qty == 100 * LOT


async def test_an_amend_to_a_remaining_quantity(make: Make, dialect: AmendDialect) -> None:
    """A fill during the amend adds to the total."""
    venue = await make(amend=dialect, amend_quantity=AmendQuantity.REMAINING)
    await place(venue)
    await venue.admin("trade", symbol_id=SYMBOL, price=LAST - 200_000, quantity=30 * LOT)
    answer = await venue.modify(modify("a", SMALLER, CLOCK, request_id="b", cum_qty=10 * LOT))
    assert answer.leaves_qty == 40 * LOT


async def test_a_non_atomic_replace(make: Make) -> None:
    """The old order is canceled and reported, then the new one is refused."""
    venue = await make(amend=CANCEL_REPLACE, amend_atomic=False)
    await place(venue)
    with pytest.raises(Rejected, match="LOT_SIZE"):
        await venue.modify(modify("a", limit(quantity=LOT + 1), CLOCK))
    assert [report.exec_type for report in await take(venue, 2)] == [ExecType.NEW, ExecType.CANCELED]


# --------------------------------------------------------------------------------------------------------------- groups
async def test_submit_group(make: Make) -> None:
    """The answer has one report per order, in order; further reports come on the stream."""
    venue = await make()
    reports = await bracket(venue)
    assert [(report.client_order_id, report.exec_type) for report in reports] == [
        ("buy", ExecType.NEW),
        ("sell", ExecType.PENDING_NEW),
    ]
    assert await take(venue, 2) == reports
    await venue.admin("trade", symbol_id=SYMBOL, price=LAST - 101, quantity=30 * LOT)
    trade, released = (await take(venue, 2))[-2:]
    assert (trade.last_qty, released.client_order_id, released.order_qty) == (30 * LOT, "sell", 30 * LOT)
    truth = await venue.truth()
    assert {order["group_mode"] for order in truth["orders"]} == {"ONE_TRIGGERS_OTHER"}


async def test_refused_groups(make: Make, make_world: MakeWorld) -> None:
    """An undeclared mode, a refused order or a used id refuses the whole group."""
    plain = await (await make_world()).venue()
    with pytest.raises(Rejected) as caught:
        await bracket(plain)
    assert caught.value.code == "-1020"
    venue = await make()
    with pytest.raises(Rejected, match="LOT_SIZE"):
        await venue.submit_group(group(OCO, CLOCK, a=SMALLER, b=limit(quantity=LOT + 1)))
    await place(venue, "b")
    with pytest.raises(OutcomeUnknown) as unknown:
        await venue.submit_group(group(OCO, CLOCK, a=SMALLER, b=SMALLER))
    assert unknown.value.duplicate
    assert len((await venue.truth())["orders"]) == 1


async def test_without_a_session_nothing_is_sent(world: PaperWorld) -> None:
    """Amends and groups before a connect are `NotSent`."""
    venue = await world.venue(connect=False)
    with pytest.raises(NotSent):
        await bracket(venue)
    with pytest.raises(NotSent):
        await venue.modify(modify("a", SMALLER, CLOCK))


# ------------------------------------------------------------------------------------------------- other kinds of order
async def test_stops(make: Make) -> None:
    """A stop order reports NEW, TRIGGERED, TRADE."""
    venue = await make()
    order = StandardOrder(
        symbol_id=SYMBOL, side=BUY, order_type=OrderType.STOP, quantity=10 * LOT, stop_price=LAST + 100
    )
    await venue.submit(submit("a", order, CLOCK))
    await venue.admin("trade", symbol_id=SYMBOL, price=LAST + 100, quantity=LOT)
    reports = await take(venue, 3)
    assert [report.exec_type for report in reports] == [ExecType.NEW, ExecType.TRIGGERED, ExecType.TRADE]
    assert (await venue.truth())["orders"][0]["stop_price"] == LAST + 100


async def test_orders_expire_without_a_request(make: Make) -> None:
    """EXPIRED comes on the stream at the instant; earlier orders first."""
    venue = await make()
    now_ns = CLOCK.now_ns()
    for name, after_ms in (("late", 200), ("soon", 100)):
        terms = {"time_in_force": TimeInForce.GTD, "expire_at_ns": now_ns + after_ms * NS_PER_MS}
        await venue.submit(submit(name, limit(quantity=100 * LOT, **terms), CLOCK))
    reports = await take(venue, 4)
    assert [(report.client_order_id, report.ord_status) for report in reports[2:]] == [
        ("soon", OrdStatus.EXPIRED),
        ("late", OrdStatus.EXPIRED),
    ]
    assert CLOCK.now_ns() >= now_ns + 200 * NS_PER_MS


# --------------------------------------------------------------------------------------------------------------- faults
UNHEARD = ["request_lost", "request_late", "answer_lost", "server_error", "disconnect", "disconnect_after"]
CARRIED_OUT = {"request_late", "answer_lost", "server_error", "disconnect_after"}


@pytest.mark.parametrize("kind", UNHEARD)
async def test_an_unanswered_amend(world: PaperWorld, kind: str) -> None:
    """The outcome is unknown, and a query by the request's id tells it."""
    venue, hasty = await world.venue(), await world.venue(timeout_s=SHORT_S)
    await place(venue)
    await venue.inject(fault(kind, "modify", delay_s=2 * SHORT_S))
    with pytest.raises(OutcomeUnknown):
        await hasty.modify(modify("a", SMALLER, CLOCK, request_id="b"))
    if kind not in CARRIED_OUT:
        assert await venue.order(SYMBOL, "b", None) is None
        assert (await status(venue, "a")).order_qty == 100 * LOT
        return

    async def arrived() -> bool:
        return await venue.order(SYMBOL, "b", None) is not None

    await eventually(arrived)
    assert [report.leaves_qty for report in (await venue.snapshot(0, [])).open_orders] == [50 * LOT]


@pytest.mark.parametrize("kind", ["not_sent", "answer_late", "request_doubled", "duplicate_refusal"])
async def test_other_faults_of_an_amend(world: PaperWorld, kind: str) -> None:
    """Not sent, a late answer, a duplicated request and a false duplicate refusal."""
    venue = await world.venue()
    await place(venue)
    await venue.inject(fault(kind, "modify", delay_s=0.02))
    if kind in ("not_sent", "duplicate_refusal"):
        with pytest.raises(NotSent if kind == "not_sent" else OutcomeUnknown):
            await venue.modify(modify("a", SMALLER, CLOCK, request_id="b"))
    else:
        assert (await venue.modify(modify("a", SMALLER, CLOCK, request_id="b"))).order_qty == 50 * LOT
    await asyncio.sleep(0.05)
    working = [report.leaves_qty for report in (await venue.snapshot(0, [])).open_orders]
    assert working == [100 * LOT if kind == "not_sent" else 50 * LOT]


async def test_a_duplicated_amend_without_dedupe(make: Make, dialect: AmendDialect) -> None:
    """In place the copy applies again; with cancel/replace it finds the old order gone."""
    venue = await make(amend=dialect, dedupe=Dedupe.NONE)
    placed = await place(venue)
    await venue.inject(fault("request_doubled", "modify", delay_s=0.02))
    request = modify("a", SMALLER, CLOCK, request_id="b", target_exchange_order_id=placed.exchange_order_id)
    await venue.modify(request)
    await asyncio.sleep(0.05)
    assert [report.leaves_qty for report in (await venue.snapshot(0, [])).open_orders] == [50 * LOT]


@pytest.mark.parametrize("kind", UNHEARD)
async def test_an_unanswered_group(make_world: MakeWorld, kind: str) -> None:
    """Either all of it exists or nothing."""
    world = await make_world(**EVERYTHING)
    venue, hasty = await world.venue(), await world.venue(timeout_s=SHORT_S)
    await venue.inject(fault(kind, "submit_group", delay_s=2 * SHORT_S))
    with pytest.raises(OutcomeUnknown):
        await bracket(hasty)
    expected = 2 if kind in CARRIED_OUT else 0

    async def arrived() -> bool:
        return len((await venue.truth())["orders"]) == expected

    await eventually(arrived)


async def test_a_duplicated_group_is_one_group(make: Make) -> None:
    """The copy is refused while any of its orders is open."""
    venue = await make()
    await venue.inject(fault("request_doubled", "submit_group", delay_s=0.02))
    await bracket(venue)
    await asyncio.sleep(0.05)
    assert len(orders_of(await venue.truth(), "buy")) == 1


async def test_lost_and_late_reports_of_an_amend(world: PaperWorld) -> None:
    """If a report is lost, the answer and the queries still show the amend."""
    venue = await world.venue()
    await place(venue)
    await take(venue, 1)
    await venue.inject(fault("report_lost", "report"))
    answer = await venue.modify(modify("a", SMALLER, CLOCK, request_id="b"))
    assert (await venue.snapshot(0, [])).open_orders[0].order_qty == answer.order_qty
