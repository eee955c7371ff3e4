"""Proofs by signed tree heads: that an event is in a log, and that one log is a prefix of another.

Called by `orderctl prove` and by library users. A proof is a JSON file that a third party checks with the verifier key and
without this project: `orderctl help check-proof` prints a program for it. Each proof is checked before it is returned, and
has no content that a check does not cover.

    inclusion    the row's columns, the leaf index (position - 1), the path from the leaf to the root, the signed tree head
    consistency  the path from the first root to the second (RFC 6962, 2.1.2), both signed tree heads
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from kernel.errors import IntegrityError, ValidationError
from kernel.log.base import EventLog, StoredRow
from kernel.log.engine.records import COLUMNS
from kernel.log.merkle import Span, SpanRoots, consistency_roots, consistency_spans, inclusion_root, inclusion_spans
from replay.formatting.progress_bar import Progress
from replay.log_access.log_reader import checked_pages, open_for_reading
from replay.transparency.signed_note import VerifierKey, origin_of
from replay.transparency.tree_head_store import StoredTreeHead, covering_tree_head, tree_head_of

INCLUSION = "exchange-kernel/inclusion/v1"
CONSISTENCY = "exchange-kernel/consistency/v1"


class Proof(msgspec.Struct, frozen=True):
    """One proof."""

    document: dict[str, Any]

    def text(self) -> str:
        """Return the file's content, canonical: a check compares it byte for byte."""
        return json.dumps(self.document, ensure_ascii=False, indent=2) + "\n"


async def prove(
    log: EventLog | str,
    position: int,
    *,
    notes: str | Path,
    keys: Sequence[VerifierKey] | None = None,
    exchange_id: str | None = None,
    progress: Progress | None = None,
) -> Proof:
    """Prove that an event is in the log, by the smallest tree head that covers it.

    Args:
        log: An open log or its URL.
        position: The event's position.
        notes: A signed tree head file or a directory of them.
        keys: Trusted keys; without them no signature is checked here.
        exchange_id: Expected owner of the log.
        progress: Called with the position reached and the last position.

    Raises:
        ValidationError: The position or a tree head is invalid.
        NotFoundError: No tree head covers the position.
        IntegrityError: The log differs from the tree head.
    """
    if position < 1:
        raise ValidationError(f"position {position} is out of range: positions start at 1")
    async with open_for_reading(log, exchange_id) as found:
        head = covering_tree_head(notes, position, keys=keys, origin=origin_of(found))
        spans = inclusion_spans(position - 1, head.size)
        path, row = await read_spans(found, spans, head.size, position=position, progress=progress)
    assert row is not None, "the tree head covers the position"
    check(head, inclusion_root(row.leaf_hash, position - 1, head.size, path))
    return Proof(
        {
            "proof": INCLUSION,
            "row": columns(row),
            "leaf_index": position - 1,
            "path": [item.hex() for item in path],
            "note": str(head.signed),
        }
    )


async def prove_consistency(
    log: EventLog | str,
    first: int,
    second: int,
    *,
    notes: str | Path,
    keys: Sequence[VerifierKey] | None = None,
    exchange_id: str | None = None,
    progress: Progress | None = None,
) -> Proof:
    """Prove that the log of `first` events is a prefix of the log of `second` events.

    The other arguments and errors are those of `prove`.
    """
    if not 1 <= first <= second:
        raise ValidationError(f"size {first} is out of range: it must be from 1 to the second size {second}")
    async with open_for_reading(log, exchange_id) as found:
        older, newer = (tree_head_of(notes, size, keys=keys, origin=origin_of(found)) for size in (first, second))
        path, _ = await read_spans(found, consistency_spans(first, second), second, progress=progress)
    old_root, new_root = consistency_roots(first, second, older.root, path)
    check(newer, new_root)
    check(older, old_root)
    return Proof(
        {
            "proof": CONSISTENCY,
            "path": [item.hex() for item in path],
            "first_note": str(older.signed),
            "second_note": str(newer.signed),
        }
    )


async def read_spans(
    log: EventLog, spans: Sequence[Span], size: int, *, position: int | None = None, progress: Progress | None = None
) -> tuple[list[bytes], StoredRow | None]:
    """Read the first `size` events once; return the roots of spans of the tree and the row of a position."""
    roots, found = SpanRoots(spans), None
    async for rows in checked_pages(log, upto=size, progress=progress):
        for row in rows:
            roots.add(row.leaf_hash)
            if row.position == position:
                found = row
    return roots.roots(), found


def check(head: StoredTreeHead, root: bytes) -> None:
    """Raise `IntegrityError` if the log's root differs from the tree head's."""
    if root != head.root:
        text = f"the log up to here differs from the signed tree head {head.path}: one of them was rewritten"
        raise IntegrityError(text, position=head.size)


def columns(row: StoredRow) -> dict[str, Any]:
    """Return the columns that a row's leaf covers, and its position. Raises `IntegrityError` for invalid UTF-8."""
    try:
        meta, state = row.meta.decode(), row.state.decode()
    except UnicodeDecodeError as problem:
        raise IntegrityError(f"a column is not UTF-8: {problem}", position=row.position) from problem
    stored = dict(zip(COLUMNS[:-2], row, strict=False))
    return {**stored, "command_id": row.command_id.hex(), "meta": meta, "state": state}
