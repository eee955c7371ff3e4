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
from kernel.errors import IntegrityError
from kernel.log.base import EventLog
from kernel.models import AttemptKind
from kernel.state import KernelState

Truth = Mapping[str, Any]


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
    """The whole log, its hashes checked as it was read."""
    state: KernelState
    truth: Truth


async def read_verified(log: EventLog) -> list[events.BaseEvent]:
    """Every event from the first to the head; each hash is computed anew on the way.

    Raises `IntegrityError` with the first bad position.
    """
    history: list[events.BaseEvent] = []
    head = (await log.head()).position
    async for batch in log.tail(0):
        history += batch
        if batch[-1].position >= head:
            return history
    raise IntegrityError("the log ended before its head", position=len(history) + 1)


def checks(evidence: Evidence) -> list[Check]:
    """Every claim."""
    made: tuple[Callable[[Evidence], Check], ...] = (
        sent_after_logged,
        one_order_each,
        nothing_sent_twice,
        statuses_agree,
        fills_agree,
        positions_agree,
        all_settled,
    )
    return [check(evidence) for check in made]


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
    """No intent has two orders at the exchange."""
    owners = {event.client_order_id: event.intent_id for event in submits(evidence.history)}
    per_intent = Counter(owners.get(order["client_order_id"]) for order in evidence.truth["orders"])
    doubled = sorted(str(intent_id) for intent_id, count in per_intent.items() if count > 1)
    detail = f"at most {max(per_intent.values(), default=0)} for each of {len(per_intent)} intents"
    return Check("no intent has a second order at the exchange", not doubled, ", ".join(doubled) or detail)


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
