"""Cancel-on-silence: an owner that is not heard any more has its orders canceled, and the log says why.

The whole kernel on the memory log and virtual time. Whoever beats is another kernel on the same log, without a venue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kernel import EventSourcedKernel, events
from kernel.clock import LoopClock, SeededIds
from kernel.errors import LogUnavailableError, ValidationError
from kernel.log import EventLog
from kernel.log.base import Append, Appended, Head, Write
from kernel.log.engine.records import event_of
from kernel.models import Desired, Evidence, OrdStatus, UnsolicitedCancelPolicy
from replay import open_kernel
from replay.testing import ScriptedVenue
from tests.desk import Desk, a_desk, settled
from tests.orders import buy

virtual_time = pytest.mark.looptime
TTL_S = 9.0


@asynccontextmanager
async def strategy_on(log: EventLog, seed: int = 9) -> AsyncIterator[EventSourcedKernel]:
    """A strategy's own kernel on a log that somebody else leads."""
    async with open_kernel(log, clock=LoopClock(), ids=SeededIds(seed), actor="strategy:other") as kernel:
        yield kernel


async def recorded(log: EventLog, *topics: str) -> list[events.BaseEvent]:
    """All events of these types."""
    return [event_of(row) async for page in log.read() for row in page if row.topic in topics]


async def beats_for(kernel: EventSourcedKernel, seconds: float, *, every_s: float = 1.0) -> None:
    """An owner that is alive for so long."""
    for _ in range(int(seconds / every_s)):
        await kernel.heartbeat("mm-1", TTL_S)
        await asyncio.sleep(every_s)


def statuses(desk: Desk) -> list[OrdStatus]:
    return [order.status for order in desk.exchange.truth]


@virtual_time
async def test_the_silent_have_their_orders_canceled_and_others_do_not() -> None:
    """Within its time and a tenth the owner's orders are gone, by an event that says who, why, and by which verdict."""
    async with a_desk() as desk:
        mine = await desk.kernel.place_order(buy(), owner="mm-1")
        other = await desk.kernel.place_order(buy(), owner="mm-2")
        await desk.kernel.heartbeat("mm-1", TTL_S)
        await asyncio.sleep(TTL_S - 0.1)
        assert statuses(desk) == [OrdStatus.NEW, OrdStatus.NEW]
        await asyncio.sleep(2.1)
        assert statuses(desk) == [OrdStatus.CANCELED, OrdStatus.NEW]

        (lapsed,) = await recorded(desk.log, "HeartbeatLapsed")
        (canceled,) = await recorded(desk.log, "IntentCancelRequested")
        assert isinstance(canceled, events.IntentCancelRequested)
        assert (canceled.intent_id, canceled.actor) == (mine, "kernel")
        assert canceled.reason == f"mm-1 fell silent (position {lapsed.position})"
        assert canceled.causation_position == lapsed.position
        assert (await desk.kernel.get_order_intent(other)).desired is Desired.WORKING


@virtual_time
async def test_who_beats_is_never_silent_and_floods_no_log() -> None:
    """Beats every second for ten times the time: no verdict, and at most one event in a third of the time."""
    async with a_desk() as desk, strategy_on(desk.log) as strategy:
        await strategy.place_order(buy(), owner="mm-1", wait="recorded")
        await beats_for(strategy, 10 * TTL_S)
        assert await recorded(desk.log, "HeartbeatLapsed") == []
        assert statuses(desk) == [OrdStatus.NEW]
        assert 10 < len(await recorded(desk.log, "HeartbeatReceived")) <= 30


@virtual_time
async def test_what_the_silent_want_is_canceled_until_they_are_heard() -> None:
    """An order placed during the silence does not stay; after the next heartbeat one does."""
    async with a_desk() as desk:
        await desk.kernel.heartbeat("mm-1", TTL_S)
        await asyncio.sleep(2 * TTL_S)
        await desk.kernel.place_order(buy(), intent_id="during", owner="mm-1", wait="recorded")
        await asyncio.sleep(2)
        assert (await desk.kernel.get_order_intent("during")).desired is Desired.CANCELED
        assert await desk.kernel.heartbeat("mm-1", TTL_S)
        after = await desk.kernel.place_order(buy(), owner="mm-1")
        await asyncio.sleep(TTL_S / 2)
        assert (await desk.kernel.get_order_intent(after)).desired is Desired.WORKING
        assert len(await recorded(desk.log, "HeartbeatLapsed")) == 1


