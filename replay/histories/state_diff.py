"""What lies between two points of a log: what appeared, what changed, field by field, and what went.

Called by the CLI (`diff --from A --to B`) and by whoever asks in Python. Reads only; the log is folded once, to the earlier
point and on to the later one. The records that are compared are those that `get` lists. That something was merely confirmed
by the venue is no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from kernel import events
from kernel.log.base import EventLog
from kernel.log.engine.records import event_of
from kernel.models import AccountState, Finding, OrderIntent, OrderState, Position
from kernel.order_spec import Model
from kernel.state import KernelState
from kernel.streams.rehydration import apply_batch, load_streams
from projections.state import State, folded_alone
from replay.formatting.decimals import OPAQUE, Scales
from replay.formatting.events import order_terms
from replay.formatting.output import NONE, Item, Listing, json_line, utc
from replay.formatting.progress_bar import Progress
from replay.log_access.as_of import state_at
from replay.log_access.log_reader import checked_pages, open_for_reading, point, point_of
from replay.views.groups import GroupState
from replay.views.resources import ACCOUNT, FINDINGS, GROUPS, INTENTS, ORDERS, POSITIONS, Subject

COMPARED = (INTENTS, ORDERS, POSITIONS, ACCOUNT, GROUPS, FINDINGS)
RECALLED = (INTENTS, ORDERS, GROUPS)
"""Of those, what a state lets go of when it is over."""
CONFIRMATIONS = frozenset({"last_sync_at", "last_seen_ns", "observed_at_ns"})
"""When the venue last said the same: nothing of what it says."""
NAMED_BY = {"attempts": "position", "venue_orders": "exchange_order_id", "orders": "intent_id"}
"""What tells the entries of a list apart."""
REPORTED_BY = {"attempts": ("kind", "outcome"), "venue_orders": ("ord_status", "cum_qty")}
"""What a whole entry of a list is told by, in a table."""
COLUMNS = ("KIND", "NAME", "CHANGE", "FIELD", "BEFORE", "AFTER")


class ChangeKind(StrEnum):
    """What became of a record."""

    APPEARED = "APPEARED"
    CHANGED = "CHANGED"
    WENT = "WENT"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs; None where it is not there."""

    field: str
    """Its path, as in `status.cum_qty` and `attempts[12].outcome`."""
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class RecordChange:
    """One record that differs."""

    kind: str
    """As `get` names it: intent, order, position, account, group, finding."""
    name: str
    symbol_id: str | None
    before: Model | None
    """None: it appeared."""
    after: Model | None
    """None: it went."""

    @property
    def change(self) -> ChangeKind:
        """What became of it."""
        if self.before is None:
            return ChangeKind.APPEARED
        return ChangeKind.WENT if self.after is None else ChangeKind.CHANGED

    @property
    def fields(self) -> tuple[FieldChange, ...]:
        """The fields that differ, as integers at their scales."""
        return tuple(field_changes(dumped(self.before), dumped(self.after)))


@dataclass(frozen=True, slots=True)
class StateDiff:
    """What lies between two positions."""

    a: int
    b: int
    changes: tuple[RecordChange, ...]
    """By kind; empty when nothing differs."""
    scales: Scales = field(repr=False, compare=False)
    """What the later point knows of markets: for showing decimals."""


