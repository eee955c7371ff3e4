"""Findings about the group of an intent: its overfill, and a bracket without an exit that works. Pure.

Called by `decide_run` before anything else is decided. The condition of each is folded (`overfilled_group`, `exit_report`);
the findings are events of the group's stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from kernel import events
from kernel import plan as planning
from kernel.clock import NS_PER_S
from kernel.groups import ExitReport, Group
from kernel.lifecycle.findings import finding_id, raised
from kernel.models import AttemptOutcome, FindingKind
from kernel.reconciler.decision import Decision, ReportFindings
from kernel.reconciler.run_inputs import MemberInputs, RunInputs
from kernel.state import symbol_id_of

EXIT_GRACE_NS = 5 * NS_PER_S
"""How long an exit may be missing before it is reported: refusals that pass, such as an account that lags behind a fill,
take less."""


def due_report(inputs: RunInputs) -> ReportFindings | None:
    """Return the finding about the group that is to be raised or resolved now."""
    if inputs.overfilled is not None:
        return overfill_report(inputs, inputs.overfilled)
    bracket = inputs.bracket
    found = bracket.report if bracket is not None else None
    if bracket is None or found is None or inputs.now_ns < due_at_ns(found):
        return None
    return exit_missing_report(inputs, found, bracket.guards)


def due_at_ns(found: ExitReport) -> int:
    """Return when the finding is due; a past condition is resolved at once."""
    return 0 if found.missing_ns is None else found.missing_ns + EXIT_GRACE_NS


def until_next_report(inputs: RunInputs, decision: Decision) -> Decision:
    """Return a decision that waits no longer than until the next finding is due."""
    found = inputs.bracket.report if inputs.bracket is not None else None
    if found is None or not isinstance(decision, planning.Nothing | planning.WaitUntil):
        return decision
    due_ns = due_at_ns(found)
    until_ns = decision.until_ns if isinstance(decision, planning.WaitUntil) else None
    return planning.WaitUntil(due_ns if until_ns is None else min(until_ns, due_ns), decision.reason)


def overfill_report(inputs: RunInputs, group: Group) -> ReportFindings:
    """Raise or resolve the finding that a group has filled more than its mode permits."""
    name = finding_id(FindingKind.GROUP_OVERFILL, group.group_id)
    event: events.BaseEvent = events.FindingResolved(finding_id=name, text="the condition no longer holds")
    if inputs.excess > group.excess_accepted:
        decimal = inputs.symbol.quantity_to_decimal if inputs.symbol is not None else Decimal
        filled = ", ".join(f"{name} {decimal(quantity)}" for name, quantity in group.filled.items() if quantity)
        text = (
            f"the group {group.group_id} filled {decimal(inputs.excess)} more than {group.mode} permits ({filled}):"
            " a fill came before the cancel took effect"
        )
        symbol_id = symbol_id_of(inputs.intent, inputs.order)
        event = raised(name, FindingKind.GROUP_OVERFILL, text, symbol_id=symbol_id, now_ns=inputs.now_ns)
    stream_id = events.group_stream(group.group_id)
    return ReportFindings(stream_id, (event,), group.version, "the overfill of its group was not reported")


def exit_missing_report(inputs: RunInputs, found: ExitReport, guards: Sequence[MemberInputs]) -> ReportFindings:
    """Raise or resolve the finding that a bracket holds something without an exit that works."""
    group = found.group
    name = finding_id(FindingKind.EXIT_MISSING, group.group_id)
    event: events.BaseEvent = events.FindingResolved(finding_id=name, text="an exit works, or nothing is held")
    if found.missing_ns is not None:
        decimal = inputs.symbol.quantity_to_decimal if inputs.symbol is not None else Decimal
        part = f", {decimal(found.unprotected)} of it" if found.unprotected < found.held else ""
        reasons = "; ".join(missing_reason(item, found.held) for item in guards)
        text = (
            f"the bracket {group.group_id} holds {decimal(found.held)} {group.symbol_id}{part} without an exit that works:"
            f" {reasons}"
        )
        event = raised(name, FindingKind.EXIT_MISSING, text, symbol_id=group.symbol_id, now_ns=inputs.now_ns)
    stream_id = events.group_stream(group.group_id)
    return ReportFindings(stream_id, (event,), group.version, "the missing exit of its bracket was not reported")


def missing_reason(guard: MemberInputs, held: int) -> str:
    """Return an exit of a bracket and why it does not work."""
    intent, record, symbol = guard.intent, guard.record, guard.symbol
    assert intent is not None, "only wanted exits are missing"
    order = planning.rest_of(intent.order, min(held, intent.order.quantity))
    last = record.attempts[-1] if record.attempts else None
    orders = [f"its order {facts.exchange_order_id} is {facts.closed}" for facts in record.orders if facts.closed]
    if violations := symbol.violations(order) if symbol is not None else ():
        reason = "; ".join(map(str, violations))
    elif last is not None and last.outcome is not AttemptOutcome.ACCEPTED:
        reason = f"{last.kind} is {last.outcome}" + (f": {last.text}" if last.text else "")
    else:
        reason = orders[-1] if orders else "it was not placed"
    return f"{order.order_type} {record.intent_id}: {reason}"
