"""The contract of a venue, at the paper exchange in process and over a socket: every method, error and fault."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import structs

from kernel.clock import NS_PER_MS, NS_PER_S
from kernel.errors import NotFoundError, NotSent, OutcomeUnknown, Rejected, ValidationError
from kernel.models import ExecType, OrdStatus
from kernel.values import as_json
from kernel.venues import (
    Dedupe,
    ExecutionReport,
    FaultKind,
    FaultOperation,
    ModifyRequest,
    PaperConfig,
    PaperVenue,
    ReadLag,
    Venue,
)
from kernel.venues.base import Operation as Counted
from kernel.venues.base import RateLimit, RateLimitKind
from kernel.venues.paper.faults import Fault, fault
from kernel.venues.paper.matching.reports import frame
from tests.contract.venue_worlds import CLOCK, SHORT_S, MakeWorld, eventually, orders_of, take
from tests.paper_world import BUY, COIN, LAST, LOT, SELL, SYMBOL, PaperWorld, cancel, limit, market, submit


async def place(venue: PaperVenue, client_order_id: str, **terms: Any) -> ExecutionReport:
    """Place a resting order."""
    return await venue.submit(submit(client_order_id, limit(**terms), CLOCK))


# ---------------------------------------------------------------------------------------------------------- the methods
async def test_the_adapter_satisfies_the_protocol(venue: PaperVenue) -> None:
    """It has every member of `Venue` and declares its capabilities."""
    port: Venue = venue
    capabilities = port.capabilities
    assert capabilities.dedupe is Dedupe.WHILE_OPEN
    assert capabilities.validity_window_ns == 5 * NS_PER_S
    assert capabilities.cancel_reports_cum_qty
    assert capabilities.sees_closed


async def test_capabilities_follow_the_configuration(make_world: MakeWorld) -> None:
    """The declared capabilities equal the configured ones, also over the wire."""
    config = PaperConfig(
        first_id=1,
        dedupe=Dedupe.FOR_EVER,
        validity_window_ns=None,
        lookup=False,
        lookup_closed=False,
        cancel_reports_cum_qty=False,
        read_lag=ReadLag(order_ns=1, open_orders_ns=2, trades_ns=3),
        clock_skew_ns=4,
        rate_limits=(RateLimit(kind=RateLimitKind.ORDERS, window_ns=NS_PER_S, limit=50, weights={Counted.SUBMIT: 1}),),
    )
    world = await make_world(**dict(config))
    assert (await world.venue()).capabilities == config.capabilities()


async def test_submit_answers_the_first_report(venue: PaperVenue) -> None:
    """The answer is NEW, and the stream has the same report with its frame."""
    answer = await place(venue, "a")
    assert (answer.exec_type, answer.ord_status, answer.client_order_id) == (ExecType.NEW, OrdStatus.NEW, "a")
    assert (answer.order_qty, answer.leaves_qty, answer.cum_qty) == (COIN, COIN, 0)
    assert await take(venue, 1) == [answer]
    assert answer.raw is not None
    assert json.loads(answer.raw) == frame(answer)


async def test_trades_come_on_the_stream(venue: PaperVenue) -> None:
    """Every session of the account receives a taker's NEW and its trades."""
    await venue.submit(submit("a", market(quantity=10 * LOT), CLOCK))
    new, trade = await take(venue, 2)
    assert (new.exec_type, trade.exec_type) == (ExecType.NEW, ExecType.TRADE)
    assert (trade.last_qty, trade.cum_qty, trade.leaves_qty) == (10 * LOT, 10 * LOT, 0)
    assert trade.fill_key == f"paper:{SYMBOL}:1:1"
    assert (trade.fee, trade.fee_asset) == (10, "BTC")
    assert (new.transact_time_ns or 0) < (trade.transact_time_ns or 0)


