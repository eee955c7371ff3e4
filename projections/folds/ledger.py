"""What fills come to: positions, and what balances should be. Integer arithmetic, in this one place.

Folded by `StatusRule`, from the difference that an event made to the trades that count of an intent. A trade that comes to
count is booked; one that no longer does (busted, corrected) is booked as the opposite trade at the same price, its fee
given back. What is only inferred is never booked.

A position keeps the exact signed cost of what is open. Reducing by q of Q takes `cost·q // Q` (of magnitudes, so that long
and short mirror each other) and leaves the rest; crossing zero opens at the fill's price. Nothing is ever rounded away:
realized profit less cost equals the cash that came in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kernel.lifecycle.order_facts import OrderFacts
from kernel.lifecycle.trades import NO_TRADES, TradeEntry
from kernel.models import Balance, Position
from kernel.order_spec import Side, SymbolMetadata


@dataclass(frozen=True, slots=True)
class Booking:
    """One trade, or one trade's fee, in or out of the books."""

    symbol_id: str
    signed_quantity: int
    """Positive where it was bought."""
    price: int
    fee: int = 0
    """What is paid (negative: received), at the fee asset's scale."""
    fee_asset: str | None = None


@dataclass(frozen=True, slots=True)
class OpenPosition:
    """A position's exact figures."""

    quantity: int = 0
    cost: int = 0
    realized_pnl: int = 0
    fees: tuple[tuple[str, int], ...] = ()


def booked(position: OpenPosition, booking: Booking) -> OpenPosition:
    """The position after a trade."""
    fees = with_fee(position.fees, booking)
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


def with_fee(fees: tuple[tuple[str, int], ...], booking: Booking) -> tuple[tuple[str, int], ...]:
    if not booking.fee or booking.fee_asset is None:
        return fees
    totals = dict(fees)
    totals[booking.fee_asset] = totals.get(booking.fee_asset, 0) + booking.fee
    return tuple(sorted(totals.items()))


def position_of_holding(symbol_id: str, position: OpenPosition) -> Position:
    """A position for people."""
    average = abs(position.cost) // abs(position.quantity) if position.quantity else None
    return Position(
        symbol_id=symbol_id,
        quantity=position.quantity,
        avg_px=average,
        cost=position.cost,
        realized_pnl=position.realized_pnl,
        fees=dict(position.fees),
    )


def bookings(before: Sequence[OrderFacts], after: Sequence[OrderFacts]) -> list[Booking]:
    """What an event changed about the trades that count of an intent's orders."""
    gone, changed = without(before, after), without(after, before)
    if len(changed) == 1 and (fresh := added_alone(gone, changed[0])) is not None:
        return fresh
    times: Counter[BareTrade] = Counter()
    fees: Counter[tuple[BareTrade, str]] = Counter()
    for sign, orders in ((-1, gone), (1, changed)):
        for trade, entry in counted_trades(orders):
            times[trade] += sign
            if entry.fee and entry.fee_asset is not None:
                fees[trade, entry.fee_asset] += sign * entry.fee
    removed = [trade.booking(count) for trade, count in times.items() if count < 0]
    added = [trade.booking(count) for trade, count in times.items() if count > 0]
    paid = [Booking(trade.symbol_id, 0, trade.price, fee, asset) for (trade, asset), fee in fees.items() if fee]
    return [*removed, *added, *paid]


def without(orders: Sequence[OrderFacts], others: Sequence[OrderFacts]) -> Sequence[OrderFacts]:
    """The orders that are not the very same among others; nearly always there is one at most."""
    if len(orders) <= 1 and len(others) <= 1:
        return orders if not others or (orders and orders[0] is not others[0]) else ()
    known = {id(facts) for facts in others}
    return [facts for facts in orders if id(facts) not in known]


def added_alone(gone: Sequence[OrderFacts], after: OrderFacts) -> list[Booking] | None:
    """What an order's report adds, where that is one trade after those known, or none, which is nearly always."""
    known = gone[0].counted_trades if gone else NO_TRADES
    added = after.counted_trades.since(known)
    if added is None or len(gone) > 1 or len(added) > 1 or (known and gone[0].order is not after.order):
        return None
    return [booking for entry in added for booking in bookings_of(after, entry)]


def bookings_of(facts: OrderFacts, entry: TradeEntry) -> list[Booking]:
    """A trade that comes to count, and its fee."""
    order = facts.order
    trade = BareTrade(order.symbol_id, order.side, entry.fill_key, entry.quantity, entry.price).booking(1)
    if not entry.fee or entry.fee_asset is None:
        return [trade]
    return [trade, Booking(trade.symbol_id, 0, trade.price, entry.fee, entry.fee_asset)]


