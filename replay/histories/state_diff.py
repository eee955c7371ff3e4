"""Compare the states at two positions of a log: records that appeared, changed (field by field) or went.

Called by `orderctl diff --from A --to B` and by library users. The log is folded once, to the earlier position and on to
the later one. The compared records are those of `orderctl get`. A mere confirmation by the venue is not a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from kernel import events
from kernel.log.base import EventLog
from kernel.log.engine.records import event_of
from kernel.models import AccountState, Finding, OrderIntent, OrderState, Position
from kernel.state import KernelState
from kernel.streams.rehydration import apply_batch, load_streams
from kernel.values import Value, as_json
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
EVICTED = (INTENTS, ORDERS, GROUPS)
"""Records that a state evicts once they are terminal."""
CONFIRMATIONS = frozenset({"last_sync_at", "last_seen_ns", "observed_at_ns"})
"""Times of confirmations by the venue, which are not compared."""
NAMED_BY = {"attempts": "position", "venue_orders": "exchange_order_id", "orders": "intent_id"}
"""Key of a list's entries."""
REPORTED_BY = {"attempts": ("kind", "outcome"), "venue_orders": ("ord_status", "cum_qty")}
"""Fields that describe a whole entry in a table."""
COLUMNS = ("KIND", "NAME", "CHANGE", "FIELD", "BEFORE", "AFTER")


class ChangeKind(StrEnum):
    """The kind of a change."""

    APPEARED = "APPEARED"
    CHANGED = "CHANGED"
    WENT = "WENT"


class FieldChange(msgspec.Struct, frozen=True):
    """A field that differs; None is a missing value."""

    field: str
    """Path, as in `status.cum_qty` and `attempts[12].outcome`."""
    before: Any
    after: Any


class RecordChange(msgspec.Struct, frozen=True):
    """A record that differs."""

    kind: str
    """As in `orderctl get`: intent, order, position, account, group, finding."""
    name: str
    symbol_id: str | None
    before: Value | None
    """None: it appeared."""
    after: Value | None
    """None: it went."""

    @property
    def change(self) -> ChangeKind:
        if self.before is None:
            return ChangeKind.APPEARED
        return ChangeKind.WENT if self.after is None else ChangeKind.CHANGED

    @property
    def fields(self) -> tuple[FieldChange, ...]:
        """The fields that differ, with scaled integers."""
        return tuple(field_changes(dumped(self.before), dumped(self.after)))


@dataclass(frozen=True, slots=True)
class StateDiff:
    """The differences between two positions."""

    a: int
    b: int
    changes: tuple[RecordChange, ...]
    """By kind of record."""
    scales: Scales = field(repr=False, compare=False)
    """Scales known at the later position."""


