"""External orders: orders at the venue that belong to no intent, and their trades. Folded by `Fold`.

They are kept so that a repeated listing is not new, and because their trades explain balances. An adopted order is removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kernel import events
from kernel.lifecycle.trades import fees_of
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


class Externals:
    """External orders by venue order id."""

    def __init__(self) -> None:
        self.entries: dict[str, ExternalEntry] = {}
        """In order of the newest report."""
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
        seen = (
            known.order
            if known is not None
            else ExternalOrder(
                exchange_order_id=order_id,
                symbol_id=event.symbol_id,
                client_order_id=event.client_order_id,
                side=event.side,
                first_seen_ns=event.recorded_at_ns,
            )
        )
        order = with_observation(seen, event, trades)
        self.drop(order_id)
        self.entries[order_id] = ExternalEntry(order, trades, void)
        self._ended += not order.live
        if self._ended > ENDED_MAX:
            self.drop(next(name for name, entry in self.entries.items() if not entry.order.live))
        return bookings

    def restore(self, entries: Iterable[ExternalEntry]) -> None:
        for entry in entries:
            self.entries[entry.order.exchange_order_id] = entry
            self._ended += not entry.order.live

    def drop(self, order_id: str) -> ExternalEntry | None:
        entry = self.entries.pop(order_id, None)
        if entry is not None:
            self._ended -= not entry.order.live
        return entry


def with_observation(
    known: ExternalOrder, event: events.ExternalOrderObserved, trades: dict[str, tuple[Booking, ...]]
) -> ExternalOrder:
    """The order after a report. A late trade report does not reopen it."""
    traded = sum(abs(booking.signed_quantity) for booked in trades.values() for booking in booked)
    ends = event.ord_status in ENDS or event.exec_type in END_REPORTS or bool(event.gone)
    return known.model_copy(
        update={
            "side": event.side or known.side,
            "quantity": known.quantity if event.order_qty is None else event.order_qty,
            "price": known.price if event.price is None else event.price,
            "cum_qty": max(traded, event.cum_qty or 0, known.cum_qty),
            "ord_status": event.ord_status or known.ord_status,
            "live": known.live and not ends,
            "last_seen_ns": event.recorded_at_ns,
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
