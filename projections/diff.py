"""The diff between what is wanted and what is there: which keys the reconciler has to look at.

Called by `StatusRule` for the intents that a batch touched; it is `plan.difference`, the one comparison, on what was
folded. Deriving what is there costs more than folding what changed it, so it is left out where the record alone is
plain."""

from __future__ import annotations

from typing import Protocol

from kernel import plan
from kernel.lifecycle import Record
from kernel.lifecycle.order_facts import OrderFacts
from kernel.models import Desired, OrderIntent, OrderState


class BothSides(Protocol):
    """Where both sides of an intent can be read."""

    def effective_intent(self, intent_id: str) -> OrderIntent | None:
        """What is wanted of it now."""

    def observed_order(self, intent_id: str) -> OrderState | None:
        """What is there, forgotten by a store or not."""

    def grouped_record(self, intent_id: str) -> Record:
        """All that is known of it, which wants as much as its group lets it be."""


def differs(sides: BothSides, intent_id: str) -> bool:
    """Whether something is to be done for an intent."""
    plain = differs_in_terms(sides.grouped_record(intent_id))
    if plain is not None:
        return plain
    return plan.difference(sides.effective_intent(intent_id), sides.observed_order(intent_id)) is not None


def differs_in_terms(record: Record) -> bool | None:
    """Whether something is to be done, where the record alone tells, as most do; None where it does not."""
    intent, orders = record.intent, record.current_orders
    if intent is None or not orders or record.recorded is not None or record.unresolved:
        return None
    if any(facts.inferred_qty for facts in orders):
        return None
    over = intent.desired is Desired.CANCELED or record.failed_generation == intent.generation
    if len(orders) == 1 and orders[0].live:
        if intent.desired is Desired.CANCELED:
            return True  # it is to be canceled
        return False if not over and matches_intent(orders[0], intent) else None
    if any(facts.final_cum_qty is None and not facts.live for facts in orders):
        return True  # the venue is to be asked
    if any(facts.live for facts in orders):
        return None
    return False if over or record.cum_qty >= intent.order.quantity else None


def matches_intent(facts: OrderFacts, intent: OrderIntent) -> bool:
    """Whether the only order works on the terms that are wanted, which are those that were sent."""
    asked = intent.order
    return facts.quantity == asked.quantity and facts.price in (None, asked.price) and facts.order == asked
