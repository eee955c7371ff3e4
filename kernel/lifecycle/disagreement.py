"""The backoff of attempts that change nothing, folded from the log (H24).

A venue may refuse a request or lose it, work other terms than were requested, or end an order at once. Each is a failure of
the intent and delays its next submit or change, whatever the reason. Failures of cancels are counted for each venue order,
and delay only its next cancel. Called by `evolve`; the leader computes the same figures for a refusal.
"""

from __future__ import annotations

from msgspec.structs import replace

from kernel.lifecycle.orders.order_facts import OrderFacts, RequestedTerms, replaced_order, with_rare
from kernel.lifecycle.record import Record, ends_by_itself, has_failed, is_solicited, is_stopped_by_venue
from kernel.models import Attempt, AttemptKind, AttemptOutcome, Desired, FindingKind, OrderIntent, OrdStatus
from kernel.order_spec import SymbolMetadata

NS_PER_S = 1_000_000_000
BASE_NS = NS_PER_S
"""Delay after the first failure; it doubles with each further one."""
DELAY_NS_MAX = 60 * NS_PER_S
CANCEL_DELAY_NS_MAX = 30 * NS_PER_S
STANDING_NS = 60 * NS_PER_S
"""Time without a failure, from the end of the last delay, after which the next failure counts as the first."""
FAILURES_MAX = 5
"""Failures that raise VENUE_DISAGREES."""
OTHER_TERMS_MAX = 5
"""Orders with other terms than requested after which a generation has failed."""
REFUSED = (AttemptOutcome.REJECTED, AttemptOutcome.DEAD)
NO_TERMS = RequestedTerms(0, None)


def delay_ns(failures: int, *, longest_ns: int = DELAY_NS_MAX) -> int:
    """Return the delay after this many failures in a row."""
    return min(longest_ns, BASE_NS << min(failures - 1, 30)) if failures else 0


def is_lapsed(record: Record, now_ns: int) -> bool:
    """Return whether the failures of an intent no longer count: none followed for long enough."""
    return now_ns >= record.failed_ns + delay_ns(record.failures) + STANDING_NS


def next_failures(record: Record, now_ns: int) -> int:
    """Return the failures in a row of an intent that fails now."""
    return 1 if is_lapsed(record, now_ns) else record.failures + 1


def with_failure(record: Record, now_ns: int, *, other_terms: bool = False) -> Record:
    """Count a failure. After a few orders with other terms, the generation has failed."""
    failures = next_failures(record, now_ns)
    failed = replace(
        record, failures=failures, failed_ns=now_ns, not_before_ns=now_ns + delay_ns(failures),
        disagreements=record.disagreements + 1 if failures > 1 else 1,
    )  # fmt: skip
    if not other_terms or record.intent is None:
        return failed
    shown = record.other_terms + 1
    if shown < OTHER_TERMS_MAX:
        return replace(failed, other_terms=shown)
    return replace(failed, other_terms=shown, failed_generation=record.intent.generation)


def with_cancel_failure(facts: OrderFacts, now_ns: int, *, not_before_ns: int | None = None) -> OrderFacts:
    """Count a cancel without effect of a venue order; the next one waits until `not_before_ns`, or for the delay."""
    failures = facts.rare.cancel_failures + 1
    until_ns = now_ns + delay_ns(failures, longest_ns=CANCEL_DELAY_NS_MAX) if not_before_ns is None else not_before_ns
    return with_rare(facts, cancel_failures=failures, cancel_not_before_ns=until_ns)


def works_other_terms(facts: OrderFacts, replaced: OrderFacts | None) -> bool:
    """Return whether the venue works an order with another quantity or price than requested. Splits are not counted."""
    if not facts.accepted or facts.rare.splits_ns:
        return False
    terms = requested_terms(facts, replaced)
    if not 0 <= terms.quantity - facts.quantity <= facts.rare.reduced_qty:
        return True
    return terms.price is not None and facts.price not in (None, terms.price)


def requested_terms(facts: OrderFacts, replaced: OrderFacts | None) -> RequestedTerms:
    """Return quantity and price that the venue should work: without what the order that it replaced filled."""
    if facts.rare.changed_to is not None:
        return facts.rare.changed_to
    filled = replaced.cum_qty + replaced.rare.carried_qty if replaced is not None else 0
    return RequestedTerms(max(0, facts.order.quantity - filled), facts.order.price)


def requested_of(record: Record, facts: OrderFacts) -> RequestedTerms:
    """Return quantity and price that the venue should work of an order of a record."""
    return requested_terms(facts, replaced_order(facts, record.orders, record.settled))


