"""Subscriptions to the log. Each reads in order and at its own pace, and cannot stall another.

Called by the controller. A plain function runs on a thread of its subscription, an `async def` in a task of its own. When
a callback raises, the error is logged and the next event follows.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kernel import events
from kernel.api import EventCallback
from kernel.errors import NotFoundError, ValidationError, Violation
from kernel.events.base import intent_id_of
from kernel.log.base import EventLog

logger = logging.getLogger(__name__)

EventPredicate = Callable[[events.BaseEvent], bool]


def event_predicate(event_filter: Mapping[str, Any] | None) -> EventPredicate:
    """Return the predicate of a filter; `ValidationError` for unknown keys and event types."""
    accepted = {key: values_of(value) for key, value in (event_filter or {}).items()}
    text = "event filter: unknown key `{value}`; known keys: {limit}"
    problems = [
        Violation(f"event_filter.{key}", "key", ", ".join(FIELDS), str(key), text)
        for key in accepted
        if key not in FIELDS
    ]
    problems += [
        Violation("event_filter.event_type", "event type", "the name of an event, as in OrderFilled", str(name))
        for name in sorted(map(str, accepted.get("event_type", ())))
        if name not in events.REGISTRY
    ]
    if problems:
        raise ValidationError(violations=problems)
    return lambda event: all(FIELDS[key](event) in values for key, values in accepted.items())


def values_of(value: Any) -> frozenset[Any]:
    """Return one value or several as a set; an event class stands for its topic."""
    several = value if isinstance(value, list | tuple | set | frozenset) else (value,)
    return frozenset(
        item.topic if isinstance(item, type) and issubclass(item, events.BaseEvent) else item for item in several
    )


def symbol_id_of(event: events.BaseEvent) -> str | None:
    """Return the symbol that an event is about, if it names one."""
    match event:
        case events.IntentCreated(intent=intent) | events.IntentModified(intent=intent):
            return intent.order.symbol_id
        case events.AttemptStarted(order=order):
            return order.symbol_id
        case events.OrderStateRecorded(state=state):
            return state.status.order.symbol_id
        case events.SymbolObserved(symbol=symbol):
            return symbol.symbol_id
        case events.FindingRaised(finding=finding):
            return finding.symbol_id
    return getattr(event, "symbol_id", None)


def group_id_of(event: events.BaseEvent) -> str | None:
    if isinstance(event, events.IntentCreated | events.IntentModified):
        return event.intent.group_id
    return getattr(event, "group_id", None)


FIELDS: Mapping[str, Callable[[events.BaseEvent], Any]] = {
    "event_type": lambda event: event.topic,
    "symbol_id": symbol_id_of,
    "intent_id": intent_id_of,
    "group_id": group_id_of,
    "actor": lambda event: event.actor,
}


class Subscriptions:
    """The subscriptions of one kernel."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._serial = itertools.count(1)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def subscribe(self, callback: EventCallback, event_filter: Mapping[str, Any] | None, *, after: int) -> str:
        """Start a subscription after a position; return its id."""
        predicate = event_predicate(event_filter)
        if not callable(callback):
            raise ValidationError(f"callback {callback!r}: must be a function of one event")
        subscription_id = f"subscription-{next(self._serial)}"
        deliver = self._deliver_async if inspect.iscoroutinefunction(callback) else self._deliver_on_thread
        self._tasks[subscription_id] = asyncio.get_running_loop().create_task(
            deliver(callback, predicate, after), name=subscription_id
        )
        return subscription_id

    def unsubscribe(self, subscription_id: str) -> None:
        """End a subscription; `NotFoundError` if there is none."""
        task = self._tasks.pop(subscription_id, None)
        if task is None:
            raise NotFoundError(f"subscription {subscription_id} not found")
        task.cancel()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def events(self, event_filter: Mapping[str, Any] | None, *, after: int) -> AsyncIterator[events.BaseEvent]:
        """Iterate over the events after a position that match a filter."""
        predicate = event_predicate(event_filter)
        async for batch in self._log.tail(after):
            for event in batch:
                if predicate(event):
                    yield event

    async def _deliver_async(self, callback: Any, predicate: EventPredicate, after: int) -> None:
        async for batch in self._log.tail(after):
            for event in batch:
                if not predicate(event):
                    continue
                try:
                    await callback(event)
                except Exception:
                    logger.exception("a subscriber's callback failed at position %d", event.position)

    async def _deliver_on_thread(self, callback: Any, predicate: EventPredicate, after: int) -> None:
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel-subscription")
        try:
            async for batch in self._log.tail(after):
                fitting = [event for event in batch if predicate(event)]
                if fitting:
                    await loop.run_in_executor(executor, deliver_each, callback, fitting)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def deliver_each(callback: Callable[[events.BaseEvent], None], batch: Sequence[events.BaseEvent]) -> None:
    """Call a plain function for each event, and log what it raises."""
    for event in batch:
        try:
            callback(event)
        except Exception:
            logger.exception("a subscriber's callback failed at position %d", event.position)
