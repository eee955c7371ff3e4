"""What the demonstration proves: the log against the exchange's own truth, claim by claim.

Called by `demo`. Functions of what they are given: a log's events, the state folded from them, and the truth as the
exchange tells it to auditors. Each check says what was compared, and how it came out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernel import events
from kernel.log.base import EventLog
from kernel.log.records import event_of
from kernel.models import AttemptKind
from kernel.state import KernelState
from replay.groups import group_of_finding
from replay.problems import VerifyReport
from replay.verifying import verify

Truth = Mapping[str, Any]
OPEN = ("NEW", "PARTIALLY_FILLED")
"""How the exchange calls an order that works."""


@dataclass(frozen=True, slots=True)
class Check:
    """One claim, and whether it held."""

    claim: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is compared."""

    history: Sequence[events.BaseEvent]
    """The whole log."""
    report: VerifyReport
    """What a verification of it found."""
    state: KernelState
    truth: Truth


async def read_verified(log: EventLog) -> tuple[list[events.BaseEvent], VerifyReport]:
    """Every event from the first to the head, and what a verification says of them.

    Raises `IntegrityError` with the position of an event that can't be read.
    """
    report = await verify(log)
    history = [event_of(row) async for rows in log.read(0, report.position) for row in rows]
    return history, report


def checks(evidence: Evidence) -> list[Check]:
    """Every claim."""
    made: tuple[Callable[[Evidence], Check], ...] = (
        log_verified,
        sent_after_logged,
        one_order_each,
        bracket_covered,
        nothing_sent_twice,
        statuses_agree,
        fills_agree,
        positions_agree,
        all_settled,
    )
    return [check(evidence) for check in made]


def log_verified(evidence: Evidence) -> Check:
    """The log is what was written, and what it tells can have been so."""
    report = evidence.report
    detail = f"{report.position} events: hashes, streams, sends, evidence and books"
    return Check("the log verifies", report.ok, detail if report.ok else str(report.problems[0]))


def submits(history: Sequence[events.BaseEvent]) -> list[events.AttemptStarted]:
    """Every order that was about to be sent."""
    return [event for event in history if isinstance(event, events.AttemptStarted) and event.kind is AttemptKind.SUBMIT]


def sent_after_logged(evidence: Evidence) -> Check:
    """Law 2: the exchange has no order of ours that the log does not know."""
    logged = {event.client_order_id for event in submits(evidence.history)}
    strangers = [
        order["client_order_id"] for order in evidence.truth["orders"] if order["client_order_id"] not in logged
    ]
    detail = f"orders at the exchange: {len(evidence.truth['orders'])}; unknown to the log: {len(strangers)}"
    return Check("every order was in the log before the exchange had it", not strangers, detail)


def one_order_each(evidence: Evidence) -> Check:
    """No intent has two orders at work, nor more filled and working than it wants: what changed may have been placed
    anew."""
    owners = {event.client_order_id: event.intent_id for event in submits(evidence.history)}
    at_work: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for order in evidence.truth["orders"]:
        intent_id, works = owners.get(order["client_order_id"], ""), order["status"] in OPEN
        at_work[intent_id] += works
        taken[intent_id] += order["quantity"] if works else order["cum_qty"]
    wanted = {intent.intent_id: intent.order.quantity for intent in evidence.state.intents()}
    beyond = sorted(name for name, count in at_work.items() if count > 1 or taken[name] > wanted.get(name, 0))
    detail = f"at most {max(at_work.values(), default=0)} at work for each of {len(at_work)} intents"
    return Check("no intent has two orders at work, or more than it wants", not beyond, ", ".join(beyond) or detail)


def bracket_covered(evidence: Evidence) -> Check:
    """The orders that end a bracket's trade have filled no more, all together, than the one that began it; where the market
    was faster than the cancel, a finding says so."""
    owners = {event.client_order_id: event.intent_id for event in submits(evidence.history)}
    filled: Counter[str] = Counter()
    for trade in evidence.truth["trades"]:
        filled[owners.get(trade["client_order_id"], "")] += trade["last_qty"]
    standing = [finding for finding in evidence.state.findings() if finding.resolved_at_ns is None]
    told = [group_of_finding(evidence.state, finding) for finding in standing]
    brackets = [group for group in evidence.state.groups() if group.leader is not None]
    beyond = [
        group.group_id
        for group in brackets
        if sum(filled[name] for name in group.intent_ids[1:]) > filled[group.intent_ids[0]] and group not in told
    ]
    detail = f"brackets compared: {len(brackets)}; told to be beyond: {len([item for item in told if item])}"
    return Check(
        "a bracket's exits fill no more than its entry, or it is told", not beyond, ", ".join(beyond) or detail
    )


def nothing_sent_twice(evidence: Evidence) -> Check:
    """No client order id stands twice at the exchange, whatever was lost or killed."""
    counts = Counter(order["client_order_id"] for order in evidence.truth["orders"])
    twice = [name for name, count in counts.items() if count > 1]
    sends = len(submits(evidence.history))
    detail = f"sends in the log: {sends}; taken by the exchange: {counts.total()}; under one id: {max(counts.values())}"
    return Check("no order was sent twice", not twice, detail)


def statuses_agree(evidence: Evidence) -> Check:
    """The log's status and filled quantity of each order are the exchange's."""
    known = {
        order.exchange_order_id: (str(order.ord_status), order.cum_qty)
        for state in evidence.state.order_states()
        for order in state.venue_orders
    }
    wrong = [
        order["exchange_order_id"]
        for order in evidence.truth["orders"]
        if known.get(order["exchange_order_id"]) != (order["status"], order["cum_qty"])
    ]
    detail = f"orders compared: {len(known)}" if not wrong else f"venue orders {', '.join(wrong)} differ"
    return Check("status and filled quantity of each order agree", not wrong, detail)


def fills_agree(evidence: Evidence) -> Check:
    """The same trades, each once."""
    logged = Counter(
        (event.fill_key, event.last_qty, event.last_px)
        for event in evidence.history
        if isinstance(event, events.OrderFilled)
    )
    true = Counter((trade["fill_key"], trade["last_qty"], trade["last_px"]) for trade in evidence.truth["trades"])
    missing, surplus = (true - logged).total(), (logged - true).total()
    detail = f"trades at the exchange: {true.total()}; missing in the log: {missing}; too many: {surplus}"
    return Check("the log has each trade once", logged == true, detail)


def positions_agree(evidence: Evidence) -> Check:
    """Positions are what the exchange's trades come to."""
    true: Counter[str] = Counter()
    for trade in evidence.truth["trades"]:
        true[trade["symbol_id"]] += trade["last_qty"] if trade["side"] == "BUY" else -trade["last_qty"]
    held = {position.symbol_id: position.quantity for position in evidence.state.positions()}
    agree = {name: value for name, value in true.items() if value} == {name: v for name, v in held.items() if v}
    return Check("positions are what the exchange's trades come to", agree, f"symbols compared: {len(held)}")


def all_settled(evidence: Evidence) -> Check:
    """No attempt is left open."""
    open_ones = [
        intent.intent_id for intent in evidence.state.intents() if evidence.state.record(intent.intent_id).unsettled
    ]
    return Check("what was unknown is settled", not open_ones, ", ".join(open_ones) or "no attempt is open")
