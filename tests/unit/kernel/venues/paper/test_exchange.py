"""The in-process exchange on virtual time: the tape's pace, exact delays, starting and stopping."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest

from kernel.clock import NS_PER_S, LoopClock
from kernel.errors import IntegrityError, NotSent, OutcomeUnknown, Rejected, ValidationError
from kernel.models import ExecType, OrdStatus
from kernel.venues import FaultPlan, PaperConfig, PaperVenue
from kernel.venues.paper.faults import Fault, FaultKind, FaultOperation, fault, operations_of
from kernel.venues.paper.matching.config import TapeTrade
from kernel.venues.paper.transport import REPORTS_MAX, ReportQueue
from tests.paper_world import BUY, LAST, LOT, SYMBOL, cancel, limit, market, submit

CONFIG = PaperConfig(first_id=1)


def tape(*trades: tuple[float, int, int]) -> list[TapeTrade]:
    """Trades at these seconds, prices and lots."""
    return [
        TapeTrade(number, price, lots * LOT, round(at_s * NS_PER_S), buyer_is_maker=True)
        for number, (at_s, price, lots) in enumerate(trades)
    ]


def venue_of(**options: Any) -> PaperVenue:
    """A venue on the loop's clock."""
    arguments: dict[str, Any] = {"clock": LoopClock(), "config": CONFIG, "timeout_s": 10} | options
    return PaperVenue(**arguments)


@pytest.mark.looptime
async def test_the_tape_fills_at_its_own_pace() -> None:
    """A trade 30 s into the tape fills after 30 s, and after 3 s at ten times the speed."""
    for speed, due_s in ((1, 30), (10, 3)):
        venue = venue_of(tape=tape((0, LAST, 1), (30, LAST - 500, 50)), speed=speed)
        start_ns = venue.clock.now_ns()
        await venue.connect()
        await venue.submit(submit("a", limit(quantity=10 * LOT, price=LAST - 100), venue.clock))
        stream = venue.reports()
        assert (await anext(stream)).exec_type is ExecType.NEW
        fill = await anext(stream)
        assert fill.exec_type is ExecType.TRADE
        assert (fill.transact_time_ns or 0) - start_ns == pytest.approx(due_s * NS_PER_S, abs=1_000_000)
        await venue.close()


@pytest.mark.looptime
async def test_the_shipped_market_never_ends() -> None:
    """`PaperVenue()` repeats its own tape, so that an order at the market is filled at any time."""
    venue = venue_of()
    await venue.connect()
    for round_number in range(2):
        name = f"a{round_number}"
        await venue.submit(submit(name, limit(quantity=10 * LOT, price=LAST), venue.clock))
        async with asyncio.timeout(120):
            while (found := await venue.order(SYMBOL, name, None)) is not None and found.leaves_qty:
                await asyncio.sleep(1)
        await asyncio.sleep(70)
    await venue.close()


@pytest.mark.looptime
async def test_the_market_stands_still_after_the_tape() -> None:
    """Takers still trade with the depth around the last price of a tape that ended."""
    venue = venue_of(tape=tape((0, LAST + 1_000, 1), (1, LAST + 2_000, 1)))
    await venue.connect()
    await asyncio.sleep(60)
    await venue.submit(submit("a", market(quantity=LOT), venue.clock))
    found = await venue.snapshot(0, [])
    assert LAST + 2_000 < (found.fills[0].last_px or 0) < LAST + 2_200
    await venue.close()


async def test_a_supplied_tape_sets_the_first_price() -> None:
    """The depth is around the tape's first price before that trade is played."""
    venue = venue_of(tape=tape((0, 2_000_000, 1)), speed="step")
    await venue.connect()
    assert await venue.admin("last_price", symbol_id=SYMBOL) == 2_000_000
    await venue.close()


@pytest.mark.parametrize(
    ("op", "params"),
    [
        ("cancel_order", {"client_order_id": "a", "text": -1}),
        ("correct", {"trade_id": "t", "price": "1", "quantity": 1}),
        ("filters", {"symbol_id": SYMBOL, "tick_size": 1.0, "lot_size": 1}),
        ("other_order", {"order": {}}),
        ("step", {"count": True}),
        ("step", {"counts": 1}),
        ("trade", {"symbol_id": SYMBOL, "price": 1}),
        ("fault", {"fault": None}),
        ("stop", {}),
    ],
)
async def test_an_operation_validates_its_parameters(op: str, params: dict[str, Any]) -> None:
    """Wrong, missing and unknown parameters, and unknown operations, are refused, and the exchange is as before."""
    venue = venue_of()
    await venue.connect()
    before = await venue.admin("truth")
    with pytest.raises(ValidationError):
        await venue.admin(op, **params)
    assert await venue.admin("truth") == before
    await venue.close()


@pytest.mark.skipif("KERNEL_TAPE" not in os.environ, reason="KERNEL_TAPE names no tape")
async def test_a_real_tape_fills_orders_around_it() -> None:
    """At full speed a real tape fills the orders that it trades through, never beyond their quantity."""
    venue = venue_of(tape=os.environ["KERNEL_TAPE"], speed="max")
    await venue.connect()
    price = await venue.admin("last_price", symbol_id=venue.exchange.tape_symbol)
    for number in range(10):
        terms = limit(quantity=100 * LOT, price=price - 10 * number, symbol_id=venue.exchange.tape_symbol)
        await venue.submit(submit(f"a{number}", terms, venue.clock))
    await asyncio.wait_for(venue.exchange.tape_ended.wait(), 60)
    found = await venue.snapshot(0, [])
    assert (
        sum(fill.last_qty or 0 for fill in found.fills) + sum(o.leaves_qty or 0 for o in found.open_orders)
        == 1000 * LOT
    )
    await venue.close()


