"""The decision of one reconciler run: a pure function from an intent, its order and their context to a `Decision`.

Called by the reconciler before each run and by `orderctl decisions` for each recorded attempt: equal inputs give equal
decisions. The reconciler adds what the log does not record: backoff between queries, rate limits, the lease and the
venue's answers. Steps 1 to 6 of the protocol; H numbers in comments name its rules.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from kernel import events
from kernel import plan as planning
from kernel.actions import ACTION_RULES, ActionKind
from kernel.groups import Group
from kernel.lifecycle.disagreement import disagreement_text, is_disagreement_due, is_disagreement_over, requested_of
from kernel.lifecycle.findings import finding_id, raised, unreported_findings
from kernel.lifecycle.record import Record, client_order_id, is_stopped_by_venue
from kernel.models import (
    UNRESOLVED,
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Desired,
    FindingKind,
    OrderIntent,
    OrderState,
    VenueOrder,
    VenueTermsPolicy,
)
from kernel.order_spec import OcoMode, StandardOrder
from kernel.reconciler import attempt_resolution, group_findings
from kernel.reconciler.decision import (
    AttemptResolution,
    BackOff,
    Decision,
    LocalRejection,
    ReportFindings,
    ResolutionMethod,
    SendGroup,
    SendOrder,
    TakeOverGroup,
)
from kernel.reconciler.run_inputs import GroupInputs, MemberInputs, RunInputs
from kernel.reconciler.status_answer import facts_of
from kernel.reconciler.suspects import suspects_text
from kernel.safety.readiness import VENUE_SNAPSHOT_COMPLETE
from kernel.safety.trading_halts import NOT_PAUSED
from kernel.settings import ns
from kernel.state import symbol_id_of
from kernel.venues.base import AmendDialect, VenueCapabilities


def decide_run(inputs: RunInputs) -> Decision:
    """Decide what one reconciler run does for one intent: at most one side effect at the venue.

    Equal inputs give equal decisions.
    """
    if inputs.intent is None and inputs.order is None:
        return planning.Nothing("the intent is unknown")
    if (report := group_findings.due_report(inputs) or disagreement_report(inputs)) is not None:
        return report
    return group_findings.until_next_report(inputs, decide_step(inputs))


def decide_step(inputs: RunInputs) -> Decision:
    """Decide the step of a run, findings aside."""
    action = next_action(inputs)
    if isinstance(action, planning.Nothing | planning.WaitUntil):
        return action
    if unmet := unmet_conditions(inputs, action.kind):
        return planning.WaitUntil(None, f"not ready: {', '.join(unmet)}")
    if inputs.bracket is not None and inputs.bracket.stop_first and grows(action):
        return planning.WaitUntil(None, f"the stop of its bracket, {inputs.bracket.stop_first}, is placed first")
    return accept_terms(inputs, action) or venue_step(inputs, action)


def grows(action: planning.Action) -> bool:
    """Return whether an action can make more of an order work."""
    modifies = isinstance(action, planning.Modify) and action.terms.quantity > action.order.quantity
    return modifies or isinstance(action, planning.Submit)


def next_action(inputs: RunInputs) -> planning.Action:
    """Return the planned action, or a status query if nothing is planned but the order is not confirmed."""
    order, now_ns = inputs.order, inputs.now_ns
    if inputs.memory.forced and order is not None:
        cancels = (item.cancel_not_before_ns or 0 for item in order.venue_orders)
        now_ns = max(now_ns, order.not_before_ns, *cancels)
    action = planning.plan(
        inputs.intent,
        order,
        symbol=inputs.symbol,
        now_ns=now_ns,
        amend=planning.amend_dialect(inputs.capabilities),
    )
    if not isinstance(action, planning.Nothing) or order is None or not (live := planning.live_orders(order)):
        return action
    if (missed := next((item for item in live if is_missed(inputs, item)), None)) is not None:
        return planning.Ask(missed, "a query did not show it")
    age_ns = inputs.now_ns - int(order.last_sync_at * 1_000_000_000)
    if age_ns > ns(inputs.context.settings.order_age_s_max):
        return planning.Ask(live[-1], "the venue has not confirmed it for too long", stale=True)
    return action


def venue_step(inputs: RunInputs, action: planning.Action) -> Decision:
    intent, order = inputs.intent, inputs.order
    match action:
        case planning.Resolve(attempt=attempt) if order is not None:
            return resolve(inputs, order, attempt)
        case planning.Ask(order=item):
            return ask(inputs, action, item)
        case planning.Cancel(order=item, reason=reason) if order is not None:
            return cancel(inputs, order, item, reason)
        case planning.Modify(order=item, terms=terms) if intent is not None:
            return modify(inputs, intent, item, terms)
        case planning.Submit(order=rest) if intent is not None:
            return submit_with_group(inputs) or wait_for_unknown(inputs, [intent]) or submit(inputs, intent, rest)
        case planning.RejectLocally() if intent is not None:
            return reject_locally(inputs, intent, action)
    return planning.WaitUntil(None, "there is nothing to act on")


def ask(inputs: RunInputs, action: planning.Ask, item: VenueOrder) -> planning.Ask | planning.WaitUntil:
    """Query an order once the answer includes what the query is to confirm (H21, H22)."""
    facts = facts_of(inputs.record, item)
    if facts is None or (facts.unconfirmed_ns is None and inputs.capabilities.sees_closed):
        return action
    if facts.unconfirmed_ns is None and not facts.rare.misses:
        return action
    due_ns = facts.next_proof_ns + inputs.capabilities.orders_lag_ns
    if inputs.now_ns < due_ns:
        return planning.WaitUntil(due_ns, "the next status query is not due")
    # Thousands can end at once; where nothing is placed again, nothing waits for the answer.
    over = inputs.intent is None or inputs.intent.desired is Desired.CANCELED or is_stopped_by_venue(inputs.intent)
    only_confirms = facts.unconfirmed_ns is not None and facts.has_total and over
    return replace(action, stale=True) if only_confirms else action


def is_missed(inputs: RunInputs, item: VenueOrder) -> bool:
    facts = facts_of(inputs.record, item)
    return facts is not None and facts.is_missed


def finding_raised(inputs: RunInputs, kind: FindingKind, text: str) -> events.FindingRaised:
    """Return the event that raises the finding of a kind about the intent."""
    symbol_id = symbol_id_of(inputs.intent, inputs.order)
    name = finding_id(kind, inputs.intent_id)
    return raised(name, kind, text, intent_id=inputs.intent_id, symbol_id=symbol_id, now_ns=inputs.now_ns)


def disagreement_report(inputs: RunInputs) -> ReportFindings | None:
    """Raise or resolve the finding that the venue does not do what is requested."""
    record, name = inputs.record, finding_id(FindingKind.VENUE_DISAGREES, inputs.intent_id)
    if name not in record.findings and is_disagreement_due(record):
        cancels = [facts.rare.cancel_failures for facts in record.orders]
        times = max([record.disagreements, record.other_terms, *cancels])
        text = f"{disagreement_text(record, inputs.symbol)} ({times} times in a row)"
        found = finding_raised(inputs, FindingKind.VENUE_DISAGREES, text)
        return intent_findings(inputs, (found,), "the venue's disagreement was not reported")
    agrees = planning.difference(inputs.intent, inputs.order) is None
    if name in record.findings and is_disagreement_over(record, inputs.now_ns, agrees=agrees):
        resolved = events.FindingResolved(finding_id=name, text="the condition no longer holds")
        return intent_findings(inputs, (resolved,), "the venue's disagreement is over")
    return None


def accept_terms(inputs: RunInputs, action: planning.Action) -> ReportFindings | None:
    """Let other terms count than the intent's: those that work, by policy, or less where the symbol takes no more."""
    intent, order = inputs.intent, inputs.order
    if intent is None or order is None:
        return None
    if isinstance(action, planning.TakeLess):
        quantity, price, text = action.quantity, None, action.reason
    elif inputs.context.settings.venue_terms is VenueTermsPolicy.ACCEPT and planning.may_accept(intent, order, action):
        (working,) = planning.live_orders(order)
        others = planning.filled_by_others(order, working)
        if intent.group_id is not None and others + asked_of(inputs.record, working) < intent.order.quantity:
            return None  # the group permits more since: the venue was not asked for it
        quantity, price = others + working.quantity, working.price
        text = f"{disagreement_text(inputs.record, inputs.symbol)}: accepted by the setting venue_terms"
    else:
        return None
    accepted = events.TermsAccepted(
        intent_id=intent.intent_id,
        generation=intent.generation,
        quantity=quantity,
        price=price,
        asked=intent.order.quantity if intent.group_id is not None else None,
        text=text,
    )
    return intent_findings(inputs, (accepted,), "other terms count than the intent's")


