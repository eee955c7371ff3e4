"""The signed notes of a log against its events: the tree's root and the chain hash at the size of each.

Fed by `verifying` with the stored leaves, in order. A log that was rewritten as a whole, or cut off, is consistent in
itself: only what was kept elsewhere tells. Which notes there are is found out at the beginning; each is read when its
turn comes, so that it does not matter how many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import NotFoundError, ValidationError
from kernel.log.base import EventLog, StoredRow
from kernel.log.merkle import Frontier
from replay.formatting.problems import ProblemKind, Problems
from replay.transparency.signed_note import VerifierKey, origin_of
from replay.transparency.tree_head_store import StoredTreeHead, read_tree_head, size_in_name, tree_head_files

NO_KEY = "a note says nothing without the key that signed it: give the verifier key (--key)"


@dataclass(frozen=True, slots=True)
class TreeHeadInputs:
    """The notes that a log is held against."""

    files: tuple[Path, ...]
    keys: tuple[VerifierKey, ...]
    origin: str
    begin: StoredTreeHead | None = None
    """What was before this one was verified before."""


def tree_head_inputs(
    log: EventLog, notes: str | Path | None, keys: Iterable[VerifierKey], start: str | Path | None
) -> TreeHeadInputs:
    """The notes in a directory (by default that of the note to start at). Called before the log's head is read: none of
    them can be of a longer log then.

    Raises `ValidationError` without a key and for a note that can't be started at, `NotFoundError` where none is.
    """
    trusted, origin = tuple(keys), origin_of(log)
    if not trusted:
        raise ValidationError(NO_KEY)
    begin = tree_head_to_start_at(Path(start), trusted, origin) if start is not None else None
    files = tree_head_files(notes if notes is not None else Path(start or ".").parent)
    if begin is not None:
        later = [file for file in files if (size_in_name(file) or begin.size) >= begin.size]
        files = [begin.path, *(file for file in later if file.resolve() != begin.path.resolve())]
    return TreeHeadInputs(tuple(files), trusted, origin, begin)


def notes_for(origin: str, notes: str | Path, keys: Iterable[VerifierKey]) -> TreeHeadInputs:
    """The notes at a path, for a log that is called so. Raises what `tree_head_inputs` raises."""
    trusted = tuple(keys)
    if not trusted:
        raise ValidationError(NO_KEY)
    return TreeHeadInputs(tuple(tree_head_files(notes)), trusted, origin)


def tree_head_to_start_at(path: Path, keys: Sequence[VerifierKey], origin: str) -> StoredTreeHead:
    """The note in a file, which must be a good one of this log."""
    if not path.is_file():
        raise NotFoundError(f"there is no note {path} to start at")
    try:
        note = read_tree_head(path, keys)
    except ValidationError as problem:
        raise ValidationError(f"the verification can't start at {path}: {problem}") from problem
    if note.origin != origin:
        raise ValidationError(f"the verification can't start at {path}: it is of another log, {note.origin}")
    return note


class TreeHeadChecks:
    """Goes through the leaves of one log, from the first on."""

    def __init__(self, problems: Problems, given: TreeHeadInputs) -> None:
        self._problems = problems
        self._given = given
        self._files = sorted(given.files, key=lambda file: size_in_name(file) or 0, reverse=True)
        """Those to come, the next one last; one that is not named by its size is read first."""
        self._ahead: list[StoredTreeHead] = []
        """Good notes that were read and are to come, the next one last."""
        self._frontier = Frontier()
        self.agreed = 0
        """The largest size at which a note agreed."""
        self.compared = 0
        """How many notes agreed."""
        self._good = 0
        self._diverged = False
        """Whether the newest note did not agree: those after it say nothing new until one does."""
        self._read_next()

    def leaves(self, rows: Iterable[StoredRow]) -> None:
        """The next events."""
        frontier = self._frontier
        for row in rows:
            if not self._ahead:
                return  # no note is left
            frontier.add(row.leaf_hash)
            while self._ahead and self._ahead[-1].size <= row.position:
                note = self._ahead.pop()
                if note.size == row.position:
                    self._compare(note, row)
                self._read_next()

    def _read_next(self) -> None:
        """Read on until a good note is ahead that no unread one comes before."""
        while self._files and (not self._ahead or (size_in_name(self._files[-1]) or 0) <= self._ahead[-1].size):
            file = self._files.pop()
            try:
                note = read_tree_head(file, self._given.keys)
                if note.origin != self._given.origin:
                    raise ValidationError(f"it is of another log, {note.origin}, not of {self._given.origin}")
            except ValidationError as problem:
                self._problems.add(ProblemKind.NOTE, size_in_name(file), f"{file}: {problem}")
                continue
            self._good += 1
            self._ahead.append(note)
            self._ahead.sort(key=lambda item: item.size, reverse=True)

    def _compare(self, note: StoredTreeHead, row: StoredRow) -> None:
        roots_agree, chains_agree = self._frontier.root() == note.root, row.chain_hash == note.chain_hash
        if roots_agree and chains_agree:
            self.agreed, self._diverged = note.size, False
            self.compared += 1
            return
        if self._diverged:
            return
        self._diverged = True
        what = "the root of the tree" if not roots_agree else "the chain hash"
        since = f"after {self.agreed}, where the note before it agrees" if self.agreed else "from the first event on"
        text = f"{what} of {note.size} events is not what the note {note.path} has: {since}, something was rewritten"
        self._problems.add(ProblemKind.NOTE, self.agreed + 1, text, last_position=note.size)

    def finish(self, head: int) -> None:
        """There are no more events."""
        longest: StoredTreeHead | None = None
        while self._ahead:
            note = self._ahead.pop()
            longest = note if note.size > head else longest
            self._read_next()
        if longest is not None:
            text = (
                f"the log ends at {head}, and the note {longest.path} is of {longest.size} events: its end was cut off"
            )
            self._problems.add(ProblemKind.NOTE, head + 1, text, last_position=longest.size)
        if not self._good:
            self._problems.add(ProblemKind.NOTE, None, "there is no good note to compare the log with")
