"""`evolve(record, event) -> record`: the change that each event makes to one intent's record.

Called by the state for each event of a stream in order, and by `decide_report` to see whether a report is news.
Pure: instants come from the event and its envelope. Facts apply whatever the status (law 5); a verdict counts only for
the attempt that it names, while that is unresolved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import intern
from typing import Any

from msgspec.structs import replace

from kernel import events
from kernel.lifecycle.apply_report import ORDER_CHANGES, PLAIN_REPORTS, plain_change, recorded_ns
from kernel.lifecycle.disagreement import (
    finding_name,
    is_undone,
    with_cancel_failure,
    with_failure,
    works_other_terms,
)
from kernel.lifecycle.order_identity import find_order, replacement
from kernel.lifecycle.orders import order_facts
from kernel.lifecycle.orders.attempt_outcome import aims_at, is_amended, outcome_from_facts, resolved_attempt
from kernel.lifecycle.orders.order_facts import (
    NO_RARE,
    NONE_SETTLED,
    CumEvidence,
    OrderFacts,
    RareFacts,
    ReplacedOrder,
    RequestedTerms,
    replaced_order,
    with_rare,
)
from kernel.lifecycle.orders.order_status import ENDS
from kernel.lifecycle.orders.shared_sequence import SharedSequence
from kernel.lifecycle.orders.trades import NO_TRADES
from kernel.lifecycle.orders.trigger_chain import (
    link_replaced,
    link_triggered,
    may_trigger,
    shown_open_ns,
    with_trigger,
)
from kernel.lifecycle.record import (
    NO_ENTRIES,
    Record,
    SentModify,
    is_solicited,
    keep_attempts,
    order_under,
    reconciliation_status,
    venue_orders_of,
)
from kernel.lifecycle.settled_orders import recalled
from kernel.models import (
    UNRESOLVED,
    AcceptedTerms,
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Desired,
    Evidence,
    ExecType,
    LookScope,
    OrderIntent,
    OrderState,
    OrdStatus,
    VenueOrder,
)
from kernel.order_spec import StandardOrder


def evolve(record: Record, event: events.BaseEvent) -> Record:
    """Return the record after an event."""
    envelope, change = event.recorded_envelope, STRAIGHT.get(type(event))
    after = change(record, event, envelope) if envelope is not None and change is not None else None
    return after if after is not None else evolve_any(record, event)


def evolve_any(record: Record, event: events.BaseEvent) -> Record:
    """Do what `evolve` does, for any event; one without a change below only sets the version."""
    kind, envelope = type(event), event.recorded_envelope
    record = recalled(record, event)
    change = CHANGES.get(kind)
    after = change(record, event) if change is not None else record
    if envelope is None:
        return after
    changes: dict[str, Any] = {"version": envelope.version, "last_position": envelope.position}
    if after.has_order is not record.has_order:
        changes["order_position"] = envelope.position if after.has_order else 0
    if (after.intent is None) is not (record.intent is None):
        changes["created_position"] = 0 if after.intent is None else envelope.position
    if kind in COMMAND_EVENTS:
        changes |= {"correlation_id": envelope.origin.correlation_id, "command_position": envelope.position}
    return replace(after, **changes)


def intent_created(record: Record, event: events.IntentCreated) -> Record:
    """Start a reused id afresh: client order ids and attempt numbers stay known, old orders no longer count."""
    intent = with_shared_names(event.intent)
    if not record.deleted:
        return with_intent(record, intent)
    retired = tuple(with_rare(facts, retired=True) for facts in record.orders)
    fresh = {"attempts": (), "has_order": False, "recorded": None, "last_sync_ns": 0, "wanted_most": 0}
    return with_intent(replace(record, deleted=False, orders=retired, **fresh), intent)


def with_shared_names(intent: OrderIntent) -> OrderIntent:
    """Return an intent with one string for the names that most intents have in common."""
    exchange_id, owner, order = intent.exchange_id, intent.owner, intent.order
    order = replace(order, symbol_id=intern(str(order.symbol_id)))
    return replace(intent, order=order, exchange_id=intern(str(exchange_id)), owner=intern(str(owner)))


def with_intent(record: Record, intent: OrderIntent) -> Record:
    """Set the intent. A new generation may be sent at once; failures and orders at the venue stay as they are."""
    known, most = record.intent, max(record.wanted_most, intent.order.quantity)
    if known is None or intent.generation == known.generation:
        return replace(record, intent=intent, wanted_most=most)
    after = replace(record, intent=intent, wanted_most=most, not_before_ns=0, other_terms=0)
    if record.recorded is None:
        return after
    changes = {"failures": 0, "not_before_ns": 0, "reconciliation_status": reconciliation_status(after)}
    return replace(after, recorded=replace(record.recorded, **changes))


def cancel_requested(record: Record, event: events.IntentCancelRequested) -> Record:
    if record.intent is None:
        return record
    canceled = replace(
        record.intent, desired=Desired.CANCELED, generation=event.generation, updated_at_ns=event.requested_at_ns
    )
    return with_intent(record, canceled)


def attempt_started(record: Record, event: events.AttemptStarted) -> Record:
    return replace(record, **started(record, event, event.position if event.recorded else 0))


def straight_start(record: Record, event: events.AttemptStarted, envelope: events.Envelope) -> Record | None:
    """Start an attempt of an intent without settled orders by one change, as `attempt_started` does."""
    if record.settled is not NONE_SETTLED:
        return None
    position, known = envelope.position, record.order_position if record.has_order else envelope.position
    changes = started(record, event, position)
    return replace(record, version=envelope.version, last_position=position, order_position=known, **changes)


def started(record: Record, event: events.AttemptStarted, position: int) -> dict[str, Any]:
    """Return the record fields that an attempt changes."""
    kind, terms = event.kind, event.order if event.kind is AttemptKind.AMEND else None
    attempt = Attempt(
        number=event.number, kind=kind, position=position,
        outcome=AttemptOutcome.PENDING, client_order_id=event.client_order_id,
        target_client_order_id=event.target_client_order_id, target_exchange_order_id=event.target_exchange_order_id,
        new_order=bool(event.new_order), quantity=terms.quantity if terms else None, price=terms.price if terms else None,
        generation=event.generation, epoch=event.epoch, stamp_ns=event.stamp_ns, send_by_ns=event.send_by_ns,
        valid_until_ns=event.valid_until_ns, absent_after_ns=event.absent_after_ns,
        text="", duplicate=False,  # a default costs a call
    )  # fmt: skip
    return {
        "attempts": keep_attempts((*record.attempts, attempt)), "number": max(record.number, event.number),
        "not_before_ns": record.not_before_ns if kind is AttemptKind.CANCEL else 0, "recorded": None, "has_order": True,
        **sent_by(record, event),
    }  # fmt: skip


def sent_by(record: Record, event: events.AttemptStarted) -> dict[str, Any]:
    """Return the record fields that change by a request and are kept for ever."""
    kind, client_id, order = event.kind, event.client_order_id, event.order
    if kind is AttemptKind.SUBMIT:
        wanted = record.intent.order if record.intent is not None else None
        # one value, as most are equal
        return {"sends": counted(record.sends, client_id), "sent_order": wanted if order == wanted else order}
    changes: dict[str, Any] = {}
    if event.target_client_order_id:
        link = (client_id, event.target_client_order_id)
        known = link in record.targets.under(client_id)
        changes["targets"] = record.targets if known else record.targets.plus(link)
    if kind is AttemptKind.AMEND:
        sent = SentModify(client_id, order, event.generation, bool(event.new_order), bool(event.keeps_cum_qty))
        changes["amends"] = record.amends.plus(sent)
    if kind is AttemptKind.CANCEL or event.new_order:  # a replace ends its target (H11)
        # Prefer the venue's id: a duplicate may have the same client order id, and its end is unsolicited.
        target = event.target_exchange_order_id or event.target_client_order_id
        changes["solicited"] = record.solicited | {target} if target else record.solicited
    return changes


def counted(sends: SharedSequence[tuple[str, int]], client_order_id: str) -> SharedSequence[tuple[str, int]]:
    if not sends or not sends.under(client_order_id):
        return sends.plus((client_order_id, 1))
    return SharedSequence((known, count + (known == client_order_id)) for known, count in sends)


def attempt_failed(record: Record, event: events.AttemptFailed) -> Record:
    attempt = record.attempt_at(event.attempt_position)
    if attempt is None or attempt.outcome not in UNRESOLVED:
        return record
    resolved = replace(
        with_attempt(record, replace(attempt, outcome=event.outcome, text=event.text, code=event.code)),
        recorded=None,
    )
    if attempt.kind is AttemptKind.CANCEL:
        return cancel_failed(resolved, attempt, event)
    counts = event.failures == 1 or event.failures > record.failures  # a rate limit is not about the order
    refused = event.outcome is AttemptOutcome.REJECTED and not event.locally_rejected
    # A refused order of a group may wait for what a sibling locks; EXIT_MISSING reports a position without its exit.
    by_venue = counts and refused and (record.intent is None or record.intent.group_id is None)
    failed = replace(
        resolved,
        failures=event.failures,
        failed_ns=recorded_ns(event),
        disagreements=(record.disagreements if event.failures > 1 else 0) + by_venue,
    )
    if event.retry_at_ns is not None:
        return replace(failed, not_before_ns=event.retry_at_ns)
    if event.outcome is AttemptOutcome.REJECTED:
        return replace(failed, failed_generation=attempt.generation)
    return failed


def cancel_failed(record: Record, attempt: Attempt, event: events.AttemptFailed | events.AttemptResolved) -> Record:
    """Delay the next cancel of an order whose cancel had no effect, or was not sent, which is no failure of the venue."""
    until_ns = event.retry_at_ns if isinstance(event, events.AttemptFailed) else None
    not_sent = isinstance(event, events.AttemptFailed) and event.outcome is AttemptOutcome.DEAD
    orders = []
    for facts in record.orders:
        if facts.live and aims_at(attempt, facts):
            failed = with_cancel_failure(facts, recorded_ns(event), not_before_ns=until_ns)
            facts = with_rare(failed, cancel_failures=facts.rare.cancel_failures) if not_sent else failed
        orders.append(facts)
    return replace(record, orders=tuple(orders))


def attempt_unknown(record: Record, event: events.AttemptUnknown) -> Record:
    attempt = record.attempt_at(event.attempt_position)
    if attempt is None or attempt.outcome is not AttemptOutcome.PENDING:
        return record
    unknown = replace(
        attempt, outcome=AttemptOutcome.UNKNOWN, text=event.text, code=event.code, duplicate=event.duplicate
    )
    return replace(with_attempt(record, unknown), recorded=None)


def attempt_resolved(record: Record, event: events.AttemptResolved) -> Record:
    """Resolve the named attempt and every earlier send of its client order id."""
    named = record.attempt_at(event.attempt_position)
    if named is None or named.outcome not in UNRESOLVED:
        return record
    attempts = tuple(
        replace(item, outcome=event.outcome, text=event.text)
        if item.outcome in UNRESOLVED
        and item.client_order_id == named.client_order_id
        and item.position <= named.position
        else item
        for item in record.attempts
    )
    resolved = replace(record, attempts=keep_attempts(attempts), recorded=None)
    if event.outcome is AttemptOutcome.REJECTED and named.kind is not AttemptKind.CANCEL:
        return replace(resolved, failed_generation=named.generation)
    if event.outcome is not AttemptOutcome.DEAD or (event.recorded and event.evidence is Evidence.OPERATOR):
        return resolved
    if named.kind is AttemptKind.CANCEL:
        return cancel_failed(resolved, named, event)
    changed = any(facts.live and aims_at(named, facts) for facts in record.orders)
    if named.kind is AttemptKind.AMEND and not changed:
        return resolved  # its target ended first
    return with_failure(resolved, recorded_ns(event), other_terms=named.kind is AttemptKind.AMEND)


def with_attempt(record: Record, attempt: Attempt) -> Record:
    attempts = tuple(attempt if item.position == attempt.position else item for item in record.attempts)
    return replace(record, attempts=keep_attempts(attempts))


def plain_report(record: Record, event: Any, envelope: events.Envelope) -> Record | None:
    """Apply a report about the only order of an intent, as `reported` does; None if anything about them is unusual."""
    orders = record.orders
    if len(orders) > 1 or record.amends is not NO_ENTRIES or record.settled is not NONE_SETTLED:
        return None
    now_ns = envelope.recorded_at_ns
    before = orders[0] if orders else plain_order(record, event, now_ns)
    facts = plain_change(before, event, now_ns) if before is not None else None
    if facts is None:
        return None
    ids = facts.client_order_ids
    if facts.closed is not None and (not orders or record.solicited.isdisjoint((facts.exchange_order_id, *ids))):
        return None  # what the venue ended by itself may be a failure
    attempts = record.attempts
    for attempt in record.attempts:
        if attempt.outcome is AttemptOutcome.PENDING or attempt.outcome is AttemptOutcome.UNKNOWN:
            if attempt.kind is AttemptKind.AMEND:
                return None
            if (outcome := outcome_from_facts(attempt, facts)) is not None:
                resolved = replace(attempt, outcome=outcome)
                attempts = tuple([resolved if item is attempt else item for item in attempts])
    return replace(
        record, version=envelope.version, last_position=envelope.position, orders=(facts,), recorded=None, has_order=True,
        order_position=record.order_position if record.has_order else envelope.position,
        attempts=attempts if attempts is record.attempts else keep_attempts(attempts),
        last_sync_ns=now_ns if now_ns > record.last_sync_ns else record.last_sync_ns,
        last_report_ns=now_ns if now_ns > record.last_report_ns else record.last_report_ns,
    )  # fmt: skip


def plain_order(record: Record, event: events.OrderReport, now_ns: int) -> OrderFacts | None:
    """Return the facts of an order on its first report, if its submit is unresolved and all that was ever requested."""
    attempts, order = record.attempts, record.sent_order
    if order is None or len(attempts) != 1 or record.targets is not NO_ENTRIES or record.refused_ids:
        return None
    sent = attempts[0]
    if sent.kind is not AttemptKind.SUBMIT or sent.outcome not in UNRESOLVED:
        return None
    return new_facts(event, sent.client_order_id, order, sent.generation, attempts, now_ns)


def reported(record: Record, event: events.OrderReport) -> Record:
    """Apply a fact about one venue order: find the order, add the fact, resolve the attempts that it answers."""
    if is_ambiguous_reject(record, event):
        return record
    if isinstance(event, events.OrderStateObserved) and event.in_doubt:
        return doubted(record, event)
    if type(event) in REQUEST_REFUSALS:
        record = request_refused(record, event)
        if find_order(record, event) is None:
            return replace(record, refused_ids=record.refused_ids | {event.client_order_id or ""})
    found = find_order(record, event)
    before = found or new_order(record, event)
    if before is None:
        return record
    known = before if type(event) in REQUEST_REFUSALS else named(before, event)
    quantity = before.quantity if found else before.order.quantity
    facts = with_fact(record, known, event, quantity=quantity)
    now_ns = recorded_ns(event)
    if found is not None and found.closed is not None and facts.live and is_solicited(facts, record):
        facts = with_cancel_failure(facts, now_ns)  # canceled, as the venue said, and open again
    if now_ns > facts.last_seen_ns:
        facts = replace(facts, last_seen_ns=now_ns)
    if found is None:
        if record.orders:
            facts = replace(facts, place=record.orders[-1].place + 1)
        orders, place = (*without_replaced(record, event), facts), len(record.orders)
    else:
        orders = tuple([facts if item is found else item for item in record.orders])
        place = next(place for place, item in enumerate(record.orders) if item is found)
    if len(orders) > 1 or record.settled:
        orders = link_triggered(orders, facts, now_ns=now_ns, shown_ns=shown_open_ns(event), solicited=record.solicited)
        orders = link_replaced(orders, record.settled) if record.amends else orders
    unresolved = record.unresolved
    worked = with_requested_terms(orders[place], replaced_order(orders[place], orders, record.settled), unresolved)
    if worked is not orders[place]:
        orders = (*orders[:place], worked, *orders[place + 1 :])
    after = replace(
        record, orders=orders, recorded=None, has_order=True, last_sync_ns=max(record.last_sync_ns, now_ns),
        last_report_ns=max(record.last_report_ns, now_ns),
        **resolved_by_facts(record, facts, any_open=bool(unresolved)),
    )  # fmt: skip
    return with_disagreement(after, found, worked, now_ns=now_ns)


def with_fact(record: Record, known: OrderFacts, event: events.OrderReport, *, quantity: int) -> OrderFacts:
    """Add a fact to those of an order that works `quantity` before it."""
    facts = ORDER_CHANGES[type(event)](with_trigger(created(known, event), event), event)
    if record.amends or record.unresolved:
        facts = amended(record, facts, event)
    if facts.order.reduce_only:
        facts = reduced(record, facts, event, quantity=quantity)
    if facts.rare.end_acted and not known.rare.end_acted and is_solicited(known, record):
        facts = with_rare(facts, end_acted=False)
    if event.unconfirmed and facts.ended:
        facts = replace(facts, unconfirmed_ns=recorded_ns(event))
    return facts


def with_disagreement(record: Record, found: OrderFacts | None, worked: OrderFacts, *, now_ns: int) -> Record:
    """Count a failure if a report shows that an order works other terms than requested, or was undone."""
    asked_anew = found is None or not found.rare.other_terms or found.rare.changed_to is not worked.rare.changed_to
    other_terms = worked.rare.other_terms and asked_anew
    if worked.rare.retired or not (other_terms or is_undone(record, found, worked)):
        return record
    return with_failure(record, now_ns, other_terms=other_terms)


def with_requested_terms(facts: OrderFacts, replaced: OrderFacts | None, unresolved: Sequence[Attempt]) -> OrderFacts:
    """Note the terms of a change that the order took, and whether it works other terms than requested.

    While a change is unresolved, neither its terms nor the old ones are to be expected.
    """
    changed_to = facts.rare.changed_to
    for attempt in unresolved:
        if attempt.kind is not AttemptKind.AMEND or not aims_at(attempt, facts):
            continue
        if attempt.new_order and attempt.client_order_id not in facts.client_order_ids:
            continue  # the change makes another order
        outcome = outcome_from_facts(attempt, facts)
        if outcome is None:
            return facts
        if outcome is AttemptOutcome.ACCEPTED:
            changed_to = RequestedTerms(attempt.quantity or 0, attempt.price)
    if changed_to is not facts.rare.changed_to:
        facts = with_rare(facts, changed_to=changed_to)
    other_terms = works_other_terms(facts, replaced)
    return facts if other_terms is facts.rare.other_terms else with_rare(facts, other_terms=other_terms)


def created(facts: OrderFacts, event: events.OrderReport) -> OrderFacts:
    """Take the time at which the venue made the order from a report that surely is about it."""
    told_ns = event.order_created_ns
    if told_ns is None or event.life_margin_ns is not None:
        return facts
    is_news = facts.created_ns is None or told_ns < facts.created_ns
    return replace(facts, created_ns=told_ns) if is_news else facts


def doubted(record: Record, event: events.OrderStateObserved) -> Record:
    """Mark an order as in doubt: a report that no intent owns may be about it. It confirms nothing."""
    found = find_order(record, event)
    if found is None:
        return record
    marked = with_rare(found, in_doubt_ns=recorded_ns(event), id_reused=True)
    return replace(record, orders=tuple(marked if item is found else item for item in record.orders), recorded=None)


def amended(record: Record, facts: OrderFacts, event: events.OrderReport) -> OrderFacts:
    """Raise the order's generation if it has a modify's id, or the terms of an unresolved one."""
    sent = record.sent_modify(event.client_order_id or "")
    if sent is not None and not sent.new_order and type(event) not in REQUEST_REFUSALS:
        named_alone = not event.orig_client_order_id  # else the id may be the request's only
        if named_alone and event.exec_type is ExecType.ORDER_STATUS:
            facts = with_client_id(facts, sent.client_order_id)
        if facts.generation and (named_alone or event.exec_type is ExecType.REPLACED):
            facts = replace(facts, generation=max(facts.generation, sent.generation))
    for attempt in record.unresolved:
        if is_amended(attempt, facts) and facts.generation < attempt.generation:
            facts = replace(facts, generation=attempt.generation)
    return facts


def with_client_id(facts: OrderFacts, client_order_id: str) -> OrderFacts:
    """Add a client order id: as the current one, unless it is known to be superseded."""
    ids = facts.client_order_ids
    if client_order_id in ids:
        return facts
    passed = client_order_id in facts.rare.superseded_ids
    return replace(facts, client_order_ids=(client_order_id, *ids) if passed else (*ids, client_order_id))


def reduced(record: Record, facts: OrderFacts, event: events.OrderReport, *, quantity: int) -> OrderFacts:
    """Note by how much the venue changed the quantity of a reduce-only order, which was `quantity`, by itself."""
    if facts.quantity == quantity:
        return facts
    requested = event.exec_type is ExecType.REPLACED or any(
        item.order.quantity == facts.quantity for item in record.amends
    )
    changed = 0 if requested else max(0, facts.rare.reduced_qty + quantity - facts.quantity)
    return with_rare(facts, reduced_qty=changed) if changed != facts.rare.reduced_qty else facts


REQUEST_REFUSALS = frozenset({events.CancelRejected, events.ModifyRejected})


def is_ambiguous_reject(record: Record, event: events.OrderReport) -> bool:
    """Return whether a rejection without a venue id may be about any of several sends of its id."""
    if not isinstance(event, events.OrderRejected) or event.exchange_order_id:
        return False
    return record.send_count(event.client_order_id or "") > 1


def request_refused(record: Record, event: events.OrderReport) -> Record:
    """A refused cancel or modify proves nothing about the order: its attempt stays open until a status query."""
    attempts = tuple(
        replace(item, outcome=AttemptOutcome.UNKNOWN, text=event.text or "")
        if item.outcome is AttemptOutcome.PENDING and item.client_order_id == event.client_order_id
        else item
        for item in record.attempts
    )
    return replace(record, attempts=attempts)


def without_replaced(record: Record, event: events.OrderReport) -> tuple[OrderFacts, ...]:
    """Return the known orders; one that the reported order replaces is closed, with an unknown final quantity."""
    sent = replacement(record, event)
    target = record.target(sent.client_order_id) if sent is not None else None
    old = order_under(record, target) if target is not None else None
    if old is None or not old.live:
        return record.orders
    now_ns = recorded_ns(event)
    gone = replace(old, gone_ns=now_ns, closed_ns=now_ns)
    return tuple(gone if item is old else item for item in record.orders)


def new_order(record: Record, event: events.OrderReport) -> OrderFacts | None:
    """Return the facts of an order on its first report; its terms are those sent until the venue reports others."""
    now_ns = recorded_ns(event)
    if (stop := triggered_stop(record, event)) is not None:
        facts = new_facts(event, stop.client_order_id, stop.order, stop.generation, (), now_ns)
        facts = replace(
            facts, client_order_ids=stop.client_order_ids, sent_ns=stop.sent_ns,
            quantity=stop.quantity if event.order_qty is None else event.order_qty,
            price=stop.price if event.price is None else event.price,
        )  # fmt: skip
        return with_rare(facts, late=stop.rare.late)
    sent_amend = replacement(record, event)
    if sent_amend is not None:
        name = sent_amend.client_order_id
        made = [item for item in record.attempts if item.client_order_id == name]
        replaced = ReplacedOrder(record.target(name) or "", sent_amend.keeps_cum_qty)
        facts = new_facts(event, name, sent_amend.order, sent_amend.generation, made, now_ns)
        return with_rare(facts, replaced=replaced)
    client_id = record.submit_id(event.orig_client_order_id or event.client_order_id or "")
    order = record.sent_order or (record.intent.order if record.intent else None)
    if order is None:
        return None
    sent = [item for item in record.attempts if item.kind is AttemptKind.SUBMIT and item.client_order_id == client_id]
    all_failed = all(item.outcome in (AttemptOutcome.DEAD, AttemptOutcome.REJECTED) for item in sent)
    newest_submit = record.submit
    older = order_under(record, client_id)  # a duplicate has the generation of the first order under its id
    # If nothing was ever sent, the order was adopted: the intent was made from it.
    known = sent[-1] if sent else older or newest_submit or record.intent
    generation = known.generation if known is not None else 0
    facts = new_facts(event, client_id, order, generation, sent, now_ns)
    late = all_failed and record.send_count(client_id) > 0
    if not late and not record.refused_ids:
        return facts
    answered = frozenset(item for item in record.refused_ids if record.submit_id(item) == client_id)
    return with_rare(replace(facts, answered_ids=answered), late=late)


def triggered_stop(record: Record, event: events.OrderReport) -> OrderFacts | None:
    """Return the known stop that a new order may have followed: the one that it names, else one of its client order id."""
    named = event.parent_exchange_order_id
    if named and (stop := next((facts for facts in record.orders if facts.exchange_order_id == named), None)):
        return stop
    client_id = event.client_order_id or event.orig_client_order_id
    stop = order_under(record, client_id) if client_id else None
    return stop if stop is not None and may_trigger(stop) and client_id in stop.client_order_ids else None


def new_facts(
    event: events.OrderReport,
    client_id: str,
    order: StandardOrder,
    generation: int,
    sent: Sequence[Attempt],
    now_ns: int,
) -> OrderFacts:
    return OrderFacts(
        exchange_order_id=event.exchange_order_id or "", client_order_ids=(client_id,), order=order,
        quantity=event.order_qty if event.order_qty is not None else order.quantity,
        price=event.price if event.price is not None else order.price, generation=generation,
        first_seen_ns=now_ns, last_seen_ns=now_ns, sent_ns=min([item.stamp_ns for item in sent], default=None),
    )  # fmt: skip


def named(facts: OrderFacts, event: events.OrderReport) -> OrderFacts:
    if event.exchange_order_id and not facts.exchange_order_id:
        return replace(facts, exchange_order_id=event.exchange_order_id)
    return facts


def resolved_by_facts(record: Record, facts: OrderFacts, *, any_open: bool) -> dict[str, Any]:
    """Return the record fields that change: an order resolves every open submit of its id, an end every open request."""
    changes: dict[str, Any] = {}
    if facts.closed is OrdStatus.REJECTED and facts.generation > record.failed_generation:
        changes["failed_generation"] = facts.generation
    if not any_open:
        return changes
    attempts = tuple([resolved_attempt(item, facts) for item in record.attempts])
    resolved = [new for new, old in zip(attempts, record.attempts, strict=True) if new is not old]
    if not resolved:
        return changes
    changes["attempts"] = keep_attempts(attempts)
    return changes


def state_recorded(record: Record, event: events.OrderStateRecorded) -> Record:
    """Apply a store's write as a baseline: known fills stay known, later reports apply on top.

    An unresolved attempt that the write does not list stays, as it may still act at the venue; then the state is derived
    from that attempt instead of being read as written.
    """
    listed_positions = {item.position for item in event.state.attempts}
    unlisted_attempts = tuple(
        item for item in record.unresolved if item.position not in listed_positions and was_made(record, item)
    )
    state, now_ns = event.state, recorded_ns(event)
    listed = [(item, known_order(record, item)) for item in venue_orders_of(state)]
    kept = {id(known) for _, known in listed}
    orders = unlisted_orders([facts for facts in record.orders if id(facts) not in kept], state, now_ns)
    orders += [recorded_order(item, state, known, now_ns) for item, known in listed]
    return replace(
        record, orders=tuple([replace(facts, place=place) for place, facts in enumerate(orders)]),
        attempts=(*unlisted_attempts, *state.attempts),
        number=max([record.number, *(item.number for item in state.attempts)]), failures=state.failures,
        failed_generation=state.failed_generation, not_before_ns=state.not_before_ns, accepted=state.accepted_terms,
        last_sync_ns=int(state.last_sync_at * 1_000_000_000), sent_order=state.status.order,
        recorded=None if unlisted_attempts else state, has_order=True,
    )  # fmt: skip


def was_made(record: Record, attempt: Attempt) -> bool:
    """Return whether an attempt was started here, rather than listed by an earlier write."""
    aimed = record.target(attempt.client_order_id) is not None or attempt.target_exchange_order_id in record.solicited
    return aimed or record.send_count(attempt.client_order_id) > 0


def known_order(record: Record, item: VenueOrder) -> OrderFacts | None:
    """Return the known order of a written one: by the venue's id, else by ours if one side lacks the venue's."""
    for facts in record.orders:
        if item.exchange_order_id and facts.exchange_order_id == item.exchange_order_id:
            return facts
    return order_under(record, item.client_order_id, exchange_order_id=item.exchange_order_id or None)


def unlisted_orders(known: Sequence[OrderFacts], state: OrderState, now_ns: int) -> list[OrderFacts]:
    """Return the known orders that a store's write does not list: as they are if it has the sum of earlier ones."""
    if state.earlier_orders is None:
        return [left_behind(facts, now_ns) for facts in known if facts.trades or facts.rare.busts]
    orders = [left_behind(facts, now_ns) if facts.final_cum_qty is None else facts for facts in known]
    missing = state.earlier_orders.cum_qty - sum(facts.cum_qty for facts in orders if not facts.rare.retired)
    if missing > 0:  # a state of another log
        filled = VenueOrder(
            exchange_order_id="", client_order_id="", quantity=missing, live=False, ord_status=OrdStatus.FILLED,
            cum_qty=missing, final_cum_qty=missing,
        )  # fmt: skip
        orders.append(recorded_order(filled, state, None, now_ns))
    return orders


