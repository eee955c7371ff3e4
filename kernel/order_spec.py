"""Orders and symbols: the values that strategies build, with FIX names where FIX has one.

Every price and quantity is an integer at the symbol's scale; `SymbolMetadata` converts decimals to such integers and back,
exactly or with an error. Values are frozen and refuse unknown fields, and floats, booleans and strings as numbers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta

from kernel.errors import ValidationError, Violation
from kernel.values import Constraint, Value, whole

UINT64_MAX = 2**64 - 1
INT64_MAX = 2**63 - 1

Uint64 = Annotated[int, Meta(ge=0), Constraint(strict=True, ge=0, le=UINT64_MAX)]
"""A price or quantity: an integer from 0 to 2^64−1 at the symbol's scale. An annotation, not a constructor."""
Int = Annotated[int, Constraint(strict=True)]
"""A signed, unbounded integer (fee, balance, cost, notional) at the scale that its field names."""
InstantNs = Annotated[int, Meta(ge=0, le=INT64_MAX), Constraint(strict=True, ge=0, le=INT64_MAX)]
"""An instant in Unix nanoseconds."""
Counter = Annotated[int, Meta(ge=0, le=INT64_MAX), Constraint(strict=True, ge=0, le=INT64_MAX)]
"""A count, version, number or log position."""

INTENT_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
INTENT_ID_RULE = "1 to 64 characters of `A-Z a-z 0-9 . _ -`, the first a letter or digit"
IntentId = Annotated[str, Meta(pattern=whole(INTENT_ID_PATTERN)), Constraint(pattern=INTENT_ID_PATTERN)]
"""Id of an intent or group: a letter or digit, then up to 63 letters, digits, `.`, `_` or `-`."""
EXCHANGE_ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,39}$"
EXCHANGE_ID_RULE = "1 to 40 characters of `a-z 0-9 _ -`, the first a letter or digit"
ExchangeId = Annotated[str, Meta(pattern=whole(EXCHANGE_ID_PATTERN)), Constraint(pattern=EXCHANGE_ID_PATTERN)]
"""Id of an exchange account and of its log."""
VENUE_NAME_PATTERN = r"^[!-~]+$"
SymbolId = Annotated[
    str,
    Meta(min_length=1, max_length=64, pattern=whole(VENUE_NAME_PATTERN)),
    Constraint(min_length=1, max_length=64, pattern=VENUE_NAME_PATTERN),
]
"""A symbol as the venue spells it: 1 to 64 printable ASCII characters without spaces."""
AssetId = Annotated[
    str,
    Meta(min_length=1, max_length=32, pattern=whole(VENUE_NAME_PATTERN)),
    Constraint(min_length=1, max_length=32, pattern=VENUE_NAME_PATTERN),
]
"""An asset as the venue spells it."""
Scale = Annotated[int, Meta(ge=0, le=18), Constraint(strict=True, ge=0, le=18)]
"""A number of decimal places."""


class Side(StrEnum):
    """Side of an order (FIX 54)."""

    BUY = "BUY"
    SELL = "SELL"


class OrderType(StrEnum):
    """Type of an order (FIX 40)."""

    MARKET = "MARKET"
    """Trade at once at the best available prices."""
    LIMIT = "LIMIT"
    """Trade at the limit price or better."""
    STOP = "STOP"
    """A market order once the trigger price has traded."""
    STOP_LIMIT = "STOP_LIMIT"
    """A limit order once the trigger price has traded."""


class TimeInForce(StrEnum):
    """How long an order works (FIX 59)."""

    DAY = "DAY"
    """Until the venue's trading day ends."""
    GTC = "GTC"
    """Good till canceled."""
    IOC = "IOC"
    """Immediate or cancel: the unfilled rest is canceled at once."""
    FOK = "FOK"
    """Fill or kill: filled whole at once, or canceled."""
    GTD = "GTD"
    """Good till date: until `expire_at_ns`."""


