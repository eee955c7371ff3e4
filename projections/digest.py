"""A state as canonical text, and the first difference between two states.

Called by `State` for its digest: equal folds give equal text, whatever the order of sets and mappings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

from pydantic import BaseModel

from kernel.lifecycle.immutable import SharedSequence


def canonical(value: object, *, named: bool = True) -> str:
    """The text of a value; `named` adds the class names of models."""
    kind: Any = type(value)
    return writer(kind)(value, named)


Writer = Callable[[Any, bool], str]


@cache
def writer(kind: Any) -> Writer:
    """The writer of a type. Cached: a state consists of many values of few types."""
    if issubclass(kind, Enum):
        members = {member: repr(member) for member in kind}
        return lambda value, named: members[value]
    if issubclass(kind, dict):
        return mapping_text
    if issubclass(kind, set | frozenset):
        return lambda value, named: "{" + ",".join(sorted(texts(value, named))) + "}"
    if issubclass(kind, list | tuple | SharedSequence):
        return lambda value, named: "[" + ",".join(texts(value, named)) + "]"
    if hasattr(kind, "__dataclass_fields__"):
        return dataclass_writer(kind)
    if issubclass(kind, BaseModel):
        return model_writer(kind)
    return lambda value, named: repr(value)


def dataclass_writer(kind: Any) -> Writer:
    """A dataclass is always named, whatever contains it."""
    name, fields = kind.__name__, fields_writer(kind.__dataclass_fields__)
    return lambda value, named: name + fields(value, True)


def model_writer(kind: type[BaseModel]) -> Writer:
    """A model is written as its dump: models inside it have no names."""
    name = kind.__name__
    if kind.__pydantic_decorators__.field_serializers:
        return lambda value, named: named * name + canonical(value.model_dump())
    fields = fields_writer(kind.__pydantic_fields__)
    return lambda value, named: named * name + fields(value, False)


def fields_writer(names: Iterable[str]) -> Writer:
    """Writes these fields like a mapping from their names."""
    labels = sorted((f"{name!r}:", name) for name in names)
    if len(labels) < 2:  # `attrgetter` of one name returns no tuple
        return lambda value, named: mapping_text({name: getattr(value, name) for _, name in labels}, named)
    values_of: Callable[[Any], tuple[Any, ...]] = attrgetter(*(name for _, name in labels))

    @cache
    def form(kinds: tuple[type, ...]) -> tuple[str, list[tuple[int, Writer]]]:
        """A format string for values of these types, and the writers of those that are not plain."""
        gaps = ["%r" if kind in PLAIN else "%s" for kind in kinds]
        others = [(at, writer(kind)) for at, kind in enumerate(kinds) if kind not in PLAIN]
        return "{" + ",".join(label + gap for (label, _), gap in zip(labels, gaps, strict=True)) + "}", others

    def fields_text(value: Any, named: bool) -> str:
        values = values_of(value)
        kinds: Any = tuple(map(type, values))
        text, others = form(kinds)
        filled = [*values]
        for at, write in others:
            filled[at] = write(values[at], named)
        return text % (*filled,)

    return fields_text


def texts(values: Iterable[object], named: bool) -> list[str]:
    return [repr(item) if type(item) in PLAIN else canonical(item, named=named) for item in values]


def mapping_text(value: Mapping[object, object], named: bool) -> str:
    items = [f"{canonical(key, named=named)}:{canonical(item, named=named)}" for key, item in value.items()]
    return "{" + ",".join(sorted(items)) + "}"


PLAIN = frozenset({str, int, bool, type(None)})


class FieldDifference(NamedTuple):
    """The first place where two values differ."""

    field: str
    """Its path, such as `records['bid-1'].orders[0].closed`."""
    ours: str
    theirs: str


ABSENT = "<absent>"
NOT_FOLDED = frozenset({
    "derived", "indexes", "_marked", "_open_risks", "_sums", "position", "last_positions", "terminal", "cached",
    "cached_groups", "retention",
})  # fmt: skip
"""Attributes that are caches, lookups or settings, not folded from events."""
FIRST = ("records",)
"""Compared first: other differences mostly follow from it."""


def first_field(ours: object, theirs: object, path: str = "") -> FieldDifference | None:
    """The first difference between two values of one type, or None. Mappings and sets have no order."""
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
    """The first member that only one of two sets has, or None."""
    alone = sorted(map(canonical, ours - theirs)), sorted(map(canonical, theirs - ours))
    if not alone[0] and not alone[1]:
        return None
    return FieldDifference(path, *(found[0] if found else ABSENT for found in alone))


def parts(value: object) -> Iterator[tuple[str, object]]:
    """The parts of a value, each with the path from the value to it; nothing for a plain value."""
    match value:
        case Mapping():
            yield from ((f"[{key!r}]", value[key]) for key in sorted(value, key=canonical))
            return
        case list() | tuple() | SharedSequence():
            names = getattr(value, "_fields", range(len(value)))
            yield from (
                (f"[{name}]" if isinstance(name, int) else f".{name}", item)
                for name, item in zip(names, value, strict=True)
            )
            return
    fields = getattr(value, "__dataclass_fields__", None) or getattr(type(value), "model_fields", None)
    if fields is not None:
        yield from ((f".{name}", getattr(value, name)) for name in fields)
    elif any(kind.__module__.startswith("projections.") for kind in type(value).__mro__):
        held = vars(value)
        names = [name for name in FIRST if name in held] + [name for name in held if name not in FIRST]
        yield from ((f".{name.lstrip('_')}", held[name]) for name in names if name not in NOT_FOLDED)
