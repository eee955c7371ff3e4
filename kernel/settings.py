"""The kernel's settings: every timeout and bound, with its unit.

Built by the composition root or the CLI: environment variables override a file, which overrides these defaults.
"""

from __future__ import annotations

import pydantic
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from kernel.clock import NS_PER_S
from kernel.models import ExternalOrderPolicy, VenueTermsPolicy
from kernel.order_spec import SymbolId
from kernel.safety.limit_settings import LimitSettings


class KernelSettings(BaseSettings):
    """Timeouts, bounds and policies of a kernel; names ending in `_s` are in seconds.

    Each setting is read from `ORDERCTL_KERNEL_<NAME>` unless it is given.

    Raises:
        pydantic.ValidationError: A value is out of range, or two values contradict each other.
    """

    model_config = SettingsConfigDict(env_prefix="ORDERCTL_KERNEL_", frozen=True, extra="forbid", allow_inf_nan=False)

    ack_timeout_s: float = Field(default=5.0, ge=0)
    """Longest wait of `place_order`, `modify_order` and `cancel_order` for the venue's answer."""
    send_budget_s: float = Field(default=1.0, gt=0)
    """Time from an attempt's decision within which it is written to the wire, or not at all."""
    request_timeout_s: float = Field(default=5.0, gt=0)
    """Longest wait for the answer to a request; then its outcome is unknown."""
    query_timeout_s: float = Field(default=10.0, gt=0)
    """Longest wait for the answer to a query."""
    workers: int = Field(default=8, ge=1, le=256)
    """Intents reconciled at the same time."""
    queue_keys_max: int = Field(default=1_000_000, ge=1)
    """Most keys in the work queue; more is a bug and stops the engine."""
    backoff_s_min: float = Field(default=0.1, gt=0)
    """First backoff after a failure."""
    backoff_s_max: float = Field(default=30.0, gt=0)
    """Longest backoff."""
    settle_backoff_s_max: float = Field(default=5.0, gt=0)
    """Longest pause between status queries for an unknown outcome."""
    resync_interval_s: float = Field(default=30.0, gt=0)
    """Interval at which every live intent is reconciled again; makes no venue call by itself."""
    relist_interval_s: float = Field(default=60.0, gt=0)
    """Interval of full venue snapshots."""
    reference_interval_s: float = Field(default=600.0, gt=0)
    """Interval at which symbols and assets are queried again; `relist_interval_s` while a live order's symbol does not
    trade."""
    symbols: frozenset[SymbolId] | None = None
    """The symbols to record, where the venue lists many; None for all of them. What the log has is kept up to date."""
    order_age_s_max: float = Field(default=180.0, gt=0)
    """Age of a live order's last confirmation after which its status is queried."""
    unknown_too_long_s: float = Field(default=60.0, gt=0)
    """Time after which an unknown attempt raises a finding."""
    assumed_max_delay_s: float | None = Field(default=None, gt=0)
    """Venues without a validity window: time after which absence is assumed, marked as inferred. Off by default."""
    trades_overlap_s: float = Field(default=5.0, ge=0)
    """Overlap of trade queries before the cursor, on top of the venue's read lag."""
    stream_echo_s: float = Field(default=5.0, gt=0)
    """Time within which the stream of reports brings what the venue's answers and queries show. Without it the account is
    queried, and a stream that lacks what the query shows is reconnected."""
    stream_quiet_s: float = Field(default=15.0, gt=0)
    """While an order is live, the account is queried after this time without a report, a heartbeat or a list, as nothing
    else tells a quiet stream from a silent one."""
    reconnect_s_min: float = Field(default=0.1, gt=0)
    """First pause before reconnecting to the venue."""
    reconnect_s_max: float = Field(default=10.0, gt=0)
    """Longest pause before reconnecting to the venue."""
    stop_timeout_s: float = Field(default=10.0, gt=0)
    """Longest wait of `stop` for open venue calls."""
    budget_reserved_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of each rate limit reserved for cancels, half of it also for status queries of unknown attempts."""
    budget_ageing_s: float = Field(default=30.0, gt=0)
    """Time after which a priority that got no rate-limit capacity goes first, once."""
    external_orders: ExternalOrderPolicy = ExternalOrderPolicy.IGNORE
    """The policy for orders of the account that belong to no intent: IGNORE, ADOPT or CANCEL."""
    external_orders_of_kernels: bool = False
    """True if that includes orders with the client order ids of a kernel on another log; two kernels on one account would
    take over each other's orders."""
    account_exclusive: bool = False
    """True if only this log's kernels trade on the account. At a venue whose lists or trades lack client order ids, the one
    external order that fits an unknown submit is then attributed to it; else an operator decides."""
    venue_terms: VenueTermsPolicy = VenueTermsPolicy.REQUIRE
    """The policy if the venue works another price or quantity than requested: REQUIRE the intent's terms, or ACCEPT those
    that work, unless the quantity is larger."""
    storm_rejections: int = Field(default=10, ge=0, le=10_000)
    """Equal rejections in one symbol that make a rejection storm, which stops its submits until the finding is resolved.
    0 disables it."""
    storm_window_s: float = Field(default=60.0, gt=0)
    """Time within which rejections count for a storm."""
    limits: LimitSettings = LimitSettings()
    """Pre-trade limits. The leader records them, and every kernel on its log enforces them."""

    @pydantic.model_validator(mode="after")
    def _possible(self) -> KernelSettings:
        if self.backoff_s_min > self.backoff_s_max or self.reconnect_s_min > self.reconnect_s_max:
            raise ValueError("backoff_s_min and reconnect_s_min must not exceed backoff_s_max and reconnect_s_max")
        if self.order_age_s_max < self.relist_interval_s:
            raise ValueError("order_age_s_max is below relist_interval_s: every order would be queried by itself")
        return self


def ns(seconds: float) -> int:
    """Return seconds as integer nanoseconds."""
    return round(seconds * NS_PER_S)
