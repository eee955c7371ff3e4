"""Leader election: acquire the lease, raise the epoch, act until either is lost.

Run by `Leader`. A clean start and a restart after a kill are the same: wait for the lease, read the log to its head, append
`LeaderElected`, then act. The engine resolves the attempts that earlier leaders left unresolved.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

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


@dataclass(eq=False)
class Leadership:
    """Campaigns for one kernel."""

    log: EventLog
    state: KernelState
    writer: EventWriter
    lease: Lease
    readiness: Readiness
    clock: Clock
    settings: KernelSettings
    epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._lost = asyncio.Event()
        self._elected = False
        """True if this kernel leads in `epoch`."""
        self.lease.on_lost(self.lose)

    def lose(self) -> None:
        """Stop acting, because the lease is lost or a newer leader was elected."""
        self._lost.set()

    def note_epoch(self, epoch: int) -> None:
        """Stop acting if the log has a newer epoch. Before this kernel's election, epochs are those of earlier leaders."""
        if self._elected and epoch > self.epoch:
            self.lose()

    async def run(self, act: Callable[[int], Awaitable[None]]) -> None:
        """Campaign and lead until canceled; `act(epoch)` acts until it is canceled."""
        while True:
            await self.lease.acquire()
            self._lost.clear()
            try:
                await self._term(act)
            except (ConflictError, FencedError, NotReadyError) as problem:
                logger.warning("leadership lost: %s", problem)
                self.readiness.set(LEASE_HELD, False, "Lost", str(problem))
            finally:
                await self.lease.release()
            await self.clock.sleep_until(self.clock.now_ns() + ns(self.settings.reconnect_s_min))

    async def _term(self, act: Callable[[int], Awaitable[None]]) -> None:
        await self._elect()
        self._elected = True
        self.note_epoch(self.state.epoch)
        self.readiness.set(LEASE_HELD, True, "Elected", f"epoch {self.epoch}, {self.lease.holder}")
        acting = asyncio.ensure_future(act(self.epoch))
        losing = asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait({acting, losing}, return_when=asyncio.FIRST_COMPLETED)
            if acting.done():
                acting.result()
        finally:
            self._elected = False
            self.readiness.set(LEASE_HELD, False, "Lost", "another leader, or stopping")
            for task in (acting, losing):
                task.cancel()
            await asyncio.gather(acting, losing, return_exceptions=True)

    async def _elect(self) -> None:
        """Apply the log to its head, then raise the epoch by one; retry if another kernel raised it."""
        while True:
            head = await self.log.head()
            await self.state.reached(head.position)
            self.epoch = head.epoch + 1
            try:
                await self.writer.append(
                    events.CONTROL_STREAM,
                    [events.LeaderElected(epoch=self.epoch, holder=self.lease.holder)],
                    actor="kernel",
                    evidence=Evidence.COMMAND,
                    epoch=self.epoch,
                    elects=True,
                )
            except FencedError:
                continue
            return
