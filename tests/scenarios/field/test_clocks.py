"""The clocks of host and venue differ: one finding says so, and orders go on once they agree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kernel import EventSourcedKernel, events
from kernel.clock import NS_PER_S, Clock, LoopClock, SeededIds
from kernel.errors import OutcomeUnknown, Rejected
from kernel.log import open_log
from kernel.models import LookScope, OrdStatus
from kernel.venues.base import AmendDialect, ExecutionReport, VenueCapabilities, VenueRequest
from replay import open_kernel
from replay.views.health import health
from tests.scenarios.field.lab import FieldVenue, field_lab, order, paper_lab

pytestmark = pytest.mark.looptime


class OffClock(Clock):
    """A host's clock that differs from the venue's."""

    def __init__(self, off_s: float = 0.0) -> None:
        self.inner = LoopClock()
        self.off_ns = round(off_s * NS_PER_S)

    def now_ns(self) -> int:
        return self.inner.now_ns() + self.off_ns

    async def sleep_until(self, instant_ns: int) -> None:
        await self.inner.sleep_until(instant_ns - self.off_ns)


class StrictVenue(FieldVenue):
    """A venue that tells its time and refuses requests whose stamps are not within a second of it."""

    off_s = 0.0
    """Its clock less the host's."""
    latency_s = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stamps: list[float] = []
        self.on_submit = self.checked(self.accept)
        self.on_modify = self.checked(self.do_modify)
        self.on_cancel = self.checked(self.do_cancel)

    def checked(self, act: Callable[[Any], ExecutionReport]) -> Callable[[Any], ExecutionReport]:
        def check(request: VenueRequest) -> ExecutionReport:
            now_ns = self.clock.now_ns() + round(self.off_s * NS_PER_S)
            self.stamps.append((request.stamp_ns - now_ns) / NS_PER_S)
            assert request.valid_until_ns == request.stamp_ns + 5 * NS_PER_S
            if abs(request.stamp_ns - now_ns) > NS_PER_S:
                raise Rejected("Timestamp for this request is outside of the recvWindow.", timestamp=True)
            return act(request)

        return check

    async def time_ns(self) -> int:
        await asyncio.sleep(self.latency_s)
        told_ns = self.clock.now_ns() + round(self.off_s * NS_PER_S)
        await asyncio.sleep(self.latency_s)
        return told_ns


def skews(kernel: EventSourcedKernel, *, resolved: bool = False) -> list[str]:
    """The texts of the open findings about clocks, or of all."""
    found = [item for item in kernel.state.findings() if item.kind == "CLOCK_SKEW"]
    return [item.text for item in found if resolved or item.resolved_at_ns is None]


async def unmet(kernel: EventSourcedKernel) -> list[str]:
    """The conditions that do not hold; the log shows that of the clock to every process."""
    [shown] = [item for item in (await health(kernel))["conditions"] if item["type"] == "VENUE_CLOCK"]
    found = [item["type"] for item in (await kernel.health_check())["conditions"] if not item["status"]]
    assert shown["status"] is ("VENUE_CLOCK" not in found)
    assert bool(skews(kernel)) is (shown["reason"] != "Agrees")
    return found


@pytest.mark.parametrize(("off_s", "text"), [(3, "3.000 s ahead of the venue's"), (-8, "8.000 s behind the venue's")])
async def test_a_step_of_the_clock(off_s: float, text: str) -> None:
    """Refused for their timestamps, orders wait; after the clock is mended they work, and the finding is resolved."""
    clock = OffClock()
    async with paper_lab(clock=clock) as (kernel, _):
        await kernel.place_order(order(), intent_id="old")
        clock.off_ns = round(off_s * NS_PER_S)
        await kernel.place_order(order(), intent_id="a")
        await kernel.cancel_order("old", wait="recorded")
        await asyncio.sleep(60)
        assert await unmet(kernel) == ["VENUE_CLOCK"]
        [found] = skews(kernel)
        assert text in found
        assert kernel.state.record("a").number <= 2
        clock.off_ns = 0
        await asyncio.sleep(20)
        assert not skews(kernel)
        assert len(skews(kernel, resolved=True)) == 1
        assert await unmet(kernel) == []
        assert (await kernel.get_order_state("a")).status.ord_status is OrdStatus.NEW
        assert (await kernel.get_order_state("old")).status.ord_status is OrdStatus.CANCELED


