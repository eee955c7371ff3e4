"""The commands that a log records, changed, and given to another kernel at the same instants. Used by `simulation`.

Commands of strategies and operators are replayed; what the kernel, the venue or the clock did with them is not. Operators'
resolutions of attempts and findings refer to evidence of the original, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs
from msgspec.structs import replace

from kernel import EventSourcedKernel, events
from kernel.clock import NS_PER_S
from kernel.errors import ValidationError
from kernel.models import Desired, OrderIntent
from kernel.order_spec import OcoMode, StandardOrder, StandardOrderGroup, SymbolMetadata
from kernel.state import KernelState
from kernel.values.edge import validated

ACTOR_PREFIXES = ("strategy:", "operator:")


class OrderCommand(msgspec.Struct, frozen=True):
    """Place an order."""

    intent: OrderIntent


class GroupCommand(msgspec.Struct, frozen=True):
    """Place a group of contingent orders."""

    group_id: str
    mode: OcoMode
    intents: tuple[OrderIntent, ...]


class ModifyCommand(msgspec.Struct, frozen=True):
    """Modify an order: all its terms (`order`), or some (`terms`)."""

    intent_id: str
    order: StandardOrder | None = None
    terms: Mapping[str, Any] = {}


class CancelCommand(msgspec.Struct, frozen=True):
    """Cancel an order."""

    intent_id: str


Control = events.IntentDeleted | events.Paused | events.Resumed | events.HeartbeatReceived | events.HeartbeatDisarmed
"""Events that are replayed as the commands they record."""
ReplayedCommand = OrderCommand | GroupCommand | ModifyCommand | CancelCommand | Control


class TimedCommand(msgspec.Struct, frozen=True):
    """A command and its instant."""

    at_ns: int
    command: ReplayedCommand
    position: int | None = None
    """Position of the event that records it; None for an added one."""


class CommandExtractor:
    """Extracts the commands from the events after a fork."""

    def __init__(self) -> None:
        self.commands: list[TimedCommand] = []
        self._group: events.GroupCreated | None = None
        self._members: list[OrderIntent] = []

    def apply(self, event: events.BaseEvent) -> None:
        """Add the command of the next event, if it records one."""
        if not event.actor.startswith(ACTOR_PREFIXES):
            return
        if isinstance(event, events.GroupCreated):
            self._group, self._members = event, []
        elif self._group is not None and isinstance(event, events.IntentCreated):
            self._add_member(event, self._group)
        elif (command := command_of(event)) is not None:
            self.commands.append(TimedCommand(event.recorded_at_ns, command, event.position))

    def _add_member(self, event: events.IntentCreated, group: events.GroupCreated) -> None:
        self._members.append(event.intent)
        if len(self._members) == len(group.intent_ids):
            command = GroupCommand(group.group_id, group.mode, tuple(self._members))
            self.commands.append(TimedCommand(group.recorded_at_ns, command, group.position))
            self._group = None


def command_of(event: events.BaseEvent) -> ReplayedCommand | None:
    match event:
        case events.IntentCreated(intent=intent):
            return OrderCommand(intent)
        case events.IntentModified(intent=intent):
            if intent.desired is Desired.CANCELED:
                return CancelCommand(intent.intent_id)
            return ModifyCommand(intent.intent_id, intent.order)
        case events.IntentCancelRequested(intent_id=intent_id):
            return CancelCommand(intent_id)
    return event if isinstance(event, Control) else None


class DropCommands(msgspec.Struct, frozen=True):
    """Drop every command about an order or a group."""

    name: str


class AlterTerms(msgspec.Struct, frozen=True):
    """Place an order with other terms; modify it at the fork if it was placed before."""

    intent_id: str
    terms: Mapping[str, Any]
    """Fields of `StandardOrder`. A price or quantity is an integer at the symbol's scale, or a decimal as text."""


class AddCommand(msgspec.Struct, frozen=True):
    """Add a command."""

    at_ns: int
    command: ReplayedCommand


CommandChange = DropCommands | AlterTerms | AddCommand


