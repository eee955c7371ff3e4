"""The checks of one intent's stream: what may follow what, what was sent and whether it was to be, what is settled by which
evidence, and what its fills come to.

Fed by `verify_events`, event by event. Pure but for the books, one for each intent, each a fold of its stream: it can be
let go and made again. They hold the kernel's own record, so statuses are those of `kernel.lifecycle`. A book whose stream
lacks an event, or has a changed one, is folded on and judged no more: what follows from a damage is no second one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kernel import events
from kernel.lifecycle import Record, client_order_id, conditions, evolve, finding_id, ord_status
from kernel.lifecycle.order_facts import OrderFacts
from kernel.lifecycle.record import order_under
from kernel.models import (
    UNRESOLVED,
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Desired,
    Evidence,
    FindingKind,
    OrdStatus,
)
from kernel.venues.base import Dedupe
from replay.audit.accounts import Fills, Sums, figures, fills_of, summed
from replay.formatting.problems import ProblemKind

Wrong = tuple[ProblemKind, str]
LIFECYCLE, SEND, EVIDENCE, CAUSE, ACCOUNTING = (
    ProblemKind.LIFECYCLE,
    ProblemKind.SEND,
    ProblemKind.EVIDENCE,
    ProblemKind.CAUSE,
    ProblemKind.ACCOUNTING,
)
FILLS = (events.OrderFilled, events.FillCorrected, events.FillBusted)
ENDED_MAY_BECOME = {
    OrdStatus.CANCELED: frozenset({OrdStatus.FILLED}),
    OrdStatus.EXPIRED: frozenset({OrdStatus.FILLED}),
    OrdStatus.REJECTED: frozenset({OrdStatus.FILLED, OrdStatus.PARTIALLY_FILLED}),
}
"""How an order that a report has ended may go on: no status refuses a fill, and nothing else opens it again."""


@dataclass
class Book:
    """All that is kept of one intent."""

    record: Record
    sent: set[str] = field(default_factory=set)
    """Client order ids of its attempts."""
    starts: set[int] = field(default_factory=set)
    """Positions of its attempts."""
    reported: set[str] = field(default_factory=set)
    """Findings that were ever raised about it."""
    fills: Fills = field(default_factory=Fills)
    sums: dict[str, Sums] = field(default_factory=dict)
    """What they come to, by symbol."""
    newest_snapshot: events.VenueSnapshotTaken | None = None
    """The newest look for it."""
    is_adopted: bool = False
    """Whether it was made for an order that was at the venue already, under whatever id."""
    is_written: bool = False
    """Whether a store wrote its order's state, which may tell of what was sent by others."""
    is_damaged: bool = False
    """Whether its stream is not what was recorded."""


@dataclass
class Surroundings:
    """What the checks of an intent need to know of the rest of the log."""

    log_id: str
    epoch: int | None = None
    """The newest leader's; None where it is not known."""
    dedupe: Dedupe | None = None
    """What the venue does about a client order id that comes again, as the newest leader recorded it."""


def applied(book: Book, event: events.BaseEvent, around: Surroundings) -> list[Wrong]:
    """Fold an event into its book; what is wrong with it."""
    before = book.record
    if event.version != before.version + 1:
        book.is_damaged = True
    found = [] if book.is_damaged else [*check_event(book, event, around)]
    book.record = after = evolve(before, event)
    note(book, event)
    if isinstance(event, FILLS):
        book.fills.apply(event)
        book.sums = book.fills.sums() if book.fills.is_clear else summed(fills_of(after))
    if book.is_damaged:
        return found
    if isinstance(event, FILLS):
        found += miscounted(book)
    if isinstance(event, events.OrderReport):
        found += illegal_status_change(before, after)
    return found


def note(book: Book, event: events.BaseEvent) -> None:
    """Keep what the record does not."""
    match event:
        case events.AttemptStarted():
            book.sent.add(event.client_order_id)
            book.starts.add(event.position)
        case events.FindingRaised():
            book.reported.add(event.finding.finding_id)
        case events.VenueSnapshotTaken():
            book.newest_snapshot = event
        case events.IntentCreated():
            book.is_adopted = book.is_adopted or event.evidence is not Evidence.COMMAND
        case events.OrderStateRecorded():
            book.is_written = True


