"""The problems that `verify` finds, each with position, kind and sentence, and their report.

Memory is bounded: the first `KEPT_MAX` problems are kept, all are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from kernel.errors import Remedy

KEPT_MAX = 1_000
"""Problems kept; more are only counted."""


class ProblemKind(StrEnum):
    """Kind of a problem; `REMEDIES` has the meaning of each."""

    MISSING = "MISSING"
    REPEATED = "REPEATED"
    CHANGED = "CHANGED"
    CHAIN = "CHAIN"
    DAMAGED = "DAMAGED"
    HEAD = "HEAD"
    STREAM = "STREAM"
    COMMAND = "COMMAND"
    TIME = "TIME"
    UNREADABLE = "UNREADABLE"
    LIFECYCLE = "LIFECYCLE"
    SEND = "SEND"
    EVIDENCE = "EVIDENCE"
    CAUSE = "CAUSE"
    FINDING = "FINDING"
    ACCOUNTING = "ACCOUNTING"
    NOTE = "NOTE"


REMEDIES = {
    ProblemKind.MISSING: Remedy(
        "A position has no event.",
        "`orderctl verify -o json` (the first and the last one)",
        "compare with a backup",
        "lead from a copy whose end is missing before you have compared its orders with the exchange's: only the"
        " exchange knows what was in the end",
    ),
    ProblemKind.REPEATED: Remedy(
        "A position or a command is there twice.",
        "`orderctl verify -o jsonl`",
        "compare both rows with a copy: one of them was inserted",
        "delete either",
    ),
    ProblemKind.CHANGED: Remedy(
        "A column differs from what was recorded: the leaf hash does not match.",
        "the row in SQL, and the same row in a backup",
        "restore a copy that verifies in another place, and tell your auditors",
        "write the old value back",
    ),
    ProblemKind.CHAIN: Remedy(
        "The chain hash does not follow from the previous event: an event was removed, inserted, moved or rewritten.",
        "`orderctl verify --notes DIR --key KEY`: the newest tree head that agrees shows the latest time at which the"
        " log was intact",
        "restore a copy that verifies in another place, and tell your auditors",
        "sign new tree heads of this log",
    ),
    ProblemKind.DAMAGED: Remedy(
        "The database cannot be read.",
        "the disk, and the database's own log and checks",
        "restore it by the database's means, or with `orderctl restore FILE`",
        "write to that disk before you have copied it",
    ),
    ProblemKind.HEAD: Remedy(
        "The row that says where the log ends contradicts the events.",
        "`orderctl verify -o json`",
        "stop all writers and compare with a backup: the end was cut off, or a restore was incomplete",
        "correct the row by hand",
    ),
    ProblemKind.STREAM: Remedy(
        "The versions of a stream have a gap, or the table of streams contradicts the events.",
        "the rows of that stream in SQL",
        "treat it as a removed event",
        "let commands continue for that intent: writers rely on that table",
    ),
    ProblemKind.COMMAND: Remedy(
        "The events of one command are not adjacent, or are not numbered from 0.",
        "`meta` of the rows around it in SQL (host, process, user)",
        "look for a writer that is not this kernel's",
        "let two versions of such a writer continue",
    ),
    ProblemKind.TIME: Remedy(
        "An event was recorded earlier than the previous one.",
        "`meta` of the rows around it in SQL",
        "find out who wrote to the database without the kernel: its own writers never go back",
        "suspect a host's clock: a wrong clock has no effect here",
    ),
    ProblemKind.UNREADABLE: Remedy(
        "An event does not fit its schema, or is newer than this version.",
        "the version that wrote it: `orderctl events --type KernelStarted`",
        "verify with that version or a newer one",
        "convert it",
    ),
    ProblemKind.LIFECYCLE: Remedy(
        "An event cannot follow the events before it.",
        "`orderctl history ID`",
        "if all hashes are correct, this is a bug or a forged event: report it with an export",
        "rely on that intent's state",
    ),
    ProblemKind.SEND: Remedy(
        "A request was sent out of turn, or before it was in the log.",
        "`orderctl history ID`, and the exchange's own list of orders",
        "count the intent's orders at the exchange: two may be open",
        "continue before you know whether two processes led",
    ),
    ProblemKind.EVIDENCE: Remedy(
        "An attempt was resolved, or an order ended, without the evidence that this needs.",
        "`orderctl history ID` (column EVIDENCE)",
        "ask the exchange about that order",
        "assume that the order ended",
    ),
    ProblemKind.CAUSE: Remedy(
        "The event named as the cause cannot be the cause.",
        "`orderctl history ID`",
        "report it with an export",
        "rely on the causes in that history",
    ),
    ProblemKind.FINDING: Remedy(
        "A duplicate order, an overfill or a drift happened, and no finding was raised.",
        "`orderctl describe ID --as-of POSITION`",
        "handle the finding as described above, and report it with an export",
        "conclude from an empty `orderctl get findings` that there was nothing",
    ),
    ProblemKind.ACCOUNTING: Remedy(
        "Positions or balances differ from the sum of the fills.",
        "`orderctl statement`, `orderctl rebuild`",
        "use the exchange's own statement for that symbol, and report it with an export",
        "trade by that position",
    ),
    ProblemKind.NOTE: Remedy(
        "A signed tree head contradicts the log, or is not valid.",
        "`orderctl verify --notes DIR --key KEY`, and who could write to both places",
        "take the tree heads from their other copy; if they still differ, the log was rewritten or cut off there",
        "remove the tree head",
    ),
}  # fmt: skip
"""Every kind, with its entry in the runbook."""


class Problem(msgspec.Struct, frozen=True):
    kind: ProblemKind
    position: int | None
    """Its first position; None if it has none (a note's file)."""
    text: str
    last_position: int | None = None
    """Its last position, if it covers several."""

    def __str__(self) -> str:
        upto = f" to {self.last_position}" if self.last_position not in (None, self.position) else ""
        where = f"position {self.position}{upto}: " if self.position is not None else ""
        return f"{where}{self.text}"


class Problems:
    """Collects problems."""

    def __init__(self) -> None:
        self.total = 0
        self.first_position: int | None = None
        self._kept: list[Problem] = []
        self._by_kind: Counter[ProblemKind] = Counter()
        self._newest: dict[ProblemKind, int] = {}
        """Where the newest of each kind is in `_kept`."""

    def add(self, kind: ProblemKind, position: int | None, text: str, *, last_position: int | None = None) -> None:
        self.total += 1
        self._by_kind[kind] += 1
        if position is not None and (self.first_position is None or position < self.first_position):
            self.first_position = position
        if len(self._kept) < KEPT_MAX:
            self._newest[kind] = len(self._kept)
            self._kept.append(Problem(kind, position, text, last_position))

    def goes_on(self, kind: ProblemKind, position: int) -> bool:
        """Extend the newest problem of a kind by a position, if it ends at the one before; False if not."""
        index = self._newest.get(kind)
        if index is None:
            return False
        known = self._kept[index]
        if known.position is None or (known.last_position or known.position) != position - 1:
            return False
        self._kept[index] = replace(known, last_position=position)
        return True

    def sorted(self) -> tuple[Problem, ...]:
        """The kept problems by position; those without one last."""
        return tuple(
            sorted(self._kept, key=lambda item: (item.position is None, item.position or 0, item.kind, item.text))
        )

    def counts(self) -> dict[str, int]:
        return {str(kind): count for kind, count in sorted(self._by_kind.items())}


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a verification."""

    exchange_id: str
    log_id: str
    position: int
    """The head up to which the log was verified."""
    chain_hash: str
    """The chain hash there, in hex, as in the head row."""
    first_bad_position: int | None
    problems: tuple[Problem, ...]
    """By position; the first ones if there are very many."""
    problem_count: int
    """The number of all problems."""
    counts: Mapping[str, int]
    """Numbers of events, streams, commands, notes, fills … that were checked."""

    @property
    def ok(self) -> bool:
        return self.problem_count == 0