def asked_of(record: Record, item: VenueOrder) -> int:
    facts = facts_of(record, item)
    return requested_of(record, facts).quantity if facts is not None else item.quantity


def unmet_conditions(inputs: RunInputs, kind: ActionKind) -> tuple[str, ...]:
    """Return the unmet conditions of an action; a status query waits for neither a pause nor the first snapshot."""
    if ACTION_RULES[kind].attempt is not None:
        return unmet_of(inputs, inputs.record, symbol_id_of(inputs.intent, inputs.order), kind)
    return tuple(name for name in inputs.context.unmet if name not in (VENUE_SNAPSHOT_COMPLETE, NOT_PAUSED))


def unmet_of(inputs: RunInputs, record: Record, symbol_id: str, kind: ActionKind) -> tuple[str, ...]:
    attempt = ACTION_RULES[kind].attempt or AttemptKind.SUBMIT
    return inputs.trading_status.missing(
        inputs.context.unmet, symbol_id=symbol_id, kind=attempt, intent_paused=record.paused
    )


def unknown_too_long(inputs: RunInputs, attempt: Attempt) -> ReportFindings | None:
    """Raise the finding that an attempt has been unknown for too long, once it is due."""
    name = finding_id(FindingKind.UNKNOWN_TOO_LONG, inputs.intent_id)
    if name in inputs.record.findings or inputs.now_ns < overdue_at_ns(inputs, attempt):
        return None
    text = f"the outcome of {attempt.kind} {attempt.client_order_id} is unknown since it was sent: {attempt.text}"
    finding = finding_raised(inputs, FindingKind.UNKNOWN_TOO_LONG, text)
    return intent_findings(inputs, (finding,), "the unknown attempt was not reported")