def unreported(book: Book) -> dict[FindingKind, str]:
    """What should not be, is, and was never told of this intent."""
    if not book.record.orders:
        return {}
    held = conditions(book.record)
    reused = book.fills.reused_keys()
    if reused and FindingKind.FILL_KEY_REUSED not in held:
        held[FindingKind.FILL_KEY_REUSED] = f"different trades under one fill key: {', '.join(sorted(reused))}"
    name = book.record.intent_id
    return {kind: text for kind, text in held.items() if finding_id(kind, name) not in book.reported}


def check_event(book: Book, event: events.BaseEvent, around: Surroundings) -> Iterator[Wrong]:
    """What is wrong with an event, by what was before it."""
    intent_id = named(event)
    if intent_id is not None and intent_id != book.record.intent_id:
        yield LIFECYCLE, f"it is about {intent_id}, and stands in the stream of {book.record.intent_id}"
    if isinstance(event, events.OrderReport):
        yield from report_wrong(book, event)
    elif (check := CHECKS.get(type(event))) is not None:
        yield from check(book, event, around)


def named(event: events.BaseEvent) -> str | None:
    """The intent that an event says it is about."""
    match event:
        case events.IntentCreated() | events.IntentModified():
            return event.intent.intent_id
        case events.OrderStateRecorded():
            return event.state.intent_id
        case _:
            found: str | None = getattr(event, "intent_id", None)
            return found


# ------------------------------------------------------------------------------------------------------------- lifecycles
def created_wrong(book: Book, event: events.IntentCreated, around: Surroundings) -> Iterator[Wrong]:
    if book.record.intent is not None:
        yield LIFECYCLE, "the intent is created, and exists"


def modified_wrong(book: Book, event: events.IntentModified, around: Surroundings) -> Iterator[Wrong]:
    known = book.record.intent
    if known is None:
        yield LIFECYCLE, "the intent is modified, and does not exist"
        return
    changed = (event.intent.order, event.intent.desired) != (known.order, known.desired)
    if event.intent.generation != known.generation + changed:
        text = f"generation {event.intent.generation} follows {known.generation}"
        yield LIFECYCLE, f"{text}: each change is one more, and nothing else is"


def cancel_wrong(book: Book, event: events.IntentCancelRequested, around: Surroundings) -> Iterator[Wrong]:
    known = book.record.intent
    if known is None:
        yield LIFECYCLE, "a cancel is requested of an intent that does not exist"
    elif known.desired is Desired.CANCELED:
        yield LIFECYCLE, "a cancel is requested of an intent that is canceled already"
    elif event.generation != known.generation + 1:
        yield LIFECYCLE, f"generation {event.generation} follows {known.generation}: a cancel is one more"


def deleted_wrong(book: Book, event: events.IntentDeleted, around: Surroundings) -> Iterator[Wrong]:
    if book.record.intent is None:
        yield LIFECYCLE, "the intent is deleted, and does not exist"
    elif book.record.may_be_live:
        yield LIFECYCLE, "the intent is deleted while an order of it may work at the venue"


def recorded_wrong(book: Book, event: events.OrderStateRecorded, around: Surroundings) -> Iterator[Wrong]:
    if event.created == book.record.has_order:
        is_there = "there is one" if book.record.has_order else "there is none"
        yield LIFECYCLE, f"an order state is {'created' if event.created else 'updated'}, and {is_there}"


def forgotten_wrong(book: Book, event: events.OrderStateForgotten, around: Surroundings) -> Iterator[Wrong]:
    if not book.record.has_order:
        yield LIFECYCLE, "an order state is forgotten, and there is none"


def illegal_status_change(before: Record, after: Record) -> Iterator[Wrong]:
    """Statuses of orders that cannot follow the ones before, by the facts and the table of the lifecycle."""
    if after.orders is before.orders:
        return
    for old, new in zip(before.orders, after.orders, strict=False):
        if old is new or old.recorded or old.retired:
            continue
        was, now = ord_status(old), ord_status(new)
        if was is now:
            continue
        if now is OrdStatus.PENDING_NEW or now not in ENDED_MAY_BECOME.get(was, frozenset((now,))):
            yield LIFECYCLE, f"order {name_of(new)} is {now} after it was {was}"