def with_changes(
    commands: Sequence[TimedCommand], changes: Iterable[CommandChange], *, state: KernelState, fork_ns: int
) -> list[TimedCommand]:
    """Apply changes to the commands after a fork; `state` is that of the fork.

    Raises `ValidationError` for a change that is not possible there.
    """
    timed = [*commands]
    for change in changes:
        match change:
            case DropCommands(name=name):
                timed = without(timed, name, state)
            case AlterTerms():
                timed = with_altered_terms(timed, change, state, fork_ns)
            case AddCommand(at_ns=at_ns, command=command):
                if at_ns < fork_ns:
                    raise ValidationError(f"{named(command)} is {fork_ns - at_ns} ns before the fork: fork earlier")
                timed.append(TimedCommand(at_ns, command))
    return sorted(timed, key=lambda item: item.at_ns)


def without(timed: Sequence[TimedCommand], name: str, state: KernelState) -> list[TimedCommand]:
    """The commands without those about an order, or about a group and its orders."""
    if state.intent(name) is not None or state.group(name) is not None:
        raise ValidationError(f"{name} was placed before the fork: fork earlier, or cancel it")
    dropped = {name}
    for item in timed:
        if isinstance(item.command, GroupCommand) and name in names(item.command):
            group_id = item.command.group_id
            if name != group_id:
                raise ValidationError(f"{name} is an order of the group {group_id}: drop {group_id}")
            dropped |= names(item.command)
    kept = [item for item in timed if not dropped & names(item.command)]
    if len(kept) == len(timed):
        raise ValidationError(f"no command in the simulated time is about {name}")
    return kept


def with_altered_terms(
    timed: Sequence[TimedCommand], change: AlterTerms, state: KernelState, fork_ns: int
) -> list[TimedCommand]:
    """The commands with an order placed on other terms; later modifications stay."""
    if (intent := state.intent(change.intent_id)) is not None:
        terms = in_units(change.terms, state.symbol(intent.order.symbol_id))
        with_terms(intent.order, terms)
        return [TimedCommand(fork_ns, ModifyCommand(change.intent_id, terms=terms)), *timed]

    def altered(intent: OrderIntent) -> OrderIntent:
        if intent.intent_id != change.intent_id:
            return intent
        terms = in_units(change.terms, state.symbol(intent.order.symbol_id))
        return structs.replace(intent, order=with_terms(intent.order, terms))

    found = False
    result = []
    for item in timed:
        command = item.command
        if isinstance(command, OrderCommand | GroupCommand) and change.intent_id in names(command):
            found = True
            if isinstance(command, OrderCommand):
                command = OrderCommand(altered(command.intent))
            else:
                command = replace(command, intents=tuple(map(altered, command.intents)))
        result.append(replace(item, command=command))
    if not found:
        raise ValidationError(f"{change.intent_id} is placed neither before the fork nor in the simulated time")
    return result


PRICES = frozenset({"price", "stop_price"})
QUANTITIES = frozenset({"quantity", "display_quantity"})


def in_units(terms: Mapping[str, Any], symbol: SymbolMetadata | None) -> dict[str, Any]:
    """Terms with decimals converted to the symbol's scale. Raises `ValidationError`."""

    def value_of(name: str, value: Any) -> Any:
        if not isinstance(value, str) or name not in PRICES | QUANTITIES:
            return value
        if symbol is None:
            raise ValidationError(f"{name} {value}: the symbol is not known at the fork: fork later")
        return symbol.price_from_decimal(value) if name in PRICES else symbol.quantity_from_decimal(value)

    return {name: value_of(name, value) for name, value in terms.items()}


def with_terms(order: StandardOrder, terms: Mapping[str, Any]) -> StandardOrder:
    """An order with other terms. Raises `ValidationError`."""
    return validated({**structs.asdict(order), **terms}, StandardOrder, what="the changed order is not valid")


def names(command: ReplayedCommand) -> frozenset[str]:
    """The ids of the orders, and of the group, that a command is about."""
    if isinstance(command, OrderCommand):
        return frozenset({command.intent.intent_id})
    if isinstance(command, GroupCommand):
        return frozenset({command.group_id, *(intent.intent_id for intent in command.intents)})
    intent_id = getattr(command, "intent_id", None)
    return frozenset({intent_id}) if intent_id else frozenset()


def named(command: ReplayedCommand) -> str:
    return " ".join([type(command).__name__.lower().removesuffix("command"), *sorted(names(command))])


async def execute(kernel: EventSourcedKernel, command: ReplayedCommand) -> None:
    """Give a command to a kernel and wait until it is recorded. Raises what the kernel raises."""
    match command:
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
