"""Compares this host's clock with the venue's: at each connect, and after a request was refused for its timestamp.

Used by the session. One finding for the host tells the difference, and is resolved once the clocks agree. After a refusal
nothing more is sent while they differ (condition `VENUE_CLOCK`), as it would be refused too; where the adapter takes stamps
in venue time (`adjusts_clock`), requests are stamped by the difference instead and go on. Where the venue does not tell its
time, the refusals alone raise the finding, and their end resolves it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from kernel.clock import NS_PER_S, Clock, elapsed_ns, wait_for
from kernel.errors import VenueError
from kernel.models import FindingKind
from kernel.runtime.finding_writer import FindingWriter
from kernel.safety.readiness import VENUE_CLOCK, Readiness
from kernel.venues.guard import GuardedVenue

logger = logging.getLogger(__name__)

DIFFERENCE_NS_MAX = NS_PER_S
"""Largest difference of the clocks without a finding, on top of what the venue declares and the query took."""
REFUSED_INTERVAL_NS = 5 * NS_PER_S
"""Interval of comparisons while requests are refused."""
DIFFERING_INTERVAL_NS = 60 * NS_PER_S
"""Interval of comparisons while the clocks differ and nothing was refused."""
REFUSAL_NS = 150 * NS_PER_S
"""Without a refusal for so long, longer than a refused order waits, the clocks count as agreeing again."""


Reading = tuple[int, int, int]
"""The host's time before a query, the venue's, and the host's after it."""


@dataclass(eq=False)
class VenueClock:
    """The difference between this host's clock and one venue's."""

    venue: GuardedVenue
    findings: FindingWriter
    readiness: Readiness
    clock: Clock
    ask: Callable[[Callable[[], Awaitable[Reading]]], Awaitable[Reading]]
    """Makes the query when the rate limit permits."""
    host: str = field(default_factory=socket.gethostname)
    ahead_ns: int | None = field(default=None, init=False)
    """This host's clock less the venue's, as last compared; None if it never was."""
    agrees: bool = field(default=False, init=False)
    """True if the last comparison found no difference worth a finding."""

    def __post_init__(self) -> None:
        self._compared_at_ns: int | None = None
        """This host's clock less the event loop's, which no one sets, when the clocks were compared last."""
        self._refused = asyncio.Event()
        self.venue.on_timestamp_refused = self._refused.set
        self.venue.lead_ns = self.lead_ns

    async def run(self) -> None:
        """Compare now, after each refusal, and repeatedly while the clocks differ."""
        self.readiness.set(VENUE_CLOCK, True, "NotCompared")
        self._compared_at_ns = self._since_loop_ns()
        try:
            while self.venue.capabilities.tells_time:
                await self._compare()
                if self.ahead_ns is None or self.agrees:
                    self.readiness.set(VENUE_CLOCK, True, "Compared" if self.agrees else "NotCompared", self._text())
                    await self._refused.wait()
                    continue
                refused = self._refused.is_set()
                self.readiness.set(VENUE_CLOCK, not refused, "Refused" if refused else "Differs", self._text())
                await self._sleep(REFUSED_INTERVAL_NS if refused else DIFFERING_INTERVAL_NS)
            await self._watch_refusals()
        finally:
            self.agrees = False

    async def _watch_refusals(self) -> None:
        """Raise and resolve the finding without the venue's time; a finding of an earlier session may be open."""
        while True:
            await self._sleep(REFUSAL_NS)
            await self.findings.settled()
            if self._refused.is_set():
                self._refused.clear()
                text = f"the venue refuses requests for their timestamps: the clock of {self.host} differs from its own"
                self.findings.raise_finding(FindingKind.CLOCK_SKEW, self.host, text)
            else:
                self.findings.resolve(
                    FindingKind.CLOCK_SKEW, self.host, "no request is refused for its timestamp any more"
                )
                await self._refused.wait()

    def lead_ns(self) -> int:
        """Return by how much this host is ahead of the venue now, as far as is known; 0 if it is behind.

        A clock that was set since the comparison is ahead by as much more.
        """
        if self._compared_at_ns is None:
            return 0
        return max(0, (self.ahead_ns or 0) + self._since_loop_ns() - self._compared_at_ns)

    def _since_loop_ns(self) -> int:
        return self.clock.now_ns() - elapsed_ns()

    def _text(self) -> str:
        """Return the difference as a sentence; empty if it is not known."""
        if self.ahead_ns is None:
            return ""
        side = "ahead of" if self.ahead_ns > 0 else "behind"
        text = f"the clock of {self.host} is {abs(self.ahead_ns) / NS_PER_S:.3f} s {side} the venue's"
        if self._refused.is_set():
            return f"{text}: the venue refuses requests for it"
        return f"{text}: requests are stamped in venue time" if self.venue.stamp_shift_ns else text

    async def _compare(self) -> None:
        """Compare the clocks, and raise or resolve the finding; after a failed query the difference is not known."""
        try:
            began_ns, venue_ns, ended_ns = await self.ask(self._read)
        except VenueError as problem:
            logger.warning("the venue's time cannot be read: %s", problem)
            self._refused.clear()
            self.ahead_ns, self.agrees = None, False
            return
        half_ns = (ended_ns - began_ns) // 2
        self.ahead_ns = began_ns + half_ns - venue_ns
        self._compared_at_ns = self._since_loop_ns()
        capabilities = self.venue.capabilities
        self.agrees = abs(self.ahead_ns) <= DIFFERENCE_NS_MAX + capabilities.clock_skew_ns + half_ns
        is_adjusted = capabilities.adjusts_clock and (self._refused.is_set() or not self.agrees)
        # Rounded so that no request stays valid for longer than its attempt says.
        self.venue.stamp_shift_ns = -self.ahead_ns - half_ns if is_adjusted else 0
        if self.agrees or is_adjusted:
            self._refused.clear()
        await self.findings.settled()
        if self.agrees:
            self.findings.resolve(FindingKind.CLOCK_SKEW, self.host, "the clock agrees with the venue's")
            return
        refused = self._refused.is_set() or None
        self.findings.raise_finding(FindingKind.CLOCK_SKEW, self.host, self._text(), blocks_sending=refused)

    async def _read(self) -> Reading:
        began_ns = self.clock.now_ns()
        return began_ns, await self.venue.time_ns(), self.clock.now_ns()

    async def _sleep(self, interval_ns: int) -> None:
        """Wait for the interval, or for the first refusal."""
        event = None if self._refused.is_set() else self._refused
        await wait_for(self.clock, event=event, due_ns=self.clock.now_ns() + interval_ns)
