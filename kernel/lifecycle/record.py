"""All that is known of one intent and its orders, and the records for people that follow from it.

`evolve` makes it, the state keeps one for each intent, `order_state` shows it. It is a value: a change is a new one.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from kernel.lifecycle.immutable import construct, copy_with
from kernel.lifecycle.order_facts import OrderFacts
from kernel.lifecycle.order_status import TERMINAL, ord_status
from kernel.models import (
    UNRESOLVED,
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Desired,
    OrderIntent,
    OrderState,
    OrderStatus,
    OrdStatus,
    ReconciliationStatus,
    UnsolicitedCancelPolicy,
    VenueOrder,
)
from kernel.order_spec import OrderType, StandardOrder, TimeInForce


class SentModify(NamedTuple):
    """A request to change an order, as it was sent."""

    client_order_id: str
    order: StandardOrder
    generation: int
    new_order: bool
    """Whether it makes a new venue order, which then has the request's id."""


ONE_SHOT = frozenset({TimeInForce.IOC, TimeInForce.FOK})
"""Orders that end by themselves at once: what they leave is not placed again."""


@dataclass(frozen=True)
class Record:
    """One intent: what is wanted, what was sent, what the venue said of it."""

    intent_id: str
    version: int = 0
    """Version of the intent's stream."""
    intent: OrderIntent | None = None
    """None before it is created (a store may record an order's state first) and after it is deleted."""
    correlation_id: str | None = None
    """The newest command about it."""
    command_position: int | None = None
    """Position of the event of that command."""
    wanted_most: int = 0
    """The largest quantity that its order ever had: more than that was never wanted."""
    number: int = 0
    """Highest number ever used; never goes back, not even after a delete."""
    attempts: tuple[Attempt, ...] = ()
    """Those not settled, the newest submit, and the newest; oldest first."""
    sends: tuple[tuple[str, int], ...] = ()
    """How often each submit's client order id was sent, in order of first use. Remembered for ever."""
    targets: tuple[tuple[str, str], ...] = ()
    """What each cancel and amend aimed at: client order id of the request and of its target. Remembered for ever."""
    amends: tuple[SentModify, ...] = ()
    """Every amend that was started. Remembered for ever: its id may name an order."""
    refused_ids: frozenset[str] = frozenset()
    """Client order ids of cancels and amends that the venue refused before it showed the order they aimed at."""
    sent_order: StandardOrder | None = None
    """Terms of the newest submit."""
    solicited: frozenset[str] = frozenset()
    """Venue order ids that a cancel was ever started for; client order ids where the venue's was not known."""
    orders: tuple[OrderFacts, ...] = ()
    """Venue orders under our ids, in order of first sight."""
    failures: int = 0
    not_before_ns: int = 0
    failed_generation: int = 0
    last_sync_ns: int = 0
    last_report_ns: int = 0
    """When the newest fact came in."""
    recorded: OrderState | None = None
    """A store's write that no later fact has changed yet: read as written."""
    deleted: bool = False
    """Whether its intent was deleted and not created again."""
    has_order: bool = False
    """Whether an order state exists: from the first attempt, report or record on, until it is forgotten."""
    findings: frozenset[str] = frozenset()
    """Ids of the findings about it that stand."""
    paused: bool = False

    @property
    def unresolved(self) -> list[Attempt]:
        """Attempts that may have happened or may still happen, oldest first."""
        return [attempt for attempt in self.attempts if attempt.outcome in UNRESOLVED]

    @property
    def submit(self) -> Attempt | None:
        """The newest submit."""
        return newest(self.attempts, AttemptKind.SUBMIT)

    @property
    def current_orders(self) -> list[OrderFacts]:
        """The venue orders that count for the intent: its own, and whatever is live."""
        return [facts for facts in self.orders if not facts.retired or facts.live]

    @property
    def live_orders(self) -> list[OrderFacts]:
        """Venue orders that can still be filled, oldest first."""
        return [facts for facts in self.orders if facts.live]

    @property
    def may_be_live(self) -> bool:
        """Whether something of it works at the venue, or may."""
        return bool(self.unresolved) or any(facts.final_cum_qty is None for facts in self.orders)

    @property
    def cum_qty(self) -> int:
        return sum([facts.cum_qty for facts in self.current_orders])

    def target(self, client_order_id: str) -> str | None:
        """What the cancel or amend under a client order id aimed at; None for an id that is no request's."""
        return next((target for request_id, target in self.targets if request_id == client_order_id), None)

    def sent_modify(self, client_order_id: str) -> SentModify | None:
        """The amend that was sent under a client order id."""
        if not self.amends:
            return None
        return next((item for item in self.amends if item.client_order_id == client_order_id), None)

    def submit_id(self, client_order_id: str) -> str:
        """The client order id of the submit at the root of a chain of requests; the id itself when it is no request's."""
        asked = {client_order_id}
        while (target := self.target(client_order_id)) is not None and target not in asked:
            client_order_id = target
            asked.add(target)
        return client_order_id

    def send_count(self, client_order_id: str) -> int:
        """How often a submit went out under this id."""
        return next((count for known, count in self.sends if known == client_order_id), 0)