def candidates_report(inputs: RunInputs, attempt: Attempt) -> ReportFindings | None:
    """Raise, change or resolve the finding that names the external orders that may be an unknown attempt's order."""
    known, suspects = inputs.suspects_finding, inputs.suspects
    if not suspects:
        if known is None:
            return None
        gone = events.FindingResolved(finding_id=known.finding_id, text="no external order may be its order any more")
        return intent_findings(inputs, (gone,), "the unowned candidates are cleared")
    checked = attempt.list_look_ended_ns is not None or all(order.queried for order in suspects)
    if attempt.outcome is not AttemptOutcome.UNKNOWN or not checked:
        return None
    text = (
        f"the outcome of {attempt.kind} {attempt.client_order_id} is unknown, and the venue does not tell whether"
        f" {suspects_text(suspects, inputs.symbol)} is its order"
    )
    finding = finding_raised(inputs, FindingKind.UNOWNED_CANDIDATE, text)
    if known is not None and known.text == finding.finding.text:
        return None
    return intent_findings(inputs, (finding,), "the unowned candidates were not reported")


def overdue_at_ns(inputs: RunInputs, attempt: Attempt) -> int:
    return attempt.stamp_ns + ns(inputs.context.settings.unknown_too_long_s)


def intent_findings(inputs: RunInputs, found: tuple[events.BaseEvent, ...], reason: str) -> ReportFindings:
    return ReportFindings(events.intent_stream(inputs.intent_id), found, inputs.record.version, reason)


def resolve(inputs: RunInputs, order: OrderState, attempt: Attempt) -> Decision:
    """Decide how to resolve an attempt, or when to query next (step 3)."""
    if attempt.outcome is AttemptOutcome.PENDING and attempt.position in inputs.memory.running_calls:
        return planning.WaitUntil(None, "its call is still running")
    target = attempt_resolution.target_of(order, attempt, inputs.record)
    in_place = attempt.kind is AttemptKind.CANCEL or (attempt.kind is AttemptKind.AMEND and not attempt.new_order)
    if in_place and (target is None or not target.live):
        return AttemptResolution(ResolutionMethod.MOOT, attempt, order)
    if attempt.kind is AttemptKind.CANCEL:
        step = AttemptResolution(ResolutionMethod.CHECK_CANCEL, attempt, order, target)
    elif in_place:
        step = AttemptResolution(ResolutionMethod.CHECK_TERMS, attempt, order, target)
    elif attempt.new_order:
        step = AttemptResolution(ResolutionMethod.FIND_REPLACEMENT, attempt, order, target)
    else:
        newest = [item for item in order.attempts if item.outcome in UNRESOLVED and item.kind is attempt.kind][-1]
        step = AttemptResolution(
            ResolutionMethod.FIND_ORDER, newest, order, may_resend=may_resend(inputs, order, newest)
        )
    found = candidates_report(inputs, step.attempt) if step.attempt.makes_order else None
    return found or unknown_too_long(inputs, step.attempt) or spaced(inputs, step)


