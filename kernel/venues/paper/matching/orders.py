"""One order of the paper exchange, and what each change makes of it: pure functions from an order to the next version.

Called by `paper_book`, which holds every order, and by `paper_draft`, which asks what would be. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kernel.models import Liquidity, OrdStatus
from kernel.order_spec import STOPPED, OcoMode, OrderType, Side, TimeInForce
from kernel.venues.paper.matching.changes import OWN, Amended, Closed, Opened, OrderChange, Released, Traded, Triggered
from kernel.venues.paper.matching.matching_rules import Resting

OPEN_STATUSES = frozenset({OrdStatus.PENDING_NEW, OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED})
Place = tuple[int, int, int]
"""Where an order stands on its side: price (best is least), rank, id."""


@dataclass(frozen=True, slots=True)
class PaperOrder:
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
    """Of two orders at a price the lower one is served first: the report id of when it came there."""
    asked: int
    """The quantity it may reach; more than `quantity` while its group lets less of it work."""
    status: OrdStatus = OrdStatus.NEW
    cum_qty: int = 0
    cum_notional: int = 0
    ahead: int = 0
    stop_price: int | None = None
    armed: bool = False
    """Whether it waits for the market to reach its stop price."""
    expires_ns: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    display_quantity: int | None = None
    shown: int = 0
    """What an iceberg shows now."""
    grows: bool = False
    """Whether it may be enlarged yet: then it is not done when all of it has traded."""
    group_id: int | None = None
    group_client_id: str | None = None
    group_mode: OcoMode = OcoMode.NONE
    leads: bool = False

    @property
    def open(self) -> bool:
        """Whether it can trade, now or later."""
        return self.status in OPEN_STATUSES

    @property
    def pending(self) -> bool:
        """Whether it waits for the first of its group."""
        return self.status is OrdStatus.PENDING_NEW

    @property
    def rests(self) -> bool:
        """Whether it is in the book."""
        return self.open and not self.pending and not self.armed and self.price is not None and self.leaves_qty > 0

    @property
    def leaves_qty(self) -> int:
        """What of it can still trade."""
        return self.quantity - self.cum_qty if self.open else 0

    @property
    def own(self) -> bool:
        """Whether it is the client's."""
        return self.account == OWN

    @property
    def linked(self) -> int | None:
        """The group within which its fills count for its siblings."""
        return None if self.leads else self.group_id

    @property
    def place(self) -> Place:
        """Where it stands on its side."""
        assert self.price is not None, "what rests has a price"
        return (-self.price if self.side is Side.BUY else self.price, self.rank, self.order_id)

    @property
    def resting(self) -> Resting:
        """What the matching rules need of it."""
        assert self.price is not None, "what rests has a price"
        leaves = self.quantity - self.cum_qty
        if self.group_id is None and self.display_quantity is None:
            return Resting(self.order_id, self.price, leaves, self.ahead)
        return Resting(
            self.order_id,
            self.price,
            leaves,
            self.ahead,
            shown=self.shown if self.display_quantity else None,
            refill=self.display_quantity or 0,
            group=self.linked,
            exclusive=self.group_mode is OcoMode.ONE_CANCELS_OTHER,
        )

    def reached_by(self, last_price: int) -> bool:
        """Whether the market has reached its stop price."""
        if self.stop_price is None or not last_price:
            return False
        return last_price >= self.stop_price if self.side is Side.BUY else last_price <= self.stop_price


@dataclass(frozen=True, slots=True)
class PaperTrade:
    """A trade of one of the client's orders, as it stands after corrections."""

    trade_id: int
    order_id: int
    price: int
    quantity: int
    """0 when the trade is void."""
    fee: int
    fee_asset: str
    liquidity: Liquidity
    last_exec_id: int | None = None
    """The correction or bust that it stands by; none while it is as it was made."""


def opened(change: Opened) -> PaperOrder:
    """A new order."""
    order = PaperOrder(
        order_id=change.order_id,
        account=change.account,
        client_order_id=change.client_order_id,
        symbol_id=change.symbol_id,
        side=change.side,
        order_type=change.order_type,
        quantity=change.quantity,
        price=change.price,
        time_in_force=change.time_in_force,
        created_ns=change.at_ns,
        updated_ns=change.at_ns,
        rank=change.exec_id,
        asked=change.quantity if change.asked is None else change.asked,
        status=OrdStatus.PENDING_NEW if change.waits else OrdStatus.NEW,
        ahead=change.ahead,
        stop_price=change.stop_price,
        armed=change.order_type in STOPPED,
        expires_ns=change.expires_ns,
        post_only=change.post_only,
        reduce_only=change.reduce_only,
        display_quantity=change.display_quantity,
        group_id=change.group_id,
        group_client_id=change.group_client_id,
        group_mode=change.group_mode,
        leads=change.leads,
    )
    return _refill_display(order)


def after(order: PaperOrder, change: OrderChange) -> PaperOrder:
    """The order after a change other than its opening."""
    return _AFTER[type(change)](order, change)


def filled(order: PaperOrder, *, quantity: int, notional: int, at_ns: int) -> PaperOrder:
    """The order with more filled (or less). A filled order that has something left again is open again."""
    cum_qty = order.cum_qty + quantity
    assert 0 <= cum_qty <= order.quantity, "nothing is filled beyond its quantity"
    new = replace(order, cum_qty=cum_qty, cum_notional=order.cum_notional + notional, updated_ns=at_ns)
    return replace(new, status=_status(new)) if order.open or order.status is OrdStatus.FILLED else new


def _status(order: PaperOrder) -> OrdStatus:
    """The status of an order that is not closed, by its quantities."""
    if order.pending:
        return OrdStatus.PENDING_NEW
    if order.cum_qty == order.quantity and not order.grows:
        return OrdStatus.FILLED
    return OrdStatus.PARTIALLY_FILLED if order.cum_qty else OrdStatus.NEW


def _traded(order: PaperOrder, change: Traded) -> PaperOrder:
    new = filled(order, quantity=change.quantity, notional=change.price * change.quantity, at_ns=change.at_ns)
    if not new.display_quantity:
        return new
    new = replace(new, shown=max(new.shown - change.quantity, 0))
    if new.shown or change.ahead is None:
        return new
    return _refill_display(replace(new, rank=change.exec_id, ahead=change.ahead))


def _closed(order: PaperOrder, change: Closed) -> PaperOrder:
    return replace(order, status=change.status, updated_ns=change.at_ns)


def _amended(order: PaperOrder, change: Amended) -> PaperOrder:
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


def _released(order: PaperOrder, change: Released) -> PaperOrder:
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


def _triggered(order: PaperOrder, change: Triggered) -> PaperOrder:
    return replace(order, armed=False, rank=change.exec_id, ahead=change.ahead, updated_ns=change.at_ns)


def _refill_display(order: PaperOrder) -> PaperOrder:
    """The order with its next part shown, if it is an iceberg."""
    shown = order.display_quantity
    return order if shown is None else replace(order, shown=min(shown, order.leaves_qty))


_AFTER: Mapping[type[OrderChange], Callable[[PaperOrder, Any], PaperOrder]] = {
    Traded: _traded,
    Closed: _closed,
    Amended: _amended,
    Released: _released,
    Triggered: _triggered,
}
