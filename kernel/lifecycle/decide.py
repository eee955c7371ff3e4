"""`decide(record, command) -> events`: accept a command, or refuse it with an error.

Called by the command handlers and the event-sourced stores. Pure: the instant is part of the command.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec.structs import replace

from kernel import events
from kernel.errors import AlreadyExistsError, ConflictError, ExchangeError, NotFoundError, ValidationError, Violation
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.findings import finding_events
from kernel.lifecycle.record import Record, as_exit, is_over, order_state
from kernel.models import Desired, OrderIntent, OrderState, OrdStatus
from kernel.order_spec import StandardOrder, SymbolMetadata, expiry_violations
from kernel.values import as_json

TOO_LATE = frozenset({OrdStatus.FILLED, OrdStatus.EXPIRED, OrdStatus.REJECTED})


class IntentCommand(Protocol):
    """A command to one intent."""

    def decide(self, record: Record) -> list[events.BaseEvent]:
        """Return the events of the command, or raise its refusal."""


def decide(record: Record, command: IntentCommand) -> list[events.BaseEvent]:
    """Return the events of a command; none if it changes nothing.

    Raises:
        ValidationError: The order violates the symbol's constraints, or an operator's statement is invalid.
        NotFoundError: The intent or order state does not exist.
        AlreadyExistsError: The intent or order state exists.
        ConflictError: The record is not in the state that the command needs.
        ExchangeError: It is too late: the order has ended.
    """
    return command.decide(record)


class CreateIntent(msgspec.Struct, frozen=True):
    """Create an intent. With `symbol`, the order must satisfy the symbol's constraints."""

    intent: OrderIntent
    symbol: SymbolMetadata | None = None
    open_orders: int = 0

    def decide(self, record: Record) -> list[events.BaseEvent]:
        if record.intent is not None:
            raise AlreadyExistsError(f"intent {record.intent_id} already exists")
        if self.symbol is not None:
            now_ns = self.intent.created_at_ns
            check_constraints(self.intent.order, self.symbol, now_ns=now_ns, open_orders=self.open_orders)
        return [events.IntentCreated(intent=self.intent)]


class PlaceOrder(msgspec.Struct, frozen=True):
    """Create an intent with an id chosen by the client; repeating it with the same order is a no-op."""

    intent: OrderIntent
    symbol: SymbolMetadata
    open_orders: int = 0

    def decide(self, record: Record) -> list[events.BaseEvent]:
        known = record.intent
        if known is None:
            return CreateIntent(self.intent, self.symbol, self.open_orders).decide(record)
        if known.order == self.intent.order:
            return []
        order = msgspec.json.encode(as_json(known.order, defaults=False)).decode()
        raise AlreadyExistsError(
            f"intent {known.intent_id} already exists with another order: {order}; use another intent id, or modify the"
            " existing intent"
        )


class UpdateIntent(msgspec.Struct, frozen=True):
    """Replace an intent's record."""

    intent: OrderIntent
    now_ns: int

    def decide(self, record: Record) -> list[events.BaseEvent]:
        known = existing_intent(record)
        return [events.IntentModified(intent=next_intent(known, self.intent, now_ns=self.now_ns))]


class ModifyIntent(msgspec.Struct, frozen=True):
    """Change an intent's order; repeating it is a no-op."""

    intent_id: str
    order: StandardOrder
    symbol: SymbolMetadata
    now_ns: int
    expected_generation: int | None = None
    """The generation that the change was made from; None: any."""

    def decide(self, record: Record) -> list[events.BaseEvent]:
        known = existing_intent(record)
        if self.expected_generation not in (None, known.generation):
            raise ConflictError(
                f"intent {known.intent_id} is at generation {known.generation}, the change was made from"
                f" {self.expected_generation}: read it again"
            )
        if known.desired is Desired.CANCELED:
            raise ExchangeError("too late to modify: the order is canceled", intent_id=known.intent_id)
        failed = record.failed_generation == known.generation
        # An order that was rejected or has failed may be accepted once it is modified.
        mendable = {OrdStatus.REJECTED, OrdStatus.EXPIRED} if failed else {OrdStatus.REJECTED}
        raise_if_too_late(record, "modify", ends=TOO_LATE - mendable)
        check_same_market(known.order, self.order)
        if known.order == self.order:
            return []
        check_constraints(self.order, self.symbol, now_ns=self.now_ns)
        intent = replace(known, order=self.order)
        return [events.IntentModified(intent=next_intent(known, intent, now_ns=self.now_ns))]


class CancelIntent(msgspec.Struct, frozen=True):
    """Cancel an intent."""

    intent_id: str
    now_ns: int
    reason: str | None = None
    is_exit: bool = False
    """The intent is a bracket's exit: an end by the venue is not its last."""

    def decide(self, record: Record) -> list[events.BaseEvent]:
        known = existing_intent(record)
        if known.desired is Desired.CANCELED:
            return []
        raise_if_too_late(replace(record, intent=as_exit(known)) if self.is_exit else record, "cancel")
        return [
            events.IntentCancelRequested(
                intent_id=record.intent_id,
                generation=known.generation + 1,
                requested_at_ns=self.now_ns,
                reason=self.reason,
            )
        ]


