"""Changing a frozen value: the same, but for some fields.

Used throughout the lifecycle, several times for each event that is folded. It does what `dataclasses.replace` does for a
plain dataclass without slots or `__post_init__`, at a fraction of the cost; cached properties are not carried over.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any, TypeVar

Value = TypeVar("Value")


def replace(value: Value, **changes: object) -> Value:
    """A copy with other values in these fields."""
    kind: Any = type(value)
    assert changes.keys() <= kind.__dataclass_fields__.keys(), "only fields can change"
    copied = value.__dict__.copy()  # which shares its keys with the original, as the dicts of instances do
    for name in cached_names(kind):
        copied.pop(name, None)
    copied.update(changes)
    copy: Value = object.__new__(kind)
    object.__setattr__(copy, "__dict__", copied)
    return copy


@cache
def cached_names(kind: type[object]) -> tuple[str, ...]:
    """The cached properties of a class: what follows from its fields, and is kept beside them once it was asked for."""
    return tuple(name for name in dir(kind) if isinstance(getattr(kind, name, None), cached_property))
