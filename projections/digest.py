"""A state as text, for its digest. Called by `State`: equal folds have equal text."""

from __future__ import annotations


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