async def test_ioc_expires(venue: PaperVenue) -> None:
    """An IOC order without a counterparty is EXPIRED by a report of its own."""
    await venue.submit(submit("a", limit(price=LAST, time_in_force="IOC"), CLOCK))
    assert [report.exec_type for report in await take(venue, 2)] == [ExecType.NEW, ExecType.EXPIRED]


async def test_cancel(venue: PaperVenue) -> None:
    """The report has both ids; a second cancel is `OutcomeUnknown`."""
    await place(venue, "a")
    report = await venue.cancel(cancel("a", CLOCK, request_id="c"))
    assert (report.exec_type, report.client_order_id, report.orig_client_order_id) == (ExecType.CANCELED, "c", "a")
    assert report.cum_qty == 0
    with pytest.raises(OutcomeUnknown) as caught:
        await venue.cancel(cancel("a", CLOCK))
    assert caught.value.code == "-2011"


async def test_modify_without_a_dialect_is_refused(venue: PaperVenue) -> None:
    """A venue without an amend dialect refuses to modify."""
    await place(venue, "a")
    request = ModifyRequest(**structs.asdict(cancel("a", CLOCK)), order=limit(quantity=2 * COIN))
    with pytest.raises(Rejected) as caught:
        await venue.modify(request)
    assert caught.value.code == "-1020"


async def test_order(venue: PaperVenue) -> None:
    """The answer is None, or the newest order as ORDER_STATUS at the instant of its newest change."""
    assert await venue.order(SYMBOL, "a", None) is None
    placed = await place(venue, "a")
    found = await venue.order(SYMBOL, "a", None)
    assert found is not None
    assert (found.exec_type, found.ord_status) == (ExecType.ORDER_STATUS, OrdStatus.NEW)
    assert found.transact_time_ns == placed.transact_time_ns
    await venue.cancel(cancel("a", CLOCK))
    closed = await venue.order(SYMBOL, "a", None)
    assert closed is not None
    assert (closed.ord_status, closed.leaves_qty) == (OrdStatus.CANCELED, 0)


async def test_snapshot(venue: PaperVenue) -> None:
    """It has open orders, trades since an instant, balances with locked funds, and its own times."""
    await place(venue, "a")
    await venue.submit(submit("b", market(quantity=10 * LOT), CLOCK))
    fill = (await take(venue, 3))[-1]
    before_ns = CLOCK.now_ns()
    found = await venue.snapshot(0, [])
    assert found.complete
    assert [report.client_order_id for report in found.open_orders] == ["a"]
    assert found.fills == (fill,)
    assert found.balances is not None
    assert found.balances["USDT"].locked == (LAST - 100_000) * COIN // 100
    assert before_ns <= found.began_ns <= found.ended_ns <= CLOCK.now_ns()
    assert (await venue.snapshot((fill.transact_time_ns or 0) + 1, [])).fills == ()


async def test_symbols_and_assets(venue: PaperVenue) -> None:
    """BTCUSDT and ETHUSDT at 2 and 8 decimals; three assets at 8."""
    symbols = {symbol.symbol_id: symbol for symbol in await venue.symbols()}
    assert set(symbols) == {"BTCUSDT", "ETHUSDT"}
    assert {(symbol.price_decimals, symbol.quantity_decimals) for symbol in symbols.values()} == {(2, 8)}
    assert {asset.asset_id: asset.decimals for asset in await venue.assets()} == {"BTC": 8, "ETH": 8, "USDT": 8}


async def test_the_exchange_tells_its_time(venue: PaperVenue) -> None:
    """`time_ns` is the exchange's clock, also over the wire."""
    before_ns = CLOCK.now_ns()
    assert venue.capabilities.tells_time
    assert before_ns <= await venue.time_ns() <= CLOCK.now_ns()


