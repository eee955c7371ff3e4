"""Dead-man switch: orders of an owner that misses its heartbeat are canceled, and the log shows why.

The kernel runs on the memory log and virtual time. Heartbeats come from another kernel on the same log, without a venue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kernel import EventSourcedKernel, events
from kernel.clock import NS_PER_S, LoopClock, SeededIds
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
    """Yield a strategy's own kernel on a log that another kernel leads."""
    async with open_kernel(log, clock=LoopClock(), ids=SeededIds(seed), actor="strategy:other") as kernel:
        yield kernel


async def recorded(log: EventLog, *topics: str) -> list[events.BaseEvent]:
    """Return all events of these types."""
    return [event_of(row) async for page in log.read() for row in page if row.topic in topics]


async def beats_for(kernel: EventSourcedKernel, seconds: float, *, every_s: float = 1.0) -> None:
    """Send an owner's heartbeats for a time."""
    for _ in range(int(seconds / every_s)):
        await kernel.heartbeat("mm-1", TTL_S)
        await asyncio.sleep(every_s)


def statuses(desk: Desk) -> list[OrdStatus]:
    return [order.status for order in desk.exchange.truth]


@virtual_time
async def test_the_silent_have_their_orders_canceled_and_others_do_not() -> None:
    """Within a ttl and a tenth a lapsed owner's orders are canceled by events with the reason; others' are not."""
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
        assert canceled.reason == f"mm-1 missed its heartbeat (position {lapsed.position})"
        assert canceled.causation_position == lapsed.position
        assert (await desk.kernel.get_order_intent(other)).desired is Desired.WORKING


@virtual_time
async def test_regular_heartbeats_never_lapse_and_are_recorded_sparsely() -> None:
    """An owner that beats every second never lapses, and records at most one event per third of its ttl."""
    async with a_desk() as desk, strategy_on(desk.log) as strategy:
        await strategy.place_order(buy(), owner="mm-1", wait="recorded")
        await beats_for(strategy, 10 * TTL_S)
        assert await recorded(desk.log, "HeartbeatLapsed") == []
        assert statuses(desk) == [OrdStatus.NEW]
        assert 10 < len(await recorded(desk.log, "HeartbeatReceived")) <= 30


@virtual_time
async def test_orders_of_a_lapsed_owner_are_canceled_until_its_next_heartbeat() -> None:
    """An order placed while its owner is lapsed is canceled; one placed after the next heartbeat is not."""
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
async def test_a_disarmed_owner_does_not_lapse() -> None:
    """Disarming is recorded once, with actor and reason, and nothing is canceled."""
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
    """A new leader waits a full ttl, however old the last heartbeat is."""
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
    """Yield another leading kernel at the same exchange."""
    venue = ScriptedVenue(desk.exchange)
    async with open_kernel(desk.log, venue=venue, clock=LoopClock(), ids=SeededIds(3)) as kernel:
        yield kernel


class SetClock(LoopClock):
    """A clock that is set now and then."""

    offset_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.offset_ns


@virtual_time
@pytest.mark.parametrize("offset_s", [1, -1, 3600, -3600])
async def test_a_clock_that_is_set_makes_no_difference(offset_s: int) -> None:
    """An owner lapses a ttl after its last heartbeat, however the leader's clock is set meanwhile."""
    clock = SetClock()
    async with a_desk(clock=clock) as desk:
        await desk.kernel.heartbeat("mm-1", TTL_S)
        await asyncio.sleep(TTL_S / 2)
        clock.offset_ns = offset_s * NS_PER_S
        await asyncio.sleep(TTL_S / 2 - 0.1)
        assert await recorded(desk.log, "HeartbeatLapsed") == []
        await asyncio.sleep(2.1)
        assert len(await recorded(desk.log, "HeartbeatLapsed")) == 1


@virtual_time
async def test_an_owner_whose_clock_is_set_does_not_lapse() -> None:
    """An owner that beats every half of its ttl never lapses, though its clock is set back between the beats."""
    clock = SetClock()
    async with a_desk() as desk, open_kernel(desk.log, clock=clock, ids=SeededIds(9)) as strategy:
        for _ in range(6):
            await beats_for(strategy, TTL_S / 2, every_s=TTL_S / 2)
            clock.offset_ns -= 4 * NS_PER_S
        assert await recorded(desk.log, "HeartbeatLapsed") == []


@virtual_time
async def test_a_renewal_that_is_late_in_the_tail_counts() -> None:
    """While the leader's reader is delayed no owner lapses; a heartbeat that it reads later counts."""
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
    """Make new tails of the log wait for an event."""
    honest, reading = desk.log.tail, asyncio.Event()
    reading.set()

    async def tail(after: int) -> AsyncIterator[list[events.BaseEvent]]:
        async for batch in honest(after):
            await reading.wait()
            yield batch

    desk.log.tail = tail  # type: ignore[method-assign]
    return reading


