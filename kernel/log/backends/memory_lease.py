"""The lease of a log in memory, for tests and for runs on virtual time.

Given out by `MemoryLog`. The place where it is held is kept with the rows that it guards.
"""

from __future__ import annotations

import asyncio

from kernel.clock import IdFactory
from kernel.lease import FAR_FUTURE_NS, Lease


class LeasePlace:
    """Who holds the lease of one recorder."""

    def __init__(self) -> None:
        self.holder: str | None = None
        self.released = asyncio.Event()
        """Set by each release, cleared by each acquisition."""


class MemoryLease(Lease):
    """The lease of a log in memory: held by one kernel of this process."""

    def __init__(self, place: LeasePlace, *, ids: IdFactory | None = None) -> None:
        super().__init__(ids=ids)
        self._place = place

    @property
    def held(self) -> bool:
        """See `Lease.held`."""
        return self._place.holder == self.holder

    async def acquire(self, wait: bool = True) -> bool:
        """See `Lease.acquire`."""
        while not self.held and self._place.holder is not None:
            if not wait:
                return False
            await self._place.released.wait()
        self._place.holder = self.holder
        self._place.released.clear()
        return True

    def deadline_ns(self) -> int | None:
        """See `Lease.deadline_ns`."""
        return FAR_FUTURE_NS if self.held else None

    async def release(self) -> None:
        """See `Lease.release`."""
        if self.held:
            self._place.holder = None
            self._place.released.set()
