"""The frames of `top` while a kernel runs on the memory log and virtual time."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kernel.clock import LoopClock
from kernel.errors import LogUnavailableError
from kernel.log.base import Head
from kernel.models import OrderState
from replay.formatting.output import UNSAFE
from replay.views.gauges import KernelGauges
from replay.views.metrics import text_of
from replay.views.top import BUSY_S, Frame, ScreenTable, Top
from replay.views.top_screen import console_on, draw, numbers_in
from tests.contract.bench import LAST, a_bench
from tests.contract.kernel.test_groups import at_rest, bracket, traded
from tests.desk import Desk, a_desk, settled
from tests.orders import buy

virtual_time = pytest.mark.looptime


@asynccontextmanager
async def watching(desk: Desk) -> AsyncIterator[Top]:
    """A `Top` that follows the desk's log."""
    top = Top(desk.kernel, clock=LoopClock())
    await top.begin()
    following = asyncio.create_task(top.follow())
    try:
        await settled()
        yield top
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def rows(frame: Frame, title: str) -> list[tuple[str, ...]]:
    """The rows of the table whose title begins so."""
    (table,) = [table for table in frame.tables if table.title.startswith(title)]
    return list(table.rows)


def fact(frame: Frame, label: str) -> str:
    return dict(frame.facts)[label]


def painted(frame: Frame) -> str:
    """The drawn screen."""
    stream = io.StringIO()
    console_on(stream).print(draw(frame))
    return stream.getvalue()


@virtual_time
async def test_what_differs_is_shown_for_how_long_and_what_comes_next() -> None:
    """An order with a pending request differs; a lost request is unknown; once it works, all is in sync."""
    async with a_desk(request_timeout_s=2) as desk, watching(desk) as top:
        desk.exchange.hold("submit")
        await desk.kernel.place_order(buy(), intent_id="mine", wait="recorded")
        await asyncio.sleep(1)
        (row,) = rows(await top.frame(), "Longest")
        assert row[:3] == ("mine", "SETTLE", "1s")
        assert row[5] == "resolve SUBMIT number 1"
        await asyncio.sleep(1.5)
        frame = await top.frame()
        assert (fact(frame, "Unknown attempts:"), fact(frame, "Out of sync:")) == ("1", "1")
        assert rows(frame, "Unknown attempts")[0][:4] == ("mine", "SUBMIT", "1", "2s")
        assert rows(frame, "Longest")[0][2] == "2s"
        desk.exchange.flow("submit")
        await asyncio.sleep(30)
        frame = await top.frame()
        assert (rows(frame, "Longest"), rows(frame, "Unknown attempts")) == ([], [])
        assert fact(frame, "Open orders:") == "1"
        assert "Longest out of sync: desired and actual order agree" in painted(frame)


@virtual_time
async def test_who_has_differed_for_longest_comes_first() -> None:
    """Differences are listed oldest first, with their total if some are cut off."""
    async with a_desk() as desk, watching(desk) as top:
        await desk.kernel.pause(reason="lunch")
        for number in range(12):
            await desk.kernel.place_order(buy(), intent_id=f"n{number:02d}", wait="recorded")
            await asyncio.sleep(1)
        frame = await top.frame()
        assert [row[0] for row in rows(frame, "Longest out of sync (10 of 12)")] == [f"n{n:02d}" for n in range(10)]
        assert rows(frame, "Longest")[0][2:] == (
            "12s", "BUY 2 S at 100", "nothing sent", "submit BUY 2 S at 100", "not while paused"
        )  # fmt: skip
        paused = next(row for row in rows(frame, "Conditions") if row[0] == "NOT_PAUSED")
        assert paused == ("NOT_PAUSED", "NO", "Paused", "12s", "strategy:test: lunch")
        assert (frame.ready, fact(frame, "Ready:")) == (False, "no")