class OcoMode(StrEnum):
    """How the orders of a group depend on each other (FIX 1385)."""

    NONE = "NONE"
    """They are independent."""
    ONE_CANCELS_OTHER = "ONE_CANCELS_OTHER"
    """The first fill of one cancels the others."""
    ONE_UPDATES_OTHER = "ONE_UPDATES_OTHER"
    """Each fill of one reduces the others by its quantity."""
    ONE_TRIGGERS_OTHER = "ONE_TRIGGERS_OTHER"
    """Fills of the first order release the others, which are ONE_UPDATES_OTHER among themselves: a bracket."""


class SymbolStatus(StrEnum):
    """The trading status of a symbol."""

    TRADING = "TRADING"
    HALTED = "HALTED"
    CLOSED = "CLOSED"


PRICED = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
STOPPED = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})
PAPER_HINT = " (the paper exchange takes it with `--markets full`)"


class StandardOrder(Value):
    """The terms of an order.

    The constructor checks nothing: `StandardOrder.checked` does, and every command and store write.
    `SymbolMetadata.violations` checks the terms against the symbol. Convert decimals with
    `SymbolMetadata.price_from_decimal` and `quantity_from_decimal`.
    """

    symbol_id: SymbolId
    """Symbol as the venue spells it."""
    side: Side
    """BUY or SELL (FIX 54)."""
    order_type: OrderType
    """MARKET, LIMIT, STOP or STOP_LIMIT (FIX 40)."""
    quantity: Uint64
    """Total quantity, filled part included, at the symbol's quantity scale (FIX 38)."""
    price: Uint64 | None = None
    """Limit price at the symbol's price scale (FIX 44); required for LIMIT and STOP_LIMIT, refused otherwise."""
    stop_price: Uint64 | None = None
    """Trigger price at the symbol's price scale (FIX 99); required for STOP and STOP_LIMIT, refused otherwise."""
    time_in_force: TimeInForce = TimeInForce.GTC
    """How long the order works (FIX 59)."""
    expire_at_ns: InstantNs | None = None
    """End of a GTD order in Unix nanoseconds (FIX 126); required for GTD, refused otherwise."""
    post_only: bool = False
    """Reject the order rather than take liquidity; only LIMIT orders that can rest."""
    reduce_only: bool = False
    """Reject the order rather than enlarge a position."""
    display_quantity: Uint64 | None = None
    """Quantity shown in the book (iceberg, FIX 1138), at the symbol's quantity scale; at most `quantity`."""

    def contradictions(self) -> list[Violation]:
        return order_inconsistencies(self)


