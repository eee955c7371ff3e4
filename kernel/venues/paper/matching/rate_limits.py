"""The paper exchange's rate limits: the weight spent in each window by all sessions of the account.

A call over a limit is refused and counts nothing; there are no bans. It shares no code with the kernel's own rate
limiter, so that one verifies the other.
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
"""Binance's text and code of a refusal."""


class LimitUsage:
    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.used = 0
        self._calls: deque[tuple[int, int]] = deque()
        """(instant, weight) of each call in the window."""

    def forget(self, now_ns: int) -> None:
        while self._calls and self._ends_ns(self._calls[0][0]) <= now_ns:
            self.used -= self._calls.popleft()[1]

    def _ends_ns(self, instant_ns: int) -> int:
        """Return when a call at this instant leaves the window."""
        begin_ns = instant_ns // self.limit.window_ns * self.limit.window_ns if self.limit.aligned else instant_ns
        return begin_ns + self.limit.window_ns

    def free_ns(self, weight: int) -> int:
        """Return when this additional weight fits."""
        excess = self.used + weight - self.limit.limit
        for instant_ns, counted in self._calls:
            excess -= counted
            if excess <= 0:
                return self._ends_ns(instant_ns)
        raise AssertionError("`charge` refuses a weight above the limit")

    def add(self, weight: int, now_ns: int) -> None:
        self.used += weight
        self._calls.append((now_ns, weight))


class PaperRates:
    """All rate limits of the account."""

    def __init__(self, limits: Iterable[RateLimit]) -> None:
        self._counted = [LimitUsage(limit) for limit in limits]

    def charge(self, operation: Operation, times: int, *, now_ns: int) -> None:
        """Count a call `times` times; raises `Rejected`, and counts nothing, if that exceeds a limit."""
        weights = [(item, item.limit.weights.get(operation, 0) * times) for item in self._counted]
        for item, weight in weights:
            item.forget(now_ns)
            if weight > item.limit.limit:
                raise Rejected(f"The weight {weight} is above the limit of {item.limit.limit}.", code="-1003")
            if item.used + weight > item.limit.limit:
                text, code = REFUSALS[item.limit.kind]
                wait_s = (item.free_ns(weight) - now_ns) / NS_PER_S
                raise Rejected(text, code=code, retry_after_s=wait_s, rate_limit=item.limit.kind)
        for item, weight in weights:
            if weight:
                item.add(weight, now_ns)

    def usage(self, now_ns: int) -> tuple[RateUsage, ...]:
        for item in self._counted:
            item.forget(now_ns)
        return tuple(
            RateUsage(kind=item.limit.kind, window_ns=item.limit.window_ns, used=item.used) for item in self._counted
        )