# ----------------------------------------------------------------------------------------------------------- the errors
async def test_a_refusal_is_complete(venue: PaperVenue) -> None:
    """It has the exchange's code, text and retry delay."""
    with pytest.raises(Rejected) as caught:
        await place(venue, "a", quantity=LOT + 1)
    assert (caught.value.code, caught.value.retry_after_s) == ("-1013", None)
    assert "LOT_SIZE" in caught.value.text
    await venue.admin("halt", symbol_id=SYMBOL)
    with pytest.raises(Rejected) as caught:
        await place(venue, "a")
    assert caught.value.retry_after_s == 1.0


async def test_a_late_request_is_refused(venue: PaperVenue) -> None:
    """A request past its window is -1021 and changes nothing."""
    with pytest.raises(Rejected) as caught:
        await venue.submit(submit("a", limit(), CLOCK, age_s=6))
    assert (caught.value.code, caught.value.timestamp, caught.value.retry_after_s) == ("-1021", True, 1.0)
    assert (await venue.truth())["orders"] == []


async def test_a_used_id_is_an_unknown_outcome(venue: PaperVenue) -> None:
    """A duplicate is `OutcomeUnknown`, marked as one."""
    await place(venue, "a")
    with pytest.raises(OutcomeUnknown) as caught:
        await place(venue, "a")
    assert (caught.value.code, caught.value.duplicate) == ("-2010", True)


async def test_without_order_query(make_world: MakeWorld) -> None:
    """The query of a venue without it is `OutcomeUnknown`."""
    venue = await (await make_world(lookup=False)).venue()
    with pytest.raises(OutcomeUnknown):
        await venue.order(SYMBOL, "a", None)


async def test_before_connect_and_after_close_nothing_is_sent(world: PaperWorld) -> None:
    """Without a session every method is `NotSent` and the stream has ended; closing twice is allowed."""
    venue = await world.venue(connect=False)
    for _ in range(2):
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: place(venue, "a"),
            lambda: venue.cancel(cancel("a", CLOCK)),
            lambda: venue.order(SYMBOL, "a", None),
            lambda: venue.snapshot(0, []),
            venue.symbols,
            venue.assets,
        ]
        for call in calls:
            with pytest.raises(NotSent):
                await call()
        assert [report async for report in venue.reports()] == []
        await venue.connect()
        await venue.close()
        await venue.close()
    assert world.exchange.engine.truth()["orders"] == []


async def test_a_new_session_receives_only_new_reports(venue: PaperVenue) -> None:
    """Connecting again ends the old stream and starts another."""
    await place(venue, "a")
    old = venue.reports()
    await venue.connect()
    assert [report.client_order_id async for report in old] == ["a"]
    await place(venue, "b")
    assert [report.client_order_id for report in await take(venue, 1)] == ["b"]


# ----------------------------------------------------------------------------------------------------------- the faults
async def test_not_sent(world: PaperWorld) -> None:
    """The request is `NotSent`, and the exchange has not received it."""
    venue = await world.venue()
    await venue.inject(fault("not_sent", "submit"))
    with pytest.raises(NotSent):
        await place(venue, "a")
    assert (await venue.truth())["orders"] == []
    await place(venue, "a")


async def test_request_lost(world: PaperWorld) -> None:
    """The outcome is unknown, and there is no order."""
    venue, hasty = await world.venue(), await world.venue(timeout_s=SHORT_S)
    await venue.inject(fault("request_lost", "submit"))
    with pytest.raises(OutcomeUnknown):
        await place(hasty, "a")
    assert (await venue.truth())["orders"] == []


async def test_request_late(world: PaperWorld) -> None:
    """The outcome is unknown, and the order arrives later."""
    venue, hasty = await world.venue(), await world.venue(timeout_s=SHORT_S)
    await venue.inject(fault("request_late", "submit", delay_s=2 * SHORT_S))
    with pytest.raises(OutcomeUnknown):
        await place(hasty, "a")
    (report,) = await take(venue, 1)
    assert (report.exec_type, report.client_order_id) == (ExecType.NEW, "a")


