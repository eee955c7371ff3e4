"""Check stored rows: positions, hashes, versions, commands, timestamps. No event is decoded.

Called by `verify`, page by page. After a problem, each later row is checked against what can still be trusted, so that one
change does not hide another. Memory is bounded: evicted stream versions are looked up again through `unchecked`.
"""

from __future__ import annotations

from collections import OrderedDict

from kernel.errors import IntegrityError
from kernel.events import REGISTRY
from kernel.log import hashing
from kernel.log.base import StoredRow
from replay.formatting.problems import ProblemKind, Problems

RECENT_MAX = 20_000
"""Stream versions kept in memory: those of the streams that continued last."""


class RowChecks:
    """Checks the rows of one log, in order."""

    def __init__(
        self, problems: Problems, *, after: int = 0, chain: bytes = hashing.GENESIS, hashes_only: bool = False
    ) -> None:
        """Begin after position `after` with chain hash `chain`; `hashes_only` skips versions, commands and times."""
        self.position = after
        self.streams = 0
        self.commands = 0
        self.recorded_at_ns = 0
        self.unchecked: list[StoredRow] = []
        """Rows whose preceding stream version the caller has to look up; it clears them."""
        self._problems = problems
        self._hashes_only = hashes_only
        self._chains: tuple[bytes, ...] = (chain,)
        """Possible chain hashes at `position`; empty if unknown."""
        self._lost = 0
        """Missing or changed events: at most so many versions of a stream may be missing."""
        self._command_id: bytes | None = None
        self._command_index = 0
        self._versions: OrderedDict[str, int] = OrderedDict()

    def page(self, rows: list[StoredRow]) -> list[bool]:
        """Check a page of rows; return for each row whether its columns match its hashes."""
        try:
            (chain,) = self._chains
            self._chains = (hashing.verify_rows(rows, after=self.position, chain=chain),)
        except (IntegrityError, ValueError):  # a row is wrong, or several chain hashes are possible
            sound = [self._hashes(row) for row in rows]
        else:
            sound = [True] * len(rows)
            self.position = rows[-1].position
        if not self._hashes_only:
            self._order(rows, sound)
        return sound

    def _hashes(self, row: StoredRow) -> bool:
        """Check one row and report its problems; return whether its columns match its hashes."""
        if not self._in_place(row):
            return False
        position, stored = self.position, row.chain_hash
        try:
            leaf = hashing.leaf_hash(row)
        except hashing.IMPOSSIBLE as problem:
            self._problems.add(ProblemKind.CHANGED, position, f"a column has a value that cannot be hashed: {problem}")
            leaf = row.leaf_hash
            unchanged = False
        else:
            unchanged = leaf == row.leaf_hash
        by_columns = self._chained(position, leaf)
        by_leaf = self._chained(position, row.leaf_hash)
        if not unchanged and stored in by_columns:
            self._chains = (stored,)
            text = "the leaf hash of this event was changed: its columns and the chain hash agree on another one"
            self._problems.add(ProblemKind.CHANGED, position, text)
            return True
        if not unchanged and leaf != row.leaf_hash:
            text = "a column of this event was changed: the leaf hash does not match"
            self._problems.add(ProblemKind.CHANGED, position, text)
        follows = not by_leaf or stored in by_leaf
        if not follows and not self._problems.goes_on(ProblemKind.CHAIN, position):
            change = "an event was removed, inserted, moved or rewritten"
            text = f"the chain hash does not follow from the previous event: {change}"
            self._problems.add(ProblemKind.CHAIN, position, text)
        # The next row may follow from the stored hash or from the computed one.
        self._chains = (stored,) if follows else (stored, by_leaf[-1])
        return unchanged and follows

    def _chained(self, position: int, leaf: bytes) -> tuple[bytes, ...]:
        return tuple(hashing.chain_hash(chain, position, leaf) for chain in self._chains)

    def _in_place(self, row: StoredRow) -> bool:
        """Report positions missing before a row; return False if its position is repeated."""
        if row.position <= self.position:
            self._problems.add(ProblemKind.REPEATED, row.position, "two events have this position: one was inserted")
            return False
        expected = self.position + 1
        if row.position > expected:
            last = row.position - 1
            what = "this event is" if last == expected else f"the events up to {last} are"
            self._problems.add(ProblemKind.MISSING, expected, f"{what} missing", last_position=last)
            self._lost += row.position - expected
            self._chains = ()
        self.position = row.position
        return True

    def _order(self, rows: list[StoredRow], sound: list[bool]) -> None:
        """Check versions, commands and timestamps of the sound rows."""
        versions, before_ns = self._versions, self.recorded_at_ns
        command_id, command_index = self._command_id, self._command_index
        for row, is_sound in zip(rows, sound, strict=True):
            if not is_sound:
                command_id = None
                self._lost += 1
                continue
            known = versions.get(row.stream_id)
            if known is None or row.version != known + 1:
                self._version(row, known)
            versions[row.stream_id] = row.version
            versions.move_to_end(row.stream_id)
            if len(versions) > RECENT_MAX:
                versions.popitem(last=False)
            if row.recorded_at_ns < before_ns:
                self._problems.add(ProblemKind.TIME, row.position, "this event was recorded before the previous one")
            before_ns = row.recorded_at_ns
            if row.command_id == command_id:
                command_index += 1
            else:
                self.commands += 1
                command_index = 0 if command_id is not None or row.position == 1 else row.command_index
                command_id = row.command_id
            if row.command_index != command_index:
                self._command(row, command_index)
                command_index = row.command_index
        self._command_id, self._command_index, self.recorded_at_ns = command_id, command_index, before_ns

    def _version(self, row: StoredRow, known: int | None) -> None:
        """Handle a version that does not follow the known one, or whose predecessor is not in memory."""
        if known is not None and known < row.version <= known + 1 + self._lost:
            return
        if known is not None:
            text = f"stream {row.stream_id} has version {row.version} after {known}"
            self._problems.add(ProblemKind.STREAM, row.position, text)
        elif row.version == first_version(row):
            self.streams += 1
        else:
            self.unchecked.append(row)

    def _command(self, row: StoredRow, expected: int) -> None:
        text = f"index {row.command_index} within its command, expected {expected}: a command's events are adjacent"
        self._problems.add(ProblemKind.COMMAND, row.position, text)


def first_version(row: StoredRow) -> int:
    """Return the first version of a row's stream: 1, or 0 for streams of other users of the event-sourcing library."""
    return 0 if row.version == 0 and row.topic not in REGISTRY else 1
