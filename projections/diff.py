"""The diff between what is wanted and what is there: which keys the reconciler has to look at.

Called by `State` for the intents that a batch touched; it is `plan.difference`, the one comparison, on what was folded.
Deriving what is there costs more than folding what changed it, so it is left out where the record alone is plain.
"""

from __future__ import annotations

from typing import Protocol

from kernel import plan
from kernel.lifecycle import Record
from kernel.lifecycle.facts import OrderFacts
from kernel.models import Desired, OrderIntent, OrderState


class BothSides(Protocol):
    """Where both sides of an intent can be read."""

    def wish(self, intent_id: str) -> OrderIntent | None:
        """What is wanted of it now."""

    def exposure(self, intent_id: str) -> OrderState | None:
        """What is there, forgotten by a store or not."""

    def grouped_record(self, intent_id: str) -> Record:
        """All that is known of it, which wants as much as its group lets it be."""


def differs(sides: BothSides, intent_id: str) -> bool:
    """Whether something is to be done for an intent."""
    if plainly_agree(sides.grouped_record(intent_id)):
        return False
    return plan.difference(sides.wish(intent_id), sides.exposure(intent_id)) is not None


def plainly_agree(record: Record) -> bool:
    """Whether a record alone tells that nothing is to be done, as most do; where it does not, they may still agree."""
    intent, orders = record.intent, record.current_orders
    if intent is None or not orders or record.recorded is not None or record.unsettled:
        return False
    if any(facts.inferred_qty for facts in orders):
        return False
    over = intent.desired is Desired.CANCELED or record.failed_generation == intent.generation
    if len(orders) == 1 and orders[0].live:
        return not over and works_as_wanted(orders[0], intent)
    if any(facts.final_cum_qty is None for facts in orders):
        return False
    return over or record.cum_qty >= intent.order.quantity


def works_as_wanted(facts: OrderFacts, intent: OrderIntent) -> bool:
    """Whether the only order works on the terms that are wanted, which are those that were sent."""
    asked = intent.order
    return facts.quantity == asked.quantity and facts.price in (None, asked.price) and facts.order == asked
