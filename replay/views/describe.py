"""The page of `describe`: an intent, a group or an external order, for people.

Called by the CLI. Shows the desired and the actual order, the quantity that the group permits, their difference and the
next action, attempts, venue orders, findings and the last events, from one state, current or as of a point.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernel import events
from kernel.actions import ActionKind
from kernel.clock import NS_PER_S
from kernel.commands.waiters import refusal
from kernel.errors import LogUnavailableError, NotFoundError, ValidationError, Violation
from kernel.lifecycle.findings import finding_id
from kernel.models import (
    AttemptOutcome,
    Desired,
    Finding,
    FindingKind,
    OrderIntent,
    OrderState,
    UnsolicitedCancelPolicy,
    VenueOrder,
)
from kernel.order_spec import StandardOrder
from kernel.plan import difference
from kernel.streams.rehydration import ensure_loaded
from replay.formatting.events import event_sentence
from replay.formatting.output import NONE, age, aligned, human_duration, json_line, utc
from replay.log_access.state_source import HistoricState, StateSource
from replay.views.conditions import terminal_status
from replay.views.differences import IN_SYNC, action_text, next_action, next_try, reason_text
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
ON_VENUE_CANCEL = {UnsolicitedCancelPolicy.STOP: "do not replace", UnsolicitedCancelPolicy.RECREATE: "place again"}
TRIES_MAX = 10
"""Attempts shown, the newest."""
ANSWERED = AttemptOutcome.ACCEPTED
"""The outcome of an attempt without a recorded one: reports showed that it happened."""


def described(words: Sequence[str]) -> tuple[Resource, str]:
    """Parse `NAME` (an intent), `TYPE NAME` or `TYPE/NAME`. Raises `NotFoundError` and `ValidationError`."""
    bare = len(words) == 1 and "/" not in words[0]
    query = query_of(("intent", *words) if bare else words)
    if query.resource not in (INTENTS, ORDERS, GROUPS, EXTERNAL) or len(query.names) != 1:
        limit = "one NAME, or one TYPE NAME of an intent, an order, a group or an external order"
        raise ValidationError(violations=[Violation("resource", "form", limit, " ".join(words))])
    return query.resource, query.names[0]


def streams_of(words: Sequence[str]) -> Sequence[str]:
    """Return the intent or group whose streams are all that a page needs; none for an external order."""
    resource, name = described(words)
    return () if resource is EXTERNAL else (name,)


async def page(source: StateSource, words: Sequence[str], *, events_max: int = 10) -> str:
    """Return the page of an intent, a group or an external order (see `described`). Raises `NotFoundError`."""
    resource, name = described(words)
    await ensure_loaded(source.log, source.state, name)
    if resource is GROUPS:
        return await describe_group(source, name, events_max=events_max)
    if resource is EXTERNAL:
        return await describe_external(source, name, events_max=events_max)
    if source.state.record(name).version == 0 and source.state.group(name) is not None:
        raise NotFoundError(f"intent {name} not found, but there is a group: `orderctl describe group {name}`")
    return await describe(source, name, events_max=events_max)


async def known_stream(source: StateSource, stream_id: str) -> list[events.BaseEvent]:
    """Return a stream's events up to the state's position."""
    return [event for event in await source.log.read_stream(stream_id) if event.position <= source.state.position]


async def describe(source: StateSource, intent_id: str, *, events_max: int = 10) -> str:
    context = render_context(source.state, source.now_ns)
    intent, order = context.state.intent(intent_id), context.state.order_state(intent_id)
    if intent is None and order is None:
        raise NotFoundError(f"intent {intent_id} not found")
    findings = [finding for finding in context.state.findings() if finding.intent_id == intent_id]
    stream = await known_stream(source, events.intent_stream(intent_id))
    return "".join(
        (
            aligned([("Intent:", intent_id)]),
            desired_text(context, intent) if intent else "Desired order: <deleted>\n",
            group_text(context, intent) if intent else "",
            actual_text(context, order) if order else "Actual order: nothing sent yet\n",
            difference_text(context, intent_id, leads=await may_lead(source)),
            attempts_text(context, stream, order),
            venue_orders_text(context, order) if order else "",
            findings_text(context, findings),
            events_text(context, stream, events_max),
        )
    )


async def describe_group(source: StateSource, group_id: str, *, events_max: int = 10) -> str:
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
    return "".join(
        (
            summary_text(context, found),
            section("Orders", [MEMBER_COLUMNS, *(member_line(context, item) for item in found.orders)]),
            findings_text(context, findings),
            events_text(context, stream, events_max, symbol_id=found.symbol_id),
        )
    )


def summary_text(context: RenderContext, group: GroupState) -> str:
    excess, at_most = (
        context.scales.quantity(group.symbol_id or "", item) for item in (group.excess, group.max_excess)
    )
    return aligned(
        [
            ("Group:", group.group_id),
            ("Mode:", group.mode),
            ("Symbol:", group.symbol_id or NONE),
            ("First fill of:", group.first or NONE),
            ("Excess:", f"{excess} filled beyond what the group allows, at most {at_most} possible"),
            ("Created:", f"{utc(group.created_at_ns)} ({age(group.created_at_ns, context.now_ns)})"),
        ]
    )


MEMBER_COLUMNS = ("INTENT", "DESIRED", "PRICE", "PERMITTED", "FILLED", "STATUS", "SYNC", "REASON")


def member_line(context: RenderContext, item: GroupMember) -> tuple[str, ...]:
    intent, order = context.state.intent(item.intent_id), context.state.order_state(item.intent_id)
    if intent is None:
        return item.intent_id, "<deleted>"
    symbol_id, scales = intent.order.symbol_id, context.scales
    price = intent.order.price if intent.order.price is not None else intent.order.stop_price
    status = order.status.ord_status if order is not None else "-"
    sync = unsent_status(context, intent) if order is None else order.reconciliation_status
    canceled = "cancel requested" if intent.desired is Desired.CANCELED else ""
    allowed, filled = scales.quantity(symbol_id, item.allowed_qty), scales.quantity(symbol_id, item.cum_qty)
    desired = f"{intent.order.side} {scales.quantity(symbol_id, item.quantity)} {symbol_id}"
    reason = canceled or item.reason or "-"
    return item.intent_id, desired, scales.price(symbol_id, price), allowed, filled, status, sync, reason


async def describe_external(source: StateSource, order_id: str, *, events_max: int = 10) -> str:
    context = render_context(source.state, source.now_ns)
    order = context.state.external_order(order_id)
    if order is None:
        raise NotFoundError(f"external order {order_id} not found: `orderctl get external` lists them")
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
            events_text(context, observed, events_max),
        )
    )


async def may_lead(source: StateSource) -> bool:
    """Return whether a kernel leads, as far as is known: a historic state and an unreachable log count as led."""
    if isinstance(source, HistoricState):
        return True
    try:
        return await source.log.lease_is_held()
    except LogUnavailableError:
        return True


def section(title: str, lines: Sequence[tuple[str, ...]]) -> str:
    body = "".join(INDENT + line for line in aligned(lines).splitlines(keepends=True))
    return f"{title}:\n{body}" if lines else f"{title}: {NONE}\n"


def desired_text(context: RenderContext, intent: OrderIntent) -> str:
    order = intent.order
    symbol_id, scales = order.symbol_id, context.scales
    lines = [
        ("Order:", f"{order.side} {scales.quantity(symbol_id, order.quantity)} {symbol_id}, {order.order_type}"),
        ("Price:", scales.price(symbol_id, order.price)),
        ("Stop price:", scales.price(symbol_id, order.stop_price)),
        ("Time in force:", ", ".join(time_words(order))),
        *([("Shown:", scales.quantity(symbol_id, order.display_quantity))] if order.display_quantity else []),
        ("Desired:", f"{intent.desired}, generation {intent.generation}"),
        ("If the venue cancels:", ON_VENUE_CANCEL[intent.on_unsolicited_cancel]),
        ("Owner:", intent.owner or NONE),
        ("Metadata:", json_line(intent.metadata).strip() if intent.metadata else NONE),
        ("Created:", f"{utc(intent.created_at_ns)} ({age(intent.created_at_ns, context.now_ns)})"),
        ("Updated:", f"{utc(intent.updated_at_ns)} ({age(intent.updated_at_ns, context.now_ns)})"),
    ]
    return section("Desired order", lines)


def group_text(context: RenderContext, intent: OrderIntent) -> str:
    group = context.state.group_of(intent.intent_id)
    if group is None:
        return ""
    found = group_state(context.state, group)
    symbol_id, scales = intent.order.symbol_id, context.scales
    own = next(item for item in found.orders if item.intent_id == intent.intent_id)
    allowed = scales.quantity(symbol_id, own.allowed_qty)
    lines = [
        ("Name:", group.group_id),
        ("Mode:", group.mode),
        ("Permits:", f"{allowed}, {own.reason}" if own.reason else f"{allowed}, the full quantity"),
        *(
            ("Parent:" if item.intent_id == group.parent else "Sibling:", sibling_words(context, symbol_id, item))
            for item in found.orders
            if item is not own
        ),
    ]
    return section("Group", lines)


def sibling_words(context: RenderContext, symbol_id: str, item: GroupMember) -> str:
    filled, total = (context.scales.quantity(symbol_id, value) for value in (item.cum_qty, item.quantity))
    return f"{item.intent_id}, filled {filled} of {total}"


def time_words(order: StandardOrder) -> list[str]:
    until = "" if order.expire_at_ns is None else f" until {utc(order.expire_at_ns)}"
    flags = (("post only", order.post_only), ("reduce only", order.reduce_only))
    return [f"{order.time_in_force}{until}", *(word for word, flag in flags if flag)]


def actual_text(context: RenderContext, order: OrderState) -> str:
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
    return section("Actual order", lines)


def difference_text(context: RenderContext, intent_id: str, *, leads: bool) -> str:
    """The difference between desired and actual order with the next action and its time, or why there is none."""
    intent, order = context.state.effective_intent(intent_id), context.state.observed_order(intent_id)
    found = difference(intent, order)
    if found is None:
        return f"Difference: none, {at_rest(context, intent_id)}\n"
    lines = [
        ("Kind:", found.kind),
        ("Reason:", reason_text(context, intent, order, found)),
        ("Next:", action_text(context, next_action(context, intent_id))),
        ("When:", when_text(context, intent_id, found.kind, leads=leads)),
    ]
    return section("Difference", lines)


def at_rest(context: RenderContext, intent_id: str) -> str:
    record = context.state.record(intent_id)
    if (refused := refusal(context.state, intent_id)) is not None:
        return f"the venue rejected it ({refused.text}): nothing more is sent until the intent changes"
    if record.intent is None or record.intent.desired is Desired.CANCELED:
        return IN_SYNC
    ended, limited = terminal_status(context.state, intent_id), limited_by(context.state, intent_id)
    return ", ".join(filter(None, [f"the order is {ended}" if ended is not None else "", limited])) or IN_SYNC


def when_text(context: RenderContext, intent_id: str, kind: ActionKind, *, leads: bool) -> str:
    then = next_try(context, intent_id, kind)
    if then.blocked_by:
        return str(then)
    backoff_s = (then.not_before_ns - context.now_ns) // NS_PER_S
    waits = f" (in {human_duration(backoff_s)})" if then.not_before_ns else ""
    return f"{then}{waits}" if leads else f"{then}{waits}, once a kernel leads (none does)"


def attempts_text(context: RenderContext, stream: Sequence[events.BaseEvent], order: OrderState | None) -> str:
    started = [event for event in stream if isinstance(event, events.AttemptStarted)]
    title = "Attempts" if len(started) <= TRIES_MAX else f"Attempts (last {TRIES_MAX} of {len(started)})"
    header = ("NUMBER", "KIND", "OUTCOME", "AGE", "CLIENT-ID", "POSITION", "TEXT")
    known = outcomes(stream, order)
    lines = [attempt_line(context, event, *known.get(event.position, (ANSWERED, ""))) for event in started[-TRIES_MAX:]]
    return section(title, [header, *lines] if lines else [])


def outcomes(stream: Sequence[events.BaseEvent], order: OrderState | None) -> dict[int, tuple[str, str]]:
    """Outcome and text of each attempt, by its position; the state's own are the newest."""
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
    header = ("VENUE-ID", "CLIENT-ID", "STATUS", "QUANTITY", "PRICE", "FILLED", "FIRST-SEEN", "LAST-SEEN")
    symbol_id = order.status.order.symbol_id
    lines = [venue_order_line(context, symbol_id, item) for item in order.venue_orders]
    earlier = order.earlier_orders
    if earlier is not None:
        filled = context.scales.quantity(symbol_id, earlier.cum_qty)
        lines.insert(0, (f"{earlier.count} earlier", NONE, NONE, NONE, NONE, filled, NONE, NONE))
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
    context: RenderContext, stream: Sequence[events.BaseEvent], events_max: int, *, symbol_id: str | None = None
) -> str:
    """The last events with their causes, oldest first."""
    shown = stream[-events_max:] if events_max else []
    title = "Events" if len(shown) == len(stream) else f"Events (last {len(shown)} of {len(stream)})"
    header = ("POSITION", "AGE", "TYPE", "ACTOR", "CAUSE", "MESSAGE")
    lines = [event_line(context, event, symbol_id) for event in shown]
    return section(title, [header, *lines] if lines else [])


def event_line(context: RenderContext, event: events.BaseEvent, symbol_id: str | None = None) -> tuple[str, ...]:
    cause = "-" if event.causation_position is None else str(event.causation_position)
    since, text = age(event.recorded_at_ns, context.now_ns), event_sentence(event, context.scales, symbol_id=symbol_id)
    return str(event.position), since, event.topic, event.actor, cause, text
