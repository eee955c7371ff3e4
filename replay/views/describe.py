"""What `describe` prints: all about one intent, one group, or one order that is no intent's, on one page, for people.

Called by the CLI. What is wanted, what its group lets it be, what is there, why they differ and what is tried next and
when, what was tried, venue orders, findings and the last events, from one state, a kernel's or a past one, and one stream
as far as that state knows it. Reads only.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernel import events
from kernel.actions import ActionKind
from kernel.clock import NS_PER_S
from kernel.commands.waiters import refusal
from kernel.errors import LogUnavailableError, NotFoundError, ValidationError, Violation
from kernel.lifecycle import finding_id
from kernel.models import AttemptOutcome, Desired, Finding, FindingKind, OrderIntent, OrderState, VenueOrder
from kernel.order_spec import StandardOrder
from kernel.plan import difference, plan
from kernel.streams.rehydration import ensure_loaded
from replay.formatting.events import event_sentence
from replay.formatting.output import NONE, age, aligned, human_duration, json_line, utc
from replay.log_access.as_of import HistoricState, StateSource
from replay.views.conditions import terminal_status
from replay.views.differences import action_text, next_try, reason_text
from replay.views.groups import GroupMember, GroupState, group_of_finding, group_state, limited_by
from replay.views.listing import query_of
from replay.views.resources import (
    EXTERNAL,
    GROUPS,
    INTENTS,
    ORDERS,
    RenderContext,
    Resource,
    external_lines,
    render_context,
    unsent_status,
)

INDENT = "  "
TRIES_MAX = 10
"""How many of the newest attempts are shown."""
ANSWERED = AttemptOutcome.ACCEPTED
"""What became of an attempt that nothing else was recorded of: facts showed that it happened."""


def described(words: Sequence[str]) -> tuple[Resource, str]:
    """What is to be described: `NAME` (an intent), `TYPE NAME` or `TYPE/NAME`. `NotFoundError` for an unknown type,
    `ValidationError` for one that has no page, and for more than one name."""
    bare = len(words) == 1 and "/" not in words[0]
    query = query_of(("intent", *words) if bare else words)
    if query.resource not in (INTENTS, ORDERS, GROUPS, EXTERNAL) or len(query.names) != 1:
        limit = "one NAME, or one TYPE NAME of an intent, an order, a group or an external order"
        raise ValidationError(violations=[Violation("resource", "form", limit, " ".join(words))])
    return query.resource, query.names[0]


async def page(source: StateSource, words: Sequence[str], *, events_max: int = 10) -> str:
    """All about what `described` finds in words. Raises `NotFoundError`, `ValidationError`."""
    resource, name = described(words)
    await ensure_loaded(source.log, source.state, name)
    if resource is GROUPS:
        return await describe_group(source, name, events_max=events_max)
    if resource is EXTERNAL:
        return await describe_external(source, name, events_max=events_max)
    if source.state.record(name).version == 0 and source.state.group(name) is not None:
        raise NotFoundError(f"intent {name} not found, but a group: `orderctl describe group {name}`")
    return await describe(source, name, events_max=events_max)


async def known_stream(source: StateSource, stream_id: str) -> list[events.BaseEvent]:
    """The events of a stream, as far as the state knows them."""
    return [event for event in await source.log.read_stream(stream_id) if event.position <= source.state.position]


async def describe(source: StateSource, intent_id: str, *, events_max: int = 10) -> str:
    """All about one intent. Raises `NotFoundError`."""
    context = render_context(source.state, source.now_ns)
    intent, order = context.state.intent(intent_id), context.state.order_state(intent_id)
    if intent is None and order is None:
        raise NotFoundError(f"intent {intent_id} not found")
    findings = [finding for finding in context.state.findings() if finding.intent_id == intent_id]
    stream = await known_stream(source, events.intent_stream(intent_id))
    return "".join(
        (
            aligned([("Intent:", intent_id)]),
            desired_text(context, intent) if intent else "Wanted: <deleted>\n",
            group_text(context, intent) if intent else "",
            actual_text(context, order) if order else "Actual: nothing was sent yet\n",
            difference_text(context, intent_id, leads=await may_lead(source)),
            attempts_text(context, stream, order),
            venue_orders_text(context, order) if order else "",
            findings_text(context, findings),
            events_text(context, stream[-events_max:] if events_max else [], len(stream)),
        )
    )


async def describe_group(source: StateSource, group_id: str, *, events_max: int = 10) -> str:
    """All about one group. Raises `NotFoundError`."""
    context = render_context(source.state, source.now_ns)
    group = context.state.group(group_id)
    if group is None:
        raise NotFoundError(f"group {group_id} not found")
    found = group_state(context.state, group)
    findings = [
        item
        for item in context.state.findings()
        if item.intent_id in group.intent_ids or group_of_finding(context.state, item) is group
    ]
    stream = await known_stream(source, events.group_stream(group_id))
    shown = stream[-events_max:] if events_max else []
    return "".join(
        (
            summary_text(context, found),
            section("Orders", [MEMBER_COLUMNS, *(member_line(context, item) for item in found.orders)]),
            findings_text(context, findings),
            events_text(context, shown, len(stream), symbol_id=found.symbol_id),
        )
    )


def summary_text(context: RenderContext, group: GroupState) -> str:
    """What a group is, and what it has come to."""
    excess, at_most = (
        context.scales.quantity(group.symbol_id or "", item) for item in (group.excess, group.max_excess)
    )
    return aligned(
        [
            ("Group:", group.group_id),
            ("Mode:", group.mode),
            ("Symbol:", group.symbol_id or NONE),
            ("First fill of:", group.first or NONE),
            ("Excess:", f"{excess} filled more than it allows, {at_most} at most"),
            ("Created:", f"{utc(group.created_at_ns)} ({age(group.created_at_ns, context.now_ns)})"),
        ]
    )


MEMBER_COLUMNS = ("INTENT", "WANTED", "PRICE", "MAY-BE", "FILLED", "STATUS", "SYNC", "WHY")


def member_line(context: RenderContext, item: GroupMember) -> tuple[str, ...]:
    """One order of a group."""
    intent, order = context.state.intent(item.intent_id), context.state.order_state(item.intent_id)
    if intent is None:
        return item.intent_id, "<deleted>"
    symbol_id, scales = intent.order.symbol_id, context.scales
    price = intent.order.price if intent.order.price is not None else intent.order.stop_price
    status = order.status.ord_status if order is not None else "-"
    sync = unsent_status(context, intent) if order is None else order.reconciliation_status
    canceled = "not wanted any more" if intent.desired is Desired.CANCELED else ""
    allowed, filled = scales.quantity(symbol_id, item.allowed_qty), scales.quantity(symbol_id, item.cum_qty)
    wanted = f"{intent.order.side} {scales.quantity(symbol_id, item.quantity)} {symbol_id}"
    return (
        item.intent_id,
        wanted,
        scales.price(symbol_id, price),
        allowed,
        filled,
        status,
        sync,
        canceled or item.reason or "-",
    )


async def describe_external(source: StateSource, order_id: str, *, events_max: int = 10) -> str:
    """All about an order that is nobody's intent. Raises `NotFoundError`."""
    context = render_context(source.state, source.now_ns)
    order = context.state.external_order(order_id)
    if order is None:
        raise NotFoundError(f"no order {order_id} of others is known: `orderctl get external` lists them")
    name = finding_id(FindingKind.UNEXPECTED_TRADE, order_id)
    findings = [finding for finding in context.state.findings() if finding.finding_id == name]
    observed: list[events.BaseEvent] = [
        event
        for event in await known_stream(source, events.VENUE_STREAM)
        if isinstance(event, events.ExternalOrderObserved) and event.exchange_order_id == order_id
    ]
    cells = zip(EXTERNAL.columns, *external_lines(context, order), strict=True)
    return "".join(
        (
            section("External order", [(f"{column.capitalize()}:", cell) for column, cell in cells]),
            findings_text(context, findings),
            events_text(context, observed[-events_max:] if events_max else [], len(observed)),
        )
    )


