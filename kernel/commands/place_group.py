"""Turns `place_order_group` into the events of one append. Pure; called by the command handler.

The group's own stream comes first, so no reader sees a member without its group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
from msgspec.structs import replace

from kernel import events
from kernel.commands.validation import new_intent
from kernel.errors import AlreadyExistsError, ExchangeError, ValidationError, Violation
from kernel.groups import Group, group_violations, max_excess
from kernel.lifecycle.record import Record
from kernel.log.base import Write
from kernel.models import OrderIntent
from kernel.order_spec import OcoMode, StandardOrder, StandardOrderGroup, SymbolMetadata, expiry_violations


class PlaceGroup(msgspec.Struct, frozen=True):
    """Place a group; repeating it makes no event."""

    group_id: str
    mode: OcoMode
    intents: tuple[OrderIntent, ...]
    symbols: Mapping[str, SymbolMetadata]
    """Symbol id → symbol, for each order."""
    open_orders: Mapping[str, int]
    """Symbol id → number of open orders."""


def decide_group(known: Group | None, records: Mapping[str, Record], command: PlaceGroup) -> tuple[Write, ...]:
    """Return the events of a new group by stream; none if the group exists.

    Raises `ValidationError` with all violations, `AlreadyExistsError` if the id of the group or of an intent is taken.
    """
    if known is not None:
        check_same(known, records, command)
        return ()
    group = StandardOrderGroup(orders=tuple(intent.order for intent in command.intents), mode=command.mode)
    problems = [*group_violations(group), *constraint_violations(command)]
    if problems:
        raise ValidationError(f"group {command.group_id}", problems)
    for intent in command.intents:
        if records[intent.intent_id].intent is not None:
            raise AlreadyExistsError(f"intent {intent.intent_id} already exists: choose another id for the order")
    created = events.GroupCreated(
        group_id=command.group_id, mode=command.mode, intent_ids=tuple(intent.intent_id for intent in command.intents)
    )
    members = (
        Write(events.intent_stream(intent.intent_id), (events.IntentCreated(intent=intent),), version)
        for intent in command.intents
        for version in [records[intent.intent_id].version]
    )
    return (Write(events.group_stream(command.group_id), (created,), 0), *members)


def new_members(
    group: StandardOrderGroup, *, group_id: str, intent_ids: Sequence[str] | None, **terms: Any
) -> tuple[OrderIntent, ...]:
    """Return the intents of a group's orders, by default with ids derived from the group's."""
    count = len(group.orders)
    names = [f"{group_id}.{number}" for number in range(1, count + 1)] if intent_ids is None else list(intent_ids)
    if len(names) != count or len(set(names)) != count:
        limit = f"{count} different ids, one for each order"
        raise ValidationError(violations=[Violation("intent_ids", "count", limit, ", ".join(names))])
    return tuple(
        new_intent(order, intent_id=name, group_id=group_id, **terms)
        for name, order in zip(names, group.orders, strict=True)
    )


def symbols_of(group: StandardOrderGroup) -> list[str]:
    """Return the symbols of a group's orders, sorted."""
    return sorted({order.symbol_id for order in group.orders})


def check_same(known: Group, records: Mapping[str, Record], command: PlaceGroup) -> None:
    """Raise `AlreadyExistsError` unless a command repeats the known group."""
    now = [(name, record.intent.order if record.intent else None) for name, record in records.items()]
    members = [(intent.intent_id, intent.order) for intent in command.intents]
    same_members = known.intent_ids == tuple(name for name, _ in members)
    if known.mode is command.mode and same_members and now == members:
        return
    raise AlreadyExistsError(
        f"group {known.group_id} already exists with other orders or another mode ({known.mode} of"
        f" {', '.join(known.intent_ids)}): choose another group_id, or modify its orders"
    )


def constraint_violations(command: PlaceGroup) -> list[Violation]:
    """Return the symbol constraints that orders violate; children are not open together with their parent."""
    found: list[Violation] = []
    follows = command.mode is OcoMode.ONE_TRIGGERS_OTHER
    for index, intent in enumerate(command.intents):
        symbol = command.symbols[intent.order.symbol_id]
        open_orders = command.open_orders[symbol.symbol_id] + (0 if follows else index)
        found += [
            replace(item, field=f"orders[{index}].{item.field.removeprefix('order.')}")
            for item in (
                *symbol.violations(intent.order, open_orders=open_orders),
                *expiry_violations(intent.order, now_ns=intent.created_at_ns),
            )
        ]
    return found


def check_changeable(group: Group | None, intent_id: str) -> None:
    """Raise `ExchangeError` for an order of a group that the venue manages: a change would take it out of the group."""
    if group is not None and group.native:
        raise ExchangeError(
            f"the venue manages the group {group.group_id}: cancel its orders and place another group",
            intent_id=intent_id,
        )


def quantities_at_risk(mode: OcoMode, orders: Sequence[StandardOrder]) -> list[int]:
    """Return the quantity at risk of each order of a new group. Children reverse their parent, so they count with their
    excess only."""
    quantities = [order.quantity for order in orders]
    if mode is not OcoMode.ONE_TRIGGERS_OTHER:
        return quantities
    sums = [max_excess(mode, quantities[: count + 1]) for count in range(len(quantities))]
    return [quantities[0], *(after - before for before, after in pairwise(sums))]
