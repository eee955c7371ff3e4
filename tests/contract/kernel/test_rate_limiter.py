"""A whole kernel under a tight rate budget: who goes first, that the venue never has to refuse, that everything ends well.

On the memory log and virtual time, with the paper exchange in this process, which counts by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec import structs

from kernel import EventSourcedKernel, events
from kernel.actions import Priority
from kernel.clock import NS_PER_S, LoopClock, SeededIds
from kernel.log import EventLog, open_log
from kernel.metrics import CallResult, RateWindow, RelistResult
from kernel.models import AttemptKind, ReconciliationStatus
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.settings import KernelSettings
from kernel.values.edge import validated
from kernel.venues import PaperVenue
from kernel.venues.base import AmendDialect, Operation, RateLimit, RateLimitKind, VenueCapabilities
from kernel.venues.paper.faults import FaultPlan, fault
from kernel.venues.paper.matching.config import PaperConfig, built_in_symbols
from replay import open_kernel
from replay.operations.emergency_cancel import EmergencyCancelReport, emergency_cancel
from tests.nightly import after_the_first
from tests.readings import gauges_of, value

pytestmark = pytest.mark.looptime
LOT = 10_000
WEIGHT = RateLimitKind.REQUEST_WEIGHT
TIGHT = RateLimit(kind=WEIGHT, window_ns=10 * NS_PER_S, limit=40)
"""Four calls a second, of whatever kind."""


def bid(number: int = 0) -> StandardOrder:
    """A buy order that rests."""
    return StandardOrder(
        symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=LOT, price=5_900_000 + number
    )


@dataclass
class Bench:
    """A kernel that leads, and its exchange."""

    kernel: EventSourcedKernel
    log: EventLog
    venue: PaperVenue
    clock: LoopClock
    faults: FaultPlan

    async def attempts(self, after: int = 0) -> list[events.AttemptStarted]:
        """What was sent after a position, in that order."""
        found: list[events.AttemptStarted] = []
        async for batch in self.log.tail(after):
            found += [event for event in batch if isinstance(event, events.AttemptStarted)]
            if batch[-1].position == (await self.log.head()).position:
                return found
        raise AssertionError("the log has ended")

    async def open_orders(self) -> int:
        """How many orders of ours work at the exchange."""
        return sum(order["status"] == "NEW" for order in (await self.venue.truth())["orders"])

    async def until_open(self, count: int, timeout_s: float = 1_000) -> None:
        """Return once so many orders work at the exchange."""
        async with asyncio.timeout(timeout_s):
            while await self.open_orders() != count:
                await asyncio.sleep(0.05)

    def refused(self) -> int:
        """How many calls the exchange has refused."""
        return sum(value(self.kernel.metrics.venue_requests, name, CallResult.REJECTED) for name in Operation)


@asynccontextmanager
async def a_bench(*limits: RateLimit, declared: bool = True, latency_ms: int = 0, **more: Any) -> AsyncIterator[Bench]:
    """A kernel that is ready, at an exchange with these rate limits; `told` whether the kernel knows them."""
    config = {name: more.pop(name) for name in ("amend",) if name in more}
    clock, faults = LoopClock(), FaultPlan()
    symbols = tuple(structs.replace(item, max_open_orders=10_000) for item in built_in_symbols())
    paper = PaperConfig(
        symbols=symbols,
        rate_limits=limits,
        ladder_levels=0,
        first_id=1,
        request_latency_ns=latency_ms * 1_000_000,
        answer_latency_ns=latency_ms * 1_000_000,
        **config,
    )
    venue = PaperVenue(tape=(), speed="step", symbol="BTCUSDT", config=paper, clock=clock, faults=faults)
    if not declared:
        venue.exchange.capabilities = structs.replace(venue.exchange.capabilities, rate_limits=())
    async with (
        open_log("memory://", exchange_id="paper", clock=clock, ids=SeededIds(1)) as log,
        open_kernel(log, venue=venue, clock=clock, ids=SeededIds(2), settings=KernelSettings(**more)) as kernel,
    ):
        await kernel.wait_ready(60)
        yield Bench(kernel, log, venue, clock, faults)


async def place(bench: Bench, count: int, name: str) -> None:
    """Want so many orders."""
    for number in range(count):
        await bench.kernel.place_order(bid(number), intent_id=f"{name}{number}", wait="recorded")


@pytest.mark.parametrize("latency_ms", after_the_first(1, (150, 0)))
async def test_cancels_go_before_orders_that_wait(latency_ms: int) -> None:
    """Of hundreds of cancels and orders at once, all cancels leave first, and none is rejected."""
    async with a_bench(TIGHT, latency_ms=latency_ms, budget_ageing_s=600) as bench:
        await place(bench, 200, "old")
        await bench.until_open(200)
        await place(bench, 60, "early")
        await asyncio.sleep(1)
        ordered = len(await bench.attempts()) - 200
        began = bench.kernel.state.position
        targets = [f"old{number}" for number in range(200)]
        await asyncio.gather(*(bench.kernel.cancel_order(name, wait="recorded") for name in targets))
        await place(bench, 60, "late")
        async with asyncio.timeout(1_000):  # 120 orders are open once before, while the old ones are canceled
            while len(await bench.attempts(began)) < 320 - ordered:
                await asyncio.sleep(1)
        await bench.until_open(120)
        kinds = [event.kind for event in await bench.attempts(began)]
        assert ordered < 60
        assert kinds == [AttemptKind.CANCEL] * 200 + [AttemptKind.SUBMIT] * (120 - ordered)
        assert bench.refused() == 0
        sent = [event.intent_id for event in await bench.attempts(began) if event.kind is AttemptKind.SUBMIT]
        assert sent == [
            *(f"early{number}" for number in range(ordered, 60)),
            *(f"late{number}" for number in range(60)),
        ]
        states = [await bench.kernel.get_order_state(name) for name in targets]
        assert {state.reconciliation_status for state in states} == {ReconciliationStatus.SYNCED}


async def test_changes_go_before_new_orders() -> None:
    """Changes are sent before orders that were placed earlier."""
    async with a_bench(TIGHT, budget_ageing_s=600, amend=AmendDialect.IN_PLACE) as bench:
        await place(bench, 20, "old")
        await bench.until_open(20)
        await asyncio.sleep(30)
        await place(bench, 60, "new")
        await asyncio.sleep(1)
        began = bench.kernel.state.position
        for number in range(20):
            await bench.kernel.modify_order(f"old{number}", bid(number + 1_000), wait="recorded")
        await bench.until_open(80)
        kinds = [event.kind for event in await bench.attempts(began)]
        assert kinds[:20] == [AttemptKind.AMEND] * 20
        assert bench.refused() == 0


async def test_nothing_starves_behind_cancels() -> None:
    """While cancels use up the limit, new orders and the relist each get a turn within the ageing time."""
    async with a_bench(TIGHT, budget_ageing_s=5, relist_interval_s=10, order_age_s_max=1_000) as bench:
        await place(bench, 240, "old")
        await bench.until_open(240)
        relists = value(bench.kernel.metrics.relists, RelistResult.COMPLETE)
        began = bench.kernel.state.position
        await bench.kernel.cancel_all_orders()
        await place(bench, 1, "new")
        await bench.until_open(1)
        attempts = await bench.attempts(began)
        before = next(number for number, event in enumerate(attempts) if event.kind is AttemptKind.SUBMIT)
        assert 10 <= before <= 60
        assert [event.kind for event in attempts].count(AttemptKind.CANCEL) == 240
        assert value(bench.kernel.metrics.relists, RelistResult.COMPLETE) > relists
        assert bench.refused() == 0


async def test_waiting_for_capacity_holds_no_worker() -> None:
    """A key without capacity waits in the queue, is counted by its kind, and is PENDING."""
    async with a_bench(TIGHT, workers=1) as bench:
        await place(bench, 60, "a")
        await asyncio.sleep(1)
        metrics = bench.kernel.metrics
        gauges = await gauges_of(bench.kernel, bench.clock)
        assert gauges["active_workers",] == 0
        assert gauges["pending_reconciliations",] > 20
        labels = (WEIGHT, RateWindow.SECOND)
        assert gauges["budget_limit", *labels] == 40
        assert gauges["budget_reserved", *labels] == 8
        assert gauges["budget_used", *labels] == 32
        assert value(metrics.budget_waits, *labels, Priority.SUBMIT.name) > 0
        assert value(metrics.budget_waits, *labels, Priority.CANCEL.name) == 0
        await bench.kernel.cancel_order("a0")  # the venue has answered when this returns
        assert await bench.open_orders() < 60


async def test_a_local_rejection_needs_no_capacity() -> None:
    """An order that the symbol no longer takes is rejected at once, though the limit is used up: nothing is sent."""
    async with a_bench(TIGHT, relist_interval_s=10, reference_interval_s=10) as bench:
        kernel = bench.kernel
        await kernel.pause()
        for number in range(0, 60 * 7, 7):
            await kernel.place_order(bid(number - 5_900_000 % 7), intent_id=f"good{number}", wait="recorded")
        await kernel.place_order(bid(1 - 5_900_000 % 7), intent_id="bad", wait="recorded")
        bench.venue.exchange.engine.set_filters("BTCUSDT", tick_size=7)
        async with asyncio.timeout(60):
            while (await kernel.get_symbol_metadata("BTCUSDT")).tick_size != 7:
                await asyncio.sleep(0.1)
        await asyncio.sleep(9)
        await kernel.resume()
        await asyncio.sleep(0.5)
        assert await bench.open_orders() < 60
        state = await kernel.get_order_state("bad")
        assert state.reconciliation_status is ReconciliationStatus.FAILED
        assert bench.refused() == 0


async def test_usage_by_other_clients_is_respected() -> None:
    """Another client uses most of the limit, as the venue reports: no call of ours is rejected."""
    async with a_bench(TIGHT) as bench:
        other = PaperVenue(exchange=bench.venue.exchange, clock=bench.clock)
        await other.connect()
        await asyncio.sleep(10)
        for _ in range(30):
            await other.order("BTCUSDT", "nobody's", None)
        await place(bench, 30, "a")
        await bench.until_open(30)
        assert bench.refused() == 0
        await other.close()


async def test_a_rate_limit_rejection_is_no_failure_of_the_order() -> None:
    """An order rejected for an undeclared rate limit waits for the venue's instant, without a failure."""
    slow = structs.replace(TIGHT, limit=10)
    async with a_bench(slow, declared=False, workers=1) as bench:
        await asyncio.sleep(20)
        began = bench.kernel.state.position
        await place(bench, 30, "a")
        await bench.until_open(30)
        failed: list[events.AttemptFailed] = []
        async for batch in bench.log.tail(began):
            failed += [event for event in batch if isinstance(event, events.AttemptFailed)]
            if batch[-1].position == bench.kernel.state.position:
                break
        assert 1 <= len(failed) <= 4
        for event in failed:
            assert event.failures == 0
            assert event.recorded_at_ns < (event.retry_at_ns or 0) <= event.recorded_at_ns + 10 * NS_PER_S
        sent_ns = [event.decided_at_ns for event in await bench.attempts(began)]
        first = failed[0]
        assert not [at_ns for at_ns in sent_ns if first.recorded_at_ns < at_ns < (first.retry_at_ns or 0)]


