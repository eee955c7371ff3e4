"""What is given from outside is refused in our own words."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from kernel.errors import ValidationError
from kernel.models import OrderIntent
from kernel.order_spec import StandardOrder
from kernel.settings import KernelSettings
from kernel.values import Value
from kernel.values.edge import validated, violations_of

ORDER = {"symbol_id": "BTCUSDT", "side": "BUY", "order_type": "LIMIT", "quantity": 1, "price": 1}
INTENT = {"intent_id": "a", "exchange_id": "paper", "order": ORDER}


@pytest.mark.parametrize(
    ("kind", "given", "lines"),
    [
        (StandardOrder, {**ORDER, "side": "HOLD"}, ["side `HOLD`: must be 'BUY' or 'SELL'"]),
        (StandardOrder, {**ORDER, "quantity": -1}, ["quantity `-1`: must be at least 0"]),
        (StandardOrder, {**ORDER, "quantity": "x"}, ["quantity `x`: must be an integer"]),
        (StandardOrder, {**ORDER, "colour": {}}, ["colour is not a known field"]),
        (StandardOrder, {"symbol_id": "B"}, [f"{name} is required" for name in ("side", "order_type", "quantity")]),
        (
            StandardOrder,
            {**ORDER, "quantity": 0, "price": None},
            [
                "quantity `0`: must be more than 0",
                "price is required for LIMIT orders",
            ],
        ),
        (
            OrderIntent,
            {**INTENT, "intent_id": "a/b"},
            ["intent id `a/b`: must be 1 to 64 characters of `A-Z a-z 0-9 . _ -`, the first a letter or digit"],
        ),
        (OrderIntent, {**INTENT, "metadata": []}, ["metadata: must be a mapping"]),
    ],
)
def test_violations_name_field_rule_and_value(kind: type[Value], given: dict[str, Any], lines: list[str]) -> None:
    """Each violation names the field, the rule and the value; none repeats a message of pydantic."""
    with pytest.raises(ValidationError) as caught:
        validated(given, kind)

    assert list(map(str, caught.value.violations)) == lines


def test_the_field_of_a_violation_is_the_models() -> None:
    """The sentence says "intent id", the attribute keeps the field's name for programs."""
    with pytest.raises(ValidationError) as caught:
        validated({**INTENT, "intent_id": "a/b"}, OrderIntent)
    [violation] = caught.value.violations
    assert (violation.field, violation.value, str(violation)[:9]) == ("intent_id", "a/b", "intent id")


def test_settings_are_refused_in_the_same_words() -> None:
    """What pydantic finds wrong with the settings becomes the same kind of violation."""
    with pytest.raises(pydantic.ValidationError) as caught:
        KernelSettings(workers=0)
    assert list(map(str, violations_of(caught.value))) == ["workers `0`: must be at least 1"]


def test_every_violation_of_a_nested_value_is_listed() -> None:
    """A constructed intent is validated down to its order's fields, and all that is wrong is listed."""
    order = StandardOrder(**{**ORDER, "quantity": -1, "side": "HOLD"})
    with pytest.raises(ValidationError) as caught:
        validated(OrderIntent(intent_id="a b", exchange_id="paper", order=order), OrderIntent)
    assert {item.field for item in caught.value.violations} == {"intent_id", "order.quantity", "order.side"}


def test_metadata_is_copied() -> None:
    """Whoever keeps the metadata that an intent was made from cannot change the intent."""
    given: dict[str, Any] = {"tags": ["a"]}
    intent = OrderIntent(intent_id="a", exchange_id="paper", order=StandardOrder.checked(**ORDER), metadata=given)
    kept = validated(intent, OrderIntent)
    given["tags"].append("b")
    assert kept.metadata == {"tags": ["a"]}
