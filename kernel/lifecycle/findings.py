"""What should not be, and is: conditions of one intent, and the events that raise and resolve them.

Called by `decide` and `decide_report` with the record before and after. Level, not edge: a condition that holds is raised
once, and resolved when it no longer holds.
"""

from __future__ import annotations

from kernel import events
from kernel.lifecycle.order_facts import OrderFacts
from kernel.lifecycle.record import Record
from kernel.lifecycle.remediation import with_remediation
from kernel.models import Finding, FindingKind


def conditions(record: Record) -> dict[FindingKind, str]:
    """The conditions that hold for an intent's orders, with what is seen."""
    checks = (
        (FindingKind.DUPLICATE_ORDER, duplicate_orders(record)),
        (FindingKind.LATE_ACCEPT, late_accepts(record)),
        (FindingKind.OVERFILL, overfill(record)),
        (FindingKind.FILL_AFTER_TERMINAL, each(record, fill_after_terminal)),
        (FindingKind.FILL_KEY_REUSED, each(record, reused_fill_key)),
        (FindingKind.UNEXPLAINED_QUANTITY, each(record, unexplained)),
    )
    return {kind: text for kind, text in checks if text}


def duplicate_orders(record: Record) -> str:
    """Several live orders, or one that works or traded under an id that had made another order before it (H9)."""
    live = record.live_orders
    if len(live) > 1:
        return f"{len(live)} live orders: {', '.join(map(name_of, live))}"
    return "; ".join(
        duplicate_order_text(facts, older) for facts, older in duplicates(record) if facts.live or facts.cum_qty
    )


def duplicates(record: Record) -> list[tuple[OrderFacts, OrderFacts]]:
    """Each order under an id that had made another one before it, with that one."""
    first: dict[str, OrderFacts] = {}
    found = []
    for facts in record.orders:
        older = next((first[name] for name in facts.client_order_ids if name in first), None)
        if older is not None:
            found.append((facts, older))
        for name in facts.client_order_ids:
            first.setdefault(name, facts)
    return found


def duplicate_order_text(facts: OrderFacts, older: OrderFacts) -> str:
    what = "works" if facts.live else "traded" if facts.cum_qty else "ended without a trade"
    return f"{name_of(facts)} {what} under the id of {name_of(older)}"


def ended_duplicate(before: Record, after: Record) -> str:
    """An order under another's id that is heard of only now that it has ended without a trade."""
    known = {name_of(facts) for facts in before.orders}
    found = [pair for pair in duplicates(after) if name_of(pair[0]) not in known] if len(after.orders) > 1 else []
    return "; ".join(duplicate_order_text(*pair) for pair in found if not (pair[0].live or pair[0].cum_qty))


def late_accepts(record: Record) -> str:
    late = [facts for facts in record.live_orders if facts.late]
    return f"live after it was settled as never arrived or refused: {', '.join(map(name_of, late))}" if late else ""


def overfill(record: Record) -> str:
    over = [f"{name_of(facts)} {facts.cum_qty} of {facts.quantity}" for facts in record.orders if is_overfilled(facts)]
    if record.intent is not None and record.cum_qty > record.wanted_most:
        over.append(f"in all {record.cum_qty}, and never more than {record.wanted_most} was wanted")
    return f"filled more than there is: {'; '.join(over)}" if over else ""


def is_overfilled(facts: OrderFacts) -> bool:
    return facts.cum_qty > facts.quantity


def fill_after_terminal(facts: OrderFacts) -> str:
    total = facts.closed_cum
    if total is None or total.time_ns < facts.quantities.voided_ns or facts.traded_qty <= total.cum_qty:
        return ""
    return f"{name_of(facts)} ended with {total.cum_qty} filled, trades say {facts.traded_qty}"


def reused_fill_key(facts: OrderFacts) -> str:
    reused = facts.trades.reused_keys()
    return f"{name_of(facts)}: different trades under one fill key: {', '.join(reused)}" if reused else ""


def unexplained(facts: OrderFacts) -> str:
    if not facts.recorded or facts.inferred_qty == 0:
        return ""
    return f"{name_of(facts)}: recorded as filled {facts.cum_qty}, known trades explain {facts.traded_qty}"


def each(record: Record, condition: object) -> str:
    assert callable(condition)
    return "; ".join(text for facts in record.orders if (text := condition(facts)))


def name_of(facts: OrderFacts) -> str:
    return facts.exchange_order_id or facts.client_order_id or "an unnamed order"


def finding_id(kind: FindingKind, name: str) -> str:
    """The id of a finding about one thing: raised twice, it is one finding."""
    return f"{kind}:{name}"


def raised(
    name: str,
    kind: FindingKind,
    text: str,
    *,
    now_ns: int,
    intent_id: str | None = None,
    symbol_id: str | None = None,
) -> events.FindingRaised:
    """A finding, with what to do about it."""
    finding = Finding(
        finding_id=name, kind=kind, text=text, intent_id=intent_id, symbol_id=symbol_id, raised_at_ns=max(0, now_ns)
    )
    return events.FindingRaised(finding=with_remediation(finding))


def finding_events(before: Record, after: Record, *, now_ns: int) -> list[events.BaseEvent]:
    """Raise what has come to hold, resolve what no longer does."""
    if after is before:
        return []
    held = conditions(after)
    passed = ended_duplicate(before, after)
    if passed:
        held.setdefault(FindingKind.DUPLICATE_ORDER, passed)
    watched = {finding_id(kind, after.intent_id) for kind in WATCHED}
    raised = raised_events(after, held, already_raised=before.findings, now_ns=now_ns)
    names = {finding_id(kind, after.intent_id) for kind in held}
    resolved = [
        events.FindingResolved(finding_id=name, text="no longer so")
        for name in sorted((before.findings & watched) - names)
    ]
    unknown = finding_id(FindingKind.UNKNOWN_TOO_LONG, after.intent_id)
    if unknown in before.findings and not after.unresolved:
        resolved.append(events.FindingResolved(finding_id=unknown, text="settled by a report"))
    return [*raised, *resolved]


def unreported_findings(record: Record, *, now_ns: int) -> list[events.BaseEvent]:
    """Raise what holds and was not told: two reports that came at once were each decided without the other."""
    return raised_events(record, conditions(record), already_raised=record.findings, now_ns=now_ns)


def raised_events(
    record: Record, held: dict[FindingKind, str], *, already_raised: frozenset[str], now_ns: int
) -> list[events.BaseEvent]:
    symbol_id = record.intent.order.symbol_id if record.intent else None
    return [
        raised(name, kind, text, intent_id=record.intent_id, symbol_id=symbol_id, now_ns=now_ns)
        for kind, text in held.items()
        if (name := finding_id(kind, record.intent_id)) not in already_raised
    ]


WATCHED = (
    FindingKind.DUPLICATE_ORDER,
    FindingKind.LATE_ACCEPT,
    FindingKind.OVERFILL,
    FindingKind.FILL_AFTER_TERMINAL,
    FindingKind.FILL_KEY_REUSED,
    FindingKind.UNEXPLAINED_QUANTITY,
)
"""Kinds that follow from a record alone."""
