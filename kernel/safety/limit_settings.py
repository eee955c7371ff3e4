"""Pre-trade limits as settings: a part of `KernelSettings`, recorded by the leader and read by every kernel on its log."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import pydantic
from pydantic import ConfigDict, Field

from kernel.order_spec import Counter, SymbolId


def _exact(value: Any) -> Any:
    if isinstance(value, bool | float):
        raise ValueError(f'must be text, "{value}": a float is not exact')
    return value


Amount = Annotated[
    Decimal, pydantic.BeforeValidator(_exact), Field(ge=0, max_digits=40, decimal_places=18, allow_inf_nan=False)
]
"""An exact decimal of at least 0."""
Percent = Annotated[
    Decimal,
    pydantic.BeforeValidator(_exact),
    Field(ge=0, max_digits=16, decimal_places=6, allow_inf_nan=False),
]
"""An exact decimal percentage of at least 0."""


class Model(pydantic.BaseModel):
    """Base of configurations: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Limits(Model):
    """Pre-trade limits of one symbol, in decimals; None means no limit.

    Open orders are those that work or may work at the venue, and those that are still to be sent.
    """

    order_quantity_max: Amount | None = None
    """Largest quantity of one order, its filled part included, in the base asset."""
    order_notional_max: Amount | None = None
    """Largest price × quantity of one order, in the quote asset. Orders without a price are valued at the last price, and
    refused while neither it nor a `reference_price` is known."""
    open_orders_max: Counter | None = None
    """Most intents with an open order."""
    open_notional_max: Amount | None = None
    """Largest price × quantity of all open orders of both sides, in the quote asset."""
    position_max: Amount | None = None
    """Largest position, long or short, in the base asset, if all open orders of one side fill."""
    price_collar_percent: Percent | None = None
    """Largest distance of a limit price from the last price (for STOP_LIMIT: from its trigger price). The last price is
    that of the newest fill, else the `reference_price`; without either nothing is checked."""
    commands_per_s_max: Annotated[Counter, Field(ge=1)] | None = None
    """Most orders that one kernel places or changes within a second; the default limit counts all symbols together.
    Changes that only reduce are not counted, cancels are never refused."""
    reference_price: Amount | None = None
    """Used as the last price until a fill is known; only for a single symbol."""


class LimitSettings(Model):
    """The pre-trade limits of an exchange account, which hold for each symbol by itself."""

    default: Limits = Limits()
    """Limits of every symbol."""
    symbols: dict[SymbolId, Limits] = Field(default_factory=dict)
    """Symbol → limits that override the default ones."""

    @pydantic.model_validator(mode="after")
    def _possible(self) -> LimitSettings:
        if self.default.reference_price is not None:
            raise ValueError("reference_price is for one symbol; set it under `symbols`")
        return self

    @property
    def any(self) -> bool:
        return self.default != UNLIMITED or bool(self.symbols)

    def of(self, symbol_id: str) -> Limits:
        own = self.symbols.get(symbol_id)
        if own is None:
            return self.default
        set_limits = {name: value for name in Limits.model_fields if (value := getattr(own, name)) is not None}
        return self.default.model_copy(update=set_limits)


UNLIMITED = Limits()