def order_under(record: Record, client_order_id: str, *, exchange_order_id: str | None = None) -> OrderFacts | None:
    """The venue order that a client order id stands for: the youngest that has it, else what the request under it is about.

    With the venue's own id, an order that is known by another one is not meant. An empty id stands for an order without.
    """
    asked: set[str] = set()
    client_id: str | None = client_order_id
    while client_id is not None and client_id not in asked:
        asked.add(client_id)
        for facts in reversed(record.orders):
            named_otherwise = exchange_order_id and facts.exchange_order_id not in ("", exchange_order_id)
            if not named_otherwise and facts.answers_to(client_id):
                return facts
        client_id = record.target(client_id)
    return None


class VenueStatus(NamedTuple):
    """The state of one venue order, as FIX words it in every execution report."""

    ord_status: OrdStatus
    """FIX 39."""
    cum_qty: int
    """FIX 14, at the quantity scale."""
    leaves_qty: int
    """FIX 151, at the quantity scale."""
    cum_notional: int = 0
    """Sum of price × quantity over its known trades; FIX 6 (AvgPx) is this by `traded_qty`."""
    traded_qty: int = 0
    """Known trades, net of busts and corrections."""


def venue_status(record: Record, client_order_id: str) -> VenueStatus:
    """The state of the order under a client order id, or of the order that the request under it is about.

    An order that is on its way is PENDING_NEW; FIX calls an unknown one REJECTED, with nothing filled and nothing open.
    """
    facts = order_under(record, client_order_id)
    if facts is not None:
        amounts = facts.quantities
        return VenueStatus(ord_status(facts), facts.cum_qty, facts.leaves_qty, amounts.cum_notional, amounts.traded_qty)
    sent = [item for item in record.unresolved if item.kind is AttemptKind.SUBMIT]
    if record.sent_order is not None and any(item.client_order_id == client_order_id for item in sent):
        return VenueStatus(OrdStatus.PENDING_NEW, 0, record.sent_order.quantity)
    return VenueStatus(OrdStatus.REJECTED, 0, 0)


def newest(attempts: tuple[Attempt, ...], kind: AttemptKind) -> Attempt | None:
    return next((attempt for attempt in reversed(attempts) if attempt.kind is kind), None)


def client_order_id(log_id: str, intent_id: str, number: int, *, max_length: int = 36) -> str:
    """The client order id of an intent's number-th attempt: a function of the log, the intent and the number.

    Lower-case base32 (a-z, 2-7) of a SHA-256, 26 characters (130 bits) or fewer where the venue's limit is tighter.
    """
    digest = hashlib.sha256(f"{log_id}\n{intent_id}\n{number}".encode()).digest()
    return base64.b32encode(digest).decode().lower()[: min(26, max_length)]


