"""Events of the stores' writes, and of what was observed of the account and the markets."""

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
    """A store's write: the state is this from now on; reports apply on top, known fill keys stay known."""

    topic = "OrderStateRecorded"
    state: OrderState
    """The record, whole."""
    created: bool
    """Whether it was a create (an update otherwise)."""


class OrderStateForgotten(BaseEvent):
    """A store's delete of an order state. Client order ids, numbers and fill keys stay known."""

    topic = "OrderStateForgotten"
    intent_id: IntentId
    """The intent."""


class VenueSnapshotTaken(BaseEvent):
    """The venue was asked; what it answered is in the events before it. Without an order, it is about the account."""

    topic = "VenueSnapshotTaken"
    scopes: tuple[LookScope, ...]
    """What was asked."""
    complete: bool
    """Whether the answer is whole. An empty list from a failed query is no evidence."""
    began_ns: InstantNs
    """When the question was sent."""
    ended_ns: InstantNs
    """When the answer was whole."""
    intent_id: IntentId | None = None
    """The intent looked for."""
    client_order_id: str | None = None
    """The client order id looked for."""
    exchange_order_id: str | None = None
    """The venue order id looked for."""
    found: bool | None = None
    """Whether the order looked for was there."""
    trades_since_ns: InstantNs | None = None
    """Trades at or after this instant were asked for."""
    trades_cursor_ns: InstantNs | None = None
    """Every trade up to this instant is now in the log (complete pages of the trades query only)."""
    open_orders: Counter | None = None
    """How many open orders the answer had."""
    text: str = ""
    """Why it is incomplete."""


class BalancesObserved(BaseEvent):
    """The account's balances as the venue gives them."""

    topic = "BalancesObserved"
    balances: dict[AssetId, Balance]
    """By asset."""
    began_ns: InstantNs
    """When the question was sent."""
    ended_ns: InstantNs
    """When the answer was whole."""


class PositionObserved(BaseEvent):
    """A position as the venue gives it."""

    topic = "PositionObserved"
    symbol_id: SymbolId
    """The symbol."""
    quantity: Int
    """Signed quantity at the quantity scale."""
    observed_at_ns: InstantNs
    """When it was observed."""


class TransferObserved(BaseEvent):
    """An asset came or went without a trade."""

    topic = "TransferObserved"
    transfer_key: str
    """Names the transfer in the account for ever."""
    asset_id: AssetId
    """The asset."""
    amount: Int
    """Signed amount at the asset's scale."""
    transact_time_ns: InstantNs | None = None
    """The venue's instant of it."""


class ExternalOrderObserved(BaseEvent):
    """A report of an order that is nobody's intent, or a list's first sight of one."""

    topic = "ExternalOrderObserved"
    symbol_id: SymbolId
    """The symbol."""
    client_order_id: str | None = None
    """Its client order id."""
    exchange_order_id: str | None = None
    """Its venue order id."""
    exec_type: ExecType
    """What the report is about."""
    exec_id: str | None = None
    """The venue's id of the report."""
    side: Side | None = None
    """Its side."""
    fill_key: str | None = None
    """Names the trade, where it is one."""
    last_qty: Uint64 | None = None
    """Traded quantity."""
    last_px: Uint64 | None = None
    """Traded price."""
    order_qty: Uint64 | None = None
    """Its quantity."""
    price: Uint64 | None = None
    """Its limit price."""
    transact_time_ns: InstantNs | None = None
    """The venue's instant of it."""
    raw: str | None = None
    """The venue's frame, as it came."""
    ord_status: OrdStatus | None = None
    """Its status as the venue has it."""
    cum_qty: Uint64 | None = None
    """Its filled quantity as the venue has it."""
    fee: Int | None = None
    """Fee of the trade, at the fee asset's scale."""
    fee_asset: AssetId | None = None
    """Asset of the fee."""
    ref_fill_key: str | None = None
    """For a correction or a bust: the fill key of the trade concerned."""
    gone: bool | None = None
    """True: a complete list of the open orders no longer shows it."""


class SymbolObserved(BaseEvent):
    """A symbol's scales and constraints, new or changed."""

    topic = "SymbolObserved"
    symbol: SymbolMetadata
    """As observed."""


class AssetObserved(BaseEvent):
    """An asset's scale, new or changed in name."""

    topic = "AssetObserved"
    asset: AssetMetadata
    """As observed."""