def expiry_violations(order: StandardOrder, *, now_ns: int) -> list[Violation]:
    """Return the violation of an order whose date has passed, with instants as text."""
    if order.expire_at_ns is None or now_ns < order.expire_at_ns:
        return []
    limit, value = (
        datetime.fromtimestamp(instant_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for instant_ns in (now_ns, order.expire_at_ns)
    )
    return [Violation("expire_at_ns", "date", limit, value, "{field} {value} has passed, it is {limit}")]


def order_inconsistencies(order: StandardOrder) -> list[Violation]:
    """Return a violation for each rule that an order, validated or not, breaks whatever its symbol is."""
    kind, tif = order.order_type, order.time_in_force
    found = [] if order.quantity > 0 else [Violation("quantity", "minimum", "more than 0", "0")]
    presences = (
        ("price", order.price, kind in PRICED, kind),
        ("stop_price", order.stop_price, kind in STOPPED, kind),
        ("expire_at_ns", order.expire_at_ns, tif is TimeInForce.GTD, tif),
    )
    for field, value, required, by in presences:
        if (value is not None) != required:
            limit = f"{'required' if required else 'not allowed'} for {by}"
            found.append(Violation(field, "presence", limit, str(value), "{field} is {limit} orders"))
    if order.post_only and (kind is not OrderType.LIMIT or tif in (TimeInForce.IOC, TimeInForce.FOK)):
        text = "{field} is for {limit}, not {value}"
        found.append(Violation("post_only", "combination", "LIMIT orders that can rest", f"{kind} {tif}", text))
    shown = order.display_quantity
    if shown is not None and not 0 < shown <= order.quantity:
        limit = f"more than 0 and at most the quantity, {order.quantity}"
        found.append(Violation("display_quantity", "range", limit, str(shown)))
    return found


class StandardOrderGroup(Value):
    """Contingent orders (FIX 35=E), placed whole or not at all."""

    orders: Annotated[tuple[StandardOrder, ...], Meta(min_length=1), Constraint(min_length=1)]
    """The members; of a ONE_TRIGGERS_OTHER group the first one releases the others."""
    mode: OcoMode = OcoMode.NONE
    """How the members depend on each other."""


class AssetMetadata(Value):
    """An asset and the scale of its amounts."""

    asset_id: AssetId
    """Asset as the venue spells it."""
    decimals: Scale
    """Decimal places of amounts: integer = decimal amount × 10^decimals. Never changes."""
    name: str = ""
    """Display name; may be empty."""


class SymbolMetadata(Value):
    """A symbol's scales, which never change, and its constraints, which may.

    All integers are at the price scale, the quantity scale, or (notionals) at the sum of both.
    """

    symbol_id: SymbolId
    """Symbol as the venue spells it."""
    base_asset: AssetId
    """The asset that is bought and sold."""
    quote_asset: AssetId
    """The asset that is paid."""
    price_decimals: Scale
    """Decimal places of prices: integer = decimal price × 10^price_decimals. Never changes."""
    quantity_decimals: Scale
    """Decimal places of quantities: integer = decimal quantity × 10^quantity_decimals. Never changes."""
    tick_size: Uint64 = 1
    """Prices are multiples of this, at the price scale; 0 disables the check."""
    lot_size: Uint64 = 1
    """Quantities are multiples of this, at the quantity scale; 0 disables the check."""
    min_price: Uint64 = 0
    """Lowest price, at the price scale."""
    max_price: Uint64 = UINT64_MAX
    """Highest price, at the price scale."""
    min_quantity: Uint64 = 0
    """Smallest quantity of an order, at the quantity scale."""
    max_quantity: Uint64 = UINT64_MAX
    """Largest quantity of an order, at the quantity scale."""
    min_notional: Int = 0
    """Smallest price × quantity, at the scale of both; checked for orders with a price."""
    max_notional: Int | None = None
    """Largest price × quantity, at the scale of both; no limit if None."""
    order_types: frozenset[OrderType] = frozenset({OrderType.MARKET, OrderType.LIMIT})
    """Order types that the venue takes here."""
    times_in_force: frozenset[TimeInForce] = frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK})
    """Times in force that the venue takes here."""
    max_open_orders: Counter | None = None
    """Most orders that may be open at once; no limit if None."""
    post_only: bool = True
    """True if post-only orders are taken."""
    reduce_only: bool = False
    """True if reduce-only orders are taken."""
    iceberg: bool = False
    """True if a display quantity is taken."""
    status: SymbolStatus = SymbolStatus.TRADING
    """The trading status now."""
    contract: str | None = None
    """Kind of contract, such as `perpetual`: no order is taken, as only spot is supported. None for spot."""

    def contradictions(self) -> list[Violation]:
        if self.min_price <= self.max_price and self.min_quantity <= self.max_quantity:
            return []
        return [Violation("symbol", "minimum", "a minimum is above its maximum", "", "{field}: {limit}")]

    def price_from_decimal(self, price: Decimal | str | int) -> int:
        """Return a decimal price as an integer at the price scale.

        Args:
            price: The price in the quote asset, as a `Decimal`, text or whole number; no float.

        Returns:
            `price × 10^price_decimals`.

        Raises:
            ValidationError: The price is no decimal, negative, too large, or has more places than the scale.
        """
        return to_scaled(price, decimals=self.price_decimals, field="price")

    def quantity_from_decimal(self, quantity: Decimal | str | int) -> int:
        """Return a decimal quantity as an integer at the quantity scale; otherwise as `price_from_decimal`."""
        return to_scaled(quantity, decimals=self.quantity_decimals, field="quantity")

    def price_to_decimal(self, price: int) -> Decimal:
        """Return a price at the price scale as the exact decimal."""
        return from_scaled(price, decimals=self.price_decimals)

    def quantity_to_decimal(self, quantity: int) -> Decimal:
        """Return a quantity at the quantity scale as the exact decimal."""
        return from_scaled(quantity, decimals=self.quantity_decimals)

    def notional_to_decimal(self, notional: int) -> Decimal:
        """Return a price × quantity at the scale of both as the exact decimal."""
        return from_scaled(notional, decimals=self.price_decimals + self.quantity_decimals)

    def price_text(self, price: int) -> str:
        """Return a price at the price scale as text, without zeros at its end."""
        return trimmed(self.price_to_decimal(price))

    def quantity_text(self, quantity: int) -> str:
        """Return a quantity at the quantity scale as text, without zeros at its end."""
        return trimmed(self.quantity_to_decimal(quantity))

    def notional_text(self, notional: int) -> str:
        """Return a price × quantity at the scale of both as text, without zeros at its end."""
        return trimmed(self.notional_to_decimal(notional))

    def violations(self, order: StandardOrder, *, open_orders: int = 0) -> list[Violation]:
        """Return the constraints of the symbol that an order violates.

        The trading status is not checked: a halt delays an order, it does not make it invalid.

        Args:
            order: The order, at this symbol's scales.
            open_orders: Number of other orders open in this symbol.

        Returns:
            One violation for each broken constraint, with decimals in its sentence.
        """
        if self.contract is not None:
            text = f"{self.symbol_id} is a {self.contract} contract; only spot is supported"
            return [Violation("symbol_id", "contract", "spot", self.contract, text)]
        found = [
            *self._price_violations("price", order.price),
            *self._price_violations("stop_price", order.stop_price),
            *self._quantity_violations("quantity", order.quantity),
            *self._notional_violations(order),
            *self._capability_violations(order),
        ]
        if order.display_quantity is not None and self.lot_size and order.display_quantity % self.lot_size:
            found.append(self._off_lot("display_quantity", order.display_quantity))
        if self.max_open_orders is not None and open_orders >= self.max_open_orders:
            limit = f"{self.symbol_id} takes at most {self.max_open_orders} open orders"
            found.append(
                Violation("symbol_id", "max_open_orders", limit, str(open_orders), "{limit}, {value} are open")
            )
        return found

    def _price_violations(self, field: str, price: int | None) -> list[Violation]:
        if price is None:
            return []
        found = []
        if not self.min_price <= price <= self.max_price:
            limit = f"{self.price_text(self.min_price)} to {self.price_text(self.max_price)}"
            text = "{field} {value} is outside the price range {limit}"
            found.append(Violation(field, "price range", limit, self.price_text(price), text))
        if self.tick_size and price % self.tick_size:
            text = "{field} {value} is not a multiple of the tick size {limit}"
            found.append(Violation(field, "tick_size", self.price_text(self.tick_size), self.price_text(price), text))
        return found

    def _quantity_violations(self, field: str, quantity: int) -> list[Violation]:
        found = []
        if not self.min_quantity <= quantity <= self.max_quantity:
            limit = f"{self.quantity_text(self.min_quantity)} to {self.quantity_text(self.max_quantity)}"
            text = "{field} {value} is outside the quantity range {limit}"
            found.append(Violation(field, "quantity range", limit, self.quantity_text(quantity), text))
        if self.lot_size and quantity % self.lot_size:
            found.append(self._off_lot(field, quantity))
        return found

    def _off_lot(self, field: str, quantity: int) -> Violation:
        text = "{field} {value} is not a multiple of the lot size {limit}"
        return Violation(field, "lot_size", self.quantity_text(self.lot_size), self.quantity_text(quantity), text)

    def _notional_violations(self, order: StandardOrder) -> list[Violation]:
        if order.price is None:
            return []
        notional = order.price * order.quantity
        found = []
        for constraint, limit, broken in (
            ("min_notional", self.min_notional, notional < self.min_notional),
            ("max_notional", self.max_notional, self.max_notional is not None and notional > self.max_notional),
        ):
            if broken and limit is not None:
                text = f"notional {{value}} is {'below the minimum' if notional < limit else 'above the maximum'} {{limit}}"
                value = self.notional_text(notional)
                found.append(Violation("quantity", constraint, self.notional_text(limit), value, text))
        return found

    def _capability_violations(self, order: StandardOrder) -> list[Violation]:
        found = []
        if order.order_type not in self.order_types:
            limit, text = f"{self.symbol_id} takes {_listed(self.order_types)} orders", "{limit}, not {value}"
            found.append(Violation("order_type", "order_types", limit, order.order_type, text + PAPER_HINT))
        if order.order_type is not OrderType.MARKET and order.time_in_force not in self.times_in_force:
            limit, text = f"{self.symbol_id} takes {_listed(self.times_in_force)} orders", "{limit}, not {value}"
            found.append(Violation("time_in_force", "times_in_force", limit, order.time_in_force, text))
        flags = (
            ("post_only", "post_only", self.post_only, order.post_only),
            ("reduce_only", "reduce_only", self.reduce_only, order.reduce_only),
            ("display_quantity", "iceberg", self.iceberg, order.display_quantity is not None),
        )
        return found + [
            Violation(field, name, f"{self.symbol_id} takes no {name} orders", "true", "{limit}")
            for field, name, taken, used in flags
            if used and not taken
        ]


