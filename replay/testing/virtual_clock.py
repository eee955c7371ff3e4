"""The clock of tests on virtual time."""

from __future__ import annotations

from kernel.clock import LoopClock
from kernel.settings import ns


class VirtualClock(LoopClock):
    """The time of the running virtual loop."""

    async def advance(self, seconds: float) -> None:
        """Let time pass; everything due until then happens first, in order.

        Args:
            seconds: Time on this clock, in seconds; it takes no real time.
        """
        await self.sleep_until(self.now_ns() + ns(seconds))
