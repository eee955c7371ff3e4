"""Pre-trade limits: the open risk of intents, and the limits that an order would exceed. Pure.

`limit_gate` checks each command, the projections keep the sum of `open_risks`; the limits are `LimitSettings`. A
limit refuses a command before anything is recorded; it never touches a working order. Limits are decimals, compared exactly
with the integers at the symbol's scale. Risk is the worst case: everything that works, may work (unknown attempts) or is
intended on one side fills, and nothing on the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from kernel.errors import Violation
from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.lifecycle.record import Record, is_refused, order_under
from kernel.models import AttemptKind, Desired
from kernel.order_spec import OrderType, Side, StandardOrder, SymbolMetadata

if TYPE_CHECKING:  # the projections, which compute risks, do without pydantic
    from kernel.safety.limit_settings import Limits


class OpenRisk(msgspec.Struct, frozen=True):
    """The open risk of one intent on one side of a symbol, in scaled integers."""

    symbol_id: str
    side: Side
    quantity: int
    notional: int
    """Price × quantity of the part with a price."""
    unpriced: int = 0
    """The quantity without a price: market orders."""

    def largest(self, other: OpenRisk) -> OpenRisk:
        return replace(
            self,
            quantity=max(self.quantity, other.quantity),
            notional=max(self.notional, other.notional),
            unpriced=max(self.unpriced, other.unpriced),
        )

    def plus(self, other: OpenRisk) -> OpenRisk:
        return replace(
            self,
            quantity=self.quantity + other.quantity,
            notional=self.notional + other.notional,
            unpriced=self.unpriced + other.unpriced,
        )

    def less(self, other: OpenRisk) -> OpenRisk:
        return self.plus(other.negative())

    def negative(self) -> OpenRisk:
        return replace(self, quantity=-self.quantity, notional=-self.notional, unpriced=-self.unpriced)


class Exposure(msgspec.Struct, frozen=True):
    """The exposure in one symbol, in scaled integers."""

    position: int = 0
    """Signed position from fills."""
    orders: int = 0
    """Number of intents with open risk."""
    buys: int = 0
    sells: int = 0
    notional: int = 0
    unpriced: int = 0
    last_price: int | None = None
    """Price of the newest fill."""

    def plus(self, risk: OpenRisk, *, orders: int = 1) -> Exposure:
        """Return the exposure with one more open risk (one less: `orders=-1` and a negative risk)."""
        bought = risk.side is Side.BUY
        return replace(
            self,
            orders=self.orders + orders,
            buys=self.buys + (risk.quantity if bought else 0),
            sells=self.sells + (0 if bought else risk.quantity),
            notional=self.notional + risk.notional,
            unpriced=self.unpriced + risk.unpriced,
        )

    def with_all(self, other: Exposure) -> Exposure:
        """Return the exposure with the open risks of another one."""
        return replace(
            self,
            orders=self.orders + other.orders,
            buys=self.buys + other.buys,
            sells=self.sells + other.sells,
            notional=self.notional + other.notional,
            unpriced=self.unpriced + other.unpriced,
        )

    def worst(self, side: Side) -> int:
        """Return the position in the direction of a side if all of that side fills, and nothing of the other."""
        return self.position + self.buys if side is Side.BUY else self.sells - self.position


NOTHING = Exposure()


def open_risk_of(order: StandardOrder, quantity: int, price: int | None = None) -> OpenRisk:
    """Return the risk of a quantity of an order, at the given, the limit or the trigger price, whichever exists first."""
    known = next((item for item in (price, order.price, order.stop_price) if item is not None), None)
    if known is None:
        return OpenRisk(order.symbol_id, order.side, quantity, 0, quantity)
    return OpenRisk(order.symbol_id, order.side, quantity, quantity * known)


def open_risks(record: Record) -> tuple[OpenRisk, ...]:
    """Return the open risks of an intent, one for each symbol and side (several only after a store changed them).

    It is the larger of the intent, of all that works or may work, and of what an unknown amend may have made of it.
    """
    return largest_risks((*working_risks(record), *intended_risk(record)))


def working_risks(record: Record) -> tuple[OpenRisk, ...]:
    """Return the open risks of all that works or may work for an intent, without what was not sent yet."""
    found: dict[tuple[str, Side], OpenRisk] = {}
    for risk in at_venue(record):
        key = (risk.symbol_id, risk.side)
        found[key] = found[key].plus(risk) if key in found else risk
    return largest_risks((*found.values(), *amended_risk(record)))


def largest_risks(risks: Iterable[OpenRisk]) -> tuple[OpenRisk, ...]:
    found: dict[tuple[str, Side], OpenRisk] = {}
    for risk in risks:
        key = (risk.symbol_id, risk.side)
        found[key] = found[key].largest(risk) if key in found else risk
    return tuple(risk for risk in found.values() if risk.quantity > 0)


def at_venue(record: Record) -> Iterator[OpenRisk]:
    """Yield the risks of working orders, of ended ones without a known total, and of submits not seen yet."""
    names: set[str] = set()
    for facts in record.orders:
        names.update(facts.client_order_ids)
        total = facts.cum_qty if facts.final_cum_qty is not None else facts.quantity
        if (rest := total - booked(facts)) > 0 and not (facts.rare.retired and facts.final_cum_qty is not None):
            yield open_risk_of(facts.order, rest, facts.price)
    unseen = {item.client_order_id for item in record.unresolved if item.kind is AttemptKind.SUBMIT} - names
    if record.sent_order is not None:
        for _ in unseen:
            yield open_risk_of(record.sent_order, record.sent_order.quantity)


def booked(facts: OrderFacts) -> int:
    """Return the quantity of an order that the position includes: its known fills; for a store's order its total."""
    return facts.cum_qty if facts.rare.recorded else facts.traded_qty


