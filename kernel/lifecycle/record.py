"""Everything known about one intent and its orders, and the order state derived from it.

`evolve` returns it, the state keeps one per intent, `order_state` presents it. Immutable.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from msgspec import structs

from kernel.lifecycle.orders.order_facts import NONE_SETTLED, OrderFacts, SettledOrders
from kernel.lifecycle.orders.order_status import TERMINAL, ord_status
from kernel.lifecycle.orders.shared_sequence import Facts, SharedSequence
from kernel.lifecycle.orders.trigger_chain import shares_client_id
from kernel.models import (
    UNRESOLVED,
    AcceptedTerms,
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Desired,
    EarlierOrders,
    OrderIntent,
    OrderState,
    OrderStatus,
    OrdStatus,
    ReconciliationStatus,
    UnsolicitedCancelPolicy,
    VenueOrder,
)
from kernel.order_spec import STOPPED, OrderType, StandardOrder, TimeInForce


class SentModify(NamedTuple):
    """A modify or replace request as it was sent."""

    client_order_id: str
    order: StandardOrder
    generation: int
    new_order: bool
    """True if it makes a new venue order under the request's id."""
    keeps_cum_qty: bool = False
    """True if the new order's quantity and CumQty include what the replaced one filled."""


NO_ENTRIES: SharedSequence[Any] = SharedSequence()
ONE_SHOT = frozenset({TimeInForce.IOC, TimeInForce.FOK})
"""Orders that end at once by themselves: the rest is not placed again."""
FIXED_TERMS = frozenset(
    {"side", "order_type", "stop_price", "time_in_force", "expire_at_ns", "post_only", "reduce_only"}
)
"""Terms that venues do not report back."""


