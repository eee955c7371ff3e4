"""The bookings, reversals and corrections of each event, with its intent's owner. Used by the statement and exports.

`evolve` decides which trades count, and `ledger.bookings` what changed: a repeated report books nothing, a bust books the
reverse. The quantities of an intent sum to its part of the position. Memory does not grow with the log: records that were
not used for long are dropped and read again from their streams.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec

from kernel import events
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.record import Record
from kernel.log.base import EventLog
from kernel.log.engine.records import event_of
from kernel.order_spec import Side
from projections.folds import ledger
from projections.folds.reference import Reference
from replay.formatting.progress_bar import Progress
from replay.log_access.log_reader import checked_pages

RECORDS_HELD_MAX = 10_000
KINDS = {events.OrderFilled.topic: "FILL", events.FillCorrected.topic: "CORRECTION", events.FillBusted.topic: "BUST"}
"""Kinds of entries by the topic of their event; any other topic is its own kind."""


class BookEntry(msgspec.Struct, frozen=True):
    """One trade, or the fee of one trade, booked or reversed."""

    event: events.BaseEvent
    intent_id: str
    owner: str
    side: Side
    booking: ledger.Booking

    @property
    def kind(self) -> str:
        """FILL, CORRECTION or BUST; the topic of any other event that changed which trades count."""
        return KINDS.get(self.event.topic, self.event.topic)

    @property
    def quantity(self) -> int:
        """In the order's direction; negative for a reversal, 0 for a fee alone."""
        signed = self.booking.signed_quantity
        return signed if self.side is Side.BUY else -signed

    @property
    def at_ns(self) -> int:
        """The venue's time (FIX 60 TransactTime); the time of recording if the venue sent none."""
        if isinstance(self.event, events.OrderReport) and self.event.transact_time_ns is not None:
            return self.event.transact_time_ns
        return self.event.recorded_at_ns


async def entries(
    log: EventLog,
    reference: Reference,
    *,
    upto: int | None = None,
    progress: Progress | None = None,
    held_max: int = RECORDS_HELD_MAX,
) -> AsyncIterator[list[BookEntry]]:
    """The entries of each page, in the order of the log; symbols and assets on the way are added to `reference`."""
    records = IntentRecords(log, held_max=held_max)
    async for rows in checked_pages(log, upto=upto, progress=progress):
        found: list[BookEntry] = []
        for row in rows:
            if row.stream_id.startswith(events.INTENT_STREAM_PREFIX):
                event = event_of(row)
                found += _entries_of(event, await records.applied(event))
            elif row.topic in (events.SymbolObserved.topic, events.AssetObserved.topic):
                learn(reference, event_of(row))
        if found:
            yield found


def learn(reference: Reference, event: events.BaseEvent) -> None:
    if isinstance(event, events.SymbolObserved | events.AssetObserved):
        reference.apply(event)


class IntentChange(NamedTuple):
    """A record before and after an event, with the intent's owner."""

    before: Record
    after: Record
    owner: str


def _entries_of(event: events.BaseEvent, change: IntentChange) -> list[BookEntry]:
    if change.before.orders is change.after.orders:
        return []
    orders = change.after.orders or change.before.orders
    side = orders[0].order.side if orders else Side.BUY
    booked = with_fees(ledger.bookings(change.before.orders, change.after.orders))
    return [BookEntry(event, change.after.intent_id, change.owner, side, booking) for booking in booked]


def with_fees(bookings: list[ledger.Booking]) -> list[ledger.Booking]:
    """Bookings with each fee merged into its trade, if that is among them."""
    trades = [booking for booking in bookings if booking.signed_quantity]
    alone: list[ledger.Booking] = []
    for paid in bookings:
        if paid.signed_quantity:
            continue
        free = (at for at, trade in enumerate(trades) if trade.price == paid.price and trade.fee_asset is None)
        at = next(free, None)
        if at is None:
            alone.append(paid)
        else:
            trade = trades[at]
            trades[at] = ledger.Booking(trade.symbol_id, trade.signed_quantity, trade.price, paid.fee, paid.fee_asset)
    return trades + alone


class IntentRecords:
    """The records of intents while a log is read, with their owners; at most `held_max` of them."""

    def __init__(self, log: EventLog, *, held_max: int) -> None:
        self._log = log
        self._held_max = held_max
        self._held: OrderedDict[str, tuple[Record, str]] = OrderedDict()
        """The last used at the end."""

    async def applied(self, event: events.BaseEvent) -> IntentChange:
        intent_id = event.stream_id.removeprefix(events.INTENT_STREAM_PREFIX)
        known = intent_id in self._held
        before, owner = self._held.pop(intent_id) if known else await self._rehydrated(intent_id, event)
        after, owner = self._held[intent_id] = evolved(before, owner, event)
        if len(self._held) > self._held_max:
            self._held.popitem(last=False)
        return IntentChange(before, after, owner)

    async def _rehydrated(self, intent_id: str, event: events.BaseEvent) -> tuple[Record, str]:
        """The record before an event, from its stream."""
        record, owner = Record(intent_id), ""
        for earlier in await self._log.read_stream(event.stream_id) if event.version > 1 else ():
            if earlier.version >= event.version:
                break
            record, owner = evolved(record, owner, earlier)
        return record, owner


def evolved(record: Record, owner: str, event: events.BaseEvent) -> tuple[Record, str]:
    """A record after an event, and the owner of its intent or of the last one that it had."""
    after = evolve(record, event)
    return after, after.intent.owner if after.intent is not None else owner
