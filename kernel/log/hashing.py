"""The log's hash format: a leaf per event over every column, a chain over the leaves. It cannot change.

Called by the writers inside the transaction, and by every reader of rows. The same columns give the same hashes on every
backend. A changed column, or a removed, inserted or moved row breaks the leaf or the chain at its position. A log truncated
or rewritten as a whole is noticed only through signed tree heads kept outside the database.

    field(b) = length of b as 4 bytes big-endian, then b       number(n) = field(n as 8 bytes big-endian)
    leaf     = SHA-256(0x00 0x01, field(stream_id), number(version), field(topic), number(schema_version),
                       number(recorded_at_ns), field(command_id), number(command_index), field(meta), field(state))
    chain_n  = SHA-256(0x02, chain_{n-1}, n as 8 bytes big-endian, leaf_n)         chain_0 = 32 zero bytes
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Any

from kernel.errors import IntegrityError
from kernel.log.base import StoredRow

GENESIS = bytes(32)
"""`chain_0`: the chain hash of an empty log."""

LEAF_FORMAT = b"\x00\x01"
"""Domain byte of a leaf (as in RFC 6962), then the number of this format."""
CHAIN_DOMAIN = b"\x02"
IMPOSSIBLE = (struct.error, UnicodeEncodeError, TypeError, AttributeError)
"""Raised for a column whose value cannot be hashed."""

_length = struct.Struct(">I").pack
_number = struct.Struct(">IQ").pack
_number_and_length = struct.Struct(">IQI").pack
"""Packs a number, and the length of the field after it."""
_position = struct.Struct(">Q").pack


@lru_cache(maxsize=1_000)
def leaf_middle(topic: str, schema_version: int) -> bytes:
    """Return a leaf's input between the version and `recorded_at_ns`."""
    kind = topic.encode()
    return _length(len(kind)) + kind + _number(8, schema_version)


def leaf_hash(row: tuple[Any, ...]) -> bytes:
    """Return the leaf hash of a row's columns, with hashes or still without."""
    stream_id, version, topic, schema_version, at_ns, command_id, index, meta, state = row[1:10]
    stream = stream_id.encode()
    return sha256(
        b"".join((
            LEAF_FORMAT, _length(len(stream)), stream, _number(8, version), leaf_middle(topic, schema_version),
            _number_and_length(8, at_ns, len(command_id)), command_id, _number_and_length(8, index, len(meta)), meta,
            _length(len(state)), state,
        ))
    ).digest()  # fmt: skip


def chain_hash(previous: bytes, position: int, leaf: bytes) -> bytes:
    """Return the chain hash at a position."""
    return sha256(b"".join((CHAIN_DOMAIN, previous, _position(position), leaf))).digest()


def verify_rows(rows: Iterable[StoredRow], *, after: int, chain: bytes) -> bytes:
    """Check the rows that follow position `after`, with the chain hash `chain`; return the chain hash of the last one.

    Raises `IntegrityError` with the first bad position: a gap, a wrong leaf or a broken chain.
    """
    for expected, row in enumerate(rows, after + 1):
        if row.position != expected:
            raise IntegrityError(f"this event is missing, the next one is at {row.position}", position=expected)
        try:
            leaf = leaf_hash(row)
        except IMPOSSIBLE as problem:
            raise IntegrityError(f"a column has an impossible value: {problem}", position=expected) from problem
        if leaf != row.leaf_hash:
            raise IntegrityError("a column was changed: the leaf hash does not match", position=expected)
        chain = chain_hash(chain, expected, leaf)
        if chain != row.chain_hash:
            raise IntegrityError("the chain hash does not follow from the event before", position=expected)
    return chain
