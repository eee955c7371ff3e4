"""What a state holds beside the records of its intents, in types that can be written down and read back.

Made and taken by `StateData`, stored by `checkpoint`. Everything here is a copy: the state goes on while it is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kernel.groups import Group
from kernel.models import Finding
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.safety.heartbeat import Heartbeat
from kernel.safety.trading_halts import TradingStatus
from projections.folds.external_orders import ExternalEntry
from projections.folds.ledger import Ledger
from projections.folds.rejection_storms import RecentRejections
from projections.retention.policy import RetentionPolicy


@dataclass(frozen=True)
class Evicted:
    """What is over and no longer held."""

    intents: int = 0
    """How often one was let go."""
    digest: str = ""
    """Running SHA-256 over what was known of each, in hex."""


@dataclass(frozen=True)
class IndexSnapshot:
    """Where things are, as far as the records do not tell."""

    created: dict[str, int]
    with_order: dict[str, int]
    live: list[str]
    open_in: dict[str, str]
    by_client_order_id: dict[str, str]
    by_exchange_order_id: dict[str, str]


@dataclass(frozen=True)
class StateSnapshot:
    """A state without its records."""

    position: int
    log_id: str
    exchange_id: str
    created_at_ns: int
    epoch: int
    gates: TradingStatus
    trades_cursor_ns: int | None
    confirmed: tuple[int, int]
    balances_at_ns: int | None
    recorded_limits: dict[str, Any]
    indexes: IndexSnapshot
    groups: list[Group]
    group_of: dict[str, str]
    symbols: list[SymbolMetadata]
    assets: list[AssetMetadata]
    findings: list[Finding]
    ledger: Ledger
    last_prices: dict[str, int]
    storm_rejections: int
    storm_window_ns: int
    storms: RecentRejections
    externals: list[ExternalEntry]
    heartbeats: dict[str, Heartbeat]
    transfer_keys: list[str]
    keeping: RetentionPolicy
    heard: dict[str, int]
    let_go: Evicted
