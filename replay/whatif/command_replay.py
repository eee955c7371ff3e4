"""The commands that a log has, to be given again to another kernel at the same instants: as they were, or changed.

Used by `forking`. What strategies and operators asked for is in the log as events; what the kernel, the venue or the
passing of time made of it is not asked for again. What an operator said about an attempt or a finding is about evidence of
the original, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pydantic

from kernel import EventSourcedKernel, events
from kernel.clock import NS_PER_S
from kernel.errors import ValidationError
from kernel.models import Desired, OrderIntent
from kernel.order_spec import OcoMode, StandardOrder, StandardOrderGroup, SymbolMetadata
from kernel.state import KernelState

ASKED_BY = ("strategy:", "operator:")
"""How the actor of a command begins."""


@dataclass(frozen=True, slots=True)
class OrderCommand:
    """An order is to be placed, as it was, or in a group (`group_id`)."""

    intent: OrderIntent


@dataclass(frozen=True, slots=True)
class GroupCommand:
    """Orders that depend on each other are to be placed."""

    group_id: str
    mode: OcoMode
    intents: tuple[OrderIntent, ...]


@dataclass(frozen=True, slots=True)
class ModifyCommand:
    """An order is to have other terms: all of them, or those that are named."""

    intent_id: str
    order: StandardOrder | None = None
    terms: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CancelCommand:
    """An order is not wanted any more."""

    intent_id: str


Control = events.IntentDeleted | events.Paused | events.Resumed | events.HeartbeatReceived | events.HeartbeatDisarmed
"""Commands that are given again as they are."""
ReplayedCommand = OrderCommand | GroupCommand | ModifyCommand | CancelCommand | Control


@dataclass(frozen=True, slots=True)
class TimedCommand:
    """One command, and when it is given."""

    at_ns: int
    asked: ReplayedCommand
    position: int | None = None
    """Of the event that has it; None for one that the original did not have."""


# ------------------------------------------------------------------------------------------------------------ the original
class CommandExtractor:
    """Makes commands of the events after a fork, one by one, in order."""

    def __init__(self) -> None:
        self.commands: list[TimedCommand] = []
        self._group: events.GroupCreated | None = None
        self._members: list[OrderIntent] = []

    def note(self, event: events.BaseEvent) -> None:
        """One more event."""
        if not event.actor.startswith(ASKED_BY):
            return
        if isinstance(event, events.GroupCreated):
            self._group, self._members = event, []
        elif self._group is not None and isinstance(event, events.IntentCreated):
            self._note_member(event, self._group)
        elif (asked := asked_by(event)) is not None:
            self.commands.append(TimedCommand(event.recorded_at_ns, asked, event.position))

    def _note_member(self, event: events.IntentCreated, group: events.GroupCreated) -> None:
        self._members.append(event.intent)
        if len(self._members) == len(group.intent_ids):
            asked = GroupCommand(group.group_id, group.mode, tuple(self._members))
            self.commands.append(TimedCommand(group.recorded_at_ns, asked, group.position))
            self._group = None


def asked_by(event: events.BaseEvent) -> ReplayedCommand | None:
    """The command that an event has; None where it has none."""
    match event:
        case events.IntentCreated(intent=intent):
            return OrderCommand(intent)
        case events.IntentModified(intent=intent):
            wanted = intent.desired is Desired.WORKING
            return ModifyCommand(intent.intent_id, intent.order) if wanted else CancelCommand(intent.intent_id)
        case events.IntentCancelRequested(intent_id=intent_id):
            return CancelCommand(intent_id)
        case (
            events.IntentDeleted()
            | events.Paused()
            | events.Resumed()
            | events.HeartbeatReceived()
            | events.HeartbeatDisarmed()
        ):
            return event
    return None


# ------------------------------------------------------------------------------------------------------------ the changes
@dataclass(frozen=True, slots=True)
class DropCommands:
    """An order, or a group, is never asked for: nor is anything else about it."""

    name: str


@dataclass(frozen=True, slots=True)
class AlterTerms:
    """An order has other terms from the beginning, or, where it was placed before the fork, from the fork on."""

    intent_id: str
    terms: Mapping[str, Any]
    """Fields of `StandardOrder`: a price or a quantity as an integer at the symbol's scale, or as a decimal in text."""


@dataclass(frozen=True, slots=True)
class AddCommand:
    """A command that the original did not have."""

    at_ns: int
    asked: ReplayedCommand


CommandChange = DropCommands | AlterTerms | AddCommand


def with_changes(
    commands: Sequence[TimedCommand], changes: Iterable[CommandChange], *, state: KernelState, fork_ns: int
) -> list[TimedCommand]:
    """The commands after a fork, with these changes, in order. `state` is that of the fork.

    Raises `ValidationError` for a change that means nothing there.
    """
    timed = [*commands]
    for change in changes:
        match change:
            case DropCommands(name=name):
                timed = without(timed, name, state)
            case AlterTerms():
                timed = with_altered_terms(timed, change, state, fork_ns)
            case AddCommand(at_ns=at_ns, asked=asked):
                if at_ns < fork_ns:
                    raise ValidationError(
                        f"{named(asked)} is asked for {fork_ns - at_ns} ns before the fork: fork earlier"
                    )
                timed.append(TimedCommand(at_ns, asked))
    return sorted(timed, key=lambda item: item.at_ns)


