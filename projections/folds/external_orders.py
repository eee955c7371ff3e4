"""External orders: orders at the venue that belong to no intent, and their trades. Folded by `Fold`.

They are kept so that a repeated listing is not new, and because their trades explain balances. An adopted order is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import msgspec
from msgspec import structs
from msgspec.structs import replace

from kernel import events
from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.lifecycle.orders.trades import TradeEntry, fees_of
from kernel.models import ExecType, ExternalOrder, OrdStatus
from kernel.order_spec import Side
from projections.folds.ledger import Booking, fee_bookings

ENDED_MAX = 1_000
"""Ended orders that are kept; beyond that, the one with the oldest report is dropped."""
ANOTHER = "\n"
"""Separates a fill key from what tells a second trade under it from the first."""
ENDS = frozenset({OrdStatus.FILLED, OrdStatus.CANCELED, OrdStatus.EXPIRED, OrdStatus.REJECTED})
END_REPORTS = frozenset({ExecType.CANCELED, ExecType.EXPIRED, ExecType.REJECTED})


class ExternalEntry(msgspec.Struct, frozen=True):
    """One order and its trades."""

    order: ExternalOrder
    trades: dict[str, tuple[Booking, ...]] = {}
    """Trades that count, each with its fees, by fill key."""
    void: frozenset[str] = frozenset()
    """Fill keys that were busted or corrected: a later report of them does not count."""
    traded_ns: dict[str, int] = {}
    """Venue times of the trades, by fill key."""
    id_reused: bool = False
    """True if an intent had an order with its venue order id when it was reported: then it is not that order."""
    corrected: dict[str, str] = {}
    """Fill key of each correction → that of the trade, reported or not, that it and those before it correct."""

    def trade_entries(self) -> list[TradeEntry]:
        """The trades that count, as those of an intent's order."""
        return [
            trade_entry(key, bookings, self.traded_ns.get(key, 0), self.corrected.get(key))
            for key, bookings in self.trades.items()
        ]


def trade_entry(name: str, bookings: tuple[Booking, ...], time_ns: int, corrects: str | None) -> TradeEntry:
    trade, *paid = bookings
    fees = tuple(sorted((item.fee_asset, item.fee) for item in paid if item.fee_asset is not None))
    asset, fee = fees[0] if len(fees) == 1 else (None, None)
    several = fees if len(fees) > 1 else None
    return TradeEntry(fill_key(name), abs(trade.signed_quantity), trade.price, time_ns, corrects, fee, asset, several)


class ExternalKey(NamedTuple):
    """Key of an order, as far as its reports have it."""

    order_id: str
    symbol_id: str
    side: Side | None
    client_order_id: str | None

    def fits(self, symbol_id: str | None, side: Side | None, client_order_id: str | None) -> bool:
        """Return whether what is told of an order contradicts nothing; None is not told."""
        told = ((symbol_id, self.symbol_id), (side, self.side), (client_order_id, self.client_order_id))
        return all(None in pair or pair[0] == pair[1] for pair in told)


