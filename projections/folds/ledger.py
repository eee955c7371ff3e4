"""Positions, expected balances and drift, in integer arithmetic. Folded by `Fold` from the trades that an event changed.

A trade that begins to count is booked. A trade that is busted or corrected is reversed: booked in the other direction at
the same price, its fee returned. Inferred quantities are never booked.

A position keeps the exact signed cost of its open quantity. Reducing Q by q removes `cost·q // Q` (of magnitudes, so that
long and short are symmetric) and leaves the rest; crossing zero opens at the fill's price. Nothing is rounded away:
realized profit less cost equals the cash received.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from kernel.lifecycle.orders.order_facts import OrderFacts, foreign_trades
from kernel.lifecycle.orders.trades import NO_TRADES, HasFees, TradeEntry, fees_of
from kernel.models import Balance, Position
from kernel.order_spec import Side, SymbolMetadata
from projections.folds.provisional_opening import ProvisionalOpening


class Booking(msgspec.Struct, frozen=True, gc=False):
    """One trade, or the fee of one trade, booked or reversed."""

    symbol_id: str
    signed_quantity: int
    """Positive for a buy."""
    price: int
    fee: int = 0
    """Paid (negative: received), at the fee asset's scale."""
    fee_asset: str | None = None


class OpenPosition(msgspec.Struct, frozen=True, gc=False):
    """The exact figures of a position; cost and profit at the scale of price times quantity."""

    quantity: int = 0
    cost: int = 0
    realized_pnl: int = 0
    fees: dict[str, int] = {}
    """Asset to the fees of the symbol's trades."""