def _listed(values: frozenset[Any]) -> str:
    """Return words in a row, as in "FOK, GTC and IOC"."""
    *first, last = sorted(values) or ["no"]
    return f"{', '.join(first)} and {last}" if first else last


def to_scaled(value: Decimal | str | int, *, decimals: int, field: str) -> int:
    """Return a decimal number as an integer at a scale.

    Args:
        value: The number. Floats are refused: they do not hold the decimal digits that were meant.
        decimals: Decimal places of the scale.
        field: Name of the value in the error.

    Returns:
        `value × 10^decimals`, at most 2^64−1.

    Raises:
        ValidationError: `value` is no number, negative, too large, or has more places than the scale.
    """
    if isinstance(value, bool | float) or not isinstance(value, Decimal | str | int):
        limit = "a Decimal, a string or an integer, so that no digit is lost"
        raise ValidationError(violations=[Violation(field, "type", limit, f"{type(value).__name__} {value!r}")])
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValidationError(violations=[Violation(field, "type", "a decimal number", str(value))]) from None
    if not number.is_finite() or number < 0:
        raise ValidationError(violations=[Violation(field, "range", "finite and not negative", str(value))])
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    significant = "".join(map(str, digits)).rstrip("0")
    shift = exponent + decimals + len(digits) - len(significant)
    if shift >= 0 or not significant:
        too_long = len(significant) + shift > 40  # far beyond 64 bits, however many digits are written
        scaled = UINT64_MAX + 1 if significant and too_long else int(significant or "0") * 10 ** min(max(shift, 0), 40)
    if shift < 0 and significant:
        text = "{field} {value} has more than {limit} decimal places"
        raise ValidationError(violations=[Violation(field, "decimal places", str(decimals), str(value), text)])
    if scaled > UINT64_MAX:
        limit, text = (
            trimmed(from_scaled(UINT64_MAX, decimals=decimals)),
            "{field} {value} is above the maximum {limit}",
        )
        raise ValidationError(violations=[Violation(field, "maximum", limit, str(value), text)])
    return scaled


def from_scaled(value: int, *, decimals: int) -> Decimal:
    """Return an integer at a scale as the exact decimal with that many places."""
    digits = tuple(map(int, str(abs(value))))
    return Decimal((int(value < 0), digits, -decimals))


def trimmed(number: Decimal) -> str:
    """Return a decimal as text without an exponent and without zeros at its end."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
