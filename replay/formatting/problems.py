"""What is wrong with a log: problems, each with its position, its kind and a sentence; and the report that they make up.

Made by the checks of `verifying`, shown by its verb. The memory that they take is bounded: of many problems the first are
kept, and all are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

KEPT_MAX = 1_000
"""How many problems are kept; more are counted."""


class ProblemKind(StrEnum):
    """What sort of thing is wrong."""

    MISSING = "MISSING"
    """A position has no event."""
    REPEATED = "REPEATED"
    """A position, or a command, is there twice."""
    CHANGED = "CHANGED"
    """A column is not what was recorded: the leaf hash does not follow from the columns."""
    CHAIN = "CHAIN"
    """The chain hash does not follow from the event before: something was removed, put in, moved or rewritten."""
    DAMAGED = "DAMAGED"
    """The database can't be read."""
    HEAD = "HEAD"
    """The head row says something else than the last event, or than the first about whose log it is."""
    STREAM = "STREAM"
    """A stream's versions do not count 1 to n, or the table of streams says something else."""
    COMMAND = "COMMAND"
    """A command's events are not next to each other, or not counted from 0."""
    TIME = "TIME"
    """An event was recorded earlier than the one before it."""
    UNREADABLE = "UNREADABLE"
    """An event is not of its schema, or newer than this code."""
    LIFECYCLE = "LIFECYCLE"
    """An event cannot follow what was before it."""
    SEND = "SEND"
    """A request that was not to be sent then, or was not logged first."""
    EVIDENCE = "EVIDENCE"
    """Something is settled or ended without the evidence that it needs."""
    CAUSE = "CAUSE"
    """The event named as the cause can't be it."""
    FINDING = "FINDING"
    """What should not be was seen, and never told."""
    ACCOUNTING = "ACCOUNTING"
    """The fills come to something else than the books."""
    NOTE = "NOTE"
    """A signed note says something else, or is none."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    kind: ProblemKind
    position: int | None
    """The first position where it is; None where it is at none (a note's file)."""
    text: str
    last_position: int | None = None
    """The last one, where it goes on from there."""

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
        """Note one."""
        self.total += 1
        self._by_kind[kind] += 1
        if position is not None and (self.first_position is None or position < self.first_position):
            self.first_position = position
        if len(self._kept) < KEPT_MAX:
            self._newest[kind] = len(self._kept)
            self._kept.append(Problem(kind, position, text, last_position))

    def goes_on(self, kind: ProblemKind, position: int) -> bool:
        """Whether the newest problem of a kind reaches to the position before, and now to this one."""
        index = self._newest.get(kind)
        if index is None:
            return False
        known = self._kept[index]
        if known.position is None or (known.last_position or known.position) != position - 1:
            return False
        self._kept[index] = replace(known, last_position=position)
        return True

    def sorted(self) -> tuple[Problem, ...]:
        """Those kept, by position; those without one come last."""
        return tuple(
            sorted(self._kept, key=lambda item: (item.position is None, item.position or 0, item.kind, item.text))
        )

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {str(kind): count for kind, count in sorted(self._by_kind.items())}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a verification found."""

    exchange_id: str
    log_id: str
    position: int
    """The head that was verified up to."""
    chain_hash: str
    """The chain hash there, in hex, as the head row has it."""
    first_bad_position: int | None
    problems: tuple[Problem, ...]
    """By position; of very many the first ones."""
    problem_count: int
    """All of them."""
    counts: Mapping[str, int]
    """What was gone through: events, streams, commands, foreign events, notes, fills …"""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.problem_count == 0
