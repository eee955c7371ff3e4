"""Compare a log with its signed tree heads while it is imported or restored. Used by `restore_log` and `import_log`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from kernel.errors import IntegrityError
from kernel.log.base import StoredRow
from replay.formatting.problems import Problem, Problems
from replay.transparency.signed_note import VerifierKey, origin_of_log
from replay.transparency.tree_head_check import TreeHeadChecks, tree_head_inputs


class TreeHeadGuard:
    """The signed tree heads at a path and the keys trusted for them."""

    def __init__(self, path: str | Path, keys: Iterable[VerifierKey]) -> None:
        self._path = path
        self._keys = tuple(keys)
        self._problems = Problems()
        self._checks: TreeHeadChecks | None = None
        self.lacks: Problem | None = None
        """After `finish`: the problem that a tree head covers more events than the log has, if any."""

    def begin(self, exchange_id: str, log_id: str) -> None:
        """Start with the log's identity. Raises what `tree_head_inputs` raises."""
        self._problems = Problems()
        inputs = tree_head_inputs(origin_of_log(exchange_id, log_id), self._path, self._keys)
        self._checks = TreeHeadChecks(self._problems, inputs)

    def leaves(self, rows: Sequence[StoredRow]) -> None:
        assert self._checks is not None, "begin() comes first"
        self._checks.leaves(rows)

    def finish(self, head: int) -> None:
        """Raise `IntegrityError` if the log differs from a tree head; that it is shorter only sets `lacks`."""
        assert self._checks is not None, "begin() comes first"
        self._checks.finish(head)
        found = self._problems.sorted()
        self.lacks = next((item for item in found if (item.last_position or 0) > head), None)
        wrong = [item for item in found if item is not self.lacks]
        if wrong:
            text = f"the log does not match the signed tree heads at {self._path}: {wrong[0].text}"
            raise IntegrityError(text, position=wrong[0].position)