async def test_a_request_that_expires_on_its_way(make_world: MakeWorld) -> None:
    """The exchange refuses it; it never becomes an order."""
    world = await make_world(validity_window_ns=50 * NS_PER_MS)
    venue, hasty = await world.venue(), await world.venue(timeout_s=SHORT_S)
    await venue.inject(fault("request_late", "submit", delay_s=2 * SHORT_S))
    with pytest.raises(OutcomeUnknown):
        await place(hasty, "late")
    await asyncio.sleep(3 * SHORT_S)
    assert (await venue.truth())["orders"] == []


@pytest.mark.parametrize(("dedupe", "orders"), [(Dedupe.NONE, 2), (Dedupe.WHILE_OPEN, 1)])
async def test_request_doubled(make_world: MakeWorld, dedupe: Dedupe, orders: int) -> None:
    """It makes two orders without dedupe, and one with it."""
    venue = await (await make_world(dedupe=dedupe)).venue()
    await venue.inject(fault("request_doubled", "submit"))
    assert (await place(venue, "a")).exec_type is ExecType.NEW
    await eventually(lambda: _truth_holds(venue, lambda truth: len(truth["orders"]) == orders))


async def test_a_doubled_request_whose_first_order_is_done(make_world: MakeWorld) -> None:
    """Dedupe while open does not refuse a copy that arrives after the fill."""
    venue = await (await make_world()).venue()
    await venue.inject(fault("request_doubled", "submit", delay_s=0.05))
    await venue.submit(submit("a", market(quantity=10 * LOT), CLOCK))
    await eventually(lambda: _truth_holds(venue, lambda truth: len(orders_of(truth, "a")) == 2))


async def test_answer_lost(world: PaperWorld) -> None:
    """The outcome is unknown, and the order exists and is reported on the stream."""
    venue, hasty = await world.venue(), await world.venue(timeout_s=SHORT_S)
    await venue.inject(fault("answer_lost", "submit"))
    with pytest.raises(OutcomeUnknown):
        await place(hasty, "a")
    assert await venue.order(SYMBOL, "a", None) is not None
    assert (await take(venue, 1))[0].client_order_id == "a"


async def test_answer_late(world: PaperWorld) -> None:
    """The answer comes after the delay; with a shorter timeout the outcome is unknown, and the late answer is ignored."""
    venue, hasty = await world.venue(), await world.venue(timeout_s=SHORT_S)
    for name in "ab":
        await venue.inject(fault("answer_late", "submit", delay_s=2 * SHORT_S))
        if name == "a":
            assert (await place(venue, name)).client_order_id == name
            continue
        with pytest.raises(OutcomeUnknown):
            await place(hasty, name)
    await asyncio.sleep(2 * SHORT_S)
    assert await venue.order(SYMBOL, "b", None) is not None
    assert [report.client_order_id for report in await take(hasty, 2)] == ["a", "b"]


async def test_server_error_but_executed(world: PaperWorld) -> None:
    """A 5xx is `OutcomeUnknown`, and the order exists."""
    venue = await world.venue()
    await venue.inject(fault("server_error", "submit"))
    with pytest.raises(OutcomeUnknown) as caught:
        await place(venue, "a")
    assert caught.value.code == "503"
    assert await venue.order(SYMBOL, "a", None) is not None


async def test_duplicate_refusal(world: PaperWorld) -> None:
    """The answer is a duplicate refusal, and the order exists."""
    venue = await world.venue()
    await venue.inject(fault("duplicate_refusal", "submit"))
    with pytest.raises(OutcomeUnknown) as caught:
        await place(venue, "a")
    assert caught.value.duplicate
    assert await venue.order(SYMBOL, "a", None) is not None


async def test_a_refused_order_is_no_duplicate(world: PaperWorld) -> None:
    """If the order itself is refused, that refusal is the answer."""
    venue = await world.venue()
    await venue.inject(fault("duplicate_refusal", "submit"))
    with pytest.raises(Rejected):
        await place(venue, "a", quantity=1)


