"""Outcomes of attempts, as the facts of venue orders show them. Called by `evolve`."""

from __future__ import annotations

from msgspec.structs import replace

from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.models import UNRESOLVED, Attempt, AttemptKind, AttemptOutcome, OrdStatus


def resolved_attempt(attempt: Attempt, facts: OrderFacts) -> Attempt:
    if attempt.outcome not in UNRESOLVED:
        return attempt
    outcome = outcome_from_facts(attempt, facts)
    return replace(attempt, outcome=outcome) if outcome is not None else attempt


def outcome_from_facts(attempt: Attempt, facts: OrderFacts) -> AttemptOutcome | None:
    if attempt.kind is AttemptKind.SUBMIT:
        if attempt.client_order_id not in facts.client_order_ids:
            return None
        return AttemptOutcome.REJECTED if is_refused(facts) else AttemptOutcome.ACCEPTED
    if attempt.kind is AttemptKind.AMEND and attempt.client_order_id in facts.client_order_ids:
        return AttemptOutcome.REJECTED if is_refused(facts) else AttemptOutcome.ACCEPTED
    if not aims_at(attempt, facts):
        return None
    if is_amended(attempt, facts):
        return AttemptOutcome.ACCEPTED
    if facts.live or attempt.new_order:  # the old order's end says nothing about its replacement
        return None
    canceled = attempt.kind is AttemptKind.CANCEL and facts.closed is OrdStatus.CANCELED
    return AttemptOutcome.ACCEPTED if canceled else AttemptOutcome.DEAD


def is_refused(facts: OrderFacts) -> bool:
    return facts.closed is OrdStatus.REJECTED and not facts.accepted


def aims_at(attempt: Attempt, facts: OrderFacts) -> bool:
    if attempt.target_exchange_order_id and facts.exchange_order_id:
        return attempt.target_exchange_order_id == facts.exchange_order_id
    return attempt.target_client_order_id in facts.client_order_ids


def is_amended(attempt: Attempt, facts: OrderFacts) -> bool:
    """Return whether an order has the terms of an unresolved modify in place, which it did not have when it began."""
    if attempt.kind is not AttemptKind.AMEND or attempt.new_order or not aims_at(attempt, facts):
        return False
    return facts.live and (facts.quantity, facts.price) == (attempt.quantity, attempt.price)
