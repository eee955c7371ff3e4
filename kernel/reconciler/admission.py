"""Rate-limit admission: whether a run may begin under the venue's rate limits, before it appends or sends (step 5).

Asked by the reconciler for each step at the venue. The call of a submit, a cancel or a change is known; the calls of a
status query show only while it is made, as one answer may lead to the next query. So a run that found no capacity for its
next call notes its shortfall here, and the next run for that intent begins only with capacity for all of it: else it would
spend its capacity on the same first query for ever.
"""

from __future__ import annotations

from kernel.actions import ACTION_RULES, ActionKind, Priority
from kernel.clock import IdFactory
from kernel.reconciler.rate_limiter import RateLimitExceeded, VenueRateLimiter
from kernel.reconciler.result import RequeueAfter
from kernel.settings import KernelSettings, ns
from kernel.venues.base import Operation, Venue

CALLS_MAX = 4
"""The most calls that a run can need."""


class RateLimitAdmission:
    """The admission of one engine's runs, and the shortfalls of those that stopped half-way."""

    def __init__(self, limiter: VenueRateLimiter, venue: Venue, *, ids: IdFactory, settings: KernelSettings) -> None:
        self._limiter = limiter
        self._venue = venue
        self._ids = ids
        self._settings = settings
        self._shortfalls: dict[str, tuple[Priority, tuple[Operation, ...]]] = {}
        """The calls for which a run of an intent had no capacity though it had begun."""

    def admit(self, intent_id: str, kind: ActionKind) -> RequeueAfter | None:
        """None where the action may begin; else when its run comes back."""
        rule = ACTION_RULES[kind]
        priority, calls = rule.priority, rule.operations
        if not calls:
            priority, calls = self._shortfalls.get(intent_id, (priority, calls))
        wait = self._limiter.wait(priority, *calls)
        return None if wait is None else RequeueAfter(wait.until_ns, wait.reason, priority)

    def admit_stale(self) -> RequeueAfter | None:
        """The same for the query of an order that is only not confirmed for long. Thousands can get there at the same time,
        and none is urgent: they come back spread out, not in a lane."""
        call = Operation.ORDER if self._venue.capabilities.sees_closed else Operation.SNAPSHOT
        if (wait := self._limiter.wait(Priority.RESYNC, call)) is None:
            return None
        spread_ns = round(ns(self._settings.resync_interval_s) * self._ids.fraction())
        return RequeueAfter(wait.until_ns + spread_ns, wait.reason)

    def note_shortfall(self, intent_id: str, exceeded: RateLimitExceeded) -> RequeueAfter:
        """A run had begun and needed one call more."""
        _, calls = self._shortfalls.get(intent_id, (exceeded.priority, ()))
        self._shortfalls[intent_id] = (exceeded.priority, (*calls, exceeded.call)[-CALLS_MAX:])
        return RequeueAfter(exceeded.wait.until_ns, exceeded.wait.reason, exceeded.priority)

    def clear_shortfall(self, intent_id: str) -> None:
        """A run had the capacity that it needed."""
        self._shortfalls.pop(intent_id, None)

    def retain_only(self, intent_ids: frozenset[str]) -> None:
        """Forget all other intents."""
        for intent_id in self._shortfalls.keys() - intent_ids:
            del self._shortfalls[intent_id]