@virtual_time
async def test_disarmed_in_order_nothing_is_canceled() -> None:
    """Silence means nothing any more; that is recorded once, with who and why."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(), owner="mm-1")
        await desk.kernel.heartbeat("mm-1", TTL_S)
        assert await desk.kernel.disarm_heartbeat("mm-1", reason="end of day")
        assert not await desk.kernel.disarm_heartbeat("mm-1")
        await asyncio.sleep(10 * TTL_S)
        assert statuses(desk) == [OrdStatus.NEW]
        (event,) = await recorded(desk.log, "HeartbeatDisarmed")
        assert (event.actor, getattr(event, "reason", "")) == ("strategy:test", "end of day")


@virtual_time
async def test_a_leader_that_starts_waits_the_full_time() -> None:
    """It has heard nobody yet, however long ago the newest beat was recorded."""
    async with a_desk() as desk, strategy_on(desk.log) as strategy:
        await strategy.place_order(buy(), owner="mm-1")
        await strategy.heartbeat("mm-1", TTL_S)
        await desk.kernel.stop()
        await asyncio.sleep(100 * TTL_S)
        async with leading(desk) as kernel:
            await kernel.wait_ready(10)
            await asyncio.sleep(TTL_S - 1)
            assert await recorded(desk.log, "HeartbeatLapsed") == []
            await asyncio.sleep(3)
            assert len(await recorded(desk.log, "HeartbeatLapsed")) == 1
            assert statuses(desk) == [OrdStatus.CANCELED]


@asynccontextmanager
async def leading(desk: Desk) -> AsyncIterator[EventSourcedKernel]:
    """Another kernel that leads, at the same exchange."""
    venue = ScriptedVenue(desk.exchange)
    async with open_kernel(desk.log, venue=venue, clock=LoopClock(), ids=SeededIds(3)) as kernel:
        yield kernel


@virtual_time
async def test_a_renewal_that_is_late_in_the_tail_counts() -> None:
    """While the leader's reader stands still nobody is judged; what it reads then was heard in time."""
    async with a_desk() as desk, strategy_on(desk.log) as strategy:
        reading = hold_tail(desk)
        await strategy.place_order(buy(), owner="mm-1", wait="recorded")
        async with leading(desk) as kernel:
            await desk.kernel.stop()
            await kernel.wait_ready(10)
            await strategy.heartbeat("mm-1", TTL_S)
            await asyncio.sleep(1)
            reading.clear()
            await beats_for(strategy, 4 * TTL_S)
            reading.set()
            await beats_for(strategy, 2 * TTL_S)
        assert await recorded(desk.log, "HeartbeatLapsed") == []


def hold_tail(desk: Desk) -> asyncio.Event:
    """Readers of the log that begin now read only while this is set."""
    honest, reading = desk.log.tail, asyncio.Event()
    reading.set()

    async def tail(after: int) -> AsyncIterator[list[events.BaseEvent]]:
        async for batch in honest(after):
            await reading.wait()
            yield batch

    desk.log.tail = tail  # type: ignore[method-assign]
    return reading


@virtual_time
async def test_a_leader_that_is_behind_judges_nobody() -> None:
    """While the fold is not at the log's head there is no verdict, not even of somebody who is silent."""
    async with a_desk() as desk, strategy_on(desk.log) as strategy:
        reading = hold_tail(desk)
        async with leading(desk) as kernel:
            await desk.kernel.stop()
            await kernel.wait_ready(10)
            await strategy.heartbeat("mm-1", TTL_S)
            await asyncio.sleep(1)
            reading.clear()
            await strategy.place_order(buy(), owner="mm-1", wait="recorded")
            await asyncio.sleep(4 * TTL_S)
            assert await recorded(desk.log, "HeartbeatLapsed") == []
            reading.set()
            await asyncio.sleep(TTL_S + 2)
            assert len(await recorded(desk.log, "HeartbeatLapsed")) == 1


