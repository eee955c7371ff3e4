"""What can change in a paper exchange: one frozen model per kind of change, and its line in the journal.

Made by `paper_engine`, applied by `paper_book`, stored by `paper_journal`. The exchange's whole state is a fold of these,
so that an exchange that was killed and one that never was are the same. All that one request does is one line.
"""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from kernel.models import Liquidity, OrdStatus
from kernel.order_spec import (
    AssetId,
    Counter,
    InstantNs,
    Int,
    Model,
    OcoMode,
    OrderType,
    Side,
    SymbolId,
    SymbolStatus,
    TimeInForce,
    Uint64,
)

OWN = ""
"""The account of the client; every other name is another account."""


class Opened(Model):
    """An order was accepted."""

    kind: Literal["opened"] = "opened"
    at_ns: InstantNs
    exec_id: Counter
    order_id: Counter
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
    """When it ends by itself."""
    reduce_only: bool = False
    display_quantity: Uint64 | None = None
    orig_client_order_id: str | None = None
    """The order whose place it takes."""
    group_id: Counter | None = None
    """The order id of its group's first order."""
    group_client_id: str | None = None
    group_mode: OcoMode = OcoMode.NONE
    leads: bool = False
    """Whether its fills release the others of its group."""
    waits: bool = False
    """Whether it waits to be released."""
    asked: Uint64 | None = None
    """The quantity it is to reach at most, where that is not `quantity`."""


class Traded(Model):
    """An order traded."""

    kind: Literal["traded"] = "traded"
    at_ns: InstantNs
    exec_id: Counter
    order_id: Counter
    trade_id: Counter
    price: Uint64
    quantity: Uint64
    liquidity: Liquidity
    fee: Int
    fee_asset: AssetId
    ahead: Uint64 | None = None
    """For the last of an iceberg's shown part: the market's quantity ahead of the next."""


class Closed(Model):
    """An order is off the book with something left of it."""

    kind: Literal["closed"] = "closed"
    at_ns: InstantNs
    exec_id: Counter
    order_id: Counter
    status: OrdStatus
    """CANCELED or EXPIRED."""
    request_id: str | None = None
    """The client order id of the request to cancel or amend it; none when the exchange did it by itself."""
    bare: bool = False
    """Whether its report tells no CumQty and LeavesQty."""
    text: str | None = None


class Amended(Model):
    """An order has other terms now."""

    kind: Literal["amended"] = "amended"
    at_ns: InstantNs
    exec_id: Counter
    order_id: Counter
    request_id: str | None = None
    """The client order id of the request, by which the order goes from then on; none when its group restates it."""
    orig_client_order_id: str | None = None
    """The name it went by before, where that changes."""
    quantity: Uint64
    asked: Uint64
    price: Uint64 | None = None
    stop_price: Uint64 | None = None
    display_quantity: Uint64 | None = None
    expires_ns: InstantNs | None = None
    keeps_place: bool = False
    """Whether it stays where it is in the queue."""
    ahead: Uint64 = 0
    grows: bool = False
    """Whether it may be enlarged yet, so that it is not done when all of it has traded."""
    text: str | None = None


class Released(Model):
    """An order that waited for the first of its group works now."""

    kind: Literal["released"] = "released"
    at_ns: InstantNs
    exec_id: Counter
    order_id: Counter
    quantity: Uint64
    ahead: Uint64 = 0
    grows: bool = False
    """Whether it may be enlarged yet."""


class Triggered(Model):
    """The market reached an order's stop price."""

    kind: Literal["triggered"] = "triggered"
    at_ns: InstantNs
    exec_id: Counter
    order_id: Counter
    ahead: Uint64 = 0


class Corrected(Model):
    """A trade has other terms now; quantity 0 when it is void."""

    kind: Literal["corrected"] = "corrected"
    at_ns: InstantNs
    exec_id: Counter
    trade_id: Counter
    ref_exec_id: Counter | None = None
    """The correction that this one replaces; none when it is the first."""
    price: Uint64
    quantity: Uint64
    fee: Int


class AheadChanged(Model):
    """The tape took of what is ahead of an order."""

    kind: Literal["ahead"] = "ahead"
    order_id: Counter
    ahead: Uint64


class SymbolSet(Model):
    """A symbol was halted or resumed, or has other filters from now on; what is None stays."""

    kind: Literal["symbol"] = "symbol"
    symbol_id: SymbolId
    status: SymbolStatus | None = None
    tick_size: Uint64 | None = None
    lot_size: Uint64 | None = None


OrderChange = Opened | Traded | Closed | Amended | Released | Triggered
JournalEntry = OrderChange | Corrected | AheadChanged | SymbolSet
JournalEntries = tuple[JournalEntry, ...]


class JournalHead(Model):
    """First line of a journal: what the changes start from."""

    kind: Literal["head"] = "head"
    version: Literal[1] = 1
    first_id: Counter
    balances: dict[AssetId, Int]


CHANGES: pydantic.TypeAdapter[JournalEntries] = pydantic.TypeAdapter(
    tuple[Annotated[JournalEntry, Field(discriminator="kind")], ...]
)
"""Reads and writes the changes of one journal line."""
