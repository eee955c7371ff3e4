"""The log's hash format: one leaf per event over every column, one chain over the leaves. It cannot change.

Called by the writers (inside the transaction, because the instant of recording is hashed) and by every reader of raw
rows. Promises: the same columns give the same hashes on every backend, on every machine, for ever; a changed column, a
removed, inserted or moved row breaks the leaf or the chain at its position. It does not notice a log cut off at the end,
nor one that was rewritten as a whole: against these stand notes of the head that are kept outside the database.

    field(b) = length of b as 4 bytes big-endian, then b       number(n) = field(n as 8 bytes big-endian)
    leaf     = SHA-256(0x00 0x01, field(stream_id), number(version), field(topic), number(schema_version),
                       number(recorded_at_ns), field(command_id), number(command_index), field(meta), field(state))
    chain_n  = SHA-256(0x02, chain_{n-1}, n as 8 bytes big-endian, leaf_n)         chain_0 = 32 zero bytes
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import sha256

from kernel.errors import IntegrityError
from kernel.log.base import StoredRow

GENESIS = bytes(32)
"""`chain_0`: the chain hash of an empty log."""

LEAF_FORMAT = b"\x00\x01"
"""Domain byte of a leaf (as in RFC 6962), then the number of this format."""
CHAIN_DOMAIN = b"\x02"

_LENGTH = struct.Struct(">I")
_NUMBER = struct.Struct(">IQ")
_POSITION = struct.Struct(">Q")


def field(value: bytes) -> bytes:
    """A byte string with its length in front."""
    return _LENGTH.pack(len(value)) + value


def number(value: int) -> bytes:
    """A number of 0 … 2^64 - 1 as a field; `struct.error` beyond."""
    return _NUMBER.pack(8, value)


def leaf_prefix(stream_id: str) -> bytes:
    """What a leaf's input begins with, up to the version."""
    return LEAF_FORMAT + field(stream_id.encode())


def leaf_middle(topic: str, schema_version: int) -> bytes:
    """What stands between the version and the instant of recording."""
    return field(topic.encode()) + number(schema_version)


def leaf_suffix(command_id: bytes, command_index: int, meta: bytes, state: bytes) -> bytes:
    """What follows the instant of recording."""
    return b"".join((field(command_id), _NUMBER.pack(8, command_index), field(meta), _LENGTH.pack(len(state)), state))


def leaf_of_parts(prefix: bytes, version: int, middle: bytes, recorded_at_ns: int, suffix: bytes) -> bytes:
    """The leaf from its parts: the two numbers between them are known to the writer alone."""
    return sha256(
        b"".join((prefix, _NUMBER.pack(8, version), middle, _NUMBER.pack(8, recorded_at_ns), suffix))
    ).digest()


def leaf_hash(row: StoredRow) -> bytes:
    """The leaf that a row's columns should have."""
    return leaf_of_parts(
        leaf_prefix(row.stream_id),
        row.version,
        leaf_middle(row.topic, row.schema_version),
        row.recorded_at_ns,
        leaf_suffix(row.command_id, row.command_index, row.meta, row.state),
    )


def chain_hash(previous: bytes, position: int, leaf: bytes) -> bytes:
    """The chain hash at a position, from the one before it and the leaf."""
    return sha256(b"".join((CHAIN_DOMAIN, previous, _POSITION.pack(position), leaf))).digest()


def verify_rows(rows: Iterable[StoredRow], *, after: int, chain: bytes) -> bytes:
    """The chain hash at the end of `rows`, which must follow position `after`, whose chain hash is `chain`.

    Raises `IntegrityError` with the first bad position: a gap, a leaf that its columns don't give, a broken chain.
    """
    expected = after + 1
    for row in rows:
        chain = verify_row(row, expected=expected, chain=chain)
        expected += 1
    return chain


def verify_row(row: StoredRow, *, expected: int, chain: bytes) -> bytes:
    """The chain hash at a row, after checking it against the position expected and the chain hash before it."""
    if row.position != expected:
        raise IntegrityError(f"this event is missing, the next one there is at {row.position}", position=expected)
    try:
        leaf = leaf_hash(row)
    except (struct.error, UnicodeEncodeError) as problem:
        raise IntegrityError(f"a column is not what a log holds: {problem}", position=expected) from problem
    if leaf != row.leaf_hash:
        raise IntegrityError("a column was changed: the leaf hash does not match", position=expected)
    computed = chain_hash(chain, expected, leaf)
    if computed != row.chain_hash:
        raise IntegrityError("the chain hash does not follow from the event before", position=expected)
    return computed
