"""How each report changes the facts of one venue order.

Called by `evolve` through `ORDER_CHANGES`. Each function takes an order's facts and an event and returns the new facts;
none reads the order's status (law 5), and each is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from kernel import events
from kernel.lifecycle.orders import order_facts
from kernel.lifecycle.orders.order_facts import NO_RARE, CumEvidence, OrderFacts, PendingRequest, with_rare
from kernel.lifecycle.orders.order_status import ENDS
from kernel.lifecycle.orders.trades import TradeEntry
from kernel.models import AttemptKind, ExecType, OrdStatus
from kernel.order_spec import STOPPED

OrderChange = Callable[[OrderFacts, Any], OrderFacts]
"""Takes the event types that the tables below map to it."""
Voiding = TypeVar("Voiding", events.FillBusted, events.FillCorrected)


def recorded_ns(event: events.BaseEvent) -> int:
    """Return when an event was recorded; 0 for one that `decide_report` only tries out."""
    return event.envelope.recorded_at_ns if event.recorded else 0


def venue_ns(event: events.OrderReport) -> int:
    """Return the venue time of a report; without one, all reports are equally old."""
    return event.transact_time_ns if event.transact_time_ns is not None else 0


def accepted(facts: OrderFacts, event: events.OrderReport) -> OrderFacts:
    facts = facts if event.ord_status in ENDS else shown_open(facts, event)
    known = with_totals(with_terms(replace(facts, accepted=True), event), event)
    begins = facts.order.order_type in STOPPED or facts.sent_ns is None
    if event.exec_type is ExecType.NEW and begins and facts.rare.accepted_ns is None:
        known = with_rare(known, accepted_ns=event.transact_time_ns)
    return known if event.order_qty == facts.order.quantity else with_size(known, event)


def with_size(facts: OrderFacts, event: events.OrderReport) -> OrderFacts:
    if event.order_qty is None:
        return facts
    return with_rare(facts, sizes=facts.rare.sizes | {(venue_ns(event), event.order_qty)})


def with_terms(facts: OrderFacts, event: events.OrderReport) -> OrderFacts:
    """Take quantity and price from a report that is not older than the known ones.

    A report under a superseded id must be newer: then a copy of an earlier request arrived after a later one (H9).
    """
    time_ns = venue_ns(event)
    since_ns = time_ns - 1 if event.client_order_id in facts.rare.superseded_ids else time_ns
    changes: dict[str, int] = {}
    if event.order_qty is not None and since_ns >= facts.quantity_ns:
        changes |= {"quantity": max(0, event.order_qty - facts.rare.carried_qty), "quantity_ns": time_ns}
    if event.price is not None and since_ns >= facts.price_ns:
        changes |= {"price": event.price, "price_ns": time_ns}
    return replace(facts, **changes) if changes else facts


def with_totals(facts: OrderFacts, event: events.OrderReport) -> OrderFacts:
    if event.cum_qty is None:
        return facts
    total = CumEvidence(venue_ns(event), event.cum_qty, event.life_margin_ns)
    peak = order_facts.higher(facts.peak, total) if total.margin_ns is None else facts.peak
    return replace(facts, evidence=order_facts.with_total(facts.evidence, total), peak=peak)


def filled(facts: OrderFacts, event: events.OrderFilled | events.FillCorrected) -> OrderFacts:
    if isinstance(event, events.FillCorrected):
        event = timed(facts, event)
    return with_totals(with_terms(order_facts.with_trade(facts, trade_entry(event)), event), event)


def trade_entry(event: events.OrderFilled | events.FillCorrected) -> TradeEntry:
    corrects = event.ref_fill_key if isinstance(event, events.FillCorrected) else None
    fees = tuple(sorted(event.fees.items())) if event.fees is not None else None
    margin_ns = event.life_margin_ns if corrects is None else None  # a correction is of its trade's life
    told = (event.fill_key, event.last_qty, event.last_px, event.transact_time_ns or 0, corrects)
    return TradeEntry(*told, event.fee, event.fee_asset, fees, margin_ns)


def busted(facts: OrderFacts, event: events.FillBusted) -> OrderFacts:
    event = timed(facts, event)
    return with_totals(order_facts.with_bust(facts, event.ref_fill_key, venue_ns(event)), event)


def timed(facts: OrderFacts, event: Voiding) -> Voiding:
    """Return a bust or correction as newer than what it voids: one with its trade's time, or none, counts as of its record.

    Totals of before do not include it. A repeated correction keeps the time that it has.
    """
    known_ns = next((entry.time_ns for entry in facts.trades if entry.fill_key == event.fill_key), None)
    voided_ns = (entry.time_ns for entry in facts.trades if entry.fill_key == event.ref_fill_key)
    if venue_ns(event) > max(voided_ns, default=0):
        return event
    return replace(event, transact_time_ns=recorded_ns(event) if known_ns is None else known_ns)


def ended_with(status: OrdStatus) -> OrderChange:
    def ended(facts: OrderFacts, event: events.OrderReport) -> OrderFacts:
        if is_false_end(facts, event):
            return facts
        known = with_totals(facts, event) if status is not OrdStatus.REJECTED else facts
        if facts.gone_ns is not None and not getattr(event, "gone", False):
            known = with_rare(replace(known, gone_ns=None), **order_facts.NOT_MISSED)
        cum_qty = 0 if status is OrdStatus.REJECTED and event.cum_qty is None else event.cum_qty
        return order_facts.with_end(
            answers(known, event), status, now_ns=recorded_ns(event), time_ns=venue_ns(event), cum_qty=cum_qty
        )

    return ended


def answers(facts: OrderFacts, event: events.OrderReport) -> OrderFacts:
    """Mark the request that a report names by client order id as answered."""
    if event.client_order_id is None or event.client_order_id in facts.answered_ids:
        return facts
    return replace(facts, answered_ids=facts.answered_ids | {event.client_order_id})


def modified(facts: OrderFacts, event: events.OrderModified) -> OrderFacts:
    """Apply a replace (a new client order id and new terms) or a restatement (new terms, or a new day)."""
    changed = with_size(accepted(facts, event), event)
    if event.corporate_action:
        changed = with_rare(changed, splits_ns=changed.rare.splits_ns | {venue_ns(event)})
    changed = with_rare(changed, restated_ns=max(changed.rare.restated_ns, venue_ns(event)))
    client_id, orig_id = event.client_order_id, event.orig_client_order_id
    if event.exec_type is not ExecType.REPLACED or client_id is None or orig_id is None:
        return changed
    changed = with_rare(answers(changed, event), superseded_ids=changed.rare.superseded_ids | {orig_id})
    ids, superseded = changed.client_order_ids, changed.rare.superseded_ids
    if client_id not in ids:
        ids = (client_id, *ids) if client_id in superseded else (*ids, client_id)
    return replace(changed, client_order_ids=tuple(sorted(ids, key=lambda item: item not in superseded)))


def observed(facts: OrderFacts, event: events.OrderStateObserved) -> OrderFacts:
    """Apply a FIX pending, stopped or done-for-day report, or the answer to a status query."""
    change = OBSERVED_CHANGES.get(event.exec_type)
    return confirmed(facts, event) if change is None else with_totals(change(facts, event), event)


def pending_request(kind: AttemptKind) -> OrderChange:
    def pending(facts: OrderFacts, event: events.OrderReport) -> OrderFacts:
        item = PendingRequest(event.client_order_id or "", kind, venue_ns(event))
        return facts if item in facts.rare.pending else with_rare(facts, pending=(*facts.rare.pending, item))

    return pending


def done_for_day(facts: OrderFacts, event: events.OrderReport) -> OrderFacts:
    done_ns = max(facts.rare.done_for_day_ns or 0, venue_ns(event))
    return with_rare(replace(facts, accepted=True), done_for_day_ns=done_ns)


OBSERVED_CHANGES: dict[ExecType, OrderChange] = {
    ExecType.PENDING_NEW: lambda facts, event: facts,
    ExecType.PENDING_CANCEL: pending_request(AttemptKind.CANCEL),
    ExecType.PENDING_REPLACE: pending_request(AttemptKind.AMEND),
    ExecType.STOPPED: lambda facts, event: with_rare(replace(facts, accepted=True), stopped=True),
    ExecType.DONE_FOR_DAY: done_for_day,
}


def confirmed(facts: OrderFacts, event: events.OrderStateObserved) -> OrderFacts:
    """Apply the answer to a status query.

    An order that the venue no longer has is closed, reason unknown, until a later query shows it again. FILLED tells the
    total, if only by the quantity; of a stop it may tell the trigger.
    """
    if event.gone:
        return gone(facts, event)
    if event.ord_status in ENDS:
        return ENDINGS[event.ord_status](facts, event)
    if event.ord_status is OrdStatus.FILLED and event.cum_qty is None and facts.order.order_type not in STOPPED:
        event = replace(event, cum_qty=event.order_qty)  # without its envelope: nothing below needs it
    known = with_shown_id(shown_open(facts, event), event)
    if event.ord_status is not None:
        known = with_status(known, event, event.ord_status)
    return with_totals(known, event)


def with_shown_id(facts: OrderFacts, event: events.OrderStateObserved) -> OrderFacts:
    """Take the client order id under which a query begun since the last sighting shows an order.

    A venue that changes an order in place may keep its id, and knows no request by another one.
    """
    name, known = event.client_order_id, facts.client_order_ids
    is_later = event.reflects_ns is not None and event.reflects_ns >= facts.last_seen_ns
    if name is None or name not in known[:-1] or not is_later:
        return facts
    ids = (*(item for item in known if item != name), name)
    superseded = (facts.rare.superseded_ids | {known[-1]}) - {name}
    return with_rare(replace(facts, client_order_ids=ids), superseded_ids=superseded)


def gone(facts: OrderFacts, event: events.OrderStateObserved) -> OrderFacts:
    """Close an order that the venue no longer has, unless it was seen since; with its final quantity once that is known."""
    if event.ord_status in ENDS:
        return ENDINGS[event.ord_status](facts, event)
    if event.reflects_ns is not None and event.reflects_ns < max(facts.first_seen_ns, facts.last_seen_ns):
        return facts
    closed_ns = facts.closed_ns if facts.closed_ns is not None else recorded_ns(event)
    return replace(facts, gone_ns=max(facts.gone_ns or 0, event.began_ns or 0), closed_ns=closed_ns)


def shown_open(facts: OrderFacts, event: events.OrderReport) -> OrderFacts:
    """Apply a report that shows an order: it ends the misses, and reopens an ended order if it is newer (H21).

    FILLED with a total does not: it is no open order. Without one, the final quantity is unknown again.
    """
    if facts.rare.misses or facts.rare.not_found:
        facts = with_rare(facts, **order_facts.NOT_MISSED)
    if facts.closed is None and facts.gone_ns is None:
        return facts
    if event.ord_status is OrdStatus.FILLED and event.cum_qty is not None:
        return facts
    began_ns = event.began_ns if isinstance(event, events.OrderStateObserved) else None
    reflects_ns = event.reflects_ns if isinstance(event, events.OrderStateObserved) else None
    if (
        reflects_ns is None and facts.gone_ns is not None and (began_ns or 0) > facts.gone_ns
    ):  # before this was recorded
        return replace(facts, gone_ns=None, closed_ns=facts.closed_ns if facts.closed else None)
    newer = reflects_ns is not None and reflects_ns >= (facts.closed_ns or 0)
    # The venue time of an answer may be the answer's own, unless it is before the query began.
    own_time = began_ns is None or venue_ns(event) < began_ns
    if not facts.filled and (newer or (own_time and 0 < facts.end_time_ns < venue_ns(event))):
        return order_facts.without_end(facts)
    return facts


def is_false_end(facts: OrderFacts, event: events.OrderReport) -> bool:
    """Return whether a report repeats an end that was proven false; a status query is new evidence."""
    queried = isinstance(event, events.OrderStateObserved) and event.began_ns is not None
    return facts.rare.false_ends > 0 and not queried and 0 < venue_ns(event) <= facts.end_time_ns


def with_status(facts: OrderFacts, event: events.OrderReport, status: OrdStatus) -> OrderFacts:
    """Apply the venue's own status of an open order: it may be the only trace of a lost report."""
    if status is not OrdStatus.PENDING_NEW:
        facts = with_terms(replace(facts, accepted=True), event)
    if status in PENDING_STATUSES:
        return facts
    time_ns = venue_ns(event)
    answered = frozenset(request.request_id for request in facts.rare.pending if request.time_ns <= time_ns)
    if not answered <= facts.answered_ids:
        facts = replace(facts, answered_ids=facts.answered_ids | answered)
    if facts.done_for_day and status is not OrdStatus.DONE_FOR_DAY and time_ns > facts.rare.restated_ns:
        facts = with_rare(facts, restated_ns=time_ns)
    return facts


