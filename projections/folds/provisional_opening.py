"""Changes that an opening figure may include or lack, until an observation agrees with it. Used by the ledger.

A venue may answer with data that is older than it declares, and may report a trade after a balance that includes it. The
opening balance then lacks a change that it was taken to include, or includes one that was booked after it. A later
observation shows which: what it differs by is the sum of those changes. That observation may be as old itself, so the
newest one decides, until one agrees that is certainly newer than the changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from kernel.clock import NS_PER_S

CHANGES_MAX = 64
"""Newest changes that are kept of a figure."""
ANSWER_AGE_MAX_NS = 60 * NS_PER_S
"""Data of an answer is never older than this, whatever the venue declares."""


class Change(NamedTuple):
    """One change of a figure."""

    venue_ns: int
    amount: int
    included: bool
    """True if the opening figure is taken to include it."""


class ProvisionalOpening(msgspec.Struct):
    """The opening figures of one kind, by asset or symbol. Field names are stored in checkpoints."""

    unproven: dict[str, list[Change]] = {}

    def note(self, name: str, amount: int, venue_ns: int, *, included: bool) -> None:
        """Note a change that the opening figure may include or lack, and whether it is taken to include it."""
        changes = self.unproven.setdefault(name, [])
        changes.append(Change(venue_ns, amount, included))
        if len(changes) > CHANGES_MAX:
            del changes[0]

    def prove(self, name: str, *, began_ns: int, opened_until_ns: int) -> None:
        """Note that an observation agrees with an opening figure; one that may be older than the changes proves nothing."""
        if began_ns >= opened_until_ns + ANSWER_AGE_MAX_NS:
            self.unproven.pop(name, None)

    def correct(self, name: str, explains: Callable[[int], bool]) -> int:
        """Take an opening figure for one of the instant that explains an observation.

        Returns what it lacks by that, less what it includes, of what it was taken to; 0 if no instant explains it.
        """
        changes = sorted(self.unproven.get(name, ()))
        for shown in range(len(changes) + 1):
            after = sum(change.amount for change in changes[shown:] if change.included)
            before = sum(change.amount for change in changes[:shown] if not change.included)
            if after != before and explains(after - before):
                self.unproven[name] = [item._replace(included=at < shown) for at, item in enumerate(changes)]
                return after - before
        return 0