async def may_lead(source: StateSource) -> bool:
    """Whether somebody leads, as far as can be seen: a lease that can't be looked at takes nothing from the page, and the
    lease of a time that is over can't be looked at."""
    if isinstance(source, HistoricState):
        return True
    try:
        return await source.log.lease_is_held()
    except LogUnavailableError:
        return True


def section(title: str, lines: Sequence[tuple[str, ...]]) -> str:
    """A title and aligned lines under it."""
    body = "".join(INDENT + line for line in aligned(lines).splitlines(keepends=True))
    return f"{title}:\n{body}" if lines else f"{title}: {NONE}\n"


def desired_text(context: RenderContext, intent: OrderIntent) -> str:
    """What is wanted."""
    order = intent.order
    symbol_id, scales = order.symbol_id, context.scales
    lines = [
        ("Order:", f"{order.side} {scales.quantity(symbol_id, order.quantity)} {symbol_id}, {order.order_type}"),
        ("Price:", scales.price(symbol_id, order.price)),
        ("Stop price:", scales.price(symbol_id, order.stop_price)),
        ("Time in force:", ", ".join(time_words(order))),
        *([("Shown:", scales.quantity(symbol_id, order.display_quantity))] if order.display_quantity else []),
        ("Desired:", f"{intent.desired}, generation {intent.generation}"),
        ("If canceled there:", intent.on_unsolicited_cancel),
        ("Owner:", intent.owner or NONE),
        ("Metadata:", json_line(intent.metadata).strip() if intent.metadata else NONE),
        ("Created:", f"{utc(intent.created_at_ns)} ({age(intent.created_at_ns, context.now_ns)})"),
        ("Updated:", f"{utc(intent.updated_at_ns)} ({age(intent.updated_at_ns, context.now_ns)})"),
    ]
    return section("Wanted", lines)