def name_of(facts: OrderFacts) -> str:
    return facts.exchange_order_id or facts.client_order_id


# ------------------------------------------------------------------------------------------------------------------ sends
def started_wrong(book: Book, event: events.AttemptStarted, around: Surroundings) -> Iterator[Wrong]:
    before = book.record
    if around.epoch is not None and event.epoch != around.epoch:
        yield SEND, f"an attempt of epoch {event.epoch}, while the leader elected before it has {around.epoch}"
    made = client_order_id(around.log_id, before.intent_id, event.number)
    if not event.client_order_id or not made.startswith(event.client_order_id):
        yield SEND, f"{event.client_order_id} is not the client order id of number {event.number}"
    is_resend = event.kind is AttemptKind.SUBMIT and before.send_count(event.client_order_id) > 0
    if event.number <= before.number and not is_resend:
        yield SEND, f"number {event.number} comes after {before.number}: numbers only grow"
    if event.kind is not AttemptKind.CANCEL:
        yield from unwanted(before, event)
    if event.kind is AttemptKind.SUBMIT:
        yield from second_order(before, event, around)
    elif target_of(before, event) is None:
        aimed = event.target_exchange_order_id or event.target_client_order_id
        yield SEND, f"a {event.kind} of order {aimed}, which the log does not have"


def unwanted(before: Record, event: events.AttemptStarted) -> Iterator[Wrong]:
    """Whether what is sent is still wanted."""
    intent = before.intent
    if intent is None:
        yield SEND, f"a {event.kind} for an intent that does not exist"
    elif intent.desired is Desired.CANCELED:
        yield SEND, f"a {event.kind} after the cancel of its intent"
    elif event.generation != intent.generation:
        yield SEND, f"a {event.kind} for generation {event.generation}, the intent is at {intent.generation}"


def second_order(before: Record, event: events.AttemptStarted, around: Surroundings) -> Iterator[Wrong]:
    """Whether a submit could make a second order, or more than is wanted."""
    for item in before.unresolved:
        if item.kind is not AttemptKind.SUBMIT:
            continue
        if item.client_order_id != event.client_order_id:
            yield SEND, f"an order is submitted while the submit at {item.position} is not settled"
        elif around.dedupe not in (None, Dedupe.FOR_EVER):
            yield SEND, f"a submit is sent again while the one at {item.position} is not settled, and both may be taken"
    if before.live_orders:
        yield SEND, f"an order is submitted while {name_of(before.live_orders[0])} works"
    if before.intent is not None and event.order.quantity + before.cum_qty > before.intent.order.quantity:
        text = f"{event.order.quantity} is submitted, {before.cum_qty} has filled"
        yield SEND, f"{text}, and {before.intent.order.quantity} is wanted in all"


def target_of(before: Record, event: events.AttemptStarted) -> OrderFacts | None:
    """The order that a cancel or an amend aims at."""
    for facts in before.orders:
        if event.target_exchange_order_id and facts.exchange_order_id == event.target_exchange_order_id:
            return facts
    return order_under(before, event.target_client_order_id or "")


# --------------------------------------------------------------------------------------------------------------- evidence
def verdict_wrong(
    book: Book,
    event: events.AttemptFailed | events.AttemptUnknown | events.AttemptResolved,
    around: Surroundings,
) -> Iterator[Wrong]:
    if event.attempt_position not in book.starts:
        yield CAUSE, f"an outcome for position {event.attempt_position}, where no attempt of this intent is"
        return
    if event.evidence is Evidence.COMMAND:
        yield EVIDENCE, "the outcome of an attempt by no evidence but a command"
    if isinstance(event, events.AttemptFailed) and event.outcome in UNRESOLVED | {AttemptOutcome.ACCEPTED}:
        yield LIFECYCLE, f"an attempt fails as {event.outcome}"
    if isinstance(event, events.AttemptResolved) and event.outcome is AttemptOutcome.DEAD:
        yield from unproven_absence(book, event)


