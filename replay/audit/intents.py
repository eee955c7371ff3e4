"""Check the events of one intent: order, requests, evidence of outcomes, and fills.

Called by `events`, event by event. A `Book` is a fold of one intent's stream and can be evicted and rebuilt. Once a stream
has a missing or changed event, its later events are folded but no longer checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kernel import events
from kernel.lifecycle import Record, client_order_id, conditions, evolve, finding_id, ord_status
from kernel.lifecycle.order_facts import OrderFacts
from kernel.lifecycle.order_identity import find_order
from kernel.lifecycle.record import order_under
from kernel.models import UNRESOLVED, Attempt, AttemptKind, AttemptOutcome, Desired, Evidence, FindingKind, OrdStatus
from kernel.venues.base import Dedupe
from replay.audit.accounts import Fills, Lives, Sums, figures, fills_of, summed
from replay.formatting.problems import ProblemKind

Wrong = tuple[ProblemKind, str]
LIFECYCLE, SEND, EVIDENCE = ProblemKind.LIFECYCLE, ProblemKind.SEND, ProblemKind.EVIDENCE
CAUSE, ACCOUNTING = ProblemKind.CAUSE, ProblemKind.ACCOUNTING
MISSES_MIN = 2
"""Queries that must miss an order before it is gone."""
FILLS = (events.OrderFilled, events.FillCorrected, events.FillBusted)
ENDED_MAY_BECOME = {
    OrdStatus.CANCELED: frozenset({OrdStatus.FILLED}),
    OrdStatus.EXPIRED: frozenset({OrdStatus.FILLED}),
    OrdStatus.REJECTED: frozenset({OrdStatus.FILLED, OrdStatus.PARTIALLY_FILLED}),
}
"""Statuses that may follow a terminal one: a late fill always counts; only newer evidence reopens an order."""


@dataclass
class Book:
    """The facts kept about one intent."""

    record: Record
    sent: set[str] = field(default_factory=set)
    """Client order ids of its attempts."""
    starts: set[int] = field(default_factory=set)
    """Positions of its attempts."""
    reported: set[str] = field(default_factory=set)
    """Ids of findings raised about it."""
    lives: Lives = field(default_factory=Lives)
    fills: Fills = field(default_factory=Fills)
    sums: dict[str, Sums] = field(default_factory=dict)
    """Totals of the fills, by symbol."""
    newest_snapshot: events.VenueSnapshotTaken | None = None
    """The newest order status query for it."""
    attributed: set[str] = field(default_factory=set)
    """Venue ids of external orders that were attributed to it without the venue's word: its trades are inferred too."""
    is_adopted: bool = False
    """True if it adopts an order that was already at the venue, under any client order id."""
    is_written: bool = False
    """True if a store wrote its order state, which may contain requests of others."""
    is_damaged: bool = False
    """True if its stream has missing or changed events."""


@dataclass
class Surroundings:
    """Facts about the rest of the log that the checks of an intent use."""

    log_id: str
    epoch: int | None = None
    """Epoch of the newest leader; None if unknown."""
    dedupe: Dedupe | None = None
    """The venue's deduplication of client order ids, as recorded by the newest leader."""
    lag_ns: int = 0
    """The venue's read lag and the clocks' skew, recorded like it."""
    stops_stay_listed: bool = False
    """The venue lists a stop on that triggered as a new order, recorded like it."""
    orders_lag_ns: int = 0
    """The read lag of queries about orders and the clocks' skew, recorded like it."""


