"""External orders: orders at the venue that belong to no intent, and their trades. Folded by `Fold`.

They are kept so that a repeated listing is not new, and because their trades explain balances. An adopted order is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from kernel import events
from kernel.lifecycle.trades import TradeEntry, fees_of
from kernel.models import ExecType, ExternalOrder, OrdStatus
from kernel.order_spec import Side
from projections.folds.ledger import Booking, fee_bookings

ENDED_MAX = 1_000
"""Ended orders that are kept; beyond that, the one with the oldest report is dropped."""
ENDS = frozenset({OrdStatus.FILLED, OrdStatus.CANCELED, OrdStatus.EXPIRED, OrdStatus.REJECTED})
END_REPORTS = frozenset({ExecType.CANCELED, ExecType.EXPIRED, ExecType.REJECTED})


@dataclass(frozen=True, slots=True)
class ExternalEntry:
    """One order and its trades."""

    order: ExternalOrder
    trades: dict[str, tuple[Booking, ...]] = field(default_factory=dict)
    """Trades that count, each with its fees, by fill key."""
    void: frozenset[str] = frozenset()
    """Fill keys that were busted or corrected: a later report of them does not count."""
    traded_ns: dict[str, int] = field(default_factory=dict)
    """Venue times of the trades, by fill key."""

    def trade_entries(self) -> list[TradeEntry]:
        """The trades that count, as those of an intent's order."""
        return [trade_entry(key, bookings, self.traded_ns.get(key, 0)) for key, bookings in self.trades.items()]


def trade_entry(fill_key: str, bookings: tuple[Booking, ...], time_ns: int) -> TradeEntry:
    trade, *paid = bookings
    fees = tuple(sorted((item.fee_asset, item.fee) for item in paid if item.fee_asset is not None))
    asset, fee = fees[0] if len(fees) == 1 else (None, None)
    several = fees if len(fees) > 1 else None
    return TradeEntry(fill_key, abs(trade.signed_quantity), trade.price, time_ns, None, fee, asset, several)


class Externals:
    """External orders by venue order id."""

    def __init__(self) -> None:
        self.entries: dict[str, ExternalEntry] = {}
        """In order of the newest report."""
        self.first_seen: dict[str, dict[str, None]] = {}
        """Symbol to its orders, in order of the first report."""
        self._ended = 0

    def apply(self, event: events.ExternalOrderObserved) -> list[Booking]:
        """Apply a report; returns the bookings that it causes."""
        order_id = event.exchange_order_id or event.client_order_id or event.fill_key or ""
        known = self.entries.get(order_id)
        trades = dict(known.trades) if known is not None else {}
        void = known.void if known is not None else frozenset()
        if event.ref_fill_key is not None:
            void |= {event.ref_fill_key}
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
            order = order.model_copy(update={"first_trade_ns": min(traded_ns.values())})
        self._ended -= known is not None and not known.order.live
        self.entries.pop(order_id, None)
        self._file(ExternalEntry(order, trades, void, traded_ns))
        if self._ended > ENDED_MAX:
            self.drop(next(name for name, entry in self.entries.items() if not entry.order.live))
        return bookings

    def restore(self, entries: Iterable[ExternalEntry]) -> None:
        entries = [*entries]
        for entry in sorted(entries, key=lambda item: item.order.first_position):
            self.first_seen.setdefault(entry.order.symbol_id, {})[entry.order.exchange_order_id] = None
        for entry in entries:
            self._file(entry)

    def _file(self, entry: ExternalEntry) -> None:
        order = entry.order
        self.entries[order.exchange_order_id] = entry
        self.first_seen.setdefault(order.symbol_id, {}).setdefault(order.exchange_order_id)
        self._ended += not order.live

    def drop(self, order_id: str) -> ExternalEntry | None:
        entry = self.entries.pop(order_id, None)
        if entry is not None:
            self._ended -= not entry.order.live
            self.first_seen[entry.order.symbol_id].pop(order_id)
        return entry

    def queried(self, order_id: str) -> None:
        """Note that the status of an order was queried by the venue's id."""
        entry = self.entries.get(order_id)
        if entry is not None:
            order = entry.order.model_copy(update={"queried": True})
            self.entries[order_id] = replace(entry, order=order)

    def seen_since(self, symbol_id: str, side: Side, *, position: int) -> Iterator[ExternalOrder]:
        """The orders of a symbol that the log first showed after a position and that may have this side; newest first."""
        for order_id in reversed(self.first_seen.get(symbol_id, {})):
            order = self.entries[order_id].order
            if order.first_position <= position:
                return
            if order.side in (side, None):
                yield order


def with_observation(
    known: ExternalOrder, event: events.ExternalOrderObserved, trades: dict[str, tuple[Booking, ...]]
) -> ExternalOrder:
    """The order after a report. A late trade report does not reopen it."""
    traded = sum(abs(booking.signed_quantity) for booked in trades.values() for booking in booked)
    ends = event.ord_status in ENDS or event.exec_type in END_REPORTS or bool(event.gone)
    return known.model_copy(
        update={
            "side": event.side or known.side,
            "client_order_id": event.client_order_id or known.client_order_id,
            "created_ns": known.created_ns if event.order_created_ns is None else event.order_created_ns,
            "quantity": known.quantity if event.order_qty is None else event.order_qty,
            "price": known.price if event.price is None else event.price,
            "cum_qty": max(traded, event.cum_qty or 0, known.cum_qty),
            "ord_status": event.ord_status or known.ord_status,
            "live": known.live and not ends,
            "last_seen_ns": event.recorded_at_ns,
            "transact_time_ns": max(filter(None, (event.transact_time_ns, known.transact_time_ns)), default=None),
        }
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
    known, new = trades.get(event.fill_key, ()), (trade, *fee_bookings(trade, event))
    if known and (known[0] != trade or fees_of(event) is None or known == new):
        return reversals
    trades[event.fill_key] = new
    return [*reversals, *map(reversal, known), *new]


def reversal(booking: Booking) -> Booking:
    """The booking that cancels another one out."""
    return Booking(booking.symbol_id, -booking.signed_quantity, booking.price, -booking.fee, booking.fee_asset)