def is_undone(record: Record, known: OrderFacts | None, facts: OrderFacts) -> bool:
    """Return whether a report ends an unfilled order that neither was to be canceled nor ends its intent."""
    if facts.closed is None or (known is not None and known.closed is not None) or facts.filled or facts.succeeded:
        return False
    return not is_solicited(facts, record) and not ends_intent(facts, record.intent)


def ends_intent(facts: OrderFacts, intent: OrderIntent | None) -> bool:
    """Return whether nothing is placed after the end of an order; in a group, an exit is placed again."""
    if intent is None or facts.closed is None or intent.group_id is not None:
        return False
    by_itself = ends_by_itself(intent.order, facts.closed, facts.closed_ns)
    return by_itself or facts.closed is OrdStatus.REJECTED or is_stopped_by_venue(intent)


def disagrees(record: Record) -> bool:
    """Return whether the venue has not done what was requested, several times in a row."""
    many = record.disagreements >= FAILURES_MAX or record.other_terms >= OTHER_TERMS_MAX
    for facts in record.orders:
        many = many or (facts.rare.cancel_failures >= FAILURES_MAX and facts.live)
    return many


def is_disagreement_over(record: Record, now_ns: int, *, agrees: bool) -> bool:
    """Return whether the finding no longer applies: the order is over, or has worked for a while as the intent wants it."""
    if not disagrees(record) or is_given_up(record):
        return True
    cancels = any(facts.rare.cancel_failures for facts in record.live_orders)
    return agrees and bool(record.live_orders) and not has_failed(record) and not cancels and is_lapsed(record, now_ns)


def is_given_up(record: Record) -> bool:
    """Return whether no order is wanted and none may be open."""
    wanted = record.intent is not None and record.intent.desired is not Desired.CANCELED
    return not wanted and not record.may_be_live


def is_disagreement_due(record: Record) -> bool:
    """Return whether the finding must be raised, or resolved because the order is over."""
    if record.findings and finding_name(record) in record.findings:
        return is_given_up(record)
    return disagrees(record) and not is_given_up(record)


def finding_name(record: Record) -> str:
    return f"{FindingKind.VENUE_DISAGREES}:{record.intent_id}"


def disagreement_text(record: Record, symbol: SymbolMetadata | None) -> str:
    """Return what was requested and what the venue did instead, in decimals."""
    facts = next(iter([*reversed(record.live_orders), *reversed(record.orders)]), None)
    last = record.attempts[-1] if record.attempts else None
    asked = requested_last(record, facts, last)
    if facts is not None and facts.live:
        works = RequestedTerms(facts.quantity, facts.price)
        if facts.rare.cancel_failures:
            return f"requested a cancel, the venue works {terms_text(works, symbol)}"
        asked_text, works_text = differing_text(asked, works, symbol)
        return f"requested {asked_text}, the venue works {works_text}"
    text = f"requested {terms_text(asked, symbol)}, the venue"
    if last is not None and last.outcome in REFUSED:
        did = "rejected it" if last.outcome is AttemptOutcome.REJECTED else "shows no trace of it"
        return f"{text} {did}: {last.text}" if last.text else f"{text} {did}"
    return f"{text} ended it: {facts.closed}" if facts is not None and facts.closed else f"{text} does not list it"


def requested_last(record: Record, facts: OrderFacts | None, last: Attempt | None) -> RequestedTerms:
    """Return the terms of the newest change or submit."""
    if last is not None and last.kind is AttemptKind.AMEND and last.quantity is not None:
        return RequestedTerms(last.quantity, last.price)
    if facts is not None:
        return requested_of(record, facts)
    return RequestedTerms(record.sent_order.quantity, record.sent_order.price) if record.sent_order else NO_TERMS


def terms_text(terms: RequestedTerms, symbol: SymbolMetadata | None) -> str:
    quantity = symbol.quantity_text(terms.quantity) if symbol is not None else str(terms.quantity)
    if terms.price is None:
        return quantity
    return f"{quantity} at {symbol.price_text(terms.price) if symbol is not None else terms.price}"


def differing_text(asked: RequestedTerms, works: RequestedTerms, symbol: SymbolMetadata | None) -> tuple[str, str]:
    """Return both terms as text, without the part in which they agree."""
    if asked.quantity == works.quantity and asked.price is not None and works.price is not None and symbol is not None:
        return symbol.price_text(asked.price), symbol.price_text(works.price)
    if asked.price in (None, works.price) or works.price is None:
        asked, works = asked._replace(price=None), works._replace(price=None)
    return terms_text(asked, symbol), terms_text(works, symbol)
