"""Reads fills from the log, page by page, each fill key once. Called by `get_fills` and by views of past positions."""

from __future__ import annotations

from collections.abc import AsyncIterator

from kernel import events
from kernel.lifecycle.apply_report import trade_entry
from kernel.log.base import EventLog
from kernel.log.engine.records import event_of


async def fills(
    log: EventLog, *, intent_id: str | None, symbol_id: str | None, after: int | None, upto: int | None = None
) -> list[events.OrderFilled]:
    """Return fills in the order of the log: of an intent, of a symbol, after a position, up to another."""
    found: dict[tuple[str, str], list[events.OrderFilled]] = {}
    async for event in recorded_fills(log, intent_id, upto):
        known = found.setdefault((event.intent_id, event.fill_key), [])
        if not any(repeats(event, other) for other in known):
            known.append(event)
    fills = (event for known in found.values() for event in known)
    wanted = [event for event in fills if event.position > (after or 0) and symbol_id in (None, event.symbol_id)]
    return sorted(wanted, key=lambda event: event.position)


def repeats(event: events.OrderFilled, other: events.OrderFilled) -> bool:
    """Return whether a report repeats a trade, as the facts of an order do (`TradeEntry.repeats`)."""
    ids = (event.client_order_id, other.client_order_id)
    if None in ids:  # then the venue's id tells the orders of one intent apart
        ids = (event.exchange_order_id, other.exchange_order_id)
    return (None in ids or ids[0] == ids[1]) and trade_entry(event).repeats(trade_entry(other))


async def recorded_fills(log: EventLog, intent_id: str | None, upto: int | None) -> AsyncIterator[events.OrderFilled]:
    """Yield every `OrderFilled` up to a position, repeated ones too."""
    if intent_id is not None:
        for event in await log.read_stream(events.intent_stream(intent_id)):
            if isinstance(event, events.OrderFilled) and (upto is None or event.position <= upto):
                yield event
        return
    async for page in log.read(0, upto):
        for row in page:
            if row.topic == events.OrderFilled.topic:
                event = event_of(row)
                assert isinstance(event, events.OrderFilled)
                yield event
