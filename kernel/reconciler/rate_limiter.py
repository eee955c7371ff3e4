"""The rate limits of one venue: the remaining capacity, and the order of priorities if it is too small.

`RateLimiter` is arithmetic over instants; `VenueRateLimiter` applies it in time for the callers of the venue. Backoff is
per intent and in the log; rate limits are per venue and in memory (a new leader learns them from the venue's counters).

While no other client uses the account's limits, no window ever exceeds its limit: a call counts from before it is sent
until a window after it ended, refused or not. The reserve is for cancels, half of it also for status queries, which get
at most half of a limit. Higher priorities go first; a priority not served for the ageing time goes first once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from kernel.actions import Priority
from kernel.clock import NS_PER_MS, NS_PER_S, Clock
from kernel.errors import NotSent, Rejected
from kernel.events import canonical_json
from kernel.metrics import LimitReading, Metrics, window_label
from kernel.settings import KernelSettings, ns
from kernel.venues.base import Operation, RateLimit, RateUsage, Venue

RESOLUTION = 1_000
"""Spending within this fraction of a window is merged and counts from its newest call, which bounds memory."""
GRACE_NS = 250 * NS_PER_MS
"""How long others wait for a priority whose turn has come: its worker may be busy."""
QUERIES_SHARE = 0.5
"""Largest share of each limit for status queries: an attempt that no evidence resolves is queried for ever."""


class LimitWindow:
    """The spending in a window of one limit, and its cap."""

    def __init__(self, window_ns: int, cap: int, *, aligned: bool = False, skew_ns: int = 0) -> None:
        """Create a window. If it is `aligned`, the venue's clock assigns calls to windows: it may be off by `skew_ns`."""
        self.window_ns = window_ns
        self.cap = cap
        self._aligned = aligned
        self._skew_ns = skew_ns
        self.under_way = 0
        """Weight of the running calls."""
        self._spent: deque[list[int]] = deque()
        """[first instant, last instant, weight], oldest first."""
        self._sum = 0

    def used(self, now_ns: int) -> int:
        if self._spent and (ahead_ns := self._spent[-1][1] - now_ns) > 0:  # the clock was set back
            self._spent = deque([first - ahead_ns, last - ahead_ns, spent] for first, last, spent in self._spent)
        while self._spent and self.counts_until(self._spent[0][1]) <= now_ns:
            self._sum -= self._spent.popleft()[2]
        return self._sum + self.under_way

    def counts_until(self, spent_ns: int) -> int:
        """Return until when spending at an instant counts."""
        if not self._aligned:
            return spent_ns + self.window_ns
        latest_ns = spent_ns + self._skew_ns
        return latest_ns - latest_ns % self.window_ns + self.window_ns + self._skew_ns

    def spend(self, weight: int, now_ns: int) -> None:
        self._sum += weight
        newest = self._spent[-1] if self._spent else None
        if newest is not None and now_ns - newest[0] <= self.window_ns // RESOLUTION:
            newest[1] = max(newest[1], now_ns)
            newest[2] += weight
        else:
            self._spent.append([now_ns, now_ns, weight])

    def adopt(self, used: int, *, began_ns: int, now_ns: int) -> None:
        """Take over the venue's counter, from an answer to a call that began at `began_ns`.

        Spending beyond ours is by other clients: just now, or in the aligned window of the call.
        """
        spent_ns = began_ns if self._aligned else now_ns
        unknown = used - self.used(now_ns)
        if unknown > 0 and self.counts_until(spent_ns) > now_ns:
            self.spend(unknown, spent_ns)

    def free_at(self, weight: int, now_ns: int) -> int:
        """Return when this weight fits, if nothing more is spent. A weight above the cap needs an empty window."""
        excess = self.used(now_ns) + min(weight, self.cap) - self.cap
        if excess <= 0:
            return now_ns
        for _, last_ns, spent in self._spent:
            excess -= spent
            if excess <= 0:
                return self.counts_until(last_ns)
        return self.counts_until(now_ns)  # the running calls must end first


