"""Values as bytes and back: dataclasses, named tuples, models and enums, as their annotations have them.

Used by `records`, for what is held in memory and not looked at for now: a record takes some ten thousand bytes as objects,
and a twentieth of that as one string of bytes. Nothing of it ever leaves the process: `marshal`, which writes it, may write
it differently in another version of Python. What is unpacked equals what was packed; it is not the same object.
"""

from __future__ import annotations

import json
import marshal
import types
from collections.abc import Callable
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from kernel.lifecycle.immutable import with_dict
from kernel.lifecycle.trades import NO_TRADES, TradeEntry, Trades
from kernel.order_spec import Model


class Codec(NamedTuple):
    """How values of one type become plain ones, and back. None is plain whatever the type is."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def encode(value: Any) -> bytes:
    """A value as bytes. `ValueError` for one that has something in it which is not what its annotation says."""
    kind: Any = type(value)
    return marshal.dumps(codec_with_fields(kind).encode(value))


def decode(kind: Any, packed: bytes) -> Any:
    """The value of this type that was packed."""
    return codec_with_fields(kind).decode(marshal.loads(packed))


@cache
def codec_with_fields(kind: Any) -> Codec:
    """The form of a type with fields."""
    form = codec_of(kind)
    assert form is not None, "what is packed has fields"
    return form


def codec_of(kind: Any) -> Codec | None:
    """The form of a type; None for one whose values are plain: text, numbers."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return codec_of(arguments[0])
    if origin in (Union, types.UnionType):
        return only_codec([codec_of(argument) for argument in arguments if argument is not types.NoneType])
    if origin is tuple:
        return tuple_codec(arguments)
    if origin is frozenset:
        return set_codec(codec_of(arguments[0]))
    if kind is Trades:
        return trades_codec()
    if origin is dict:
        return Codec(json.dumps, json.loads)
    if issubclass(kind, Enum):
        return Codec(attrgetter("value"), {member.value: member for member in kind}.__getitem__)
    if hasattr(kind, "_fields") or hasattr(kind, "__dataclass_fields__"):
        return fields_codec(kind, get_type_hints(kind), lambda values: kind(*values))
    if issubclass(kind, Model):
        fields = {name: field.annotation for name, field in kind.__pydantic_fields__.items()}
        return fields_codec(kind, fields, lambda values: with_dict(kind, dict(zip(fields, values, strict=True))))
    return None


def only_codec(forms: list[Codec | None]) -> Codec | None:
    """The form of an alternative: one type, or nothing; or several that are all plain."""
    found = [form for form in forms if form is not None]
    assert not found or len(forms) == 1, "an alternative of types that are not plain could not be told apart"
    return found[0] if found else None


def tuple_codec(arguments: tuple[Any, ...]) -> Codec | None:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        item = codec_of(arguments[0])
        if item is None:
            return None
        return Codec(
            lambda values: tuple([item.encode(value) for value in values]),
            lambda values: tuple([item.decode(value) for value in values]),
        )
    assert all(codec_of(argument) is None for argument in arguments), "a pair of what is not plain should have a name"
    return None


def trades_codec() -> Codec:
    """The entries one by one; those who have none share one value."""
    entries = tuple_codec((TradeEntry, ...))
    assert entries is not None, "an entry has fields"
    return Codec(entries.encode, lambda values: Trades(entries.decode(values)) if values else NO_TRADES)


def set_codec(item: Codec | None) -> Codec | None:
    if item is None:
        return None
    return Codec(
        lambda values: frozenset(map(item.encode, values)),
        lambda values: frozenset(map(item.decode, values)),
    )


def fields_codec(kind: Any, fields: dict[str, Any], make: Callable[[list[Any]], Any]) -> Codec:
    """The form of a type with fields: the values of its fields in order."""
    names = tuple(getattr(kind, "__dataclass_fields__", fields))
    values_of = attrgetter(*names)
    forms = [(index, form) for index, name in enumerate(names) if (form := codec_of(fields[name])) is not None]

    def plain(value: Any) -> tuple[Any, ...]:
        found = list(values_of(value))
        for index, form in forms:
            if found[index] is not None:
                found[index] = form.encode(found[index])
        return tuple(found)

    def whole(found: tuple[Any, ...]) -> Any:
        values = list(found)
        for index, form in forms:
            if values[index] is not None:
                values[index] = form.decode(values[index])
        return make(values)

    return Codec(plain, whole)