class Externals:
    """External orders; of several with one venue order id, they differ in symbol, side or client order id."""

    def __init__(self) -> None:
        self.entries: dict[ExternalKey, ExternalEntry] = {}
        """In order of the newest report."""
        self.first_seen: dict[str, dict[int, ExternalKey]] = {}
        """Symbol to its orders, by the position of the first report, in that order."""
        self._by_id: dict[str, tuple[ExternalKey, ...]] = {}
        self._ended = 0

    def apply(self, event: events.ExternalOrderObserved) -> list[Booking]:
        """Apply a report; returns the bookings that it causes."""
        order_id = event.exchange_order_id or event.client_order_id or event.fill_key or ""
        traded = frozenset(filter(None, (event.fill_key, event.ref_fill_key)))
        known = self.find(order_id, event.symbol_id, event.side, event.client_order_id, traded=traded)
        trades = dict(known.trades) if known is not None else {}
        void = known.void if known is not None else frozenset()
        corrected = known.corrected if known is not None else {}
        if event.ref_fill_key is not None:
            void |= {event.ref_fill_key}
            if event.exec_type is ExecType.TRADE_CORRECT and event.fill_key is not None:
                first = corrected.get(event.ref_fill_key, event.ref_fill_key)
                corrected = {**corrected, event.fill_key: first}
        bookings = booked(event, trades, void)
        traded_ns = dict(known.traded_ns) if known is not None else {}
        if event.fill_key in trades and event.transact_time_ns is not None:
            traded_ns.setdefault(event.fill_key, event.transact_time_ns)
        seen = (
            known.order
            if known is not None
            else ExternalOrder(
                exchange_order_id=order_id,
                symbol_id=event.symbol_id,
                client_order_id=event.client_order_id,
                side=event.side,
                first_seen_ns=event.recorded_at_ns,
                first_position=event.position,
            )
        )
        order = with_observation(seen, event, trades)
        if traded_ns:
            order = structs.replace(order, first_trade_ns=min(traded_ns.values()))
        if known is not None:
            self._pop(key_of(known.order))
        reused = bool(event.id_reused) or (known is not None and known.id_reused)
        self._put(ExternalEntry(order, trades, void, traded_ns, reused, corrected))
        if self._ended > ENDED_MAX:
            self.drop(next(key for key, entry in self.entries.items() if not entry.order.live))
        return bookings

    def find(
        self,
        order_id: str,
        symbol_id: str | None = None,
        side: Side | None = None,
        client_order_id: str | None = None,
        *,
        traded: frozenset[str] = frozenset(),
    ) -> ExternalEntry | None:
        """Return the order under a venue order id that agrees with what is told of it: of several, one with a trade of
        `traded`, else the newest."""
        fitting = [key for key in reversed(self._by_id.get(order_id, ())) if key.fits(symbol_id, side, client_order_id)]
        if not fitting:
            return None

        def fit(key: ExternalKey) -> tuple[bool, bool, bool]:
            entry = self.entries[key]
            has_traded = not traded.isdisjoint(entry.trades.keys() | entry.void)
            return has_traded, key.side == side, key.client_order_id == client_order_id

        return self.entries[max(fitting, key=fit)]

    def take(self, facts: OrderFacts, *, sent_position: int | None = None) -> list[Booking]:
        """Remove an order that turned out to be an intent's, or its trades that did; returns their bookings.

        `sent_position` is that of a send of the intent's order.
        """
        order = facts.order
        found = (
            self.find(facts.exchange_order_id, order.symbol_id, order.side, name or None)
            for name in facts.client_order_ids
        )
        entry = next(filter(None, found), None)
        if entry is None or is_earlier(entry, facts, sent_position):
            return []
        if not entry.id_reused or entry.order.first_seen_ns <= facts.first_seen_ns:
            return [*chain.from_iterable(self.drop(key_of(entry.order)).trades.values())]
        ours = {(trade.fill_key, trade.quantity, trade.price) for trade in facts.counted_trades}
        taken = {
            name: item
            for name, item in entry.trades.items()
            if (fill_key(name), abs(item[0].signed_quantity), item[0].price) in ours
        }
        left = {name: item for name, item in entry.trades.items() if name not in taken}
        self.entries[key_of(entry.order)] = replace(entry, trades=left)
        return [*chain.from_iterable(taken.values())]

    def restore(self, entries: Iterable[ExternalEntry]) -> None:
        entries = [*entries]
        for entry in sorted(entries, key=lambda item: item.order.first_position):
            self.first_seen.setdefault(entry.order.symbol_id, {})[entry.order.first_position] = key_of(entry.order)
        for entry in entries:
            self._put(entry)

    def _put(self, entry: ExternalEntry) -> None:
        order = entry.order
        key = key_of(order)
        self.entries[key] = entry
        self._by_id[key.order_id] = (*self._by_id.get(key.order_id, ()), key)
        self.first_seen.setdefault(order.symbol_id, {})[order.first_position] = key
        self._ended += not order.live

    def _pop(self, key: ExternalKey) -> ExternalEntry:
        entry = self.entries.pop(key)
        self._ended -= not entry.order.live
        left = tuple(other for other in self._by_id.pop(key.order_id) if other != key)
        if left:
            self._by_id[key.order_id] = left
        return entry

    def drop(self, key: ExternalKey) -> ExternalEntry:
        entry = self._pop(key)
        del self.first_seen[key.symbol_id][entry.order.first_position]
        return entry

    def queried(self, order_id: str) -> None:
        """Note that the status of an order was queried by the venue's id."""
        entry = self.find(order_id)
        if entry is not None:
            self.entries[key_of(entry.order)] = replace(entry, order=replace(entry.order, queried=True))

    def seen_since(self, symbol_id: str, side: Side, *, position: int) -> Iterator[ExternalOrder]:
        """The orders of a symbol that the log first showed after a position and that may have this side; newest first."""
        for key in reversed(self.first_seen.get(symbol_id, {}).values()):
            order = self.entries[key].order
            if order.first_position <= position:
                return
            if order.side in (side, None):
                yield order


