"""Pre-trade limits: what an account may have at stake, and whether an order stays within it. Pure.

Used by `limit_gate` (which asks, for each command, under what else is on its way) and by the projections (which keep
`open_risks` summed up). The limits themselves are `settings.LimitSettings`. A limit refuses a command before anything is
recorded or sent; it never touches what works already. A breach is told with each limit, its value and the value given.

Limits are decimals in the symbol's own units, so that one default means the same in every symbol; they are compared exactly
with the integers at the symbol's scale. What an order may come to is counted at its worst: all that works, may work
(attempts that are unknown) or is wanted of one side fills, and nothing of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from kernel.errors import Violation
from kernel.lifecycle import Record
from kernel.lifecycle.order_facts import OrderFacts
from kernel.lifecycle.record import order_under
from kernel.models import AttemptKind, Desired
from kernel.order_spec import OrderType, Side, StandardOrder, SymbolMetadata
from kernel.settings import PERCENT_DECIMALS, Limits


# --------------------------------------------------------------------------------------------------- what is at stake
@dataclass(frozen=True, slots=True)
class OpenRisk:
    """What one intent may still come to on one side of a symbol."""

    symbol_id: str
    side: Side
    quantity: int
    notional: int
    """Price × quantity, as far as there is a price."""
    unpriced: int = 0
    """The quantity that has no price of its own: market orders."""

    def largest(self, other: OpenRisk) -> OpenRisk:
        """The worse of two in every respect."""
        return replace(
            self,
            quantity=max(self.quantity, other.quantity),
            notional=max(self.notional, other.notional),
            unpriced=max(self.unpriced, other.unpriced),
        )

    def plus(self, other: OpenRisk) -> OpenRisk:
        """Both."""
        return replace(
            self,
            quantity=self.quantity + other.quantity,
            notional=self.notional + other.notional,
            unpriced=self.unpriced + other.unpriced,
        )

    def less(self, other: OpenRisk) -> OpenRisk:
        """What is left of it without the other."""
        return self.plus(other.negative())

    def nothing(self) -> OpenRisk:
        """Nothing, of the same symbol and side."""
        return OpenRisk(self.symbol_id, self.side, 0, 0)

    def negative(self) -> OpenRisk:
        """What takes it out of a sum."""
        return replace(self, quantity=-self.quantity, notional=-self.notional, unpriced=-self.unpriced)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What is at stake in one symbol."""

    position: int = 0
    """Signed, from fills."""
    orders: int = 0
    """Intents with something that works, may work or is wanted."""
    buys: int = 0
    sells: int = 0
    notional: int = 0
    unpriced: int = 0
    last_price: int | None = None
    """Of the newest fill."""

    def plus(self, claim: OpenRisk, *, orders: int = 1) -> Exposure:
        """With one more claim (with `orders=-1` and what is negative: with one less)."""
        bought = claim.side is Side.BUY
        return replace(
            self,
            orders=self.orders + orders,
            buys=self.buys + (claim.quantity if bought else 0),
            sells=self.sells + (0 if bought else claim.quantity),
            notional=self.notional + claim.notional,
            unpriced=self.unpriced + claim.unpriced,
        )

    def with_all(self, other: Exposure) -> Exposure:
        """With all the claims of another sum."""
        return replace(
            self,
            orders=self.orders + other.orders,
            buys=self.buys + other.buys,
            sells=self.sells + other.sells,
            notional=self.notional + other.notional,
            unpriced=self.unpriced + other.unpriced,
        )

    def worst(self, side: Side) -> int:
        """The position in the direction of a side, if all of that side is filled and nothing of the other."""
        return self.position + self.buys if side is Side.BUY else self.sells - self.position


NOTHING = Exposure()


def open_risk_of(order: StandardOrder, quantity: int, price: int | None = None) -> OpenRisk:
    """What so much of an order comes to, at its limit price, else its trigger price, unless another price is given."""
    known = next((item for item in (price, order.price, order.stop_price) if item is not None), None)
    if known is None:
        return OpenRisk(order.symbol_id, order.side, quantity, 0, quantity)
    return OpenRisk(order.symbol_id, order.side, quantity, quantity * known)


def open_risks(record: Record) -> tuple[OpenRisk, ...]:
    """What an intent may still come to, by symbol and side (more than one pair only after a store changed them).

    The larger of what is wanted and of all that works or may work: the one replaces the other. An amend that is unknown
    may have enlarged its order.
    """
    found: dict[tuple[str, Side], OpenRisk] = {}
    for claim in at_venue(record):
        key = (claim.symbol_id, claim.side)
        found[key] = found[key].plus(claim) if key in found else claim
    for claim in (*asked_for(record), *intended_risk(record)):
        key = (claim.symbol_id, claim.side)
        found[key] = found[key].largest(claim) if key in found else claim
    return tuple(claim for claim in found.values() if claim.quantity > 0)


def at_venue(record: Record) -> Iterator[OpenRisk]:
    """What works, what ended with a total that is not known yet, and a submit whose order was not seen yet."""
    names: set[str] = set()
    for facts in record.orders:
        names.update(facts.client_order_ids)
        total = facts.cum_qty if facts.final_cum_qty is not None else facts.quantity
        if (rest := total - booked(facts)) > 0 and not (facts.retired and facts.final_cum_qty is not None):
            yield open_risk_of(facts.order, rest, facts.price)
    unseen = {item.client_order_id for item in record.unresolved if item.kind is AttemptKind.SUBMIT} - names
    if record.sent_order is not None:
        for _ in unseen:
            yield open_risk_of(record.sent_order, record.sent_order.quantity)


