"""`decide(record, command) -> events`: what a command comes to, or why it is refused.

Called by the controller (commands) and by the event-sourced stores (records). Pure: the instant is part of the command.
Nothing is changed here: the events are, once they are in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kernel import events
from kernel.errors import (
    AlreadyExistsError,
    ConflictError,
    ExchangeError,
    NotFoundError,
    ValidationError,
    Violation,
)
from kernel.lifecycle.decide_resolution import ResolveAttempt, ResolveFinding, resolve_attempt, resolve_finding
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.findings import finding_events
from kernel.lifecycle.record import Record, is_over, order_state
from kernel.models import Desired, OrderIntent, OrderState, OrdStatus
from kernel.order_spec import StandardOrder, SymbolMetadata


@dataclass(frozen=True, slots=True)
class CreateIntent:
    """Want an order. With `symbol`, the order must fit its market."""

    intent: OrderIntent
    symbol: SymbolMetadata | None = None
    open_orders: int = 0


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """Want an order under an id; the same again is no error and no event."""

    intent: OrderIntent
    symbol: SymbolMetadata
    open_orders: int = 0


@dataclass(frozen=True, slots=True)
class UpdateIntent:
    """Replace an intent's record."""

    intent: OrderIntent
    now_ns: int


@dataclass(frozen=True, slots=True)
class ModifyIntent:
    """Want other terms; the same again is no error and no event."""

    intent_id: str
    order: StandardOrder
    symbol: SymbolMetadata
    now_ns: int
    expected_generation: int | None = None
    """The generation that the change was made from; none: whatever there is."""


@dataclass(frozen=True, slots=True)
class CancelIntent:
    """Not want an order any more."""

    intent_id: str
    now_ns: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class PauseIntent:
    """Send nothing for an intent."""

    intent_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ResumeIntent:
    """Go on with an intent."""

    intent_id: str


@dataclass(frozen=True, slots=True)
class DeleteIntent:
    """Remove an intent's record."""

    intent_id: str


@dataclass(frozen=True, slots=True)
class CreateState:
    """Record an order's state, which must not exist."""

    state: OrderState
    now_ns: int


@dataclass(frozen=True, slots=True)
class UpdateState:
    """Record an order's state, which must exist."""

    state: OrderState
    now_ns: int


@dataclass(frozen=True, slots=True)
class ForgetState:
    """Remove an order's state, which must exist."""

    intent_id: str


Command = (
    PlaceOrder
    | CreateIntent
    | ModifyIntent
    | UpdateIntent
    | CancelIntent
    | PauseIntent
    | ResumeIntent
    | DeleteIntent
    | CreateState
    | UpdateState
    | ForgetState
    | ResolveAttempt
    | ResolveFinding
)

TOO_LATE = frozenset({OrdStatus.FILLED, OrdStatus.EXPIRED, OrdStatus.REJECTED})


def decide(record: Record, command: Command) -> list[events.BaseEvent]:
    """The events that a command comes to; none where what it asks for is so already.

    Raises `ValidationError`, `NotFoundError`, `AlreadyExistsError`, `ConflictError` or `ExchangeError` ("too late").
    """
    return DECISIONS[type(command)](record, command)


def create_intent(record: Record, command: CreateIntent) -> list[events.BaseEvent]:
    if record.intent is not None:
        raise AlreadyExistsError(f"intent {record.intent_id} already exists")
    check_market(command.intent, command.symbol, open_orders=command.open_orders)
    return [events.IntentCreated(intent=command.intent)]


def place_order(record: Record, command: PlaceOrder) -> list[events.BaseEvent]:
    known = record.intent
    if known is None:
        return create_intent(record, CreateIntent(command.intent, command.symbol, command.open_orders))
    if known.order == command.intent.order:
        return []
    raise AlreadyExistsError(
        f"intent {known.intent_id} already exists with another order: {known.order.model_dump_json(exclude_defaults=True)};"
        " choose another intent_id, or modify that one"
    )


def check_market(intent: OrderIntent, symbol: SymbolMetadata | None, *, open_orders: int) -> None:
    if symbol is None:
        return
    violations = symbol.violations(intent.order, open_orders=open_orders)
    if violations:
        raise ValidationError(f"the order does not fit the market {symbol.symbol_id}", violations)


def update_intent(record: Record, command: UpdateIntent) -> list[events.BaseEvent]:
    known = existing_intent(record)
    return [events.IntentModified(intent=next_intent(known, command.intent, now_ns=command.now_ns))]


def next_intent(known: OrderIntent, given: OrderIntent, *, now_ns: int) -> OrderIntent:
    """The record that a store keeps when `given` replaces `known`: generation and update time are the store's.

    Raises `ConflictError` when the given generation is lower than the known one: it was made from an older record.
    """
    if given.generation < known.generation:
        raise ConflictError(
            f"intent {known.intent_id} is at generation {known.generation}, given {given.generation}: read it again"
        )
    changed = (given.order, given.desired) != (known.order, known.desired)
    generation = known.generation + 1 if changed else known.generation
    return given.model_copy(
        update={"generation": generation, "updated_at_ns": now_ns, "created_at_ns": known.created_at_ns}
    )


