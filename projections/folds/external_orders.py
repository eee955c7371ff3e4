"""Orders that are nobody's intent, as the venue showed them, and their trades. Folded by `StatusRule`.

They are known so that a list that repeats them is no news, that people can see them, and that their trades explain the
balances they move. An order that is adopted is no longer here. Memory holds those that are open and the newest that ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kernel import events
from kernel.models import ExecType, ExternalOrder, OrdStatus
from kernel.order_spec import Side
from projections.folds.ledger import Booking

ENDED_MAX = 1_000
"""Orders that ended and are still known; beyond, the one that was last heard of longest ago is let go."""
ENDS = frozenset({OrdStatus.FILLED, OrdStatus.CANCELED, OrdStatus.EXPIRED, OrdStatus.REJECTED})
END_REPORTS = frozenset({ExecType.CANCELED, ExecType.EXPIRED, ExecType.REJECTED})


@dataclass(frozen=True, slots=True)
class ExternalEntry:
    """One order, and what it traded."""

    order: ExternalOrder
    trades: dict[str, Booking] = field(default_factory=dict)
    """By fill key: those that count."""
    void: frozenset[str] = frozenset()
    """Fill keys of those that were busted or corrected, known or not: what is told of them later counts no more."""


class Externals:
    """Orders of others, by the venue's id."""

    def __init__(self) -> None:
        self.entries: dict[str, ExternalEntry] = {}
        """In order of the newest news."""
        self._ended = 0

    def apply(self, event: events.ExternalOrderObserved) -> list[Booking]:
        """A report of one; what it changes about the balances."""
        order_id = event.exchange_order_id or event.client_order_id or event.fill_key or ""
        known = self.entries.get(order_id)
        trades = dict(known.trades) if known is not None else {}
        void = known.void if known is not None else frozenset()
        if event.ref_fill_key is not None:
            void |= {event.ref_fill_key}
        bookings = booked(event, trades, void)
        order = with_observation(known.order if known is not None else first_sight(event, order_id), event, trades)
        self.drop(order_id)
        self.entries[order_id] = ExternalEntry(order, trades, void)
        self._ended += not order.live
        if self._ended > ENDED_MAX:
            self.drop(next(name for name, entry in self.entries.items() if not entry.order.live))
        return bookings

    def restore(self, entries: Iterable[ExternalEntry]) -> None:
        """Take over what another one had."""
        for entry in entries:
            self.entries[entry.order.exchange_order_id] = entry
            self._ended += not entry.order.live

    def drop(self, order_id: str) -> ExternalEntry | None:
        """Let go of one."""
        entry = self.entries.pop(order_id, None)
        if entry is not None:
            self._ended -= not entry.order.live
        return entry


def first_sight(event: events.ExternalOrderObserved, order_id: str) -> ExternalOrder:
    return ExternalOrder(
        exchange_order_id=order_id,
        symbol_id=event.symbol_id,
        client_order_id=event.client_order_id,
        side=event.side,
        first_seen_ns=event.recorded_at_ns,
    )


def with_observation(
    known: ExternalOrder, event: events.ExternalOrderObserved, trades: dict[str, Booking]
) -> ExternalOrder:
    """The order after a report. A late report of a trade does not open it again."""
    traded = sum(abs(booking.signed_quantity) for booking in trades.values())
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


def booked(event: events.ExternalOrderObserved, trades: dict[str, Booking], void: frozenset[str]) -> list[Booking]:
    """What a report changes about the trades that count: these in the books, and out of them what they replace."""
    out = trades.pop(event.ref_fill_key, None) if event.ref_fill_key is not None else None
    made = [reversal(out)] if out is not None else []
    is_trade = event.exec_type in (ExecType.TRADE, ExecType.TRADE_CORRECT)
    if not is_trade or event.fill_key is None or event.fill_key in trades or event.fill_key in void:
        return made
    if event.side is None or event.last_qty is None or event.last_px is None:
        return made
    sign = 1 if event.side is Side.BUY else -1
    booking = Booking(event.symbol_id, sign * event.last_qty, event.last_px, event.fee or 0, event.fee_asset)
    trades[event.fill_key] = booking
    return [*made, booking]


def reversal(booking: Booking) -> Booking:
    """What takes a trade out of the books."""
    return Booking(booking.symbol_id, -booking.signed_quantity, booking.price, -booking.fee, booking.fee_asset)
