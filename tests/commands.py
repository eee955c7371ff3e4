"""Appends for tests: small events under fresh command ids."""

from __future__ import annotations

import itertools
from typing import Any

from kernel.clock import SeededIds
from kernel.events import BaseEvent, IntentCancelRequested, Paused, intent_stream
from kernel.log import Append, EventLog, Write
from kernel.models import Evidence

_ids = SeededIds()
_counter = itertools.count(1)


def fresh_command_id() -> bytes:
    """An id that no other command has."""
    return _ids.command_id(next(_counter) * 1_000_000)


def an_event(intent_id: str = "a", generation: int = 2) -> BaseEvent:
    """An event about an intent."""
    return IntentCancelRequested(intent_id=intent_id, generation=generation, requested_at_ns=5)


def a_pause(reason: str) -> BaseEvent:
    """An event with free text in it."""
    return Paused(reason=reason)


def an_append(intent_id: str = "a", *, count: int = 1, expected: int | None = None, **given: Any) -> Append:
    """An append of `count` events to one intent's stream; other fields of `Append` as given."""
    events = tuple(an_event(intent_id, generation) for generation in range(2, 2 + count))
    fields: dict[str, Any] = {
        "command_id": fresh_command_id(),
        "writes": (Write(intent_stream(intent_id), events, expected),),
        "actor": "strategy:test",
        "evidence": Evidence.COMMAND,
    }
    return Append(**{**fields, **given})


async def collect(log: EventLog, *, upto: int, after: int = 0) -> list[BaseEvent]:
    """The events that a tail gives, until one of position `upto` came."""
    events: list[BaseEvent] = []
    async for batch in log.tail(after):
        events.extend(batch)
        if events[-1].position >= upto:
            break
    return events