def order_state(record: Record) -> OrderState | None:
    """The record for people: None before anything was sent, seen or recorded."""
    if not record.has_order:
        return None
    if record.recorded is not None:
        return record.recorded
    submit = record.submit
    primary = primary_order(record)
    status = order_status(record, primary)
    if status is None:
        return None
    return construct(
        OrderState,
        intent_id=record.intent_id,
        exchange_order_id=(primary.exchange_order_id or None) if primary else None,
        client_order_id=primary.client_order_id if primary else submit.client_order_id if submit else None,
        status=status,
        reconciliation_status=reconciliation_status(record),
        observed_generation=max((attempt.generation for attempt in record.attempts), default=0),
        attempts=shown_attempts(record),
        venue_orders=tuple(venue_order(facts, record) for facts in record.current_orders),
        failures=record.failures,
        failed_generation=record.failed_generation,
        not_before_ns=record.not_before_ns,
        last_sync_at=record.last_sync_ns // 1_000_000_000,
    )


def shown_attempts(record: Record) -> tuple[Attempt, ...]:
    """Every attempt that is not settled, and the newest."""
    return tuple(
        attempt
        for attempt in record.attempts
        if attempt.outcome in UNRESOLVED or attempt is record.attempts[-1] or attempt is record.submit
    )


def primary_order(record: Record) -> OrderFacts | None:
    """The order that speaks for the intent: the youngest live one; once all that is wanted is filled, the one that filled
    it (a duplicate that was canceled after it says nothing); else the youngest."""
    live = record.live_orders
    current = record.current_orders
    satisfied = record.intent is not None and record.cum_qty >= record.intent.order.quantity
    filled = [facts for facts in current if facts.filled] if satisfied else []
    return next((orders[-1] for orders in (live, filled, current) if orders), None)


def order_status(record: Record, primary: OrderFacts | None) -> OrderStatus | None:
    submit = record.submit
    sent = record.sent_order
    if primary is None:
        if sent is None:
            return None
        return construct(
            OrderStatus,
            order=sent,
            ord_status=status_without_order(record, submit),
            cum_qty=0,
            leaves_qty=sent.quantity if record.unresolved else 0,
            cum_notional=0,
            avg_px=None,
        )
    earlier = sum(facts.cum_qty for facts in record.current_orders if facts is not primary)
    total = primary.quantity + earlier
    terms = {"quantity": total} if primary.price is None else {"quantity": total, "price": primary.price}
    traded = sum(facts.traded_qty for facts in record.current_orders)
    notional = sum(facts.quantities.cum_notional for facts in record.current_orders)
    return construct(
        OrderStatus,
        order=copy_with(primary.order, **terms),
        ord_status=ord_status(primary),
        cum_qty=record.cum_qty,
        leaves_qty=sum(facts.leaves_qty for facts in record.current_orders),
        cum_notional=notional,
        avg_px=notional // traded if traded else None,
    )


def status_without_order(record: Record, submit: Attempt | None) -> OrdStatus:
    """Nothing was ever seen at the venue: what the newest submit's outcome says."""
    if record.unresolved or submit is None:
        return OrdStatus.PENDING_NEW
    if submit.outcome is AttemptOutcome.REJECTED and submit.generation == record.failed_generation:
        return OrdStatus.REJECTED
    return OrdStatus.PENDING_NEW if has_desired_order(record.intent) else OrdStatus.CANCELED


def has_desired_order(intent: OrderIntent | None) -> bool:
    """Whether an order is wanted: not canceled, and its group does not let it be nothing at all."""
    return intent is not None and intent.desired is Desired.WORKING and intent.order.quantity > 0


def venue_order(facts: OrderFacts, record: Record) -> VenueOrder:
    """One venue order for people."""
    return construct(
        VenueOrder,
        exchange_order_id=facts.exchange_order_id,
        client_order_id=facts.client_order_id,
        quantity=facts.quantity,
        price=facts.price,
        live=facts.live,
        ord_status=ord_status(facts),
        cum_qty=facts.cum_qty,
        inferred_qty=facts.inferred_qty,
        cum_notional=facts.quantities.cum_notional,
        final_cum_qty=facts.final_cum_qty,
        first_seen_ns=facts.first_seen_ns,
        last_seen_ns=facts.last_seen_ns,
        closed_ns=facts.closed_ns,
        generation=facts.generation,
        solicited=is_solicited(facts, record),
        late=facts.late,
    )