@virtual_time
async def test_a_look_that_takes_long_is_a_deafness(monkeypatch: pytest.MonkeyPatch) -> None:
    """What passed while the log was asked says nothing of anybody: silence counts from anew."""
    async with a_desk() as desk:
        await desk.kernel.heartbeat("mm-1", TTL_S)
        await asyncio.sleep(2)
        honest, slow = desk.log.head, [2 * TTL_S]

        async def head() -> Head:
            await asyncio.sleep(slow.pop() if slow else 0)
            return await honest()

        monkeypatch.setattr(desk.log, "head", head)
        await asyncio.sleep(3 * TTL_S - 1)
        assert await recorded(desk.log, "HeartbeatLapsed") == []
        await asyncio.sleep(3)
        assert len(await recorded(desk.log, "HeartbeatLapsed")) == 1


@virtual_time
async def test_a_beat_before_the_verdict_wins() -> None:
    """The verdict is appended under the version that it was judged by: a beat that came first refuses it."""
    async with a_desk() as desk:
        honest = desk.log.append
        raced: list[str] = []

        async def append(given: Append) -> Appended:
            (write,) = given.writes
            if write.events[0].topic == "HeartbeatLapsed" and not raced:
                raced.append(write.stream_id)
                await desk.kernel.heartbeat("mm-1", TTL_S + 1)
            return await honest(given)

        desk.log.append = append  # type: ignore[method-assign]
        await desk.kernel.heartbeat("mm-1", TTL_S)
        await asyncio.sleep(1.5 * TTL_S)
        assert raced == ["heartbeat:mm-1"]
        assert await recorded(desk.log, "HeartbeatLapsed") == []


@virtual_time
async def test_a_replaced_leader_finds_nobody_silent() -> None:
    """A verdict of an older epoch is refused: who leads now has to hear for itself."""
    async with a_desk() as desk:
        honest = desk.log.append
        elected: list[int] = []

        async def append(given: Append) -> Appended:
            (write,) = given.writes
            if write.events[0].topic == "HeartbeatLapsed" and not elected:
                elected.append((await desk.log.head()).epoch + 1)
                event = events.LeaderElected(epoch=elected[0], holder="other")
                writes = (Write(events.CONTROL_STREAM, (event,)),)
                command_id = SeededIds(5).command_id(0)
                await honest(Append(command_id, writes, "kernel", Evidence.COMMAND, epoch=elected[0], elects=True))
            return await honest(given)

        desk.log.append = append  # type: ignore[method-assign]
        await desk.kernel.heartbeat("mm-1", TTL_S)
        await asyncio.sleep(1.5 * TTL_S)
        assert len(elected) == 1
        assert await recorded(desk.log, "HeartbeatLapsed") == []


@virtual_time
async def test_while_the_log_is_away_nobody_is_silent() -> None:
    """Nobody could have been heard: afterwards silence counts from anew."""
    async with a_desk() as desk:
        await desk.kernel.heartbeat("mm-1", TTL_S)
        await asyncio.sleep(TTL_S / 2)
        give_back = take_away_head(desk)
        await asyncio.sleep(3 * TTL_S)
        give_back()
        await asyncio.sleep(TTL_S - 1)
        assert await recorded(desk.log, "HeartbeatLapsed") == []
        await asyncio.sleep(3)
        assert len(await recorded(desk.log, "HeartbeatLapsed")) == 1


def take_away_head(desk: Desk) -> Callable[[], None]:
    """Let the log be away for who asks where its end is; what gives it back."""
    honest = desk.log.head

    async def away() -> Head:
        raise LogUnavailableError("the database is down")

    def give_back() -> None:
        desk.log.head = honest  # type: ignore[method-assign]

    desk.log.head = away  # type: ignore[method-assign]
    return give_back


