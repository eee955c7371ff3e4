"""Where things are: which intent has which id, symbol, group; which are live; in which order they came.

Kept by `State`, one event at a time. Ids are remembered for ever: an order may turn up after its intent was deleted.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel import events
from kernel.lifecycle import Record


class Indexes:
    """Mappings by id, each in constant time."""

    def __init__(self) -> None:
        self.created: dict[str, int] = {}
        """Intents that exist, in order of creation; the value is the position of that."""
        self.with_order: dict[str, None] = {}
        """Intents that have an order state, in order of its creation."""
        self.by_symbol: dict[str, dict[str, None]] = {}
        self.by_group: dict[str, dict[str, None]] = {}
        self.symbol_of: dict[str, str] = {}
        self.live: dict[str, None] = {}
        """Intents about which there is something to watch."""
        self.open: dict[str, dict[str, None]] = {}
        """Symbol → intents that have, or may have, an order open at the venue."""
        self.by_client_order_id: dict[str, str] = {}
        self.by_exchange_order_id: dict[str, str] = {}

    def note(self, before: Record, after: Record, event: events.BaseEvent) -> None:
        """An event turned one record into another."""
        if after.intent is not before.intent:
            self._note_intent(before, after, event.position)
        if after.has_order and not before.has_order:
            self.with_order[after.intent_id] = None
        elif before.has_order and not after.has_order:
            self.with_order.pop(after.intent_id, None)
        if isinstance(event, events.AttemptStarted):
            self._note_client_ids(after.intent_id, [event.client_order_id])
        if after.orders is not before.orders:
            for facts in after.orders:
                self._note_client_ids(after.intent_id, facts.client_order_ids)
                if facts.exchange_order_id:
                    self.by_exchange_order_id[facts.exchange_order_id] = after.intent_id

    def _note_client_ids(self, intent_id: str, client_order_ids: Iterable[str]) -> None:
        for client_order_id in client_order_ids:
            if client_order_id:
                self.by_client_order_id[client_order_id] = intent_id

    def _note_intent(self, before: Record, after: Record, position: int) -> None:
        intent_id = after.intent_id
        if before.intent is not None:
            drop(self.by_symbol, before.intent.order.symbol_id, intent_id)
            drop(self.by_group, before.intent.group_id, intent_id)
        if after.intent is None:
            self.created.pop(intent_id, None)
            return
        self.created.setdefault(intent_id, position)
        self.symbol_of[intent_id] = after.intent.order.symbol_id
        self.by_symbol.setdefault(after.intent.order.symbol_id, {})[intent_id] = None
        if after.intent.group_id is not None:
            self.by_group.setdefault(after.intent.group_id, {})[intent_id] = None

    def set_live(self, record: Record, *, differs: bool) -> None:
        """Whether there is something to watch about an intent, and whether it may have an order open."""
        intent_id, may_be_live = record.intent_id, record.may_be_live
        if differs or may_be_live:
            self.live[intent_id] = None
        else:
            self.live.pop(intent_id, None)
        symbol_id = self.symbol_of.get(intent_id)
        if symbol_id is not None and may_be_live:
            self.open.setdefault(symbol_id, {})[intent_id] = None
        else:
            drop(self.open, symbol_id, intent_id)


def drop(index: dict[str, dict[str, None]], key: str | None, intent_id: str) -> None:
    if key is not None and key in index:
        index[key].pop(intent_id, None)
        if not index[key]:
            del index[key]
