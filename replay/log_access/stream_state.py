"""The current state of single intents and groups, from their streams: neither a checkpoint nor the whole log is read.

Called by commands that show them. It equals the state of the whole log in all that is shown of these intents and groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kernel import events
from kernel.clock import SystemClock
from kernel.log.base import EventLog
from kernel.models import FindingKind, LookScope
from kernel.streams.rehydration import load_streams
from projections.state import State, folded_alone

SNAPSHOTS_READ = 100


class StreamState(msgspec.Struct, frozen=True):
    """The state of some intents and groups, from their streams alone."""

    log: EventLog
    state: State
    now_ns: int


async def stream_state(log: EventLog, names: Sequence[str]) -> StreamState | None:
    """The state of intents and groups of these names; None if other intents determine what it shows of them."""
    text = "".join(names)
    if not text.isascii() or not text.isprintable():
        return None  # no id: not every database takes it as the name of a stream
    head = await log.head()
    streams = [events.CONTROL_STREAM, events.REFERENCE_STREAM]
    for name in names:
        streams += events.intent_stream(name), events.group_stream(name)
    found = await load_streams(log.read_stream, streams, upto=head.position)
    found += await newest_lists(log, upto=head.position)
    state = folded_alone(sorted(found, key=lambda event: event.position), position=head.position)
    state.follow({*streams, *(event.stream_id for event in found)} - {events.VENUE_STREAM})
    return None if depends_on_others(state) else StreamState(log, state, SystemClock().now_ns())


async def newest_lists(log: EventLog, *, upto: int) -> list[events.BaseEvent]:
    """The newest snapshots, with at least one complete list of open orders if there is one: it confirms live orders."""
    topic = events.VenueSnapshotTaken.topic
    while page := await log.newest(events.VENUE_STREAM, topic, upto=upto, limit=SNAPSHOTS_READ):
        if any(isinstance(item, events.VenueSnapshotTaken) and LookScope.OPEN_ORDERS in item.scopes for item in page):
            return page
        upto = page[0].position - 1
    return []


def depends_on_others(state: State) -> bool:
    """Return whether events of other intents may determine the state.

    They do of a bracket that other trades close, in a rejection storm, and of a request resolved as DEAD whose order may
    have been found since.
    """
    storms = (item for item in state.findings() if item.kind is FindingKind.STORM and item.resolved_at_ns is None)
    return any(storms) or any(state.dead_requests()) or any(group.parent is not None for group in state.groups())
