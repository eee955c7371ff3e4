"""A state as canonical text, and the first difference between two states.

Called by `State` for its digest: equal folds give equal text, whatever the order of sets and mappings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

from kernel.lifecycle.immutable import SharedSequence


def canonical(value: object) -> str:
    """The text of a value."""
    kind: Any = type(value)
    return writer(kind)(value)


Writer = Callable[[Any], str]


@cache
def writer(kind: Any) -> Writer:
    """The writer of a type. Cached: a state consists of many values of few types."""
    if issubclass(kind, Enum):
        return {member: repr(member) for member in kind}.__getitem__
    if issubclass(kind, dict):
        return mapping_text
    if issubclass(kind, set | frozenset):
        return lambda value: "{" + ",".join(sorted(texts(value))) + "}"
    if issubclass(kind, list | tuple | SharedSequence):
        return lambda value: "[" + ",".join(texts(value)) + "]"
    if (fields := field_names(kind)) is not None:
        return fields_writer(kind.__name__, fields)
    return repr


def field_names(kind: Any) -> Iterable[str] | None:
    """The fields of a dataclass or a struct; None for any other type."""
    found: Iterable[str] | None = getattr(kind, "__struct_fields__", None) or getattr(
        kind, "__dataclass_fields__", None
    )
    return found


def fields_writer(name: str, fields: Iterable[str]) -> Writer:
    """Writes these fields like a mapping from their names."""
    labels = sorted((f"{field!r}:", field) for field in fields)
    if len(labels) < 2:  # `attrgetter` of one name returns no tuple
        return lambda value: name + mapping_text({field: getattr(value, field) for _, field in labels})
    values_of: Callable[[Any], tuple[Any, ...]] = attrgetter(*(field for _, field in labels))

    @cache
    def form(kinds: tuple[type, ...]) -> tuple[str, list[tuple[int, Writer]]]:
        """A format string for values of these types, and the writers of those that are not plain."""
        gaps = ["%r" if kind in PLAIN else "%s" for kind in kinds]
        others = [(at, writer(kind)) for at, kind in enumerate(kinds) if kind not in PLAIN]
        return name + "{" + ",".join(label + gap for (label, _), gap in zip(labels, gaps, strict=True)) + "}", others

    def fields_text(value: Any) -> str:
        values = values_of(value)
        kinds: Any = tuple(map(type, values))
        text, others = form(kinds)
        filled = [*values]
        for at, write in others:
            filled[at] = write(values[at])
        return text % (*filled,)

    return fields_text


def texts(values: Iterable[object]) -> list[str]:
    return [repr(item) if type(item) in PLAIN else canonical(item) for item in values]


def mapping_text(value: Mapping[object, object]) -> str:
    return "{" + ",".join(sorted(f"{canonical(key)}:{canonical(item)}" for key, item in value.items())) + "}"


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
    if (fields := field_names(type(value))) is not None:
        yield from ((f".{name}", getattr(value, name)) for name in fields)
    elif any(kind.__module__.startswith("projections.") for kind in type(value).__mro__):
        held = vars(value)
        names = [name for name in FIRST if name in held] + [name for name in held if name not in FIRST]
        yield from ((f".{name.lstrip('_')}", held[name]) for name in names if name not in NOT_FOLDED)