@virtual_time
async def test_the_next_leader_carries_the_cancels_out() -> None:
    """A verdict withdraws all that was wanted before its owner was heard again, also if its leader died right after it."""
    async with a_desk() as desk, strategy_on(desk.log) as strategy:
        await strategy.place_order(buy(), intent_id="before", owner="mm-1")
        await strategy.heartbeat("mm-1", TTL_S)
        give_back = dies_with_its_verdict(desk)
        await asyncio.sleep(2 * TTL_S)
        await desk.kernel.stop()
        give_back()
        assert (await strategy.get_order_intent("before")).desired is Desired.WORKING
        await strategy.heartbeat("mm-1", TTL_S)
        await strategy.place_order(buy(), intent_id="after", owner="mm-1", wait="recorded")
        async with leading(desk) as kernel:
            await kernel.wait_ready(10)
            await asyncio.sleep(2)
            assert (await kernel.get_order_intent("before")).desired is Desired.CANCELED
            assert (await kernel.get_order_intent("after")).desired is Desired.WORKING
            assert statuses(desk) == [OrdStatus.CANCELED, OrdStatus.NEW]


def dies_with_its_verdict(desk: Desk) -> Callable[[], None]:
    """The leader can record its verdict, and nothing after it; what lets the next one write."""
    honest = desk.log.append
    fallen: list[bool] = []

    async def append(given: Append) -> Appended:
        (write,) = given.writes
        if fallen and given.actor == "kernel":
            raise LogUnavailableError("dead")
        if write.events[0].topic == "HeartbeatLapsed":
            fallen.append(True)
        return await honest(given)

    def give_back() -> None:
        desk.log.append = honest  # type: ignore[method-assign]

    desk.log.append = append  # type: ignore[method-assign]
    return give_back


@virtual_time
@pytest.mark.parametrize(
    ("owner", "ttl_s", "told"),
    [("", 5.0, "owner"), ("a\nb", 5.0, "owner"), ("x" * 129, 5.0, "owner"), ("ü" * 128, 5.0, "bytes"),
     ("mm-1", 0.5, "time to live 0.5 s: must be between 1 and 86400 s"),
     ("mm-1", float("nan"), "time to live nan s"), ("mm-1", 1e9, "time to live 1e")],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused(owner: str, ttl_s: float, told: str) -> None:
    """A clear error with the limit and the value, and nothing in the log."""
    async with a_desk(ready=False) as desk:
        before = (await recorded(desk.log, "HeartbeatReceived"), await recorded(desk.log, "HeartbeatDisarmed"))
        with pytest.raises(ValidationError, match=told):
            await desk.kernel.heartbeat(owner, ttl_s)
        assert (await recorded(desk.log, "HeartbeatReceived"), await recorded(desk.log, "HeartbeatDisarmed")) == before


@virtual_time
async def test_only_what_is_still_wanted_is_canceled() -> None:
    """What has ended is left alone; what is not sent yet, and what is to be placed again, is canceled before it is."""
    async with a_desk() as desk:
        given: dict[str, Any] = {"owner": "mm-1", "on_unsolicited_cancel": UnsolicitedCancelPolicy.RECREATE}
        await desk.kernel.place_order(buy(), intent_id="done", **given)
        await desk.kernel.place_order(buy(), intent_id="again", **given)
        desk.exchange.fill("#0", 2)
        await settled()
        await desk.kernel.pause()
        desk.exchange.cancel("#1")
        await desk.kernel.place_order(buy(), intent_id="waits", wait="recorded", **given)
        await desk.kernel.heartbeat("mm-1", TTL_S)
        await asyncio.sleep(2 * TTL_S)
        await desk.kernel.resume()
        await asyncio.sleep(60)
        assert statuses(desk) == [OrdStatus.FILLED, OrdStatus.CANCELED]
        canceled = await recorded(desk.log, "IntentCancelRequested")
        assert sorted(getattr(event, "intent_id", "") for event in canceled) == ["again", "waits"]