def spaced(inputs: RunInputs, step: AttemptResolution) -> Decision:
    """Return the query if it is due; a resend before it, where the resend's answer proves more."""
    attempt, capabilities, now_ns, may_resend = step.attempt, inputs.capabilities, inputs.now_ns, step.may_resend
    last_ns = inputs.memory.last_queries.get(attempt.position)
    if attempt_resolution.repeats_unseen(
        attempt, capabilities, may_resend=may_resend, last_query_ns=last_ns, now_ns=now_ns
    ):
        return decide_resend(inputs)
    due_ns = attempt_resolution.next_query_ns(attempt, capabilities, last_query_ns=last_ns, may_resend=may_resend)
    facts = facts_of(inputs.record, step.target) if step.target is not None else None
    if due_ns is not None and last_ns is not None and facts is not None and facts.rare.misses:
        next_miss_ns = facts.next_proof_ns + capabilities.orders_lag_ns
        due_ns = next_miss_ns if last_ns < next_miss_ns else due_ns
    if due_ns is None or now_ns >= due_ns:
        return step
    overdue_ns = overdue_at_ns(inputs, attempt)
    until_ns = min(due_ns, overdue_ns) if now_ns < overdue_ns else due_ns
    return planning.WaitUntil(until_ns, "the next status query is not due")


def may_resend(inputs: RunInputs, order: OrderState, attempt: Attempt) -> bool:
    """Return whether a resend would be placed.

    A resend that the symbol does not take, that waits for the symbol to trade, or that the venue refused as nothing could
    arrive any more, resolves nothing: then absence must be proven.
    """
    intent, newest = inputs.intent, inputs.record.submit
    refused = newest is not None and newest.outcome is AttemptOutcome.REJECTED
    if refused and attempt_resolution.is_admissible(attempt, began_ns=inputs.now_ns):
        return False
    if intent is None or not planning.may_resend(intent, order):
        return False
    if inputs.group is not None and inputs.group.group.native:
        return False  # a single order would not belong to the venue's group
    action = planning.plan_submit(intent, order, symbol=inputs.symbol, now_ns=inputs.now_ns)
    waits = isinstance(action, planning.WaitUntil) and action.until_ns is not None
    return waits or isinstance(action, planning.Submit)


def decide_resend(inputs: RunInputs) -> SendOrder | BackOff:
    """Decide whether to send the same id again now, at a venue that accepts each id once.

    Called instead of a query, and after a query that did not show the order, with inputs gathered then.
    """
    intent, order = inputs.intent, inputs.order
    waits = BackOff(ActionKind.RESOLVE, "the resend waits")
    if intent is None or order is None or not planning.may_resend(intent, order):
        return waits
    if unmet_conditions(inputs, ActionKind.SUBMIT):
        return waits
    action = planning.plan_submit(intent, order, symbol=inputs.symbol, now_ns=inputs.now_ns)
    return submit(inputs, intent, action.order, resend=True) if isinstance(action, planning.Submit) else waits


def cancel(inputs: RunInputs, order: OrderState, item: VenueOrder, reason: str) -> Decision:
    """Cancel an order; report a duplicate order first."""
    if len(planning.live_orders(order)) > 1 and (
        unreported := unreported_findings(inputs.record, now_ns=inputs.now_ns)
    ):
        return intent_findings(inputs, tuple(unreported), "the duplicate order was not reported")
    started = started_event(
        inputs,
        inputs.record,
        AttemptKind.CANCEL,
        order.status.order,
        generation=inputs.intent.generation if inputs.intent else 0,
        number=inputs.record.number + 1,
        target=item,
    )
    return SendOrder(ActionKind.CANCEL, started, inputs.record.version, item, reason=reason)


