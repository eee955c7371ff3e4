"""One soak: warm-up, rest, load, rest. Called by `__main__` and by the integration test.

`verdict` compares the samples at the two rests and looks for trends in the samples under load.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernel import EventSourcedKernel
from kernel.log.engine.threaded_log import READ_THREADS_MAX
from kernel.venues import PaperVenue
from replay import open_kernel
from tests.soak import verdict
from tests.soak.gauges import EMPTY_AT_REST, Sample, sample
from tests.soak.world import DRAIN_TIMEOUT_S, ROOT, SETTINGS, Load, at_rest, exchange_process

EXCHANGE_ID = "soak"
POOL_ROUNDS = 5
SETTLE_S = 60.0
"""Time at rest until everything under way must be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Duration, load and log of a soak."""

    url: str
    directory: Path
    warm_up_s: float
    load_s: float
    rate: float = 50.0
    """Commands per second."""
    sample_s: float = 5.0
    """Seconds between samples."""


class Soak:
    """A kernel under load, sampled."""

    def __init__(self, plan: Plan, *, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._began_s = 0.0
        self.under_load: list[Sample] = []
        """Samples under load after the warm-up, once `run` is done."""

    async def run(self) -> list[str]:
        """Return a line for each leak."""
        self._began_s = asyncio.get_running_loop().time()
        async with exchange_process(self._plan.directory) as (address, exchange_pid):
            venue = PaperVenue(address, timeout_s=1)
            async with open_kernel(self._plan.url, exchange_id=EXCHANGE_ID, venue=venue, settings=SETTINGS) as kernel:
                await kernel.wait_ready(DRAIN_TIMEOUT_S)
                watched = Watched(kernel, venue, exchange_pid)
                await self._load(watched, address, self._plan.warm_up_s)
                await fill_pools(kernel)
                before = await self._rest(watched)
                self.under_load = await self._load(watched, address, self._plan.load_s)
                after = await self._rest(watched)
        state = await self._growth(before.position, after.position)
        self._say(verdict.summary(before, after, state))
        return verdict.leaks((before, after), self.under_load, state)

    async def _load(self, watched: Watched, address: str, duration_s: float) -> list[Sample]:
        """Apply load for some time and sample it."""
        samples: list[Sample] = []
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with Load(watched.kernel, address, rate=self._plan.rate) as load:
            while (left_s := began_s + duration_s - loop.time()) > 0:
                await asyncio.sleep(min(left_s, self._plan.sample_s))
                samples.append(self._sample(watched))
                load.check()
        took_s = loop.time() - began_s
        self._say(
            f"{load.commands} commands ({load.commands / took_s:.1f}/s), {load.refused} refused, {load.faults} faults,"
            f" {load.delivered} events delivered to subscribers"
        )
        return samples

    async def _rest(self, watched: Watched) -> Sample:
        """Take a sample once every order has ended and everything under way is gone."""
        await at_rest(watched.kernel)
        await asyncio.sleep(0)  # if all had ended already, the event loop's current call still holds the load's tasks
        deadline_s = asyncio.get_running_loop().time() + SETTLE_S
        taken = self._sample(watched)
        while any(taken.counts[name] for name in EMPTY_AT_REST) and asyncio.get_running_loop().time() < deadline_s:
            await asyncio.sleep(0.5)
            taken = self._sample(watched, quiet=True)
        self._say("at rest: " + taken.line())
        return taken

    def _sample(self, watched: Watched, *, quiet: bool = False) -> Sample:
        at_s = asyncio.get_running_loop().time() - self._began_s
        taken = sample(watched.kernel, watched.venue, watched.exchange_pid, at_s=at_s)
        if not quiet:
            self._say(taken.line())
        return taken

    async def _growth(self, first: int, last: int) -> verdict.Growth:
        """Measure by how much the state alone grows between two positions of the log."""
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.soak.reference", self._plan.url, EXCHANGE_ID, str(first), str(last),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await child.communicate()
        before, after = json.loads(out)
        return verdict.Growth(after["objects"] - before["objects"], after["rss_bytes"] - before["rss_bytes"])


async def fill_pools(kernel: EventSourcedKernel) -> None:
    """Start every reader thread and its connection: how many the load needs at once is chance."""

    async def read_all() -> None:
        async for _ in kernel.log.read():
            pass

    for _ in range(POOL_ROUNDS):
        await asyncio.gather(*(read_all() for _ in range(2 * READ_THREADS_MAX)))


@dataclass(frozen=True, slots=True)
class Watched:
    """The parts that are sampled."""

    kernel: EventSourcedKernel
    venue: PaperVenue
    exchange_pid: int