@virtual_time
async def test_a_frame_costs_what_changed_not_what_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200 open orders only the one touched by an event is recomputed."""
    async with a_desk() as desk:
        for number in range(200):
            await desk.kernel.place_order(buy(), intent_id=f"n{number}")
        async with watching(desk) as top:
            await top.frame()
            honest, asked = desk.kernel.state.observed_order, set[str]()

            def exposure(intent_id: str) -> OrderState | None:
                asked.add(intent_id)
                return honest(intent_id)

            desk.exchange.fill("#7", 1)
            await settled()
            monkeypatch.setattr(desk.kernel.state, "observed_order", exposure)
            frame = await top.frame()
            assert asked == {"n7"}
            assert fact(frame, "Open orders:") == "200"


@virtual_time
async def test_followed_or_begun_just_now_it_is_the_same() -> None:
    """A screen kept current event by event equals one that begins now."""
    async with a_desk(request_timeout_s=2) as desk, watching(desk) as old:
        for number in range(6):
            if number == 3:
                desk.exchange.hold("submit", "cancel")
            await desk.kernel.place_order(buy(), intent_id=f"n{number}", wait="recorded", owner="mm-1")
            await settled()
        await desk.kernel.cancel_order("n0", wait="recorded")
        await desk.kernel.heartbeat("mm-1", 60)
        for seconds in (1, 3, 30):
            await asyncio.sleep(seconds)
            async with watching(desk) as new:
                frames = [await top.frame() for top in (old, new)]
            shown = [
                (frame.facts, {row[:2] for row in rows(frame, "Longest")}, *map(tuple, frame.tables[4:]))
                for frame in frames
            ]
            assert shown[0] == shown[1]
        assert rows(frames[0], "Heartbeats") == [("mm-1", "60s", "ALIVE", "34s")]


@virtual_time
async def test_the_busiest_symbols_are_those_of_the_last_minute() -> None:
    """Events and fills count for one minute."""
    async with a_desk(relist_interval_s=600, order_age_s_max=600) as desk, watching(desk) as top:
        await desk.kernel.place_order(buy(2))
        desk.exchange.fill("#0", 2)
        await settled()
        assert rows(await top.frame(), "Busiest") == [("S", "4", "1", "0", "2")]
        await asyncio.sleep(BUSY_S + 2)
        frame = await top.frame()
        assert rows(frame, "Busiest") == []
        assert "no events" in painted(frame)


@virtual_time
async def test_a_log_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an unavailable log the last known state is shown with a note."""
    async with a_desk() as desk, watching(desk) as top:
        assert (await top.frame()).ready

        async def away() -> Head:
            raise LogUnavailableError("the database is down")

        monkeypatch.setattr(desk.log, "head", away)
        frame = await top.frame()
        assert any("the database is down" in note for note in frame.notes)
        assert "lag, queue and rate limit are not in the log" in frame.notes[-1]


@virtual_time
async def test_a_leaders_metrics_tell_more() -> None:
    """With a leader's metrics the frame has its queue and lag, and a rate-limit table only if there is one."""
    async with a_desk() as desk, watching(desk) as top:
        gauges = KernelGauges(desk.kernel.metrics, desk.kernel.exchange_id, clock=LoopClock())
        gauges.kernel = desk.kernel
        numbers = dict(numbers_in(text_of(gauges.collect())))
        shown = {row[0] for row in rows(await top.frame(numbers), "Leader")}
        assert {"projection_lag_events", 'workqueue_depth{name="reconciler"}'} <= shown
        without = {name: value for name, value in numbers.items() if "budget" not in name}
        assert rows(await top.frame(without), "Rate limit") == []
        assert "Rate limit" not in painted(await top.frame(without))
        budget = {**without, 'exchange_kernel_rate_budget_tokens{scope="orders"}': 42.0}
        assert rows(await top.frame(budget), "Rate limit") == [('rate_budget_tokens{scope="orders"}', "42")]


def test_no_text_moves_the_cursor() -> None:
    """Text of venues and owners is escaped everywhere."""
    hostile = "\x1b[2J[red]row\u202e\r\nNEXT"
    frame = Frame(
        facts=(("Leader:", hostile),),
        tables=(ScreenTable("Unknown attempts", ("TEXT",), ((hostile,),)),),
        ready=False,
        notes=(hostile,),
    )
    text = painted(frame)

    assert re.findall(UNSAFE, text.replace("\n", "")) == []
    assert text.count("\\x1b[2J[red]row\\u202e\\x0d\\x0aNEXT") == 3


@virtual_time
async def test_an_order_differs_by_what_its_group_lets_it_be() -> None:
    """What the parent has not released is no difference; what its fill released is one."""
    async with a_bench(maker_fee_bps=0) as bench:
        top = Top(bench.kernel, clock=LoopClock())
        await top.begin()
        following = asyncio.create_task(top.follow())
        await bench.kernel.place_order_group(bracket(), group_id="entry")
        await at_rest(bench)
        assert rows(await top.frame(), "Longest") == []
        await bench.kernel.pause()
        await traded(bench, LAST - 1, 4)
        await at_rest(bench)
        found = rows(await top.frame(), "Longest")
        assert [(row[0], row[1], row[3]) for row in found] == [
            ("entry.2", "SUBMIT", "SELL 0.0004 BTCUSDT at 62800.00"),
            ("entry.3", "SUBMIT", "SELL 0.0004 BTCUSDT at 63800.00"),
        ]
        following.cancel()


@virtual_time
async def test_a_symbols_halt_is_no_pause_of_all() -> None:
    """A halted symbol is shown as halted, and does not change since when everything is paused."""
    async with a_desk() as desk, watching(desk) as top:
        await desk.kernel.pause(reason="lunch")
        await desk.kernel.place_order(buy(), intent_id="mine", wait="recorded")
        await asyncio.sleep(5)
        await desk.kernel.halt("S")
        await desk.kernel.place_order(buy(), intent_id="other", wait="recorded")
        await asyncio.sleep(5)
        frame = await top.frame()
        paused = next(row for row in rows(frame, "Conditions") if row[0] == "NOT_PAUSED")
        assert paused[3] == "10s"
        assert [(row[0], row[6]) for row in rows(frame, "Longest")] == [("other", "not while halted")]
