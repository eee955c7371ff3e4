"""Orders at the scripted exchange."""

from __future__ import annotations

from typing import Any

from kernel.order_spec import OrderType, Side, StandardOrder


def buy(quantity: int = 2, price: int = 100, **terms: Any) -> StandardOrder:
    """A LIMIT order to buy in the one symbol."""
    fields: dict[str, Any] = {"symbol_id": "S", "side": Side.BUY, "order_type": OrderType.LIMIT}
    return StandardOrder(**{**fields, "quantity": quantity, "price": price, **terms})
