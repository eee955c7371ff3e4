"""The listing of `events`: the log as stored, from a position on, of one intent or of some types, once or followed.

Called by the CLI. Reads the log without folding it, so that a log that cannot be folded can still be read. Shows stored
integers and the whole envelope, in order, without a gap between present and new events.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import msgspec

from kernel import events
from kernel.clock import SystemClock
from kernel.errors import NotFoundError
from kernel.log.base import EventLog, StoredRow
from kernel.subscriptions import event_predicate
from replay.formatting.events import about, sentence, stored_object
from replay.formatting.output import Item, Listing, age, utc

COLUMNS = ("POSITION", "AGE", "TYPE", "OBJECT", "ACTOR", "MESSAGE", "EVIDENCE", "CAUSE", "TIME")
NARROW = 6


class EventFilter(msgspec.Struct, frozen=True):
    """Which events to list."""

    intent_id: str | None = None
    topics: frozenset[str] = frozenset()
    """Event types; empty: all."""
    after: int = 0

    def fits(self, row: StoredRow) -> bool:
        if self.topics and row.topic not in self.topics:
            return False
        return self.intent_id is None or row.stream_id == events.intent_stream(self.intent_id)


async def stored_rows(log: EventLog, chosen: EventFilter, *, follow: bool = False) -> AsyncIterator[list[StoredRow]]:
    """Yield pages of rows; with `follow`, new rows too, without end. Raises `ValidationError`, `NotFoundError`."""
    event_predicate({"event_type": sorted(chosen.topics)})
    head = (await log.head()).position
    async for rows in _present_rows(log, chosen, head):
        if fitting := [row for row in rows if chosen.fits(row)]:
            yield fitting
    if not follow:
        return
    after = max(head, chosen.after)
    async for batch in log.tail(head):
        upto = batch[-1].position
        async for rows in log.read(after, upto):
            if fitting := [row for row in rows if chosen.fits(row)]:
                yield fitting
        after = max(after, upto)


async def _present_rows(log: EventLog, chosen: EventFilter, head: int) -> AsyncIterator[list[StoredRow]]:
    """Yield the rows up to the head: of one intent by its stream's index, otherwise page by page."""
    if chosen.intent_id is None:
        async for rows in log.read(chosen.after, head):
            yield rows
        return
    stream = await log.read_stream(events.intent_stream(chosen.intent_id))
    if not stream:
        raise NotFoundError(f"intent {chosen.intent_id} not found")
    positions = [event.position for event in stream if chosen.after < event.position <= head]
    yield [row for position in positions async for rows in log.read(position - 1, position) for row in rows]


async def pages(log: EventLog, chosen: EventFilter, *, follow: bool = False) -> AsyncIterator[Listing]:
    """Yield `stored_rows` as listings, page by page."""
    clock = SystemClock()
    async for rows in stored_rows(log, chosen, follow=follow):
        yield listing_of(rows, clock.now_ns())


async def read_listing(log: EventLog, chosen: EventFilter) -> Listing:
    """Return all rows in one listing, which must fit in memory."""
    rows = [row async for page in stored_rows(log, chosen) for row in page]
    return listing_of(rows, SystemClock().now_ns())


def listing_of(rows: list[StoredRow], now_ns: int) -> Listing:
    return Listing("event", COLUMNS, NARROW, tuple(_item(row, now_ns) for row in rows))


def _item(row: StoredRow, now_ns: int) -> Item:
    data = stored_object(row)
    payload = json.loads(row.state)
    cause = data.get("causation_position")
    line = (
        str(row.position),
        age(row.recorded_at_ns, now_ns),
        row.topic,
        about(row.stream_id, payload),
        str(data["actor"]),
        sentence(row.topic, payload),
        str(data["evidence"]),
        "-" if cause is None else str(cause),
        utc(row.recorded_at_ns),
    )
    return Item(str(row.position), data, (line,))
