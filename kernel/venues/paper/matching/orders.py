"""One order of the paper exchange and its versions: pure functions from an order and a change to the next version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from kernel.models import Liquidity, OrdStatus
from kernel.order_spec import STOPPED, OcoMode, OrderType, Side, StandardOrder, TimeInForce
from kernel.venues.paper.matching import changes
from kernel.venues.paper.matching.matching_rules import Resting

TERMS = (
    "symbol_id", "side", "order_type", "quantity", "price", "stop_price", "time_in_force", "post_only", "reduce_only",
    "display_quantity",
)  # fmt: skip
"""The terms that `StandardOrder`, `Opened` and `PaperOrder` share."""
OPEN_STATUSES = frozenset({OrdStatus.PENDING_NEW, OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED})
Place = tuple[int, int, int]
"""An order's place in the queue of its side: price (best is least), rank, id."""


class PaperOrder(msgspec.Struct, frozen=True):
    """One version of an order."""

    order_id: int
    account: str
    client_order_id: str
    symbol_id: str
    side: Side
    order_type: OrderType
    quantity: int
    price: int | None
    time_in_force: TimeInForce
    created_ns: int
    updated_ns: int
    rank: int
    """Report id of its arrival at this price; at one price the lower rank is served first."""
    asked: int
    """The requested quantity; `quantity` may be less while the order's group permits less."""
    status: OrdStatus = OrdStatus.NEW
    cum_qty: int = 0
    cum_notional: int = 0
    ahead: int = 0
    stop_price: int | None = None
    armed: bool = False
    """It waits for the market to reach its stop price."""
    expires_ns: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    display_quantity: int | None = None
    shown: int = 0
    """Displayed quantity of an iceberg."""
    grows: bool = False
    """Its quantity may still increase, so that it is not filled when all of it has traded."""
    group_id: int | None = None
    group_client_id: str | None = None
    group_mode: OcoMode = OcoMode.NONE
    leads: bool = False
    stop_id: int | None = None
    """Order id of the stop whose trigger made it."""
    carried_qty: int = 0
    """Filled quantity of the orders that it replaced; its reports include it."""

    @property
    def open(self) -> bool:
        """It can trade, now or later."""
        return self.status in OPEN_STATUSES

    @property
    def pending(self) -> bool:
        """It waits for its parent order."""
        return self.status is OrdStatus.PENDING_NEW

    @property
    def rests(self) -> bool:
        """It is in the book."""
        return self.open and not self.pending and not self.armed and self.price is not None and self.leaves_qty > 0

    @property
    def leaves_qty(self) -> int:
        """Quantity that can still trade."""
        return self.quantity - self.cum_qty if self.open else 0

    @property
    def own(self) -> bool:
        return self.account == changes.OWN

    @property
    def linked(self) -> int | None:
        """The group in which its fills count against its siblings."""
        return None if self.leads else self.group_id

    @property
    def place(self) -> Place:
        assert self.price is not None, "a resting order has a price"
        return (-self.price if self.side is Side.BUY else self.price, self.rank, self.order_id)

    @property
    def resting(self) -> Resting:
        """The order as the matching rules see it."""
        assert self.price is not None, "a resting order has a price"
        leaves = self.quantity - self.cum_qty
        if self.group_id is None and self.display_quantity is None:
            return Resting(self.order_id, self.price, leaves, self.ahead, own=self.own)
        return Resting(
            self.order_id,
            self.price,
            leaves,
            self.ahead,
            shown=self.shown if self.display_quantity else None,
            refill=self.display_quantity or 0,
            group=self.linked,
            exclusive=self.group_mode is OcoMode.ONE_CANCELS_OTHER,
            own=self.own,
        )

    def reached_by(self, last_price: int) -> bool:
        if self.stop_price is None or not last_price:
            return False
        return last_price >= self.stop_price if self.side is Side.BUY else last_price <= self.stop_price


class PaperTrade(msgspec.Struct, frozen=True):
    """A trade of one of the client's orders, after corrections."""

    trade_id: int
    order_id: int
    price: int
    quantity: int
    """0 when the trade is busted."""
    fee: int
    fee_asset: str
    liquidity: Liquidity
    last_exec_id: int | None = None
    """Id of its newest correction or bust."""