class LimitWindows:
    """The windows of one rate limit: the whole, and the shares of lower priorities."""

    def __init__(self, limit: RateLimit, reserved_share: float, *, skew_ns: int = 0) -> None:
        self.limit = limit
        self.reserved = reserved_of(limit, reserved_share)
        caps = (
            limit.limit,
            limit.limit - (self.reserved + 1) // 2,
            max(1, int(limit.limit * QUERIES_SHARE)),
            limit.limit - self.reserved,
        )
        self.windows = tuple(LimitWindow(limit.window_ns, cap, aligned=limit.aligned, skew_ns=skew_ns) for cap in caps)
        self.whole, guarded, queries, others = self.windows
        self._spent_in: dict[Priority, tuple[LimitWindow, ...]] = dict.fromkeys(Priority, (self.whole, guarded, others))
        """The windows that each priority spends in, widest first."""
        self._spent_in |= {Priority.CANCEL: (self.whole,), Priority.RESOLVE: (self.whole, guarded, queries)}

    def parts(self, priority: Priority, calls: Iterable[Operation], symbols: int) -> list[tuple[LimitWindow, int]]:
        """Return the windows in which these calls, for so many symbols each, are spent, with the weight."""
        weights, by_symbol = self.limit.weights, self.limit.symbol_weights
        weight = sum(weights.get(call, 0) + symbols * by_symbol.get(call, 0) for call in calls)
        return [(window, weight) for window in self._spent_in[priority]] if weight else []


def reserved_of(limit: RateLimit, share: float) -> int:
    """Return the reserve for cancels: at least one cancel, never all; nothing if cancels are not counted."""
    cancel = limit.weights.get(Operation.CANCEL, 0)
    return min(limit.limit - 1, max(cancel, int(limit.limit * share))) if cancel and share else 0


class RateLimitWait(msgspec.Struct, frozen=True):
    """No capacity for now."""

    until_ns: int
    limits: tuple[RateLimit, ...]
    reason: str


class Permit(msgspec.Struct):
    """The capacity reserved for one call."""

    began_ns: int
    parts: list[tuple[LimitWindow, int]]
    sent: bool = False
    """True if the request may have been sent; if not, its capacity is free again."""


class WaitingPriority(msgspec.Struct):
    """A priority that waits for capacity."""

    since_ns: int
    """When it was last served, or began to wait."""
    until_ns: int
    windows: set[LimitWindow]
    """Where it waits: lower priorities that spend there wait for it."""


class RateLimitExceeded(Exception):
    """A run needs one call more than the rate limit allows now; nothing was sent."""

    def __init__(self, wait: RateLimitWait, *, priority: Priority, call: Operation) -> None:
        self.wait = wait
        self.priority = priority
        self.call = call
        super().__init__(wait.reason)


