"""Packs dataclasses, named tuples, models and enums into bytes and back, by their annotations. Used by `record_cache`.

A record takes some ten thousand bytes as objects and a twentieth of that packed. Packed values never leave the process:
`marshal` may write another format in another version of Python. An unpacked value equals the packed one.
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

from kernel.lifecycle.immutable import SharedSequence
from kernel.values import Value


class Codec(NamedTuple):
    """Turns values of one type into plain ones and back. None is plain whatever the type."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def encode(value: Any) -> bytes:
    """Pack a value. Raises `ValueError` if a part of it does not have its annotated type."""
    kind: Any = type(value)
    return marshal.dumps(codec_with_fields(kind).encode(value))


def decode(kind: Any, packed: bytes) -> Any:
    """Unpack a value of a type."""
    return codec_with_fields(kind).decode(marshal.loads(packed))


@cache
def codec_with_fields(kind: Any) -> Codec:
    codec = codec_of(kind)
    assert codec is not None, "only types with fields are packed"
    return codec


def codec_of(kind: Any) -> Codec | None:
    """The codec of a type; None if its values are plain: text, numbers."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return codec_of(arguments[0])
    if origin in (Union, types.UnionType):
        return only_codec([codec_of(argument) for argument in arguments if argument is not types.NoneType])
    if origin is tuple:
        return tuple_codec(arguments)
    if origin is frozenset:
        assert codec_of(arguments[0]) is None, "use a tuple for values that are not plain"
        return None
    if issubclass(origin or kind, SharedSequence):
        return sequence_codec(origin or kind, (origin or kind).entry_type(kind))
    if origin is dict:
        return Codec(json.dumps, json.loads)
    if issubclass(kind, Enum):
        return Codec(attrgetter("value"), {member.value: member for member in kind}.__getitem__)
    if hasattr(kind, "_fields") or hasattr(kind, "__dataclass_fields__"):
        return fields_codec(kind, get_type_hints(kind), lambda values: kind(*values))
    if issubclass(kind, Value):
        names, hints = kind.__struct_fields__, get_type_hints(kind)
        return fields_codec(
            kind, {name: hints[name] for name in names}, lambda values: kind(**dict(zip(names, values, strict=True)))
        )
    return None


def sequence_codec(kind: Any, entry: Any) -> Codec:
    """The codec of a sequence; empty ones share one value."""
    empty, codec = kind(), codec_of(tuple[entry, ...]) or Codec(tuple, tuple)
    return Codec(codec.encode, lambda values: kind(codec.decode(values)) if values else empty)


def only_codec(codecs: list[Codec | None]) -> Codec | None:
    """The codec of an optional type, or of a union of plain types."""
    found = [codec for codec in codecs if codec is not None]
    assert not found or len(codecs) == 1, "a union of types that are not plain cannot be decoded"
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
    assert all(codec_of(argument) is None for argument in arguments), "use a named tuple for values that are not plain"
    return None


def fields_codec(kind: Any, fields: dict[str, Any], make: Callable[[list[Any]], Any]) -> Codec:
    """Packs the values of the fields, in order."""
    names = tuple(getattr(kind, "__dataclass_fields__", fields))
    values_of = attrgetter(*names)
    codecs = [(index, codec) for index, name in enumerate(names) if (codec := codec_of(fields[name])) is not None]

    def pack(value: Any) -> tuple[Any, ...]:
        values = list(values_of(value))
        for index, codec in codecs:
            if values[index] is not None:
                values[index] = codec.encode(values[index])
        return tuple(values)

    def unpack(packed: tuple[Any, ...]) -> Any:
        values = list(packed)
        for index, codec in codecs:
            if values[index] is not None:
                values[index] = codec.decode(values[index])
        return make(values)

    return Codec(pack, unpack)