def booked(facts: OrderFacts) -> int:
    """What of an order is in the position already: its known trades. What is only inferred is not, so it still counts as
    open; a store's order is never explained by trades."""
    return facts.cum_qty if facts.recorded else facts.traded_qty


def asked_for(record: Record) -> Iterator[OpenRisk]:
    """What amends that are not settled may have made of an order."""
    for item in record.unresolved:
        if item.kind is AttemptKind.AMEND and (amend := record.sent_modify(item.client_order_id)) is not None:
            target = order_under(record, item.client_order_id)
            yield open_risk_of(
                amend.order, max(0, amend.order.quantity - (booked(target) if target is not None else 0))
            )


def intended_risk(record: Record) -> Iterator[OpenRisk]:
    """What is still to be filled of what is wanted, unless it was refused for good."""
    intent = record.intent
    if intent is None or intent.desired is not Desired.WORKING or record.failed_generation == intent.generation:
        return
    yield open_risk_of(intent.order, max(0, intent.order.quantity - booked_qty(record)))


def booked_qty(record: Record) -> int:
    """What of an intent is in the position already."""
    return sum(booked(facts) for facts in record.current_orders)


# ---------------------------------------------------------------------------------------------------------- the check
@dataclass(frozen=True, slots=True)
class RiskChange:
    """An order as it is wanted, and what it replaces."""

    order: StandardOrder
    filled: int = 0
    known: StandardOrder | None = None
    """The terms before; none for an order that adds all of itself, and where the venue refused those."""
    open_risk: OpenRisk | None = None
    """What it may come to already; none for an order that adds all of itself."""

    @property
    def rest(self) -> int:
        """What is left to fill."""
        return max(0, self.order.quantity - self.filled)

    @property
    def only_reduces(self) -> bool:
        """Whether it takes away, and does nothing else."""
        if self.rest == 0:
            return True
        if self.known is None or self.order.quantity > self.known.quantity or self.added != self.added.nothing():
            return False
        same = {"quantity": self.known.quantity, "display_quantity": self.known.display_quantity}
        return self.order.model_copy(update=same) == self.known

    @property
    def added(self) -> OpenRisk:
        """What it adds to what is at stake already; nothing in any respect where it reduces."""
        new = open_risk_of(self.order, self.rest)
        return new if self.open_risk is None else self.open_risk.largest(new).less(self.open_risk)


def violations(limits: Limits, exposure: Exposure, change: RiskChange, symbol: SymbolMetadata) -> list[Violation]:
    """Every limit that an order exceeds; empty where it only reduces.

    `observed_order` is of the order's symbol, with what the order replaces in it. A figure that is beyond its limit
    already is no breach of an order that does not raise it."""
    if change.only_reduces:
        return []
    return [*order_violations(limits, exposure, change, symbol), *sum_violations(limits, exposure, change, symbol)]


def order_violations(limits: Limits, exposure: Exposure, change: RiskChange, symbol: SymbolMetadata) -> list[Violation]:
    """The limits that an order exceeds by itself."""
    price = last_price(limits, exposure, symbol)
    found = [
        order_quantity(limits, change, symbol),
        order_notional(limits, change, symbol, price),
        collar(limits, change, symbol, price),
    ]
    return [item for item in found if item is not None]


def sum_violations(limits: Limits, exposure: Exposure, change: RiskChange, symbol: SymbolMetadata) -> list[Violation]:
    """The limits that an order exceeds together with all that is at stake already."""
    price = last_price(limits, exposure, symbol)
    found = [
        open_orders(limits, exposure, change),
        open_notional(limits, exposure, change, symbol, price),
        worst_position(limits, exposure, change, symbol),
    ]
    return [item for item in found if item is not None]


def last_price(limits: Limits, exposure: Exposure, symbol: SymbolMetadata) -> int | None:
    """The newest fill's, else the reference price of the settings."""
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
    distance = abs(order.price - base)
    if distance * 100 * 10**PERCENT_DECIMALS <= int(percent.scaleb(PERCENT_DECIMALS)) * base:
        return None
    known = change.known
    comparable = known is not None and known.stop_price == order.stop_price
    if comparable and known is not None and known.price is not None and distance <= abs(known.price - base):
        return None
    limit, text = f"{percent:f} % around {symbol.price_text(base)}", "{field} {value} is outside {constraint}, {limit}"
    return Violation("order.price", "price_collar_percent", limit, symbol.price_text(order.price), text)


def valued(claim: OpenRisk, price: int | None) -> int | None:
    """The notional of a claim, what has no price at the last one; None where that is needed and not known."""
    if not claim.unpriced:
        return claim.notional
    return None if price is None else claim.notional + claim.unpriced * price


def unpriced(constraint: str, limit: Decimal) -> Violation:
    text = "{constraint} {limit} needs a price and no last price is known; give a limit price"
    return Violation("order.price", constraint, f"{limit:f}", "", text)
