"""Scaled integers as decimals, for tables and JSON. The other direction is `order_input`.

Scales come from the symbols and assets in the log. JSON gets exact decimal strings with all places; tables drop trailing
zeros of quantities. A value without a known scale stays an integer (in JSON a number, so that the two cannot be confused).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from kernel.order_spec import AssetMetadata, SymbolMetadata, from_scaled, trimmed

PRICES = frozenset({"price", "stop_price", "avg_px", "last_px", "tick_size", "min_price", "max_price"})
QUANTITIES = frozenset(
    {
        "quantity", "display_quantity", "cum_qty", "leaves_qty", "inferred_qty", "final_cum_qty", "last_qty", "order_qty",
        "lot_size", "min_quantity", "max_quantity", "allowed_qty", "excess", "max_excess", "bought", "sold",
    }
)  # fmt: skip
NOTIONALS = frozenset({"cum_notional", "cost", "realized_pnl", "min_notional", "max_notional", "paid", "received"})
AMOUNTS = frozenset({"total", "locked", "free"})
AMOUNTS_BY_ASSET = frozenset({"fees", "margin"})
OPAQUE = frozenset({"metadata", "raw"})
"""Fields with content of others, which is passed through."""


def decimal_text(number: Decimal) -> str:
    """Format a decimal without an exponent, with all places."""
    return f"{number:f}"


class Scales:
    """The scales of symbols and assets, as far as known."""

    def __init__(
        self, symbol: Callable[[str], SymbolMetadata | None], asset: Callable[[str], AssetMetadata | None]
    ) -> None:
        self._symbol = symbol
        self._asset = asset

    def price(self, symbol_id: str, value: int | None) -> str:
        """Format a price for a table, with all places; `-` for None."""
        known = self._symbol(symbol_id)
        if value is None:
            return "-"
        return str(value) if known is None else decimal_text(known.price_to_decimal(value))

    def quantity(self, symbol_id: str, value: int | None) -> str:
        """Format a quantity, signed or not, for a table; `-` for None."""
        known = self._symbol(symbol_id)
        if value is None:
            return "-"
        return str(value) if known is None else trimmed(known.quantity_to_decimal(value))

    def notional(self, symbol_id: str, value: int) -> str:
        known = self._symbol(symbol_id)
        return str(value) if known is None else trimmed(known.notional_to_decimal(value))

    def amount(self, asset_id: str, value: int) -> str:
        known = self._asset(asset_id)
        return str(value) if known is None else trimmed(from_scaled(value, decimals=known.decimals))

    def data(self, value: Any, symbol_id: str | None) -> Any:
        """Return a model's JSON with every price, quantity and amount as an exact decimal string."""
        if isinstance(value, list):
            return [self.data(item, symbol_id) for item in value]
        if not isinstance(value, dict):
            return value
        return {key: self._field(key, item, value, symbol_id) for key, item in value.items()}

    def _field(self, key: str, value: Any, beside: dict[str, Any], symbol_id: str | None) -> Any:
        if key in OPAQUE:
            return value
        if key in AMOUNTS_BY_ASSET and isinstance(value, dict):
            return {asset_id: self._exact_amount(asset_id, amount) for asset_id, amount in value.items()}
        if isinstance(value, int) and not isinstance(value, bool):
            return self._number(key, value, beside, symbol_id)
        return self.data(value, symbol_id)

    def _number(self, key: str, value: int, beside: dict[str, Any], symbol_id: str | None) -> str | int:
        if key == "fee":
            return self._exact_amount(beside.get("fee_asset"), value)
        if key in AMOUNTS and "asset_id" in beside:
            return self._exact_amount(beside["asset_id"], value)
        known = self._symbol(symbol_id) if symbol_id is not None else None
        if known is None:
            return value
        if key in PRICES:
            return decimal_text(known.price_to_decimal(value))
        if key in QUANTITIES:
            return decimal_text(known.quantity_to_decimal(value))
        return decimal_text(known.notional_to_decimal(value)) if key in NOTIONALS else value

    def _exact_amount(self, asset_id: str | None, value: int) -> str | int:
        known = self._asset(asset_id) if asset_id is not None else None
        return value if known is None else decimal_text(from_scaled(value, decimals=known.decimals))
