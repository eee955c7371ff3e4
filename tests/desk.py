"""A whole kernel at the scripted exchange, for tests of what strategies call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from kernel import EventSourcedKernel, events
from kernel.clock import Clock, LoopClock, SeededIds
from kernel.log import EventLog, open_log
from kernel.settings import KernelSettings
from kernel.venues.base import VenueCapabilities
from replay import open_kernel
from replay.testing import ScriptedVenue
from replay.testing.scripted_exchange import ScriptedExchange

CAPABILITIES = VenueCapabilities(validity_window_ns=3_000_000_000)


@dataclass
class Desk:
    """A kernel that runs, its log and its exchange."""

    kernel: EventSourcedKernel
    log: EventLog
    exchange: ScriptedExchange

    async def topics(self, intent_id: str) -> list[str]:
        """Topics of an intent's events."""
        return [event.topic for event in await self.log.read_stream(events.intent_stream(intent_id))]


@asynccontextmanager
async def a_desk(
    *,
    url: str = "memory://",
    clock: Clock | None = None,
    ready: bool = True,
    capabilities: VenueCapabilities = CAPABILITIES,
    **settings: Any,
) -> AsyncIterator[Desk]:
    """A kernel that is ready, unless told otherwise."""
    clock = clock or LoopClock()
    exchange = ScriptedExchange(clock, capabilities)
    async with (
        open_log(url, exchange_id="paper", clock=clock, ids=SeededIds(1)) as log,
        open_kernel(
            log,
            venue=ScriptedVenue(exchange),
            clock=clock,
            ids=SeededIds(2),
            settings=KernelSettings(**settings),
            actor="strategy:test",
        ) as kernel,
    ):
        if ready:
            await kernel.wait_ready(10)
        yield Desk(kernel, log, exchange)


async def settled() -> None:
    """Let everything happen that happens at this instant."""
    for _ in range(200):
        await asyncio.sleep(0)
