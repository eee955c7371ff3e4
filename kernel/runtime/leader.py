"""What a kernel with a venue does while it leads: it says so in the log, reconciles, and keeps a session with the venue.

Run by `KernelRuntime`. A kernel without a venue has no leader.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

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


class Leader:
    """Campaigns for the lead, and acts at the venue while it has it."""

    def __init__(
        self,
        *,
        leadership: Leadership,
        session: VenueSession,
        engine: ReconciliationEngine,
        reconciler: VenueReconciler,
        silence: DeadManSwitch,
        writer: EventWriter,
        settings: KernelSettings,
    ) -> None:
        self.leadership = leadership
        self.session = session
        self.reconciler = reconciler
        """The part of `engine` that acts at the venue."""
        self._engine = engine
        self._silence = silence
        self._writer = writer
        self._settings = settings

    async def run(self) -> None:
        """Lead again and again until cancelled."""
        await self.leadership.run(self._act)

    async def _act(self, epoch: int) -> None:
        """Act as the leader of an epoch until cancelled."""
        self.reconciler.lead(epoch)
        started = events.KernelStarted(
            kernel_version=kernel_version(),
            code_hash=build_hash(),
            epoch=epoch,
            settings=self._settings.model_dump(mode="json"),
            capabilities=self.session.known_capabilities(),
        )
        await self._append(started, epoch)
        await self._engine.start()
        try:
            async with self._silence.watching(epoch):
                await self.session.run(epoch)
        finally:
            await self._engine.stop()
            with suppress(KernelError, TimeoutError):
                # A log that is away must not hold up the end.
                async with asyncio.timeout(self._settings.stop_timeout_s):
                    await self._append(events.KernelStopped(epoch=epoch, reason="stopped in order"), epoch)

    async def _append(self, event: events.BaseEvent, epoch: int) -> None:
        await self._writer.append(
            events.CONTROL_STREAM, [event], actor="kernel", evidence=Evidence.COMMAND, epoch=epoch
        )
