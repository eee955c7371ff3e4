"""`place_order_group` where the venue works groups by itself: sent as one, recorded as one, and left to the venue.

The whole kernel on the memory log and virtual time, with the paper exchange in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from kernel import events
from kernel.errors import ExchangeError, OutcomeUnknown
from kernel.models import AttemptKind, ExternalOrderPolicy, ReconciliationStatus
from kernel.order_spec import OcoMode
from kernel.settings import KernelSettings
from kernel.venues.base import Dedupe, ExecutionReport
from kernel.venues.paper.faults import fault
from replay.views.groups import group_state
from tests.contract.bench import LAST, LOT, Bench, a_bench, ask, bid, virtual_time
from tests.contract.kernel.test_groups import OCO, OTO, OUO, RICH, group, open_lots, traded

pytestmark = virtual_time
NATIVE = frozenset(OcoMode) - {OcoMode.NONE}


@asynccontextmanager
async def native_bench(settings: KernelSettings | None = None, **config: Any) -> AsyncIterator[Bench]:
    """A kernel that is ready, at an exchange that works every kind of group."""
    async with a_bench("none", settings=settings, native_groups=NATIVE, **config) as bench:
        yield bench


async def worked_by(bench: Bench, group_id: str) -> list[bool]:
    """Who was to work a group, by the log: True is the venue."""
    found = await bench.log.read_stream(events.group_stream(group_id))
    return [event.native for event in found if isinstance(event, events.GroupWorked)]


async def kinds(bench: Bench, intent_id: str) -> list[AttemptKind]:
    """The attempts for one intent."""
    found = await bench.log.read_stream(events.intent_stream(intent_id))
    return [event.kind for event in found if isinstance(event, events.AttemptStarted)]


async def test_a_group_is_sent_as_one() -> None:
    """One append has the choice and every attempt, next to each other; then one request brings every order."""
    async with native_bench() as bench:
        ids = await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit")
        assert await worked_by(bench, "exit") == [True]
        (worked,) = (await bench.log.read_stream(events.group_stream("exit")))[1:]
        attempts = [(await bench.log.read_stream(events.intent_stream(name)))[1] for name in ids]
        assert [item.position - worked.position for item in attempts] == [1, 2]
        assert {item.correlation_id for item in (worked, *attempts)} == {worked.correlation_id}
        orders = (await bench.venue.truth())["orders"]
        assert len({order["group"] for order in orders}) == 1
        assert orders[0]["group_mode"] == OCO


@pytest.mark.parametrize("mode", [OCO, OUO])
async def test_the_venues_own_answer_is_taken_as_it_is(mode: OcoMode) -> None:
    """What the venue cancels or shrinks after a fill is at rest: the kernel sends nothing more."""
    async with native_bench() as bench:
        ids = await bench.kernel.place_order_group(group(mode, bid(5), ask(5)), group_id="exit")
        await traded(bench, LAST - 100_001, 2)
        await asyncio.sleep(10)
        left = [] if mode is OCO else [(3, LAST + 100_000)]
        assert await open_lots(bench) == [(3, LAST - 100_000), *left]
        assert [await kinds(bench, name) for name in ids] == [[AttemptKind.SUBMIT]] * 2
        state = await bench.kernel.get_order_state(ids[1])
        assert state.reconciliation_status is ReconciliationStatus.SYNCED


async def test_a_group_that_the_venue_refuses_is_refused_whole() -> None:
    """A definitive no to the request is one to each order, and nothing is sent by itself."""
    async with native_bench(balances={"BTC": 0, "USDT": RICH}) as bench:
        with pytest.raises(ExchangeError, match="insufficient balance"):
            await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit")
        await asyncio.sleep(10)
        assert (await bench.venue.truth())["orders"] == []
        for name in ("exit.1", "exit.2"):
            state = await bench.kernel.get_order_state(name)
            assert state.reconciliation_status is ReconciliationStatus.FAILED


@pytest.mark.parametrize("dedupe", [Dedupe.WHILE_OPEN, Dedupe.FOR_EVER])
@pytest.mark.parametrize("kind", ["answer_lost", "request_lost", "server_error", "not_sent", "disconnect_after"])
async def test_a_group_that_is_not_answered_is_one_group_in_the_end(kind: str, dedupe: Dedupe) -> None:
    """Whatever became of the request: looked for, and sent again whole where it never arrived; no order of it by itself."""
    async with native_bench(dedupe=dedupe) as bench:
        await bench.venue.inject(fault(kind, "submit_group"))
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit", wait="recorded")
        await asyncio.sleep(60)
        assert not bench.faults.pending
        assert await open_lots(bench) == [(5, LAST - 100_000), (5, LAST + 100_000)]
        groups = {order["group"] for order in (await bench.venue.truth())["orders"]}
        assert len(groups) == 1
        assert None not in groups


async def test_a_group_is_taken_over_when_nothing_of_it_may_come_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """One leg is canceled while the request is unknown, the other proved absent: while nothing is known of the first the
    group stays the venue's; then the kernel works what is left."""
    async with native_bench() as bench:
        await bench.venue.inject(fault("request_lost", "submit_group"))
        ids = await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit", wait="recorded")
        await asyncio.sleep(1)
        hidden = bench.kernel.state.record(ids[0]).attempts[-1].client_order_id
        ask_venue = bench.venue.order

        async def order(
            symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
        ) -> ExecutionReport | None:
            if client_order_id == hidden:
                raise OutcomeUnknown("no answer")
            return await ask_venue(symbol_id, client_order_id, exchange_order_id)

        monkeypatch.setattr(bench.venue, "order", order)
        with suppress(ExchangeError):
            await bench.kernel.cancel_order(ids[0])
        await asyncio.sleep(20)
        assert bench.kernel.state.record(ids[1]).unresolved == []
        assert (await worked_by(bench, "exit"), await open_lots(bench)) == ([True], [])
        monkeypatch.undo()
        await asyncio.sleep(60)
        assert (await worked_by(bench, "exit"), await open_lots(bench)) == ([True, False], [(5, LAST + 100_000)])


