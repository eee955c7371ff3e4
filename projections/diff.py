"""The difference between the desired and the observed side of an intent.

`plan.difference` is the comparison. Deriving the observed side costs more than folding an event, so `differs_in_terms`
decides from the record alone where it can.
"""

from __future__ import annotations

from typing import Protocol

from kernel import plan
from kernel.lifecycle.record import Record, is_refused
from kernel.models import Desired, OrderState


class ObservedSide(Protocol):
    """The part of `KernelState` that the comparison reads."""

    def observed_order(self, intent_id: str) -> OrderState | None: ...


def differs(observed: ObservedSide, record: Record) -> bool:
    """Return whether the reconciler has something to do for an intent, given its record as limited by its group."""
    decided = differs_in_terms(record)
    if decided is not None:
        return decided
    return plan.difference(record.intent, observed.observed_order(record.intent_id)) is not None


def differs_in_terms(record: Record) -> bool | None:
    """Return whether the reconciler has something to do, decided from the record alone; None where that is not possible."""
    intent, orders = record.intent, record.current_orders
    if intent is None or not orders or record.recorded is not None or record.unresolved:
        return None
    live, is_open_question = [], False
    for facts in orders:
        if facts.inferred_qty or facts.rare.end_acted or facts.rare.in_doubt_ns is not None:
            return None
        if facts.live:
            live.append(facts)
        elif facts.final_cum_qty is None:
            is_open_question = True
    ended = intent.desired is Desired.CANCELED or is_refused(record)
    if len(orders) == 1 and live:
        if intent.desired is Desired.CANCELED:
            return True  # cancel it
        facts, desired = orders[0], intent.order  # the terms as sent are those that venues do not report
        agrees = facts.quantity == desired.quantity and facts.price in (None, desired.price)
        agrees = agrees and (facts.order is desired or facts.order == desired)
        return False if agrees and not ended else None
    if is_open_question:
        return True  # query the venue for the final quantity
    return False if not live and (ended or record.cum_qty >= intent.order.quantity) else None
