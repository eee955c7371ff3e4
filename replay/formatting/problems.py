"""The problems that `verify` finds, each with position, kind and sentence, and their report.

Memory is bounded: the first `KEPT_MAX` problems are kept, all are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

KEPT_MAX = 1_000
"""Problems kept; more are only counted."""


class ProblemKind(StrEnum):
    MISSING = "MISSING"
    """A position has no event."""
    REPEATED = "REPEATED"
    """A position or a command occurs twice."""
    CHANGED = "CHANGED"
    """The leaf hash does not match the columns: one of them was changed."""
    CHAIN = "CHAIN"
    """The chain hash does not follow from the event before: something was removed, inserted, moved or rewritten."""
    DAMAGED = "DAMAGED"
    """The database cannot be read."""
    HEAD = "HEAD"
    """The head row disagrees with the last event, or with the first about the log's identity."""
    STREAM = "STREAM"
    """A stream's versions do not count 1 to n, or the table of streams disagrees."""
    COMMAND = "COMMAND"
    """A command's events are not adjacent, or not counted from 0."""
    TIME = "TIME"
    """An event was recorded earlier than the one before it."""
    UNREADABLE = "UNREADABLE"
    """An event does not match its schema, or is newer than this version."""
    LIFECYCLE = "LIFECYCLE"
    """An event is not allowed after what was before it."""
    SEND = "SEND"
    """A request was sent when it was not allowed, or was not logged first."""
    EVIDENCE = "EVIDENCE"
    """An attempt is resolved, or an order ended, without the required evidence."""
    CAUSE = "CAUSE"
    """The event named as the cause cannot be the cause."""
    FINDING = "FINDING"
    """An anomaly is in the log without a finding."""
    ACCOUNTING = "ACCOUNTING"
    """The fills do not add up to the positions."""
    NOTE = "NOTE"
    """A signed note disagrees with the log, or is not valid."""


@dataclass(frozen=True, slots=True)
class Problem:
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
        """The number of problems of each kind."""
        return {str(kind): count for kind, count in sorted(self._by_kind.items())}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
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
        """Whether there is no problem."""
        return self.problem_count == 0
