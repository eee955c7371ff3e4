"""The venue undoes or ignores what it was asked: one growing delay for all of it, bounded sends, and a finding."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count, pairwise

import pytest

from kernel.clock import NS_PER_S, LoopClock, SeededIds
from kernel.errors import OutcomeUnknown, Rejected
from kernel.log import open_log
from kernel.models import ExecType, OrdStatus, ReconciliationStatus, UnsolicitedCancelPolicy
from kernel.order_spec import OrderType, TimeInForce
from kernel.settings import KernelSettings
from kernel.venues.base import (
    AmendDialect,
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    SubmitRequest,
    VenueCapabilities,
)
from replay import open_kernel
from tests.scenarios.field.lab import COIN, FieldOrder, FieldVenue, Lab, field_lab, order

pytestmark = pytest.mark.looptime
RECREATE = UnsolicitedCancelPolicy.RECREATE
UNDOING = {
    "at once": lambda venue, item: venue.end(item, OrdStatus.CANCELED),
    "expired": lambda venue, item: venue.end(item, OrdStatus.EXPIRED, text="EXPIRED_IN_MATCH"),
    "after a fill": lambda venue, item: (venue.fill(item, 1_000), venue.end(item, OrdStatus.CANCELED)),
}


def undoing(venue: FieldVenue, undo: Callable[[FieldVenue, FieldOrder], object], *, after_s: float = 0) -> list[int]:
    """Let the venue accept each order and end it; returns the instants of the submits."""
    sent: list[int] = []

    def on_submit(request: SubmitRequest) -> ExecutionReport:
        sent.append(venue.clock.now_ns())
        made = venue.new_order(request)
        asyncio.get_running_loop().call_later(after_s, undo, venue, made)
        return venue.report(made, ExecType.NEW)

    venue.on_submit = on_submit
    return sent


def within(sent: list[int], seconds: float) -> int:
    return sum(instant < sent[0] + seconds * NS_PER_S for instant in sent)


@pytest.mark.parametrize("how", UNDOING)
async def test_orders_undone_at_once_are_placed_ever_more_rarely(how: str) -> None:
    """RECREATE against a venue that ends each order: 7 submits in 64 s, then one a minute, and a finding."""
    async with field_lab() as lab:
        sent = undoing(lab.venue, UNDOING[how])
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a", on_unsolicited_cancel=RECREATE)
        await asyncio.sleep(600)
        assert (within(sent, 64), within(sent, 600)) == (7, 15)
        text = lab.findings()["VENUE_DISAGREES"]
        assert text.startswith("requested ")
        assert "at 60000, the venue ended it: " in text


async def test_the_worst_venue_gets_36_sends_in_ten_minutes() -> None:
    """A venue that lets an order stand just long enough for the delay to begin anew gets 36 sends in 600 s, 7 in 64 s."""
    async with field_lab() as lab:
        sent: list[int] = []

        def on_submit(request: SubmitRequest) -> ExecutionReport:
            sent.append(lab.venue.clock.now_ns())
            made = lab.venue.new_order(request)
            stands = len(sent) >= 7 and (len(sent) - 7) % 5 == 0
            asyncio.get_running_loop().call_later(60 if stands else 0, lab.venue.end, made, OrdStatus.CANCELED)
            return lab.venue.report(made, ExecType.NEW)

        lab.venue.on_submit = on_submit
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a", on_unsolicited_cancel=RECREATE)
        await asyncio.sleep(600)
        assert (within(sent, 64), within(sent, 600)) == (7, 36)


async def test_an_order_that_stood_is_placed_again_after_a_second() -> None:
    """An end after a minute without a failure counts as the first one."""
    async with field_lab() as lab:
        sent = undoing(lab.venue, UNDOING["at once"], after_s=61)
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a", on_unsolicited_cancel=RECREATE)
        await asyncio.sleep(600)
        assert [round((b - a) / NS_PER_S) for a, b in pairwise(sent)] == [62] * 9
        assert not lab.findings()


async def test_the_delay_survives_restarts_and_takeovers() -> None:
    """The failures are in the log: kernels that are started anew between them send no more than one that runs on."""
    clock = LoopClock()
    known = {"order_types": frozenset(OrderType), "times_in_force": frozenset(TimeInForce)}
    venue = FieldVenue(clock, VenueCapabilities(validity_window_ns=5 * NS_PER_S, **known))
    sent = undoing(venue, UNDOING["after a fill"])
    async with open_log("memory://", exchange_id="field", clock=clock, ids=SeededIds(1)) as log:
        for number in count():
            async with open_kernel(log, venue=venue, clock=clock, ids=SeededIds(2 + number)) as kernel:
                await kernel.wait_ready(30)
                if number == 0:
                    await kernel.place_order(order("BUY", COIN), intent_id="a", on_unsolicited_cancel=RECREATE)
                await asyncio.sleep(5)
            if clock.now_ns() > sent[0] + 600 * NS_PER_S:
                break
    assert within(sent, 64) <= 7
    assert within(sent, 600) <= 15


async def test_a_change_by_the_strategy_is_sent_at_once() -> None:
    """A new generation is sent without delay once; the count goes on."""
    async with field_lab() as lab:
        sent = undoing(lab.venue, UNDOING["at once"])
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a", on_unsolicited_cancel=RECREATE)
        await asyncio.sleep(100)
        before = len(sent)
        await lab.kernel.modify_order("a", order("BUY", COIN, 6_000_100), wait="recorded")
        await asyncio.sleep(1)
        assert len(sent) == before + 1
        await asyncio.sleep(30)
        assert len(sent) == before + 1


async def test_by_default_an_end_by_the_venue_is_final() -> None:
    """Without RECREATE nothing is placed again and no finding is raised."""
    async with field_lab() as lab:
        undoing(lab.venue, UNDOING["expired"])
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a")
        await asyncio.sleep(100)
        state = await lab.kernel.get_order_state("a")
        assert (state.status.ord_status, state.reconciliation_status) == (
            OrdStatus.EXPIRED,
            ReconciliationStatus.SYNCED,
        )
        assert lab.venue.count("submit") == 1


async def test_a_gtc_order_that_expired_is_placed_again() -> None:
    """EXPIRED that the order's own terms do not explain is a cancel by the venue (fail_16)."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a", on_unsolicited_cancel=RECREATE)
        (item,) = lab.venue.open_orders()
        lab.venue.fill(item, COIN // 4)
        lab.venue.end(item, OrdStatus.EXPIRED, text="EXPIRED_IN_MATCH")
        await asyncio.sleep(5)
        assert [item.quantity for item in lab.venue.open_orders()] == [COIN * 3 // 4]


@pytest.mark.parametrize("tif", [TimeInForce.IOC, TimeInForce.DAY])
async def test_an_order_that_expired_by_its_terms_is_not_placed_again(tif: TimeInForce) -> None:
    """IOC, FOK and DAY orders expire by their own terms, whatever the policy."""
    async with field_lab() as lab:
        undoing(lab.venue, UNDOING["expired"])
        await lab.kernel.place_order(
            order("BUY", COIN, time_in_force=tif), intent_id="a", on_unsolicited_cancel=RECREATE
        )
        await asyncio.sleep(100)
        assert lab.venue.count("submit") == 1
        assert (await lab.kernel.get_order_state("a")).reconciliation_status is ReconciliationStatus.SYNCED


async def test_a_cancel_waits_as_long_as_the_venue_says() -> None:
    """A cancel refused with a time to retry is not sent before it (fail_14)."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a")
        until_ns = lab.venue.clock.now_ns() + 120 * NS_PER_S

        def on_cancel(request: CancelRequest) -> ExecutionReport:
            left_s = (until_ns - lab.venue.clock.now_ns()) / NS_PER_S
            if left_s > 0:
                raise Rejected("maintenance", retry_after_s=left_s)
            return lab.venue.do_cancel(request)

        lab.venue.on_cancel = on_cancel
        await lab.kernel.cancel_order("a", wait="recorded")
        await asyncio.sleep(110)
        assert lab.venue.count("cancel") == 1
        await asyncio.sleep(20)
        assert not lab.venue.open_orders()


@pytest.mark.parametrize("call", ["connect", "snapshot", "symbols"])
async def test_a_query_waits_as_long_as_the_venue_says(call: str) -> None:
    """A connect or a list that is refused with a time to retry is not repeated before it; then the kernel goes on."""
    async with field_lab(settings=KernelSettings(reference_interval_s=60)) as lab:
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a")
        until_ns, asked, answer = lab.venue.clock.now_ns() + 180 * NS_PER_S, [], getattr(lab.venue, call)

        async def refuse(*arguments: object) -> object:
            asked.append(arguments)
            left_s = (until_ns - lab.venue.clock.now_ns()) / NS_PER_S
            if left_s > 0:
                raise Rejected("too many requests", retry_after_s=left_s)
            return await answer(*arguments)

        setattr(lab.venue, call, refuse)
        if call == "connect":
            lab.venue.tell(None)  # type: ignore[arg-type]
        await asyncio.sleep(170)
        assert len(asked) == 1
        await asyncio.sleep(80)
        assert len(asked) > 1
        assert (await lab.kernel.health_check())["ready"]
        assert lab.findings() == {}


def refused(lab: Lab, request: CancelRequest) -> ExecutionReport:
    raise Rejected("not now")


def ignored(lab: Lab, request: CancelRequest) -> ExecutionReport:
    raise OutcomeUnknown("502")


def pending(lab: Lab, request: CancelRequest) -> ExecutionReport:
    return lab.venue.report(lab.venue.target(request), ExecType.ORDER_STATUS)


@pytest.mark.parametrize("answer", [refused, ignored, pending])
async def test_cancels_without_effect_are_repeated_ever_more_rarely(
    answer: Callable[[Lab, CancelRequest], ExecutionReport],
) -> None:
    """A cancel without effect is repeated after 1, 2, 4 … 30 s, for as long as the order is open, and raises a finding."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a")
        lab.venue.on_cancel = lambda request: answer(lab, request)
        await lab.kernel.cancel_order("a", wait="recorded")
        await asyncio.sleep(600)
        assert 15 < lab.venue.count("cancel") <= 25
        assert "requested a cancel, the venue works 1 at 60000" in lab.findings()["VENUE_DISAGREES"]
        lab.venue.on_cancel = lab.venue.do_cancel
        await asyncio.sleep(40)
        assert not lab.venue.open_orders()
        assert not lab.findings()


async def test_a_cancel_does_not_wait_for_failures_of_submits() -> None:
    """However long the next change waits, a cancel is sent at once."""
    async with field_lab(amend=AmendDialect.IN_PLACE) as lab:

        def on_modify(request: ModifyRequest) -> ExecutionReport:
            raise Rejected("not now", retry_after_s=100)

        lab.venue.on_modify = on_modify
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a")
        await lab.kernel.modify_order("a", order("BUY", COIN, 6_000_100), wait="recorded")
        await asyncio.sleep(1)
        await lab.kernel.cancel_order("a")
        assert not lab.venue.open_orders()


async def test_refusals_with_a_time_to_retry_are_braked() -> None:
    """A venue that refuses with a tiny time to retry gets no more submits than any other, also if it names a rate limit."""
    async with field_lab() as lab:

        def on_submit(request: SubmitRequest) -> ExecutionReport:
            raise Rejected("later", retry_after_s=0.001)

        lab.venue.on_submit = on_submit
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a", wait="recorded")
        await asyncio.sleep(600)
        assert lab.venue.count("submit") == 15
        assert "requested 1 at 60000, the venue rejected it: later" in lab.findings()["VENUE_DISAGREES"]


@pytest.mark.parametrize("lookup", [True, False])
async def test_an_order_id_given_again_makes_bounded_requests(lookup: bool) -> None:
    """A venue that gives each order of an intent the same id is neither queried nor sent to without pause."""
    async with field_lab(lookup=lookup, lookup_closed=lookup) as lab:

        def on_submit(request: SubmitRequest) -> ExecutionReport:
            made = lab.venue.new_order(request, order_id="7")
            asyncio.get_running_loop().call_later(1, lab.venue.end, made, OrdStatus.CANCELED)
            return lab.venue.report(made, ExecType.NEW)

        lab.venue.on_submit = on_submit
        await lab.kernel.place_order(order("BUY", COIN), intent_id="a", on_unsolicited_cancel=RECREATE)
        await asyncio.sleep(300)
        assert lab.venue.count("submit") <= 15
        assert lab.venue.count("order") + lab.venue.count("snapshot") <= 150
