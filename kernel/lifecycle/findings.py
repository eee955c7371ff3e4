"""The conditions of one intent that need attention, and the events that raise and resolve their findings.

Called by `decide` and `decide_report` with the record before and after. Level-based: a condition is raised once and
resolved when it no longer holds.
"""

from __future__ import annotations

from collections.abc import Callable

from kernel import events
from kernel.lifecycle.orders.order_facts import NO_RARE, OrderFacts, foreign_trades
from kernel.lifecycle.record import Record, is_solicited
from kernel.lifecycle.remediation import with_remediation
from kernel.models import Finding, FindingKind


def conditions(record: Record) -> dict[FindingKind, str]:
    """Return the conditions that hold for an intent's orders, each with its observation."""
    return {} if is_unremarkable(record) else all_conditions(record)


def is_unremarkable(record: Record) -> bool:
    """Return whether an intent has one order, of which nothing is known that a condition could hold for."""
    facts = record.orders[0] if len(record.orders) == 1 else None
    if facts is None or facts.rare is not NO_RARE or facts.trades.bounded or facts.trades.corrected:
        return False
    cum_qty, total = facts.cum_qty, facts.closed_cum
    if cum_qty > facts.quantity or cum_qty + record.settled.cum_qty > record.wanted_most:
        return False
    return (total is None or facts.trades.quantity <= total.cum_qty) and not facts.trades.reused_keys()


def all_conditions(record: Record) -> dict[FindingKind, str]:
    """Do what `conditions` does, for any record."""
    found = {kind: text for kind, condition in RECORD_CONDITIONS.items() if (text := condition(record))}
    for facts in record.orders:
        for kind, order_condition in ORDER_CONDITIONS.items():
            if text := order_condition(facts):
                found[kind] = f"{found[kind]}; {text}" if kind in found else text
    return {kind: found[kind] for kind in CONDITIONS if kind in found} if len(found) > 1 else found


def duplicate_orders(record: Record) -> str:
    """Several live orders, or one that is open or traded under the client order id of an earlier order (H9)."""
    if len(record.orders) < 2:
        return ""
    live = record.live_orders
    if len(live) > 1:
        return f"{len(live)} live orders: {', '.join(map(name_of, live))}"
    return "; ".join(
        duplicate_order_text(facts, older) for facts, older in duplicates(record) if facts.live or facts.cum_qty
    )


def duplicates(record: Record) -> list[tuple[OrderFacts, OrderFacts]]:
    """Return each order whose client order id an earlier order has, with that order; not the stop that it followed."""
    first: dict[str, OrderFacts] = {}
    found = []
    for facts in record.orders:
        if facts.succeeded:
            continue
        older = next((first[name] for name in facts.client_order_ids if name in first), None)
        if older is not None:
            found.append((facts, older))
        for name in facts.client_order_ids:
            first.setdefault(name, facts)
    return found


def duplicate_order_text(facts: OrderFacts, older: OrderFacts) -> str:
    what = "is open" if facts.live else "traded" if facts.cum_qty else "ended without a trade"
    return f"{name_of(facts)} {what} under the client order id of {name_of(older)}"


def ended_duplicate(before: Record, after: Record) -> str:
    """A duplicate order that is first reported when it has already ended without a trade."""
    known = {name_of(facts) for facts in before.orders}
    found = [pair for pair in duplicates(after) if name_of(pair[0]) not in known] if len(after.orders) > 1 else []
    return "; ".join(duplicate_order_text(*pair) for pair in found if not (pair[0].live or pair[0].cum_qty))


def late_accepts(record: Record) -> str:
    late = [facts for facts in record.orders if facts.rare.late and facts.live]
    return f"open, though its attempt was resolved as DEAD or REJECTED: {', '.join(map(name_of, late))}" if late else ""


def overfill(record: Record) -> str:
    totals = [facts.cum_qty for facts in record.orders]
    over = [
        f"{name_of(facts)} {total} of {facts.quantity}"
        for facts, total in zip(record.orders, totals, strict=True)
        if total > facts.quantity
    ]
    may_exceed = sum(totals, record.settled.cum_qty) > record.wanted_most
    if may_exceed and record.intent is not None and record.cum_qty > record.wanted_most:
        over.append(f"in total {record.cum_qty} of at most {record.wanted_most}")
    return f"filled more than the quantity: {'; '.join(over)}" if over else ""


def fill_after_terminal(facts: OrderFacts) -> str:
    total = facts.closed_cum
    if total is None or total.time_ns < facts.quantities.voided_ns or facts.traded_qty <= total.cum_qty:
        return ""
    return f"{name_of(facts)} ended with {total.cum_qty} filled, its trades add up to {facts.traded_qty}"


def reused_fill_key(facts: OrderFacts) -> str:
    reused = facts.trades.reused_keys()
    return f"{name_of(facts)}: different trades have the same fill key: {', '.join(reused)}" if reused else ""


