"""Subscriptions to the log: own pace, own thread or task, and nobody stalls or breaks anybody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from kernel import events
from kernel.errors import NotFoundError, ValidationError
from kernel.log import EventLog, open_log
from kernel.subscriptions import Subscriptions, event_predicate
from tests.commands import an_append

TIMEOUT_S = 60


@pytest.fixture
async def log() -> AsyncIterator[EventLog]:
    """A log in memory with its first event."""
    async with open_log("memory://", exchange_id="paper") as log:
        yield log


@pytest.fixture
async def subscriptions(log: EventLog) -> AsyncIterator[Subscriptions]:
    """Subscriptions to it, ended with the test."""
    subscriptions = Subscriptions(log)
    yield subscriptions
    await subscriptions.close()


class Inbox:
    """Collects events on whatever thread they come, and lets the test wait for as many as it wants."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.events: list[events.BaseEvent] = []
        self.threads: set[str] = set()
        self._loop = asyncio.get_running_loop()
        self._full = asyncio.Event()

    def take(self, event: events.BaseEvent) -> None:
        self.events.append(event)
        self.threads.add(threading.current_thread().name)
        if len(self.events) >= self.wanted:
            self._loop.call_soon_threadsafe(self._full.set)

    async def full(self) -> list[int]:
        """The positions, once there are as many as wanted."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._full.wait()
        return [event.position for event in self.events]


async def fill(log: EventLog, count: int) -> None:
    """Record some events about intents a0, a1, …"""
    for number in range(count):
        await log.append(an_append(f"a{number}"))


async def test_a_plain_function_is_called_on_its_own_thread(log: EventLog, subscriptions: Subscriptions) -> None:
    """A plain function gets the events in order, on one thread of its own."""
    inbox = Inbox(4)
    subscriptions.subscribe(inbox.take, None, after=0)
    await fill(log, 3)
    assert await inbox.full() == [1, 2, 3, 4]
    assert len(inbox.threads) == 1
    assert threading.current_thread().name not in inbox.threads


async def test_an_async_function_is_awaited_on_the_loop(log: EventLog, subscriptions: Subscriptions) -> None:
    """An `async def` gets the events in order, on the loop's thread."""
    inbox = Inbox(4)

    async def callback(event: events.BaseEvent) -> None:
        await asyncio.sleep(0)
        inbox.take(event)

    subscriptions.subscribe(callback, None, after=0)
    await fill(log, 3)
    assert await inbox.full() == [1, 2, 3, 4]
    assert inbox.threads == {threading.current_thread().name}


async def test_it_begins_after_the_given_position(log: EventLog, subscriptions: Subscriptions) -> None:
    """`after` is exclusive."""
    await fill(log, 3)
    inbox = Inbox(2)
    subscriptions.subscribe(inbox.take, None, after=2)
    assert await inbox.full() == [3, 4]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_raising_callback_gets_the_next_event(
    log: EventLog, subscriptions: Subscriptions, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The error of a callback is logged, and the next event follows."""
    inbox = Inbox(3)

    def failing(event: events.BaseEvent) -> None:
        inbox.take(event)
        raise RuntimeError("the strategy has a bug")

    async def failing_async(event: events.BaseEvent) -> None:
        failing(event)

    subscriptions.subscribe(failing_async if is_async else failing, None, after=0)
    await fill(log, 2)
    assert await inbox.full() == [1, 2, 3]
    await asyncio.sleep(0)
    assert "callback failed at position 1" in caplog.text


async def test_a_blocking_callback_stalls_no_other(log: EventLog, subscriptions: Subscriptions) -> None:
    """While one callback blocks, appends return and another subscriber gets every event."""
    release = threading.Event()
    blocked, inbox = Inbox(4), Inbox(4)

    def blocking(event: events.BaseEvent) -> None:
        assert release.wait(TIMEOUT_S)
        blocked.take(event)

    try:
        subscriptions.subscribe(blocking, None, after=0)
        subscriptions.subscribe(inbox.take, None, after=0)
        await fill(log, 3)
        assert await inbox.full() == [1, 2, 3, 4]
        assert blocked.events == []
    finally:
        release.set()
    assert await blocked.full() == [1, 2, 3, 4]


async def test_an_ended_subscription_gets_no_events(log: EventLog, subscriptions: Subscriptions) -> None:
    """After `unsubscribe` no event arrives, and the id is unknown."""
    ended, inbox = Inbox(1), Inbox(3)
    subscription_id = subscriptions.subscribe(ended.take, None, after=0)
    subscriptions.subscribe(inbox.take, None, after=0)
    await ended.full()
    subscriptions.unsubscribe(subscription_id)
    await fill(log, 2)
    await inbox.full()
    assert [event.position for event in ended.events] == [1]
    with pytest.raises(NotFoundError):
        subscriptions.unsubscribe(subscription_id)


async def test_events_can_be_iterated(log: EventLog, subscriptions: Subscriptions) -> None:
    """`events` yields matching events in order, old and new."""
    await fill(log, 2)
    found: list[int] = []
    async with asyncio.timeout(TIMEOUT_S):
        async for event in subscriptions.events({"intent_id": ["a1", "a9"]}, after=0):
            found.append(event.position)
            if len(found) == 2:
                break
            await log.append(an_append("a9"))
    assert found == [3, 4]


async def recorded(log: EventLog, intent_id: str) -> events.BaseEvent:
    """An event about an intent, as recorded."""
    await log.append(an_append(intent_id, actor="strategy:x"))
    stream = await log.read_stream(events.intent_stream(intent_id))
    return stream[-1]


async def test_filters_match_all_keys(log: EventLog) -> None:
    """Each key has a value or a list, all keys must match, and an event class stands for its topic."""
    event = await recorded(log, "a")
    assert event_predicate(None)(event)
    assert event_predicate({})(event)
    assert event_predicate({"intent_id": "a"})(event)
    assert event_predicate({"intent_id": ["b", "a"], "actor": "strategy:x"})(event)
    assert event_predicate({"event_type": events.IntentCancelRequested})(event)
    assert event_predicate({"event_type": ["OrderFilled", "IntentCancelRequested"]})(event)
    assert not event_predicate({"intent_id": "a", "actor": "strategy:y"})(event)
    assert not event_predicate({"event_type": "OrderFilled"})(event)
    assert not event_predicate({"symbol_id": "S"})(event)
    assert not event_predicate({"group_id": "g"})(event)


def test_every_problem_of_a_filter_is_listed() -> None:
    """One `ValidationError` lists unknown keys and unknown event types."""
    with pytest.raises(ValidationError) as caught:
        event_predicate({"colour": "red", "shape": 1, "event_type": ["OrderFilled", "NoSuchEvent"]})
    fields = [item.field for item in caught.value.violations]
    assert fields == ["event_filter.colour", "event_filter.shape", "event_filter.event_type"]


async def test_a_bad_filter_starts_nothing(subscriptions: Subscriptions) -> None:
    """`subscribe` itself raises the error."""
    with pytest.raises(ValidationError):
        subscriptions.subscribe(print, {"colour": "red"}, after=0)
    with pytest.raises(ValidationError, match="callback 3: must be a function of one event"):
        subscriptions.subscribe(3, None, after=0)  # type: ignore[arg-type]
