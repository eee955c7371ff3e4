"""The acts on the processes: each is drawn by a seed and has one victim, which no other act touches meanwhile.

Run by the drill. Every kind of act comes once in each round, in a new order; a next one may begin before the last is over.
An act counts once it really happened: a cut needs somebody who writes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from tests.drill.cluster import Cluster, Kernel
from tests.drill.database_wire import Moment
from tests.drill.tap import Loss

CUT_TIMEOUT_S = 4.0
"""Longest wait of a cut for traffic."""
MISSING_S_MAX = 120.0
"""Longest extension of a drill so that each kind of act happens, on a loaded machine."""


class Acts:
    """The acts on one cluster."""

    def __init__(self, cluster: Cluster, *, seed: int, freeze_s_max: float) -> None:
        self._cluster = cluster
        self._chance = random.Random(seed)
        self._freeze_s_max = freeze_s_max
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Act for so long, and until each kind of act happened at least once; then return once the last act is over."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds
        while loop.time() < end_s:
            kinds = kinds_for(self._cluster.kind)
            self._chance.shuffle(kinds)
            for kind in kinds:
                if loop.time() < end_s:
                    await self._begin(kind)
        await self._over()
        while (missing := self._missing()) and loop.time() < end_s + MISSING_S_MAX:
            await self._begin(missing[0])
            await self._over()

    def _missing(self) -> list[str]:
        """The kinds of act that have not happened yet."""
        return [kind for kind in kinds_for(self._cluster.kind) if not self._cluster.report.acts[kind]]

    async def _over(self) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _begin(self, kind: str) -> None:
        """Begin an act and wait a while: until after its end, or not."""
        act = asyncio.create_task(ACTS[kind](self), name=kind)
        self._under_way.add(act)
        act.add_done_callback(self._ended)
        overlaps = self._chance.random() < 0.4
        pause_s = self._chance.uniform(0.2, 2.0)
        if not overlaps:
            await asyncio.wait({act})
        await asyncio.sleep(pause_s)

    def _ended(self, act: asyncio.Task[None]) -> None:
        self._under_way.discard(act)
        if not act.cancelled() and (problem := act.exception()) is not None:
            self._cluster.report.problem(f"the drill could not {act.get_name()}: {problem!r}")

    async def close(self) -> None:
        """Give up what is under way."""
        acts = list(self._under_way)
        for act in acts:
            act.cancel()
        await asyncio.gather(*acts, return_exceptions=True)

    # ----------------------------------------------------------------------------------------------------------- kernels
    def _victim(self, *, leads: bool) -> Kernel:
        leader = self._cluster.leader or self._chance.choice(self._cluster.kernels)
        return next(kernel for kernel in self._cluster.kernels if (kernel is leader) == leads)

    async def kill_kernel(self, kind: str, *, leads: bool) -> None:
        """`kill -9`; up again at once or after a while."""
        down_s = self._while()
        victim = self._victim(leads=leads)
        async with victim.busy:
            if victim.pid is None:
                return
            if victim is self._cluster.leader:
                self._cluster.witness.leaderless()
            self._did(kind, f"kill -9 of kernel {victim.name}, down for {down_s:.1f} s")
            try:
                await victim.kill()
                await asyncio.sleep(down_s)
            finally:
                victim.release()

    async def freeze(self, kind: str, *, depose: bool) -> None:
        """SIGSTOP of the leader, SIGCONT later. `depose`: its sessions at the database end meanwhile, so that the other
        kernel takes over, and the old leader wakes up beside a new one."""
        frozen_s = self._chance.uniform(1.0, self._freeze_s_max)
        victim = self._victim(leads=True)
        async with victim.busy:
            epochs = self._cluster.report.epochs
            if not victim.freeze():
                return
            self._cluster.witness.leaderless()
            words = ", its sessions cut" if depose else ""
            self._did(kind, f"SIGSTOP of kernel {victim.name} for {frozen_s:.1f} s{words}")
            try:
                if depose and victim.wire is not None:
                    victim.wire.cut()
                await asyncio.sleep(frozen_s)
            finally:
                victim.release()
            self._cluster.report.did(f"SIGCONT of kernel {victim.name}")
            if self._cluster.report.epochs == epochs:
                self._cluster.witness.led_again()

    async def cut_commit(self, kind: str, *, moment: Moment) -> None:
        """Cut a kernel's session in the middle of a commit."""
        victim = self._victim(leads=True)
        async with victim.busy:
            assert victim.wire is not None
            if await victim.wire.cut_commit(moment, timeout_s=CUT_TIMEOUT_S):
                words = "before the server had it" if moment == "before" else "before the kernel had the answer"
                self._did(kind, f"a commit of kernel {victim.name} was cut off {words}")

    # ---------------------------------------------------------------------------------------------------------- the wire
    async def cut_wire(self, kind: str) -> None:
        """Cut a kernel's session with the exchange."""
        victim = self._victim(leads=True)
        async with victim.busy:
            if victim.tap.cut():
                self._did(kind, f"the wire of kernel {victim.name} to the exchange was cut")

    async def lose(self, kind: str, *, loss: Loss) -> None:
        """Lose a request or its answer, and the session: once, or twice or three times in a row."""
        times = self._chance.randint(1, 3)
        victim = self._victim(leads=True)
        async with victim.busy:
            lost = 0
            while lost < times and await victim.tap.lose(loss, timeout_s=CUT_TIMEOUT_S):
                lost += 1
            if lost:
                self._did(kind, f"kernel {victim.name} lost {lost} {'request' if loss == 'request' else 'answer'}(s)")

    # ----------------------------------------------------------------------------------------------- the other processes
    async def kill_exchange(self, kind: str) -> None:
        """`kill -9`; up again at once or after a while."""
        down_s = self._while()
        async with self._cluster.exchange_busy:
            self._did(kind, f"kill -9 of the exchange, down for {down_s:.1f} s")
            await self._cluster.exchange.kill()
            await asyncio.sleep(down_s)
            await self._cluster.exchange.start()

    async def stop_database(self, kind: str, *, kill: bool) -> None:
        """Stop PostgreSQL, or kill all of its processes; up again at once or after a while."""
        down_s = self._while() if kill else self._chance.uniform(1.0, 7.0)
        database = self._cluster.database
        assert database is not None
        async with self._cluster.database_busy:
            self._cluster.witness.leaderless()
            words = "kill -9 of PostgreSQL" if kill else "PostgreSQL is stopped"
            self._did(kind, f"{words}, down for {down_s:.1f} s")
            await asyncio.to_thread(database.kill if kill else partial(database.stop, "fast"))
            await asyncio.sleep(down_s)
            await asyncio.to_thread(database.start)
            self._cluster.report.did("PostgreSQL is up")

    # -------------------------------------------------------------------------------------------------------------- words
    def _while(self) -> float:
        """At once, or after a while."""
        return 0.0 if self._chance.random() < 0.5 else self._chance.uniform(0.5, 5.0)

    def _did(self, kind: str, words: str) -> None:
        self._cluster.report.acts[kind] += 1
        self._cluster.report.did(words)