@virtual_time
async def test_a_leader_behind_the_head_finds_no_lapse() -> None:
    """While the state is behind the log's head no owner lapses."""
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
async def test_a_slow_check_is_an_observation_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a check that took long every owner's ttl starts anew."""
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
    """A heartbeat recorded before `HeartbeatLapsed` makes it conflict."""
    async with a_desk() as desk:
        honest = desk.log.append
        raced: list[str] = []

        async def append(command: Append) -> Appended:
            (write,) = command.writes
            if write.events[0].topic == "HeartbeatLapsed" and not raced:
                raced.append(write.stream_id)
                await desk.kernel.heartbeat("mm-1", TTL_S + 1)
            return await honest(command)

        desk.log.append = append  # type: ignore[method-assign]
        await desk.kernel.heartbeat("mm-1", TTL_S)
        await asyncio.sleep(1.5 * TTL_S)
        assert raced == ["heartbeat:mm-1"]
        assert await recorded(desk.log, "HeartbeatLapsed") == []


@virtual_time
async def test_a_replaced_leader_finds_no_lapse() -> None:
    """A lapse found in an older epoch is fenced."""
    async with a_desk() as desk:
        honest = desk.log.append
        elected: list[int] = []

        async def append(command: Append) -> Appended:
            (write,) = command.writes
            if write.events[0].topic == "HeartbeatLapsed" and not elected:
                elected.append((await desk.log.head()).epoch + 1)
                event = events.LeaderElected(epoch=elected[0], holder="other")
                writes = (Write(events.CONTROL_STREAM, (event,)),)
                command_id = SeededIds(5).command_id(0)
                await honest(Append(command_id, writes, "kernel", Evidence.COMMAND, epoch=elected[0], elects=True))
            return await honest(command)

        desk.log.append = append  # type: ignore[method-assign]
        await desk.kernel.heartbeat("mm-1", TTL_S)
        await asyncio.sleep(1.5 * TTL_S)
        assert len(elected) == 1
        assert await recorded(desk.log, "HeartbeatLapsed") == []


@virtual_time
async def test_no_owner_lapses_while_the_log_is_lost() -> None:
    """After an outage of the log every owner's ttl starts anew."""
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
    """Make `head` fail, and return the function that restores it."""
    honest = desk.log.head

    async def away() -> Head:
        raise LogUnavailableError("the database is down")

    def give_back() -> None:
        desk.log.head = honest  # type: ignore[method-assign]

    desk.log.head = away  # type: ignore[method-assign]
    return give_back


@virtual_time
async def test_the_next_leader_carries_the_cancels_out() -> None:
    """The next leader cancels a lapsed owner's orders if the leader died right after recording the lapse."""
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
    """Let the leader record its lapse and nothing after it; return the function that lets the next leader write."""
    honest = desk.log.append
    fallen: list[bool] = []

    async def append(command: Append) -> Appended:
        (write,) = command.writes
        if fallen and command.actor == "kernel":
            raise LogUnavailableError("dead")
        if write.events[0].topic == "HeartbeatLapsed":
            fallen.append(True)
        return await honest(command)

    def give_back() -> None:
        desk.log.append = honest  # type: ignore[method-assign]

    desk.log.append = append  # type: ignore[method-assign]
    return give_back


@virtual_time
@pytest.mark.parametrize(
    ("owner", "ttl_s", "message"),
    [("", 5.0, "owner"), ("a\nb", 5.0, "owner"), ("x" * 129, 5.0, "owner"), ("ü" * 128, 5.0, "bytes"),
     ("mm-1", 0.5, "0.5: must be between 1 and 86400 s"), ("mm-1", float("nan"), "ttl_s nan"), ("mm-1", 1e9, "ttl_s")],
)  # fmt: skip
async def test_an_invalid_heartbeat_is_refused(owner: str, ttl_s: float, message: str) -> None:
    """An owner or ttl out of bounds raises a validation error, and nothing is recorded."""
    async with a_desk(ready=False) as desk:
        before = (await recorded(desk.log, "HeartbeatReceived"), await recorded(desk.log, "HeartbeatDisarmed"))
        with pytest.raises(ValidationError, match=message):
            await desk.kernel.heartbeat(owner, ttl_s)
        assert (await recorded(desk.log, "HeartbeatReceived"), await recorded(desk.log, "HeartbeatDisarmed")) == before


@virtual_time
async def test_only_active_intents_are_canceled() -> None:
    """Ended intents stay as they are; those not sent yet or to be placed again are canceled before they are sent."""
    async with a_desk() as desk:
        terms: dict[str, Any] = {"owner": "mm-1", "on_unsolicited_cancel": UnsolicitedCancelPolicy.RECREATE}
        await desk.kernel.place_order(buy(), intent_id="done", **terms)
        await desk.kernel.place_order(buy(), intent_id="again", **terms)
        desk.exchange.fill("#0", 2)
        await settled()
        await desk.kernel.pause()
        desk.exchange.cancel("#1")
        await desk.kernel.place_order(buy(), intent_id="waits", wait="recorded", **terms)
        await desk.kernel.heartbeat("mm-1", TTL_S)
        await asyncio.sleep(2 * TTL_S)
        await desk.kernel.resume()
        await asyncio.sleep(60)
        assert statuses(desk) == [OrdStatus.FILLED, OrdStatus.CANCELED]
        canceled = await recorded(desk.log, "IntentCancelRequested")
        assert sorted(getattr(event, "intent_id", "") for event in canceled) == ["again", "waits"]