def recorded_order(item: VenueOrder, state: OrderState, known: OrderFacts | None, now_ns: int) -> OrderFacts:
    facts = OrderFacts(
        exchange_order_id=item.exchange_order_id, client_order_ids=(item.client_order_id,), order=state.status.order,
        quantity=item.quantity, price=item.price, generation=item.generation,
        first_seen_ns=item.first_seen_ns or now_ns, last_seen_ns=item.last_seen_ns or now_ns,
        accepted=item.ord_status is not OrdStatus.PENDING_NEW, trades=known.trades if known else NO_TRADES,
        rare=recorded_rare(item, known.rare if known else NO_RARE),
    )  # fmt: skip
    voided_ns = max(0, order_facts.newest_void(facts))
    facts = replace(facts, evidence=(CumEvidence(voided_ns, item.cum_qty),)) if item.cum_qty else facts
    if item.ord_status in ENDS:
        return order_facts.with_end(facts, item.ord_status, now_ns=now_ns, time_ns=voided_ns, cum_qty=item.cum_qty)
    return facts


def recorded_rare(item: VenueOrder, known: RareFacts) -> RareFacts:
    return RareFacts(
        busts=known.busts, late=item.late, succeeded_ns=known.succeeded_ns, replaced=known.replaced,
        carried_qty=known.carried_qty, reduced_qty=item.reduced_qty or 0, recorded=True,
        changed_to=RequestedTerms(item.quantity, item.price),
    )  # fmt: skip


