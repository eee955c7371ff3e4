"""Fast copies of frozen values with some fields changed, without validation.

Used throughout the lifecycle, several times per folded event. `replace` does what `dataclasses.replace` does for a
dataclass without slots or `__post_init__`; `copy_with` and `construct` do what pydantic's `model_copy(update=…)` and
`model_construct` do for a model without private attributes; each at a fraction of the cost.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any, TypeVar

from kernel.order_spec import Model

Value = TypeVar("Value")
AnyModel = TypeVar("AnyModel", bound=Model)


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


def construct(kind: type[AnyModel], /, **fields: Any) -> AnyModel:
    """Return a model of these values: every field, in the order of the fields."""
    assert len(fields) == len(kind.__pydantic_fields__), "every field is required"
    return with_dict(kind, fields)


def copy_with(model: AnyModel, /, **changes: Any) -> AnyModel:
    """Return a copy of a model with these fields changed."""
    known = model.__dict__
    assert changes.keys() <= known.keys(), "only fields can change"
    return with_dict(type(model), {**known, **changes})


def with_dict(kind: type[AnyModel], fields: dict[str, Any]) -> AnyModel:
    """Return a model with these fields."""
    model = kind.__new__(kind)
    set_slot = object.__setattr__
    set_slot(model, "__dict__", fields)
    set_slot(model, "__pydantic_fields_set__", set(fields))
    set_slot(model, "__pydantic_extra__", None)
    set_slot(model, "__pydantic_private__", None)
    return model
