"""A state without its records, in types that can be stored. Field names are part of the checkpoint format.

Made and restored by `StateData`, stored by `checkpoint`. Everything is a copy: the state may change while it is written.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kernel.groups import Group
from kernel.lifecycle.attribution import OrderRequest
from kernel.models import Finding
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.safety.heartbeat import Heartbeat
from kernel.safety.trading_halts import TradingStatus
from projections.folds.external_orders import ExternalEntry
from projections.folds.ledger import Ledger
from projections.folds.rejection_storms import Storms
from projections.folds.trades_cursors import TradesCursors
from projections.retention.policy import RetentionPolicy


class Evicted(msgspec.Struct, frozen=True):
    """Counts the intents that are no longer in memory."""

    intents: int = 0
    """Number of evictions."""
    digest: str = ""
    """Running SHA-256 in hex over the evicted records."""


class StateSnapshot(msgspec.Struct, frozen=True):
    """A state without its records."""

    position: int
    log_id: str
    exchange_id: str
    created_at_ns: int
    epoch: int
    trading_status: TradingStatus
    trades_cursors: TradesCursors
    confirmed: tuple[int, int]
    balances_at_ns: int | None
    venue_version: int
    recorded_limits: dict[str, Any]
    live: dict[str, str | None]
    by_client_order_id: dict[str, str]
    by_exchange_order_id: dict[str, str | tuple[str, ...]]
    groups: list[Group]
    outside: dict[str, dict[str, int]]
    group_of: dict[str, str]
    symbols: list[SymbolMetadata]
    assets: list[AssetMetadata]
    findings: list[Finding]
    ledger: Ledger
    last_prices: dict[str, int]
    storms: Storms
    externals: list[ExternalEntry]
    dead_requests: dict[str, OrderRequest]
    heartbeats: dict[str, Heartbeat]
    transfer_keys: set[str]
    retention: RetentionPolicy
    evicted: Evicted