async def diff(
    log: EventLog | str,
    a: int | str,
    b: int | str | None = None,
    *,
    exchange_id: str | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> StateDiff:
    """Compare the states at two points of a log.

    Args:
        log: An open log or its URL.
        a: A position, or text with a position or a timestamp with a time zone.
        b: The second point, which may be earlier; default: the head.
        exchange_id: Expected owner of the log.
        checkpoint_dir: State checkpoints to start from.
        progress: Called with the position reached and the last position.

    Raises:
        ValidationError, NotFoundError, IntegrityError: As `as_of`.
    """
    async with open_for_reading(log, exchange_id) as found:
        first = await position_of(found, a)
        second = await (point(found) if b is None else position_of(found, b))
        low, high = sorted((first, second))
        report_progress = scaled_progress(progress, before=0, total=high)
        state = await state_at(found, low, checkpoint_dir=checkpoint_dir, progress=report_progress)
        earlier, has_evicted = tables(state), bool(state.evicted_count)
        streams = await fold_to(found, state, high, progress=scaled_progress(progress, before=low, total=high))
        later = tables(state)
        if has_evicted:
            earlier = await completed(found, earlier, streams, upto=low)
        if state.evicted_count:
            later = await completed(found, later, streams, upto=high)
    before, after = (earlier, later) if first <= second else (later, earlier)
    return StateDiff(first, second, tuple(changes(before, after)), Scales(state.symbol, state.asset))


async def position_of(log: EventLog, text: int | str) -> int:
    return await (point(log, position=text) if isinstance(text, int) else point_of(log, text))


def scaled_progress(progress: Progress | None, *, before: int, total: int) -> Progress | None:
    """Report the progress of a part as progress of the whole."""
    return None if progress is None else lambda done, _: progress(before + done, total)


Tables = Mapping[str, Mapping[str, Subject]]


def tables(state: KernelState) -> Tables:
    """Return all records of a state by kind and name. They are immutable, so later events do not change them."""
    return {item.kind: {found.name: found for found in item.subjects(state)} for item in COMPARED}


async def fold_to(log: EventLog, state: State, position: int, *, progress: Progress | None = None) -> set[str]:
    """Fold a state on to a position; return the streams of intents and groups that changed."""
    streams: set[str] = set()
    async for rows in checked_pages(log, after=state.position, upto=position, progress=progress):
        streams.update(row.stream_id for row in rows)
        await apply_batch(log, state, [event_of(row) for row in rows])
    return {name for name in streams if name.startswith((events.INTENT_STREAM_PREFIX, events.GROUP_STREAM_PREFIX))}


async def completed(log: EventLog, found: Tables, streams: Iterable[str], *, upto: int) -> Tables:
    """Add the evicted records of these streams, read from the log."""
    records = {kind: dict(known) for kind, known in found.items()}
    for stream_id in streams:
        name = stream_id.partition(":")[2]
        if any(name in found[item.kind] for item in EVICTED):
            continue
        state = folded_alone(await load_streams(log.read_stream, [stream_id], upto=upto))
        for item in EVICTED:
            records[item.kind].update({each.name: each for each in item.subjects(state) if each.name == name})
    return records


def changes(before: Tables, after: Tables) -> Iterator[RecordChange]:
    for kind in before:
        for name in {**before[kind], **after[kind]}:
            old, new = before[kind].get(name), after[kind].get(name)
            symbol_id = next((item.symbol_id for item in (old, new) if item is not None), None)
            found = RecordChange(kind, name, symbol_id, old and old.record, new and new.record)
            if found.change is not ChangeKind.CHANGED or (found.before != found.after and found.fields):
                yield found


def dumped(record: Value | None) -> dict[str, Any]:
    return {} if record is None else as_json(record)


def field_changes(before: Any, after: Any, path: str = "") -> Iterator[FieldChange]:
    """Yield the fields in which two values differ, recursively. Opaque values are compared as a whole."""
    old, new = parts_of(before, path), parts_of(after, path)
    if old is not None and new is not None:
        for name in (*new, *(name for name in old if name not in new)):
            yield from field_changes(old.get(name), new.get(name), path + (name if path else name.removeprefix(".")))
    elif before != after:
        yield FieldChange(path, before, after)


def parts_of(value: Any, path: str) -> dict[str, Any] | None:
    """Return the parts of a value by their path suffix; None for a value without parts."""
    if isinstance(value, list):
        return {f"[{name}]": item for name, item in zip(names_in(path, value), value, strict=True)}
    if isinstance(value, dict) and path not in OPAQUE:
        return {f".{key}": item for key, item in value.items() if key not in CONFIRMATIONS}
    return None


def names_in(path: str, values: Sequence[Any]) -> list[str]:
    """Return the keys of a list's entries: their names if unique, else their indexes."""
    key = NAMED_BY.get(path)
    names = [] if key is None else [str(value[key]) for value in values]
    unique = len(set(names)) == len(values) and all(names)
    return names if unique else [str(index) for index in range(len(values))]


def listing(found: StateDiff) -> Listing:
    """Return a line for each changed field, and one for each record that appeared or went."""
    items = tuple(item_of(change, found.scales) for change in found.changes)
    return Listing("record", COLUMNS, len(COLUMNS), items)


def item_of(found: RecordChange, scales: Scales) -> Item:
    before, after = (scales.data(dumped(record), found.symbol_id) for record in (found.before, found.after))
    data: dict[str, Any] = {"kind": found.kind, "name": found.name, "change": found.change.value}
    words = (found.kind, found.name, found.change)
    if found.change is not ChangeKind.CHANGED:
        data |= {"before": before or None, "after": after or None}
        texts = (
            describe_record(record, scales) if record is not None else NONE for record in (found.before, found.after)
        )
        return Item(found.name, data, ((*words, "-", *texts),), kind=found.kind)
    parts = list(field_changes(before, after))
    data["fields"] = [{"field": part.field, "before": part.before, "after": part.after} for part in parts]
    lines = tuple(
        (*words, part.field, *(value_text(part.field, item) for item in (part.before, part.after))) for part in parts
    )
    return Item(found.name, data, lines, kind=found.kind)


def value_text(path: str, value: Any) -> str:
    if isinstance(value, int) and path.endswith("_ns"):
        return utc(value)
    if not isinstance(value, dict):
        return NONE if value is None else str(value)
    names = REPORTED_BY.get(path.partition("[")[0], ())
    return " ".join(str(value[name]) for name in names) or json_line(value).strip()


def describe_record(record: Value, scales: Scales) -> str:
    match record:
        case OrderIntent(order=order):
            return order_terms(msgspec.to_builtins(order), scales)
        case OrderState(status=status):
            filled = scales.quantity(status.order.symbol_id, status.cum_qty)
            return f"{status.ord_status}, filled {filled}"
        case Position(symbol_id=symbol_id, quantity=quantity):
            return ("-" if quantity < 0 else "") + scales.quantity(symbol_id, abs(quantity))
        case AccountState(balances=balances):
            totals = (f"{name} {scales.amount(name, item.total)}" for name, item in balances.items())
            return ", ".join(totals) or "not observed yet"
        case GroupState(mode=mode, orders=orders):
            return f"{mode} of {', '.join(item.intent_id for item in orders)}"
        case Finding(kind=kind, text=text):
            return f"{kind}: {text}"
    raise TypeError(f"no description for {type(record).__name__}")
