"""Check the events of one intent: order, requests, evidence of outcomes, and fills.

Called by `events` with each event and the record before and after it. A `Book` holds what the checks need beyond the
record; it lives as long as the record does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from kernel import events
from kernel.lifecycle.findings import conditions, finding_id, name_of
from kernel.lifecycle.order_identity import find_order
from kernel.lifecycle.orders.order_facts import NO_RARE, OrderFacts
from kernel.lifecycle.orders.order_status import ord_status
from kernel.lifecycle.record import Record, client_order_id, order_under
from kernel.models import UNRESOLVED, Attempt, AttemptKind, AttemptOutcome, Desired, Evidence, FindingKind, OrdStatus
from kernel.venues.base import Dedupe
from projections.state_fold import account_lag_ns
from replay.audit.accounts import (
    FILL_EVENTS,
    Change,
    Fills,
    Life,
    Sums,
    add,
    amounts_of,
    figures,
    fills_of,
    fold_changes,
    life_of,
    summed,
)
from replay.formatting.problems import ProblemKind

Wrong = tuple[ProblemKind, str]
LIFECYCLE, SEND, EVIDENCE = ProblemKind.LIFECYCLE, ProblemKind.SEND, ProblemKind.EVIDENCE
CAUSE, ACCOUNTING = ProblemKind.CAUSE, ProblemKind.ACCOUNTING
FORGETFUL = {str(item) for item in Dedupe} - {str(Dedupe.FOR_EVER)}
"""Deduplications by which a venue may accept a request twice."""
MISSES_MIN = 2
"""Queries that must miss an order before it is gone."""
ENDED_MAY_BECOME = {
    OrdStatus.CANCELED: frozenset({OrdStatus.FILLED}),
    OrdStatus.EXPIRED: frozenset({OrdStatus.FILLED}),
    OrdStatus.REJECTED: frozenset({OrdStatus.FILLED, OrdStatus.PARTIALLY_FILLED}),
}
"""Statuses that may follow a terminal one: a late fill always counts; only newer evidence reopens an order."""


class Surroundings(msgspec.Struct):
    """Facts about the rest of the log that the checks of an intent use."""

    log_id: str
    epoch: int | None = None
    """Epoch of the newest leader; None if unknown."""
    capabilities: Mapping[str, Any] = {}
    """The venue's, as recorded by the newest leader."""

    @property
    def orders_lag_ns(self) -> int:
        """The read lag of queries about orders and the clocks' skew."""
        lags = self.capabilities.get("read_lag") or {}
        lag_ns: int = max(lags.get("order_ns", 0), lags.get("open_orders_ns", 0))
        return lag_ns + 2 * int(self.capabilities.get("clock_skew_ns", 0))


class Book(msgspec.Struct, gc=False):
    """Facts about one intent that its record lacks and the checks need."""

    around: Surroundings
    sent: set[str] = set()
    """Client order ids of its attempts."""
    starts: set[int] = set()
    """Positions of its attempts."""
    reported: frozenset[str] = frozenset()
    """Ids of findings raised about it."""
    lives: dict[str, Life] = {}
    fills: Fills = msgspec.field(default_factory=Fills)
    excess: dict[str, Sums] = {}
    """By how much the totals of the fills exceed those that the fold counts, by symbol."""
    newest_snapshot: events.VenueSnapshotTaken | None = None
    """The newest order status query for it."""
    attributed: frozenset[str] = frozenset()
    """Venue ids of external orders that were attributed to it without the venue's word: its trades are inferred too."""
    is_adopted: bool = False
    """True if it adopts an order that was already at the venue, under any client order id."""
    is_written: bool = False
    """True if a store wrote its order state, which may contain requests of others."""

    def note(self, event: events.BaseEvent, before: Record, after: Record) -> list[Change]:
        """Take in an event; returns the fills that it changes."""
        changes: list[Change] = []
        match event:
            case events.OrderReport():
                changes = self._note_report(event, before, after)
            case events.AttemptStarted():
                self.sent.add(event.client_order_id)
                self.starts.add(event.position)
                if event.kind is AttemptKind.SUBMIT:
                    life_of(self.lives, event.client_order_id).sent(event)
            case events.FindingRaised():
                self.reported |= {event.finding.finding_id}
            case events.VenueSnapshotTaken():
                self.newest_snapshot = event
            case events.IntentCreated():
                self.is_adopted = self.is_adopted or event.evidence is not Evidence.COMMAND
            case events.OrderStateRecorded():
                self.is_written = True
        folded = fold_changes(before, after) if after.orders is not before.orders else []
        if (changes or folded) and amounts(changes) != amounts(folded):
            add(self.excess, (*changes, *((-sign, fill) for sign, fill in folded)))
        return changes

    def _note_report(self, event: events.OrderReport, before: Record, after: Record) -> list[Change]:
        inferred = isinstance(event, events.OrderStateObserved) and event.evidence is Evidence.INFERRED
        if inferred and find_order(before, event) is None:
            self.attributed |= {event.exchange_order_id or ""}
        name = event.orig_client_order_id or event.client_order_id
        submit_id = after.submit_id(name) if name else None
        if submit_id is not None:
            life_of(self.lives, submit_id).report(event)
        if after.orders is not before.orders:
            for old, new in zip(before.orders, after.orders, strict=False):
                if new.rare.false_ends > old.rare.false_ends:
                    life_of(self.lives, after.submit_id(new.client_order_ids[0])).reopen()
        return self.fills.apply(event, submit_id, self.lives, after)