def modify(inputs: RunInputs, intent: OrderIntent, item: VenueOrder, terms: StandardOrder) -> SendOrder:
    group = guarding_group(inputs) if terms.quantity > item.quantity else None
    started = modify_started(inputs, intent, item, terms)
    return SendOrder(ActionKind.MODIFY, started, inputs.record.version, item, group)


def wait_for_unknown(inputs: RunInputs, intents: Iterable[OrderIntent]) -> BackOff | None:
    """Wait while another submit of the same symbol and side is unknown: its order could not be told from this one (H20).

    And while the intent's stop, which has ended, may go on as an order that is not known to be its own (H23).
    """
    if inputs.stop_suspects:
        return BackOff(ActionKind.SUBMIT, "an external order may be the one that the trigger of its stop made")
    if all((intent.order.symbol_id, intent.order.side) not in inputs.unknown_elsewhere for intent in intents):
        return None
    return BackOff(
        ActionKind.SUBMIT, "another submit of this symbol and side is unknown, and the venue hides client ids"
    )


def submit(inputs: RunInputs, intent: OrderIntent, order: StandardOrder, *, resend: bool = False) -> SendOrder:
    started = submit_started(inputs, inputs.record, intent, order)
    group = guarding_group(inputs)
    return SendOrder(ActionKind.SUBMIT, started, inputs.record.version, group=group, resend=resend)


def reject_locally(inputs: RunInputs, intent: OrderIntent, action: planning.RejectLocally) -> LocalRejection:
    """Record an order that cannot be placed as a locally rejected attempt."""
    started = (
        submit_started(inputs, inputs.record, intent, action.order)
        if action.working is None
        else modify_started(inputs, intent, action.working, action.order)
    )
    return LocalRejection(action.kind, started, inputs.record.version, action.violations)


def submit_started(
    inputs: RunInputs, record: Record, intent: OrderIntent, order: StandardOrder
) -> events.AttemptStarted:
    number = next_submit_number(record)
    return started_event(inputs, record, AttemptKind.SUBMIT, order, generation=intent.generation, number=number)


def modify_started(
    inputs: RunInputs, intent: OrderIntent, item: VenueOrder, terms: StandardOrder
) -> events.AttemptStarted:
    number = inputs.record.number + 1
    return started_event(
        inputs, inputs.record, AttemptKind.AMEND, terms, generation=intent.generation, number=number, target=item
    )


def started_event(
    inputs: RunInputs,
    record: Record,
    kind: AttemptKind,
    order: StandardOrder,
    *,
    generation: int,
    number: int,
    target: VenueOrder | None = None,
) -> events.AttemptStarted:
    """Return the `AttemptStarted` of one send, with the instants until which the request can act."""
    capabilities, now_ns = inputs.capabilities, inputs.now_ns
    send_by_ns = now_ns + ns(inputs.context.settings.send_budget_s)
    window_ns = capabilities.validity_window_ns
    # A driver that stamps while it writes may stamp as late as send_by (H2).
    stamped_ns = now_ns if capabilities.stamp_is_ours else send_by_ns
    valid_until_ns = None if window_ns is None else stamped_ns + window_ns
    absent_after_ns: int | None = None
    if valid_until_ns is not None:
        # Plus one: a request may still be accepted in the very instant at which its window ends.
        absent_after_ns = valid_until_ns + 1 + capabilities.clock_skew_ns + capabilities.read_lag.longest_ns
    longest = capabilities.client_order_id_max_length
    replaces = kind is AttemptKind.AMEND and capabilities.amend is AmendDialect.CANCEL_REPLACE
    return events.AttemptStarted(
        intent_id=record.intent_id,
        number=number,
        kind=kind,
        client_order_id=client_order_id(inputs.log_id, record.intent_id, number, max_length=longest),
        target_client_order_id=target.client_order_id if target else None,
        target_exchange_order_id=target_id(capabilities, record, target) if target else None,
        order=order,
        new_order=replaces or None,
        keeps_cum_qty=(replaces and capabilities.replace_keeps_cum_qty) or None,
        generation=generation,
        epoch=inputs.context.epoch,
        stamp_ns=now_ns,
        send_by_ns=send_by_ns,
        valid_until_ns=valid_until_ns,
        absent_after_ns=absent_after_ns,
        state_position=inputs.state_position,
        decided_at_ns=now_ns,
    )