async def test_every_id_that_a_group_is_sent_under_is_recorded_before() -> None:
    """Refused for now and sent again, the group has another id at the venue; the log has both, each before its request."""
    async with native_bench() as bench:
        await bench.venue.admin("halt", symbol_id="BTCUSDT")
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit", wait="recorded")
        await asyncio.sleep(1)
        await bench.venue.admin("resume", symbol_id="BTCUSDT")
        await asyncio.sleep(60)
        stream = await bench.log.read_stream(events.group_stream("exit"))
        names = [event.group_client_id for event in stream if isinstance(event, events.GroupWorked)]
        assert len({*names}) == len(names) >= 2
        sent = {order["group"] for order in (await bench.venue.truth())["orders"]}
        assert sent == {names[-1]}


async def test_each_order_can_be_canceled() -> None:
    """A leg that is canceled is gone, and so are all that are canceled together."""
    async with native_bench() as bench:
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit")
        await bench.kernel.cancel_order("exit.1")
        assert await open_lots(bench) == [(5, LAST + 100_000)]
        assert await bench.kernel.cancel_all_orders() == 1
        await asyncio.sleep(5)
        assert await open_lots(bench) == []


async def test_what_the_venue_works_is_not_changed() -> None:
    """Other terms for one order are refused with what to do, and nothing is recorded."""
    async with native_bench() as bench:
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit")
        head = await bench.log.head()
        with pytest.raises(ExchangeError, match="cancel its orders and place another"):
            await bench.kernel.modify_order("exit.1", bid(4))
        assert (await bench.log.head()).position == head.position


async def test_what_can_no_longer_be_sent_whole_is_worked_by_the_kernel() -> None:
    """A leg canceled before the group could be sent leaves the other to the kernel, and the log says so."""
    async with native_bench() as bench:
        await bench.venue.admin("halt", symbol_id="BTCUSDT")
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit", wait="recorded")
        await asyncio.sleep(1)
        await bench.kernel.cancel_order("exit.1")
        await bench.venue.admin("resume", symbol_id="BTCUSDT")
        await asyncio.sleep(120)
        assert await open_lots(bench) == [(5, LAST + 100_000)]
        assert (await worked_by(bench, "exit"))[-1] is False