def foreign_trades_text(facts: OrderFacts) -> str:
    """Trades that turned out to be of another order with its venue order id (H25)."""
    keys = ", ".join(entry.fill_key for entry in foreign_trades(facts))
    return f"{name_of(facts)}: trades outside its life are another order's with the same id: {keys}" if keys else ""


def unexplained(facts: OrderFacts) -> str:
    if not facts.rare.recorded or facts.inferred_qty == 0:
        return ""
    return f"{name_of(facts)}: recorded as filled {facts.cum_qty}, its trades add up to {facts.traded_qty}"


def false_ends(record: Record) -> str:
    found = [facts for facts in record.orders if facts.rare.false_ends and facts.live]
    return f"open, though its end was reported: {', '.join(map(name_of, found))}" if found else ""


def ghosts(record: Record) -> str:
    """Orders that the venue lost. One that a cancel was sent for, and that no lookup missed, may just be canceled."""
    found = [facts for facts in record.orders if is_ghost(facts, record)]
    return f"neither listed nor found, its end was not reported: {', '.join(map(name_of, found))}" if found else ""


def is_ghost(facts: OrderFacts, record: Record) -> bool:
    if facts.gone_ns is None or not facts.rare.misses or facts.closed is None or facts.filled or facts.succeeded:
        return False
    return facts.rare.not_found or not is_solicited(facts, record)


def is_notable(facts: OrderFacts, record: Record) -> bool:
    """Return whether a condition holds for an order by itself, so that a finding names it."""
    odd = facts.cum_qty > facts.quantity or is_ghost(facts, record)
    return odd or any(condition(facts) for condition in ORDER_CONDITIONS.values())


def name_of(facts: OrderFacts) -> str:
    return facts.exchange_order_id or facts.client_order_id or "an unnamed order"


def finding_id(kind: FindingKind, name: str) -> str:
    """Return the id of a finding: the same condition of the same subject is the same finding."""
    return f"{kind}:{name}"


def raised(
    name: str,
    kind: FindingKind,
    text: str,
    *,
    now_ns: int,
    intent_id: str | None = None,
    symbol_id: str | None = None,
    blocks_sending: bool | None = None,
) -> events.FindingRaised:
    """Return the event that raises a finding, with its remedy."""
    finding = Finding(
        finding_id=name,
        kind=kind,
        text=text,
        intent_id=intent_id,
        symbol_id=symbol_id,
        blocks_sending=blocks_sending,
        raised_at_ns=max(0, now_ns),
    )
    return events.FindingRaised(finding=with_remediation(finding))


def finding_events(before: Record, after: Record, *, now_ns: int) -> list[events.BaseEvent]:
    """Raise the findings of new conditions and resolve those of past ones."""
    if after is before:
        return []
    held = conditions(after)
    if duplicate := ended_duplicate(before, after):
        held.setdefault(FindingKind.DUPLICATE_ORDER, duplicate)
    past = {finding_id(kind, after.intent_id) for kind in CONDITIONS if kind not in held}
    resolved: list[events.BaseEvent] = [
        events.FindingResolved(finding_id=name, text="the condition no longer holds")
        for name in sorted(before.findings & past)
    ]
    if not after.unresolved:
        resolved += unknown_resolved(before, "resolved by a report")
    return [*raised_events(after, held, already_raised=before.findings, now_ns=now_ns), *resolved]


def unknown_resolved(record: Record, text: str) -> list[events.BaseEvent]:
    """Resolve the findings about the unknown attempts of an intent, none of which is left."""
    names = (
        finding_id(kind, record.intent_id) for kind in (FindingKind.UNKNOWN_TOO_LONG, FindingKind.UNOWNED_CANDIDATE)
    )
    return [events.FindingResolved(finding_id=name, text=text) for name in names if name in record.findings]


def unreported_findings(record: Record, *, now_ns: int) -> list[events.BaseEvent]:
    """Raise findings that hold and were not raised: two reports recorded at once are each decided alone."""
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


ORDER_CONDITIONS: dict[FindingKind, Callable[[OrderFacts], str]] = {
    FindingKind.FILL_AFTER_TERMINAL: fill_after_terminal,
    FindingKind.FILL_KEY_REUSED: reused_fill_key,
    FindingKind.ID_REUSED: foreign_trades_text,
    FindingKind.UNEXPLAINED_QUANTITY: unexplained,
}
"""Those that follow from one order."""

RECORD_CONDITIONS: dict[FindingKind, Callable[[Record], str]] = {
    FindingKind.DUPLICATE_ORDER: duplicate_orders,
    FindingKind.LATE_ACCEPT: late_accepts,
    FindingKind.OVERFILL: overfill,
    FindingKind.FALSE_END: false_ends,
    FindingKind.GHOST: ghosts,
}
"""Those that follow from a record alone; an empty text means that one does not hold."""

CONDITIONS = (
    FindingKind.DUPLICATE_ORDER, FindingKind.LATE_ACCEPT, FindingKind.OVERFILL, *ORDER_CONDITIONS,
    FindingKind.FALSE_END, FindingKind.GHOST,
)  # fmt: skip
"""All, in the order in which their findings are raised."""
