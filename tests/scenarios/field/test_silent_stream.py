"""The stream is connected and says nothing: fills are found in seconds, a condition says so, and the kernel reconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kernel.clock import NS_PER_S
from kernel.models import OrdStatus
from kernel.venues.base import ExecutionReport
from replay.views.health import health
from tests.scenarios.field.lab import COIN, Lab, field_lab, order

pytestmark = pytest.mark.looptime


async def unmet(lab: Lab) -> list[str]:
    """The conditions that do not hold; the log shows those of the stream to every process."""
    conditions = (await lab.kernel.health_check())["conditions"]
    outside = (await health(lab.kernel))["conditions"]
    assert sorted(item["type"] for item in outside) == sorted(item["type"] for item in conditions)
    assert [item for item in outside if item["type"] == "VENUE_STREAM"] == [
        item for item in conditions if item["type"] == "VENUE_STREAM"
    ]
    return [item["type"] for item in conditions if not item["status"]]


async def seconds_until_filled(lab: Lab, intent_id: str) -> int:
    for second in range(200):
        if (await lab.kernel.get_order_state(intent_id)).status.ord_status is OrdStatus.FILLED:
            return second
        await asyncio.sleep(1)
    raise AssertionError("the fill was never found")


@pytest.mark.parametrize("after_s", [1, 20, 100])
async def test_a_fill_that_the_stream_does_not_bring(after_s: int) -> None:
    """Whenever it comes, it is found by a query within 16 s; then the stream counts as silent and is renewed."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await lab.kernel.place_order(order(price=5_000_000), intent_id="b")
        await asyncio.sleep(after_s)
        lab.venue.fill(lab.venue.open_orders()[0], COIN, tell=False)
        assert await seconds_until_filled(lab, "a") <= 16
        await asyncio.sleep(7)
        assert await unmet(lab) == ["VENUE_STREAM"]
        assert (await lab.kernel.health_check())["ready"]
        assert "does not bring what it should" in lab.findings()["STREAM_SILENT"]
        assert lab.venue.count("connect") == 2
        await lab.kernel.cancel_order("b")
        await asyncio.sleep(300)
        assert lab.venue.count("connect") == 2
        await lab.kernel.place_order(order(), intent_id="c")
        lab.venue.fill(lab.venue.open_orders()[0], COIN)
        await asyncio.sleep(1)
        assert await unmet(lab) == []
        assert lab.findings() == {}


@pytest.mark.parametrize("lists", [True, False])
async def test_an_end_that_the_stream_does_not_bring(lists: bool) -> None:
    """Long after the last request, an order that the venue ended is found by the relist, and the stream is renewed."""
    async with field_lab(lists_open_orders=lists) as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(600)
        item = lab.venue.open_orders()[0]
        item.open, item.status = False, OrdStatus.CANCELED
        await asyncio.sleep(100)
        assert (await lab.kernel.get_order_state("a")).status.ord_status is OrdStatus.CANCELED
        assert await unmet(lab) == ["VENUE_STREAM"]
        assert lab.findings().keys() == {"STREAM_SILENT"}
        assert lab.venue.count("connect") == 2
        await asyncio.sleep(600)
        assert lab.venue.count("connect") == 2


async def test_an_end_before_the_connect_is_no_news() -> None:
    """What ended while the kernel was not connected, no stream brings."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(100)
        item = lab.venue.open_orders()[0]
        item.open, item.status = False, OrdStatus.CANCELED
        lab.venue.tell(None)  # type: ignore[arg-type]
        await asyncio.sleep(100)
        assert (await lab.kernel.get_order_state("a")).status.ord_status is OrdStatus.CANCELED
        assert await unmet(lab) == []
        assert lab.venue.count("connect") == 2


@pytest.mark.parametrize(("after_s", "within_s"), [(3, 5), (17, 16), (40, 16), (333, 16)])
async def test_a_stream_that_stops_later(after_s: int, within_s: int) -> None:
    """A stream that worked and becomes silent, however long nothing was requested, is found by the next fill."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        lab.venue.fill(lab.venue.open_orders()[0], COIN)
        await asyncio.sleep(30)
        await lab.kernel.place_order(order(), intent_id="b")
        await asyncio.sleep(after_s)
        lab.venue.fill(lab.venue.open_orders()[0], COIN, tell=False)
        assert await seconds_until_filled(lab, "b") <= within_s
        await asyncio.sleep(6)
        assert await unmet(lab) == ["VENUE_STREAM"]


async def test_a_missing_heartbeat() -> None:
    """A stream that misses its heartbeat is renewed, at most once a minute, though nothing was to be reported."""
    async with field_lab(heartbeat_ns=5 * NS_PER_S) as lab:
        await asyncio.sleep(9)
        assert await unmet(lab) == []
        await asyncio.sleep(3)
        assert await unmet(lab) == ["VENUE_STREAM"]
        await asyncio.sleep(290)
        assert 3 <= lab.venue.count("connect") <= 7


def beat(lab: Lab) -> None:
    """Let the stream, which is renewed, bring a heartbeat every 4 s."""
    real = lab.venue.reports

    async def beating() -> AsyncIterator[ExecutionReport | None]:
        reports = real()
        pending = asyncio.ensure_future(anext(reports))
        while True:
            done, _ = await asyncio.wait([pending], timeout=4)
            yield pending.result() if done else None
            pending = asyncio.ensure_future(anext(reports)) if done else pending

    lab.venue.reports = beating  # type: ignore[assignment,method-assign]
    lab.venue.tell(None)  # type: ignore[arg-type]


async def test_a_stream_with_heartbeats_and_no_reports() -> None:
    """A heartbeat does not stand for the reports that the stream lacks: it is renewed, and silent until it brings one."""
    async with field_lab(heartbeat_ns=5 * NS_PER_S) as lab:
        beat(lab)
        await asyncio.sleep(10)
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(100)
        lab.venue.fill(lab.venue.open_orders()[0], COIN // 2, tell=False)
        await asyncio.sleep(70)
        assert await lab.position() == COIN // 2
        assert await unmet(lab) == ["VENUE_STREAM"]
        assert lab.findings().keys() == {"STREAM_SILENT"}
        assert lab.venue.count("connect") == 3
        lab.venue.fill(lab.venue.open_orders()[0], COIN // 2)
        await asyncio.sleep(1)
        assert await unmet(lab) == []
        assert lab.findings() == {}


async def test_a_heartbeat_keeps_it() -> None:
    """Heartbeats alone show that the stream is alive."""
    async with field_lab(heartbeat_ns=5 * NS_PER_S) as lab:
        beat(lab)
        await asyncio.sleep(300)
        assert lab.venue.count("connect") == 2
        assert await unmet(lab) == []


async def test_quiet_is_not_silent() -> None:
    """A stream with nothing to report is left alone, and the account is queried at most every 15 s."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(600)
        assert lab.venue.count("connect") == 1
        assert lab.venue.count("snapshot") <= 45
        assert await unmet(lab) == []