def unproven_absence(book: Book, event: events.AttemptResolved) -> Iterator[Wrong]:
    """Absence needs an admissible look: complete, and begun when no request could arrive any more."""
    if event.evidence in (Evidence.OPERATOR, Evidence.INFERRED):
        return  # somebody vouches for it; or it is marked as a guess
    before = book.record
    meant = next((item for item in before.attempts if item.position == event.attempt_position), None)
    if meant is None or meant.outcome not in UNRESOLVED or meant.kind is AttemptKind.CANCEL:
        return  # it was settled before, and this is ignored; or a cancel, of which an order's end or a new one is proof
    if meant.kind is AttemptKind.AMEND and is_moot(before, meant):
        return
    sends = [
        item
        for item in before.unresolved
        if item.client_order_id == meant.client_order_id and item.position <= meant.position
    ]
    if any(item.absent_after_ns is None for item in sends):
        yield EVIDENCE, f"{meant.client_order_id} is ruled out, though its request may arrive at any time"
        return
    until_ns = max(item.absent_after_ns or 0 for item in sends)
    if (event.began_ns or 0) < until_ns:
        early_ns = until_ns - (event.began_ns or 0)
        yield EVIDENCE, f"{meant.client_order_id} is ruled out by a look that began {early_ns} ns too early"
    if meant.kind is AttemptKind.SUBMIT and not is_absence(book.newest_snapshot, event):
        yield EVIDENCE, f"{meant.client_order_id} is ruled out, and no complete look without it is in the log"


def is_moot(before: Record, meant: Attempt) -> bool:
    """Whether the order that a change aims at works no more."""
    return not any(
        facts.live
        for facts in before.orders
        if meant.target_client_order_id in facts.client_order_ids
        or (meant.target_exchange_order_id and facts.exchange_order_id == meant.target_exchange_order_id)
    )


def is_absence(look: events.VenueSnapshotTaken | None, event: events.AttemptResolved) -> bool:
    """Whether the newest look is the one that a verdict tells of, and did not find what it looked for."""
    return look is not None and look.complete and look.found is False and look.began_ns == event.began_ns


def report_wrong(book: Book, event: events.OrderReport) -> Iterator[Wrong]:
    """Whether a report can be about something of this intent, and an end in it has evidence."""
    before = book.record
    if event.attempt_position is not None and event.attempt_position not in book.starts:
        yield CAUSE, f"an answer to position {event.attempt_position}, where no attempt of this intent is"
    given = {name for name in (event.client_order_id, event.orig_client_order_id) if name}
    known = book.sent.union(*(facts.client_order_ids for facts in before.orders))
    if given and given.isdisjoint(known) and not (book.is_adopted or book.is_written):
        yield SEND, f"the venue tells of {', '.join(sorted(given))}, and the log has not sent that before"
    if event.evidence is Evidence.COMMAND:
        yield EVIDENCE, f"{event.topic} without evidence of the venue"
    is_look = isinstance(event, events.OrderStateObserved)
    if event.evidence is Evidence.INFERRED and not is_look:
        yield EVIDENCE, f"{event.topic} is inferred: only what a look showed may be"
    if isinstance(event, events.OrderStateObserved) and event.gone and event.began_ns is None:
        yield EVIDENCE, "an order is gone, and by which look is not said"


# ------------------------------------------------------------------------------------------------------------- accounting
def miscounted(book: Book) -> Iterator[Wrong]:
    """Whether the fold counts the fills that the events tell of."""
    ours, theirs = figures(book.sums), figures(summed(fills_of(book.record)))
    if ours != theirs:
        yield ACCOUNTING, f"its fills come to (quantity, cash, fees) {ours}, the fold has {theirs}"


CHECKS: dict[type[events.BaseEvent], Callable[..., Iterator[Wrong]]] = {
    events.IntentCreated: created_wrong,
    events.IntentModified: modified_wrong,
    events.IntentCancelRequested: cancel_wrong,
    events.IntentDeleted: deleted_wrong,
    events.OrderStateRecorded: recorded_wrong,
    events.OrderStateForgotten: forgotten_wrong,
    events.AttemptStarted: started_wrong,
    events.AttemptFailed: verdict_wrong,
    events.AttemptUnknown: verdict_wrong,
    events.AttemptResolved: verdict_wrong,
}
"""What is checked of which event, besides reports. Anything may follow anything else."""
