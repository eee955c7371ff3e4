"""What `describe` prints: all about one intent on one page, for people.

Called by the CLI. Wanted, actual, attempts, venue orders, findings and the last events, from one state and one stream.
Reads only.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernel import EventSourcedKernel, events
from kernel.clock import Clock, SystemClock
from kernel.errors import NotFoundError
from kernel.models import Attempt, Finding, OrderIntent, OrderState, VenueOrder
from replay.event_text import event_sentence
from replay.output import NONE, age, aligned, utc
from replay.resources import Look, look_at

INDENT = "  "


async def describe(
    kernel: EventSourcedKernel, intent_id: str, *, events_max: int = 10, clock: Clock | None = None
) -> str:
    """All about one intent. Raises `NotFoundError`."""
    look = look_at(kernel.state, clock or SystemClock())
    intent, order = look.state.intent(intent_id), look.state.order_state(intent_id)
    if intent is None and order is None:
        raise NotFoundError(f"intent {intent_id} not found")
    findings = [finding for finding in look.state.findings() if finding.intent_id == intent_id]
    stream = await kernel.log.read_stream(events.intent_stream(intent_id))
    return "".join(
        (
            aligned([("Intent:", intent_id)]),
            wanted_text(look, intent) if intent else "Wanted: <deleted>\n",
            actual_text(look, order) if order else "Actual: nothing was sent yet\n",
            findings_text(look, findings),
            events_text(look, stream[-events_max:] if events_max else [], len(stream)),
        )
    )


def section(title: str, lines: Sequence[tuple[str, ...]]) -> str:
    """A title and aligned lines under it."""
    body = "".join(INDENT + line for line in aligned(lines).splitlines(keepends=True))
    return f"{title}:\n{body}" if lines else f"{title}: {NONE}\n"


def wanted_text(look: Look, intent: OrderIntent) -> str:
    """What is wanted."""
    order = intent.order
    symbol_id, scales = order.symbol_id, look.scales
    lines = [
        ("Order:", f"{order.side} {scales.quantity(symbol_id, order.quantity)} {symbol_id}, {order.order_type}"),
        ("Price:", scales.price(symbol_id, order.price)),
        ("Stop price:", scales.price(symbol_id, order.stop_price)),
        ("Time in force:", order.time_in_force + (", post only" if order.post_only else "")),
        ("Desired:", f"{intent.desired}, generation {intent.generation}"),
        ("Owner:", intent.owner or NONE),
        ("Created:", f"{utc(intent.created_at_ns)} ({age(intent.created_at_ns, look.now_ns)})"),
        ("Updated:", f"{utc(intent.updated_at_ns)} ({age(intent.updated_at_ns, look.now_ns)})"),
    ]
    return section("Wanted", lines)


def actual_text(look: Look, order: OrderState) -> str:
    """What is there."""
    status, scales = order.status, look.scales
    symbol_id = status.order.symbol_id
    synced_ns = int(order.last_sync_at * 10**9)
    lines = [
        ("Status:", status.ord_status),
        ("Reconciliation:", order.reconciliation_status),
        ("Filled:", f"{scales.quantity(symbol_id, status.cum_qty)} at {scales.price(symbol_id, status.avg_px)}"),
        ("Open:", scales.quantity(symbol_id, status.leaves_qty)),
        ("Venue id:", order.exchange_order_id or NONE),
        ("Client id:", order.client_order_id or NONE),
        ("Serves generation:", str(order.observed_generation)),
        ("Failures:", str(order.failures)),
        ("Last confirmed:", f"{utc(synced_ns)} ({age(synced_ns, look.now_ns)})"),
    ]
    return section("Actual", lines) + attempts_text(order) + venue_orders_text(look, order)


def attempts_text(order: OrderState) -> str:
    """The attempts that count: not settled, or the newest."""
    header = ("NUMBER", "KIND", "OUTCOME", "CLIENT-ID", "POSITION", "TEXT")
    return section("Attempts", [header, *map(attempt_line, order.attempts)] if order.attempts else [])


def attempt_line(attempt: Attempt) -> tuple[str, ...]:
    number, position = str(attempt.number), str(attempt.position)
    return number, attempt.kind, attempt.outcome, attempt.client_order_id, position, attempt.text or "-"


def venue_orders_text(look: Look, order: OrderState) -> str:
    """Every order that the venue has or had."""
    header = ("VENUE-ID", "CLIENT-ID", "STATUS", "QUANTITY", "PRICE", "FILLED", "FIRST-SEEN", "LAST-SEEN")
    symbol_id = order.status.order.symbol_id
    lines = [venue_order_line(look, symbol_id, item) for item in order.venue_orders]
    return section("Venue orders", [header, *lines] if lines else [])


def venue_order_line(look: Look, symbol_id: str, item: VenueOrder) -> tuple[str, ...]:
    return (
        item.exchange_order_id or NONE,
        item.client_order_id,
        item.ord_status,
        look.scales.quantity(symbol_id, item.quantity),
        look.scales.price(symbol_id, item.price),
        look.scales.quantity(symbol_id, item.cum_qty),
        age(item.first_seen_ns, look.now_ns),
        age(item.last_seen_ns, look.now_ns),
    )


def findings_text(look: Look, findings: list[Finding]) -> str:
    """What should not be, and is or was."""
    header = ("KIND", "STATUS", "AGE", "TEXT")
    lines: list[tuple[str, ...]] = [
        (
            finding.kind,
            "OPEN" if finding.resolved_at_ns is None else "RESOLVED",
            age(finding.raised_at_ns, look.now_ns),
            finding.text,
        )
        for finding in findings
    ]
    return section("Findings", [header, *lines] if lines else [])


def events_text(look: Look, shown: list[events.BaseEvent], total: int) -> str:
    """Events with their causes, oldest first."""
    title = "Events" if len(shown) == total else f"Events (last {len(shown)} of {total})"
    header = ("POSITION", "AGE", "TYPE", "ACTOR", "CAUSE", "MESSAGE")
    lines = [event_line(look, event) for event in shown]
    return section(title, [header, *lines] if lines else [])


def event_line(look: Look, event: events.BaseEvent) -> tuple[str, ...]:
    """One event: POSITION AGE TYPE ACTOR CAUSE MESSAGE."""
    cause = "-" if event.causation_position is None else str(event.causation_position)
    since = age(event.recorded_at_ns, look.now_ns)
    return str(event.position), since, event.topic, event.actor, cause, event_sentence(event, look.scales)
