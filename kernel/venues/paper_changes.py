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


class Closed(Model):
    """An order is off the book with something left of it."""

    kind: Literal["closed"] = "closed"
    at_ns: InstantNs
    exec_id: Counter
    order_id: Counter
    status: OrdStatus
    """CANCELED or EXPIRED."""
    request_id: str | None = None
    """The client order id of the cancel request; none when the exchange did it by itself."""
    bare: bool = False
    """Whether its report tells no CumQty and LeavesQty."""
    text: str | None = None


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


Change = Opened | Traded | Closed | Corrected | AheadChanged | SymbolSet
Changes = tuple[Change, ...]


class JournalHead(Model):
    """First line of a journal: what the changes start from."""

    kind: Literal["head"] = "head"
    version: Literal[1] = 1
    first_id: Counter
    balances: dict[AssetId, Int]


CHANGES: pydantic.TypeAdapter[Changes] = pydantic.TypeAdapter(
    tuple[Annotated[Change, Field(discriminator="kind")], ...]
)
"""Reads and writes the changes of one journal line."""