def booked(position: OpenPosition, booking: Booking) -> OpenPosition:
    fees = with_fee(position.fees, booking) if booking.fee else position.fees
    quantity, traded = position.quantity, booking.signed_quantity
    if quantity * traded >= 0:
        return OpenPosition(quantity + traded, position.cost + traded * booking.price, position.realized_pnl, fees)
    reduced = min(abs(traded), abs(quantity))
    sign = 1 if quantity > 0 else -1
    cost_sign = 1 if position.cost > 0 else -1
    cost_removed = cost_sign * (abs(position.cost) * reduced // abs(quantity))
    proceeds = sign * reduced * booking.price
    rest = traded + sign * reduced
    return OpenPosition(
        quantity=quantity + traded,
        cost=position.cost - cost_removed + rest * booking.price,
        realized_pnl=position.realized_pnl + proceeds - cost_removed,
        fees=fees,
    )


def with_fee(fees: dict[str, int], booking: Booking) -> dict[str, int]:
    if not booking.fee or booking.fee_asset is None:
        return fees
    return fees | {booking.fee_asset: fees.get(booking.fee_asset, 0) + booking.fee}


def position_of_holding(symbol_id: str, position: OpenPosition) -> Position:
    average = abs(position.cost) // abs(position.quantity) if position.quantity else None
    return Position(
        symbol_id=symbol_id, quantity=position.quantity, avg_px=average, cost=position.cost,
        realized_pnl=position.realized_pnl, fees=dict(sorted(position.fees.items())),
    )  # fmt: skip


def bookings(before: Sequence[OrderFacts], after: Sequence[OrderFacts]) -> list[Booking]:
    """The bookings of an event that changed an intent's orders from `before` to `after`."""
    old, new = before, after
    if len(old) > 1 or len(new) != 1:
        old, new = without(before, after), without(after, before)
    if len(new) == 1 and len(old) <= 1 and (fresh := added_alone(old[0] if old else None, new[0])) is not None:
        return fresh
    return changes(counted_trades(old), counted_trades(new))


def foreign_bookings(before: Sequence[OrderFacts], after: Sequence[OrderFacts]) -> list[Booking]:
    """The bookings of the trades that an event showed to be an external order's, or no longer so (H25)."""
    for facts in after:
        if facts.trades.bounded:
            old, new = without(before, after), without(after, before)
            return changes(trades_of(old, foreign_trades), trades_of(new, foreign_trades))
    return []


def changes(
    before: Iterable[tuple[BareTrade, TradeEntry]], after: Iterable[tuple[BareTrade, TradeEntry]]
) -> list[Booking]:
    """The bookings that lead from some trades to others."""
    times: Counter[BareTrade] = Counter()
    fees: Counter[tuple[BareTrade, str]] = Counter()
    for sign, trades in ((-1, before), (1, after)):
        for trade, entry in trades:
            times[trade] += sign
            for asset_id, fee in (fees_of(entry) or {}).items():
                fees[trade, asset_id] += sign * fee
    removed = [trade.booking(count) for trade, count in times.items() if count < 0]
    added = [trade.booking(count) for trade, count in times.items() if count > 0]
    paid = [Booking(trade.symbol_id, 0, trade.price, fee, asset) for (trade, asset), fee in fees.items() if fee]
    return [*removed, *added, *paid]


def without(orders: Sequence[OrderFacts], others: Sequence[OrderFacts]) -> Sequence[OrderFacts]:
    """The orders that are not identical to one of the others; mostly one at most."""
    known = {id(facts) for facts in others}
    return [facts for facts in orders if id(facts) not in known]


def added_alone(before: OrderFacts | None, after: OrderFacts) -> list[Booking] | None:
    """The bookings of the common case, one new trade or none after the known ones; None for any other case."""
    trades, known = after.trades, before.trades if before is not None else NO_TRADES
    other_order = before is not None and before.order is not after.order
    if after.rare.busts or trades.corrected or trades.bounded or other_order:
        return None
    if trades is known:
        return []
    added = trades.since(known)
    if not added or len(added) > 1:
        return None if added is None or added else []
    order, entry = after.order, added[0]
    quantity = entry.quantity if order.side is Side.BUY else -entry.quantity
    if entry.fees is None and entry.fee and entry.fee_asset is not None:
        return [Booking(order.symbol_id, quantity, entry.price, entry.fee, entry.fee_asset)]
    trade = Booking(order.symbol_id, quantity, entry.price)
    return [trade, *fee_bookings(trade, entry)] if entry.fees else [trade]


def fee_bookings(trade: Booking, reported: HasFees) -> list[Booking]:
    fees = fees_of(reported)
    return [Booking(trade.symbol_id, 0, trade.price, fee, asset) for asset, fee in fees.items() if fee] if fees else []


class BareTrade(NamedTuple):
    """A trade without its fee, which may be reported later."""

    symbol_id: str
    side: Side
    fill_key: str
    quantity: int
    price: int

    def booking(self, times: int) -> Booking:
        """The trade booked this many times; negative to reverse it."""
        sign = times if self.side is Side.BUY else -times
        return Booking(self.symbol_id, sign * self.quantity, self.price)


def counted_trades(orders: Iterable[OrderFacts]) -> Iterator[tuple[BareTrade, TradeEntry]]:
    return trades_of(orders, lambda facts: facts.counted_trades)


def trades_of(
    orders: Iterable[OrderFacts], choose: Callable[[OrderFacts], Iterable[TradeEntry]]
) -> Iterator[tuple[BareTrade, TradeEntry]]:
    for facts in orders:
        for entry in choose(facts):
            order = facts.order
            yield BareTrade(order.symbol_id, order.side, entry.fill_key, entry.quantity, entry.price), entry


class Ledger(msgspec.Struct):
    """Positions and balances of one account. Mutable; owned by one `State`. Field names are stored in checkpoints."""

    positions: dict[str, OpenPosition] = {}
    flows: dict[str, int] = {}
    """Asset to fills, fees and transfers since the opening balance, `FLOW_DECIMALS` finer than its scale."""
    observed: dict[str, Balance] = {}
    since: dict[str, int] = {}
    """Asset to the flows that the newest observation lacks, in the same unit."""
    observed_from_ns: int = 0
    """Changes before this instant (venue time) are in the newest observation."""
    opening: dict[str, int] | None = None
    """Asset to total at the first complete observation; None before it."""
    provisional: ProvisionalOpening = msgspec.field(default_factory=ProvisionalOpening)
    """The flows that the opening balances may include or lack, by asset."""
    provisional_positions: ProvisionalOpening = msgspec.field(default_factory=ProvisionalOpening)
    """The quantities that the base positions may include or lack, by symbol."""
    opened_ns: int = 0
    """When that observation began."""
    opened_until_ns: int = 0
    """Changes before this instant may already be in the opening balance."""
    lag_ns: int = 0
    """The longest time for which the venue may show the account without its newest change."""
    drift: dict[str, int] = {}
    roundings: dict[str, int] = {}
    """Asset to the number of flows that the venue rounded to its scale: as many units are no drift."""
    foreign: dict[str, int] = {}
    """Symbol to the signed quantity that external orders traded."""
    position_base: dict[str, int] = {}
    """Symbol to the venue's position before anything was booked here."""
    position_drift: dict[str, int] = {}
    booked_at_ns: int = 0
    """When the newest trade or transfer was booked."""
    unknown_assets: set[str] = set()
    """Assets that moved before their scale was known: their drift is unknown."""
    unknown_symbols: set[str] = set()
    """Symbols that were traded before they were known: any asset may have moved, so all drift is unknown."""

    def book(
        self,
        booking: Booking,
        symbol: SymbolMetadata | None,
        decimals: Mapping[str, int],
        *,
        at_ns: int,
        venue_ns: int | None = None,
        external: bool = False,
    ) -> None:
        """Book a trade in its position, unless it is an external order's, and in its assets.

        `decimals` maps assets to their scales; `venue_ns` is when it happened at the venue, `at_ns` when it was recorded.
        """
        if external:
            self.foreign[booking.symbol_id] = self.foreign.get(booking.symbol_id, 0) + booking.signed_quantity
        else:
            position = self.positions.get(booking.symbol_id) or OpenPosition()
            self.positions[booking.symbol_id] = booked(position, booking)
        self.booked_at_ns = max(self.booked_at_ns, at_ns)
        happened_ns, traded = at_ns if venue_ns is None else venue_ns, booking.signed_quantity
        if self.opening is None or happened_ns < self.opened_until_ns:  # the opening figures may include it, or lack it
            self.provisional_positions.note(booking.symbol_id, traded, happened_ns, included=self.opening is None)
        if symbol is None:
            self.unknown_symbols.add(booking.symbol_id)
            return
        if traded:
            base, quote = symbol.quantity_decimals, symbol.quantity_decimals + symbol.price_decimals
            self._flow(symbol.base_asset, traded, base, decimals, happened_ns)
            self._flow(symbol.quote_asset, -traded * booking.price, quote, decimals, happened_ns)
        if booking.fee and (asset := booking.fee_asset) is not None:
            self._flow(asset, -booking.fee, decimals.get(asset, 0), decimals, happened_ns)

    def observe_position(self, symbol_id: str, quantity: int, *, began_ns: int) -> None:
        """Compare the venue's position with the booked one; one observed with the opening balance becomes the base."""
        if self.opening is None or self._may_lack_newest(began_ns):
            return
        ours = self.positions.get(symbol_id, OpenPosition()).quantity + self.foreign.get(symbol_id, 0)
        if began_ns <= self.opened_ns:
            self.position_base[symbol_id] = quantity - ours
        off = quantity - ours - self.position_base.get(symbol_id, 0)
        if off and (lacked := self.provisional_positions.correct(symbol_id, off.__eq__)):
            self.position_base[symbol_id] = self.position_base.get(symbol_id, 0) + lacked
            off = 0
        if off:
            self.position_drift[symbol_id] = off
            return
        self.position_drift.pop(symbol_id, None)
        self.provisional_positions.prove(symbol_id, began_ns=began_ns, opened_until_ns=self.opened_until_ns)

    def accept_position(self, symbol_id: str) -> None:
        """Add a symbol's drift to its base: an operator accepted it."""
        accepted = self.position_drift.pop(symbol_id, 0)
        self.position_base[symbol_id] = self.position_base.get(symbol_id, 0) + accepted

    def transfer(self, asset_id: str, amount: int, decimals: Mapping[str, int], *, at_ns: int) -> None:
        """Book a deposit, a withdrawal or another change without a trade; `at_ns` is the venue's time if it is known."""
        self.booked_at_ns = max(self.booked_at_ns, at_ns)
        self._flow(asset_id, amount, decimals.get(asset_id, 0), decimals, at_ns)

    def _flow(
        self, asset_id: str, amount: int, amount_decimals: int, decimals: Mapping[str, int], venue_ns: int
    ) -> None:
        """Add an amount at its own scale; stored so fine that no product of price and quantity is rounded."""
        scale = decimals.get(asset_id)
        if scale is None or amount_decimals > scale + FLOW_DECIMALS:
            self.unknown_assets.add(asset_id)
            return
        fine = amount * 10 ** (scale + FLOW_DECIMALS - amount_decimals)
        self._add(asset_id, fine)
        if self.opening is None or venue_ns < self.opened_until_ns:
            self.provisional.note(asset_id, fine, venue_ns, included=self.opening is None)
        if venue_ns >= self.observed_from_ns:
            self.since[asset_id] = self.since.get(asset_id, 0) + fine

    def _add(self, asset_id: str, fine: int) -> None:
        self.flows[asset_id] = self.flows.get(asset_id, 0) + fine
        if fine % UNIT:
            self.roundings[asset_id] = self.roundings.get(asset_id, 0) + 1

    def observe(self, balances: Mapping[str, Balance], *, began_ns: int, ended_ns: int) -> None:
        """Compare observed with expected balances; the first observation is the opening balance.

        Nothing is compared while something is booked that the observation may lack. An asset that is not listed has a
        balance of 0.
        """
        self.observed = dict(balances)
        self.observed_from_ns = began_ns - self.lag_ns
        totals = {asset_id: balance.total for asset_id, balance in balances.items()}
        if self._may_lack_newest(began_ns):
            self.since = self._lacked(totals)
            return
        self.since = {}
        if self.opening is None:
            self.opened_ns, self.opened_until_ns = began_ns, ended_ns + self.lag_ns
            self._open(totals)
        elif not self.unknown_symbols:
            names = self._comparable(totals)
            offs = {name: self._compared(name, totals.get(name, 0), began_ns=began_ns) for name in names}
            self.drift = {asset_id: off for asset_id, off in offs.items() if off}

    def _comparable(self, totals: Mapping[str, int]) -> list[str]:
        return sorted({*totals, *(self.opening or ()), *self.flows} - self.unknown_assets)

    def _lacked(self, totals: Mapping[str, int]) -> dict[str, int]:
        """The flows that observed totals lack: what the books hold beyond them, the known drift included."""
        if self.opening is None or self.unknown_symbols:
            return {}
        offs = {
            name: self._off(name, totals.get(name, 0)) - self.drift.get(name, 0) for name in self._comparable(totals)
        }
        return {name: -off * UNIT for name, off in offs.items() if off}

    def _compared(self, asset_id: str, total: int, *, began_ns: int) -> int:
        """Observed less expected; what the opening balance turns out to lack is added to the flows.

        A known drift stays as it is while it differs by no more than the venue's roundings.
        """
        off = self._off(asset_id, total)
        if off and (lacked := self.provisional.correct(asset_id, lambda fine: self._explains(asset_id, total, fine))):
            self._add(asset_id, lacked)
            off = 0
        if not off:
            self.provisional.prove(asset_id, began_ns=began_ns, opened_until_ns=self.opened_until_ns)
            return 0
        known = self.drift.get(asset_id, 0)
        return known if abs(off - known) <= self.roundings.get(asset_id, 0) else off

    def _explains(self, asset_id: str, total: int, fine: int) -> bool:
        return abs(fine) >= UNIT and self._off(asset_id, total, more=fine) == 0

    def _may_lack_newest(self, began_ns: int) -> bool:
        """Return whether an observation that began then may lack a change that is booked."""
        return self.booked_at_ns >= began_ns - self.lag_ns

    def expected(self) -> dict[str, int] | None:
        """Asset to its expected balance in units of its scale; None before the first observation."""
        if self.opening is None:
            return None
        assets = sorted({*self.opening, *self.flows} - self.unknown_assets)
        return {name: self.opening.get(name, 0) + self.flows.get(name, 0) // UNIT for name in assets}

    def expected_now(self) -> dict[str, int]:
        """Asset to its newest observed total with the flows since, in units of its scale."""
        assets = sorted({*self.observed, *self.since})
        observed = {name: self.observed[name].total if name in self.observed else 0 for name in assets}
        return {name: total + self.since.get(name, 0) // UNIT for name, total in observed.items()}

    def _open(self, totals: dict[str, int]) -> None:
        """Open the books with observed totals: they contain every earlier flow, unless a later observation disagrees."""
        self.opening = totals
        self.drift = {}
        self.flows.clear()
        self.roundings.clear()
        self.unknown_assets.clear()
        self.unknown_symbols.clear()

    def _off(self, asset_id: str, total: int, *, more: int = 0) -> int:
        """Observed less expected, with `more` flows, in units of the scale; anything finer is the venue's rounding."""
        assert self.opening is not None
        off = (total - self.opening.get(asset_id, 0)) * UNIT - self.flows.get(asset_id, 0) - more
        whole = off // UNIT if off >= 0 else -(-off // UNIT)
        return whole if abs(whole) > self.roundings.get(asset_id, 0) else 0


FLOW_DECIMALS = 18
"""Decimals beyond an asset's scale in which its flows are kept."""
UNIT = 10**FLOW_DECIMALS