class BareTrade(NamedTuple):
    """A trade without its fee, which may become known later."""

    symbol_id: str
    side: Side
    fill_key: str
    quantity: int
    price: int

    def booking(self, times: int) -> Booking:
        """So many of it in the books; out of them where negative."""
        sign = times if self.side is Side.BUY else -times
        return Booking(self.symbol_id, sign * self.quantity, self.price)


def counted_trades(orders: Iterable[OrderFacts]) -> Iterator[tuple[BareTrade, TradeEntry]]:
    """The trades that count, with their symbol and side."""
    for facts in orders:
        for entry in facts.counted_trades:
            order = facts.order
            yield BareTrade(order.symbol_id, order.side, entry.fill_key, entry.quantity, entry.price), entry


@dataclass
class Ledger:
    """Positions and balances of one account. Mutable: it belongs to one `StatusRule`."""

    positions: dict[str, OpenPosition] = field(default_factory=dict)
    flows: dict[str, int] = field(default_factory=dict)
    """Asset → what fills, fees and transfers changed it by since the opening balance, `FLOW_DECIMALS` finer."""
    observed: dict[str, Balance] = field(default_factory=dict)
    opening: dict[str, int] | None = None
    """Asset → total at the first complete observation; None before, and where it is in doubt."""
    opened_ns: int = 0
    """When that observation began."""
    opened_until_ns: int = 0
    """A trade from before may be in the opening balance, or not."""
    lag_ns: int = 0
    """How long after a change the venue may still show the account as it was, by any clock of ours or its own."""
    drift: dict[str, int] = field(default_factory=dict)
    roundings: dict[str, int] = field(default_factory=dict)
    """Asset → how many flows the venue had to round to the asset's scale: so many units are no drift."""
    foreign: dict[str, int] = field(default_factory=dict)
    """Symbol → what orders that are nobody's intent traded in it, signed."""
    position_base: dict[str, int] = field(default_factory=dict)
    """Symbol → what the account held before anything that is booked here, as far as the venue says."""
    position_drift: dict[str, int] = field(default_factory=dict)
    booked_at_ns: int = 0
    """When the newest trade or transfer was booked."""
    unknown_assets: set[str] = field(default_factory=set)
    """Assets whose scales were not known when they moved: their drift can't be told."""
    unknown_symbols: set[str] = field(default_factory=set)
    """Symbols that were not known when they were traded: it can't be told which assets moved, so no drift can."""

    def book(
        self,
        booking: Booking,
        symbol: SymbolMetadata | None,
        decimals: Mapping[str, int],
        *,
        at_ns: int,
    ) -> None:
        """Book a trade in its position and in the assets that it moves."""
        position = self.positions.get(booking.symbol_id, OpenPosition())
        self.positions[booking.symbol_id] = booked(position, booking)
        self._move(booking, symbol, decimals, at_ns=at_ns)

    def book_external(
        self, booking: Booking, symbol: SymbolMetadata | None, decimals: Mapping[str, int], *, at_ns: int
    ) -> None:
        """Book a trade of an order that is nobody's intent: it moves the balances, and no position of ours."""
        self.foreign[booking.symbol_id] = self.foreign.get(booking.symbol_id, 0) + booking.signed_quantity
        self._move(booking, symbol, decimals, at_ns=at_ns)

    def mark_opening_provisional(self, traded_ns: int | None) -> None:
        """Others traded at this instant of the venue's. Where that was about when the books of balances were opened, it
        can't be told whether the opening balance has it: the next observation opens them anew."""
        if traded_ns is not None and traded_ns < self.opened_until_ns:
            self.opening = None

    def observe_position(self, symbol_id: str, quantity: int, *, began_ns: int) -> None:
        """Compare the venue's position with what is expected; one observed with the opening balance is where it began."""
        if self.opening is None or self._may_lack_newest(began_ns):
            return
        ours = self.positions.get(symbol_id, OpenPosition()).quantity + self.foreign.get(symbol_id, 0)
        if began_ns <= self.opened_ns:
            self.position_base[symbol_id] = quantity - ours
        self.position_drift.pop(symbol_id, None)
        if off := quantity - ours - self.position_base.get(symbol_id, 0):
            self.position_drift[symbol_id] = off

    def accept_position(self, symbol_id: str) -> None:
        """What is off is as it should be from now on."""
        self._base(symbol_id, self.position_drift.pop(symbol_id, 0))

    def _base(self, symbol_id: str, quantity: int) -> None:
        self.position_base[symbol_id] = self.position_base.get(symbol_id, 0) + quantity

    def _move(
        self, booking: Booking, symbol: SymbolMetadata | None, decimals: Mapping[str, int], *, at_ns: int
    ) -> None:
        """Book what a trade and its fee move."""
        self.booked_at_ns = max(self.booked_at_ns, at_ns)
        if symbol is None:
            self.unknown_symbols.add(booking.symbol_id)
            return
        notional_decimals = symbol.price_decimals + symbol.quantity_decimals
        if booking.signed_quantity:
            self._flow(symbol.base_asset, booking.signed_quantity, symbol.quantity_decimals, decimals)
            self._flow(symbol.quote_asset, -booking.signed_quantity * booking.price, notional_decimals, decimals)
        if booking.fee and booking.fee_asset is not None:
            self._flow(booking.fee_asset, -booking.fee, decimals.get(booking.fee_asset, 0), decimals)

    def transfer(self, asset_id: str, amount: int, decimals: Mapping[str, int], *, at_ns: int) -> None:
        """Book what came or went without a trade."""
        self.booked_at_ns = max(self.booked_at_ns, at_ns)
        self._flow(asset_id, amount, decimals.get(asset_id, 0), decimals)

    def _flow(self, asset_id: str, amount: int, amount_decimals: int, decimals: Mapping[str, int]) -> None:
        """Add an amount at its own scale; kept FLOW_DECIMALS finer than the asset, so that no product is rounded."""
        scale = decimals.get(asset_id)
        if scale is None or amount_decimals > scale + FLOW_DECIMALS:
            self.unknown_assets.add(asset_id)
            return
        fine = amount * 10 ** (scale + FLOW_DECIMALS - amount_decimals)
        self.flows[asset_id] = self.flows.get(asset_id, 0) + fine
        if fine % 10**FLOW_DECIMALS:
            self.roundings[asset_id] = self.roundings.get(asset_id, 0) + 1

    def observe(self, balances: Mapping[str, Balance], *, began_ns: int, ended_ns: int) -> None:
        """Compare an observation with what is expected; the first one is the opening balance.

        While something is booked that the observation may or may not have in it, nothing is compared: the next one tells.
        An asset that the venue does not list is one it has none of.
        """
        self.observed = dict(balances)
        if self._may_lack_newest(began_ns):
            return
        totals = {asset_id: balance.total for asset_id, balance in balances.items()}
        if self.opening is None:
            self.opened_ns, self.opened_until_ns = began_ns, ended_ns + self.lag_ns
        opening = self._open(totals) if self.opening is None else self.opening
        if self.unknown_symbols:
            return
        asset_ids = {*totals, *opening, *self.flows} - self.unknown_assets
        offs = {asset_id: self._off(asset_id, totals.get(asset_id, 0)) for asset_id in sorted(asset_ids)}
        self.drift = {asset_id: off for asset_id, off in offs.items() if off}

    def _may_lack_newest(self, began_ns: int) -> bool:
        """Whether something is booked that an observation which began then may not show yet."""
        return self.booked_at_ns >= began_ns - self.lag_ns

    def expected(self) -> dict[str, int] | None:
        """What balances should be now, in whole units of each asset; None before they were first observed."""
        if self.opening is None:
            return None
        assets = sorted({*self.opening, *self.flows} - self.unknown_assets)
        unit = 10**FLOW_DECIMALS
        return {name: self.opening.get(name, 0) + self.flows.get(name, 0) // unit for name in assets}

    def _open(self, totals: dict[str, int]) -> dict[str, int]:
        """Begin the books of balances: what moved before is in what was observed."""
        self.opening = totals
        self.flows.clear()
        self.roundings.clear()
        self.unknown_assets.clear()
        self.unknown_symbols.clear()
        return totals

    def _off(self, asset_id: str, total: int) -> int:
        """Observed less expected, in whole units of the asset; what is finer is the venue's rounding."""
        assert self.opening is not None
        unit = 10**FLOW_DECIMALS
        off = (total - self.opening.get(asset_id, 0)) * unit - self.flows.get(asset_id, 0)
        whole = off // unit if off >= 0 else -(-off // unit)
        return whole if abs(whole) > self.roundings.get(asset_id, 0) else 0


FLOW_DECIMALS = 18
"""How much finer than an asset's own scale its flows are kept."""