def applied(book: Book, event: events.BaseEvent, around: Surroundings) -> list[Wrong]:
    """Fold an event into its book and return its problems."""
    before = book.record
    if event.version != before.version + 1:
        book.is_damaged = True
    found = [] if book.is_damaged else [*check_event(book, event, around)]
    book.record = after = evolve(before, event)
    record_facts(book, event)
    for old, new in zip(before.orders, after.orders, strict=False):
        if new.false_ends > old.false_ends:
            book.lives.reopen(after.submit_id(new.client_order_ids[0]))
    counted = isinstance(event, FILLS) or (book.fills.bounded and isinstance(event, events.OrderReport))
    if isinstance(event, FILLS):
        book.fills.apply(event, submit_id_of(book, event))
    if counted:
        book.sums = book.fills.sums(book.lives) if book.fills.is_clear else summed(fills_of(after))
    if book.is_damaged:
        return found
    if counted:
        found += miscounted(book)
    if isinstance(event, events.OrderReport):
        found += illegal_status_change(before, after, event)
        found += unproven_reopening(before, after, event, around)
    return found


def record_facts(book: Book, event: events.BaseEvent) -> None:
    """Update the facts that the record does not keep."""
    match event:
        case events.AttemptStarted():
            book.sent.add(event.client_order_id)
            book.lives.sent(event)
            book.starts.add(event.position)
        case events.FindingRaised():
            book.reported.add(event.finding.finding_id)
        case events.VenueSnapshotTaken():
            book.newest_snapshot = event
        case events.IntentCreated():
            book.is_adopted = book.is_adopted or event.evidence is not Evidence.COMMAND
        case events.OrderStateRecorded():
            book.is_written = True
        case events.OrderReport():
            book.lives.report(event, submit_id_of(book, event))


def submit_id_of(book: Book, event: events.OrderReport) -> str | None:
    """Return the client order id of the submit whose order a report names; None if it names none."""
    name = event.orig_client_order_id or event.client_order_id
    return book.record.submit_id(name) if name else None


def unreported(book: Book) -> dict[FindingKind, str]:
    """Return the conditions of an intent for which no finding was raised."""
    if not book.record.orders:
        return {}
    held = conditions(book.record)
    reused = book.fills.reused_keys()
    if reused and FindingKind.FILL_KEY_REUSED not in held:
        held[FindingKind.FILL_KEY_REUSED] = f"different trades under one fill key: {', '.join(sorted(reused))}"
    name = book.record.intent_id
    return {kind: text for kind, text in held.items() if finding_id(kind, name) not in book.reported}


def check_event(book: Book, event: events.BaseEvent, around: Surroundings) -> Iterator[Wrong]:
    """Check an event against the events before it."""
    intent_id = named(event)
    if intent_id is not None and intent_id != book.record.intent_id:
        yield LIFECYCLE, f"it names intent {intent_id}, but is in the stream of {book.record.intent_id}"
    if isinstance(event, events.OrderReport):
        yield from report_wrong(book, event)
        if isinstance(event, events.OrderStateObserved):
            yield from query_wrong(book, event, around)
    elif (check := CHECKS.get(type(event))) is not None:
        yield from check(book, event, around)


def named(event: events.BaseEvent) -> str | None:
    """Return the intent id that an event names."""
    match event:
        case events.IntentCreated() | events.IntentModified():
            return event.intent.intent_id
        case events.OrderStateRecorded():
            return event.state.intent_id
        case _:
            found: str | None = getattr(event, "intent_id", None)
            return found


def command_wrong(book: Book, event: events.BaseEvent, around: Surroundings) -> Iterator[Wrong]:
    known = book.record.intent
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
    elif book.record.may_be_live:
        yield LIFECYCLE, "the intent is deleted while its order may be open at the venue"


def store_wrong(
    book: Book, event: events.OrderStateRecorded | events.OrderStateForgotten, around: Surroundings
) -> Iterator[Wrong]:
    if isinstance(event, events.OrderStateForgotten):
        if not book.record.has_order:
            yield LIFECYCLE, "no order state to forget"
    elif event.created == book.record.has_order:
        yield LIFECYCLE, "an order state is created, but exists" if event.created else "no order state to update"


