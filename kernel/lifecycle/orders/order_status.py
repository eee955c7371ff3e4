"""The order states of FIX as one table, and the status that is shown.

An order can be in several states at once; the one with the highest precedence is its OrdStatus. Source: FIX 4.4 with
Errata 20030618, Volume 4, "Order State Change Matrices", precedence table (Copyright FIX Protocol Limited,
fixprotocol.org). FIX gives New, Rejected and PendingNew one rank, and EXPIRED none: it ranks with CANCELED here, and so
does the rejection of the rest of an order, which FIX does not know.
Nothing else in the project decides an order's status.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.models import AttemptKind, OrdStatus


class StatusRule(NamedTuple):
    """A row of the table."""

    precedence: int
    """FIX's rank; the highest that holds is shown."""
    status: OrdStatus
    """FIX 39."""
    holds: Callable[[OrderFacts], bool]
    """True if the facts put the order in this state."""


STATUS_PRECEDENCE: tuple[StatusRule, ...] = (
    StatusRule(
        12, OrdStatus.PENDING_CANCEL, lambda facts: is_open(facts) and AttemptKind.CANCEL in facts.open_requests
    ),
    StatusRule(
        11, OrdStatus.PENDING_REPLACE, lambda facts: is_open(facts) and AttemptKind.AMEND in facts.open_requests
    ),
    StatusRule(10, OrdStatus.DONE_FOR_DAY, lambda facts: is_open(facts) and facts.done_for_day),
    StatusRule(8, OrdStatus.FILLED, lambda facts: facts.accepted and facts.filled and facts.cum_qty > 0),
    StatusRule(7, OrdStatus.STOPPED, lambda facts: is_open(facts) and facts.rare.stopped),
    StatusRule(5, OrdStatus.CANCELED, lambda facts: facts.succeeded or facts.closed is OrdStatus.CANCELED),
    StatusRule(5, OrdStatus.EXPIRED, lambda facts: facts.closed is OrdStatus.EXPIRED),
    StatusRule(5, OrdStatus.REJECTED, lambda facts: facts.closed is OrdStatus.REJECTED and facts.cum_qty > 0),
    StatusRule(4, OrdStatus.PARTIALLY_FILLED, lambda facts: 0 < facts.cum_qty < facts.quantity),
    StatusRule(2, OrdStatus.REJECTED, lambda facts: facts.closed is OrdStatus.REJECTED),
    StatusRule(2, OrdStatus.NEW, lambda facts: facts.accepted),
    StatusRule(2, OrdStatus.PENDING_NEW, lambda facts: True),
)
"""Highest precedence first. A reported end outranks pending, stopped and done-for-day: it answers them."""

TERMINAL = frozenset({OrdStatus.FILLED, OrdStatus.CANCELED, OrdStatus.EXPIRED, OrdStatus.REJECTED})
"""Statuses after which nothing more is expected. No status refuses a fill; a bust can reopen a filled order."""

ENDS = frozenset({OrdStatus.CANCELED, OrdStatus.EXPIRED, OrdStatus.REJECTED})
"""Statuses with which a report ends an order (FILLED follows from quantities)."""


def is_open(facts: OrderFacts) -> bool:
    return facts.closed is None and not facts.succeeded


def ord_status(facts: OrderFacts) -> OrdStatus:
    return next(state.status for state in STATUS_PRECEDENCE if state.holds(facts))
