"""`Value`: the base of everything that is stored, folded or exchanged with a venue; and the constraints of its fields.

A value is a frozen `msgspec.Struct`. Its constructor checks nothing: what comes from outside passes `kernel.values.edge`,
which lists every violation, and the log decodes strictly.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from enum import Enum
from functools import cache
from typing import Any, Self, dataclass_transform

import msgspec
from msgspec import structs

from kernel.errors import Violation


class Constraint(msgspec.Struct, frozen=True):
    """The constraint of a scalar for pydantic, beside `msgspec.Meta`, which cannot express all of it."""

    strict: bool | None = None
    """Take no text as a number."""
    ge: int | None = None
    gt: int | None = None
    le: int | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {**handler(source), **{name: limit for name, limit in structs.asdict(self).items() if limit is not None}}


class ValueMeta(msgspec.StructMeta):
    """Makes fields keyword-only, and defaults other than None part of what is written: msgspec omits defaults."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> ValueMeta:
        for field, annotation in namespace.get("__annotations__", {}).items():
            default = namespace.get(field)
            if default is not None and "ClassVar" not in str(annotation):
                namespace[field] = msgspec.field(default_factory=factory_of(default))
        return super().__new__(mcs, name, bases, namespace, kw_only=True, **options)


def factory_of(default: Any) -> Callable[[], Any]:
    make: Callable[[], Any] = getattr(default, "default_factory", lambda: default)
    return lambda: make()  # noqa: PLW0108 -- msgspec omits an empty value that `dict` itself made


def whole(pattern: str) -> str:
    """Return a pattern for Python's `re`, where `$` also fits before a line break at the end."""
    return pattern.removesuffix("$") + r"\Z"


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Value(msgspec.Struct, metaclass=ValueMeta, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Base of every stored value: frozen, compared by its fields, written without those that are None."""

    @classmethod
    def checked(cls, **fields: Any) -> Self:
        """Return a value of these fields; `kernel.ValidationError` lists everything wrong with them."""
        made: Self = validation().validated(fields, cls)
        return made

    def contradictions(self) -> Sequence[Violation]:
        """Return the rules between fields that it breaks. Called by the edge, not by the constructor."""
        return ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return validation().core_schema_of(cls, handler)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Any:
        return validation().json_schema_of(cls, core_schema, handler)


def validation() -> Any:
    """Return the module that validates; it needs pydantic, and a reader of the log does not."""
    return importlib.import_module("kernel.values.edge")


def as_json(value: Any, *, defaults: bool = True) -> Any:
    """Return a value as JSON holds it: every field, those that are None too; without `defaults` only what differs."""
    match value:
        case Value():
            fields = structs.asdict(value) if defaults else set_fields(value)
            return {name: as_json(item, defaults=defaults) for name, item in fields.items()}
        case dict():
            return {str(key): as_json(item, defaults=defaults) for key, item in value.items()}
        case set() | frozenset():
            return sorted(as_json(item, defaults=defaults) for item in value)
        case tuple() | list():
            return [as_json(item, defaults=defaults) for item in value]
        case Enum():
            return value.value
    return value


def set_fields(value: Value) -> dict[str, Any]:
    """Return the fields of a value that differ from their defaults."""
    known = defaults_of(type(value))
    fields = structs.asdict(value)
    return {name: item for name, item in fields.items() if name not in known or item != known[name]}


@cache
def defaults_of(kind: type[Value]) -> dict[str, Any]:
    return {
        field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in structs.fields(kind)
        if not field.required
    }