def group_text(context: RenderContext, intent: OrderIntent) -> str:
    """What an order's group is, what it lets the order be now, and what its siblings have filled; nothing without one."""
    group = context.state.group_of(intent.intent_id)
    if group is None:
        return ""
    found = group_state(context.state, group)
    symbol_id, scales = intent.order.symbol_id, context.scales
    (own,) = (item for item in found.orders if item.intent_id == intent.intent_id)
    allowed = scales.quantity(symbol_id, own.allowed_qty)
    lines = [
        ("Name:", group.group_id),
        ("Mode:", group.mode),
        ("Lets it be:", f"{allowed}, {own.reason}" if own.reason else f"{allowed}, all that is wanted"),
        *(
            ("Leader:" if item.intent_id == group.parent else "Sibling:", sibling_words(context, symbol_id, item))
            for item in found.orders
            if item is not own
        ),
    ]
    return section("Group", lines)


def sibling_words(context: RenderContext, symbol_id: str, item: GroupMember) -> str:
    """What an order of the same group has filled."""
    filled, wanted = (context.scales.quantity(symbol_id, value) for value in (item.cum_qty, item.quantity))
    return f"{item.intent_id}, filled {filled} of {wanted}"


def time_words(order: StandardOrder) -> list[str]:
    """How long an order works, and what it must not do."""
    until = "" if order.expire_at_ns is None else f" until {utc(order.expire_at_ns)}"
    flags = (("post only", order.post_only), ("reduce only", order.reduce_only))
    return [f"{order.time_in_force}{until}", *(word for word, flag in flags if flag)]


def actual_text(context: RenderContext, order: OrderState) -> str:
    """What is there."""
    status, scales = order.status, context.scales
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
        ("Last confirmed:", f"{utc(synced_ns)} ({age(synced_ns, context.now_ns)})"),
    ]
    return section("Actual", lines)


def difference_text(context: RenderContext, intent_id: str, *, leads: bool) -> str:
    """Why wanted and actual differ, what the reconciler would do next, and when; or why nothing is to be done."""
    intent, order = context.state.effective_intent(intent_id), context.state.observed_order(intent_id)
    found = difference(intent, order)
    if found is None:
        return f"Difference: none, {at_rest(context, intent_id)}\n"
    market = intent.order if intent is not None else order.status.order if order is not None else None
    symbol = context.state.symbol(market.symbol_id) if market is not None else None
    action = plan(intent, order, symbol=symbol, now_ns=context.now_ns, held=context.state.awaits_parent(intent_id))
    lines = [
        ("Kind:", found.kind),
        ("Why:", reason_text(context, intent, order, found)),
        ("Next:", action_text(context, action)),
        ("When:", when_text(context, intent_id, found.kind, leads=leads)),
    ]
    return section("Difference", lines)


def at_rest(context: RenderContext, intent_id: str) -> str:
    """Why nothing is to be done."""
    record = context.state.record(intent_id)
    if (refused := refusal(record)) is not None:
        return f"the venue refused it for good ({refused.text}): nothing more is sent until it changes"
    if record.intent is None or record.intent.desired is Desired.CANCELED:
        return "wanted and actual agree"
    ended, limited = terminal_status(context.state, intent_id), limited_by(context.state, intent_id)
    words = [f"it has ended, {ended}"] if ended is not None else []
    return ": ".join([*words, *([limited] if limited else [])]) or "wanted and actual agree"


