"""Reading back what was let go: memory holds what is live and the newest of what is over, the log holds everything.

Used by the one reader, before it applies a batch that goes on with something old; by commands and reports about it; and by
the stores, when somebody asks for it. A group and its members are let go together, and come back together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kernel import events
from kernel.log.base import EventLog
from kernel.state import Applied, KernelState, joined


async def apply_batch(log: EventLog, state: KernelState, batch: Sequence[events.BaseEvent]) -> Applied:
    """Apply a batch of a log to its state, with what has to be read back for it. Raises what `state.apply` raises."""
    applied = []
    for part in state.parts_of(batch):
        missing = state.missing(part)
        rehydrated = await load_streams(log, missing, upto=state.position) if missing else ()
        applied.append(state.apply(part, rehydrated))
    return joined(applied)


async def load_streams(log: EventLog, stream_ids: Iterable[str], *, upto: int) -> list[events.BaseEvent]:
    """All events of streams up to a position, and of those that were let go together with them, in order."""
    found: dict[str, list[events.BaseEvent]] = {}
    wanted = list(stream_ids)
    while wanted:
        stream_id = wanted.pop()
        if stream_id in found:
            continue
        found[stream_id] = [event for event in await log.read_stream(stream_id) if event.position <= upto]
        wanted.extend(related(found[stream_id]))
    return sorted((event for stream in found.values() for event in stream), key=lambda event: event.position)


def related(stream: Iterable[events.BaseEvent]) -> Iterable[str]:
    """Streams that belong to one: a group's to its members', theirs to the group's."""
    for event in stream:
        if isinstance(event, events.IntentCreated) and event.intent.group_id is not None:
            yield events.group_stream(event.intent.group_id)
        if isinstance(event, events.GroupCreated):
            yield from map(events.intent_stream, event.intent_ids)


async def ensure_loaded(log: EventLog, state: KernelState, *names: str, anew: bool = False) -> None:
    """See to it that the state can tell of intents and groups, if anything was ever recorded of them. `anew`: what it could
    tell before was too old."""
    if not state.evicted_count:
        return
    for name in names:
        if anew or not state.is_loaded(name):
            streams = (events.intent_stream(name), events.group_stream(name))
            if rehydrated := await load_streams(log, streams, upto=state.position):
                state.cache_streams(rehydrated)


async def owner(
    log: EventLog, state: KernelState, *, client_order_id: str | None = None, exchange_order_id: str | None = None
) -> str | None:
    """The intent whose order carries one of these ids, held or not. The venue's id decides where both are known."""
    found = state.intent_id_of(client_order_id=client_order_id, exchange_order_id=exchange_order_id)
    if found is not None or not state.evicted_count:
        return found
    return await log.intent_id_of(
        client_order_id=client_order_id, exchange_order_id=exchange_order_id, upto=state.position
    )
