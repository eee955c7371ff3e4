"""The clock of tests on virtual time."""

from __future__ import annotations

from kernel.clock import LoopClock
from kernel.settings import ns


class VirtualClock(LoopClock):
    """Shows the time of the virtual loop that runs, and lets it pass."""

    async def advance(self, seconds: float) -> None:
        """Return once so much time has passed; everything that is due until then happens first.

        Args:
            seconds: Time on this clock; it takes no real time.
        """
        await self.sleep_until(self.now_ns() + ns(seconds))