def modify_intent(record: Record, command: ModifyIntent) -> list[events.BaseEvent]:
    known = existing_intent(record)
    if command.expected_generation not in (None, known.generation):
        raise ConflictError(
            f"intent {known.intent_id} is at generation {known.generation}, expected {command.expected_generation}:"
            " read it again"
        )
    if known.desired is Desired.CANCELED:
        raise ExchangeError("too late to modify: the order is canceled", intent_id=known.intent_id)
    raise_if_too_late(record, "modify", ends=TOO_LATE - {OrdStatus.REJECTED})  # what was refused may be mended
    check_same_market(known.order, command.order)
    if known.order == command.order:
        return []
    intent = known.model_copy(update={"order": command.order})
    check_market(intent, command.symbol, open_orders=0)
    return [events.IntentModified(intent=next_intent(known, intent, now_ns=command.now_ns))]


def check_same_market(known: StandardOrder, given: StandardOrder) -> None:
    """A change keeps symbol and side: with others it is another order."""
    text = "{field} cannot be changed from {limit} to {value}; cancel the order and place another"
    found = [
        Violation(name, "cannot be modified", str(getattr(known, name)), str(getattr(given, name)), text)
        for name in ("symbol_id", "side")
        if getattr(known, name) != getattr(given, name)
    ]
    if found:
        raise ValidationError(violations=found)


def raise_if_too_late(record: Record, verb: str, *, ends: frozenset[OrdStatus] = TOO_LATE) -> None:
    """What has ended can't be changed; but where more is wanted than what ended, that is yet to be placed."""
    state = order_state(record)
    if state is not None and state.status.ord_status in ends and is_over(record):
        raise ExchangeError(f"too late to {verb}: the order is {state.status.ord_status}", intent_id=record.intent_id)


def cancel_intent(record: Record, command: CancelIntent) -> list[events.BaseEvent]:
    known = existing_intent(record)
    if known.desired is Desired.CANCELED:
        return []
    raise_if_too_late(record, "cancel")
    return [
        events.IntentCancelRequested(
            intent_id=record.intent_id,
            generation=known.generation + 1,
            requested_at_ns=command.now_ns,
            reason=command.reason,
        )
    ]


def pause_intent(record: Record, command: PauseIntent) -> list[events.BaseEvent]:
    is_known_to(record)
    return [] if record.paused else [events.Paused(intent_id=record.intent_id, reason=command.reason)]


def resume_intent(record: Record, command: ResumeIntent) -> list[events.BaseEvent]:
    is_known_to(record)
    return [events.Resumed(intent_id=record.intent_id)] if record.paused else []


def is_known_to(record: Record) -> None:
    """A deleted intent may still have an order, which can be held too."""
    if record.version == 0:
        raise NotFoundError(f"intent {record.intent_id} not found")


def delete_intent(record: Record, command: DeleteIntent) -> list[events.BaseEvent]:
    existing_intent(record)
    if record.may_be_live:
        raise ConflictError(f"intent {record.intent_id} may be live at the venue: cancel it first, then delete it")
    return [events.IntentDeleted(intent_id=record.intent_id)]


def existing_intent(record: Record) -> OrderIntent:
    if record.intent is None:
        raise NotFoundError(f"intent {record.intent_id} not found")
    return record.intent


def create_state(record: Record, command: CreateState) -> list[events.BaseEvent]:
    if record.has_order:
        raise AlreadyExistsError(f"order state for intent {record.intent_id} already exists")
    return recorded(record, command.state, created=True, now_ns=command.now_ns)


def update_state(record: Record, command: UpdateState) -> list[events.BaseEvent]:
    existing_state(record)
    return recorded(record, command.state, created=False, now_ns=command.now_ns)


def recorded(record: Record, state: OrderState, *, created: bool, now_ns: int) -> list[events.BaseEvent]:
    event = events.OrderStateRecorded(state=state, created=created)
    return [event, *finding_events(record, evolve(record, event), now_ns=now_ns)]


def forget_state(record: Record, command: ForgetState) -> list[events.BaseEvent]:
    existing_state(record)
    return [events.OrderStateForgotten(intent_id=record.intent_id)]


def existing_state(record: Record) -> None:
    if not record.has_order:
        raise NotFoundError(f"order state for intent {record.intent_id} not found")


DECISIONS: dict[type[Command], Callable[..., list[events.BaseEvent]]] = {
    PlaceOrder: place_order,
    CreateIntent: create_intent,
    UpdateIntent: update_intent,
    ModifyIntent: modify_intent,
    CancelIntent: cancel_intent,
    PauseIntent: pause_intent,
    ResumeIntent: resume_intent,
    DeleteIntent: delete_intent,
    CreateState: create_state,
    UpdateState: update_state,
    ForgetState: forget_state,
    ResolveAttempt: resolve_attempt,
    ResolveFinding: resolve_finding,
}
