"""Orders and markets: what is refused, that all of it is named, and that decimals become integers exactly or not at all."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from kernel.errors import ValidationError
from kernel.events import canonical_json
from kernel.events.codec import decoded
from kernel.models import OrderIntent
from kernel.order_spec import (
    UINT64_MAX,
    OcoMode,
    OrderType,
    Side,
    StandardOrder,
    StandardOrderGroup,
    SymbolMetadata,
    TimeInForce,
    from_scaled,
    to_scaled,
)
from kernel.values import as_json
from tests.unhurried import unhurried

BTC = SymbolMetadata(
    symbol_id="BTCUSDT",
    base_asset="BTC",
    quote_asset="USDT",
    price_decimals=2,
    quantity_decimals=8,
    tick_size=10,
    lot_size=1_000,
    min_price=100,
    max_price=10_000_000,
    min_quantity=2_000,
    max_quantity=1_000_000_000,
    min_notional=5 * 10**10,
    max_notional=10**15,
    max_open_orders=2,
)


def an_order(**given: Any) -> StandardOrder:
    fields: dict[str, Any] = {
        "symbol_id": "BTCUSDT",
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "quantity": 150_000,
        "price": 6_170_000,
    }
    return StandardOrder.checked(**{**fields, **given})


def named(problem: ValidationError) -> set[str]:
    """The fields that a refusal is about."""
    return {violation.field for violation in problem.violations}


def constraints(order: StandardOrder, *, open_orders: int = 0, market: SymbolMetadata = BTC) -> set[tuple[str, str]]:
    return {(item.field, item.constraint) for item in market.violations(order, open_orders=open_orders)}


# -------------------------------------------------------------------------------------------------------------- orders
@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"quantity": 0}, "quantity"),
        ({"price": None}, "price"),
        ({"order_type": OrderType.MARKET}, "price"),
        ({"order_type": OrderType.STOP_LIMIT}, "stop_price"),
        ({"order_type": OrderType.STOP, "price": None}, "stop_price"),
        ({"stop_price": 5}, "stop_price"),
        ({"time_in_force": TimeInForce.GTD}, "expire_at_ns"),
        ({"expire_at_ns": 5}, "expire_at_ns"),
        ({"post_only": True, "time_in_force": TimeInForce.IOC}, "post_only"),
        ({"post_only": True, "order_type": OrderType.MARKET, "price": None}, "post_only"),
        ({"display_quantity": 0}, "display_quantity"),
        ({"display_quantity": 150_001}, "display_quantity"),
        ({"symbol_id": ""}, "symbol_id"),
        ({"symbol_id": "BTC USDT"}, "symbol_id"),
        ({"side": "HOLD"}, "side"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_inconsistent_order_is_rejected(given: dict[str, Any], word: str) -> None:
    """An inconsistent order is rejected whatever its symbol, and the error names the field."""
    with pytest.raises(ValidationError) as raised:
        an_order(**given)
    assert word in named(raised.value)


def test_every_inconsistency_is_listed() -> None:
    """The error lists every inconsistency, not only the first."""
    with pytest.raises(ValidationError) as raised:
        an_order(quantity=0, price=None, expire_at_ns=5, display_quantity=1)
    for word in ("quantity", "price", "expire_at_ns", "display_quantity"):
        assert word in named(raised.value)


@pytest.mark.parametrize("value", [1.0, True, "1", Decimal(1), -1, UINT64_MAX + 1])
@pytest.mark.parametrize("field", ["quantity", "price"])
def test_numbers_are_integers_in_range(field: str, value: Any) -> None:
    """No float, boolean, string, negative number or one above 2^64−1 is a price or a quantity."""
    with pytest.raises(ValidationError) as raised:
        an_order(**{field: value})
    assert field in named(raised.value)


def test_the_largest_number_is_accepted() -> None:
    """2^64−1 is a valid price and quantity."""
    order = an_order(quantity=UINT64_MAX, price=UINT64_MAX)
    assert decoded(StandardOrder, canonical_json(order)) == order


def test_orders_are_frozen() -> None:
    """An order cannot be changed in place."""
    with pytest.raises(AttributeError, match="immutable"):
        an_order().quantity = 1  # type: ignore[misc] # the refusal is what is tested


def test_a_group_has_members() -> None:
    """A group without orders is rejected; otherwise it keeps their order."""
    with pytest.raises(ValidationError) as raised:
        StandardOrderGroup.checked(orders=())
    assert "orders" in named(raised.value)
    group = StandardOrderGroup(orders=(an_order(), an_order(price=5)), mode=OcoMode.ONE_CANCELS_OTHER)
    assert [order.price for order in group.orders] == [6_170_000, 5]


@pytest.mark.parametrize(
    ("intent_id", "good"),
    [
        ("a", True),
        ("0-a._B", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("", False),
        (".a", False),
        ("a b", False),
        ("ä", False),
        ("a\n", False),
    ],
)
def test_intent_ids(intent_id: str, good: bool) -> None:
    """An id is a letter or digit and up to 63 of letters, digits, dots, underscores and dashes."""
    if good:
        assert OrderIntent(intent_id=intent_id, exchange_id="paper", order=an_order()).intent_id == intent_id
        return
    with pytest.raises(ValidationError) as raised:
        OrderIntent.checked(intent_id=intent_id, exchange_id="paper", order=an_order())
    assert "intent_id" in named(raised.value)


# ------------------------------------------------------------------------------------------------------------- markets
@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, set()),
        ({"price": 6_170_005}, {("price", "tick_size")}),
        ({"price": 90, "quantity": 10**9}, {("price", "price range")}),
        ({"price": 10_000_010, "quantity": 10**6}, {("price", "price range")}),
        ({"quantity": 150_500}, {("quantity", "lot_size")}),
        ({"quantity": 1_000, "price": 10_000_000}, {("quantity", "quantity range"), ("quantity", "min_notional")}),
        ({"quantity": 1_000_001_000, "price": 1_000}, {("quantity", "quantity range")}),
        ({"quantity": 2_000}, {("quantity", "min_notional")}),
        ({"quantity": 10**9}, {("quantity", "max_notional")}),
        ({"order_type": OrderType.STOP_LIMIT, "stop_price": 6_170_005},
         {("order_type", "order_types"), ("stop_price", "tick_size")}),
        ({"time_in_force": TimeInForce.DAY}, {("time_in_force", "times_in_force")}),
        ({"reduce_only": True}, {("reduce_only", "reduce_only")}),
        ({"display_quantity": 50_500}, {("display_quantity", "lot_size"), ("display_quantity", "iceberg")}),
        ({"order_type": OrderType.MARKET, "price": None, "quantity": 2_000, "time_in_force": TimeInForce.DAY}, set()),
    ],
)  # fmt: skip
def test_each_constraint_of_a_symbol_is_checked(given: dict[str, Any], found: set[tuple[str, str]]) -> None:
    """Exactly the violated constraint is found, with its field."""
    assert constraints(an_order(**given)) == found


def test_every_violation_is_listed() -> None:
    """An order that breaks many rules gets a sentence for each, with limits and values in decimals."""
    order = an_order(price=95, quantity=1_500, time_in_force=TimeInForce.DAY, reduce_only=True)
    assert constraints(order, open_orders=2) == {
        ("price", "price range"),
        ("price", "tick_size"),
        ("quantity", "quantity range"),
        ("quantity", "lot_size"),
        ("quantity", "min_notional"),
        ("time_in_force", "times_in_force"),
        ("reduce_only", "reduce_only"),
        ("symbol_id", "max_open_orders"),
    }
    texts = list(map(str, BTC.violations(order)))
    assert "price 0.95 is not a multiple of the tick size 0.1" in texts
    assert "notional 0.00001425 is below the minimum 5" in texts
    assert "BTCUSDT takes FOK, GTC and IOC orders, not DAY" in texts


def test_an_order_type_that_the_symbol_does_not_take_is_named() -> None:
    """The sentence names the symbol, its order types and the given one, in decimals."""
    stop = an_order(order_type=OrderType.STOP, price=None, stop_price=6_170_000)
    market = structs.replace(BTC, order_types=frozenset({OrderType.LIMIT, OrderType.MARKET}))
    assert list(map(str, market.violations(stop))) == [
        "BTCUSDT takes LIMIT and MARKET orders, not STOP (the paper exchange takes it with `--markets full`)"
    ]
    assert str(market.violations(an_order(quantity=150_010))[0]).startswith("quantity 0.0015001 is not a multiple of")


@pytest.mark.parametrize(("open_orders", "full"), [(0, False), (1, False), (2, True), (3, True)])
def test_open_orders_are_limited(open_orders: int, full: bool) -> None:
    """An order beyond the limit of open orders is rejected."""
    assert (("symbol_id", "max_open_orders") in constraints(an_order(), open_orders=open_orders)) == full


def test_a_zero_tick_or_lot_disables_the_check() -> None:
    """A tick or lot size of 0 is not checked."""
    free = structs.replace(BTC, tick_size=0, lot_size=0)
    assert constraints(an_order(price=6_170_001, quantity=150_001), market=free) == set()


@pytest.mark.parametrize("limits", [{"min_price": 2, "max_price": 1}, {"min_quantity": 2, "max_quantity": 1}])
def test_a_minimum_above_its_maximum_is_rejected(limits: dict[str, int]) -> None:
    """A symbol that no order can fit is rejected."""
    with pytest.raises(ValidationError, match="above its maximum"):
        SymbolMetadata.checked(**{**structs.asdict(BTC), **limits})


@unhurried
@given(st.sets(st.sampled_from(OrderType)), st.sets(st.sampled_from(TimeInForce)))
def test_sets_are_stored_sorted(kinds: set[OrderType], times: set[TimeInForce]) -> None:
    """The JSON of a symbol does not depend on the iteration order of a set."""
    symbol = structs.replace(BTC, order_types=frozenset(kinds), times_in_force=frozenset(times))
    assert as_json(symbol)["order_types"] == sorted(kinds)
    assert decoded(SymbolMetadata, canonical_json(symbol)) == symbol


# ------------------------------------------------------------------------------------------------------------ decimals
@unhurried
@given(st.integers(0, UINT64_MAX), st.integers(0, 18))
def test_scaling_round_trips(value: int, decimals: int) -> None:
    """An integer at a scale survives the conversion to a decimal, or text, and back."""
    decimal = from_scaled(value, decimals=decimals)
    assert to_scaled(decimal, decimals=decimals, field="price") == value
    assert to_scaled(str(decimal), decimals=decimals, field="price") == value


@unhurried
@given(st.decimals(min_value=0, max_value=10**9, places=6), st.integers(0, 18))
def test_scaling_is_exact_or_an_error(number: Decimal, decimals: int) -> None:
    """A decimal is converted exactly or rejected, never rounded."""
    if number == number.quantize(Decimal(1).scaleb(-decimals)) and number * 10**decimals <= UINT64_MAX:
        assert from_scaled(to_scaled(number, decimals=decimals, field="price"), decimals=decimals) == number
        return
    with pytest.raises(ValidationError, match="price"):
        to_scaled(number, decimals=decimals, field="price")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (0.1, "must be a Decimal"),
        (True, "must be a Decimal"),
        (None, "must be a Decimal"),
        ("", "must be a decimal number"),
        ("one", "must be a decimal number"),
        ("NaN", "must be finite and not negative"),
        ("Infinity", "must be finite and not negative"),
        ("-0.01", "must be finite and not negative"),
        (-1, "must be finite and not negative"),
        ("0.001", "decimal places"),
        ("1e-999999", "decimal places"),
        ("1e999999", "is above the maximum"),
        ("184467440737095516.16", "is above the maximum"),
    ],
)
def test_invalid_decimals_are_rejected(value: Any, word: str) -> None:
    """Floats, other text, and negative, infinite, too fine or too large numbers are rejected with a reason each."""
    with pytest.raises(ValidationError, match=word):
        BTC.price_from_decimal(value)


@pytest.mark.parametrize(
    ("value", "scaled"),
    [
        ("61700.00", 6_170_000),
        ("0", 0),
        ("0e5", 0),
        ("1e3", 100_000),
        (7, 700),
        (Decimal("0.10"), 10),
        ("5.00000", 500),
    ],
)
def test_valid_decimals_are_converted(value: Any, scaled: int) -> None:
    """Text, integers and decimals are converted, with or without exponent or trailing zeros."""
    assert BTC.price_from_decimal(value) == scaled


def test_quantities_and_notionals_have_their_own_scales() -> None:
    """Quantities are at the quantity scale, notionals at the sum of both scales."""
    assert BTC.quantity_from_decimal("0.0015") == 150_000
    assert str(BTC.quantity_to_decimal(150_000)) == "0.00150000"
    assert str(BTC.price_to_decimal(6_170_000)) == "61700.00"
    assert BTC.notional_to_decimal(6_170_000 * 150_000) == Decimal("92.55")
    assert from_scaled(-5, decimals=2) == Decimal("-0.05")