def amended_risk(record: Record) -> Iterator[OpenRisk]:
    """Yield the risks of orders as unresolved amends may have changed them."""
    for item in record.unresolved:
        if item.kind is AttemptKind.AMEND and (amend := record.sent_modify(item.client_order_id)) is not None:
            target = order_under(record, item.client_order_id)
            filled = booked(target) + target.rare.carried_qty if target is not None else 0
            yield open_risk_of(amend.order, max(0, amend.order.quantity - filled))


def intended_risk(record: Record) -> Iterator[OpenRisk]:
    """Yield the risk of the intent's unfilled rest, unless it was rejected for good."""
    intent = record.intent
    if intent is None or intent.desired is not Desired.WORKING or is_refused(record):
        return
    yield open_risk_of(intent.order, max(0, intent.order.quantity - booked_qty(record)))


def booked_qty(record: Record) -> int:
    """Return the quantity of an intent that the position includes."""
    return sum((booked(facts) for facts in record.current_orders), record.settled.traded_qty)


class RiskChange(msgspec.Struct, frozen=True):
    """A proposed order and what it replaces."""

    order: StandardOrder
    filled: int = 0
    known: StandardOrder | None = None
    """The former terms; None for a new order, and if the venue rejected them."""
    open_risk: OpenRisk | None = None
    """The open risk that it replaces; None for a new order."""

    @property
    def rest(self) -> int:
        return max(0, self.order.quantity - self.filled)

    @property
    def only_reduces(self) -> bool:
        if self.rest == 0:
            return True
        added = self.added
        if self.known is None or self.order.quantity > self.known.quantity:
            return False
        if added.quantity or added.notional or added.unpriced:
            return False
        same = {"quantity": self.known.quantity, "display_quantity": self.known.display_quantity}
        return replace(self.order, **same) == self.known

    @property
    def added(self) -> OpenRisk:
        """The risk that it adds; 0 in each figure that it reduces."""
        new = open_risk_of(self.order, self.rest)
        return new if self.open_risk is None else self.open_risk.largest(new).less(self.open_risk)


def violations(limits: Limits, exposure: Exposure, change: RiskChange, symbol: SymbolMetadata) -> list[Violation]:
    """Return the limits that an order exceeds; none if it only reduces, or does not raise the figure that is exceeded."""
    return [] if change.only_reduces else exceeded_limits(limits, exposure, change, symbol)


def exceeded_limits(limits: Limits, exposure: Exposure, change: RiskChange, symbol: SymbolMetadata) -> list[Violation]:
    """Return the limits that an order exceeds by itself, and with the exposure if it can still fill."""
    price = last_price(limits, exposure, symbol)
    found = [
        order_quantity(limits, change, symbol),
        order_notional(limits, change, symbol, price),
        collar(limits, change, symbol, price),
    ]
    if change.rest:
        found += [
            open_orders(limits, exposure, change),
            open_notional(limits, exposure, change, symbol, price),
            worst_position(limits, exposure, change, symbol),
        ]
    return [item for item in found if item is not None]