@pytest.mark.parametrize(("kind", "arrives"), [("disconnect", False), ("disconnect_after", True)])
async def test_disconnect(world: PaperWorld, kind: str, arrives: bool) -> None:
    """The outcome is unknown, the stream ends, later calls are not sent, and a new session finds the order."""
    venue, other = await world.venue(), await world.venue()
    stream = venue.reports()
    await venue.inject(fault(kind, "submit"))
    with pytest.raises(OutcomeUnknown):
        await place(venue, "a")
    assert [report.client_order_id async for report in stream] in ([], ["a"] * arrives)
    with pytest.raises(NotSent):
        await place(venue, "b")
    await venue.connect()
    found = await venue.order(SYMBOL, "a", None)
    assert (found is not None) == arrives
    await other.order(SYMBOL, "a", None)


async def test_admin_disconnect_ends_every_session(world: PaperWorld) -> None:
    """Every stream ends; pending calls have an unknown outcome."""
    venue, other = await world.venue(), await world.venue()
    await other.inject(fault("answer_late", "submit", delay_s=30))
    call = asyncio.create_task(place(venue, "a"))
    await eventually(lambda: _truth_holds(other, lambda truth: len(truth["orders"]) == 1))
    with contextlib.suppress(OutcomeUnknown):  # over the wire its own answer may be lost with the connection
        await other.admin("disconnect")
    with pytest.raises(OutcomeUnknown):
        await call
    assert [report.client_order_id async for report in venue.reports()] == ["a"]
    assert [report.client_order_id async for report in other.reports()] == ["a"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("report_lost", ["b", "c"]),
        ("report_doubled", ["a", "a", "b", "c"]),
        ("report_reordered", ["b", "a", "c"]),
    ],
)
async def test_report_faults(world: PaperWorld, kind: str, expected: list[str]) -> None:
    """The stream lacks, repeats or swaps a report; answers and queries are unaffected."""
    venue = await world.venue()
    await venue.inject(fault(kind, "report", delay_s=5))
    for name in "abc":
        assert (await place(venue, name)).client_order_id == name
    assert [report.client_order_id for report in await take(venue, len(expected))] == expected
    assert len((await venue.truth())["orders"]) == 3


@pytest.mark.parametrize("kind", ["report_reordered", "report_late"])
async def test_a_reordered_report_arrives_after_its_delay(world: PaperWorld, kind: str) -> None:
    """Without a later report it arrives after its delay."""
    venue = await world.venue()
    await venue.inject(fault(kind, "report", delay_s=0.05))
    await place(venue, "a")
    assert [report.client_order_id for report in await take(venue, 1)] == ["a"]


async def test_stale_snapshot(make_world: MakeWorld) -> None:
    """Stale data within the declared lag are complete; older data are marked incomplete."""
    world = await make_world(read_lag=ReadLag(open_orders_ns=3600 * NS_PER_S, trades_ns=3600 * NS_PER_S))
    venue = await world.venue()
    await place(venue, "a")
    for delay_s, complete in ((1800, True), (7200, False)):
        await venue.inject(fault("snapshot_stale", "snapshot", delay_s=delay_s))
        found = await venue.snapshot(0, [])
        assert (found.complete, found.open_orders) == (complete, ())
        assert (found.open_orders_complete, found.fills_complete) == (complete, complete)
        assert bool(found.text) != complete


async def test_partial_snapshot(world: PaperWorld) -> None:
    """Orders are missing and the snapshot is marked incomplete; the next one is complete."""
    venue = await world.venue()
    for number in range(6):
        await place(venue, f"a{number}", quantity=10 * LOT)
    await venue.inject(fault("snapshot_partial", "snapshot"))
    found = await venue.snapshot(0, [])
    assert len(found.open_orders) == 3
    assert (found.complete, found.open_orders_complete, found.fills_complete) == (False, False, True)
    assert len((await venue.snapshot(0, [])).open_orders) == 6


