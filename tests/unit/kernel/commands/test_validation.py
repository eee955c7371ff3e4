"""What is given from outside is refused in our own words."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from kernel.commands.validation import violations_of
from kernel.models import OrderIntent
from kernel.order_spec import Model, StandardOrder
from kernel.settings import KernelSettings

ORDER = {"symbol_id": "BTCUSDT", "side": "BUY", "order_type": "LIMIT", "quantity": 1, "price": 1}
INTENT = {"intent_id": "a", "exchange_id": "paper", "order": ORDER}


@pytest.mark.parametrize(
    ("model", "given", "lines"),
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
        (KernelSettings, {"workers": 0}, ["workers `0`: must be at least 1"]),
    ],
)
def test_violations_name_field_rule_and_value(model: type[Model], given: dict[str, Any], lines: list[str]) -> None:
    """Each violation names the field, the rule and the value; none repeats a message of pydantic."""
    with pytest.raises(pydantic.ValidationError) as caught:
        model.model_validate(given)

    assert [str(item) for item in violations_of(caught.value)] == lines


def test_the_field_of_a_violation_is_the_models() -> None:
    """The sentence says "intent id", the attribute keeps the field's name for programs."""
    with pytest.raises(pydantic.ValidationError) as caught:
        OrderIntent.model_validate({**INTENT, "intent_id": "a/b"})
    [violation] = violations_of(caught.value)
    assert (violation.field, violation.value, str(violation)[:9]) == ("intent_id", "a/b", "intent id")
