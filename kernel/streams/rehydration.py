"""Rehydration: reads evicted streams back from the log.

Memory holds live intents and the newest terminal ones. Called by the reader before it applies a batch, by commands and
reports about an evicted intent, and by the stores. A group and its members are evicted and rehydrated together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from kernel import events
from kernel.log.base import EventLog
from kernel.state import Applied, KernelState, joined


async def apply_batch(log: EventLog, state: KernelState, batch: Sequence[events.BaseEvent]) -> Applied:
    """Apply a batch of a log to its state, with the evicted streams that it continues."""
    applied = []
    for part in state.parts_of(batch):
        missing = state.missing(part)
        rehydrated = await load_streams(log.read_stream, missing, upto=state.position) if missing else ()
        applied.append(state.apply(part, rehydrated))
    return joined(applied)


async def load_streams(
    read: Callable[[str], Awaitable[list[events.BaseEvent]]], stream_ids: Iterable[str], *, upto: int
) -> list[events.BaseEvent]:
    """Return all events up to a position of streams and of those evicted together with them, in order."""
    found: dict[str, list[events.BaseEvent]] = {}
    pending = list(stream_ids)
    while pending:
        stream_id = pending.pop()
        if stream_id in found:
            continue
        found[stream_id] = [event for event in await read(stream_id) if event.position <= upto]
        pending.extend(related(found[stream_id]))
    return sorted((event for stream in found.values() for event in stream), key=lambda event: event.position)


def related(stream: Iterable[events.BaseEvent]) -> Iterable[str]:
    """Yield the streams of a group's members, or of a member's group."""
    for event in stream:
        if isinstance(event, events.IntentCreated) and event.intent.group_id is not None:
            yield events.group_stream(event.intent.group_id)
        if isinstance(event, events.GroupCreated):
            yield from map(events.intent_stream, event.intent_ids)


async def ensure_loaded(log: EventLog, state: KernelState, *names: str, anew: bool = False) -> None:
    """Load the streams of evicted intents and groups into the state; with `anew`, load them again."""
    if not state.evicted_count:
        return
    for name in names:
        if anew or not state.is_loaded(name):
            streams = (events.intent_stream(name), events.group_stream(name))
            if rehydrated := await load_streams(log.read_stream, streams, upto=state.position):
                state.cache_streams(rehydrated)


async def owner(
    log: EventLog, state: KernelState, *, client_order_id: str | None = None, exchange_order_id: str | None = None
) -> str | None:
    """Return the newest intent with an order under one of these ids, evicted or not; the venue's id takes precedence."""
    found = state.intent_id_of(client_order_id=client_order_id, exchange_order_id=exchange_order_id)
    if found is not None or not state.evicted_count:
        return found
    names = await log.intent_ids_of(
        client_order_id=client_order_id, exchange_order_id=exchange_order_id, upto=state.position
    )
    return next(iter(names), None)
