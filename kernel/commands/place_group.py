"""`place_order_group`: how orders that depend on each other become events, in one append. Pure.

Used by the command handler. The group's own stream comes first: no reader ever sees a member without what binds it. All of
it is recorded, or nothing is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from kernel import events
from kernel.commands.validation import new_intent
from kernel.errors import AlreadyExistsError, ExchangeError, ValidationError, Violation
from kernel.groups import Group, group_violations, max_excess
from kernel.lifecycle import Record
from kernel.log.base import Write
from kernel.models import OrderIntent
from kernel.order_spec import OcoMode, StandardOrder, StandardOrderGroup, SymbolMetadata


@dataclass(frozen=True, slots=True)
class PlaceGroup:
    """Want orders that depend on each other; the same again is no error and no event."""

    group_id: str
    mode: OcoMode
    intents: tuple[OrderIntent, ...]
    symbols: Mapping[str, SymbolMetadata]
    """The markets of the orders."""
    open_orders: Mapping[str, int]
    """How many orders are open in each market already."""


def decide_group(known: Group | None, records: Mapping[str, Record], command: PlaceGroup) -> tuple[Write, ...]:
    """What a group comes to, stream by stream; nothing where it is there already.

    Raises `ValidationError` with every violation of the group, its orders and their markets, `AlreadyExistsError`.
    """
    if known is not None:
        check_same(known, records, command)
        return ()
    problems = [*group_violations(asked(command)), *market_violations(command)]
    if problems:
        raise ValidationError(f"the group {command.group_id} can't be placed as it is", problems)
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
    """The intents of a group's orders, named after it unless names are given. `ValidationError` for bad names."""
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
    """The symbols of a group's orders, each once."""
    return sorted({order.symbol_id for order in group.orders})


def asked(command: PlaceGroup) -> StandardOrderGroup:
    """The group as it was asked for."""
    return StandardOrderGroup(orders=tuple(intent.order for intent in command.intents), mode=command.mode)


def check_same(known: Group, records: Mapping[str, Record], command: PlaceGroup) -> None:
    """A strategy's own retry is safe; another group under the same name is another wish."""
    now = [(name, record.intent.order if record.intent else None) for name, record in records.items()]
    given = [(intent.intent_id, intent.order) for intent in command.intents]
    same_members = known.intent_ids == tuple(name for name, _ in given)
    if known.mode is command.mode and same_members and now == given:
        return
    raise AlreadyExistsError(
        f"group {known.group_id} already exists with other orders, or another mode: {known.mode} of"
        f" {', '.join(known.intent_ids)}; choose another group_id, or modify its orders"
    )


def market_violations(command: PlaceGroup) -> list[Violation]:
    """What the markets do not take; the followers of a leader are not open with it."""
    found: list[Violation] = []
    follows = command.mode is OcoMode.ONE_TRIGGERS_OTHER
    for index, intent in enumerate(command.intents):
        symbol = command.symbols[intent.order.symbol_id]
        open_orders = command.open_orders[symbol.symbol_id] + (0 if follows else index)
        found += [
            replace(item, field=f"orders[{index}].{item.field.removeprefix('order.')}")
            for item in symbol.violations(intent.order, open_orders=open_orders)
        ]
    return found


def check_changeable(group: Group | None, intent_id: str) -> None:
    """`ExchangeError` for an order whose group the venue works: changed by itself, it would be the group's no more."""
    if group is not None and group.native:
        raise ExchangeError(
            f"the venue works the group {group.group_id}, it can't be changed: cancel its orders and place another",
            intent_id=intent_id,
        )


def venue_managed_quantity(record: Record, *, sent: bool) -> int:
    """The total that is wanted of a member whose group the venue works: before the group is there, all of it; then as much
    as the venue lets it be, unless other terms were asked for since. What has ended there is not placed again."""
    intent = record.intent
    assert intent is not None, "only what is wanted is weighed"
    if not sent:
        return intent.order.quantity
    if not record.live_orders:
        return record.cum_qty
    working = record.live_orders[-1]
    if working.generation and working.generation < intent.generation:
        return intent.order.quantity
    return working.quantity + record.cum_qty - working.cum_qty


def quantities_at_risk(mode: OcoMode, orders: Sequence[StandardOrder]) -> list[int]:
    """How much of each order counts for the position at its worst when a group is placed. A leader's followers undo what it
    has done; beyond that they only count with their excess."""
    quantities = [order.quantity for order in orders]
    if mode is not OcoMode.ONE_TRIGGERS_OTHER:
        return quantities
    sums = [max_excess(mode, quantities[: count + 1]) for count in range(len(quantities))]
    return [quantities[0], *(after - before for before, after in pairwise(sums))]
