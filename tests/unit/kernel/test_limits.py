"""Pre-trade limits as a pure function: what fits passes, what exceeds is refused, and what reduces is never refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import events
from kernel.limits import Exposure, OpenRisk, RiskChange, open_risk_of, open_risks, violations
from kernel.models import AttemptKind
from kernel.order_spec import OrderType, Side, StandardOrder, SymbolMetadata
from kernel.safety.limit_settings import Limits, LimitSettings
from tests.folding import Journal, a_submitted_journal, a_trade, an_attempt, an_intent, an_order

SYMBOL = SymbolMetadata(
    symbol_id="S",
    base_asset="B",
    quote_asset="Q",
    price_decimals=2,
    quantity_decimals=3,
    order_types=frozenset(OrderType),
)
quantities = st.integers(1, 10**9)
prices = st.integers(1, 10**9)
sides = st.sampled_from(Side)
exposures = st.builds(
    Exposure,
    position=st.integers(-(10**9), 10**9),
    orders=st.integers(0, 20),
    buys=quantities,
    sells=quantities,
    notional=st.integers(0, 10**15),
    last_price=st.none() | prices,
)


def an_order_of(quantity: int, price: int | None, side: Side = Side.BUY) -> StandardOrder:
    """A LIMIT order, or a MARKET order without a price."""
    kind = OrderType.MARKET if price is None else OrderType.LIMIT
    return StandardOrder(symbol_id="S", side=side, order_type=kind, quantity=quantity, price=price)


def names(found: list[Any]) -> set[str]:
    return {item.constraint for item in found}


def scaled(value: int, decimals: int) -> Decimal:
    return Decimal(value).scaleb(-decimals)


@given(exposure=exposures, quantity=quantities, price=prices, side=sides, off=st.sampled_from([-1, 0, 1]))
def test_each_limit_is_exact(exposure: Exposure, quantity: int, price: int, side: Side, off: int) -> None:
    """An order passes at each figure and above; one unit below, exactly that limit rejects it."""
    worst = exposure.worst(side) + quantity
    figures = {
        "order_quantity_max": (quantity, 3),
        "order_notional_max": (quantity * price, 5),
        "open_orders_max": (exposure.orders + 1, 0),
        "open_notional_max": (exposure.notional + quantity * price, 5),
        "position_max": (worst, 3),
    }
    for name, (figure, decimals) in figures.items():
        if figure + off < 0:
            continue
        limit = figure + off if decimals == 0 else scaled(figure + off, decimals)
        found = violations(Limits(**{name: limit}), exposure, RiskChange(an_order_of(quantity, price, side)), SYMBOL)
        assert names(found) == ({name} if off < 0 else set())


@given(
    exposure=exposures, quantity=quantities, price=prices, side=sides, more=st.integers(0, 10**6),
    limit=st.integers(0, 10**9),
)  # fmt: skip
def test_limits_are_monotone(exposure: Exposure, quantity: int, price: int, side: Side, more: int, limit: int) -> None:
    """A limit that rejects an order also rejects a larger one, and the same one with more exposure."""
    limits = Limits(
        order_quantity_max=scaled(limit, 3),
        order_notional_max=limit,
        open_orders_max=10,
        open_notional_max=limit,
        position_max=scaled(limit, 3),
    )
    small = names(violations(limits, exposure, RiskChange(an_order_of(quantity, price, side)), SYMBOL))
    large = names(violations(limits, exposure, RiskChange(an_order_of(quantity + more, price, side)), SYMBOL))
    fuller = exposure.plus(open_risk_of(an_order_of(quantity, price, side), more))

    assert small <= large
    assert small <= names(violations(limits, fuller, RiskChange(an_order_of(quantity, price, side)), SYMBOL))


@given(exposure=exposures, quantity=quantities, less=quantities, price=prices, side=sides, filled=quantities)
def test_reductions_are_never_rejected(
    exposure: Exposure, quantity: int, less: int, price: int, side: Side, filled: int
) -> None:
    """A change that reduces, or cancels the rest, passes the tightest limits."""
    limits = Limits(
        order_quantity_max=0, order_notional_max=0, open_orders_max=0, open_notional_max=0, position_max=0,
        price_collar_percent=0,
    )  # fmt: skip
    known = an_order_of(quantity + less, price, side)
    claim = open_risk_of(known, known.quantity)

    assert violations(limits, exposure, RiskChange(an_order_of(quantity, price, side), 0, known, claim), SYMBOL) == []
    ends = RiskChange(an_order_of(min(filled, quantity), price + 1, side), filled, known, claim)
    assert violations(limits, exposure, ends, SYMBOL) == []


@given(last=prices, price=prices, percent=st.integers(0, 10**4))
def test_the_collar_is_exact(last: int, price: int, percent: int) -> None:
    """A price is rejected exactly if it is further from the last price than the percentage."""
    limits = Limits(price_collar_percent=scaled(percent, 2))

    found = violations(limits, Exposure(last_price=last), RiskChange(an_order_of(1, price)), SYMBOL)

    assert bool(found) == (abs(price - last) * 10_000 > percent * last)


def test_without_a_last_price_there_is_no_collar() -> None:
    """Without a fill or a reference price the collar is not checked."""
    change = RiskChange(an_order_of(1, 10_000))

    assert violations(Limits(price_collar_percent=1), Exposure(), change, SYMBOL) == []
    assert violations(Limits(price_collar_percent=1, reference_price=50), Exposure(), change, SYMBOL) != []
    newer = Exposure(last_price=10_000)
    assert violations(Limits(price_collar_percent=1, reference_price=50), newer, change, SYMBOL) == []


def test_a_change_towards_the_market_passes_the_collar() -> None:
    """An order outside the collar may move closer to the market, not away from it."""
    limits, exposure, known = Limits(price_collar_percent=1), Exposure(last_price=10_000), an_order_of(5, 5_000)
    claim = open_risk_of(known, 5)

    assert violations(limits, exposure, RiskChange(an_order_of(5, 6_000), 0, known, claim), SYMBOL) == []
    assert names(violations(limits, exposure, RiskChange(an_order_of(5, 4_000), 0, known, claim), SYMBOL)) == {
        "price_collar_percent"
    }


@pytest.mark.parametrize("name", ["order_notional_max", "open_notional_max"])
def test_a_market_order_is_valued_at_the_last_price(name: str) -> None:
    """Without a last price a market order is rejected with a reason."""
    limits, change = Limits(**{name: 20}), RiskChange(an_order_of(2_000, None))

    assert violations(limits, Exposure(last_price=1_000), change, SYMBOL) == []
    assert names(violations(limits, Exposure(last_price=1_001), change, SYMBOL)) == {name}
    (found,) = violations(limits, Exposure(), change, SYMBOL)
    assert "no last price is known" in str(found)


def test_limits_of_a_symbol_override_the_defaults() -> None:
    """Limits that a symbol does not set are the default ones."""
    settings = LimitSettings(
        default=Limits(order_quantity_max=5, open_orders_max=3),
        symbols={"S": Limits(order_quantity_max=Decimal("0.5"))},
    )

    assert settings.of("S") == Limits(order_quantity_max=Decimal("0.5"), open_orders_max=3)
    assert settings.of("T") == settings.default
    assert LimitSettings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize("wrong", [0.1, True, "-1", "NaN", "1e-30", "x", None])
def test_an_amount_is_an_exact_decimal(wrong: Any) -> None:
    """Floats, negative numbers and other values are rejected; None is no limit."""
    if wrong is None:
        assert Limits(position_max=wrong) == Limits()
        return
    with pytest.raises(pydantic.ValidationError):
        Limits(position_max=wrong)


def test_a_reference_price_is_for_one_symbol() -> None:
    """A default reference price, which would hold for every symbol, is rejected."""
    with pytest.raises(pydantic.ValidationError, match="one symbol"):
        LimitSettings(default=Limits(reference_price=1))


# -------------------------------------------------------------------------------------------------------------- claims
def of(record: Any) -> list[tuple[Side, int, int]]:
    return [(claim.side, claim.quantity, claim.notional) for claim in open_risks(record)]


def test_an_intent_counts_before_it_is_sent() -> None:
    """An intent counts with its whole order, once."""
    journal = Journal()
    journal.append("i", events.IntentCreated(intent=an_intent()))

    assert of(journal.record()) == [(Side.BUY, 100, 1000)]


def test_an_unknown_submit_counts_once() -> None:
    """An unknown submit counts, also after its intent was canceled: it may have arrived."""
    journal = a_submitted_journal(an_order(100))
    assert of(journal.record()) == [(Side.BUY, 100, 1000)]

    journal.append("i", events.IntentCancelRequested(intent_id="i", generation=2, requested_at_ns=1))
    assert of(journal.record()) == [(Side.BUY, 100, 1000)]


def test_a_filled_quantity_is_not_open_risk() -> None:
    """After a fill only the rest counts as open risk."""
    journal = a_submitted_journal(an_order(100))
    journal.hear("i", a_trade("t1", 30))

    assert of(journal.record()) == [(Side.BUY, 70, 700)]


def test_an_unknown_amend_counts_with_the_larger_terms() -> None:
    """The venue may have enlarged the order, so the larger terms count."""
    journal = a_submitted_journal(an_order(100))
    journal.hear("i", a_trade("t1", 30))
    journal.append("i", an_attempt(AttemptKind.AMEND, "c2", an_order(150), number=2, target_client_order_id="c1"))

    assert of(journal.record()) == [(Side.BUY, 120, 1200)]


def test_adding_and_removing_a_risk_changes_nothing() -> None:
    """Adding a risk to an exposure and removing it again gives the same exposure."""
    claim = OpenRisk("S", Side.SELL, 5, 50, 2)

    assert Exposure().plus(claim).plus(claim.negative(), orders=-1) == Exposure()
    assert Exposure(position=3).plus(claim).worst(Side.SELL) == 2