@pytest.mark.parametrize(
    ("call", "answered"), [("submit", True), ("modify", True), ("cancel", True), ("cancel", False)]
)
async def test_a_clock_that_is_set_back_by_an_hour(call: str, answered: bool) -> None:
    """What was refused or not answered while the clock was an hour ahead does not wait for an hour afterwards."""
    clock = OffClock()
    venue = FieldVenue(clock.inner, VenueCapabilities(validity_window_ns=5 * NS_PER_S, amend=AmendDialect.IN_PLACE))
    async with (
        open_log("memory://", exchange_id="field", clock=clock, ids=SeededIds(1)) as log,
        open_kernel(log, venue=venue, clock=clock, ids=SeededIds(2)) as kernel,
    ):
        await kernel.wait_ready(30)
        if call != "submit":
            await kernel.place_order(order(), intent_id="a")
        clock.off_ns = 3_600 * NS_PER_S
        act = getattr(venue, f"on_{call}")

        def refuse(request: Any) -> ExecutionReport:
            if not clock.off_ns:
                return act(request)  # type: ignore[no-any-return]
            raise Rejected("Timestamp", timestamp=True) if answered else OutcomeUnknown("timeout")

        setattr(venue, f"on_{call}", refuse)
        changed = order(price=6_000_100)
        if call == "cancel":
            await kernel.cancel_order("a", wait="recorded")
        elif call == "modify":
            await kernel.modify_order("a", changed, wait="recorded")
        else:
            await kernel.place_order(changed, intent_id="a", wait="recorded")
        await asyncio.sleep(100)
        clock.off_ns = 0
        await asyncio.sleep(40)
        assert [item.price for item in venue.open_orders()] == ([] if call == "cancel" else [6_000_100])


@pytest.mark.parametrize("call", ["submit", "listed submit", "modify", "replace"])
@pytest.mark.parametrize("ahead_s", [3, 600])
async def test_a_clock_set_forward_proves_no_absence(call: str, ahead_s: int) -> None:
    """A request that the venue may still accept is not ruled out because the host's clock was set past its validity."""
    clock = OffClock()
    amend = AmendDialect.CANCEL_REPLACE if call == "replace" else AmendDialect.IN_PLACE
    known = {"lookup": not call.startswith("listed"), "amend": amend}
    venue = FieldVenue(clock.inner, VenueCapabilities(validity_window_ns=5 * NS_PER_S, **known))
    async with (
        open_log("memory://", exchange_id="field", clock=clock, ids=SeededIds(1)) as log,
        open_kernel(log, venue=venue, clock=clock, ids=SeededIds(2)) as kernel,
    ):
        venue.clock = clock  # the adapter's is the host's
        await kernel.wait_ready(30)
        if call in ("modify", "replace"):
            await kernel.place_order(order(), intent_id="a")

        def lose(request: Any) -> ExecutionReport:
            clock.off_ns = ahead_s * NS_PER_S
            raise OutcomeUnknown("timeout")

        venue.on_submit = venue.on_modify = lose
        changed = order(price=6_000_100)
        if venue.orders:
            await kernel.modify_order("a", changed, wait="recorded")
        else:
            await kernel.place_order(changed, intent_id="a", wait="recorded")
        await asyncio.sleep(4.9)
        [attempt] = kernel.state.record("a").unresolved
        assert sum(venue.count(name) for name in ("submit", "modify")) == (2 if venue.orders else 1)
        venue.on_submit, venue.on_modify = venue.accept, venue.do_modify
        await asyncio.sleep(60)
        assert attempt.position not in {item.position for item in kernel.state.record("a").unresolved}
        assert [item.price for item in venue.open_orders()] == [6_000_100]


async def test_the_clock_is_ahead_from_the_start() -> None:
    """The difference is known at the connect, before any order is refused."""
    async with paper_lab(clock=OffClock(2.5)) as (kernel, _):
        await asyncio.sleep(1)
        [found] = skews(kernel)
        assert "2.500 s ahead of the venue's" in found
        assert await unmet(kernel) == []


@pytest.mark.parametrize("at_first_s", [0, 30])
async def test_the_trades_cursor_follows_the_venues_time(at_first_s: float) -> None:
    """Where the host is ahead, from the start or after a step, the cursor never passes the venue's time."""
    clock = OffClock(at_first_s)
    async with paper_lab(clock=clock) as (kernel, venue):
        venue.clock = clock  # the adapter's is the host's
        clock.off_ns = 30 * NS_PER_S
        began_ns = clock.inner.now_ns()
        await asyncio.sleep(200)
        assert began_ns < (kernel.state.trades_cursor_ns or 0) <= clock.inner.now_ns()


class LateVenue(FieldVenue):
    """A venue that tells its time: it is 30 s behind the host's."""

    async def time_ns(self) -> int:
        return self.clock.now_ns() - 30 * NS_PER_S