def when_text(context: RenderContext, intent_id: str, kind: ActionKind, *, leads: bool) -> str:
    """When something is tried next."""
    order = context.state.observed_order(intent_id)
    until_ns = order.not_before_ns if order is not None else 0
    then = next_try(context, intent_id, kind)
    if until_ns > context.now_ns and then.startswith("after"):
        then = f"{then} (in {human_duration((until_ns - context.now_ns) // NS_PER_S)})"
    if leads or then.startswith("not while"):
        return then
    return f"{then.removesuffix(', when a kernel leads')}, once a kernel leads: none does now"


def attempts_text(context: RenderContext, stream: Sequence[events.BaseEvent], order: OrderState | None) -> str:
    """What was tried, oldest first, and what came of it."""
    started = [event for event in stream if isinstance(event, events.AttemptStarted)]
    title = "Attempts" if len(started) <= TRIES_MAX else f"Attempts (last {TRIES_MAX} of {len(started)})"
    header = ("NUMBER", "KIND", "OUTCOME", "AGE", "CLIENT-ID", "POSITION", "TEXT")
    outcome_by_position = outcomes(stream, order)
    lines = [
        attempt_line(context, event, *outcome_by_position.get(event.position, (ANSWERED, "")))
        for event in started[-TRIES_MAX:]
    ]
    return section(title, [header, *lines] if lines else [])


def outcomes(stream: Sequence[events.BaseEvent], order: OrderState | None) -> dict[int, tuple[str, str]]:
    """By an attempt's position: what is known of it, and what was said. What the state holds is the newest word."""
    found: dict[int, tuple[str, str]] = {}
    for event in stream:
        match event:
            case events.AttemptFailed() | events.AttemptResolved():
                found[event.attempt_position] = (event.outcome, event.text)
            case events.AttemptUnknown():
                found[event.attempt_position] = (AttemptOutcome.UNKNOWN, event.text)
    held = order.attempts if order is not None else ()
    return found | {attempt.position: (attempt.outcome, attempt.text) for attempt in held}


def attempt_line(context: RenderContext, event: events.AttemptStarted, outcome: str, text: str) -> tuple[str, ...]:
    since = age(event.recorded_at_ns, context.now_ns)
    return str(event.number), event.kind, outcome, since, event.client_order_id, str(event.position), text or "-"


def venue_orders_text(context: RenderContext, order: OrderState) -> str:
    """Every order that the venue has or had."""
    header = ("VENUE-ID", "CLIENT-ID", "STATUS", "QUANTITY", "PRICE", "FILLED", "FIRST-SEEN", "LAST-SEEN")
    symbol_id = order.status.order.symbol_id
    lines = [venue_order_line(context, symbol_id, item) for item in order.venue_orders]
    return section("Venue orders", [header, *lines] if lines else [])


def venue_order_line(context: RenderContext, symbol_id: str, item: VenueOrder) -> tuple[str, ...]:
    return (
        item.exchange_order_id or NONE,
        item.client_order_id,
        item.ord_status,
        context.scales.quantity(symbol_id, item.quantity),
        context.scales.price(symbol_id, item.price),
        context.scales.quantity(symbol_id, item.cum_qty),
        age(item.first_seen_ns, context.now_ns),
        age(item.last_seen_ns, context.now_ns),
    )


def findings_text(context: RenderContext, findings: list[Finding]) -> str:
    """What should not be, and is or was."""
    header = ("KIND", "STATUS", "AGE", "TEXT")
    lines: list[tuple[str, ...]] = [
        (
            finding.kind,
            "OPEN" if finding.resolved_at_ns is None else "RESOLVED",
            age(finding.raised_at_ns, context.now_ns),
            finding.text,
        )
        for finding in findings
    ]
    return section("Findings", [header, *lines] if lines else [])


def events_text(
    context: RenderContext, shown: Sequence[events.BaseEvent], total: int, *, symbol_id: str | None = None
) -> str:
    """Events with their causes, oldest first."""
    title = "Events" if len(shown) == total else f"Events (last {len(shown)} of {total})"
    header = ("POSITION", "AGE", "TYPE", "ACTOR", "CAUSE", "MESSAGE")
    lines = [event_line(context, event, symbol_id) for event in shown]
    return section(title, [header, *lines] if lines else [])


def event_line(context: RenderContext, event: events.BaseEvent, symbol_id: str | None = None) -> tuple[str, ...]:
    """One event: POSITION AGE TYPE ACTOR CAUSE MESSAGE."""
    cause = "-" if event.causation_position is None else str(event.causation_position)
    since, outcome_by_position = (
        age(event.recorded_at_ns, context.now_ns),
        event_sentence(event, context.scales, symbol_id=symbol_id),
    )
    return str(event.position), since, event.topic, event.actor, cause, outcome_by_position
