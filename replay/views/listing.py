"""The listings of `get`: intents, orders, fills, positions, the account, symbols, groups, findings, external orders.

Called by the CLI and by scripts. Reads a state (current or as of a point) and the log's fills. A watch lists at a position
and continues from the next one, without a gap.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from kernel import events
from kernel.errors import NotFoundError, ValidationError, Violation
from kernel.events.base import intent_id_of
from kernel.groups import Group
from kernel.state import KernelState
from kernel.streams.fills import fills
from kernel.streams.rehydration import ensure_loaded
from kernel.values import as_json
from replay.formatting.output import Item, Listing
from replay.log_access.state_source import StateSource
from replay.views.resources import (
    FILLS,
    GROUPS,
    INTENTS,
    ORDERS,
    RESOURCES,
    RenderContext,
    Resource,
    Subject,
    fill_subject,
    group_subject,
    intent_subject,
    order_subject,
    render_context,
)

if TYPE_CHECKING:
    from kernel import EventSourcedKernel


class ResourceQuery(msgspec.Struct, frozen=True):
    """Filters of a list."""

    resource: Resource
    names: tuple[str, ...] = ()
    """Only these, all of which must exist; empty: all."""
    owner: str | None = None
    """Only records of this owner's intents."""
    symbol_id: str | None = None
    """Only records of this symbol."""


def query_of(words: Sequence[str], *, owner: str | None = None, symbol_id: str | None = None) -> ResourceQuery:
    """Parse `TYPE [NAME…]` or `TYPE/NAME…`. Raises `NotFoundError` and `ValidationError`."""
    first, *rest = words
    if "/" in first:
        pairs = [word.partition("/")[::2] for word in words]
        resources = [resource_named(kind) for kind, _ in pairs]
        if any(item is not resources[0] for item in resources) or not all(name for _, name in pairs):
            limit = "TYPE/NAME, each with the same TYPE"
            raise ValidationError(violations=[Violation("resources", "form", limit, " ".join(words))])
        query = ResourceQuery(resources[0], tuple(name for _, name in pairs), owner, symbol_id)
    else:
        query = ResourceQuery(resource_named(first), tuple(rest), owner, symbol_id)
    asked = {name for name, value in (("owner", owner), ("symbol", symbol_id)) if value is not None}
    if wrong := asked - query.resource.filters:
        limit = ", ".join(sorted(query.resource.filters)) or "none"
        text = "{constraint} cannot be filtered by {value}; filters: {limit}"
        raise ValidationError(violations=[Violation("filter", query.resource.kind, limit, ", ".join(wrong), text)])
    return query


def streams_of(query: ResourceQuery) -> Sequence[str]:
    """Return the intents and groups whose streams are all that a query needs; none if it needs more."""
    return query.names if query.resource in (INTENTS, ORDERS, GROUPS, FILLS) else ()


def resource_named(word: str) -> Resource:
    """Return the type with this plural, singular or short name, in any case. Raises `NotFoundError`."""
    for resource in RESOURCES.values():
        if word.lower() in resource.aliases:
            return resource
    raise NotFoundError(f"there is no resource type {word!r}: use one of {', '.join(RESOURCES)}")


async def listing(source: StateSource, query: ResourceQuery) -> Listing:
    """List what matches a query, now or as of a point. Raises `NotFoundError` with all names that do not exist."""
    found, _ = await _listed(source, query)
    return found


async def watch(kernel: EventSourcedKernel, query: ResourceQuery) -> AsyncIterator[Listing]:
    """Yield what matches a query now, then each new or changed match as events arrive."""
    first, position = await _listed(kernel, query)
    yield first
    shown = {item.name: item.data for item in first.items}
    async for batch in kernel.log.tail(position):
        await kernel.state.reached(batch[-1].position)
        context = render_context(kernel.state, kernel.now_ns)
        touched = _touched(query, context.state, batch)
        others = await _of_others(kernel, query, touched)
        owned = [subject for subject in touched if subject.intent_id not in others]
        found = [item_of(query.resource, context, subject) for subject in owned if _fits(query, subject)]
        items = [item for item in found if shown.get(item.name) != item.data]
        shown |= {item.name: item.data for item in items}
        if items:
            yield replace(first, items=tuple(items), single=False)