@pytest.mark.parametrize("lookup", [True, False])
async def test_a_query_shows_what_was_recorded_by_the_venues_time(lookup: bool) -> None:
    """Where the host is ahead, neither a list nor a status query counts for what was recorded since."""
    async with field_lab(venue_type=LateVenue, tells_time=True, lookup=lookup) as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(61)
        lab.venue.orders.clear()
        await asyncio.sleep(300)
        stream = await lab.log.read_stream(events.intent_stream("a"))
        queried = [item for item in stream if isinstance(item, events.VenueSnapshotTaken)]
        assert {LookScope.ORDER if lookup else LookScope.TRADES} < {name for item in queried for name in item.scopes}
        assert all(item.began_ns - (item.reflects_ns or 0) >= 30 * NS_PER_S for item in queried)
        assert lab.findings().keys() == {"CLOCK_SKEW", "GHOST"}


async def test_a_small_difference_is_none() -> None:
    """A clock that is half a second off raises nothing and delays nothing."""
    async with paper_lab(clock=OffClock(0.5)) as (kernel, _):
        await kernel.place_order(order(), intent_id="a")
        assert (await kernel.get_order_state("a")).status.ord_status is OrdStatus.NEW
        assert not skews(kernel, resolved=True)


@pytest.mark.parametrize("cancels", [False, True])
async def test_a_venue_that_does_not_tell_its_time(cancels: bool) -> None:
    """Requests refused for their timestamps are tried again, ever less often, and a finding says so."""
    async with field_lab() as lab:
        if cancels:
            await lab.kernel.place_order(order(), intent_id="a")
        refusals: list[object] = []

        def refusing(request: object) -> ExecutionReport:
            refusals.append(request)
            raise Rejected("Timestamp for this request is outside of the recvWindow.", code="-1021", timestamp=True)

        accept, cancel = lab.venue.on_submit, lab.venue.on_cancel
        lab.venue.on_submit = lab.venue.on_cancel = refusing
        if cancels:
            await lab.kernel.cancel_order("a", wait="recorded")
        else:
            await lab.kernel.place_order(order(), intent_id="a", wait="recorded")
        await asyncio.sleep(180)
        assert 5 <= len(refusals) <= 10
        [found] = skews(lab.kernel)
        assert "refuses requests for their timestamps" in found
        lab.venue.on_submit, lab.venue.on_cancel = accept, cancel
        await asyncio.sleep(70)
        status = OrdStatus.CANCELED if cancels else OrdStatus.NEW
        assert (await lab.kernel.get_order_state("a")).status.ord_status is status
        await asyncio.sleep(200)
        assert not skews(lab.kernel)


async def test_a_time_that_cannot_be_read() -> None:
    """A venue whose `time_ns` fails is used without a comparison."""
    async with field_lab(tells_time=True) as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        assert (await lab.kernel.get_order_state("a")).status.ord_status is OrdStatus.NEW
        assert "time_ns of the venue adapter raised AttributeError" in lab.findings()["ADAPTER_ERROR"]


@pytest.mark.parametrize("off_s", [-3.0, 8.0])
async def test_requests_in_venue_time(off_s: float) -> None:
    """Where the adapter takes stamps in venue time, orders go on at once; the finding stands until the clocks agree."""
    async with field_lab(
        venue_type=StrictVenue, tells_time=True, adjusts_clock=True, amend=AmendDialect.IN_PLACE
    ) as lab:
        assert isinstance(lab.venue, StrictVenue)
        lab.venue.off_s = off_s
        await lab.kernel.place_order(order(), intent_id="a", wait="recorded")
        await asyncio.sleep(5)
        assert await unmet(lab.kernel) == []
        [text] = skews(lab.kernel)
        assert text.partition(". To do")[0].endswith("the venue's: requests are stamped in venue time")
        await lab.kernel.modify_order("a", order(price=5_900_000))
        await lab.kernel.cancel_order("a")
        state = await lab.kernel.get_order_state("a")
        assert state.status.ord_status is OrdStatus.CANCELED
        assert [lab.venue.count(call) for call in ("submit", "modify", "cancel")] == [2, 1, 1]
        assert all(-0.5 <= stamp <= 0 for stamp in lab.venue.stamps[1:]), "never valid for longer than recorded"
        assert state.attempts[-1].stamp_ns == lab.venue.clock.now_ns(), "the log keeps the host's time"
        lab.venue.off_s = 0
        await asyncio.sleep(65)
        assert not skews(lab.kernel)
        assert len(skews(lab.kernel, resolved=True)) == 1
        await lab.kernel.place_order(order(), intent_id="b")
        assert lab.venue.stamps[-1] == 0
