"""Whether a run of the reconciler has room in the rate budget, before it records or sends anything (step 5).

Asked by the reconciler for each action that calls the venue. What a submit, a cancel or a change needs is known; what a
look needs turns out while it is made, as one answer may lead to the next question. So a run that found no room for its
next call leaves word here, and the next run for that intent begins only with room for all of it: else it would spend its
room on the same first question for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel import plan as planning
from kernel.budget import BudgetSpent, VenueBudget
from kernel.clock import IdFactory
from kernel.settings import KernelSettings, ns
from kernel.venues.base import Operation, Venue
from kernel.workqueue import Priority

CALLS: dict[type[planning.Action], tuple[Priority, tuple[Operation, ...]]] = {
    planning.Cancel: (Priority.CANCEL, (Operation.CANCEL,)),
    planning.Amend: (Priority.MODIFY, (Operation.AMEND,)),
    planning.Submit: (Priority.SUBMIT, (Operation.SUBMIT,)),
}
"""With what priority, and for what, the venue is called for these actions."""
CALLS_MAX = 4
"""As many calls as a run can need."""
AGED = "the venue has not confirmed it for long"
"""Why an order is asked about that nothing is wrong with."""


@dataclass(frozen=True, slots=True)
class NoRoom:
    """A run has to wait."""

    until_ns: int
    reason: str
    line: Priority | None
    """In which line of the queue its key keeps its place; None: in none."""


class Room:
    """The room that the runs of one engine find, and what they lacked."""

    def __init__(self, budget: VenueBudget, venue: Venue, *, ids: IdFactory, settings: KernelSettings) -> None:
        self._budget = budget
        self._venue = venue
        self._ids = ids
        self._settings = settings
        self._lacked: dict[str, tuple[Priority, tuple[Operation, ...]]] = {}
        """The calls for which runs of an intent had no room though they had begun."""

    def missing(self, intent_id: str, action: planning.Action) -> NoRoom | None:
        """None where the action may begin."""
        if (
            isinstance(action, planning.Ask)
            and action.reason == AGED
            and (aged := self._missing_for_aged()) is not None
        ):
            return aged
        priority, calls = CALLS.get(type(action)) or self._lacked.get(intent_id, (Priority.SETTLE, ()))
        wait = self._budget.wait(priority, *calls)
        return None if wait is None else NoRoom(wait.until_ns, wait.reason, priority)

    def _missing_for_aged(self) -> NoRoom | None:
        """Thousands can grow old at the same time, and none of them hurries: they come back spread out, not in line."""
        call = Operation.ORDER if self._venue.capabilities.sees_closed else Operation.SNAPSHOT
        if (wait := self._budget.wait(Priority.RESYNC, call)) is None:
            return None
        spread_ns = round(ns(self._settings.resync_interval_s) * self._ids.fraction())
        return NoRoom(wait.until_ns + spread_ns, wait.reason, None)

    def lacked(self, intent_id: str, spent: BudgetSpent) -> NoRoom:
        """A run had begun and needed one call more."""
        _, calls = self._lacked.get(intent_id, (spent.priority, ()))
        self._lacked[intent_id] = (spent.priority, (*calls, spent.call)[-CALLS_MAX:])
        return NoRoom(spent.wait.until_ns, spent.wait.reason, spent.priority)

    def enough(self, intent_id: str) -> None:
        """A run had the room that it needed."""
        self._lacked.pop(intent_id, None)

    def keep(self, intent_ids: frozenset[str]) -> None:
        """Forget all others."""
        for intent_id in self._lacked.keys() - intent_ids:
            del self._lacked[intent_id]
