"""Collect the history of one intent: commands, attempts, reports, and their causes.

Called by `orderctl history` and by library users. Contains every event of the intent's stream and, marked as such, events
of its group, of the kernel (leaders, pauses, rejection storms) and causes in other streams.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from kernel import events
from kernel.errors import NotFoundError
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.record import Record, order_state
from kernel.log.base import EventLog
from kernel.log.engine.records import event_of
from kernel.models import UNRESOLVED, Attempt, AttemptKind, AttemptOutcome, Evidence, FindingKind, OrdStatus
from kernel.plan import difference
from projections.folds.reference import Reference
from replay.formatting.decimals import Scales
from replay.log_access.log_reader import open_for_reading


class Part(StrEnum):
    """Why an event is in a history."""

    INTENT = "INTENT"
    """It is in the intent's stream."""
    GROUP = "GROUP"
    """It is in the stream of the intent's group."""
    KERNEL = "KERNEL"
    """It is a leader change, pause or rejection storm."""
    CAUSE = "CAUSE"
    """It caused one of the intent's events."""


class OrderSummary(msgspec.Struct, frozen=True):
    """The order's state after an event."""

    ord_status: OrdStatus
    cum_qty: int
    leaves_qty: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a history."""

    event: events.BaseEvent
    part: Part
    since_ns: int | None
    """Time since the previous step by the log's clock; None for the first."""
    inferred: bool
    """True if it is inferred rather than observed."""
    command_position: int | None = None
    """Position of the intent's command that caused it, by correlation id."""
    attempt_position: int | None = None
    """The attempt that it starts or concerns: as recorded, else the newest one with its client order id."""
    summary: OrderSummary | None = None
    """None for events of other streams, and before the first attempt or report."""

    @property
    def venue_time_ns(self) -> int | None:
        """The venue's timestamp (FIX TransactTime, tag 60)."""
        return getattr(self.event, "transact_time_ns", None)


class AttemptSpan(msgspec.Struct, frozen=True, kw_only=True, rename={"resolved_position": "settled_position"}):
    """One attempt until its resolution."""

    position: int
    number: int
    kind: AttemptKind
    client_order_id: str
    unknown_position: int | None = None
    """The event that made its outcome unknown."""
    resolved_position: int | None = None
    """The event that resolved it; None while it is unresolved."""
    outcome: AttemptOutcome | None = AttemptOutcome.PENDING
    """None: resolved by later reports of the order without an explicit outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The history of one intent."""

    intent_id: str
    exchange_id: str
    log_id: str
    position: int
    """The log's head when the history was read."""
    steps: tuple[Step, ...]
    attempts: tuple[AttemptSpan, ...]
    symbol_id: str | None
    scales: Scales = field(repr=False, compare=False)


async def history(log: EventLog | str, intent_id: str, *, exchange_id: str | None = None) -> History:
    """Return the history of an intent.

    Args:
        log: An open log or its URL.
        intent_id: The intent.
        exchange_id: Expected owner of the log.

    Raises:
        NotFoundError: The intent or the log does not exist.
    """
    async with open_for_reading(log, exchange_id) as found:
        head = (await found.head()).position
        own = [item for item in await found.read_stream(events.intent_stream(intent_id)) if item.position <= head]
        if not own:
            raise NotFoundError(f"intent {intent_id} not found")
        states, record = fold_steps(intent_id, own)
        unfinished = record.may_be_live or difference(record.intent, order_state(record)) is not None
        until = head if unfinished else own[-1].position
        beside = [*await group_events(found, own), *await kernel_events(found, own)]
        known = {event.position: (part, event) for part, event in beside if event.position <= until}
        known |= {position: (Part.CAUSE, event) async for position, event in causes(found, own, known)}
        reference = await reference_of(found)
        return History(
            intent_id=intent_id,
            exchange_id=found.exchange_id,
            log_id=found.log_id,
            position=head,
            steps=steps_of(states, known),
            attempts=attempt_spans(states),
            symbol_id=symbol_of(record),
            scales=Scales(reference.symbol, reference.asset),
        )


