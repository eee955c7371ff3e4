"""Contingent orders managed by the paper exchange: how a fill or an end of one order affects its group.

- ONE_CANCELS_OTHER: any fill of one order cancels the others.
- ONE_UPDATES_OTHER: a fill of one order reduces the others by as much; with nothing left they are canceled.
- ONE_TRIGGERS_OTHER: the first order (the parent) works alone. Its children are PENDING_NEW until it fills. Each child then
  works for the parent's filled quantity less its siblings' fills, up to its own quantity, and grows with the parent. While
  the parent is open, a child that has used up its share stays open with an open quantity of 0. A parent that ends without
  a fill cancels its children. A busted fill takes nothing back.

Reduce-only orders shrink with the client's position too, and are canceled when it is closed.
"""

from __future__ import annotations

from kernel.errors import Rejected
from kernel.models import OrdStatus
from kernel.order_spec import OcoMode
from kernel.venues.base import SubmitGroupRequest
from kernel.venues.paper.matching.changes import Opened
from kernel.venues.paper.matching.order_checks import check_entry, check_terms
from kernel.venues.paper.matching.orders import PaperOrder
from kernel.venues.paper.matching.transaction import (
    NO_FUNDS,
    POSITION_REDUCED,
    WOULD_INCREASE,
    Membership,
    Transaction,
)

OCO_TEXT, OUO_TEXT, OTO_TEXT = "OCO", "OUO", "OTO"


def open_group(transaction: Transaction, request: SubmitGroupRequest) -> list[Opened]:
    """Accept all orders of a group, then enter those that are not pending; returns their openings.

    Raises `Rejected` for the whole group if one order is refused.
    """
    symbols = {member.order.symbol_id for member in request.orders}
    if len(symbols) > 1 and request.mode is not OcoMode.ONE_CANCELS_OTHER:
        raise Rejected("The orders of this group must have one symbol.", code="-1102")
    begin = len(transaction.changes)
    group_id = transaction.sequence.order
    triggers = request.mode is OcoMode.ONE_TRIGGERS_OTHER
    orders: list[PaperOrder] = []
    for number, member in enumerate(request.orders):
        check_terms(transaction, member.order, more_open=number)
        leads = triggers and number == 0
        membership = Membership(group_id, request.group_client_id, request.mode, leads)
        orders.append(
            transaction.open(
                member.order,
                client_order_id=member.client_order_id,
                membership=membership,
                waits=triggers and not leads,
            )
        )
    openings = [change for change in transaction.changes[begin:] if isinstance(change, Opened)]
    working = [order for order in orders if not order.pending]
    for order in working:
        check_entry(transaction, order)
    for order in working:
        if transaction.order(order.order_id).open:
            transaction.enter(order.order_id)
            update_groups(transaction)
    return openings


def update_groups(transaction: Transaction) -> None:
    """Apply the effects of the transaction's fills and ends on groups and on reduce-only orders, until none is left."""
    while transaction.due or transaction.moved:
        _update_members(transaction)
        while transaction.moved:
            _shrink_reduce_only(transaction, transaction.moved.pop())


def _shrink_reduce_only(transaction: Transaction, symbol_id: str) -> None:
    """Reduce the symbol's reduce-only orders to the position; cancel them if there is none."""
    for order in transaction.own_open(symbol_id):
        if order.pending or not transaction.exceeds_position(order):
            continue
        reducible = transaction.reducible(order)
        if reducible == 0:
            transaction.close(order.order_id, OrdStatus.CANCELED, text=POSITION_REDUCED)
        else:
            transaction.amend(order, quantity=order.cum_qty + reducible, text=POSITION_REDUCED)


def _update_members(transaction: Transaction) -> None:
    while transaction.due:
        order_id, traded = transaction.due.popleft()
        order = transaction.order(order_id)
        match order.group_mode:
            case OcoMode.ONE_CANCELS_OTHER if traded:
                for sibling in _siblings(transaction, order):
                    transaction.close(sibling.order_id, OrdStatus.CANCELED, text=OCO_TEXT)
            case OcoMode.ONE_UPDATES_OTHER if traded:
                for sibling in _siblings(transaction, order):
                    _shrink(transaction, sibling, traded)
            case OcoMode.ONE_TRIGGERS_OTHER:
                _distribute_fills(transaction, order.group_id)


def permitted_quantity(transaction: Transaction, order: PaperOrder, *, asked: int) -> int:
    """Return the total that a child may have if it asks for `asked`: the parent's fills less its siblings'."""
    members = transaction.members(order.group_id)
    filled = sum(member.cum_qty for member in members if member.leads)
    by_siblings = sum(member.cum_qty for member in members if not member.leads and member.order_id != order.order_id)
    return max(min(asked, filled) - by_siblings, 0)


def _siblings(transaction: Transaction, order: PaperOrder) -> list[PaperOrder]:
    return [each for each in transaction.members(order.group_id) if each.open and each.order_id != order.order_id]


def _shrink(transaction: Transaction, order: PaperOrder, by: int) -> None:
    if order.quantity - by <= order.cum_qty:
        transaction.close(order.order_id, OrdStatus.CANCELED, text=OUO_TEXT)
    else:
        transaction.amend(order, quantity=order.quantity - by, asked=order.quantity - by, text=OUO_TEXT)


def _distribute_fills(transaction: Transaction, group_id: int | None) -> None:
    """Give each child the share that the parent's fills permit."""
    members = transaction.members(group_id)
    ended = not any(member.open for member in members if member.leads)
    for member in members:
        child = transaction.order(member.order_id)
        if child.open and not child.leads:
            _resize_child(transaction, child, ended=ended)


def _resize_child(transaction: Transaction, order: PaperOrder, *, ended: bool) -> None:
    total = permitted_quantity(transaction, order, asked=order.asked)
    if ended and (total < order.cum_qty or total == 0):
        transaction.close(order.order_id, OrdStatus.CANCELED, text=OTO_TEXT)
        return
    total = max(total, order.cum_qty)
    if order.pending:
        if total:
            new = transaction.release(order, quantity=total, grows=not ended)
            _start_child(transaction, new, enters=True)
    elif total != order.quantity or order.grows != (not ended):
        was_idle = order.price is None or order.leaves_qty == 0
        new = transaction.amend(order, quantity=total, grows=not ended, text=OTO_TEXT)
        _start_child(transaction, new, enters=was_idle and new.leaves_qty > 0)


def _start_child(transaction: Transaction, order: PaperOrder, *, enters: bool) -> None:
    """Let a child work with its new quantity, if position and funds permit."""
    if transaction.exceeds_position(order):
        transaction.close(order.order_id, OrdStatus.CANCELED, text=WOULD_INCREASE)
    elif transaction.lacks_funds(order):
        transaction.close(order.order_id, OrdStatus.CANCELED, text=NO_FUNDS)
    elif enters:
        transaction.enter(order.order_id)