class Record(Facts, frozen=True, gc=False):
    """One intent, its attempts, and the venue's reports about its orders."""

    intent_id: str
    version: int = 0
    """Version of the intent's stream."""
    last_position: int = 0
    """Position of its newest event."""
    created_position: int = 0
    """Position at which its intent was created; 0 without one."""
    order_position: int = 0
    """Position at which its order state began; 0 without one."""
    intent: OrderIntent | None = None
    """None before it is created (a store may record an order state first) and after it is deleted."""
    correlation_id: str | None = None
    """Id of the newest command for it."""
    command_position: int | None = None
    """Position of that command's event."""
    wanted_most: int = 0
    """The largest quantity that its order ever had."""
    number: int = 0
    """Highest attempt number ever used; never decreases, not even after a delete."""
    attempts: tuple[Attempt, ...] = ()
    """The unresolved attempts, the newest submit and the newest attempt; oldest first."""
    sends: SharedSequence[tuple[str, int]] = NO_ENTRIES
    """Number of sends of each submit's client order id, in order of first use; kept for ever."""
    targets: SharedSequence[tuple[str, str]] = NO_ENTRIES
    """(client order id of a cancel or modify, that of its target); kept for ever."""
    amends: SharedSequence[SentModify] = NO_ENTRIES
    """Every modify that was started; kept for ever, as its id may name an order."""
    refused_ids: frozenset[str] = frozenset()
    """Ids of cancels and modifies that the venue refused before it reported their target."""
    sent_order: StandardOrder | None = None
    """Terms of the newest submit."""
    solicited: frozenset[str] = frozenset()
    """Venue order ids with a cancel ever started; the client order id if the venue's was not known."""
    orders: tuple[OrderFacts, ...] = ()
    """Venue orders under the kernel's ids, in order of first report; those long ended are `settled`."""
    settled: SettledOrders = NONE_SETTLED
    """Orders that count by their sums, until something may be about one (`settled_orders`)."""
    failures: int = 0
    failed_ns: int = 0
    """When the newest failure was recorded."""
    not_before_ns: int = 0
    failed_generation: int = 0
    disagreements: int = 0
    """Those of the failures that the venue caused; a request that was not sent is none."""
    other_terms: int = 0
    """How often the venue worked other terms than requested, in this generation."""
    accepted: AcceptedTerms | None = None
    """Terms that count instead of the intent's, as long as its generation is theirs."""
    last_sync_ns: int = 0
    last_report_ns: int = 0
    """When the newest fact was recorded."""
    recorded: OrderState | None = None
    """A store's write that no later fact has changed: read as written."""
    deleted: bool = False
    """True if its intent was deleted and not created again."""
    has_order: bool = False
    """True if an order state exists: from the first attempt, report or write until it is deleted."""
    findings: frozenset[str] = frozenset()
    """Ids of its open findings."""
    paused: bool = False

    @property
    def unresolved(self) -> list[Attempt]:
        """Attempts whose outcome is not known, oldest first."""
        return [attempt for attempt in self.attempts if attempt.outcome in UNRESOLVED]

    @property
    def accepted_intent(self) -> OrderIntent | None:
        """The intent with the accepted terms of its generation, if any; what is more than was asked for then counts."""
        intent, terms = self.intent, self.accepted
        if intent is None or terms is None or terms.generation != intent.generation:
            return intent
        more = terms.asked is not None and intent.order.quantity > terms.asked
        quantity = intent.order.quantity if more else min(terms.quantity, intent.order.quantity)
        price = intent.order.price if terms.price is None else terms.price
        return structs.replace(intent, order=structs.replace(intent.order, quantity=quantity, price=price))

    @property
    def submit(self) -> Attempt | None:
        return newest_submit(self.attempts)

    def attempt_at(self, position: int) -> Attempt | None:
        return next((item for item in self.attempts if item.position == position), None)

    @property
    def current_orders(self) -> list[OrderFacts]:
        """The venue orders that count for the intent: its own, and any live one."""
        return [facts for facts in self.orders if not facts.rare.retired or facts.live]

    @property
    def live_orders(self) -> list[OrderFacts]:
        """Venue orders that can still be filled, oldest first."""
        return [facts for facts in self.orders if facts.live]

    @property
    def may_be_live(self) -> bool:
        """True if an order is open at the venue, or may be."""
        return bool(self.unresolved) or None in [facts.final_cum_qty for facts in self.orders]

    @property
    def cum_qty(self) -> int:
        return sum([facts.cum_qty for facts in self.current_orders], self.settled.cum_qty)

    def target(self, client_order_id: str) -> str | None:
        """Return the client order id that a request aimed at; None if the id is not a request's."""
        return next((target for _, target in self.targets.under(client_order_id)), None)

    def sent_modify(self, client_order_id: str) -> SentModify | None:
        return next(iter(self.amends.under(client_order_id)), None)

    def submit_id(self, client_order_id: str) -> str:
        """Return the id of the submit at the root of a chain of requests; the id itself if it is not a request's."""
        if not self.targets:
            return client_order_id
        asked = {client_order_id}
        while (target := self.target(client_order_id)) is not None and target not in asked:
            client_order_id = target
            asked.add(target)
        return client_order_id

    def send_count(self, client_order_id: str) -> int:
        return next((count for _, count in self.sends.under(client_order_id)), 0)


def order_under(record: Record, client_order_id: str, *, exchange_order_id: str | None = None) -> OrderFacts | None:
    """Return the youngest venue order with a client order id, else the target of the request with that id.

    With `exchange_order_id`, orders known under another venue id do not match; an empty one matches any.
    """
    for client_id in targets_of(record, client_order_id):
        for facts in reversed(record.orders):
            named_otherwise = exchange_order_id and facts.exchange_order_id not in ("", exchange_order_id)
            if not named_otherwise and facts.answers_to(client_id):
                return facts
    return None


def targets_of(record: Record, client_order_id: str) -> Iterator[str]:
    """Yield a client order id, the one at which its request aimed, the one at which that one did, and so on."""
    asked: set[str] = set()
    client_id: str | None = client_order_id
    while client_id is not None and client_id not in asked:
        yield client_id
        asked.add(client_id)
        client_id = record.target(client_id)


def newest_submit(attempts: tuple[Attempt, ...]) -> Attempt | None:
    return next((attempt for attempt in reversed(attempts) if attempt.kind is AttemptKind.SUBMIT), None)