def is_earlier(entry: ExternalEntry, facts: OrderFacts, sent_position: int | None) -> bool:
    """Return whether an external order is another one than an intent's: it was seen, or ended, before that one began.

    One that the log first shows behind a send was not seen before it, whatever the clocks of the log and the host say.
    One that nothing else tells the beginning of began with its first trade; if a trade is of both, they are one order.
    """
    told = {item.identity for item in entry.trade_entries()}
    traded_ns = min((0 if item.identity in told else item.time_ns for item in facts.trades), default=0)
    order, made_ns = entry.order, facts.created_ns or facts.rare.accepted_ns or traded_ns
    if not order.live and order.transact_time_ns is not None and order.transact_time_ns < made_ns:
        return True
    if sent_position is not None and order.first_position > sent_position:
        return False
    begin_ns = facts.rare.accepted_ns if facts.sent_ns is None and entry.id_reused else facts.sent_ns
    return begin_ns is not None and order.first_seen_ns < begin_ns


def key_of(order: ExternalOrder) -> ExternalKey:
    return ExternalKey(order.exchange_order_id, order.symbol_id, order.side, order.client_order_id)


def with_observation(
    known: ExternalOrder, event: events.ExternalOrderObserved, trades: dict[str, tuple[Booking, ...]]
) -> ExternalOrder:
    """The order after a report. A late trade report does not reopen it."""
    traded = sum(abs(booking.signed_quantity) for booked in trades.values() for booking in booked)
    known_qty = known.cum_qty if event.ref_fill_key is None else 0  # a bust or correction may take from the total
    ends = event.ord_status in ENDS or event.exec_type in END_REPORTS or bool(event.gone)
    return structs.replace(
        known,
        side=event.side or known.side,
        client_order_id=known.client_order_id or event.client_order_id,
        created_ns=known.created_ns if event.order_created_ns is None else event.order_created_ns,
        quantity=known.quantity if event.order_qty is None else event.order_qty,
        price=known.price if event.price is None else event.price,
        cum_qty=max(traded, event.cum_qty or 0, known_qty),
        ord_status=event.ord_status or known.ord_status,
        live=known.live and not ends,
        last_seen_ns=event.recorded_at_ns,
        transact_time_ns=max(filter(None, (event.transact_time_ns, known.transact_time_ns)), default=None),
    )


def booked(
    event: events.ExternalOrderObserved, trades: dict[str, tuple[Booking, ...]], void: frozenset[str]
) -> list[Booking]:
    """The bookings of a report: a trade or its newer fees, and the reversal of the trade that it busts or corrects.

    Updates `trades`.
    """
    replaced = trades.pop(event.ref_fill_key, ()) if event.ref_fill_key is not None else ()
    reversals = [reversal(booking) for booking in replaced]
    is_trade = event.exec_type in (ExecType.TRADE, ExecType.TRADE_CORRECT)
    if not is_trade or event.fill_key is None or event.fill_key in void:
        return reversals
    if event.side is None or event.last_qty is None or event.last_px is None:
        return reversals
    trade = Booking(event.symbol_id, event.last_qty if event.side is Side.BUY else -event.last_qty, event.last_px)
    name, new = event.fill_key, (trade, *fee_bookings(trade, event))
    if (known := trades.get(name, ())) and known[0] != trade:  # another trade with the same key: both count
        name = f"{name}{ANOTHER}{trade.signed_quantity}/{trade.price}"
        known = trades.get(name, ())
    if known and (fees_of(event) is None or known == new):
        return reversals
    trades[name] = new
    return [*reversals, *map(reversal, known), *new]


def fill_key(name: str) -> str:
    """The fill key of a trade of an entry."""
    return name.partition(ANOTHER)[0]


def reversal(booking: Booking) -> Booking:
    """The booking that cancels another one out."""
    return Booking(booking.symbol_id, -booking.signed_quantity, booking.price, -booking.fee, booking.fee_asset)
