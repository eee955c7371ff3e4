"""Fast copies of frozen dataclasses with some fields changed.

Used throughout the lifecycle, several times per folded event. `replace` does what `dataclasses.replace` does for a
dataclass without slots or `__post_init__`, at a fraction of the cost. Structs have `msgspec.structs.replace`.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any, TypeVar

Value = TypeVar("Value")


def replace(value: Value, /, **changes: object) -> Value:
    """Return a copy of a dataclass instance with these fields changed."""
    kind: Any = type(value)
    copied = value.__dict__.copy()  # which shares its keys with the original, as the dicts of instances do
    for name in cached_names(kind):
        copied.pop(name, None)
    copied.update(changes)
    assert len(copied) == len(kind.__dataclass_fields__), "only fields can change"
    copy: Value = object.__new__(kind)
    object.__setattr__(copy, "__dict__", copied)
    return copy


def assign_fresh(fresh: object, /, **changes: object) -> None:
    """Change fields of a value that `replace` has just returned and nobody else holds; saves a copy.

    No cached property that depends on these fields may have been read.
    """
    known = fresh.__dict__
    assert changes.keys() <= known.keys(), "only fields can change"
    known.update(changes)


@cache
def cached_names(kind: type[object]) -> tuple[str, ...]:
    """Return the names of a class's cached properties, which a copy must not take over."""
    return tuple(name for name in dir(kind) if isinstance(getattr(kind, name, None), cached_property))