def keep_attempts(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Return the unresolved attempts, the newest submit and the newest attempt."""
    if len(attempts) < 2:
        return attempts
    submit = newest_submit(attempts)
    return tuple([item for item in attempts if item.outcome in UNRESOLVED or item is submit or item is attempts[-1]])


def client_order_id(log_id: str, intent_id: str, number: int, *, max_length: int = 36) -> str:
    """Return the client order id of an intent's attempt, derived from log id, intent id and attempt number.

    Lower-case base32 (a-z, 2-7) of a SHA-256: 26 characters (130 bits), or fewer if the venue's limit is tighter.
    """
    digest = hashlib.sha256(f"{log_id}\n{intent_id}\n{number}".encode()).digest()
    return base64.b32encode(digest[:20]).decode().lower()[: min(26, max_length)]


def order_state(record: Record) -> OrderState | None:
    """Return the order state; None before anything was sent, reported or recorded."""
    if not record.has_order:
        return None
    if record.recorded is not None:
        return record.recorded
    submit = record.submit
    primary = primary_order(record)
    status = order_status(record, primary)
    if status is None:
        return None
    progress = reconciliation_status(record)
    not_before_ns = record.not_before_ns if progress is not ReconciliationStatus.SYNCED else 0
    return OrderState(
        intent_id=record.intent_id, exchange_order_id=(primary.exchange_order_id or None) if primary else None,
        client_order_id=primary.client_order_id if primary else submit.client_order_id if submit else None,
        status=status, reconciliation_status=progress,
        observed_generation=max((attempt.generation for attempt in record.attempts), default=0),
        attempts=keep_attempts(record.attempts),
        venue_orders=tuple(venue_order(facts, record) for facts in record.current_orders),
        failures=record.failures if not_before_ns or has_failed(record) else 0,
        failed_generation=record.failed_generation, not_before_ns=not_before_ns,
        last_sync_at=record.last_sync_ns // 1_000_000_000, accepted_terms=record.accepted,
        earlier_orders=earlier_orders(record.settled),
    )  # fmt: skip


def earlier_orders(settled: SettledOrders) -> EarlierOrders | None:
    """Return the sum of the settled orders as users see it."""
    if not settled:
        return None
    return EarlierOrders(count=len(settled), cum_qty=settled.cum_qty, reduced_qty=settled.reduced_qty or None)


def primary_order(record: Record) -> OrderFacts | None:
    """Return the order that represents the intent.

    The youngest live one; once the intent is filled, the one that filled it (a duplicate canceled later is ignored); else
    the youngest.
    """
    live = record.live_orders
    current = [facts for facts in record.current_orders if not facts.succeeded]
    intent = record.accepted_intent
    satisfied = intent is not None and record.cum_qty >= intent.order.quantity
    filled = [facts for facts in current if facts.filled] if satisfied else []
    return next((orders[-1] for orders in (live, filled, current) if orders), None)


def order_status(record: Record, primary: OrderFacts | None) -> OrderStatus | None:
    submit = record.submit
    sent = record.sent_order
    if primary is None:
        if sent is None:
            return None
        return OrderStatus(
            order=sent, ord_status=status_without_order(record, submit), cum_qty=0,
            leaves_qty=sent.quantity if record.unresolved else 0, cum_notional=0, avg_px=None,
        )  # fmt: skip
    earlier = record.cum_qty - primary.cum_qty
    total = primary.quantity + earlier
    terms = {"quantity": total} if primary.price is None else {"quantity": total, "price": primary.price}
    traded = sum((facts.traded_qty for facts in record.current_orders), record.settled.traded_qty)
    notional = sum((facts.quantities.cum_notional for facts in record.current_orders), record.settled.cum_notional)
    return OrderStatus(
        order=structs.replace(primary.order, **terms), ord_status=ord_status(primary), cum_qty=record.cum_qty,
        leaves_qty=sum(facts.leaves_qty for facts in record.current_orders), cum_notional=notional,
        avg_px=notional // traded if traded else None,
    )  # fmt: skip


def status_without_order(record: Record, submit: Attempt | None) -> OrdStatus:
    """Return the status if no order was ever reported, from the outcome of the newest submit."""
    if record.unresolved or submit is None:
        return OrdStatus.PENDING_NEW
    if submit.outcome is AttemptOutcome.REJECTED and submit.generation == record.failed_generation:
        return OrdStatus.REJECTED
    return OrdStatus.PENDING_NEW if has_desired_order(record.intent) else OrdStatus.CANCELED


def has_desired_order(intent: OrderIntent | None) -> bool:
    """Return whether an order should work: the intent is not canceled and its group permits a quantity."""
    return intent is not None and intent.desired is Desired.WORKING and intent.order.quantity > 0


def venue_order(facts: OrderFacts, record: Record) -> VenueOrder:
    """Return an order as users see it."""
    rare = facts.rare
    return VenueOrder(
        exchange_order_id=facts.exchange_order_id, client_order_id=facts.client_order_id, quantity=facts.quantity,
        price=facts.price, live=facts.live, ord_status=ord_status(facts), cum_qty=facts.cum_qty,
        inferred_qty=facts.inferred_qty, cum_notional=facts.quantities.cum_notional, final_cum_qty=facts.final_cum_qty,
        first_seen_ns=facts.first_seen_ns, last_seen_ns=facts.last_seen_ns, closed_ns=facts.closed_ns,
        generation=facts.generation, solicited=is_solicited(facts, record), late=rare.late,
        carried_qty=rare.carried_qty or None, reduced_qty=rare.reduced_qty or None, end_acted=rare.end_acted or None,
        other_terms=rare.other_terms or None, cancel_not_before_ns=rare.cancel_not_before_ns or None,
        in_doubt=True if rare.in_doubt_ns is not None else None,
    )  # fmt: skip


def is_solicited(facts: OrderFacts, record: Record) -> bool:
    """Return whether a cancel of it was ever started: then its end is solicited, whatever the outcome.

    A stop that triggered ends by its own terms; a cancel of it may have hit the order that the trigger made.
    """
    solicited = record.solicited
    if facts.succeeded or not solicited.isdisjoint((facts.exchange_order_id, *facts.client_order_ids)):
        return True
    if not solicited.isdisjoint(facts.rare.superseded_ids):
        return True
    if facts.order.order_type not in STOPPED:
        return False
    stops = (other for other in record.orders if other.succeeded and shares_client_id(other, facts))
    return any(stop.exchange_order_id in solicited for stop in stops)


def reconciliation_status(record: Record) -> ReconciliationStatus:
    """Return the progress of reconciliation. Without a clock: BACKING_OFF holds until the next event."""
    if record.paused:
        return ReconciliationStatus.PAUSED
    outcomes = {attempt.outcome for attempt in record.unresolved}
    if AttemptOutcome.UNKNOWN in outcomes:
        return ReconciliationStatus.UNKNOWN
    if outcomes:
        return ReconciliationStatus.IN_FLIGHT
    intent = record.intent
    if intent is not None and is_refused(record) and not served(record, intent):
        return ReconciliationStatus.FAILED
    if is_synced(record):
        return ReconciliationStatus.SYNCED
    waits = record.not_before_ns and not asks_for_final(record)
    return ReconciliationStatus.BACKING_OFF if waits else ReconciliationStatus.PENDING


def asks_for_final(record: Record) -> bool:
    """Return whether an order has ended with an unknown final quantity."""
    return any(facts.final_cum_qty is None and not facts.live for facts in record.current_orders)


def has_failed(record: Record) -> bool:
    """Return whether the current generation has failed."""
    return record.intent is not None and record.intent.generation == record.failed_generation


def served(record: Record, intent: OrderIntent) -> bool:
    """Return whether a live order serves the current generation.

    One from before a rejected change does not, nor one with other terms than requested.
    """
    return any(
        facts.rare.late or (facts.generation in (0, intent.generation) and not facts.rare.other_terms)
        for facts in record.live_orders
    )


class ExitIntent(OrderIntent):
    """The effective intent of a bracket's exit: it works until it is filled or canceled by its owner.

    An order of it that the venue refuses, cancels or lets expire is placed again while its group permits a quantity.
    """

    is_exit: ClassVar[bool] = True


def as_exit(intent: OrderIntent) -> OrderIntent:
    """Return the intent of a bracket's exit as it takes effect."""
    return ExitIntent(**structs.asdict(intent))


def is_refused(record: Record) -> bool:
    """Return whether the current generation was rejected for good.

    The exit of a bracket never is, except a change of one that goes on working with its old terms.
    """
    intent = record.intent
    if intent is None or record.failed_generation != intent.generation:
        return False
    return not intent.is_exit or any(0 < facts.generation < intent.generation for facts in record.live_orders)


def stops(item: VenueOrder, intent: OrderIntent) -> bool:
    """Return whether the end of a venue order ends the intent's order until the intent changes.

    It does if the order ended by its own terms or was rejected after acceptance. A cancel that the kernel sent never does
    (H11); an end by the venue, as CANCELED or EXPIRED, does unless the intent has the policy RECREATE. The exit of a
    bracket is placed again, unless it ended by its own terms. An end that is not final does not yet; one that was reported
    as final stays in force if the order turns out to be open (H21).
    """
    if item.generation not in (0, intent.generation):
        return False
    if item.end_acted and not intent.is_exit and is_stopped_by_venue(intent):
        return True
    if item.live or item.final_cum_qty is None:
        return False
    if intent.is_exit:
        by_terms = ends_by_itself(intent.order, item.ord_status, item.closed_ns)
        return by_terms and item.ord_status is not OrdStatus.REJECTED and not item.solicited
    if item.ord_status in (OrdStatus.REJECTED, OrdStatus.DONE_FOR_DAY):
        return True
    if item.ord_status not in (OrdStatus.CANCELED, OrdStatus.EXPIRED):
        return False
    if item.solicited and item.ord_status is OrdStatus.CANCELED:
        return False
    if ends_by_itself(intent.order, item.ord_status, item.closed_ns):
        return True
    return not item.solicited and is_stopped_by_venue(intent)


def is_stopped_by_venue(intent: OrderIntent) -> bool:
    """Return whether an end by the venue is final for the intent."""
    return is_one_shot(intent.order) or intent.on_unsolicited_cancel is UnsolicitedCancelPolicy.STOP


def is_one_shot(order: StandardOrder) -> bool:
    """Return whether an order ends at once by itself."""
    return order.time_in_force in ONE_SHOT or order.order_type is OrderType.MARKET


def ends_by_itself(order: StandardOrder, status: OrdStatus, closed_ns: int | None) -> bool:
    """Return whether an order's own terms explain its end: it works once only, or its day or date is over."""
    if is_one_shot(order):
        return True
    if order.time_in_force is TimeInForce.DAY:
        return status in (OrdStatus.EXPIRED, OrdStatus.DONE_FOR_DAY)
    return order.expire_at_ns is not None and (closed_ns is None or closed_ns >= order.expire_at_ns)


def is_over(record: Record) -> bool:
    """Return whether nothing is open, or may be, and nothing more will be placed for the current generation."""
    intent = record.intent
    if record.may_be_live or intent is None:
        return not record.may_be_live
    return is_refused(record) or is_synced(record)


def is_synced(record: Record) -> bool:
    """Return whether the venue's orders match the intent, as far as can be said without a plan."""
    live = record.live_orders
    if asks_for_final(record) or len(live) > 1:
        return False
    intent = record.accepted_intent
    if intent is None or not has_desired_order(intent):
        return not live
    if live:
        left = intent.order.quantity - record.cum_qty + live[0].cum_qty - live[0].quantity
        return 0 <= left <= live[0].rare.reduced_qty and same_price(live[0].price, intent.order.price)
    reduced = sum((facts.rare.reduced_qty for facts in record.current_orders), record.settled.reduced_qty)
    if record.cum_qty + reduced >= intent.order.quantity:
        return True
    return any(stops(venue_order(facts, record), intent) for facts in record.current_orders)


def same_price(worked: int | None, wanted: int | None) -> bool:
    """Return whether an order works at the wanted limit price; without a limit, a price is only information."""
    return worked is None or wanted is None or worked == wanted


def venue_orders_of(state: OrderState) -> tuple[VenueOrder, ...]:
    """Return the venue orders of a state.

    A store's write without any, and without attempts that would show that none exists yet, describes one by its ids and
    status.
    """
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
