"""The state that the kernel reads: a protocol, implemented by `projections.State`.

Read by the reconciler, the controller and the event-sourced stores. State is a fold of the log that one reader applies, in
order. It uses no clock and suspends only in `reached`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from kernel.events import BaseEvent
from kernel.groups import ExitReport, Group
from kernel.lifecycle.attribution import OrderRequest
from kernel.lifecycle.orders.trades import TradeEntry
from kernel.lifecycle.record import Record
from kernel.limits import Exposure, OpenRisk
from kernel.models import AccountState, ExternalOrder, Finding, OrderIntent, OrderState, Position
from kernel.order_spec import AssetMetadata, Side, StandardOrder, SymbolMetadata
from kernel.safety.heartbeat import Heartbeat
from kernel.safety.trading_halts import TradingStatus
from kernel.venues.base import ExecutionReport


class Applied(msgspec.Struct, frozen=True):
    """The changes that a batch of events made."""

    touched: tuple[str, ...]
    """Intents that have events in the batch."""
    differing: tuple[str, ...]
    """Those of them whose order differs from the intent now: the change feed."""


def joined(applied: Sequence[Applied]) -> Applied:
    """Join what the parts of a batch changed."""
    if len(applied) == 1:
        return applied[0]
    touched: dict[str, bool] = {}
    for part in applied:
        touched.update(dict.fromkeys(part.touched, False))
        touched.update(dict.fromkeys(part.differing, True))
    return Applied(tuple(touched), tuple(intent_id for intent_id, differs in touched.items() if differs))


def symbol_id_of(intent: OrderIntent | None, order: OrderState | None) -> str:
    """Return the symbol of the intent, else of the order."""
    return intent.order.symbol_id if intent else order.status.order.symbol_id if order else ""


class KernelState(Protocol):
    """The state folded from the log."""

    @property
    def position(self) -> int:
        """Position of the last event applied."""

    @property
    def log_id(self) -> str:
        """The log's 64 random bits in hex; empty before the first event."""

    @property
    def exchange_id(self) -> str:
        """The exchange account; empty before the first event."""

    @property
    def created_at_ns(self) -> int:
        """Instant at which the log was created."""

    @property
    def epoch(self) -> int:
        """Epoch of the newest leader."""

    @property
    def paused(self) -> bool:
        """True if sending is paused for all intents."""

    @property
    def paused_by(self) -> str:
        """Actor and reason of the pause of all intents; empty without one."""

    @property
    def trading_status(self) -> TradingStatus:
        """Pauses, halts and rejection storms; the same object until they change."""

    @property
    def trades_cursor_ns(self) -> int | None:
        """Venue instant up to which the log has every trade of the account; None before the first complete trades query."""

    @property
    def lists_trades_by_symbol(self) -> bool:
        """True once the venue has answered a trades query for single symbols."""

    def trades_cursor_of(self, symbol_id: str) -> int | None:
        """Return up to when the log has every trade in a symbol; None before the first complete query of it."""

    def apply(self, batch: Sequence[BaseEvent], rehydrated: Sequence[BaseEvent] = ()) -> Applied:
        """Fold a batch that begins after `position`, with the evicted streams that it needs."""

    def parts_of(self, batch: Sequence[BaseEvent]) -> Iterable[Sequence[BaseEvent]]:
        """Split a batch where records may be evicted."""

    def missing(self, part: Sequence[BaseEvent]) -> frozenset[str]:
        """Return the evicted streams that a part of a batch continues."""

    @property
    def evicted_count(self) -> int:
        """Number of terminal intents evicted so far."""

    def is_loaded(self, intent_id: str) -> bool:
        """Return whether an intent is in memory, or was never recorded."""

    def cache_streams(self, rehydrated: Sequence[BaseEvent]) -> None:
        """Cache evicted streams for the readers that ask now."""

    async def reached(self, position: int) -> None:
        """Return once `position` has been applied; raises the problem given to `fail`."""

    def fail(self, problem: BaseException) -> None:
        """Stop: everyone who waits in `reached`, now or later, gets this problem."""

    def record(self, intent_id: str) -> Record:
        """Return the record of an intent; an empty one if it is unknown."""

    def intent(self, intent_id: str) -> OrderIntent | None:
        """Return an intent, if known."""

    def effective_intent(self, intent_id: str) -> OrderIntent | None:
        """Return an intent as limited by its group."""

    def grouped_record(self, intent_id: str) -> Record:
        """Return the record of an intent, with the intent as limited by its group."""

    def group(self, group_id: str) -> Group | None:
        """Return a group created by `place_order_group`, if known."""

    def group_of(self, intent_id: str) -> Group | None:
        """Return the group of an intent, if any."""

    def groups(self) -> Iterable[Group]:
        """Return all groups, in order of creation."""

    def is_known_to_venue(self, group: Group) -> bool:
        """Return whether an order of a group ever was at the venue."""

    def awaits_parent(self, intent_id: str) -> bool:
        """Return whether the parent of its group may still release more of an order."""

    def overfilled_group(self, intent_id: str) -> Group | None:
        """Return the group of an intent if its overfill and its finding disagree."""

    def permitted_quantity(self, group: Group, intent_id: str, intended: int) -> int:
        """Return the total that a group permits a member whose intent has the total `intended`."""

    def is_exit(self, intent_id: str) -> bool:
        """Return whether an intent is an exit of a bracket that the kernel manages."""

    def is_report_due(self, intent_id: str) -> bool:
        """Return whether a finding about an intent or its group is to be raised or resolved."""

    def exit_report(self, intent_id: str) -> ExitReport | None:
        """Return the change of its group's `EXIT_MISSING` finding, for an exit of a bracket, if one is due or will be."""

    def group_excess(self, group: Group) -> int:
        """Return the quantity filled beyond what a group allows, at the quantity scale."""

    def order_state(self, intent_id: str) -> OrderState | None:
        """Return the order state as stores show it; None once it was forgotten."""

    def observed_order(self, intent_id: str) -> OrderState | None:
        """Return the order state that the reconciler acts on, forgotten or not; None if nothing was ever sent."""

    def intents(self) -> Iterable[OrderIntent]:
        """Return all intents, in order of creation."""

    def intents_of_symbol(self, symbol_id: str) -> Iterable[OrderIntent]:
        """Return the intents of a symbol, in order of creation."""

    def intent_symbols(self) -> list[str]:
        """Return the symbols of all intents in memory, and of those evicted since their trades were listed, sorted."""

    def order_states(self) -> Iterable[OrderState]:
        """Return all order states, in order of creation."""

    def live_intent_ids(self) -> list[str]:
        """Return the intents that should work, may be live or are unresolved, in order of creation."""

    def intent_id_of(self, *, client_order_id: str | None = None, exchange_order_id: str | None = None) -> str | None:
        """Return the newest intent with an order under one of these ids; the venue's id takes precedence.

        A lookup, not evidence: `streams.report_matching` decides to which intent a report belongs.
        """

    def intent_ids_of_order(self, exchange_order_id: str) -> Sequence[str]:
        """Return the intents with an order under a venue order id, which may be given again; the newest at the end."""

    def open_orders(self, symbol_id: str) -> int:
        """Return the number of intents with an order that is, or may be, open in a symbol."""

    @property
    def recorded_limits(self) -> Mapping[str, Any]:
        """Pre-trade limits that the newest leader recorded; the same object until they change."""

    @property
    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """Owner → heartbeat, for owners that ever armed one."""

    def symbol_exposure(self, symbol_id: str) -> Exposure:
        """Return the exposure in a symbol, with its position and last price."""

    def open_risk(self, intent_id: str, order: StandardOrder) -> OpenRisk | None:
        """Return the open risk of an intent in an order's symbol and side; None without any."""

    def symbol(self, symbol_id: str) -> SymbolMetadata | None:
        """Return a symbol as last observed, if known."""

    def symbols(self) -> Iterable[SymbolMetadata]:
        """Return all symbols, by id."""

    def asset(self, asset_id: str) -> AssetMetadata | None:
        """Return an asset as last observed, if known."""

    def assets(self) -> Iterable[AssetMetadata]:
        """Return all assets, by id."""

    def positions(self) -> Iterable[Position]:
        """Return the position of every symbol with a fill, by symbol."""

    def account(self) -> AccountState:
        """Return the account as last observed, and as expected now."""

    def findings(self) -> Iterable[Finding]:
        """Return all findings, open and resolved, in the order raised."""

    def finding(self, finding_id: str) -> Finding | None:
        """Return a finding, open or resolved, if it was ever raised."""

    def position_drift(self) -> dict[str, int]:
        """Return symbol → observed position less fills and trades of external orders, where not 0."""

    def external_orders(self) -> Iterable[ExternalOrder]:
        """Return the open external orders and the newest ended ones."""

    def external_order(self, exchange_order_id: str) -> ExternalOrder | None:
        """Return the newest external order under a venue order id, if known."""

    def external_order_of(self, report: ExecutionReport) -> ExternalOrder | None:
        """Return the external order that a report is about, if known."""

    def has_transfer(self, transfer_key: str) -> bool:
        """Return whether a transfer was recorded."""

    def external_trades(self, order: ExternalOrder) -> list[TradeEntry]:
        """Return the trades of an external order that count."""

    def external_orders_since(self, symbol_id: str, side: Side, *, position: int) -> Iterable[ExternalOrder]:
        """Return the external orders that the log first showed after a position and that may have this side."""

    def intents_with_unresolved_orders(self, symbol_id: str, side: Side) -> list[str]:
        """Return the intents with an unresolved submit or replace in a symbol and side."""

    def dead_requests(self) -> Iterable[OrderRequest]:
        """Return the newest requests for orders that were resolved as DEAD."""

    @property
    def venue_version(self) -> int:
        """Version of the venue's stream."""

    def balance_drift(self) -> dict[str, int]:
        """Return asset → observed total less opening balance, fills and transfers, where not 0."""
