"""Orders that replaced another: what the venue's totals of one include of the other (FIX OrderQty and CumQty).

Called by `evolve` after each report about an intent with replaced orders. A venue that carries the totals on declares it;
of one that does not, the totals themselves are evidence. Either way a fill counts once.
"""

from __future__ import annotations

from kernel.lifecycle.immutable import replace
from kernel.lifecycle.order_facts import OrderFacts, valid_evidence

Orders = tuple[OrderFacts, ...]


def link_replaced(orders: Orders) -> Orders:
    """Return the orders, each with what its totals include of the order that it replaced."""
    if not any(facts.replaced for facts in orders):
        return orders
    linked = list(orders)
    place_of = {name: place for place, facts in enumerate(orders) for name in facts.client_order_ids}
    for place, facts in enumerate(orders):
        old = place_of.get(facts.replaced.client_order_id) if facts.replaced is not None else None
        filled = linked[old].cum_qty + linked[old].carried_qty if old is not None else 0
        carried_qty = filled if carries(facts, filled) else 0
        if carried_qty != facts.carried_qty:
            quantity = max(0, facts.quantity + facts.carried_qty - carried_qty)
            linked[place] = replace(facts, carried_qty=carried_qty, quantity=quantity)
    return tuple(linked)


def carries(facts: OrderFacts, filled: int) -> bool:
    """Return whether an order's totals include what the replaced order filled.

    Where the venue does not declare it: its quantity is the total that was requested, and its CumQty is at least that
    filled quantity and its own trades.
    """
    if facts.replaced is None or filled == 0:
        return False
    total = max((item.cum_qty for item in valid_evidence(facts)), default=0)
    is_whole = facts.quantity + facts.carried_qty == facts.order.quantity
    return facts.replaced.keeps_cum_qty or (is_whole and total >= filled + facts.traded_qty)
