"""Groups that the paper exchange works by itself: what a fill or an end of one order does to the others.

Called by `paper_engine` on a draft, before it commits: `open_group` for a request, `update_groups` for whatever
happened. The order of events is that of the draft, so one history has one outcome.

- ONE_CANCELS_OTHER: a fill of one, even in part, cancels the others.
- ONE_UPDATES_OTHER: a fill of one shrinks the others by as much; at nothing left they are canceled.
- ONE_TRIGGERS_OTHER: the first works alone. The others wait (PENDING_NEW) until it fills; then each works for what the
  first has filled so far, less what its siblings have filled, up to its own quantity, and grows with the first. While the
  first works, an order that has used up its part stays open with nothing left. A first order that ends without a fill
  ends them. A busted fill takes nothing back.
"""

from __future__ import annotations

from kernel.errors import Rejected
from kernel.models import OrdStatus
from kernel.order_spec import OcoMode
from kernel.venues.base import SubmitGroupRequest
from kernel.venues.paper.matching.changes import Opened
from kernel.venues.paper.matching.order_checks import check_entry, check_terms
from kernel.venues.paper.matching.orders import PaperOrder
from kernel.venues.paper.matching.transaction import NO_FUNDS, WOULD_INCREASE, Membership, Transaction

OCO_TEXT, OUO_TEXT, OTO_TEXT = "OCO", "OUO", "OTO"


def open_group(transaction: Transaction, request: SubmitGroupRequest) -> list[Opened]:
    """Accept all orders of a group, then let each that does not wait trade; their openings. `Rejected` for all of them
    when one is refused."""
    symbols = {member.order.symbol_id for member in request.orders}
    if len(symbols) > 1 and request.mode is not OcoMode.ONE_CANCELS_OTHER:
        raise Rejected("The orders of such a group are of one symbol.", code="-1102")
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
    entries = [(order, check_entry(transaction, order)) for order in orders if not order.pending]
    for order, _ in entries:
        if transaction.order(order.order_id).open:
            transaction.enter(order.order_id)
            update_groups(transaction)
    return openings


def update_groups(transaction: Transaction) -> None:
    """Let every group answer what happened to its orders, until nothing more follows."""
    while transaction.due:
        order_id, traded = transaction.due.popleft()
        order = transaction.order(order_id)
        assert order.group_id is not None, "only members of groups are due"
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
    """What a child may be in all, if it asks for so much: what the first has filled, less what its siblings have."""
    assert order.group_id is not None, "a child is in a group"
    members = transaction.members(order.group_id)
    filled = sum(member.cum_qty for member in members if member.leads)
    by_siblings = sum(member.cum_qty for member in members if not member.leads and member.order_id != order.order_id)
    return max(min(asked, filled) - by_siblings, 0)


def _siblings(transaction: Transaction, order: PaperOrder) -> list[PaperOrder]:
    assert order.group_id is not None, "a sibling is in a group"
    return [each for each in transaction.members(order.group_id) if each.open and each.order_id != order.order_id]


def _shrink(transaction: Transaction, order: PaperOrder, by: int) -> None:
    if order.quantity - by <= order.cum_qty:
        transaction.close(order.order_id, OrdStatus.CANCELED, text=OUO_TEXT)
    else:
        transaction.amend(order, quantity=order.quantity - by, asked=order.quantity - by, text=OUO_TEXT)


def _distribute_fills(transaction: Transaction, group_id: int) -> None:
    """Give each child what the first's fills allow it."""
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
    """Let a child work with what it was given, if it may and can."""
    if transaction.exceeds_position(order):
        transaction.close(order.order_id, OrdStatus.CANCELED, text=WOULD_INCREASE)
    elif transaction.lacks_funds(order):
        transaction.close(order.order_id, OrdStatus.CANCELED, text=NO_FUNDS)
    elif enters:
        transaction.enter(order.order_id)