def amounts(changes: Iterable[Change]) -> list[Any]:
    return [(sign, amounts_of(fill)) for sign, fill in changes]


def check_outcome(book: Book, event: events.OrderReport, before: Record, after: Record) -> Iterator[Wrong]:
    """Check what the fold made of a report, which the book has taken in."""
    if book.excess and (isinstance(event, FILL_EVENTS) or book.fills.is_bounded):
        yield from miscounted(book, after)
    for old, new in zip(before.orders, after.orders, strict=False):
        ordinary = new.rare is NO_RARE and old.rare is NO_RARE and old.closed is None and new.accepted
        if old is not new and not ordinary:
            yield from illegal_status_change(old, new, event)
            yield from unproven_reopening(old, new, event, book.around)


def unreported(book: Book, record: Record) -> dict[FindingKind, str]:
    """Return the conditions of an intent for which no finding was raised."""
    if not record.orders:
        return {}
    held = conditions(record)
    reused = book.fills.reused_keys
    if not held and not reused:
        return {}
    if reused and FindingKind.FILL_KEY_REUSED not in held:
        held[FindingKind.FILL_KEY_REUSED] = f"different trades under one fill key: {', '.join(sorted(reused))}"
    name = record.intent_id
    return {kind: text for kind, text in held.items() if finding_id(kind, name) not in book.reported}


def check_event(book: Book, event: events.BaseEvent, before: Record) -> Iterable[Wrong]:
    """Check an event against those before it, which the book has taken in."""
    check = CHECKS.get(type(event))
    found = check(book, event, before) if check is not None else ()
    intent_id = event.intent_id if isinstance(event, events.OrderReport) else named(event)
    if intent_id in (None, before.intent_id):
        return found
    return [(LIFECYCLE, f"it names intent {intent_id}, but is in the stream of {before.intent_id}"), *found]


def named(event: events.BaseEvent) -> str | None:
    """Return the intent id that an event names."""
    subject = getattr(event, "intent", None) or getattr(event, "state", None) or event
    found: str | None = getattr(subject, "intent_id", None)
    return found


def command_wrong(_book: Book, event: events.BaseEvent, before: Record) -> Iterator[Wrong]:
    known = before.intent
    if isinstance(event, events.IntentCreated):
        if known is not None:
            yield LIFECYCLE, "the intent already exists"
    elif known is None:
        yield LIFECYCLE, "the intent does not exist"
    elif isinstance(event, events.IntentModified):
        changed = (event.intent.order, event.intent.desired) != (known.order, known.desired)
        if event.intent.generation != known.generation + changed:
            text = f"generation {event.intent.generation} follows {known.generation}"
            yield LIFECYCLE, f"{text}: a change of the order increases it by 1, nothing else does"
    elif isinstance(event, events.IntentCancelRequested):
        if known.desired is Desired.CANCELED:
            yield LIFECYCLE, "the intent is already canceled"
        elif event.generation != known.generation + 1:
            yield LIFECYCLE, f"generation {event.generation} follows {known.generation}: a cancel increases it by 1"
    elif before.may_be_live:
        yield LIFECYCLE, "the intent is deleted while its order may be open at the venue"


def store_wrong(
    _book: Book, event: events.OrderStateRecorded | events.OrderStateForgotten, before: Record
) -> Iterator[Wrong]:
    if isinstance(event, events.OrderStateForgotten):
        if not before.has_order:
            yield LIFECYCLE, "no order state to forget"
    elif event.created == before.has_order:
        yield LIFECYCLE, "an order state is created, but exists" if event.created else "no order state to update"