@dataclass
class RateLimiter:
    """The rate limits of one venue over time."""

    reserved_share: float = 0.2
    ageing_ns: int = 30 * NS_PER_S
    limits: list[LimitWindows] = field(default_factory=list)
    _waiting: dict[Priority, WaitingPriority] = field(default_factory=dict)
    _closed: dict[str, int] = field(default_factory=dict)
    """Until when the venue refuses calls, by kind of limit."""

    def declare(self, limits: Sequence[RateLimit], *, skew_ns: int = 0) -> None:
        """Set the limits; spending of unchanged limits still counts."""
        known = {canonical_json(item.limit): item for item in self.limits}
        self.limits = [
            known.get(canonical_json(limit)) or LimitWindows(limit, self.reserved_share, skew_ns=skew_ns)
            for limit in limits
        ]

    def wait(
        self, priority: Priority, calls: Sequence[Operation], now_ns: int, *, symbols: int = 1
    ) -> RateLimitWait | None:
        """Return None if all these calls may be made now, else when to ask again; lower priorities then wait too."""
        if not calls:
            return None
        windows = {window for window, _ in self._parts(priority, calls, symbols)}
        lacking = self._lacking(priority, calls, now_ns, symbols=symbols)
        until_ns, reason = max((self._closed_until(calls, now_ns), *lacking.values())), "no capacity"
        if until_ns <= now_ns:
            rival = self._rival(priority, windows, now_ns)
            if rival is None:
                return None
            turn_ns = self._waiting[rival].until_ns
            until_ns = turn_ns if turn_ns > now_ns else turn_ns + GRACE_NS + 1
            reason = f"{rival.label} goes first"
        where = set(lacking) or windows
        self._note_waiting(priority, where, until_ns, now_ns)
        limits = tuple(item.limit for item in self.limits if not where.isdisjoint(item.windows))
        return RateLimitWait(until_ns, limits, f"waiting for the venue's rate limit: {reason}")

    def _lacking(
        self, priority: Priority, calls: Sequence[Operation], now_ns: int, *, symbols: int
    ) -> dict[LimitWindow, int]:
        """Return the full windows with the instant of capacity: of each limit only the narrowest.

        While that one is full, no capacity is kept free in the wider ones.
        """
        lacking: dict[LimitWindow, int] = {}
        for item in self.limits:
            found = [
                (window, at_ns)
                for window, weight in item.parts(priority, calls, symbols)
                if (at_ns := window.free_at(weight, now_ns)) > now_ns
            ]
            lacking |= found[-1:]
        return lacking

    def take(self, priority: Priority, call: Operation, now_ns: int, *, times: int = 1, symbols: int = 1) -> Permit:
        """Reserve capacity for a call (`times` for a group) until `finish`. Raises `RateLimitExceeded` without it."""
        calls = (call,) * times
        if (wait := self.wait(priority, calls, now_ns, symbols=symbols)) is not None:
            raise RateLimitExceeded(wait, priority=priority, call=call)
        permit = Permit(now_ns, self._parts(priority, calls, symbols))
        for window, weight in permit.parts:
            window.under_way += weight
        if (known := self._waiting.get(priority)) is not None:
            known.since_ns = known.until_ns = now_ns
        return permit

    def finish(self, permit: Permit, now_ns: int) -> bool:
        """End a call; return whether that frees capacity. Idempotent."""
        parts, permit.parts = permit.parts, []
        for window, weight in parts:
            window.under_way -= weight
            if permit.sent:
                window.spend(weight, now_ns)
        return bool(parts) and not permit.sent

    def adopt_usage(self, usages: Iterable[RateUsage], *, began_ns: int, now_ns: int) -> None:
        """Take over the venue's counters from an answer to a call; counters smaller than ours are outdated."""
        for usage in usages:
            for item in self.limits:
                if (item.limit.kind, item.limit.window_ns) == (usage.kind, usage.window_ns):
                    item.whole.adopt(usage.used, began_ns=began_ns, now_ns=now_ns)

    def close(self, kind: str, until_ns: int) -> None:
        """Record that the venue refuses calls under a kind of limit until an instant."""
        self._closed[kind] = max(until_ns, self._closed.get(kind, until_ns))

    def _closed_until(self, calls: Sequence[Operation], now_ns: int) -> int:
        self._closed = {kind: until_ns for kind, until_ns in self._closed.items() if until_ns > now_ns}
        return max((until_ns for kind, until_ns in self._closed.items() if self._counts(kind, calls)), default=now_ns)

    def _counts(self, kind: str, calls: Sequence[Operation]) -> bool:
        """Return whether a limit of this kind counts one of the calls; an undeclared one counts all."""
        limits = [item.limit for item in self.limits if item.limit.kind == kind]
        return not limits or any(call in limit.weights for limit in limits for call in calls)

    def _parts(self, priority: Priority, calls: Sequence[Operation], symbols: int) -> list[tuple[LimitWindow, int]]:
        return [part for item in self.limits for part in item.parts(priority, calls, symbols)]

    def _note_waiting(self, priority: Priority, windows: set[LimitWindow], until_ns: int, now_ns: int) -> None:
        known = self._waiting.get(priority)
        forgotten = known is None or now_ns > known.until_ns + self.ageing_ns
        since_ns = now_ns if known is None or forgotten else known.since_ns
        self._waiting[priority] = WaitingPriority(since_ns, until_ns, windows)

    def _rival(self, priority: Priority, windows: set[LimitWindow], now_ns: int) -> Priority | None:
        """Return the priority that goes first in these windows, if it is not this one."""
        turns = [(self._turn(priority, now_ns), priority)]
        for other, waiting in self._waiting.items():
            waits = other is not priority and now_ns <= waiting.until_ns + GRACE_NS
            if waits and not windows.isdisjoint(waiting.windows):
                turns.append((self._turn(other, now_ns), other))
        _, first = min(turns)
        return None if first is priority else first

    def _turn(self, priority: Priority, now_ns: int) -> tuple[int, int]:
        """Return the sort key of a priority: overdue ones first by waiting time, then by priority."""
        known = self._waiting.get(priority)
        overdue = known is not None and known.since_ns + self.ageing_ns < now_ns
        return (known.since_ns if known is not None and overdue else now_ns, -priority)