async def diff(
    log: EventLog | str,
    a: int | str,
    b: int | str | None = None,
    *,
    exchange_id: str | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> StateDiff:
    """What appeared, changed and went from one point to another (without one, to now), which may be the earlier one.

    A point is a position, or text as a person writes it: a position, or an instant with its zone. Raises what `as_of`
    raises.
    """
    async with open_for_reading(log, exchange_id) as found:
        first = await position_of(found, a)
        second = await (point(found) if b is None else position_of(found, b))
        low, high = sorted((first, second))
        report_progress = scaled_progress(progress, before=0, total=high)
        state = await state_at(found, low, checkpoint_dir=checkpoint_dir, progress=report_progress)
        earlier, let_go = tables(state), state.evicted_count
        streams = await fold_to(found, state, high, progress=scaled_progress(progress, before=low, total=high))
        later = tables(state)
        if let_go:
            earlier = await completed(found, earlier, streams, upto=low)
        if state.evicted_count:
            later = await completed(found, later, streams, upto=high)
    before, after = (earlier, later) if first <= second else (later, earlier)
    return StateDiff(first, second, tuple(changes(before, after)), Scales(state.symbol, state.asset))


async def position_of(log: EventLog, given: int | str) -> int:
    """The position that a point means."""
    return await (point(log, position=given) if isinstance(given, int) else point_of(log, given))


def scaled_progress(progress: Progress | None, *, before: int, total: int) -> Progress | None:
    """Progress of a part of the work, told as progress of the whole."""
    return None if progress is None else lambda done, _: progress(before + done, total)


Tables = Mapping[str, Mapping[str, Subject]]


def tables(state: KernelState) -> Tables:
    """All records of a state, by kind and name. Records are values: they stay as they are when the state goes on."""
    return {item.kind: {found.name: found for found in item.subjects(state)} for item in COMPARED}


async def fold_to(log: EventLog, state: State, position: int, *, progress: Progress | None = None) -> set[str]:
    """Fold a state on to a position; the streams of what that changed."""
    streams: set[str] = set()
    async for rows in checked_pages(log, after=state.position, upto=position, progress=progress):
        streams.update(row.stream_id for row in rows)
        await apply_batch(log, state, [event_of(row) for row in rows])
    return {name for name in streams if name.startswith((events.INTENT_STREAM_PREFIX, events.GROUP_STREAM_PREFIX))}


async def completed(log: EventLog, found: Tables, streams: Iterable[str], *, upto: int) -> Tables:
    """The records of a point, with those of the streams given that were let go by then: read back."""
    made = {kind: dict(records) for kind, records in found.items()}
    for stream_id in streams:
        name = stream_id.partition(":")[2]
        if any(name in found[item.kind] for item in RECALLED):
            continue
        past = folded_alone(await load_streams(log, [stream_id], upto=upto))
        for item in RECALLED:
            made[item.kind].update({each.name: each for each in item.subjects(past) if each.name == name})
    return made


def changes(before: Tables, after: Tables) -> Iterator[RecordChange]:
    """Every record that differs."""
    for kind in before:
        for name in {**before[kind], **after[kind]}:
            old, new = before[kind].get(name), after[kind].get(name)
            symbol_id = next((item.symbol_id for item in (old, new) if item is not None), None)
            found = RecordChange(kind, name, symbol_id, old and old.record, new and new.record)
            if found.change is not ChangeKind.CHANGED or (found.before != found.after and found.fields):
                yield found


def dumped(record: Model | None) -> dict[str, Any]:
    return {} if record is None else record.model_dump(mode="json")


# --------------------------------------------------------------------------------------------------------------- fields
def field_changes(before: Any, after: Any, path: str = "") -> Iterator[FieldChange]:
    """The fields in which two values differ, of their parts where both have some; what is somebody else's is whole."""
    old, new = parts_of(before, path), parts_of(after, path)
    if old is not None and new is not None:
        for name in (*new, *(name for name in old if name not in new)):
            yield from field_changes(old.get(name), new.get(name), path + (name if path else name.removeprefix(".")))
    elif before != after:
        yield FieldChange(path, before, after)


def parts_of(value: Any, path: str) -> dict[str, Any] | None:
    """The parts of a value, by what continues its path; None of one that has none."""
    if isinstance(value, list):
        return {f"[{name}]": item for name, item in zip(names_in(path, value), value, strict=True)}
    if isinstance(value, dict) and path not in OPAQUE:
        return {f".{key}": item for key, item in value.items() if key not in CONFIRMATIONS}
    return None


def names_in(path: str, values: Sequence[Any]) -> list[str]:
    """What tells the entries of a list apart: what they are called where that is unique, else their places."""
    key = NAMED_BY.get(path)
    names = [] if key is None else [str(value[key]) for value in values]
    unique = len(set(names)) == len(values) and all(names)
    return names if unique else [str(place) for place in range(len(values))]


# ------------------------------------------------------------------------------------------------------ what is printed
def listing(found: StateDiff) -> Listing:
    """What differs as it is printed: a line for each field that changed, one for what appeared or went."""
    items = tuple(item_of(change, found.scales) for change in found.changes)
    return Listing("record", COLUMNS, len(COLUMNS), items)


def item_of(found: RecordChange, scales: Scales) -> Item:
    """One record that differs."""
    before, after = (scales.data(dumped(record), found.symbol_id) for record in (found.before, found.after))
    data: dict[str, Any] = {"kind": found.kind, "name": found.name, "change": found.change.value}
    words = (found.kind, found.name, found.change)
    if found.change is not ChangeKind.CHANGED:
        data |= {"before": before or None, "after": after or None}
        report_progress = (
            describe_record(record, scales) if record is not None else NONE for record in (found.before, found.after)
        )
        return Item(found.name, data, ((*words, "-", *report_progress),), kind=found.kind)
    parts = list(field_changes(before, after))
    data["fields"] = [{"field": part.field, "before": part.before, "after": part.after} for part in parts]
    lines = tuple(
        (*words, part.field, *(value_text(part.field, item) for item in (part.before, part.after))) for part in parts
    )
    return Item(found.name, data, lines, kind=found.kind)


def value_text(path: str, value: Any) -> str:
    """A field's value for a table: instants as such, what is whole in a few words."""
    if isinstance(value, int) and path.endswith("_ns"):
        return utc(value)
    if not isinstance(value, dict):
        return NONE if value is None else str(value)
    names = REPORTED_BY.get(path.partition("[")[0], ())
    return " ".join(str(value[name]) for name in names) or json_line(value).strip()


def describe_record(record: Model, scales: Scales) -> str:
    """A whole record in a few words."""
    match record:
        case OrderIntent(order=order):
            return order_terms(order.model_dump(mode="json", exclude_none=True), scales)
        case OrderState(status=status):
            filled = scales.quantity(status.order.symbol_id, status.cum_qty)
            return f"{status.ord_status}, filled {filled}"
        case Position(symbol_id=symbol_id, quantity=quantity):
            return signed_quantity(scales, symbol_id, quantity)
        case AccountState(balances=balances):
            totals = (f"{name} {scales.amount(name, item.total)}" for name, item in balances.items())
            return ", ".join(totals) or "not observed yet"
        case GroupState(mode=mode, orders=orders):
            return f"{mode} of {', '.join(item.intent_id for item in orders)}"
        case Finding(kind=kind, text=text):
            return f"{kind}: {text}"
    raise TypeError(f"a {type(record).__name__} has no words here")


def signed_quantity(scales: Scales, symbol_id: str, quantity: int) -> str:
    """A position's quantity: a short one with its sign."""
    return ("-" if quantity < 0 else "") + scales.quantity(symbol_id, abs(quantity))