def illegal_status_change(old: OrderFacts, new: OrderFacts, event: events.OrderReport) -> Iterator[Wrong]:
    """Check that an order's status may follow its previous one, or that newer evidence shows an ended order open."""
    if old.rare.recorded or old.rare.retired or old.succeeded is not new.succeeded:
        return  # whether a stop has triggered follows from the other orders of its client order id
    if old.closed is None and not old.succeeded and new.accepted:
        return  # it had not ended, and is not pending: any status may follow
    was, now = ord_status(old), ord_status(new)
    if was is now or (new.live and proves_open(old, event)):
        return
    if now is OrdStatus.PENDING_NEW or now not in ENDED_MAY_BECOME.get(was, frozenset((now,))):
        yield LIFECYCLE, f"order {name_of(new)} becomes {now} after {was}"


def unproven_reopening(
    old: OrderFacts, new: OrderFacts, event: events.OrderReport, around: Surroundings
) -> Iterator[Wrong]:
    """Check that a stop that triggered is reopened only by a status query begun a read lag after that."""
    if old.rare.succeeded_ns is None or new.rare.reopened_ids == old.rare.reopened_ids:
        return
    began_ns = getattr(event, "began_ns", None) or 0
    stays_listed = around.capabilities.get("trigger_parent_stays_listed")
    if stays_listed or began_ns < old.rare.succeeded_ns + account_lag_ns(around.capabilities):
        yield EVIDENCE, f"stop {name_of(new)}, which triggered, is reopened by a status query that may show it on"


def proves_open(old: OrderFacts, event: events.OrderReport) -> bool:
    """Return whether a report is newer than an order's end: by its query's begin, or by its own venue time (H21)."""
    if isinstance(event, FILL_EVENTS):
        return False
    began_ns = event.began_ns if isinstance(event, events.OrderStateObserved) else None
    reflects_ns = event.reflects_ns if isinstance(event, events.OrderStateObserved) else None
    if began_ns is not None and reflects_ns is not None and (old.closed_ns or 0) <= reflects_ns <= began_ns:
        return True
    time_ns = event.transact_time_ns or 0
    return 0 < old.end_time_ns < time_ns and (began_ns is None or time_ns < began_ns)


def started_wrong(book: Book, event: events.AttemptStarted, before: Record) -> Iterator[Wrong]:
    around = book.around
    if around.epoch is not None and event.epoch != around.epoch:
        yield SEND, f"an attempt of epoch {event.epoch}, but the current leader's epoch is {around.epoch}"
    made = client_order_id(around.log_id, before.intent_id, event.number)
    if not event.client_order_id or not made.startswith(event.client_order_id):
        yield SEND, f"{event.client_order_id} is not the client order id of attempt number {event.number}"
    is_resend = event.kind is AttemptKind.SUBMIT and before.send_count(event.client_order_id) > 0
    if event.number <= before.number and not is_resend:
        yield SEND, f"attempt number {event.number} follows {before.number}: attempt numbers increase"
    if event.kind is not AttemptKind.CANCEL:
        yield from unwanted(before, event)
    if event.kind is AttemptKind.SUBMIT:
        yield from second_order(before, event, around)
    elif target_of(before, event) is None:
        target = event.target_exchange_order_id or event.target_client_order_id
        yield SEND, f"a {event.kind} of order {target}, which is not in the log"


def unwanted(before: Record, event: events.AttemptStarted) -> Iterator[Wrong]:
    intent = before.intent
    if intent is None:
        yield SEND, f"a {event.kind} for an intent that does not exist"
    elif intent.desired is Desired.CANCELED:
        yield SEND, f"a {event.kind} after the cancel of its intent"
    elif event.generation != intent.generation:
        yield SEND, f"a {event.kind} for generation {event.generation}, but the intent is at {intent.generation}"