class StepState(msgspec.Struct, frozen=True):
    """An event of the intent's stream with the facts after it. A whole record would need too much memory."""

    event: events.BaseEvent
    summary: OrderSummary | None
    attempts: tuple[Attempt, ...]
    command_position: int | None
    attempt_position: int | None


def fold_steps(intent_id: str, own: Sequence[events.BaseEvent]) -> tuple[list[StepState], Record]:
    """Fold the intent's stream; return the state after each event and the final record."""
    states: list[StepState] = []
    record = Record(intent_id)
    commands: dict[str, int] = {}
    sent: dict[str, int] = {}
    for event in own:
        record = evolve(record, event)
        if event.correlation_id is not None:
            commands.setdefault(event.correlation_id, event.position)
        if isinstance(event, events.AttemptStarted):
            sent[event.client_order_id] = event.position
        attempt_position = attempt_of(event, sent)
        if isinstance(event, events.OrderReport) and event.exchange_order_id and attempt_position is not None:
            sent.setdefault(venue_key(event.exchange_order_id), attempt_position)
        command_position = commands.get(event.correlation_id or "")
        states.append(StepState(event, order_summary(record), record.attempts, command_position, attempt_position))
    return states, record


def attempt_of(event: events.BaseEvent, sent: dict[str, int]) -> int | None:
    if isinstance(event, events.AttemptStarted):
        return event.position
    recorded: int | None = getattr(event, "attempt_position", None)
    if recorded is not None:
        return recorded
    ours, theirs = (getattr(event, name, None) for name in ("client_order_id", "exchange_order_id"))
    return sent.get(ours or "", sent.get(venue_key(theirs or "")))


def venue_key(exchange_order_id: str) -> str:
    """Return a key for a venue's order id that differs from every client order id."""
    return f"venue order {exchange_order_id}"


def symbol_of(record: Record) -> str | None:
    """Return the intent's symbol; of a deleted intent, its order's."""
    order = record.intent.order if record.intent is not None else record.sent_order
    return None if order is None else order.symbol_id


def attempt_spans(states: Sequence[StepState]) -> tuple[AttemptSpan, ...]:
    """Return every attempt with its resolution, in order."""
    spans: dict[int, AttemptSpan] = {}
    open_before: set[int] = set()
    for item in states:
        event = item.event
        unresolved = {attempt.position: attempt for attempt in item.attempts if attempt.outcome in UNRESOLVED}
        if isinstance(event, events.AttemptStarted):
            spans[event.position] = AttemptSpan(
                position=event.position, number=event.number, kind=event.kind, client_order_id=event.client_order_id
            )
        for position in open_before - unresolved.keys():
            spans[position] = resolved_span(spans[position], item)
        for position, attempt in unresolved.items():
            span = spans.get(position)  # a store's write may contain attempts that were never started here
            if span is not None and attempt.outcome is AttemptOutcome.UNKNOWN and span.unknown_position is None:
                spans[position] = replace(span, outcome=attempt.outcome, unknown_position=event.position)
        open_before = unresolved.keys() & spans.keys()
    return tuple(spans.values())


def resolved_span(span: AttemptSpan, item: StepState) -> AttemptSpan:
    kept = next((attempt for attempt in item.attempts if attempt.position == span.position), None)
    outcome = kept.outcome if kept is not None else getattr(item.event, "outcome", None)
    return replace(span, resolved_position=item.event.position, outcome=outcome)


Beside = tuple[Part, events.BaseEvent]
"""An event of another stream."""


async def group_events(log: EventLog, own: Sequence[events.BaseEvent]) -> list[Beside]:
    names = {event.intent.group_id: None for event in own if isinstance(event, events.IntentCreated)}
    streams = [await log.read_stream(events.group_stream(name)) for name in names if name is not None]
    return [(Part.GROUP, event) for stream in streams for event in stream]


