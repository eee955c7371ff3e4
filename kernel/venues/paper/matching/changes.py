"""The changes of a paper exchange's state, one frozen value per kind: the entries of its journal.

The engine creates them, the book applies them, the journal stores them, one line per request. The whole state is a fold of
these, so that a restarted exchange equals one that never stopped. Fields and kinds are stored: they do not change.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from kernel.models import ExecType, Liquidity, OrdStatus
from kernel.order_spec import (
    AssetId,
    Counter,
    InstantNs,
    Int,
    OcoMode,
    OrderType,
    Side,
    SymbolId,
    SymbolStatus,
    TimeInForce,
    Uint64,
)
from kernel.values import Value

OWN = ""
"""The account of the client."""


class BookChange(Value, tag_field="kind"):
    """An entry of the journal, with its kind."""


class OrderStamp(BookChange):
    """The instant, the report and the order of a change."""

    at_ns: InstantNs
    exec_id: Counter
    order_id: Counter


class Opened(OrderStamp, tag="opened"):
    """An order is accepted."""

    account: str = OWN
    client_order_id: str
    symbol_id: SymbolId
    side: Side
    order_type: OrderType
    quantity: Uint64
    price: Uint64 | None = None
    time_in_force: TimeInForce
    post_only: bool = False
    ahead: Uint64 = 0
    """The market's quantity ahead of it at its price."""
    stop_price: Uint64 | None = None
    expires_ns: InstantNs | None = None
    """When it expires."""
    reduce_only: bool = False
    display_quantity: Uint64 | None = None
    orig_client_order_id: str | None = None
    """The order that it replaces."""
    group_id: Counter | None = None
    """Order id of the group's first order."""
    group_client_id: str | None = None
    group_mode: OcoMode = OcoMode.NONE
    leads: bool = False
    """It is its group's parent: its fills release the other orders."""
    waits: bool = False
    """It is pending until its parent releases it."""
    asked: Uint64 | None = None
    """The requested quantity, if it differs from `quantity`."""
    stop_id: Counter | None = None
    """Order id of the stop whose trigger made it."""
    reported_as: ExecType = ExecType.NEW
    """NEW or REPLACED, for an order that a trigger made."""
    has_type: bool = True
    """Its report states its order type."""
    carried_qty: Uint64 = 0
    """Filled quantity of the orders that it replaced; its reports include it."""


class Traded(OrderStamp, tag="traded"):
    """An order trades."""

    trade_id: Counter
    price: Uint64
    quantity: Uint64
    liquidity: Liquidity
    fee: Int
    fee_asset: AssetId
    ahead: Uint64 | None = None
    """When an iceberg's displayed part is used up: the market's quantity ahead of the next part."""


class Closed(OrderStamp, tag="closed"):
    """An order leaves the book with an open quantity."""

    status: OrdStatus
    """CANCELED or EXPIRED."""
    request_id: str | None = None
    """Client order id of the cancel or amend request; None if the exchange acts on its own."""
    bare: bool = False
    """Its report has no CumQty and LeavesQty."""
    text: str | None = None
    is_reported: bool = True


class Amended(OrderStamp, tag="amended"):
    """An order has new terms."""

    request_id: str | None = None
    """Client order id of the request, which becomes the order's; None if its group restates it."""
    orig_client_order_id: str | None = None
    """Its client order id before, if it changes."""
    quantity: Uint64
    asked: Uint64
    price: Uint64 | None = None
    stop_price: Uint64 | None = None
    display_quantity: Uint64 | None = None
    expires_ns: InstantNs | None = None
    keeps_place: bool = False
    """It keeps its place in the queue."""
    ahead: Uint64 = 0
    grows: bool = False
    """Its quantity may still increase."""
    text: str | None = None


class Released(OrderStamp, tag="released"):
    """A pending order starts to work."""

    quantity: Uint64
    ahead: Uint64 = 0
    grows: bool = False
    """Its quantity may still increase."""


class Triggered(OrderStamp, tag="triggered"):
    """The market reaches an order's stop price."""

    ahead: Uint64 = 0


class Mirrored(OrderStamp, tag="mirrored"):
    """The exchange reports a fill of the order that a trigger made as the stop's total."""

    cum_qty: Uint64


class Corrected(BookChange, tag="corrected"):
    """A trade has new terms; quantity 0 for a bust."""

    at_ns: InstantNs
    exec_id: Counter
    trade_id: Counter
    ref_exec_id: Counter | None = None
    """The correction that it replaces; None for the first."""
    price: Uint64
    quantity: Uint64
    fee: Int


class AheadChanged(BookChange, tag="ahead"):
    """The tape consumes quantity ahead of an order."""

    order_id: Counter
    ahead: Uint64


class SymbolSet(BookChange, tag="symbol"):
    """A symbol is halted, resumed, or has new filters; None leaves a field unchanged."""

    symbol_id: SymbolId
    status: SymbolStatus | None = None
    tick_size: Uint64 | None = None
    lot_size: Uint64 | None = None


OrderChange = Opened | Traded | Closed | Amended | Released | Triggered | Mirrored
JournalEntry = OrderChange | Corrected | AheadChanged | SymbolSet
JournalEntries = tuple[JournalEntry, ...]


class JournalHead(BookChange, tag="head"):
    """First line of a journal: the initial state."""

    version: Literal[1] = 1
    first_id: Counter
    balances: dict[AssetId, Int]


decode_changes = msgspec.json.Decoder(JournalEntries).decode
"""Decodes one line of the journal."""
decode_head = msgspec.json.Decoder(JournalHead).decode
