"""One intent's whole story, in order: what was wanted, what was sent, what the venue said, and why.

Called by the CLI (`history`, with `history_text` and `timeline`, which show it) and by whoever asks in Python. Reads the
intent's stream, its group's and the control stream; folds nothing else. Promises every event of the intent's stream, and
marks as such what is told beside them: events of its group, of the kernel (leaders, pauses, storms), and causes that are
recorded elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from kernel import events
from kernel.errors import NotFoundError
from kernel.lifecycle import Record, evolve, order_state
from kernel.log.base import EventLog
from kernel.log.engine.records import event_of
from kernel.models import UNRESOLVED, Attempt, AttemptKind, AttemptOutcome, Evidence, FindingKind, OrdStatus
from kernel.plan import difference
from projections.folds.reference import Reference
from replay.formatting.decimals import Scales
from replay.log_access.log_reader import open_for_reading


class Part(StrEnum):
    """Why an event is told."""

    INTENT = "INTENT"
    """It is in the intent's own stream."""
    GROUP = "GROUP"
    """It is about the group that the intent belongs to."""
    KERNEL = "KERNEL"
    """Leaders that came and went, pauses and storms that held requests back."""
    CAUSE = "CAUSE"
    """It caused one of the intent's events."""


@dataclass(frozen=True, slots=True)
class OrderSummary:
    """What the order had come to after an event."""

    ord_status: OrdStatus
    cum_qty: int
    leaves_qty: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One event of the story."""

    event: events.BaseEvent
    part: Part
    since_ns: int | None
    """Time since the step before, by our clock; None for the first."""
    inferred: bool
    """Whether it is a conclusion, not something that somebody said or did."""
    command_position: int | None = None
    """The event of the intent's command that it goes back to, by its correlation id."""
    attempt_position: int | None = None
    """The attempt that it starts or is about: as recorded, else the newest one that was sent under its client order id."""
    summary: OrderSummary | None = None
    """None for what is not in the intent's stream, and before anything was sent or seen."""

    @property
    def venue_time_ns(self) -> int | None:
        """The venue's own instant of it."""
        return getattr(self.event, "transact_time_ns", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSpan:
    """One send, until it was settled."""

    position: int
    number: int
    kind: AttemptKind
    client_order_id: str
    unknown_position: int | None = None
    """The event since which its outcome was unknown."""
    resolved_position: int | None = None
    """The event that settled it; None while it is open."""
    outcome: AttemptOutcome | None = AttemptOutcome.PENDING
    """None: settled by what the venue told of the order, in ways that no event names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The whole story of one intent."""

    intent_id: str
    exchange_id: str
    log_id: str
    position: int
    """The head of the log when it was read."""
    steps: tuple[Step, ...]
    attempts: tuple[AttemptSpan, ...]
    symbol_id: str | None
    scales: Scales = field(repr=False, compare=False)


async def history(log: EventLog | str, intent_id: str, *, exchange_id: str | None = None) -> History:
    """One intent's whole story. Raises `NotFoundError` for an intent, and for a log, that there is not."""
    async with open_for_reading(log, exchange_id) as found:
        head = (await found.head()).position
        own = [item for item in await found.read_stream(events.intent_stream(intent_id)) if item.position <= head]
        if not own:
            raise NotFoundError(f"intent {intent_id} not found")
        states, record = fold_steps(intent_id, own)
        until = head if at_work(record) else own[-1].position
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


# ---------------------------------------------------------------------------------------------------- the intent's own
@dataclass(frozen=True, slots=True)
class StepState:
    """One event of the intent's stream, with what was known after it; no whole record, or a long story fills memory."""

    event: events.BaseEvent
    summary: OrderSummary | None
    attempts: tuple[Attempt, ...]
    command_position: int | None
    attempt_position: int | None


def fold_steps(intent_id: str, own: Sequence[events.BaseEvent]) -> tuple[list[StepState], Record]:
    """The stream folded, with what each event goes back to; and what is known in the end."""
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
    """The attempt that an event starts or is about."""
    if isinstance(event, events.AttemptStarted):
        return event.position
    recorded: int | None = getattr(event, "attempt_position", None)
    if recorded is not None:
        return recorded
    ours, theirs = (getattr(event, name, None) for name in ("client_order_id", "exchange_order_id"))
    return sent.get(ours or "", sent.get(venue_key(theirs or "")))


def venue_key(exchange_order_id: str) -> str:
    """A venue's order id, so that no client order id is the same."""
    return f"venue order {exchange_order_id}"


def at_work(record: Record) -> bool:
    """Whether something may still become of an intent."""
    return record.may_be_live or difference(record.intent, order_state(record)) is not None


def symbol_of(record: Record) -> str | None:
    """The symbol that an intent trades; of a deleted one, what its order did."""
    order = record.intent.order if record.intent is not None else record.sent_order
    return None if order is None else order.symbol_id


def attempt_spans(states: Sequence[StepState]) -> tuple[AttemptSpan, ...]:
    """Every send with what became of it, in the order of the sends."""
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
            span = spans.get(position)  # a store's write may tell of attempts that were never started here
            if span is not None and attempt.outcome is AttemptOutcome.UNKNOWN and span.unknown_position is None:
                spans[position] = replace(span, outcome=attempt.outcome, unknown_position=event.position)
        open_before = unresolved.keys() & spans.keys()
    return tuple(spans.values())


def resolved_span(span: AttemptSpan, item: StepState) -> AttemptSpan:
    """A send that an event has settled."""
    kept = next((attempt for attempt in item.attempts if attempt.position == span.position), None)
    outcome = kept.outcome if kept is not None else getattr(item.event, "outcome", None)
    return replace(span, resolved_position=item.event.position, outcome=outcome)


# ------------------------------------------------------------------------------------------------------- told beside it
Beside = tuple[Part, events.BaseEvent]


async def group_events(log: EventLog, own: Sequence[events.BaseEvent]) -> list[Beside]:
    """All that is recorded of the groups that the intent was created in."""
    names = {event.intent.group_id: None for event in own if isinstance(event, events.IntentCreated)}
    streams = [await log.read_stream(events.group_stream(name)) for name in names if name is not None]
    return [(Part.GROUP, event) for stream in streams for event in stream]


async def kernel_events(log: EventLog, own: Sequence[events.BaseEvent]) -> list[Beside]:
    """Leaders, pauses and storms from the intent's first event on, and what was in force when it began."""
    symbols = {event.intent.order.symbol_id for event in own if isinstance(event, events.IntentCreated)}
    relevant = [event for event in await log.read_stream(events.CONTROL_STREAM) if is_relevant(event, symbols)]
    began = own[0].position
    before = active_controls([event for event in relevant if event.position < began])
    return [(Part.KERNEL, event) for event in (*before, *(event for event in relevant if event.position > began))]


def is_relevant(event: events.BaseEvent, symbols: set[str]) -> bool:
    """Whether an event of the control stream bears on intents of these symbols."""
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
    """Who led, and what held requests back, after these events."""
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
    """What caused the intent's events and is told nowhere else."""
    states = known.keys() | {event.position for event in own}
    for position in sorted({event.causation_position for event in own if event.causation_position} - states):
        async for rows in log.read(position - 1, position):
            yield position, event_of(rows[0])


async def reference_of(log: EventLog) -> Reference:
    """The scales of symbols and assets, which never change."""
    reference = Reference()
    for event in await log.read_stream(events.REFERENCE_STREAM):
        if isinstance(event, events.SymbolObserved | events.AssetObserved):
            reference.apply(event)
    return reference


# ----------------------------------------------------------------------------------------------------------- the steps
def steps_of(states: Sequence[StepState], beside: dict[int, Beside]) -> tuple[Step, ...]:
    """All of it in the order of the log."""
    own = {item.event.position: item for item in states}
    steps: list[Step] = []
    before_ns: int | None = None
    for position in sorted(own.keys() | beside.keys()):
        part, event = (Part.INTENT, own[position].event) if position in own else beside[position]
        since_ns = None if before_ns is None else event.recorded_at_ns - before_ns
        before_ns = event.recorded_at_ns
        steps.append(step_of(event, part, since_ns, own.get(position)))
    return tuple(steps)


def step_of(event: events.BaseEvent, part: Part, since_ns: int | None, states: StepState | None) -> Step:
    """One event as a step."""
    if states is None:
        return Step(event=event, part=part, since_ns=since_ns, inferred=is_inferred(event))
    return Step(
        event=event,
        part=part,
        since_ns=since_ns,
        inferred=is_inferred(event),
        command_position=states.command_position,
        attempt_position=states.attempt_position,
        summary=states.summary,
    )


def is_inferred(event: events.BaseEvent) -> bool:
    """Whether an event is a conclusion: from silence, from an absence, from totals that nothing explains."""
    match event:
        case events.FillInferred():
            return True
        case events.OrderStateObserved(gone=True):
            return True
        case events.AttemptResolved(outcome=AttemptOutcome.DEAD):
            return event.evidence is not Evidence.OPERATOR
    return event.evidence is Evidence.INFERRED


def order_summary(record: Record) -> OrderSummary | None:
    """What an order has come to."""
    state = order_state(record)
    if state is None:
        return None
    return OrderSummary(state.status.ord_status, state.status.cum_qty, state.status.leaves_qty)
