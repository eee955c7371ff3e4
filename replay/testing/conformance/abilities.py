"""Abilities of venues: how each is claimed, and what the kernel cannot guarantee without it.

Read by the cases, which observe them, and by the matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kernel.order_spec import OrderType, TimeInForce
from kernel.venues.base import AmendDialect, Dedupe, VenueCapabilities


class Ability(NamedTuple):
    """One ability."""

    claimed: Callable[[VenueCapabilities], bool]
    without: str
    """Guarantees that do not hold without it."""


def _taken(kind: OrderType | TimeInForce) -> Callable[[VenueCapabilities], bool]:
    return lambda has: kind in has.order_types or kind in has.times_in_force


ABILITIES: dict[str, Ability] = {
    "client_order_ids": Ability(
        lambda has: has.client_order_ids, "an order whose answer was lost is attributed by an operator only"
    ),
    "lookup": Ability(
        lambda has: has.lookup, "an order whose answer was lost is found by lists and trades, a read lag later"
    ),
    "lookup_closed": Ability(
        lambda has: has.sees_closed, "how an order ended is known from its trades, a read lag later"
    ),
    "orders_carry_client_id": Ability(
        lambda has: has.orders_carry_client_id,
        "a listed order of unknown origin blocks the intents that it may belong to",
    ),
    "trades_carry_client_id": Ability(
        lambda has: has.trades_carry_client_id, "a trade of unknown origin blocks the intents that it may belong to"
    ),
    "lists_open_orders": Ability(
        lambda has: has.lists_open_orders, "external orders are not seen; each live order is queried by itself"
    ),
    "lists_trades": Ability(
        lambda has: has.lists_trades, "fills of which the stream brings no report are inferred from CumQty"
    ),
    "lists_balances": Ability(lambda has: has.lists_balances, "balances and their drift are not observed"),
    "amend": Ability(
        lambda has: has.amend is not AmendDialect.NONE,
        "a change cancels the order and places the rest: it loses its place",
    ),
    "dedupe": Ability(
        lambda has: has.dedupe is not Dedupe.NONE, "a request that the network duplicates makes a second order"
    ),
    "validity_window": Ability(
        lambda has: has.validity_window_ns is not None,
        "a request without an answer stays unknown until evidence or an operator",
    ),
    "cancel_reports_cum_qty": Ability(
        lambda has: has.cancel_reports_cum_qty, "the rest of a canceled order waits for a query of its final quantity"
    ),
    "tells_time": Ability(lambda has: has.tells_time, "a wrong clock of the host is known only by refused requests"),
} | {
    kind: Ability(_taken(kind), f"{kind} orders are refused before they are sent")
    for kind in (*OrderType, *TimeInForce)
}
"""By the name that cases, waivers and `remove` use."""