async def _listed(source: StateSource, query: ResourceQuery) -> tuple[Listing, int]:
    state, position = source.state, source.state.position
    await ensure_loaded(source.log, state, *query.names)
    subjects: Iterable[Subject]
    if query.resource is FILLS:
        subjects = map(fill_subject, await _fills(source, query))
    else:
        subjects = chain(query.resource.subjects(state), _named(query, state))
    if query.owner is not None:
        subjects = [*subjects]
    others = await _of_others(source, query, subjects)
    context = render_context(state, source.now_ns)
    known: set[str] = set()
    items = []
    for subject in subjects:  # rendered one by one, while the state still holds it
        first = query.resource is FILLS or subject.name not in known
        if first and _fits(query, subject) and subject.intent_id not in others:
            items.append(item_of(query.resource, context, subject))
        known.add(subject.name)
    _check_names(query, known, state)
    resource = query.resource
    single = len(query.names) == 1 and [item.name for item in items] == list(query.names)
    return Listing(resource.kind, resource.columns, resource.narrow, tuple(items), single), position


async def _fills(source: StateSource, query: ResourceQuery) -> list[events.OrderFilled]:
    """Return all fills, or those of the intents named; a name may also be the key of a fill."""
    state, found = source.state, list[events.OrderFilled]()
    are_intents = query.names and all(state.record(name).version for name in query.names)
    for intent_id in dict.fromkeys(query.names) if are_intents else (None,):
        found += await fills(source.log, intent_id=intent_id, symbol_id=None, after=None, upto=state.position)
    return sorted(found, key=lambda fill: fill.position)


def _named(query: ResourceQuery, state: KernelState) -> Iterator[Subject]:
    """Yield the records that the query names, also evicted ones: a plain list has only those in memory."""
    for name in query.names:
        if query.resource is INTENTS and (intent := state.intent(name)) is not None:
            yield intent_subject(intent)
        if query.resource is ORDERS and (order := state.order_state(name)) is not None:
            yield order_subject(order)
        if query.resource is GROUPS and (group := state.group(name)) is not None:
            yield group_subject(state, group)


def item_of(resource: Resource, context: RenderContext, subject: Subject) -> Item:
    data = context.scales.data(as_json(subject.record), subject.symbol_id)
    if isinstance(subject.record, events.BaseEvent):
        data = {"position": subject.record.position, "recorded_at_ns": subject.record.recorded_at_ns, **data}
    return Item(subject.name, data, tuple(resource.lines(context, subject.record)))


def _fits(query: ResourceQuery, subject: Subject) -> bool:
    if query.names and not {subject.name, subject.intent_id if query.resource is FILLS else None} & {*query.names}:
        return False
    return query.symbol_id in (None, subject.symbol_id)


async def _of_others(source: StateSource, query: ResourceQuery, subjects: Iterable[Subject]) -> set[str | None]:
    """With an owner filter: those of the subjects' intents that belong to nobody or to somebody else."""
    if query.owner is None:
        return set()
    intent_ids = {subject.intent_id for subject in subjects}
    return {name for name in intent_ids if name is None or await _owner(source, name) != query.owner}


async def _owner(source: StateSource, intent_id: str) -> str | None:
    """Return an intent's owner, its last one if it was deleted; None if there is no such intent."""
    state, owner = source.state, None
    if (intent := state.intent(intent_id)) is not None:
        return intent.owner
    for event in await source.log.read_stream(events.intent_stream(intent_id)):
        if event.position <= state.position and isinstance(event, events.IntentCreated | events.IntentModified):
            owner = event.intent.owner
    return owner


def _check_names(query: ResourceQuery, known: set[str], state: KernelState) -> None:
    if query.resource is FILLS:  # an intent id names its fills; there may be none yet
        known |= {name for name in query.names if state.record(name).version}
    if missing := [name for name in query.names if name not in known]:
        hint = " (nothing has been sent for it yet)" if query.resource is ORDERS and state.intent(missing[0]) else ""
        kind = "external order" if query.resource.kind == "external" else query.resource.kind
        raise NotFoundError(f"{kind} {', '.join(missing)} not found{hint}")


def _touched(query: ResourceQuery, state: KernelState, batch: Sequence[events.BaseEvent]) -> Iterable[Subject]:
    if query.resource is FILLS:
        return [fill_subject(event) for event in batch if isinstance(event, events.OrderFilled)]
    if query.resource is GROUPS:
        return [group_subject(state, group) for group in _touched_groups(state, batch)]
    if query.resource not in (INTENTS, ORDERS):
        return query.resource.subjects(state)
    subject = intent_subject if query.resource is INTENTS else order_subject
    records = [
        state.intent(intent_id) if query.resource is INTENTS else state.order_state(intent_id)
        for intent_id in dict.fromkeys(map(intent_id_of, batch))
        if intent_id is not None
    ]
    return [subject(record) for record in records if record is not None]


def _touched_groups(state: KernelState, batch: Sequence[events.BaseEvent]) -> Iterable[Group]:
    found = (state.group_of(intent_id) for intent_id in map(intent_id_of, batch) if intent_id is not None)
    return {group.group_id: group for group in found if group is not None}.values()