async def kernel_events(log: EventLog, own: Sequence[events.BaseEvent]) -> list[Beside]:
    """Return leader changes, pauses and storms since the intent's first event, and those in force then."""
    symbols = {event.intent.order.symbol_id for event in own if isinstance(event, events.IntentCreated)}
    relevant = [event for event in await log.read_stream(events.CONTROL_STREAM) if is_relevant(event, symbols)]
    began = own[0].position
    before = active_controls([event for event in relevant if event.position < began])
    return [(Part.KERNEL, event) for event in (*before, *(event for event in relevant if event.position > began))]


def is_relevant(event: events.BaseEvent, symbols: set[str]) -> bool:
    """Return whether an event of the control stream affects intents of these symbols."""
    match event:
        case events.LeaderElected() | events.KernelStarted() | events.KernelStopped():
            return True
        case events.Paused(symbol_id=symbol_id) | events.Resumed(symbol_id=symbol_id):
            return symbol_id is None or symbol_id in symbols
        case events.FindingRaised(finding=finding):
            return finding.kind is FindingKind.STORM and finding.symbol_id in symbols
        case events.FindingResolved(finding_id=name):
            return name.partition(":")[0] == FindingKind.STORM and name.partition(":")[2] in symbols
    return False


def active_controls(relevant: Iterable[events.BaseEvent]) -> list[events.BaseEvent]:
    """Return the events that define the leader, pauses and storms in force after all events."""
    found: dict[str, events.BaseEvent] = {}
    for event in relevant:
        match event:
            case events.LeaderElected() | events.KernelStopped():
                found["leader"] = event
            case events.Paused():
                found[f"pause {event.symbol_id}"] = event
            case events.Resumed():
                found.pop(f"pause {event.symbol_id}", None)
            case events.FindingRaised():
                found[event.finding.finding_id] = event
            case events.FindingResolved():
                found.pop(event.finding_id, None)
    return sorted(found.values(), key=lambda event: event.position)


async def causes(
    log: EventLog, own: Sequence[events.BaseEvent], known: dict[int, Beside]
) -> AsyncIterator[tuple[int, events.BaseEvent]]:
    """Yield the causes of the intent's events that are in other streams."""
    states = known.keys() | {event.position for event in own}
    for position in sorted({event.causation_position for event in own if event.causation_position} - states):
        async for rows in log.read(position - 1, position):
            yield position, event_of(rows[0])


async def reference_of(log: EventLog) -> Reference:
    """Return the scales of symbols and assets, which never change."""
    reference = Reference()
    for event in await log.read_stream(events.REFERENCE_STREAM):
        if isinstance(event, events.SymbolObserved | events.AssetObserved):
            reference.apply(event)
    return reference


def steps_of(states: Sequence[StepState], beside: dict[int, Beside]) -> tuple[Step, ...]:
    own = {item.event.position: item for item in states}
    steps: list[Step] = []
    before_ns: int | None = None
    for position in sorted(own.keys() | beside.keys()):
        part, event = (Part.INTENT, own[position].event) if position in own else beside[position]
        since_ns = None if before_ns is None else event.recorded_at_ns - before_ns
        before_ns = event.recorded_at_ns
        step = Step(event=event, part=part, since_ns=since_ns, inferred=is_inferred(event))
        if (known := own.get(position)) is not None:
            step = replace(
                step,
                command_position=known.command_position,
                attempt_position=known.attempt_position,
                summary=known.summary,
            )
        steps.append(step)
    return tuple(steps)


def is_inferred(event: events.BaseEvent) -> bool:
    """Return whether an event is inferred from an absence or from totals rather than observed."""
    match event:
        case events.FillInferred():
            return True
        case events.OrderStateObserved(gone=True):
            return True
        case events.AttemptResolved(outcome=AttemptOutcome.DEAD):
            return event.evidence is not Evidence.OPERATOR
    return event.evidence is Evidence.INFERRED


def order_summary(record: Record) -> OrderSummary | None:
    state = order_state(record)
    if state is None:
        return None
    return OrderSummary(state.status.ord_status, state.status.cum_qty, state.status.leaves_qty)
