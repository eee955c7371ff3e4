"""Rows that were cut off the beginning of a log, read from the files that they were archived in.

Used by the recorders: where rows of the database do not follow on from what was asked for, they may be archived. Promises
the rows as they were, their hashes checked, in order, from the file that the segment names and no other; a file that is not
there is a `NotFoundError` that says what to do. Reading on from where a reader stopped does not begin the file anew.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import islice

from kernel.errors import IntegrityError, NotFoundError
from kernel.log.base import StoredRow
from kernel.log.row_files import About, reading

WALKS_MAX = 4
"""Readers whose places in the files are kept."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Positions that were archived, and what the log remembers of them."""

    first_position: int
    last_position: int
    previous_hash: bytes
    """Chain hash of the position before the first."""
    last_hash: bytes
    """Chain hash of the last position."""
    uri: str
    """The file's path, as it was when they were archived."""
    file_sha256: str
    """The file's own hash, in hex."""

    def describes(self, about: About) -> bool:
        """Whether a file says that it holds exactly these rows."""
        here = (self.first_position, self.last_position, self.previous_hash, self.last_hash)
        return here == (about.first_position, about.last_position, about.chain_hash_before, about.chain_hash)


Walk = Generator[StoredRow, None, None]


class Archives:
    """The archived rows of one log. Safe to call from any thread."""

    def __init__(self) -> None:
        self._walks: dict[int, Walk] = {}
        """Position that comes next → where a reader stopped; the one used longest ago first."""
        self._lock = threading.Lock()

    def page(self, segments: Sequence[Segment], *, after: int, upto: int | None, limit: int | None) -> list[StoredRow]:
        """Rows after a position, from the one segment that has them; fewer than asked for where it ends."""
        segment = next((item for item in segments if item.first_position <= after + 1 <= item.last_position), None)
        if segment is None:
            raise IntegrityError("this event is missing, and no archive has it", position=after + 1)
        last = segment.last_position if upto is None else min(upto, segment.last_position)
        count = last - after if limit is None else min(limit, last - after)
        walk = self._taken(after + 1) or _walk(segment, after)
        rows = list(islice(walk, count))
        assert len(rows) == count, "a file that ends too early was refused"
        if rows[-1].position < segment.last_position:
            self._keep(rows[-1].position + 1, walk)
        else:
            next(walk, None)  # to its end, where the file must end too
        return rows

    def stream(self, segments: Sequence[Segment], stream_id: str, *, after: int, upto: int | None) -> list[StoredRow]:
        """The rows of one stream after a version, up to another: every file is read for it."""
        return [
            row
            for segment in segments
            for row in _walk(segment, segment.first_position - 1)
            if row.stream_id == stream_id and row.version > after and (upto is None or row.version <= upto)
        ]

    def close(self) -> None:
        """Let go of every file."""
        with self._lock:
            for walk in self._walks.values():
                walk.close()
            self._walks.clear()

    def _taken(self, position: int) -> Walk | None:
        with self._lock:
            return self._walks.pop(position, None)

    def _keep(self, position: int, walk: Walk) -> None:
        with self._lock:
            replaced = self._walks.pop(position, None)
            self._walks[position] = walk
            too_many = len(self._walks) > WALKS_MAX
            oldest = self._walks.pop(next(iter(self._walks))) if too_many else None
        for gone in (replaced, oldest):
            if gone is not None:
                gone.close()


def _walk(segment: Segment, after: int) -> Walk:
    """The rows of a segment after a position; all of those before are read and checked too."""
    try:
        with reading(segment.uri) as file:
            if not segment.describes(file.about):
                raise IntegrityError(f"{segment.uri} is not {_named(segment)}")
            for rows in file.pages():
                yield from (row for row in rows if row.position > after)
    except (NotFoundError, OSError) as problem:
        how = "put the file back, or its rows into the log: orderctl archive --restore FILE"
        raise NotFoundError(f"{_named(segment)} is not at {segment.uri}: {how}") from problem


def _named(segment: Segment) -> str:
    return f"the archive of the positions {segment.first_position} to {segment.last_position}"
