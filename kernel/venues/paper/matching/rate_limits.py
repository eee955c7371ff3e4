"""The paper exchange's rate limits: what its one client account has spent in each window, sliding or aligned.

Kept by `paper_engine`, one for all sessions of the account. A call that would go over a limit is refused and counts
nothing: there is never a ban. It shares no code with the kernel's own budget, so that one checks the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from kernel.clock import NS_PER_S
from kernel.errors import Rejected
from kernel.venues.base import Operation, RateLimit, RateLimitKind, RateUsage

REFUSALS = {
    RateLimitKind.REQUEST_WEIGHT: ("Too much request weight used.", "-1003"),
    RateLimitKind.ORDERS: ("Too many new orders.", "-1015"),
}
"""What a refusal says, and its code; Binance's."""


class LimitUsage:
    """What one limit has counted."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.used = 0
        self._calls: deque[tuple[int, int]] = deque()
        """(instant, weight) of each call in the window."""

    def forget(self, now_ns: int) -> None:
        """What is as old as the window no longer counts."""
        while self._calls and self._ends_ns(self._calls[0][0]) <= now_ns:
            self.used -= self._calls.popleft()[1]

    def _ends_ns(self, instant_ns: int) -> int:
        """When the window ends in which an instant counts."""
        begin_ns = instant_ns // self.limit.window_ns * self.limit.window_ns if self.limit.aligned else instant_ns
        return begin_ns + self.limit.window_ns

    def free_ns(self, weight: int) -> int:
        """When so much more fits."""
        excess = self.used + weight - self.limit.limit
        for instant_ns, counted in self._calls:
            excess -= counted
            if excess <= 0:
                return self._ends_ns(instant_ns)
        raise AssertionError("more than the limit was asked for at once")

    def add(self, weight: int, now_ns: int) -> None:
        """A call was taken."""
        self.used += weight
        self._calls.append((now_ns, weight))


class PaperRates:
    """All limits of the account."""

    def __init__(self, limits: Iterable[RateLimit]) -> None:
        self._counted = [LimitUsage(limit) for limit in limits]

    def charge(self, operation: Operation, times: int, *, now_ns: int) -> None:
        """Count a call, or so many at once. `Rejected`, and nothing counted, where that is over a limit."""
        weights = [(item, item.limit.weights.get(operation, 0) * times) for item in self._counted]
        for item, weight in weights:
            item.forget(now_ns)
            if weight > item.limit.limit:
                raise Rejected(f"This weighs {weight}, more than the limit of {item.limit.limit}.", code="-1003")
            if item.used + weight > item.limit.limit:
                text, code = REFUSALS[item.limit.kind]
                wait_s = (item.free_ns(weight) - now_ns) / NS_PER_S
                raise Rejected(text, code=code, retry_after_s=wait_s, rate_limit=item.limit.kind)
        for item, weight in weights:
            if weight:
                item.add(weight, now_ns)

    def usage(self, now_ns: int) -> tuple[RateUsage, ...]:
        """The counters, as answers tell them."""
        for item in self._counted:
            item.forget(now_ns)
        return tuple(
            RateUsage(kind=item.limit.kind, window_ns=item.limit.window_ns, used=item.used) for item in self._counted
        )
