"""Logs of simulated runs, for tests of what reads history."""

from __future__ import annotations

from typing import Any

from kernel.clock import SystemClock
from kernel.log import LogSettings
from kernel.log.memory import MemoryLog, MemoryRecorder
from tests.simulation.loop import VirtualLoop, run
from tests.simulation.plan import Plan
from tests.simulation.player import Player


def played(plan: Plan) -> MemoryRecorder:
    """The rows that a plan's run leaves behind."""

    async def play(loop: VirtualLoop) -> Any:
        player = Player(plan, loop, trace=False)
        await player.play()
        return player.world.recorder

    recorder: MemoryRecorder = run(play)
    return recorder


def log_of(recorder: MemoryRecorder, *, page_rows: int = 1_000) -> MemoryLog:
    """A log over rows that are there."""
    identity = recorder.identity()
    assert identity is not None, "a log that was opened has its identity"
    return MemoryLog(recorder, identity, clock=SystemClock(), settings=LogSettings(page_rows=page_rows))
