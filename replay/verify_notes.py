"""The signed notes of a log against its events: the tree's root and the chain hash at the size of each.

Fed by `verifying` with the stored leaves, in order. A log that was rewritten as a whole, or cut off, is consistent in
itself: only what was kept elsewhere tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kernel.log.base import StoredRow
from kernel.log.tree import Frontier
from replay.notes import Note, NoteBook
from replay.problems import ProblemKind, Problems


class NoteChecks:
    """Goes through the leaves of one log, from the first on."""

    def __init__(self, problems: Problems, book: NoteBook) -> None:
        self._problems = problems
        self._ahead: list[Note] = sorted(book.notes, key=lambda note: note.size, reverse=True)
        self._frontier = Frontier()
        self.agreed = 0
        """The largest size at which a note agreed."""
        self.compared = 0
        """How many notes agreed."""
        self._parted = False
        """Whether the newest note did not agree: those after it say nothing new until one does."""
        for told in book.problems:
            stem = told.path.stem  # the file's name is its size, whatever is in it
            problems.add(ProblemKind.NOTE, int(stem) if stem.isdecimal() and stem.isascii() else None, str(told))
        if not book.notes:
            problems.add(ProblemKind.NOTE, None, "there is no note to compare the log with")

    def leaves(self, rows: Iterable[StoredRow]) -> None:
        """The next events."""
        ahead, frontier = self._ahead, self._frontier
        while ahead and ahead[-1].size == 0:
            ahead.pop()
        for row in rows:
            if not ahead:
                return
            frontier.add(row.leaf_hash)
            while ahead and ahead[-1].size == row.position:
                self._compare(ahead.pop(), row)

    def _compare(self, note: Note, row: StoredRow) -> None:
        roots_agree, chains_agree = self._frontier.root() == note.root, row.chain_hash == note.chain_hash
        if roots_agree and chains_agree:
            self.agreed, self._parted = note.size, False
            self.compared += 1
            return
        if self._parted:
            return
        self._parted = True
        what = "the root of the tree" if not roots_agree else "the chain hash"
        since = f"after {self.agreed}, where the note before it agrees" if self.agreed else "from the first event on"
        text = f"{what} of {note.size} events is not what the note {note.path} has: {since}, something was rewritten"
        self._problems.add(ProblemKind.NOTE, self.agreed + 1, text, last_position=note.size)

    def finish(self, head: int) -> None:
        """There are no more events; `head` was read after the notes were."""
        beyond: Sequence[Note] = [note for note in self._ahead if note.size > head]
        if not beyond:
            return
        note = beyond[0]
        text = f"the log ends at {head}, and the note {note.path} is of {note.size} events: its end was cut off"
        self._problems.add(ProblemKind.NOTE, head + 1, text, last_position=note.size)