async def test_failed_snapshot(world: PaperWorld) -> None:
    """A failed query raises instead of returning an empty list."""
    venue = await world.venue()
    await venue.inject(fault("snapshot_failed", "snapshot"))
    with pytest.raises(OutcomeUnknown):
        await venue.snapshot(0, [])


async def test_bare_cancel(make_world: MakeWorld) -> None:
    """By fault or by configuration, answer and report lack the filled quantity; an order query has it."""
    for config in ({}, {"cancel_reports_cum_qty": False}):
        venue = await (await make_world(**config)).venue()
        await place(venue, "a")
        if not config:
            await venue.inject(fault("bare_cancel", "cancel"))
        answer = await venue.cancel(cancel("a", CLOCK))
        assert (answer.cum_qty, answer.leaves_qty, answer.ord_status) == (None, None, OrdStatus.CANCELED)
        assert (await take(venue, 2))[1] == answer
        found = await venue.order(SYMBOL, "a", None)
        assert found is not None
        assert found.cum_qty == 0


async def test_unsolicited_cancel(world: PaperWorld) -> None:
    """The exchange cancels on its own, after it accepts the order or on an operator's request."""
    venue = await world.venue()
    await venue.inject(fault("unsolicited_cancel", "submit"))
    await place(venue, "a")
    await place(venue, "b")
    await eventually(lambda: _truth_holds(venue, lambda truth: orders_of(truth, "a")[0]["status"] == "CANCELED"))
    await venue.admin("cancel_order", client_order_id="b", text="self-trade")
    canceled = [report for report in await take(venue, 4) if report.exec_type is ExecType.CANCELED]
    assert [(report.client_order_id, report.orig_client_order_id) for report in canceled] == [("a", None), ("b", None)]
    assert canceled[1].text == "self-trade"


@pytest.mark.parametrize("operation", ["cancel", "order", "snapshot"])
@pytest.mark.parametrize("kind", ["request_lost", "answer_lost", "server_error"])
async def test_faults_of_queries_and_cancels(world: PaperWorld, operation: str, kind: str) -> None:
    """A lost query is unknown too; a lost cancel may have been executed."""
    venue, hasty = await world.venue(), await world.venue(timeout_s=SHORT_S)
    await place(venue, "a")
    await venue.inject(fault(kind, operation))
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "cancel": lambda: hasty.cancel(cancel("a", CLOCK)),
        "order": lambda: hasty.order(SYMBOL, "a", None),
        "snapshot": lambda: hasty.snapshot(0, []),
    }
    with pytest.raises(OutcomeUnknown):
        await calls[operation]()
    canceled = orders_of(await venue.truth(), "a")[0]["status"] == "CANCELED"
    assert canceled == (operation == "cancel" and kind != "request_lost")


async def test_a_fault_for_one_order_waits_for_it(world: PaperWorld) -> None:
    """A fault with a client order id leaves other orders alone."""
    venue = await world.venue()
    await venue.inject(Fault(kind=FaultKind.SERVER_ERROR, operation=FaultOperation.SUBMIT, client_order_id="b"))
    await place(venue, "a")
    with pytest.raises(OutcomeUnknown):
        await place(venue, "b")
    await place(venue, "c")


async def test_read_lag(make_world: MakeWorld) -> None:
    """Each query shows the state of its lag ago."""
    lag = ReadLag(order_ns=300 * NS_PER_MS, open_orders_ns=300 * NS_PER_MS, trades_ns=300 * NS_PER_MS)
    venue = await (await make_world(read_lag=lag)).venue()
    placed = await place(venue, "a")
    found = await venue.order(SYMBOL, "a", None)
    assert found is None or CLOCK.now_ns() - (placed.transact_time_ns or 0) >= lag.order_ns
    await eventually(lambda: _found(venue, "a"))
    assert len((await venue.snapshot(0, [])).open_orders) == 1


