"""The balances that the account should have now, with the amounts that open orders lock. Computed at a query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from kernel.limits import OpenRisk
from kernel.models import Balance, ExternalOrder
from kernel.order_spec import Side
from projections.folds.reference import Reference


def expected_balances(
    totals: Mapping[str, int], open_orders: Iterable[OpenRisk], reference: Reference, last_prices: Mapping[str, int]
) -> dict[str, Balance]:
    """Return the expected balances by asset; `last_prices` values orders without a price."""
    locked: Counter[str] = Counter()
    for risk in open_orders:
        locked.update(locked_by(risk, reference, last_prices.get(risk.symbol_id, 0)))
    return {
        name: Balance(
            asset_id=name, total=totals.get(name, 0), locked=locked[name], free=totals.get(name, 0) - locked[name]
        )
        for name in sorted({*totals, *locked})
    }


def locked_by(risk: OpenRisk, reference: Reference, last_price: int) -> dict[str, int]:
    """Return the amount of the asset that orders of one symbol and side lock, rounded up; empty if a scale is unknown."""
    symbol = reference.symbol(risk.symbol_id)
    if symbol is None:
        return {}
    if risk.side is Side.SELL:
        asset_id, amount, decimals = symbol.base_asset, risk.quantity, symbol.quantity_decimals
    else:
        asset_id, amount = symbol.quote_asset, risk.notional + risk.unpriced * last_price
        decimals = symbol.price_decimals + symbol.quantity_decimals
    if (scale := reference.decimals.get(asset_id)) is None:
        return {}
    return {asset_id: -(-amount * 10**scale // 10**decimals)}


def external_risks(orders: Iterable[ExternalOrder]) -> Iterable[OpenRisk]:
    """Yield what open external orders may still trade, as far as their terms are known."""
    for order in orders:
        if order.live and order.side is not None and order.quantity is not None and order.quantity > order.cum_qty:
            rest = order.quantity - order.cum_qty
            unpriced = rest if order.price is None else 0
            yield OpenRisk(order.symbol_id, order.side, rest, rest * (order.price or 0), unpriced)