def illegal_status_change(before: Record, after: Record, event: events.OrderReport) -> Iterator[Wrong]:
    """Check that each order's status may follow its previous one, or that newer evidence shows an ended order open."""
    if after.orders is before.orders:
        return
    for old, new in zip(before.orders, after.orders, strict=False):
        if old is new or old.recorded or old.retired or old.succeeded is not new.succeeded:
            continue  # whether a stop has triggered follows from the other orders of its client order id
        was, now = ord_status(old), ord_status(new)
        if was is now or (new.live and proves_open(old, event)):
            continue
        if now is OrdStatus.PENDING_NEW or now not in ENDED_MAY_BECOME.get(was, frozenset((now,))):
            yield LIFECYCLE, f"order {name_of(new)} becomes {now} after {was}"


def unproven_reopening(
    before: Record, after: Record, event: events.OrderReport, around: Surroundings
) -> Iterator[Wrong]:
    """Check that a stop that triggered is reopened only by a status query begun a read lag after that."""
    for old, new in zip(before.orders, after.orders, strict=False):
        if old.succeeded_ns is None or new.reopened_ids == old.reopened_ids:
            continue
        began_ns = getattr(event, "began_ns", None) or 0
        if around.stops_stay_listed or began_ns < old.succeeded_ns + around.lag_ns:
            yield EVIDENCE, f"stop {name_of(new)}, which triggered, is reopened by a status query that may show it on"


def proves_open(old: OrderFacts, event: events.OrderReport) -> bool:
    """Return whether a report is newer than an order's end: by its query's begin, or by its own venue time (H21)."""
    if isinstance(event, FILLS):
        return False
    began_ns = event.began_ns if isinstance(event, events.OrderStateObserved) else None
    reflects_ns = event.reflects_ns if isinstance(event, events.OrderStateObserved) else None
    if began_ns is not None and reflects_ns is not None and (old.closed_ns or 0) <= reflects_ns <= began_ns:
        return True
    time_ns = event.transact_time_ns or 0
    return 0 < old.end_time_ns < time_ns and (began_ns is None or time_ns < began_ns)


def name_of(facts: OrderFacts) -> str:
    return facts.exchange_order_id or facts.client_order_id


def started_wrong(book: Book, event: events.AttemptStarted, around: Surroundings) -> Iterator[Wrong]:
    before = book.record
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
        elif around.dedupe not in (None, Dedupe.FOR_EVER):
            text = f"a submit is repeated while the one at position {item.position} is unresolved"
            yield SEND, f"{text}, and the venue may accept both"
    if before.live_orders:
        yield SEND, f"an order is submitted while order {name_of(before.live_orders[0])} is open"
    for facts in before.orders:
        if facts.unconfirmed_ns is not None and not facts.filled:
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
    book: Book, event: events.AttemptFailed | events.AttemptUnknown | events.AttemptResolved, around: Surroundings
) -> Iterator[Wrong]:
    if event.attempt_position not in book.starts:
        yield CAUSE, f"position {event.attempt_position} is not an attempt of this intent"
        return
    if event.evidence is Evidence.COMMAND:
        yield EVIDENCE, "a command is not evidence of an attempt's outcome"
    if isinstance(event, events.AttemptFailed) and event.outcome in UNRESOLVED | {AttemptOutcome.ACCEPTED}:
        yield LIFECYCLE, f"{event.outcome} is not the outcome of a failed attempt"
    if isinstance(event, events.AttemptResolved) and event.outcome is AttemptOutcome.DEAD:
        yield from unproven_absence(book, event)


def unproven_absence(book: Book, event: events.AttemptResolved) -> Iterator[Wrong]:
    """Check that a DEAD attempt has proof: a complete query that began when no request could arrive any more."""
    if event.evidence in (Evidence.OPERATOR, Evidence.INFERRED):
        return  # an operator vouches for it, or it is marked as inferred
    before = book.record
    attempt = next((item for item in before.attempts if item.position == event.attempt_position), None)
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