def left_behind(facts: OrderFacts, now_ns: int) -> OrderFacts:
    """Retire an order with trades that a write no longer lists.

    Its trades stay in the books but no longer count for the intent; it counts as ended until a status query shows it open.
    """
    gone_ns = now_ns if facts.live else facts.gone_ns
    closed_ns = facts.closed_ns if facts.closed_ns is not None else now_ns
    total = facts.closed_cum or CumEvidence(max(0, facts.quantities.voided_ns), facts.cum_qty)
    gone = replace(facts, gone_ns=gone_ns, closed_ns=closed_ns, closed_cum=total)
    return with_rare(gone, retired=True, recorded=False)


def apply_snapshot_taken(record: Record, event: events.VenueSnapshotTaken) -> Record:
    """Apply a status query: a hit confirms the order; an admissible miss counts against the order, or the attempt (H15)."""
    record = without_doubt(record, event) if event.complete else record
    if not event.complete or event.found is None:
        return record
    now_ns = recorded_ns(event)
    if not event.found:
        orders = tuple([without_order(facts, event) for facts in record.orders])
        attempts = tuple([missed_attempt(item, event) for item in record.attempts])
        return replace(record, orders=orders, attempts=attempts)
    orders = tuple(
        replace(without_order(facts, event), last_seen_ns=max(facts.last_seen_ns, now_ns))
        if event.client_order_id in facts.client_order_ids or event.exchange_order_id == facts.exchange_order_id
        else facts
        for facts in record.orders
    )
    recorded = confirmed(record.recorded, now_ns) if record.recorded is not None else None
    return replace(record, orders=orders, recorded=recorded, last_sync_ns=max(record.last_sync_ns, now_ns))


