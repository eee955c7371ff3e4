"""A log that is put back, held against the signed notes of it: is it the one that was signed, and how much is lacking?

Given to `restore_log` and `import_log`, which feed it. Raises before anything is in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from kernel.errors import IntegrityError
from kernel.log.base import StoredRow
from replay.formatting.problems import Problem, Problems
from replay.transparency.signed_note import VerifierKey, origin_of_log
from replay.transparency.tree_head_check import TreeHeadChecks, notes_for


class TreeHeadGuard:
    """The notes at a path that were signed by some keys."""

    def __init__(self, path: str | Path, keys: Iterable[VerifierKey]) -> None:
        self._path = path
        self._keys = tuple(keys)
        self._problems = Problems()
        self._checks: TreeHeadChecks | None = None
        self.lacks: Problem | None = None
        """That a note is of more events than there are, once all was read."""

    def begin(self, exchange_id: str, log_id: str) -> None:
        """Whose log it is. Raises what `notes_for` raises."""
        self._problems = Problems()
        given = notes_for(origin_of_log(exchange_id, log_id), self._path, self._keys)
        self._checks = TreeHeadChecks(self._problems, given)

    def leaves(self, rows: Sequence[StoredRow]) -> None:
        """The next rows, from the first on."""
        assert self._checks is not None, "it has begun"
        self._checks.leaves(rows)

    def finish(self, head: int) -> None:
        """There are no more. `IntegrityError` for another log than was signed; that it is shorter is no reason."""
        assert self._checks is not None, "it has begun"
        self._checks.finish(head)
        found = self._problems.sorted()
        self.lacks = next((item for item in found if (item.last_position or 0) > head), None)
        wrong = [item for item in found if item is not self.lacks]
        if wrong:
            text = f"it does not agree with the notes at {self._path}: {wrong[0].text}"
            raise IntegrityError(text, position=wrong[0].position)