PENDING_STATUSES = frozenset({OrdStatus.PENDING_CANCEL, OrdStatus.PENDING_REPLACE})


ENDINGS = {status: ended_with(status) for status in ENDS}

ORDER_CHANGES: dict[type[events.BaseEvent], OrderChange] = {
    events.OrderAccepted: accepted,
    events.OrderRejected: ENDINGS[OrdStatus.REJECTED],
    events.OrderTriggered: lambda facts, event: with_rare(
        replace(shown_open(facts, event), accepted=True), triggered=True
    ),
    events.OrderFilled: filled,
    events.FillInferred: lambda facts, event: facts,
    events.FillCorrected: filled,
    events.FillBusted: busted,
    events.OrderModified: modified,
    events.ModifyRejected: answers,
    events.OrderCanceled: ENDINGS[OrdStatus.CANCELED],
    events.CancelRejected: answers,
    events.OrderExpired: ENDINGS[OrdStatus.EXPIRED],
    events.OrderStateObserved: observed,
}

PLAIN_REPORTS: dict[type[events.BaseEvent], OrdStatus | None] = {
    events.OrderAccepted: None,
    events.OrderFilled: None,
    events.OrderCanceled: OrdStatus.CANCELED,
    events.OrderExpired: OrdStatus.EXPIRED,
}
"""The reports of an ordinary life, and the status with which they end an order."""


