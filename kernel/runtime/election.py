"""Who leads: hold the lease, raise the epoch, act until either is lost.

Run by the controller of a kernel that has a venue. A clean start and a start after a kill are the same: wait for the lease,
fold to the head, append `LeaderElected`, then act. What older leaders left unsettled, the engine settles.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kernel import events
from kernel.clock import Clock
from kernel.errors import ConflictError, FencedError, NotReadyError
from kernel.lease import Lease
from kernel.log.base import EventLog
from kernel.models import Evidence
from kernel.safety.readiness import LEASE_HELD, Readiness
from kernel.settings import KernelSettings, ns
from kernel.state import KernelState
from kernel.streams.event_writer import EventWriter

logger = logging.getLogger(__name__)


class Leadership:
    """Campaigns for one kernel."""

    def __init__(
        self,
        log: EventLog,
        state: KernelState,
        writer: EventWriter,
        lease: Lease,
        readiness: Readiness,
        *,
        clock: Clock,
        settings: KernelSettings,
    ) -> None:
        self._log = log
        self._state = state
        self._writer = writer
        self._lease = lease
        self._readiness = readiness
        self._clock = clock
        self._settings = settings
        self._lost = asyncio.Event()
        self._elected = False
        """Whether `epoch` is one that we lead in."""
        self.epoch = 0
        lease.on_lost(self.lose)

    def lose(self) -> None:
        """The lease is gone, or a newer leader was seen: stop acting."""
        self._lost.set()

    def note_epoch(self, epoch: int) -> None:
        """The fold is at this epoch: one above our own means that somebody else was elected. Before our election that says
        nothing: the fold shows the epochs of those who led before."""
        if self._elected and epoch > self.epoch:
            self.lose()

    async def run(self, act: Callable[[int], Awaitable[None]]) -> None:
        """Lead again and again until cancelled; `act(epoch)` acts until it is cancelled."""
        while True:
            await self._lease.acquire()
            self._lost.clear()
            try:
                await self._term(act)
            except (ConflictError, FencedError, NotReadyError) as problem:
                logger.warning("leading ended: %s", problem)
                self._readiness.set(LEASE_HELD, False, "Lost", str(problem))
            finally:
                await self._lease.release()
            await self._clock.sleep_until(self._clock.now_ns() + ns(self._settings.reconnect_s_min))

    async def _term(self, act: Callable[[int], Awaitable[None]]) -> None:
        await self._elect()
        self._elected = True
        self.note_epoch(self._state.epoch)
        self._readiness.set(LEASE_HELD, True, "Elected", f"epoch {self.epoch}, {self._lease.holder}")
        acting = asyncio.ensure_future(act(self.epoch))
        losing = asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait({acting, losing}, return_when=asyncio.FIRST_COMPLETED)
            if acting.done():
                acting.result()
        finally:
            self._elected = False
            self._readiness.set(LEASE_HELD, False, "Lost", "another leader, or stopping")
            for task in (acting, losing):
                task.cancel()
            await asyncio.gather(acting, losing, return_exceptions=True)

    async def _elect(self) -> None:
        """Fold to the head, then raise the epoch by one; somebody else's raise means: look again."""
        while True:
            head = await self._log.head()
            await self._state.reached(head.position)
            epoch = head.epoch + 1
            self.epoch = epoch
            elected = events.LeaderElected(epoch=epoch, holder=self._lease.holder)
            try:
                await self._writer.append(
                    events.CONTROL_STREAM,
                    [elected],
                    actor="kernel",
                    evidence=Evidence.COMMAND,
                    epoch=epoch,
                    elects=True,
                )
            except FencedError:
                continue
            return
