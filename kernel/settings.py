"""The kernel's settings: every bound, with its unit and its reason.

Built by the composition root or the CLI (`ORDERCTL_…` variables over a file over these defaults), passed in, never global.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import pydantic
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from kernel.clock import NS_PER_S
from kernel.models import ExternalOrderPolicy
from kernel.order_spec import Counter, Model, SymbolId

PERCENT_DECIMALS = 6


def _exact(value: Any) -> Any:
    """Decimals come as text, integers or `Decimal`; a float's digits are not what was meant."""
    if isinstance(value, bool | float):
        raise ValueError(f'write it as text, "{value}": a float is not exact')
    return value


Amount = Annotated[
    Decimal, pydantic.BeforeValidator(_exact), Field(ge=0, max_digits=40, decimal_places=18, allow_inf_nan=False)
]
"""An exact decimal that is not negative."""
Percent = Annotated[
    Decimal,
    pydantic.BeforeValidator(_exact),
    Field(ge=0, max_digits=16, decimal_places=PERCENT_DECIMALS, allow_inf_nan=False),
]
"""An exact decimal number of percent."""


class Limits(Model):
    """What is allowed in one symbol; none: no limit."""

    order_quantity_max: Amount | None = None
    """Largest quantity of one order, its filled part included, in the base asset."""
    order_notional_max: Amount | None = None
    """Largest price × quantity of one order, in the quote asset. An order without a price is valued at the last price;
    while none is known it is refused: give a `reference_price`."""
    open_orders_max: Counter | None = None
    """How many intents may have an order that works, may work or is wanted."""
    open_notional_max: Amount | None = None
    """Largest price × quantity of all that works, may work or is wanted, both sides together, in the quote asset."""
    position_max: Amount | None = None
    """Largest position, long or short, if all of one side that works, may work or is wanted is filled."""
    price_collar_percent: Percent | None = None
    """How far a limit price may be from the last price (a STOP_LIMIT's: from its own trigger price). The last price is that
    of the newest fill in the log, before the first one the `reference_price`; while neither is known nothing is checked."""
    commands_per_s_max: Annotated[Counter, Field(ge=1)] | None = None
    """How many orders may be placed or changed within a second by one kernel; given as the default it counts those in all
    symbols together. What only reduces is not counted, and what cancels is never refused."""
    reference_price: Amount | None = None
    """Stands for the last price until a fill is known. For single symbols only."""


class LimitSettings(Model):
    """The limits of an exchange account: for each symbol by itself, with what single symbols have instead."""

    default: Limits = Limits()
    """For every symbol."""
    symbols: dict[SymbolId, Limits] = Field(default_factory=dict)
    """Symbol → what is different there; what is not given is as in `default`."""

    @pydantic.model_validator(mode="after")
    def _possible(self) -> LimitSettings:
        if self.default.reference_price is not None:
            raise ValueError("a reference_price is that of one symbol: give it under symbols")
        return self

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        return self.default != UNLIMITED or bool(self.symbols)

    def of(self, symbol_id: str) -> Limits:
        """The limits of a symbol."""
        own = self.symbols.get(symbol_id)
        if own is None:
            return self.default
        given = {name: value for name in Limits.model_fields if (value := getattr(own, name)) is not None}
        return self.default.model_copy(update=given)


UNLIMITED = Limits()


class KernelSettings(BaseSettings):
    """Times in seconds, as their names say. Impossible relations are refused."""

    model_config = SettingsConfigDict(
        env_prefix="ORDERCTL_KERNEL_", frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    ack_timeout_s: float = Field(default=5.0, ge=0)
    """How long `place_order` and `cancel_order` wait for the venue's answer before they return."""
    send_budget_s: float = Field(default=1.0, gt=0)
    """An attempt is written to the wire within this of its decision, or not at all."""
    request_timeout_s: float = Field(default=5.0, gt=0)
    """How long an answer is awaited before the outcome is unknown."""
    query_timeout_s: float = Field(default=10.0, gt=0)
    """How long a question to the venue may take."""
    workers: int = Field(default=8, ge=1, le=256)
    """Keys reconciled at the same time."""
    queue_keys_max: int = Field(default=1_000_000, ge=1)
    """Keys that the work queue holds at most; more is a bug, and stops the engine."""
    backoff_s_min: float = Field(default=0.1, gt=0)
    """First backoff after a failure."""
    backoff_s_max: float = Field(default=30.0, gt=0)
    """Longest backoff."""
    settle_backoff_s_max: float = Field(default=5.0, gt=0)
    """Longest pause between looks for what is unknown."""
    resync_interval_s: float = Field(default=30.0, gt=0)
    """How often every live key is looked at again; costs nothing at the venue."""
    relist_interval_s: float = Field(default=60.0, gt=0)
    """How often the venue is asked for everything again."""
    order_age_s_max: float = Field(default=180.0, gt=0)
    """A live order that the venue has not confirmed for this long is asked for by itself."""
    unknown_too_long_s: float = Field(default=60.0, gt=0)
    """An attempt unknown for longer raises a finding."""
    assumed_max_delay_s: float | None = Field(default=None, gt=0)
    """At a venue without a validity window: after this, absence is assumed (and marked as inferred). Off by default."""
    trades_overlap_s: float = Field(default=5.0, ge=0)
    """Trades are asked for from this long before the cursor, on top of the venue's read lag."""
    reconnect_s_min: float = Field(default=0.1, gt=0)
    """First pause before a lost venue is connected to again."""
    reconnect_s_max: float = Field(default=10.0, gt=0)
    """Longest such pause."""
    stop_timeout_s: float = Field(default=10.0, gt=0)
    """How long `stop` waits for calls that are out."""
    budget_reserved_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of each of the venue's rate limits that is kept for cancels, half of it also for settling what is unknown."""
    budget_ageing_s: float = Field(default=30.0, gt=0)
    """Where the venue's rate limits do not suffice: a priority that got nothing for this long goes first, once."""
    external_orders: ExternalOrderPolicy = ExternalOrderPolicy.IGNORE
    """What to do about orders of this account that are nobody's intent: IGNORE, ADOPT or CANCEL them."""
    external_orders_of_kernels: bool = False
    """Whether that holds for orders that have the client ids of a kernel with another log too: two kernels on one account
    would take each other's orders over."""
    storm_rejections: int = Field(default=10, ge=0, le=10_000)
    """So many intents of a symbol refused alike are a storm: its orders wait until its finding is resolved. 0: never."""
    storm_window_s: float = Field(default=60.0, gt=0)
    """Rejections further apart than this are no storm."""
    limits: LimitSettings = LimitSettings()
    """Pre-trade limits, in decimals as text; none by default. The kernel that leads records them, and every kernel on its
    log keeps to them."""

    @pydantic.model_validator(mode="after")
    def _possible(self) -> KernelSettings:
        if self.backoff_s_min > self.backoff_s_max or self.reconnect_s_min > self.reconnect_s_max:
            raise ValueError("a shortest pause is longer than the longest")
        if self.order_age_s_max < self.relist_interval_s:
            raise ValueError("order_age_s_max is below relist_interval_s: every order would be asked for by itself")
        return self


def ns(seconds: float) -> int:
    """Seconds as integer nanoseconds."""
    return round(seconds * NS_PER_S)
