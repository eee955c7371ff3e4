"""A state as canonical bytes, for its digest, and the first difference between two states.

Equal folds give equal bytes, whatever the order of sets and mappings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from kernel.lifecycle.orders.shared_sequence import SharedSequence, as_list

encoded = msgspec.json.Encoder(enc_hook=as_list, order="deterministic").encode
"""Returns the canonical bytes of a value; defaults of values and facts are left out."""


class FieldDifference(NamedTuple):
    """The first place where two values differ."""

    field: str
    """Its path, such as `records['bid-1'].orders[0].closed`."""
    ours: str
    theirs: str


ABSENT = "<absent>"
NOT_FOLDED = frozenset({
    "derived", "indexes", "_marked", "_open_risks", "_sums", "position", "terminal", "cached",
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
        return FieldDifference(path, repr(ours), repr(theirs))
    if isinstance(ours, set | frozenset):
        assert isinstance(theirs, set | frozenset)
        return first_member(ours, theirs, path)
    our_parts, their_parts = dict(parts(ours)), dict(parts(theirs))
    if not our_parts and not their_parts:
        ours_text, theirs_text = repr(ours), repr(theirs)
        return None if ours_text == theirs_text else FieldDifference(path, ours_text, theirs_text)
    for name in [*our_parts, *(their_parts.keys() - our_parts.keys())]:
        whole = f"{path}{name}".lstrip(".")
        if name not in our_parts or name not in their_parts:
            shown = [repr(found[name]) if name in found else ABSENT for found in (our_parts, their_parts)]
            return FieldDifference(whole, *shown)
        if found := first_field(our_parts[name], their_parts[name], whole):
            return found
    return None


def first_member(
    ours: set[object] | frozenset[object], theirs: set[object] | frozenset[object], path: str
) -> FieldDifference | None:
    """The first member that only one of two sets has, or None."""
    alone = sorted(map(repr, ours - theirs)), sorted(map(repr, theirs - ours))
    if not alone[0] and not alone[1]:
        return None
    return FieldDifference(path, *(found[0] if found else ABSENT for found in alone))


def parts(value: object) -> Iterator[tuple[str, object]]:
    """The parts of a value, each with the path from the value to it; nothing for a plain value."""
    match value:
        case Mapping():
            yield from ((f"[{key!r}]", value[key]) for key in sorted(value, key=repr))
            return
        case list() | tuple() | SharedSequence():
            names = getattr(value, "_fields", range(len(value)))
            yield from (
                (f"[{name}]" if isinstance(name, int) else f".{name}", item)
                for name, item in zip(names, value, strict=True)
            )
            return
    if fields := getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", None):
        yield from ((f".{name}", getattr(value, name)) for name in fields)
    elif any(kind.__module__.startswith("projections.") for kind in type(value).__mro__):
        held = vars(value)
        names = [name for name in FIRST if name in held] + [name for name in held if name not in FIRST]
        yield from ((f".{name.lstrip('_')}", held[name]) for name in names if name not in NOT_FOLDED)