def report_wrong(book: Book, event: events.OrderReport) -> Iterator[Wrong]:
    """Check that a report concerns this intent and has evidence."""
    before = book.record
    if event.attempt_position is not None and event.attempt_position not in book.starts:
        yield CAUSE, f"position {event.attempt_position} is not an attempt of this intent"
    ids = {name for name in (event.client_order_id, event.orig_client_order_id) if name}
    known = book.sent.union(*(facts.client_order_ids for facts in before.orders))
    if (text := of_another_order(book, event)) is not None:
        yield EVIDENCE, text
    if ids and ids.isdisjoint(known) and not (book.is_adopted or book.is_written):
        yield SEND, f"the venue reports {', '.join(sorted(ids))}, which no earlier attempt in the log sent"
    if event.evidence is Evidence.COMMAND:
        yield EVIDENCE, "a command is not evidence of a venue's report"
    if isinstance(event, events.OrderStateObserved):
        if event.evidence is Evidence.INFERRED and find_order(before, event) is None:
            book.attributed.add(event.exchange_order_id or "")
    elif event.evidence is Evidence.INFERRED and not is_attributed(book, event):
        yield EVIDENCE, "only an order status query may be inferred evidence"


def is_attributed(book: Book, event: events.OrderReport) -> bool:
    """Return whether an event is a trade of an order that was attributed to the intent."""
    return isinstance(event, events.OrderFilled) and event.exchange_order_id in book.attributed


def query_wrong(book: Book, event: events.OrderStateObserved, around: Surroundings) -> Iterator[Wrong]:
    """Check what a status query claims to include, and that an order that is gone was missed twice (H22)."""
    if event.gone and event.began_ns is None:
        yield EVIDENCE, "the order is gone, but the status query that shows it is not named"
    if event.reflects_ns is None or event.evidence is Evidence.OPERATOR:
        return
    if event.reflects_ns > max(0, (event.began_ns or 0) - around.orders_lag_ns):
        yield EVIDENCE, "the status query claims to include more than its begin and the venue's read lag allow"
    known = next((item for item in book.record.orders if item.exchange_order_id == event.exchange_order_id), None)
    if event.gone and known is not None and known.live and known.misses < MISSES_MIN:
        yield EVIDENCE, f"order {name_of(known)} is gone after {known.misses} queries that did not show it"


def of_another_order(book: Book, event: events.OrderReport) -> str | None:
    """Return why a report is about another order (H25): its symbol, its side, or a venue order id that is not known."""
    before = book.record
    orders = [facts.order for facts in before.orders]
    orders += [order for order in (before.sent_order, before.intent.order if before.intent else None) if order]
    if orders and event.symbol_id not in {order.symbol_id for order in orders}:
        return f"it is about {event.symbol_id}, but the intent has orders in {orders[0].symbol_id} only"
    side = getattr(event, "side", None)
    if orders and side is not None and side not in {order.side for order in orders}:
        return f"it is about a {side}, but the intent has {orders[0].side} orders only"
    if event.exchange_order_id and not (event.client_order_id or event.orig_client_order_id):
        known = {facts.exchange_order_id for facts in before.orders} | book.attributed
        if known and known.isdisjoint({event.exchange_order_id, event.parent_exchange_order_id}):
            return f"it names venue order {event.exchange_order_id} alone, which is not known as an order of the intent"
    return None


def miscounted(book: Book) -> Iterator[Wrong]:
    """Check that the fold counts the fills in the events."""
    ours, theirs = figures(book.sums), figures(summed(fills_of(book.record)))
    if ours != theirs:
        yield ACCOUNTING, f"its fills add up to (quantity, cash, fees) {ours}, but the fold has {theirs}"


CHECKS: dict[type[events.BaseEvent], Callable[..., Iterator[Wrong]]] = {
    **dict.fromkeys(
        (events.IntentCreated, events.IntentModified, events.IntentCancelRequested, events.IntentDeleted), command_wrong
    ),
    **dict.fromkeys((events.OrderStateRecorded, events.OrderStateForgotten), store_wrong),
    events.AttemptStarted: started_wrong,
    **dict.fromkeys((events.AttemptFailed, events.AttemptUnknown, events.AttemptResolved), verdict_wrong),
}
"""Checks by event class, besides reports."""