def plain_change(facts: OrderFacts, event: Any, now_ns: int) -> OrderFacts | None:
    """Apply one of `PLAIN_REPORTS` to an open order of which nothing unusual is known, by one change.

    None if that would not be what `ORDER_CHANGES` does.
    """
    order, trades, evidence = facts.order, facts.trades, facts.evidence
    if facts.rare is not NO_RARE or facts.closed is not None or facts.gone_ns is not None or facts.sent_ns is None:
        return None
    other_terms = facts.quantity != order.quantity or facts.price != order.price or order.order_type in STOPPED
    if other_terms or order.reduce_only or trades.bounded or trades.corrected or len(evidence) > 1:
        return None
    if event.parent_exchange_order_id or event.order_type or event.order_created_ns is not None or event.unconfirmed:
        return None
    ids, name, venue_id = facts.client_order_ids, event.client_order_id, facts.exchange_order_id
    if event.life_margin_ns is not None or (name not in ids and event.orig_client_order_id not in ids):
        return None
    if venue_id != event.exchange_order_id:
        if venue_id and event.exchange_order_id:
            return None
        venue_id = venue_id or event.exchange_order_id or ""
    time_ns, cum_qty, total, peak = event.transact_time_ns or 0, event.cum_qty, None, facts.peak
    if cum_qty is not None:
        total = CumEvidence(time_ns, cum_qty)
        older = not evidence or (evidence[0].time_ns <= time_ns and evidence[0].cum_qty <= cum_qty)
        evidence = (total,) if older else order_facts.with_total(evidence, total)
        peak = order_facts.higher(peak, total) if cum_qty else peak
    seen_ns = now_ns if now_ns > facts.last_seen_ns else facts.last_seen_ns
    if (status := PLAIN_REPORTS[type(event)]) is not None:
        answered = facts.answered_ids if name is None else facts.answered_ids | {name}
        return replace(
            facts, exchange_order_id=venue_id, evidence=evidence, peak=peak, answered_ids=answered, closed=status,
            closed_cum=total, closed_ns=now_ns, end_time_ns=time_ns, first_end_ns=time_ns, last_seen_ns=seen_ns,
        )  # fmt: skip
    quantity, price = event.order_qty, event.price
    if (quantity is not None and quantity != facts.quantity) or (price is not None and price != facts.price):
        return None
    if type(event) is events.OrderFilled:
        if trades.under(event.fill_key):
            return None
        trades = trades.plus(trade_entry(event))
    return replace(
        facts, exchange_order_id=venue_id, accepted=True, trades=trades, evidence=evidence, peak=peak, last_seen_ns=seen_ns,
        quantity_ns=facts.quantity_ns if quantity is None or time_ns < facts.quantity_ns else time_ns,
        price_ns=facts.price_ns if price is None or time_ns < facts.price_ns else time_ns,
    )  # fmt: skip