@pytest.mark.looptime
async def test_the_window_is_checked_on_arrival() -> None:
    """A request that expires on its way is refused before it matches."""
    venue = venue_of(config=PaperConfig(first_id=1, request_latency_ns=3 * NS_PER_S), speed="step")
    await venue.connect()
    await venue.submit(submit("a", limit(), venue.clock, age_s=1))
    with pytest.raises(Rejected, match="recvWindow"):
        await venue.submit(submit("b", limit(), venue.clock, age_s=2.5))
    await venue.close()


@pytest.mark.looptime
async def test_a_lost_answer_takes_the_whole_timeout() -> None:
    """`OutcomeUnknown` is raised exactly at the timeout, and the order has arrived."""
    venue = venue_of(faults=FaultPlan([fault("request_late", "submit", delay_s=4)]), speed="step")
    await venue.connect()
    began_ns = venue.clock.now_ns()
    with pytest.raises(OutcomeUnknown, match="10"):
        await venue.submit(submit("a", limit(), venue.clock))
    assert venue.clock.now_ns() - began_ns == pytest.approx(10 * NS_PER_S, abs=1_000_000)
    found = await venue.order(SYMBOL, "a", None)
    assert found is not None
    assert (found.transact_time_ns or 0) - began_ns == pytest.approx(4 * NS_PER_S, abs=1_000_000)
    await venue.close()


@pytest.mark.looptime
async def test_a_canceled_call_still_arrives() -> None:
    """Canceling the caller does not recall the request."""
    venue = venue_of(config=PaperConfig(first_id=1, request_latency_ns=NS_PER_S), speed="step")
    await venue.connect()
    call = asyncio.create_task(venue.submit(submit("a", limit(), venue.clock)))
    await asyncio.sleep(0.5)
    call.cancel()
    await asyncio.sleep(1)
    assert len((await venue.truth())["orders"]) == 1
    await venue.close()


@pytest.mark.looptime
async def test_the_same_seed_gives_the_same_session() -> None:
    """Two runs of one script report the same bytes at the same instants."""

    async def session() -> list[str | None]:
        faults = [fault("request_late", "submit", delay_s=1.5), fault("report_doubled", "report")]
        faults += [fault("report_late", "report", delay_s=0.3), *faults]
        venue = venue_of(faults=FaultPlan(faults), seed=5, timeout_s=1)
        await venue.connect()
        stream = venue.reports()
        for number in range(20):
            request = submit(f"a{number}", limit(BUY, quantity=20 * LOT, price=LAST + number), venue.clock)
            try:
                await venue.submit(request)
            except OutcomeUnknown:
                continue
        await asyncio.sleep(5)
        await venue.close()
        return [report.raw async for report in stream]

    origin = LoopClock().now_ns()
    first = await session()
    shift = LoopClock().now_ns() - origin
    second = await session()
    assert len(first) > 20
    assert [_moved(raw, shift) for raw in first] == second


def _moved(raw: str | None, shift_ns: int) -> str | None:
    """A frame, shifted in time."""
    assert raw is not None
    return re.sub(r'(?<="transact_time_ns":)\d+', lambda instant: str(int(instant.group()) + shift_ns), raw)


async def test_an_exchange_stops_on_close_and_continues_on_connect() -> None:
    """An owned exchange keeps its orders; a shared one keeps running."""
    venue = venue_of(speed="step")
    await venue.connect()
    await venue.submit(submit("a", limit(), venue.clock))
    sharing = PaperVenue(exchange=venue.exchange)
    await sharing.connect()
    await sharing.close()
    assert await venue.order(SYMBOL, "a", None) is not None
    await venue.close()
    with pytest.raises(NotSent):
        await sharing.connect()
    await venue.connect()
    assert await venue.order(SYMBOL, "a", None) is not None
    await venue.cancel(cancel("a", venue.clock))
    await venue.close()


async def test_a_new_venue_continues_from_the_journal(tmp_path: Path) -> None:
    """A venue on the same journal is the same exchange; a damaged journal is refused."""
    path = tmp_path / "journal"
    for present in (False, True):
        venue = venue_of(journal=path, speed="step")
        await venue.connect()
        found = await venue.order(SYMBOL, "a", None)
        assert (found is not None and found.ord_status is OrdStatus.NEW) == present
        if not present:
            await venue.submit(submit("a", limit(), venue.clock))
        await venue.close()
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(IntegrityError, match="line 1"):
        await venue_of(journal=path).connect()


@pytest.mark.parametrize(
    "options",
    [
        {"tape": "/no/BTCUSDT-trades.csv"},
        {"tape": "/no/trades.csv"},
        {"symbol": "DOGEUSDT"},
        {"speed": 0},
        {"address": "no address"},
        {"address": "host:99999"},
    ],
)
def test_invalid_options(options: dict[str, Any]) -> None:
    """They are refused on construction."""
    with pytest.raises(ValidationError):
        PaperVenue(**options)


def test_faults_fit_their_operations() -> None:
    """A fault is refused for an operation that it cannot affect."""
    with pytest.raises(ValueError, match="cannot affect"):
        Fault.checked(kind=FaultKind.BARE_CANCEL, operation=FaultOperation.SNAPSHOT)
    assert all(operations_of(kind) for kind in FaultKind)


async def test_a_reader_that_never_reads_loses_the_stream() -> None:
    """The queue of reports is bounded."""
    venue = venue_of(speed="step")
    await venue.connect()
    report = await venue.submit(submit("a", limit(), venue.clock))
    await venue.close()
    queue = ReportQueue()
    for _ in range(REPORTS_MAX + 10):
        queue.put(report)
    assert len([report async for report in queue.stream()]) == REPORTS_MAX