def without_order(facts: OrderFacts, event: events.VenueSnapshotTaken) -> OrderFacts:
    """Return the facts after a query that names the order; the reports before the event hold what it showed of it."""
    named = facts.exchange_order_id == (event.exchange_order_id or "")
    if event.reflects_ns is None or not named or (event.found and facts.live):
        return facts
    if not facts.exchange_order_id and event.client_order_id not in facts.client_order_ids:
        return facts
    listed = LookScope.OPEN_ORDERS in event.scopes
    return order_facts.without(facts, now_ns=recorded_ns(event), reflects_ns=event.reflects_ns, listed=listed)


def missed_attempt(attempt: Attempt, event: events.VenueSnapshotTaken) -> Attempt:
    """Return an attempt after a query that did not show its order, if that query can prove absence."""
    if attempt.outcome not in UNRESOLVED or attempt.client_order_id != event.client_order_id:
        return attempt
    if attempt.absent_after_ns is None or event.began_ns < max(
        attempt.absent_after_ns, attempt.list_look_ended_ns or 0
    ):
        return attempt
    looks = (attempt.absent_looks or 0) + 1
    return replace(attempt, list_look_ended_ns=event.ended_ns, absent_looks=looks)


def without_doubt(record: Record, event: events.VenueSnapshotTaken) -> Record:
    """End the doubt about the orders that a query named, if it began after they were in doubt."""
    if all(facts.rare.in_doubt_ns is None for facts in record.orders):
        return record
    orders = tuple(
        with_rare(facts, in_doubt_ns=None)
        if facts.rare.in_doubt_ns is not None
        and event.began_ns >= facts.rare.in_doubt_ns
        and event.client_order_id in (None, *facts.client_order_ids)
        else facts
        for facts in record.orders
    )
    return replace(record, orders=orders)


