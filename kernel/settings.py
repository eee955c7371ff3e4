"""The kernel's settings: every bound, with its unit and its reason.

Built by the composition root or the CLI (`ORDERCTL_…` variables over a file over these defaults), passed in, never global.
"""

from __future__ import annotations

import pydantic
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from kernel.clock import NS_PER_S
from kernel.limits import LimitSettings
from kernel.models import ExternalOrderPolicy


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