async def test_latency(make_world: MakeWorld) -> None:
    """Requests and answers are delayed and arrive."""
    world = await make_world(request_latency_ns=30 * NS_PER_MS, answer_latency_ns=30 * NS_PER_MS)
    venue = await world.venue()
    began_ns = CLOCK.now_ns()
    await place(venue, "a")
    assert CLOCK.now_ns() - began_ns >= 60 * NS_PER_MS
    with pytest.raises(Rejected, match="LOT_SIZE"):
        await place(venue, "b", quantity=1)


# --------------------------------------------------------------------------------------------- the rest of the world
async def test_other_accounts_and_the_tape(world: PaperWorld) -> None:
    """Fills by other accounts and by the market are reported on the stream."""
    venue = await world.venue()
    assert await venue.admin("last_price", symbol_id=SYMBOL) == LAST
    await place(venue, "a", quantity=30 * LOT, price=LAST - 100)
    other = as_json(limit(SELL, quantity=10 * LOT, price=LAST - 100))
    assert isinstance(await venue.admin("other_order", order=other), str)
    await venue.admin("trade", symbol_id=SYMBOL, price=LAST - 101, quantity=10 * LOT)
    new, first, second = await take(venue, 3)
    assert new.exec_type is ExecType.NEW
    assert [first.last_qty, second.last_qty, second.leaves_qty] == [10 * LOT] * 3
    await place(venue, "b", side=BUY, price=LAST - 90_000)
    assert await venue.admin("step") == 1
    for count in (-1, 100_001):
        with pytest.raises(ValidationError, match="0 … 100000"):
            await venue.admin("step", count=count)


async def test_bust_and_correction(world: PaperWorld) -> None:
    """Each names the fill it replaces, has its own key, and appears in the fills of a snapshot."""
    venue = await world.venue()
    await venue.submit(submit("a", market(quantity=10 * LOT), CLOCK))
    trade = (await take(venue, 2))[1]
    await venue.admin("correct", trade_id=1, price=LAST)
    await venue.admin("bust", trade_id=1)
    corrected, busted, expired = await take(venue, 3)
    assert (corrected.exec_type, corrected.ref_fill_key) == (ExecType.TRADE_CORRECT, trade.fill_key)
    assert (busted.exec_type, busted.ref_fill_key) == (ExecType.TRADE_CANCEL, corrected.fill_key)
    assert expired.exec_type is ExecType.EXPIRED
    assert (await venue.snapshot(0, [])).fills == (trade, corrected, busted)


async def test_invalid_admin_operations(world: PaperWorld) -> None:
    """Unknown operations, invalid parameters and missing orders raise their own errors and change nothing."""
    venue = await world.venue()
    for op, params in (("dance", {}), ("bust", {}), ("bust", {"trade_id": "x"}), ("fault", {"fault": {"kind": "x"}})):
        with pytest.raises(ValidationError):
            await venue.admin(op, **params)
    with pytest.raises(NotFoundError):
        await venue.admin("bust", trade_id=1)
    await place(venue, "a")


async def test_truth(world: PaperWorld) -> None:
    """The exchange's own orders, trades and balances, without lag."""
    venue = await world.venue()
    await place(venue, "a")
    await venue.submit(submit("b", market(SELL, quantity=10 * LOT), CLOCK))
    truth = await venue.truth()
    assert [(order["client_order_id"], order["status"], order["cum_qty"]) for order in truth["orders"]] == [
        ("a", "NEW", 0),
        ("b", "FILLED", 10 * LOT),
    ]
    assert [trade["last_qty"] for trade in truth["trades"]] == [10 * LOT]
    assert truth["balances"]["BTC"]["total"] == 100 * COIN - 10 * LOT


async def _truth_holds(venue: PaperVenue, holds: Callable[[dict[str, Any]], bool]) -> bool:
    return holds(await venue.truth())


async def _found(venue: PaperVenue, client_order_id: str) -> bool:
    return await venue.order(SYMBOL, client_order_id, None) is not None
