"""Changes that an opening figure may include or lack, until an observation agrees with it. Used by the ledger.

A venue may answer with data that is older than it declares, and may report a trade after a balance that includes it. The
opening balance then lacks a change that it was taken to include, or includes one that was booked after it. A later
observation shows which: what it differs by is the sum of those changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

CHANGES_MAX = 64
"""Newest changes that are kept of a figure."""


class Change(NamedTuple):
    """One change of a figure."""

    venue_ns: int
    amount: int
    included: bool
    """True if the opening figure was taken to include it."""


@dataclass
class ProvisionalOpening:
    """The opening figures of one kind, by asset or symbol. Field names are stored in checkpoints."""

    unproven: dict[str, list[Change]] = field(default_factory=dict)

    def note(self, name: str, amount: int, *, venue_ns: int, opened_until_ns: int | None) -> None:
        """Note a change; `opened_until_ns` is the last instant that the opening figure may show, None before it."""
        if opened_until_ns is None or venue_ns < opened_until_ns:
            change = Change(venue_ns, amount, included=opened_until_ns is None)
            self.unproven[name] = [*self.unproven.get(name, ())[1 - CHANGES_MAX :], change]

    def prove(self, name: str) -> None:
        """Note that an observation agrees with an opening figure."""
        self.unproven.pop(name, None)

    def lacked(self, name: str, explains: Callable[[int], bool]) -> int:
        """Return what an opening figure lacks, less what it includes unexpectedly; 0 if no instant of it explains that."""
        changes = sorted(self.unproven.get(name, ()))
        for shown in range(len(changes) + 1):
            after = sum(change.amount for change in changes[shown:] if change.included)
            before = sum(change.amount for change in changes[:shown] if not change.included)
            if after != before and explains(after - before):
                return after - before
        return 0
