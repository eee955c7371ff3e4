"""The work of a kernel with a venue while it leads: record that in the log, reconcile, and keep a session with the venue.

Run by `KernelRuntime`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from kernel import events
from kernel.errors import KernelError
from kernel.models import Evidence
from kernel.platform.version import build_hash, kernel_version
from kernel.reconciler.engine import ReconciliationEngine
from kernel.reconciler.venue_reconciler import VenueReconciler
from kernel.runtime.dead_man_switch import DeadManSwitch
from kernel.runtime.election import Leadership
from kernel.runtime.venue_session import VenueSession
from kernel.settings import KernelSettings
from kernel.streams.event_writer import EventWriter


@dataclass(frozen=True, kw_only=True, eq=False)
class Leader:
    """Campaigns for leadership, and acts at the venue while it leads."""

    leadership: Leadership
    session: VenueSession
    engine: ReconciliationEngine
    reconciler: VenueReconciler
    """The part of `engine` that acts at the venue."""
    dead_man_switch: DeadManSwitch
    writer: EventWriter
    settings: KernelSettings

    async def run(self) -> None:
        """Campaign and lead until canceled."""
        await self.leadership.run(self._act)

    async def _act(self, epoch: int) -> None:
        self.reconciler.lead(epoch)
        started = events.KernelStarted(
            kernel_version=kernel_version(),
            code_hash=build_hash(),
            epoch=epoch,
            settings=self.settings.model_dump(mode="json"),
            capabilities=self.session.known_capabilities(),
        )
        await self._append(started, epoch)
        await self.engine.start()
        try:
            async with self.dead_man_switch.watching(epoch):
                await self.session.run(epoch)
        finally:
            await self.engine.stop()
            with suppress(KernelError, TimeoutError):
                # A lost log must not delay the stop.
                async with asyncio.timeout(self.settings.stop_timeout_s):
                    await self._append(events.KernelStopped(epoch=epoch, reason="stopped in order"), epoch)

    async def _append(self, event: events.BaseEvent, epoch: int) -> None:
        await self.writer.append(events.CONTROL_STREAM, [event], actor="kernel", evidence=Evidence.COMMAND, epoch=epoch)
