"""Rate-limit admission: whether a run may begin under the venue's rate limits (step 5 of the protocol).

Called by the reconciler before each step. A submit, cancel or modify makes one known call; a status query may need more,
as one answer can lead to the next query. A run that lacked capacity for a further call records its shortfall here, and
the intent's next run begins only with capacity for all of it; else it would repeat its first query for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kernel.actions import ACTION_RULES, ActionKind, Priority
from kernel.clock import IdFactory
from kernel.reconciler.rate_limiter import RateLimitExceeded, VenueRateLimiter
from kernel.reconciler.result import RequeueAfter
from kernel.settings import KernelSettings, ns
from kernel.venues.base import Operation, Venue

CALLS_MAX = 4
"""The most calls that one run can need."""


@dataclass(eq=False)
class RateLimitAdmission:
    """The admission of one engine's runs, and the shortfalls of unfinished ones."""

    limiter: VenueRateLimiter
    venue: Venue
    ids: IdFactory
    settings: KernelSettings
    _shortfalls: dict[str, tuple[Priority, tuple[Operation, ...]]] = field(default_factory=dict, init=False)
    """Calls for which an intent's unfinished run had no capacity."""

    def admit(self, intent_id: str, kind: ActionKind) -> RequeueAfter | None:
        """Return None if the action may begin, else when to run again."""
        rule = ACTION_RULES[kind]
        priority, calls = rule.priority, rule.operations
        if not calls:
            priority, calls = self._shortfalls.get(intent_id, (priority, calls))
        wait = self.limiter.wait(priority, *calls)
        return None if wait is None else RequeueAfter(wait.until_ns, wait.reason, priority)

    def admit_stale(self) -> RequeueAfter | None:
        """Return the same for the query of an order that is only stale.

        Thousands can become stale at once and none is urgent: their runs are spread out instead of parked in a lane.
        """
        call = Operation.ORDER if self.venue.capabilities.queries_single_orders else Operation.SNAPSHOT
        if (wait := self.limiter.wait(Priority.RESYNC, call)) is None:
            return None
        spread_ns = round(ns(self.settings.resync_interval_s) * self.ids.fraction())
        return RequeueAfter(wait.until_ns + spread_ns, wait.reason)

    def note_shortfall(self, intent_id: str, exceeded: RateLimitExceeded) -> RequeueAfter:
        """Record that a running run needs one more call."""
        _, calls = self._shortfalls.get(intent_id, (exceeded.priority, ()))
        self._shortfalls[intent_id] = (exceeded.priority, (*calls, exceeded.call)[-CALLS_MAX:])
        return RequeueAfter(exceeded.wait.until_ns, exceeded.wait.reason, exceeded.priority)

    def clear_shortfall(self, intent_id: str) -> None:
        self._shortfalls.pop(intent_id, None)

    def retain_only(self, intent_ids: frozenset[str]) -> None:
        for intent_id in self._shortfalls.keys() - intent_ids:
            del self._shortfalls[intent_id]