def last_price(limits: Limits, exposure: Exposure, symbol: SymbolMetadata) -> int | None:
    """Return the price of the newest fill, else the reference price of the settings."""
    if exposure.last_price is not None or limits.reference_price is None:
        return exposure.last_price
    return symbol.price_from_decimal(limits.reference_price)


def order_quantity(limits: Limits, change: RiskChange, symbol: SymbolMetadata) -> Violation | None:
    limit, quantity = limits.order_quantity_max, change.order.quantity
    before = 0 if change.known is None else change.known.quantity
    if limit is None or quantity <= before or symbol.quantity_to_decimal(quantity) <= limit:
        return None
    value = symbol.quantity_text(quantity)
    text = "{field} {value} is above {constraint} {limit}"
    return Violation("order.quantity", "order_quantity_max", f"{limit:f}", value, text)


def order_notional(limits: Limits, change: RiskChange, symbol: SymbolMetadata, price: int | None) -> Violation | None:
    limit = limits.order_notional_max
    if limit is None:
        return None
    notional = valued(open_risk_of(change.order, change.order.quantity), price)
    if notional is None:
        return unpriced("order_notional_max", limit)
    before = 0 if change.known is None else valued(open_risk_of(change.known, change.known.quantity), price) or 0
    if notional <= before or symbol.notional_to_decimal(notional) <= limit:
        return None
    value = symbol.notional_text(notional)
    text = "notional {value} is above {constraint} {limit}"
    return Violation("order.quantity", "order_notional_max", f"{limit:f}", value, text)


def open_orders(limits: Limits, exposure: Exposure, change: RiskChange) -> Violation | None:
    limit = limits.open_orders_max
    if limit is None or change.open_risk is not None or exposure.orders < limit:
        return None
    text = "{value} orders are open and {constraint} is {limit}"
    return Violation("order.symbol_id", "open_orders_max", str(limit), str(exposure.orders), text)


def open_notional(
    limits: Limits, exposure: Exposure, change: RiskChange, symbol: SymbolMetadata, price: int | None
) -> Violation | None:
    limit, added = limits.open_notional_max, change.added
    if limit is None or not (added.notional or added.unpriced):
        return None
    more = valued(added, price)
    before = valued(replace(added, notional=exposure.notional, unpriced=exposure.unpriced), price)
    if more is None or before is None:
        return unpriced("open_notional_max", limit)
    if symbol.notional_to_decimal(before + more) <= limit:
        return None
    value = f"{symbol.notional_text(before)} open and {symbol.notional_text(more)} more"
    text = "notional of {value} is above {constraint} {limit}"
    return Violation("order.quantity", "open_notional_max", f"{limit:f}", value, text)


def worst_position(limits: Limits, exposure: Exposure, change: RiskChange, symbol: SymbolMetadata) -> Violation | None:
    limit, added, side = limits.position_max, change.added.quantity, change.order.side
    worst = exposure.worst(side) + added
    if limit is None or added <= 0 or symbol.quantity_to_decimal(worst) <= limit:
        return None
    direction = "long" if side is Side.BUY else "short"
    value = f"{symbol.quantity_text(worst)} {direction} if every {side} is filled"
    text = "position of {value} is above {constraint} {limit}"
    return Violation("order.quantity", "position_max", f"{limit:f}", value, text)


def collar(limits: Limits, change: RiskChange, symbol: SymbolMetadata, price: int | None) -> Violation | None:
    percent, order = limits.price_collar_percent, change.order
    base = order.stop_price if order.order_type is OrderType.STOP_LIMIT else price
    if percent is None or base is None or order.price is None:
        return None
    distance, (numerator, denominator) = abs(order.price - base), percent.as_integer_ratio()
    if distance * 100 * denominator <= numerator * base:
        return None
    known = change.known
    comparable = known is not None and known.stop_price == order.stop_price
    if comparable and known is not None and known.price is not None and distance <= abs(known.price - base):
        return None
    limit, text = f"{percent:f} % around {symbol.price_text(base)}", "{field} {value} is outside {constraint}, {limit}"
    return Violation("order.price", "price_collar_percent", limit, symbol.price_text(order.price), text)


def valued(risk: OpenRisk, price: int | None) -> int | None:
    """Return the notional of a risk, with the unpriced part at the last price; None if that is needed and unknown."""
    if not risk.unpriced:
        return risk.notional
    return None if price is None else risk.notional + risk.unpriced * price


def unpriced(constraint: str, limit: Decimal) -> Violation:
    text = "{constraint} {limit} needs a price and no last price is known; give a limit price"
    return Violation("order.price", constraint, f"{limit:f}", "", text)
