"""What `events` prints: the log as it is stored, from a position on, of one intent, of some types, once or for ever.

Called by the CLI. Needs a log and no kernel: what can no longer be folded can still be read. Promises the stored integers
and the whole envelope, in order, without a gap between what is there and what comes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from kernel import events
from kernel.clock import Clock, SystemClock
from kernel.errors import NotFoundError
from kernel.log.base import EventLog, StoredRow
from kernel.subscriptions import event_predicate
from replay.formatting.events import about, sentence, stored_object
from replay.formatting.output import Item, Listing, age, utc

COLUMNS = ("POSITION", "AGE", "TYPE", "OBJECT", "ACTOR", "MESSAGE", "EVIDENCE", "CAUSE", "TIME")
NARROW = 6


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events."""

    intent_id: str | None = None
    topics: frozenset[str] = frozenset()
    """Of these types; empty: of any."""
    after: int = 0

    def fits(self, row: StoredRow) -> bool:
        """Whether a row is wanted."""
        if self.topics and row.topic not in self.topics:
            return False
        return self.intent_id is None or row.stream_id == events.intent_stream(self.intent_id)


async def stored_rows(log: EventLog, wanted: EventFilter, *, follow: bool = False) -> AsyncIterator[list[StoredRow]]:
    """Pages of stored rows; with `follow`, then those that come, for ever.

    Raises `ValidationError` for an unknown type, `NotFoundError` for an intent that the log has never heard of.
    """
    event_predicate({"event_type": sorted(wanted.topics)})
    head = (await log.head()).position
    async for rows in _present_rows(log, wanted, head):
        if fitting := [row for row in rows if wanted.fits(row)]:
            yield fitting
    if not follow:
        return
    after = max(head, wanted.after)
    async for batch in log.tail(head):
        upto = batch[-1].position
        async for rows in log.read(after, upto):
            if fitting := [row for row in rows if wanted.fits(row)]:
                yield fitting
        after = max(after, upto)


async def _present_rows(log: EventLog, wanted: EventFilter, head: int) -> AsyncIterator[list[StoredRow]]:
    """What is there: of one intent by its stream's index, of all page by page."""
    if wanted.intent_id is None:
        async for rows in log.read(wanted.after, head):
            yield rows
        return
    stream = await log.read_stream(events.intent_stream(wanted.intent_id))
    if not stream:
        raise NotFoundError(f"intent {wanted.intent_id} not found")
    positions = [event.position for event in stream if wanted.after < event.position <= head]
    yield [row for position in positions async for rows in log.read(position - 1, position) for row in rows]


async def pages(
    log: EventLog, wanted: EventFilter, *, follow: bool = False, clock: Clock | None = None
) -> AsyncIterator[Listing]:
    """`stored_rows` as they are printed, page by page."""
    clock = clock or SystemClock()
    async for rows in stored_rows(log, wanted, follow=follow):
        yield listing_of(rows, clock.now_ns())


async def read_listing(log: EventLog, wanted: EventFilter, *, clock: Clock | None = None) -> Listing:
    """All that is there, in one listing: what fits in memory."""
    rows = [row async for page in stored_rows(log, wanted) for row in page]
    return listing_of(rows, (clock or SystemClock()).now_ns())


def listing_of(rows: list[StoredRow], now_ns: int) -> Listing:
    """Stored rows as they are printed."""
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
