"""Compare a log with its signed tree heads: the tree's root and the chain hash at the size of each.

Called by `verify` and `TreeHeadGuard` with the stored rows, in order. Only tree heads kept elsewhere reveal that a whole
log was rewritten or truncated. The files are listed at the start and read one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from kernel.errors import NotFoundError, ValidationError
from kernel.log.base import StoredRow
from kernel.log.merkle import Frontier
from replay.formatting.problems import ProblemKind, Problems
from replay.transparency.signed_note import VerifierKey
from replay.transparency.tree_head_store import StoredTreeHead, other_log, read_tree_head, size_in_name, tree_head_files


class TreeHeadInputs(msgspec.Struct, frozen=True):
    """The tree heads to compare a log with."""

    files: tuple[Path, ...]
    keys: tuple[VerifierKey, ...]
    origin: str
    begin: StoredTreeHead | None = None
    """A tree head up to which the log was verified before."""


def tree_head_inputs(
    origin: str, notes: str | Path | None, keys: Iterable[VerifierKey], start: str | Path | None = None
) -> TreeHeadInputs:
    """List the tree heads to check, before the log's head is read so that none can be newer than it.

    `start` is a tree head up to which the log was verified before; its directory is the default of `notes`. Raises
    `ValidationError` if no key is given or `start` is not a good tree head of this log, `NotFoundError` without tree
    heads.
    """
    trusted = tuple(keys)
    if not trusted:
        raise ValidationError("signed tree heads cannot be checked without a verifier key: give it with --key")
    begin = tree_head_to_start_at(Path(start), trusted, origin) if start is not None else None
    files = tree_head_files(notes if notes is not None else Path(start or ".").parent)
    if begin is not None:
        later = [file for file in files if (size_in_name(file) or begin.size) >= begin.size]
        files = [begin.path, *(file for file in later if file.resolve() != begin.path.resolve())]
    return TreeHeadInputs(tuple(files), trusted, origin, begin)


def tree_head_to_start_at(path: Path, keys: Sequence[VerifierKey], origin: str) -> StoredTreeHead:
    """Read a tree head, which must be a good one of this log."""
    if not path.is_file():
        raise NotFoundError(f"signed tree head {path} does not exist")
    try:
        head = read_tree_head(path, keys)
    except ValidationError as problem:
        raise ValidationError(f"cannot start at signed tree head {path}: {problem}") from problem
    if head.origin != origin:
        raise ValidationError(f"cannot start at signed tree head {path}: it is of another log, {head.origin}")
    return head


class TreeHeadChecks:
    """Checks the rows of one log from the first on."""

    def __init__(self, problems: Problems, inputs: TreeHeadInputs) -> None:
        self._problems = problems
        self._inputs = inputs
        self._files = sorted(inputs.files, key=lambda file: size_in_name(file) or 0, reverse=True)
        """Unread files by size, the next one last. Files not named by their size are read first."""
        self._ahead: list[StoredTreeHead] = []
        """Good tree heads to compare, the next one last."""
        self._frontier = Frontier()
        self.agreed = 0
        """Largest size at which a tree head matched."""
        self.compared = 0
        """Number of tree heads that matched."""
        self._good = 0
        self._diverged = False
        """True if the last tree head differed. Later ones are reported only after one has matched again."""
        self._read_next()

    def leaves(self, rows: Iterable[StoredRow]) -> None:
        frontier = self._frontier
        for row in rows:
            if not self._ahead:
                return
            frontier.add(row.leaf_hash)
            while self._ahead and self._ahead[-1].size <= row.position:
                head = self._ahead.pop()
                if head.size == row.position:
                    self._compare(head, row)
                self._read_next()

    def _read_next(self) -> None:
        """Read files until the next tree head to compare is known."""
        while self._files and (not self._ahead or (size_in_name(self._files[-1]) or 0) <= self._ahead[-1].size):
            file = self._files.pop()
            try:
                head = read_tree_head(file, self._inputs.keys)
                if head.origin != self._inputs.origin:
                    raise ValidationError(other_log(head, self._inputs.origin))
            except ValidationError as problem:
                self._problems.add(ProblemKind.NOTE, size_in_name(file), f"{file}: {problem}")
                continue
            self._good += 1
            self._ahead.append(head)
            self._ahead.sort(key=lambda item: item.size, reverse=True)

    def _compare(self, head: StoredTreeHead, row: StoredRow) -> None:
        roots_agree, chains_agree = self._frontier.root() == head.root, row.chain_hash == head.chain_hash
        if roots_agree and chains_agree:
            self.agreed, self._diverged = head.size, False
            self.compared += 1
            return
        if self._diverged:
            return
        self._diverged = True
        what = "the root of the tree" if not roots_agree else "the chain hash"
        since = f"after position {self.agreed}, up to which it matches," if self.agreed else "from the first event on"
        text = f"{what} of {head.size} events differs from the signed tree head {head.path}: {since} it was rewritten"
        self._problems.add(ProblemKind.NOTE, self.agreed + 1, text, last_position=head.size)

    def finish(self, last_position: int) -> None:
        """Report tree heads beyond the end of the log."""
        longest: StoredTreeHead | None = None
        while self._ahead:
            head = self._ahead.pop()
            longest = head if head.size > last_position else longest
            self._read_next()
        if longest is not None:
            covered = f"the signed tree head {longest.path} covers {longest.size} events"
            text = f"the log ends at {last_position}, but {covered}: the log was truncated"
            self._problems.add(ProblemKind.NOTE, last_position + 1, text, last_position=longest.size)
        if not self._good:
            self._problems.add(ProblemKind.NOTE, None, "there is no good signed tree head to compare the log with")
