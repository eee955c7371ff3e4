"""Events of store writes, and observations of the account and its symbols."""

from __future__ import annotations

from kernel.events.base import BaseEvent
from kernel.models import Balance, ExecType, LookScope, OrderState, OrdStatus
from kernel.order_spec import (
    AssetId,
    AssetMetadata,
    Counter,
    InstantNs,
    Int,
    IntentId,
    Side,
    SymbolId,
    SymbolMetadata,
    Uint64,
)


class OrderStateRecorded(BaseEvent):
    """A store wrote an order state. Later reports apply on top; known fills stay known."""

    state: OrderState
    """The whole record."""
    created: bool
    """True for a create, false for an update."""


class OrderStateForgotten(BaseEvent):
    """A store deleted an order state. Client order ids, attempt numbers and fill keys stay known."""

    intent_id: IntentId
    """The intent."""


class VenueSnapshotTaken(BaseEvent):
    """A query of the venue ended; the events before it hold its results. Without an order it is about the account."""

    scopes: tuple[LookScope, ...]
    """The lists or the order that were queried."""
    complete: bool
    """True if the answer is complete. An empty list from a failed query is no evidence."""
    began_ns: InstantNs
    """When the query was sent."""
    ended_ns: InstantNs
    """When the answer was complete."""
    intent_id: IntentId | None = None
    """The intent whose order was queried."""
    client_order_id: str | None = None
    """The client order id queried."""
    exchange_order_id: str | None = None
    """The venue order id queried."""
    found: bool | None = None
    """True if the venue showed the order."""
    reflects_ns: InstantNs | None = None
    """The answer includes everything that was recorded until then: `began_ns` less the read lag and the clock skew."""
    trades_since_ns: InstantNs | None = None
    """The query asked for trades at or after this instant."""
    trades_cursor_ns: InstantNs | None = None
    """Every trade up to this instant is in the log (complete pages of the trades query only)."""
    trades_symbols: tuple[SymbolId, ...] | None = None
    """The symbols that the trades cursor is about; absent for the whole account."""
    open_orders: Counter | None = None
    """Number of open orders in the answer."""
    text: str = ""
    """Why the answer is incomplete."""


class BalancesObserved(BaseEvent):
    """Balances of the account at the venue."""

    balances: dict[AssetId, Balance]
    """Balances by asset."""
    began_ns: InstantNs
    """When the query was sent."""
    ended_ns: InstantNs
    """When the answer was complete."""


class PositionObserved(BaseEvent):
    """A position at the venue."""

    symbol_id: SymbolId
    """The symbol."""
    quantity: Int
    """Signed quantity at the quantity scale."""
    observed_at_ns: InstantNs
    """When it was observed."""


class TransferObserved(BaseEvent):
    """An asset moved into or out of the account without a trade."""

    transfer_key: str
    """Permanent unique key of the transfer in the account."""
    asset_id: AssetId
    """The asset."""
    amount: Int
    """Signed amount at the asset's scale."""
    transact_time_ns: InstantNs | None = None
    """Venue time."""
    text: str | None = None
    """The venue's name for it."""


class ExternalOrderObserved(BaseEvent):
    """A report about an external order, one that belongs to no intent, or its first appearance in a list."""

    symbol_id: SymbolId
    """The symbol."""
    client_order_id: str | None = None
    """Its client order id."""
    exchange_order_id: str | None = None
    """Its venue order id."""
    exec_type: ExecType
    """Kind of report (FIX ExecType, 150)."""
    exec_id: str | None = None
    """The venue's id of the report."""
    side: Side | None = None
    """Its side."""
    fill_key: str | None = None
    """Unique key of the trade, for a trade."""
    last_qty: Uint64 | None = None
    """Traded quantity."""
    last_px: Uint64 | None = None
    """Traded price."""
    order_qty: Uint64 | None = None
    """Its quantity."""
    price: Uint64 | None = None
    """Its limit price."""
    transact_time_ns: InstantNs | None = None
    """Venue time."""
    raw: str | None = None
    """The venue's frame, unchanged."""
    ord_status: OrdStatus | None = None
    """Its status at the venue."""
    cum_qty: Uint64 | None = None
    """Its filled quantity at the venue."""
    fee: Int | None = None
    """Fee of the trade, at the fee asset's scale."""
    fee_asset: AssetId | None = None
    """Asset of the fee."""
    fees: dict[AssetId, Int] | None = None
    """Every fee of the trade by asset, where the venue reports several; then `fee` and `fee_asset` are None."""
    ref_fill_key: str | None = None
    """For a correction or a bust: fill key of the original trade."""
    gone: bool | None = None
    """True if a complete list of open orders no longer shows it."""
    order_created_ns: InstantNs | None = None
    """When the venue created it."""
    id_reused: bool | None = None
    """True if its venue order id is also that of an order of an intent."""


class SymbolObserved(BaseEvent):
    """A symbol's scales and constraints, new or changed."""

    symbol: SymbolMetadata
    """The symbol."""


class AssetObserved(BaseEvent):
    """An asset's scale and name, new or changed."""

    asset: AssetMetadata
    """The asset."""