class VenueRateLimiter:
    """The rate limits at the venue of a leading kernel."""

    def __init__(self, venue: Venue, *, clock: Clock, settings: KernelSettings, metrics: Metrics) -> None:
        self._venue = venue
        self._clock = clock
        self._metrics = metrics
        self._limiter = RateLimiter(settings.budget_reserved_share, ns(settings.budget_ageing_s))
        self.on_capacity: Callable[[], None] = lambda: None
        """Called when there may be capacity sooner than announced."""
        self._usage: tuple[RateUsage, ...] = ()
        """The venue's counters as last taken over."""

    def declare(self) -> None:
        capabilities = self._venue.capabilities
        self._limiter.declare(capabilities.rate_limits, skew_ns=capabilities.clock_skew_ns)

    def wait(self, priority: Priority, *calls: Operation, symbols: int = 1) -> RateLimitWait | None:
        """Return None if all these calls, which name so many symbols, may be made now, else when to ask again."""
        wait = self._limiter.wait(priority, calls, self._clock.now_ns(), symbols=symbols)
        return None if wait is None else self._counted(wait, priority)

    async def wait_for_capacity(self, priority: Priority, call: Operation, *, symbols: int = 1) -> None:
        """Return once a call may be made. Workers must not wait here."""
        while (wait := self.wait(priority, call, symbols=symbols)) is not None:
            await self._clock.sleep_until(wait.until_ns)

    @contextmanager
    def permitted(self, priority: Priority, call: Operation, *, times: int = 1, symbols: int = 1) -> Iterator[Permit]:
        """Reserve capacity around a call and its preparation; raises `RateLimitExceeded` if there is none."""
        try:
            permit = self._limiter.take(priority, call, self._clock.now_ns(), times=times, symbols=symbols)
        except RateLimitExceeded as spent:
            self._counted(spent.wait, priority)
            raise
        try:
            yield permit
        finally:
            self._end(permit)

    @contextmanager
    def calling(self, permit: Permit) -> Iterator[None]:
        """Wrap the call itself: note whether it was sent, and the venue's counters and refusals."""
        permit.sent = True
        try:
            yield
        except NotSent:
            permit.sent = False
            raise
        except Rejected as refusal:
            self._note_refusal(refusal)
            raise
        finally:
            self._end(permit)
            self._adopt_usage(permit.began_ns)

    def note_polled(self) -> None:
        """Take over counters that changed without a call of ours, as where the adapter polls for its reports."""
        if self._venue.rate_usage != self._usage:
            self._adopt_usage(self._clock.now_ns())

    def _adopt_usage(self, began_ns: int) -> None:
        self._usage = self._venue.rate_usage
        self._limiter.adopt_usage(self._usage, began_ns=began_ns, now_ns=self._clock.now_ns())

    def _end(self, permit: Permit) -> None:
        if self._limiter.finish(permit, self._clock.now_ns()):
            self.on_capacity()

    def _note_refusal(self, refusal: Rejected) -> None:
        if refusal.rate_limit is not None and refusal.retry_after_s is not None:
            self._limiter.close(refusal.rate_limit, self._clock.now_ns() + ns(refusal.retry_after_s))

    def _counted(self, wait: RateLimitWait, priority: Priority) -> RateLimitWait:
        for limit in wait.limits:
            self._metrics.budget_waits.labels(limit.kind, window_label(limit.window_ns), priority.label).inc()
        return wait

    def readings(self) -> dict[tuple[str, str], LimitReading]:
        """Return the reading of each rate limit by kind and window; of several with one label the fullest."""
        now_ns = self._clock.now_ns()
        by_fullness = sorted(self._limiter.limits, key=lambda item: item.whole.used(now_ns) / item.limit.limit)
        return {
            (item.limit.kind, window_label(item.limit.window_ns)): LimitReading(
                item.whole.used(now_ns), limit=item.limit.limit, reserved=item.reserved
            )
            for item in by_fullness
        }