def second_order(before: Record, event: events.AttemptStarted, around: Surroundings) -> Iterator[Wrong]:
    """Check that a submit cannot open a second order or exceed the intent's quantity."""
    for item in before.unresolved:
        if item.kind is not AttemptKind.SUBMIT:
            continue
        if item.client_order_id != event.client_order_id:
            yield SEND, f"an order is submitted while the submit at position {item.position} is unresolved"
        elif around.capabilities.get("dedupe") in FORGETFUL:
            text = f"a submit is repeated while the one at position {item.position} is unresolved"
            yield SEND, f"{text}, and the venue may accept both"
    if before.live_orders:
        yield SEND, f"an order is submitted while order {name_of(before.live_orders[0])} is open"
    for facts in before.orders:
        if facts.unconfirmed_ns is not None and not (facts.filled or facts.succeeded):
            yield SEND, f"an order is submitted while the end of order {name_of(facts)} is not confirmed"
    if before.intent is not None and event.order.quantity + before.cum_qty > before.intent.order.quantity:
        text = f"{event.order.quantity} is submitted and {before.cum_qty} is filled"
        yield SEND, f"{text}, more than the intent's quantity {before.intent.order.quantity}"


def target_of(before: Record, event: events.AttemptStarted) -> OrderFacts | None:
    """Return the order that a cancel or a modify names."""
    for facts in before.orders:
        if event.target_exchange_order_id and facts.exchange_order_id == event.target_exchange_order_id:
            return facts
    return order_under(before, event.target_client_order_id or "")


def verdict_wrong(
    book: Book, event: events.AttemptFailed | events.AttemptUnknown | events.AttemptResolved, before: Record
) -> Iterator[Wrong]:
    if event.attempt_position not in book.starts:
        yield CAUSE, f"position {event.attempt_position} is not an attempt of this intent"
        return
    if event.evidence is Evidence.COMMAND:
        yield EVIDENCE, "a command is not evidence of an attempt's outcome"
    if isinstance(event, events.AttemptFailed) and event.outcome in UNRESOLVED | {AttemptOutcome.ACCEPTED}:
        yield LIFECYCLE, f"{event.outcome} is not the outcome of a failed attempt"
    if isinstance(event, events.AttemptResolved) and event.outcome is AttemptOutcome.DEAD:
        yield from unproven_absence(book, event, before)


def unproven_absence(book: Book, event: events.AttemptResolved, before: Record) -> Iterator[Wrong]:
    """Check that a DEAD attempt has proof: a complete query that began when no request could arrive any more."""
    if event.evidence in (Evidence.OPERATOR, Evidence.INFERRED):
        return  # an operator vouches for it, or it is marked as inferred
    attempt = before.attempt_at(event.attempt_position)
    if attempt is None or attempt.outcome not in UNRESOLVED or attempt.kind is AttemptKind.CANCEL:
        return  # already resolved, so this event has no effect; or a cancel, which the order's end or a new order proves
    if attempt.kind is AttemptKind.AMEND and is_moot(before, attempt):
        return
    sends = [
        item
        for item in before.unresolved
        if item.client_order_id == attempt.client_order_id and item.position <= attempt.position
    ]
    name = attempt.client_order_id
    if any(item.absent_after_ns is None for item in sends):
        yield EVIDENCE, f"{name} is resolved as DEAD although its request may still arrive at any time"
        return
    until_ns = max(item.absent_after_ns or 0 for item in sends)
    if (event.began_ns or 0) < until_ns:
        early_ns = until_ns - (event.began_ns or 0)
        yield EVIDENCE, f"{name} is resolved as DEAD by a status query that began {early_ns} ns too early"
    if attempt.kind is AttemptKind.SUBMIT and not is_absence(book.newest_snapshot, event):
        yield EVIDENCE, f"{name} is resolved as DEAD, but the log has no complete status query without it"


def is_moot(before: Record, attempt: Attempt) -> bool:
    """Return whether the target of a modify is no longer open."""
    return not any(
        facts.live
        for facts in before.orders
        if attempt.target_client_order_id in facts.client_order_ids
        or (attempt.target_exchange_order_id and facts.exchange_order_id == attempt.target_exchange_order_id)
    )


def is_absence(query: events.VenueSnapshotTaken | None, event: events.AttemptResolved) -> bool:
    """Return whether the newest status query is the one that the event names, and did not find the order."""
    return query is not None and query.complete and query.found is False and query.began_ns == event.began_ns


def report_wrong(book: Book, event: events.OrderReport, before: Record) -> Iterator[Wrong]:
    """Check that a report concerns this intent and has evidence."""
    if is_expected(book, event, before):
        return
    if event.attempt_position is not None and event.attempt_position not in book.starts:
        yield CAUSE, f"position {event.attempt_position} is not an attempt of this intent"
    if (text := of_another_order(book, event, before)) is not None:
        yield EVIDENCE, text
    if event.client_order_id not in book.sent and (names := unknown_names(book, event, before)):
        yield SEND, f"the venue reports {', '.join(names)}, which no earlier attempt in the log sent"
    if event.evidence is Evidence.COMMAND:
        yield EVIDENCE, "a command is not evidence of a venue's report"
    inferred_trade = isinstance(event, events.OrderFilled) and event.exchange_order_id in book.attributed
    if event.evidence is Evidence.INFERRED and not (inferred_trade or isinstance(event, events.OrderStateObserved)):
        yield EVIDENCE, "only an order status query may be inferred evidence"


