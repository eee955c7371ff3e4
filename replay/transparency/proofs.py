"""Proofs for strangers: that an event is in a log whose note is signed, and that a log only grew from one note to another.

Called by the CLI's `prove` and by library users. A proof is a JSON file that is checked with the verifier key and nothing
of this project: `orderctl help check-proof` prints a program for it. What is in it is checked before it is handed out, and
there is nothing in it that the check does not cover. The log is read once, in pages.

    inclusion    the row's columns, the index of its leaf (its position - 1), the path from the leaf to the root, the note
    consistency  the path from the first root to the second (RFC 6962, 2.1.2), both notes
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.errors import IntegrityError, ValidationError, Violation
from kernel.log.base import EventLog, StoredRow
from kernel.log.merkle import Span, SpanRoots, consistency_roots, consistency_spans, inclusion_root, inclusion_spans
from replay.formatting.progress_bar import Progress
from replay.log_access.log_reader import checked_pages, open_for_reading
from replay.transparency.signed_note import VerifierKey, origin_of
from replay.transparency.tree_head_store import StoredTreeHead, covering_tree_head, tree_head_of

INCLUSION = "exchange-kernel/inclusion/v1"
CONSISTENCY = "exchange-kernel/consistency/v1"


@dataclass(frozen=True, slots=True)
class Proof:
    """One proof."""

    document: dict[str, Any]

    def text(self) -> str:
        """The file: the same proof has the same bytes, and whoever checks it insists on them."""
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
    """A proof that an event is in the log, by the shortest log whose note has it.

    `notes` is a directory of them, or one. With `keys` only what they have signed counts; without them no signature is
    checked here. Raises `ValidationError` and `NotFoundError` for what can't be proved by these notes, and `IntegrityError`
    where the log is not what the note says.
    """
    if position < 1:
        raise ValidationError(violations=[Violation("position", "range", "1 or more", str(position))])
    async with open_for_reading(log, exchange_id) as found:
        note = covering_tree_head(notes, position, keys=keys, origin=origin_of(found))
        spans = inclusion_spans(position - 1, note.size)
        path, row = await read_spans(found, spans, note.size, position=position, progress=progress)
    assert row is not None, "the note covers the position"
    check(note, inclusion_root(row.leaf_hash, position - 1, note.size, path))
    return Proof(
        {
            "proof": INCLUSION,
            "row": columns(row),
            "leaf_index": position - 1,
            "path": [item.hex() for item in path],
            "note": str(note.signed),
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
    """A proof that the log of one note, of `first` events, is the beginning of that of another, of `second`.

    Arguments and errors are those of `prove`.
    """
    if not 1 <= first <= second:
        limit = f"between 1 and {second}, the size of the newer tree"
        raise ValidationError(violations=[Violation("from", "range", limit, str(first))])
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
    log: EventLog,
    spans: Sequence[Span],
    size: int,
    *,
    position: int | None = None,
    progress: Progress | None = None,
) -> tuple[list[bytes], StoredRow | None]:
    """The roots of spans of the log's tree, and the row of a position, in one reading of its first `size` events."""
    roots, found = SpanRoots(spans), None
    async for rows in checked_pages(log, upto=size, progress=progress):
        for row in rows:
            roots.add(row.leaf_hash)
            if row.position == position:
                found = row
    return roots.roots(), found


def check(note: StoredTreeHead, root: bytes) -> None:
    """The log leads to the note's root. Raises `IntegrityError`."""
    if root != note.root:
        text = f"the log up to here is not what {note.path} says: one of them was rewritten"
        raise IntegrityError(text, position=note.size)


def columns(row: StoredRow) -> dict[str, Any]:
    """What a row's leaf covers, and the position that the path proves. Raises `IntegrityError` for what is no text."""
    try:
        meta, state = row.meta.decode(), row.state.decode()
    except UnicodeDecodeError as problem:
        raise IntegrityError(f"a column is not UTF-8: {problem}", position=row.position) from problem
    return {
        "position": row.position,
        "stream_id": row.stream_id,
        "version": row.version,
        "topic": row.topic,
        "schema_version": row.schema_version,
        "recorded_at_ns": row.recorded_at_ns,
        "command_id": row.command_id.hex(),
        "command_index": row.command_index,
        "meta": meta,
        "state": state,
    }