def without(timed: Sequence[TimedCommand], name: str, state: KernelState) -> list[TimedCommand]:
    """Commands without all those about an order, or about a group and its orders."""
    if state.intent(name) is not None or state.group(name) is not None:
        raise ValidationError(f"{name} was placed before the fork: fork earlier, or cancel it there")
    members = {name}
    for item in timed:
        if isinstance(item.asked, GroupCommand):
            ids = {intent.intent_id for intent in item.asked.intents}
            if name in ids:
                group_id = item.asked.group_id
                raise ValidationError(
                    f"{name} is one of the orders of {group_id}: a group is dropped whole, by its own id"
                )
            members |= ids if item.asked.group_id == name else set()
    kept = [item for item in timed if not members.intersection(names(item.asked))]
    if len(kept) == len(timed):
        raise ValidationError(f"nothing is asked for about {name} after the fork, in the time that is played")
    return kept


def with_altered_terms(
    timed: Sequence[TimedCommand], change: AlterTerms, state: KernelState, fork_ns: int
) -> list[TimedCommand]:
    """Commands in which an order has other terms; later changes of it are asked for as they were."""
    if (intent := state.intent(change.intent_id)) is not None:
        terms = in_units(change.terms, state.symbol(intent.order.symbol_id))
        with_terms(intent.order, terms)
        return [TimedCommand(fork_ns, ModifyCommand(change.intent_id, terms=terms)), *timed]

    def with_order(intent: OrderIntent) -> OrderIntent:
        if intent.intent_id != change.intent_id:
            return intent
        terms = in_units(change.terms, state.symbol(intent.order.symbol_id))
        return intent.model_copy(update={"order": with_terms(intent.order, terms)})

    found = False
    result = []
    for item in timed:
        asked = item.asked
        if isinstance(asked, OrderCommand | GroupCommand) and change.intent_id in names(asked):
            found = True
            if isinstance(asked, OrderCommand):
                asked = OrderCommand(with_order(asked.intent))
            else:
                asked = replace(asked, intents=tuple(map(with_order, asked.intents)))
        result.append(replace(item, asked=asked))
    if not found:
        raise ValidationError(
            f"{change.intent_id} is not placed before the fork, nor after it in the time that is played"
        )
    return result


PRICES = frozenset({"price", "stop_price"})
QUANTITIES = frozenset({"quantity", "display_quantity"})


def in_units(terms: Mapping[str, Any], symbol: SymbolMetadata | None) -> dict[str, Any]:
    """Terms whose decimals are integers at the symbol's scale; `ValidationError` for what is none."""

    def value_of(name: str, value: Any) -> Any:
        if not isinstance(value, str) or name not in PRICES | QUANTITIES:
            return value
        if symbol is None:
            raise ValidationError(f"{name} {value}: the market is not known at the fork: fork later")
        return symbol.price_from_decimal(value) if name in PRICES else symbol.quantity_from_decimal(value)

    return {name: value_of(name, value) for name, value in terms.items()}


def with_terms(order: StandardOrder, terms: Mapping[str, Any]) -> StandardOrder:
    """An order with other terms; `ValidationError` for what is no order."""
    try:
        return StandardOrder.model_validate({**order.model_dump(), **terms})
    except pydantic.ValidationError as problem:
        raise ValidationError(f"no such order: {problem}") from problem


def names(asked: ReplayedCommand) -> frozenset[str]:
    """The orders, and the group, that a command is about."""
    if isinstance(asked, OrderCommand):
        return frozenset({asked.intent.intent_id})
    if isinstance(asked, GroupCommand):
        return frozenset({asked.group_id, *(intent.intent_id for intent in asked.intents)})
    found = getattr(asked, "intent_id", None)
    return frozenset({found}) if found else frozenset()


def named(asked: ReplayedCommand) -> str:
    """A command in a few words."""
    return " ".join([type(asked).__name__.lower().removesuffix("command"), *sorted(names(asked))])


# ------------------------------------------------------------------------------------------------------------- the telling
async def execute(kernel: EventSourcedKernel, asked: ReplayedCommand) -> None:
    """Give a command to a kernel; returns on its commit. Raises what the kernel raises."""
    match asked:
        case OrderCommand(intent=intent):
            await kernel.place_order(
                intent.order,
                dict(intent.metadata),
                intent_id=intent.intent_id,
                owner=intent.owner,
                on_unsolicited_cancel=intent.on_unsolicited_cancel,
                wait="recorded",
            )
        case GroupCommand(group_id=group_id, mode=mode, intents=intents):
            await kernel.place_order_group(
                StandardOrderGroup(orders=tuple(intent.order for intent in intents), mode=mode),
                dict(intents[0].metadata),
                group_id=group_id,
                intent_ids=[intent.intent_id for intent in intents],
                owner=intents[0].owner,
                on_unsolicited_cancel=intents[0].on_unsolicited_cancel,
                wait="recorded",
            )
        case ModifyCommand(intent_id=intent_id, order=order, terms=terms):
            known = order or (await kernel.get_order_intent(intent_id)).order
            await kernel.modify_order(intent_id, with_terms(known, terms), wait="recorded")
        case CancelCommand(intent_id=intent_id):
            await kernel.cancel_order(intent_id, wait="recorded")
        case events.IntentDeleted(intent_id=intent_id):
            await kernel.intent_store.delete_intent(intent_id)
        case events.HeartbeatReceived(owner=owner, ttl_ns=ttl_ns):
            await kernel.heartbeat(owner, ttl_ns / NS_PER_S)
        case events.HeartbeatDisarmed(owner=owner):
            await kernel.disarm_heartbeat(owner)
        case events.Paused(cancels=True, symbol_id=symbol_id, reason=reason):
            await kernel.halt(symbol_id, reason=reason)
        case events.Paused(intent_id=intent_id, reason=reason):
            await kernel.pause(intent_id, reason=reason)
        case events.Resumed(intent_id=intent_id, symbol_id=symbol_id):
            await kernel.resume(intent_id, symbol_id=symbol_id)
