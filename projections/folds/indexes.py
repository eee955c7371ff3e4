"""Intents by id, symbol, group, liveness and order of creation. Folded by `Fold`.

Client and venue order ids stay until the intent is evicted: an order may appear after its intent was deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from kernel.lifecycle.record import Record
from kernel.models import Attempt, OrderIntent


class Indexes:
    """Mappings, each read and updated in constant time."""

    def __init__(self) -> None:
        self.by_symbol: dict[str, dict[str, None]] = {}
        self.by_group: dict[str, dict[str, None]] = {}
        self.live: dict[str, str | None] = {}
        """Intents that differ from their orders, or may have a live order; with the symbol of that order."""
        self.open: Counter[str] = Counter()
        """Symbol to the number of intents that have, or may have, an open order at the venue."""
        self.unresolved: dict[str, dict[str, None]] = {}
        """Symbol to the intents with an unresolved request for an order."""
        self.unresolved_in: dict[str, str] = {}
        """Intent to the symbol of its unresolved request for an order."""
        self.by_client_order_id: dict[str, str] = {}
        self.by_exchange_order_id: dict[str, str | tuple[str, ...]] = {}
        """Venue order id to the intent that has an order under it, or to all that have, as in `intents_under`."""

    def refile(self, before: Record, after: Record) -> None:
        """File an intent that changed under its symbol and group."""
        known, intent = before.intent, after.intent
        if known and intent and (known.order.symbol_id, known.group_id) == (intent.order.symbol_id, intent.group_id):
            return
        self._unfile(before)
        if after.intent is not None:
            self.file(after.intent_id, after.intent)

    def put_orders(self, before: Record, after: Record) -> None:
        """File an intent under the ids of its changed orders."""
        for facts in after.orders:
            filed = False
            for known in before.orders:
                if known is facts:
                    break
                filed = filed or known.client_order_ids is facts.client_order_ids
            else:
                if not filed:
                    self.put_client_ids(after.intent_id, facts.client_order_ids)
                if facts.exchange_order_id:
                    self._put_venue_id(facts.exchange_order_id, after.intent_id)

    def _put_venue_id(self, exchange_order_id: str, intent_id: str) -> None:
        if self.by_exchange_order_id.setdefault(exchange_order_id, intent_id) != intent_id:
            others = (other for other in self.intents_under(exchange_order_id) if other != intent_id)
            self.by_exchange_order_id[exchange_order_id] = (*others, intent_id)

    def intents_under(self, exchange_order_id: str) -> tuple[str, ...]:
        """The intents that have an order under a venue order id, the one reported last at the end."""
        found = self.by_exchange_order_id.get(exchange_order_id, ())
        return (found,) if isinstance(found, str) else found

    def put_client_ids(self, intent_id: str, client_order_ids: Iterable[str]) -> None:
        for client_order_id in client_order_ids:
            if client_order_id:
                self.by_client_order_id[client_order_id] = intent_id

    def _unfile(self, record: Record) -> None:
        if record.intent is not None:
            drop(self.by_symbol, record.intent.order.symbol_id, record.intent_id)
            drop(self.by_group, record.intent.group_id, record.intent_id)

    def file(self, intent_id: str, intent: OrderIntent) -> None:
        """File an intent under its symbol and group. Pass the id string of the other mappings, to hold it once."""
        self.by_symbol.setdefault(intent.order.symbol_id, {})[intent_id] = None
        if intent.group_id is not None:
            self.by_group.setdefault(intent.group_id, {})[intent_id] = None

    def set_live(self, record: Record, unresolved: Sequence[Attempt], *, differs: bool) -> bool:
        """File an intent as live if its sides differ or an order may be live, and under the symbol of that order.

        Returns whether it is live; `unresolved` are its unresolved attempts.
        """
        intent_id, may_be_live = record.intent_id, bool(unresolved)
        for facts in record.orders:
            may_be_live = may_be_live or facts.final_cum_qty is None
        if unresolved or (self.unresolved_in and intent_id in self.unresolved_in):
            self.file_unresolved(record, unresolved)
        symbol_id = symbol_at_venue(record) if may_be_live else None
        if (filed := self.live.get(intent_id)) is not None:
            self.open[filed] -= 1
        if not (differs or may_be_live):
            self.live.pop(intent_id, None)
            return False
        self.put_live(intent_id, symbol_id)
        return True

    def put_live(self, intent_id: str, symbol_id: str | None) -> None:
        """File a live intent, under the symbol in which its order is, or may be, open."""
        self.live[intent_id] = symbol_id
        if symbol_id is not None:
            self.open[symbol_id] += 1

    def file_unresolved(self, record: Record, unresolved: Sequence[Attempt]) -> None:
        """File an intent under the symbol of its unresolved request for an order, if it has one."""
        intent_id, asks = record.intent_id, any(item.makes_order for item in unresolved)
        symbol_id = symbol_at_venue(record) if asks else None
        if (filed := self.unresolved_in.get(intent_id)) == symbol_id:
            return
        drop(self.unresolved, filed, intent_id)
        if symbol_id is None:
            del self.unresolved_in[intent_id]
        else:
            self.unresolved_in[intent_id] = symbol_id
            self.unresolved.setdefault(symbol_id, {})[intent_id] = None

    def evict(self, record: Record) -> None:
        """Remove a terminal intent from every mapping."""
        intent_id = record.intent_id
        self._unfile(record)
        for name in client_ids(record):
            if self.by_client_order_id.get(name) == intent_id:
                del self.by_client_order_id[name]
        for name in venue_ids(record):
            left = tuple(other for other in self.intents_under(name) if other != intent_id)
            self.by_exchange_order_id.pop(name, None)
            if left:
                self.by_exchange_order_id[name] = left

    def rehydrate(self, record: Record) -> None:
        """File an evicted intent again."""
        intent_id = record.intent_id
        if record.intent is not None:
            self.file(intent_id, record.intent)
        self.by_client_order_id.update(dict.fromkeys(client_ids(record), intent_id))
        for name in venue_ids(record):
            self._put_venue_id(name, intent_id)


def client_ids(record: Record) -> set[str]:
    """Every client order id of an intent's requests and orders."""
    sent = (name for name, _ in (*record.sends, *record.targets))
    orders = (*record.settled, *record.orders)
    return {*sent, *(name for facts in orders for name in facts.client_order_ids if name)}


def venue_ids(record: Record) -> set[str]:
    """Every venue order id of an intent's orders."""
    return {facts.exchange_order_id for facts in (*record.settled, *record.orders) if facts.exchange_order_id}


def symbol_at_venue(record: Record) -> str | None:
    """The symbol of the working order, else of the last one sent: the intent may name another by now."""
    for facts in reversed(record.orders):
        if facts.live:
            return facts.order.symbol_id
    order = record.sent_order or (record.intent.order if record.intent else None)
    return order.symbol_id if order is not None else None


def drop(index: dict[str, dict[str, None]], key: str | None, intent_id: str) -> None:
    if key is not None and key in index:
        index[key].pop(intent_id, None)
        if not index[key]:
            del index[key]