async def test_status_queries_use_the_same_limit() -> None:
    """Orders with lost answers are queried within the limit, while new orders wait, and all are found."""
    async with a_bench(TIGHT, request_timeout_s=1, budget_ageing_s=600) as bench:
        for _ in range(20):
            bench.faults.add(fault("answer_lost", "submit"))
            bench.faults.add(fault("report_lost", "report"))
        await place(bench, 90, "a")
        await bench.until_open(90)
        await asyncio.sleep(60)
        states = [await bench.kernel.get_order_state(f"a{number}") for number in range(90)]
        assert {state.reconciliation_status for state in states} == {ReconciliationStatus.SYNCED}
        assert value(bench.kernel.metrics.venue_requests, Operation.ORDER, CallResult.ANSWERED) > 0
        assert bench.refused() == 0


async def test_declared_rate_limits_are_recorded() -> None:
    """The log has the rate limits that were applied."""
    async with a_bench(TIGHT) as bench:
        async for batch in bench.log.tail(0):
            for event in batch:
                if isinstance(event, events.KernelStarted):
                    assert validated(event.capabilities, VenueCapabilities).rate_limits == (TIGHT,)
                    return


async def test_an_emergency_cancel_respects_the_rate_limits() -> None:
    """An emergency cancel of more orders than the limit waits for capacity, and none is rejected."""
    async with a_bench(TIGHT) as bench:
        await place(bench, 100, "old")
        await bench.until_open(100)
        await bench.kernel.stop()
        lines: list[str] = []
        report = EmergencyCancelReport(show=lines.append)
        await emergency_cancel(bench.venue, report, clock=bench.clock)
        assert report.done
        assert [line.split()[-1] for line in lines] == ["canceled"] * 100
        assert await bench.open_orders() == 0