def is_solicited(facts: OrderFacts, record: Record) -> bool:
    """Whether a cancel of it was ever started: then its end was asked for, whatever became of that cancel."""
    names = {facts.exchange_order_id, *facts.client_order_ids, *facts.superseded_ids}
    return not record.solicited.isdisjoint(names)


def reconciliation_status(record: Record) -> ReconciliationStatus:
    """How far the kernel is; without a clock, so a passed backoff still reads BACKING_OFF until something happens."""
    if record.paused:
        return ReconciliationStatus.PAUSED
    outcomes = {attempt.outcome for attempt in record.unresolved}
    if AttemptOutcome.UNKNOWN in outcomes:
        return ReconciliationStatus.UNKNOWN
    if outcomes:
        return ReconciliationStatus.IN_FLIGHT
    intent = record.intent
    if intent is not None and intent.generation == record.failed_generation and not served(record, intent):
        return ReconciliationStatus.FAILED
    if is_synced(record):
        return ReconciliationStatus.SYNCED
    return ReconciliationStatus.BACKING_OFF if record.failures else ReconciliationStatus.PENDING


def served(record: Record, intent: OrderIntent) -> bool:
    """Whether something works for what is wanted now; an order from before a change that was refused does not."""
    return any(facts.late or facts.generation in (0, intent.generation) for facts in record.live_orders)


def stops(item: VenueOrder, intent: OrderIntent) -> bool:
    """Whether the end of a venue order ends the wish for it, until the intent changes.

    An order ended by its own terms or refused after it was accepted does, whatever else was asked. A cancel that we asked
    for never does (H11); one that the venue made by itself does unless the intent says RECREATE.
    """
    if item.live or item.generation not in (0, intent.generation):
        return False
    if item.ord_status in (OrdStatus.EXPIRED, OrdStatus.REJECTED, OrdStatus.DONE_FOR_DAY):
        return True
    if item.ord_status is not OrdStatus.CANCELED or item.solicited:
        return False
    once = intent.order.time_in_force in ONE_SHOT or intent.order.order_type is OrderType.MARKET
    return once or intent.on_unsolicited_cancel is UnsolicitedCancelPolicy.STOP


def is_over(record: Record) -> bool:
    """Whether nothing works, nor may, and nothing more is going to be placed for what is wanted now."""
    intent = record.intent
    if record.may_be_live or intent is None:
        return not record.may_be_live
    return record.failed_generation == intent.generation or is_synced(record)


def is_synced(record: Record) -> bool:
    """Whether what works at the venue is what is wanted, as far as it can be said without a plan."""
    live = record.live_orders
    if any(facts.final_cum_qty is None and not facts.live for facts in record.current_orders) or len(live) > 1:
        return False
    intent = record.intent
    if intent is None or not has_desired_order(intent):
        return not live
    if live:
        return live[0].quantity + record.cum_qty - live[0].cum_qty == intent.order.quantity
    ended = any(stops(venue_order(facts, record), intent) for facts in record.current_orders)
    return ended or record.cum_qty >= intent.order.quantity


def venue_orders_of(state: OrderState) -> tuple[VenueOrder, ...]:
    """The venue orders that a state tells of; a store's write without any, and without attempts that would say that none
    was seen yet, tells of one by its ids and status."""
    if state.venue_orders or state.attempts or not (state.exchange_order_id or state.client_order_id):
        return state.venue_orders
    status = state.status
    ended = status.ord_status in TERMINAL
    return (
        VenueOrder(
            exchange_order_id=state.exchange_order_id or "",
            client_order_id=state.client_order_id or "",
            quantity=status.order.quantity,
            price=status.order.price,
            live=not ended,
            ord_status=status.ord_status,
            cum_qty=status.cum_qty,
            final_cum_qty=status.cum_qty if ended else None,
            generation=state.observed_generation,
        ),
    )