def target_id(capabilities: VenueCapabilities, record: Record, target: VenueOrder) -> str | None:
    """Return the venue order id of a request's target; None if its client order id alone names it (H25).

    A venue order id that was given again may be another order's, but it tells two orders under one client order id apart.
    """
    alike = [facts for facts in record.live_orders if target.client_order_id in facts.client_order_ids]
    reused = not capabilities.order_ids_unique or any(facts.rare.id_reused for facts in alike)
    if reused and capabilities.client_order_ids and target.client_order_id and len(alike) == 1:
        return None
    return target.exchange_order_id or None


def next_submit_number(record: Record) -> int:
    """Return the next submit's attempt number: the last one while its id is neither seen nor rejected (H5b).

    A rejection answers one send: while an earlier send of the id may still arrive, the id is not spent (H7).
    """
    last = record.submit
    if last is None:
        return record.number + 1
    if any(item.kind is AttemptKind.SUBMIT and item.number == last.number for item in record.unresolved):
        return last.number
    known = (*record.settled.under(last.client_order_id), *record.orders)
    seen = any(last.client_order_id in facts.client_order_ids for facts in known)
    if last.outcome is AttemptOutcome.DEAD and not seen:
        return last.number
    return record.number + 1


def guarding_group(inputs: RunInputs) -> Group | None:
    """Return the group whose fills limit an intent's order."""
    group = inputs.group.group if inputs.group is not None else None
    return None if group is None or group.mode is OcoMode.NONE or group.native else group


def submit_with_group(inputs: RunInputs) -> Decision | None:
    """Return the step for a whole group instead of a submit; None if the kernel manages it, or there is none."""
    found = inputs.group
    if found is None or found.group.native is False:
        return None
    steps = [member_step(inputs, member) for member in found.members]
    undone = planning.Nothing | planning.RejectLocally | planning.TakeLess
    whole = not any(isinstance(step, undone) for step in steps)
    if whole and not found.is_sent and planning.is_venue_managed(inputs.capabilities, found.group.mode):
        waits = [step for step in steps if isinstance(step, planning.WaitUntil)]
        intents = [member.intent for member in found.members if member.intent is not None]
        return group_wait(waits) if waits else wait_for_unknown(inputs, intents) or send_group(inputs, found)
    if found.group.native is None:
        return None
    if any(member.record.unresolved for member in found.members):
        return BackOff(ActionKind.SUBMIT, "an attempt of the group is unresolved")
    return TakeOverGroup(found.group, "the kernel manages the group from now on")


def member_step(inputs: RunInputs, member: MemberInputs) -> planning.Action:
    """Return the step of one order of a venue-managed group: its whole quantity or nothing."""
    intent = member.intent
    if intent is None or not planning.is_wanted(intent, member.order):
        return planning.Nothing("the intent is canceled or over")
    unmet = unmet_of(inputs, member.record, intent.order.symbol_id, ActionKind.SUBMIT)
    if unmet or member.record.unresolved:
        return planning.WaitUntil(None, "it is not ready, or unresolved")
    return planning.plan_submit(intent, member.order, symbol=member.symbol, now_ns=inputs.now_ns)


def group_wait(waits: list[planning.WaitUntil]) -> planning.WaitUntil | BackOff:
    instants = [step.until_ns for step in waits if step.until_ns is not None]
    reason = "another order of the group waits"
    if len(instants) < len(waits):
        return BackOff(ActionKind.SUBMIT, reason)
    return planning.WaitUntil(max(instants), reason)


def send_group(inputs: RunInputs, found: GroupInputs) -> SendGroup:
    sends = [(member.record, member.intent) for member in found.members if member.intent is not None]
    started = tuple(submit_started(inputs, record, intent, intent.order) for record, intent in sends)
    # Intent ids have no slash, so no intent has the group's name.
    name, longest = f"group/{found.group.group_id}", inputs.capabilities.client_order_id_max_length
    group_client_id = client_order_id(inputs.log_id, name, started[0].number, max_length=longest)
    return SendGroup(found.group, group_client_id, started, tuple(record.version for record, _ in sends))