def terms_of(order: StandardOrder | changes.Opened | PaperOrder) -> dict[str, Any]:
    return {name: getattr(order, name) for name in TERMS}


SHARED = tuple(name for name in PaperOrder.__struct_fields__ if name in changes.Opened.__struct_fields__)
"""The fields that an order has from its opening."""


def opened(change: changes.Opened) -> PaperOrder:
    shared = {name: getattr(change, name) for name in SHARED}
    order = PaperOrder(
        **shared | {"asked": change.quantity if change.asked is None else change.asked},
        created_ns=change.at_ns,
        updated_ns=change.at_ns,
        rank=change.exec_id,
        status=OrdStatus.PENDING_NEW if change.waits else OrdStatus.NEW,
        armed=change.order_type in STOPPED,
    )
    return _refill_display(order)


def after(order: PaperOrder, change: changes.OrderChange) -> PaperOrder:
    """Return the order after a change other than its opening."""
    return _AFTER[type(change)](order, change)


def filled(order: PaperOrder, *, quantity: int, notional: int, at_ns: int) -> PaperOrder:
    """Return the order with a changed fill; a filled order with an open quantity becomes open again."""
    cum_qty = order.cum_qty + quantity
    assert 0 <= cum_qty <= order.quantity, "fills stay within the quantity"
    new = replace(order, cum_qty=cum_qty, cum_notional=order.cum_notional + notional, updated_ns=at_ns)
    return replace(new, status=_status(new)) if order.open or order.status is OrdStatus.FILLED else new


def _status(order: PaperOrder) -> OrdStatus:
    """Return the status of an order that is not closed, from its quantities."""
    if order.pending:
        return OrdStatus.PENDING_NEW
    if order.cum_qty == order.quantity and not order.grows:
        return OrdStatus.FILLED
    return OrdStatus.PARTIALLY_FILLED if order.cum_qty else OrdStatus.NEW


def _traded(order: PaperOrder, change: changes.Traded) -> PaperOrder:
    new = filled(order, quantity=change.quantity, notional=change.price * change.quantity, at_ns=change.at_ns)
    if not new.display_quantity:
        return new
    new = replace(new, shown=max(new.shown - change.quantity, 0))
    if new.shown or change.ahead is None:
        return new
    return _refill_display(replace(new, rank=change.exec_id, ahead=change.ahead))


def _amended(order: PaperOrder, change: changes.Amended) -> PaperOrder:
    new = replace(
        order,
        client_order_id=order.client_order_id if change.request_id is None else change.request_id,
        quantity=change.quantity,
        asked=change.asked,
        price=change.price,
        stop_price=change.stop_price,
        display_quantity=change.display_quantity,
        expires_ns=change.expires_ns,
        grows=change.grows,
        updated_ns=change.at_ns,
    )
    new = replace(new, status=_status(new))
    if change.keeps_place:
        return replace(new, shown=min(new.shown, new.leaves_qty))
    return _refill_display(replace(new, rank=change.exec_id, ahead=change.ahead))


def _released(order: PaperOrder, change: changes.Released) -> PaperOrder:
    new = replace(
        order,
        status=OrdStatus.NEW,
        quantity=change.quantity,
        rank=change.exec_id,
        ahead=change.ahead,
        grows=change.grows,
        updated_ns=change.at_ns,
    )
    return _refill_display(new)


def _triggered(order: PaperOrder, change: changes.Triggered) -> PaperOrder:
    return replace(order, armed=False, rank=change.exec_id, ahead=change.ahead, updated_ns=change.at_ns)


def _refill_display(order: PaperOrder) -> PaperOrder:
    """Return the order with its next part displayed, if it is an iceberg."""
    shown = order.display_quantity
    return order if shown is None else replace(order, shown=min(shown, order.leaves_qty))


_AFTER: Mapping[type[changes.OrderChange], Callable[[PaperOrder, Any], PaperOrder]] = {
    changes.Traded: _traded,
    changes.Closed: lambda order, change: replace(order, status=change.status, updated_ns=change.at_ns),
    changes.Amended: _amended,
    changes.Released: _released,
    changes.Triggered: _triggered,
    changes.Mirrored: lambda order, change: replace(order, updated_ns=change.at_ns),
}
