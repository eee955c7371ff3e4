"""Changing a working order of the paper exchange: amend in place, or cancel/replace.

The requested quantity is the order's total or its remaining quantity, as configured; fills in the meantime count towards
a total and come on top of a remaining quantity.
"""

from __future__ import annotations

from msgspec import structs

from kernel.errors import Rejected
from kernel.models import OrdStatus
from kernel.order_spec import OcoMode, StandardOrder
from kernel.venues.base import AmendDialect, AmendQuantity, ModifyRequest
from kernel.venues.paper.matching.changes import JournalEntry
from kernel.venues.paper.matching.contingent import permitted_quantity, update_groups
from kernel.venues.paper.matching.order_checks import check_entry, check_funding, check_terms
from kernel.venues.paper.matching.orders import PaperOrder
from kernel.venues.paper.matching.transaction import Membership, Transaction

SAME_TERMS = ("order_type", "time_in_force", "post_only", "reduce_only")
"""Terms that an amend in place cannot change."""
REPLACED_TEXT = "replaced"


def amend(transaction: Transaction, target: PaperOrder, request: ModifyRequest) -> JournalEntry:
    """Change an order; returns the change whose report is the answer. Raises `Rejected`; drop the transaction then."""
    if (request.order.symbol_id, request.order.side) != (target.symbol_id, target.side):
        raise Rejected("An amend cannot change symbol or side.", code="-2038")
    total = asked_total(transaction, target, request)
    if total <= target.cum_qty:
        change: JournalEntry = transaction.close(
            target.order_id, OrdStatus.CANCELED, request_id=request.client_order_id
        )
    elif transaction.config.amend is AmendDialect.IN_PLACE:
        change = _amend_in_place(transaction, target, request, total)
    else:
        change = _replace(transaction, target, request, total)
    update_groups(transaction)
    return change


def cancel_replaced(transaction: Transaction, target: PaperOrder, request: ModifyRequest) -> None:
    transaction.close(target.order_id, OrdStatus.CANCELED, request_id=request.client_order_id, text=REPLACED_TEXT)


def asked_total(transaction: Transaction, target: PaperOrder, request: ModifyRequest) -> int:
    if transaction.config.amend_quantity is AmendQuantity.TOTAL:
        return request.order.quantity - target.carried_qty
    return target.cum_qty + max(request.order.quantity - request.cum_qty, 0)


def _amend_in_place(transaction: Transaction, target: PaperOrder, request: ModifyRequest, total: int) -> JournalEntry:
    terms = _sized(request.order, total)
    for name in SAME_TERMS:
        if getattr(terms, name) != getattr(target, name):
            raise Rejected(f"An amend in place cannot change {name}.", code="-2038")
    check_terms(transaction, terms, more_open=-1)
    shared = _is_child(target) and not target.pending
    new = transaction.amend(
        target,
        request_id=request.client_order_id,
        quantity=max(permitted_quantity(transaction, target, asked=total), target.cum_qty) if shared else total,
        asked=total,
        price=terms.price,
        stop_price=terms.stop_price,
        display_quantity=terms.display_quantity,
        expires_ns=target.expires_ns if terms.expire_at_ns is None else terms.expire_at_ns,
    )
    change = transaction.changes[-1]
    if new.pending or new.leaves_qty == 0:
        return change
    if new.price != target.price or new.armed:
        transaction.enter(new.order_id, check_entry(transaction, new))
    else:
        check_funding(transaction, new)
    return change


def _replace(transaction: Transaction, target: PaperOrder, request: ModifyRequest, total: int) -> JournalEntry:
    cancel_replaced(transaction, target, request)
    rest = _sized(request.order, total - target.cum_qty)
    check_terms(transaction, rest, more_open=-1)
    new = transaction.open(
        rest,
        client_order_id=request.client_order_id,
        orig_client_order_id=target.client_order_id,
        membership=Membership(target.group_id, target.group_client_id, target.group_mode, target.leads),
        waits=_is_child(target),
        asked=total if _is_child(target) else None,
        carried_qty=target.cum_qty + target.carried_qty if transaction.config.replace_keeps_cum_qty else 0,
    )
    change = transaction.changes[-1]
    if not new.pending:
        transaction.enter(new.order_id, check_entry(transaction, new))
    return change


def _is_child(order: PaperOrder) -> bool:
    """Return whether the order's quantity depends on its parent's fills."""
    return order.group_mode is OcoMode.ONE_TRIGGERS_OTHER and not order.leads


def _sized(order: StandardOrder, quantity: int) -> StandardOrder:
    shown = None if order.display_quantity is None else min(order.display_quantity, quantity)
    return structs.replace(order, quantity=quantity, display_quantity=shown)
