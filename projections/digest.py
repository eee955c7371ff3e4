"""A state as text, for its digest, and where two states part. Called by `State`: equal folds have equal text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cache, lru_cache
from typing import Any, NamedTuple

from pydantic import BaseModel


def canonical(value: object, *, named: bool = True) -> str:
    """A value as text that does not depend on the order of sets and mappings. `named`: with models' class names."""
    kind: Any = type(value)
    return writer(kind)(value, named)


@cache
def writer(kind: Any) -> Callable[[Any, bool], str]:
    """What writes values of a type as text. Looked for once: a state consists of many values of few types."""
    if issubclass(kind, Enum):
        return lambda value, named: member_text(value)
    if issubclass(kind, dict):
        return mapping_text
    if issubclass(kind, set | frozenset):
        return lambda value, named: "{" + ",".join(sorted([canonical(item, named=named) for item in value])) + "}"
    if issubclass(kind, list | tuple):
        return sequence_text
    if hasattr(kind, "__dataclass_fields__"):
        fields = in_order(kind.__dataclass_fields__)
        return lambda value, named: kind.__name__ + fields_text(value, fields, named=True)
    if issubclass(kind, BaseModel):
        return model_writer(kind)
    return lambda value, named: repr(value)


def model_writer(kind: type[BaseModel]) -> Callable[[Any, bool], str]:
    """A model's text is what it dumps: the models in it are told of without names."""
    if kind.__pydantic_decorators__.field_serializers:
        return lambda value, named: named * kind.__name__ + canonical(value.model_dump())
    fields = in_order(kind.__pydantic_fields__)
    return lambda value, named: named * kind.__name__ + fields_text(value, fields, named=False)


def sequence_text(value: Sequence[object], named: bool) -> str:
    items = [repr(item) if type(item) in PLAIN else canonical(item, named=named) for item in value]
    return "[" + ",".join(items) + "]"


def mapping_text(value: Mapping[object, object], named: bool) -> str:
    items = [f"{canonical(key, named=named)}:{canonical(item, named=named)}" for key, item in value.items()]
    return "{" + ",".join(sorted(items)) + "}"


@lru_cache(maxsize=None, typed=True)  # members of two enums may be equal
def member_text(member: Enum) -> str:
    """A member of an enum as text: there are few of them, each told of often."""
    return repr(member)


Fields = tuple[tuple[str, str], ...]
"""Names of fields in the order of their text, each behind what stands before its value."""


def in_order(names: Iterable[str]) -> Fields:
    """The fields of a class, as a mapping by their names would have them."""
    return tuple(sorted((f"{name!r}:", name) for name in names))


def fields_text(value: object, fields: Fields, *, named: bool) -> str:
    """The fields of a value as text."""
    found = [
        f"{label}{item!r}" if type(item := getattr(value, name)) in PLAIN else label + canonical(item, named=named)
        for label, name in fields
    ]
    return "{" + ",".join(found) + "}"


PLAIN = frozenset({str, int, bool, type(None)})
"""Types of most fields."""


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
        case Mapping():
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
