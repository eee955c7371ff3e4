"""A state as text, for its digest, and where two states part. Called by `State`: equal folds have equal text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


def canonical(value: object) -> str:
    """A value as text that does not depend on the order of sets and mappings."""
    match value:
        case dict():
            return "{" + ",".join(sorted(f"{canonical(key)}:{canonical(item)}" for key, item in value.items())) + "}"
        case set() | frozenset():
            return "{" + ",".join(sorted(map(canonical, value))) + "}"
        case list() | tuple():
            return "[" + ",".join(map(canonical, value)) + "]"
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is not None:
        return type(value).__name__ + canonical({name: getattr(value, name) for name in fields})
    if hasattr(value, "model_dump"):
        return type(value).__name__ + canonical(value.model_dump())
    return repr(value)


class FieldDifference(NamedTuple):
    """The first place where two values part."""

    field: str
    """The way there, as in `records['bid-1'].orders[0].closed`."""
    ours: str
    theirs: str


ABSENT = "<absent>"
NOT_FOLDED = frozenset(
    {
        "_waiters",
        "_serial",
        "_problem",
        "_shown",
        "_indexes",
        "_marked",
        "_claims",
        "_sums",
        "_position",
        "_heard",
        "_ended",
        "_past",
        "_past_groups",
        "keeping",
    }
)
"""What a state holds beside what it folds: who waits, what was last shown, what can be looked up from the rest."""
FIRST = ("_records",)
"""Looked at before the rest: what else parts mostly follows from it."""


def first_field(ours: object, theirs: object, path: str = "") -> FieldDifference | None:
    """Where two values of one kind part; None where they are equal. Mappings and sets have no order."""
    if ours is theirs:
        return None
    if not isinstance(ours, type(theirs)) and not isinstance(theirs, type(ours)):
        return FieldDifference(path, canonical(ours), canonical(theirs))
    if isinstance(ours, set | frozenset):
        assert isinstance(theirs, set | frozenset)
        return first_member(ours, theirs, path)
    our_parts, their_parts = dict(parts(ours)), dict(parts(theirs))
    if not our_parts and not their_parts:
        ours_text, theirs_text = canonical(ours), canonical(theirs)
        return None if ours_text == theirs_text else FieldDifference(path, ours_text, theirs_text)
    for name in [*our_parts, *(their_parts.keys() - our_parts.keys())]:
        whole = f"{path}{name}".lstrip(".")
        if name not in our_parts or name not in their_parts:
            shown = [canonical(found[name]) if name in found else ABSENT for found in (our_parts, their_parts)]
            return FieldDifference(whole, *shown)
        if found := first_field(our_parts[name], their_parts[name], whole):
            return found
    return None


def first_member(
    ours: set[object] | frozenset[object], theirs: set[object] | frozenset[object], path: str
) -> FieldDifference | None:
    """Which member one of two sets lacks."""
    alone = sorted(map(canonical, ours - theirs)), sorted(map(canonical, theirs - ours))
    if not alone[0] and not alone[1]:
        return None
    return FieldDifference(path, *(found[0] if found else ABSENT for found in alone))


def parts(value: object) -> Iterator[tuple[str, object]]:
    """What a value consists of, each with its name behind the value's own; nothing for a plain one."""
    match value:
        case dict():
            yield from ((f"[{key!r}]", value[key]) for key in sorted(value, key=canonical))
            return
        case list() | tuple():
            names = getattr(value, "_fields", range(len(value)))
            yield from (
                (f"[{name}]" if isinstance(name, int) else f".{name}", value[at]) for at, name in enumerate(names)
            )
            return
    fields = getattr(value, "__dataclass_fields__", None) or getattr(type(value), "model_fields", None)
    if fields is not None:
        yield from ((f".{name}", getattr(value, name)) for name in fields)
    elif any(kind.__module__.startswith("projections.") for kind in type(value).__mro__):
        held = vars(value)
        names = [name for name in FIRST if name in held] + [name for name in held if name not in FIRST]
        yield from ((f".{name.lstrip('_')}", held[name]) for name in names if name not in NOT_FOLDED)