def is_expected(book: Book, event: events.OrderReport, before: Record) -> bool:
    """Return whether a report by the stream is about terms and a client order id that were sent: all is right then."""
    sent = before.sent_order
    if sent is None or event.attempt_position is not None or event.client_order_id not in book.sent:
        return False
    same = event.symbol_id == sent.symbol_id and getattr(event, "side", None) in (None, sent.side)
    return same and event.evidence is Evidence.STREAM


def unknown_names(book: Book, event: events.OrderReport, before: Record) -> list[str]:
    """Return the client order ids of a report, unless an attempt sent one of them or an order has it."""
    names = {name for name in (event.client_order_id, event.orig_client_order_id) if name}
    known = book.sent.union(*(facts.client_order_ids for facts in before.orders))
    return sorted(names) if names.isdisjoint(known) and not (book.is_adopted or book.is_written) else []


def query_wrong(book: Book, event: events.OrderStateObserved, before: Record) -> Iterator[Wrong]:
    """Check what a status query claims to include, and that an order that is gone was missed twice (H22)."""
    yield from report_wrong(book, event, before)
    if event.gone and event.began_ns is None:
        yield EVIDENCE, "the order is gone, but the status query that shows it is not named"
    if event.reflects_ns is None or event.evidence is Evidence.OPERATOR:
        return
    if event.reflects_ns > max(0, (event.began_ns or 0) - book.around.orders_lag_ns):
        yield EVIDENCE, "the status query claims to include more than its begin and the venue's read lag allow"
    known = next((item for item in before.orders if item.exchange_order_id == event.exchange_order_id), None)
    if event.gone and known is not None and known.live and known.rare.misses < MISSES_MIN:
        yield EVIDENCE, f"order {name_of(known)} is gone after {known.rare.misses} queries that did not show it"


def of_another_order(book: Book, event: events.OrderReport, before: Record) -> str | None:
    """Return why a report is about another order (H25): its symbol, its side, or a venue order id that is not known."""
    side, sent = getattr(event, "side", None), before.sent_order
    if sent is None or event.symbol_id != sent.symbol_id or side not in (None, sent.side):
        orders = [facts.order for facts in before.orders]
        orders += [order for order in (sent, before.intent.order if before.intent else None) if order]
        if orders and event.symbol_id not in {order.symbol_id for order in orders}:
            return f"it is about {event.symbol_id}, but the intent has orders in {orders[0].symbol_id} only"
        if orders and side not in (None, *(order.side for order in orders)):
            return f"it is about a {side}, but the intent has {orders[0].side} orders only"
    if event.exchange_order_id and not (event.client_order_id or event.orig_client_order_id):
        known = {facts.exchange_order_id for facts in before.orders} | book.attributed
        if known and known.isdisjoint({event.exchange_order_id, event.parent_exchange_order_id}):
            return f"it names venue order {event.exchange_order_id} alone, which is not known as an order of the intent"
    return None


def miscounted(book: Book, after: Record) -> Iterator[Wrong]:
    """Check that the fold counts the fills in the events."""
    if book.excess and figures(book.excess):
        ours, theirs = summed(book.fills.counted), summed(fills_of((*after.settled, *after.orders)))
        yield ACCOUNTING, f"its fills add up to (quantity, cash, fees) {ours}, but the fold has {theirs}"


CHECKS: dict[type[events.BaseEvent], Callable[..., Iterator[Wrong]]] = {
    **{kind: report_wrong for kind in events.EVENT_TYPES if issubclass(kind, events.OrderReport)},
    events.OrderStateObserved: query_wrong,
    **dict.fromkeys(
        (events.IntentCreated, events.IntentModified, events.IntentCancelRequested, events.IntentDeleted), command_wrong
    ),
    **dict.fromkeys((events.OrderStateRecorded, events.OrderStateForgotten), store_wrong),
    events.AttemptStarted: started_wrong,
    **dict.fromkeys((events.AttemptFailed, events.AttemptUnknown, events.AttemptResolved), verdict_wrong),
}
"""Checks by event class."""