ACTS: Mapping[str, Callable[[Acts], Coroutine[Any, Any, None]]] = {
    "kill leader": lambda acts: acts.kill_kernel("kill leader", leads=True),
    "kill standby": lambda acts: acts.kill_kernel("kill standby", leads=False),
    "kill exchange": lambda acts: acts.kill_exchange("kill exchange"),
    "freeze leader": lambda acts: acts.freeze("freeze leader", depose=False),
    "cut wire": lambda acts: acts.cut_wire("cut wire"),
    "lose request": lambda acts: acts.lose("lose request", loss="request"),
    "lose answer": lambda acts: acts.lose("lose answer", loss="answer"),
    "kill database": lambda acts: acts.stop_database("kill database", kill=True),
    "stop database": lambda acts: acts.stop_database("stop database", kill=False),
    "depose leader": lambda acts: acts.freeze("depose leader", depose=True),
    "cut commit": lambda acts: acts.cut_commit("cut commit", moment="before"),
    "cut answer of commit": lambda acts: acts.cut_commit("cut answer of commit", moment="after"),
}
"""Act by kind."""
POSTGRES_ONLY = ("kill database", "stop database", "depose leader", "cut commit", "cut answer of commit")


def kinds_for(log: str) -> list[str]:
    """Return the kinds of act that are possible with a log."""
    return [kind for kind in ACTS if log == "postgresql" or kind not in POSTGRES_ONLY]
