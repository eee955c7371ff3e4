"""Arrays as PostgreSQL reads them in binary, built in one go: an insert has twelve of them.

Used by `postgres` for the columns of a batch. psycopg dumps lists element by element through an adapter each, which costs
more than the insert itself. The format is that of the server's `array_recv`: one dimension, no nulls, lower bound 1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER = struct.Struct(">iiiii")
_LENGTH = struct.Struct(">i").pack

INT8_OID, TEXT_OID, BYTEA_OID = 20, 25, 17


class Array:
    """An array's bytes."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Int8Array(Array):
    """A `bigint[]`."""

    __slots__ = ()

    @classmethod
    def of(cls, values: Sequence[int]) -> Int8Array:
        """The numbers, each within 64 bits with a sign."""
        count = len(values)
        interleaved = [8] * (2 * count)
        interleaved[1::2] = values
        return cls(_header(INT8_OID, count) + struct.pack(">" + "iq" * count, *interleaved))


class TextArray(Array):
    """A `text[]`."""

    __slots__ = ()

    @classmethod
    def of(cls, values: Sequence[bytes]) -> TextArray:
        """The texts, as UTF-8."""
        return cls(_header(TEXT_OID, len(values)) + _elements(values))


class ByteaArray(Array):
    """A `bytea[]`."""

    __slots__ = ()

    @classmethod
    def of(cls, values: Sequence[bytes]) -> ByteaArray:
        """The byte strings."""
        return cls(_header(BYTEA_OID, len(values)) + _elements(values))


def _header(oid: int, count: int) -> bytes:
    return _HEADER.pack(1, 0, oid, count, 1)


def _elements(values: Iterable[bytes]) -> bytes:
    parts: list[bytes] = []
    for value in values:
        parts.append(_LENGTH(len(value)))
        parts.append(value)
    return b"".join(parts)


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> bytes:
        return obj.data


class _Int8ArrayDumper(_ArrayDumper):
    oid = 1016


class _TextArrayDumper(_ArrayDumper):
    oid = 1009


class _ByteaArrayDumper(_ArrayDumper):
    oid = 1001


def register(context: AdaptContext) -> None:
    """Let a connection take these arrays as parameters."""
    assert context.adapters is not None
    context.adapters.register_dumper(Int8Array, _Int8ArrayDumper)
    context.adapters.register_dumper(TextArray, _TextArrayDumper)
    context.adapters.register_dumper(ByteaArray, _ByteaArrayDumper)