def confirmed(recorded: OrderState, now_ns: int) -> OrderState:
    """Set the confirmation time of a written state, else it would be queried for ever."""
    return replace(recorded, last_sync_at=max(recorded.last_sync_at, now_ns // 1_000_000_000))


def terms_accepted(record: Record, event: events.TermsAccepted) -> Record:
    """Let other terms count than those of the intent; if the venue disagreed with the intent's, that is over."""
    terms = AcceptedTerms(generation=event.generation, quantity=event.quantity, price=event.price, asked=event.asked)
    return replace(without_disagreement(record), accepted=terms)


def without_disagreement(record: Record) -> Record:
    """Allow one more send at once, also for a generation that has failed."""
    orders = tuple(with_rare(item, cancel_failures=0) if item.rare.cancel_failures else item for item in record.orders)
    fresh = {"disagreements": 0, "other_terms": 0, "failed_generation": 0, "not_before_ns": 0}
    return replace(record, orders=orders, **fresh)


def finding_resolved(record: Record, event: events.FindingResolved) -> Record:
    """Close a finding. Of a disagreement, an operator may allow another try."""
    after = replace(record, findings=record.findings - {event.finding_id})
    if event.finding_id != finding_name(record):
        return after
    if event.recorded and event.evidence is Evidence.OPERATOR:
        return replace(without_disagreement(after), recorded=None)
    return replace(after, disagreements=0)


STRAIGHT: dict[type[events.BaseEvent], Callable[..., Record | None]] = {
    events.AttemptStarted: straight_start,
    **dict.fromkeys(PLAIN_REPORTS, plain_report),
}
"""The changes of an ordinary life, each made at once; None where `evolve_any` is to make it."""

COMMAND_EVENTS = frozenset({events.IntentCreated, events.IntentModified, events.IntentCancelRequested})
"""Commands that later actions of the kernel are correlated with."""

CHANGES: dict[type[events.BaseEvent], Callable[..., Record]] = {
    events.IntentCreated: intent_created,
    events.IntentModified: lambda record, event: with_intent(record, with_shared_names(event.intent)),
    events.IntentCancelRequested: cancel_requested,
    events.IntentDeleted: lambda record, event: replace(
        without_disagreement(record), intent=None, deleted=True, failures=0, accepted=None
    ),
    events.TermsAccepted: terms_accepted,
    events.AttemptStarted: attempt_started,
    events.AttemptFailed: attempt_failed,
    events.AttemptUnknown: attempt_unknown,
    events.AttemptResolved: attempt_resolved,
    **dict.fromkeys(ORDER_CHANGES, reported),
    events.OrderStateRecorded: state_recorded,
    events.OrderStateForgotten: lambda record, event: replace(record, has_order=False, recorded=None),
    events.VenueSnapshotTaken: apply_snapshot_taken,
    events.FindingRaised: lambda record, event: replace(record, findings=record.findings | {event.finding.finding_id}),
    events.FindingResolved: finding_resolved,
    events.Paused: lambda record, event: replace(record, paused=True),
    events.Resumed: lambda record, event: replace(record, paused=False),
}
"""The change of each event type; other types leave the record as it is."""
