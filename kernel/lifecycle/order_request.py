"""What the sends under one client order id have in common: the request for an order whose outcome is not known.

Used by the search for its order at a venue that hides client order ids, and by the fold, which keeps the DEAD ones.
"""

from __future__ import annotations

from typing import NamedTuple

from kernel.lifecycle.record import Record
from kernel.models import Attempt
from kernel.order_spec import Side


class OrderRequest(NamedTuple):
    """A submit, or a replace that makes a new order, with all its unresolved sends."""

    intent_id: str
    client_order_id: str
    position: int
    """Log position of the first unresolved send."""
    symbol_id: str
    side: Side
    quantity: int
    """The largest quantity that it may have asked for."""
    stamp_ns: int
    valid_until_ns: int | None
    """The last instant at which the venue accepts a send; None without a validity window."""


def order_requests(record: Record) -> list[OrderRequest]:
    """Return an intent's unresolved requests for orders, oldest first."""
    sends: dict[str, list[Attempt]] = {}
    for item in record.unresolved:
        if item.makes_order:
            sends.setdefault(item.client_order_id, []).append(item)
    return [found for items in sends.values() if (found := order_request(record, items)) is not None]


def order_request(record: Record, sends: list[Attempt]) -> OrderRequest | None:
    order = record.sent_order or (record.intent.order if record.intent is not None else None)
    if order is None:
        return None
    ends = [item.valid_until_ns for item in sends]
    return OrderRequest(
        intent_id=record.intent_id,
        client_order_id=sends[0].client_order_id,
        position=min(item.position for item in sends),
        symbol_id=order.symbol_id,
        side=order.side,
        quantity=max([order.quantity, record.wanted_most, *(item.quantity or 0 for item in sends)]),
        stamp_ns=min(item.stamp_ns for item in sends),
        valid_until_ns=None if None in ends else max(end for end in ends if end is not None),
    )