@pytest.mark.parametrize(("mode", "window_ns"), [(OCO, None), (OTO, 5_000_000_000)])
async def test_what_is_not_left_to_the_venue(mode: OcoMode, window_ns: int | None) -> None:
    """Where a request that was not answered could not be ruled out, and what a leader releases, is sent order by order."""
    async with native_bench(validity_window_ns=window_ns) as bench:
        await bench.kernel.place_order_group(group(mode, bid(5), ask(5)), group_id="mine")
        assert await worked_by(bench, "mine") == [False]
        assert {order["group"] for order in (await bench.venue.truth())["orders"]} == {None}


@pytest.mark.parametrize("held", ["halt", "halt of the symbol", "pause", "pause of one"])
async def test_nothing_of_a_group_is_sent_while_it_is_held_back(held: str) -> None:
    """Halted or paused, all of it or one order, the group waits whole; nothing is attempted. Resumed, it goes as one."""
    async with native_bench() as bench:
        kernel = bench.kernel
        if held == "pause":
            await kernel.pause()
        elif held != "pause of one":
            await kernel.halt("BTCUSDT" if held == "halt of the symbol" else None)
        else:
            await bench.venue.admin("halt", symbol_id="BTCUSDT")
        ids = await kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit", wait="recorded")
        if held == "pause of one":
            await kernel.pause("exit.2")
            await bench.venue.admin("resume", symbol_id="BTCUSDT")
        await asyncio.sleep(100)
        assert [await kinds(bench, name) for name in ids] == [[], []]
        assert await worked_by(bench, "exit") == []

        await kernel.resume("exit.2" if held == "pause of one" else None)
        await kernel.resume(symbol_id="BTCUSDT")
        await asyncio.sleep(30)
        assert await worked_by(bench, "exit") == [True]
        assert await open_lots(bench) == [(5, LAST - 100_000), (5, LAST + 100_000)]


async def test_a_storm_holds_groups_back_until_it_is_resolved() -> None:
    """No group is attempted in a symbol whose orders are all refused; once that is resolved, it goes as one."""
    settings = KernelSettings(storm_rejections=2)
    async with native_bench(settings, balances={"BTC": 0, "USDT": RICH}) as bench:
        for _ in range(2):
            with pytest.raises(ExchangeError):
                await bench.kernel.place_order(ask(5))
        await bench.kernel.place_order_group(group(OCO, bid(5), bid(5, LAST - 200_000)), group_id="in", wait="recorded")
        await asyncio.sleep(100)
        assert [await kinds(bench, name) for name in ("in.1", "in.2")] == [[], []]
        await bench.kernel.resolve_finding("STORM:BTCUSDT", evidence="deposited")
        await asyncio.sleep(1)
        assert await worked_by(bench, "in") == [True]


@pytest.mark.parametrize("policy", [ExternalOrderPolicy.ADOPT, ExternalOrderPolicy.CANCEL])
async def test_a_group_of_ours_is_never_taken_for_others(policy: ExternalOrderPolicy) -> None:
    """Adoption touches no order of a group, not even of one that was not answered: each is its own intent's."""
    settings = KernelSettings(external_orders=policy, external_orders_of_kernels=True)
    async with native_bench(settings) as bench:
        await bench.venue.inject(fault("answer_lost", "submit"))
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit", wait="recorded")
        await asyncio.sleep(60)
        assert [item.intent_id for item in bench.kernel.state.intents()] == ["exit.1", "exit.2"]
        assert await open_lots(bench) == [(5, LAST - 100_000), (5, LAST + 100_000)]


async def test_what_the_venue_works_cannot_come_to_more() -> None:
    """No excess is announced for a group that the venue works; for one that is not sent yet it is."""
    async with native_bench() as bench:
        await bench.kernel.pause()
        await bench.kernel.place_order_group(group(OCO, bid(5), ask(5)), group_id="exit", wait="recorded")
        state = bench.kernel.state
        (waiting,) = state.groups()
        assert group_state(state, waiting).max_excess == 5 * LOT
        await bench.kernel.resume()
        await asyncio.sleep(1)
        (worked,) = state.groups()
        assert group_state(state, worked).max_excess == 0