class PauseIntent(msgspec.Struct, frozen=True):
    """Send nothing for an intent."""

    intent_id: str
    reason: str = ""

    def decide(self, record: Record) -> list[events.BaseEvent]:
        require_known(record)
        return [] if record.paused else [events.Paused(intent_id=record.intent_id, reason=self.reason)]


class ResumeIntent(msgspec.Struct, frozen=True):
    """Resume sending for an intent."""

    intent_id: str

    def decide(self, record: Record) -> list[events.BaseEvent]:
        require_known(record)
        return [events.Resumed(intent_id=record.intent_id)] if record.paused else []


class DeleteIntent(msgspec.Struct, frozen=True):
    """Delete an intent's record."""

    intent_id: str

    def decide(self, record: Record) -> list[events.BaseEvent]:
        existing_intent(record)
        if record.may_be_live:
            raise ConflictError(f"intent {record.intent_id} may have an open order: cancel it first")
        return [events.IntentDeleted(intent_id=record.intent_id)]


class CreateState(msgspec.Struct, frozen=True):
    """Record an order state that must not exist."""

    state: OrderState
    now_ns: int

    def decide(self, record: Record) -> list[events.BaseEvent]:
        if record.has_order:
            raise AlreadyExistsError(f"order state for intent {record.intent_id} already exists")
        return recorded(record, self.state, created=True, now_ns=self.now_ns)


class UpdateState(msgspec.Struct, frozen=True):
    """Record an order state that must exist."""

    state: OrderState
    now_ns: int

    def decide(self, record: Record) -> list[events.BaseEvent]:
        require_state(record)
        return recorded(record, self.state, created=False, now_ns=self.now_ns)


class ForgetState(msgspec.Struct, frozen=True):
    """Delete an order state that must exist."""

    intent_id: str

    def decide(self, record: Record) -> list[events.BaseEvent]:
        require_state(record)
        return [events.OrderStateForgotten(intent_id=record.intent_id)]


def check_constraints(order: StandardOrder, symbol: SymbolMetadata, *, now_ns: int, open_orders: int = 0) -> None:
    violations = [*symbol.violations(order, open_orders=open_orders), *expiry_violations(order, now_ns=now_ns)]
    if violations:
        raise ValidationError(f"the order violates the constraints of {symbol.symbol_id}", violations)


def next_intent(known: OrderIntent, new: OrderIntent, *, now_ns: int) -> OrderIntent:
    """Return the record to keep when `new` replaces `known`: generation and update time are the store's.

    Raises `ConflictError` if `new` was made from an older generation.
    """
    if new.generation < known.generation:
        raise ConflictError(
            f"intent {known.intent_id} is at generation {known.generation}, the update was made from {new.generation}:"
            " read it again"
        )
    changed = (new.order, new.desired) != (known.order, known.desired)
    generation = known.generation + 1 if changed else known.generation
    return replace(new, generation=generation, updated_at_ns=now_ns, created_at_ns=known.created_at_ns)


def check_same_market(known: StandardOrder, new: StandardOrder) -> None:
    """Refuse another symbol or side: that would be another order."""
    text = "{field} cannot be changed from {limit} to {value}; cancel the order and place another"
    found = [
        Violation(name, "cannot be modified", str(getattr(known, name)), str(getattr(new, name)), text)
        for name in ("symbol_id", "side")
        if getattr(known, name) != getattr(new, name)
    ]
    if found:
        raise ValidationError(violations=found)


def raise_if_too_late(record: Record, verb: str, *, ends: frozenset[OrdStatus] = TOO_LATE) -> None:
    """Refuse to change an ended order, unless the intent still has a quantity to place."""
    state = order_state(record)
    if state is not None and state.status.ord_status in ends and is_over(record):
        raise ExchangeError(f"too late to {verb}: the order is {state.status.ord_status}", intent_id=record.intent_id)


def require_known(record: Record) -> None:
    """Accept a deleted intent too: it may still have an order to pause."""
    if record.version == 0:
        raise NotFoundError(f"intent {record.intent_id} not found")


def existing_intent(record: Record) -> OrderIntent:
    if record.intent is None:
        raise NotFoundError(f"intent {record.intent_id} not found")
    return record.intent


def recorded(record: Record, state: OrderState, *, created: bool, now_ns: int) -> list[events.BaseEvent]:
    event = events.OrderStateRecorded(state=state, created=created)
    return [event, *finding_events(record, evolve(record, event), now_ns=now_ns)]


def require_state(record: Record) -> None:
    if not record.has_order:
        raise NotFoundError(f"order state for intent {record.intent_id} not found")
