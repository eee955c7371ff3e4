"""Recorded logs for tests of what reads history: what a simulated run left, with all that befell it."""

from __future__ import annotations

import functools
import logging

from kernel.clock import SystemClock
from kernel.events import INTENT_STREAM_PREFIX
from kernel.log import LogSettings
from kernel.log.backends.memory import MemoryLog, MemoryRecorder
from tests.simulation.loop import SteppedLoop, run
from tests.simulation.plan import Plan, from_seed
from tests.simulation.player import Player


def played(plan: Plan) -> MemoryRecorder:
    """The rows that a plan's run leaves behind. It has a loop of its own, so it is played outside of any other."""
    players: list[Player] = []

    async def play(loop: SteppedLoop) -> None:
        players.append(Player(plan, loop, trace=False))
        await players[0].play()

    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)  # a kernel under faults has much to say, and nobody to read it
    try:
        run(play)
    finally:
        logging.disable(disabled)
    return players[0].world.recorder


@functools.cache
def simulated(seed: int, commands: int = 60) -> MemoryRecorder:
    """The rows of a simulated run: crashes, lost answers, groups, busts, takeovers. Not to be changed."""
    return played(from_seed(seed, commands=commands))


@functools.cache
def simulated_whole(seed: int) -> MemoryRecorder:
    """The rows of a run as long as the simulation's own. Not to be changed."""
    return played(from_seed(seed))


def log_of(recorder: MemoryRecorder, *, page_rows: int = 1_000) -> MemoryLog:
    """A log over rows that are there."""
    identity = recorder.identity()
    assert identity is not None, "a log that was opened has its identity"
    return MemoryLog(recorder, identity, clock=SystemClock(), settings=LogSettings(page_rows=page_rows))


def intents_in(recorded: MemoryRecorder) -> list[str]:
    """The intents of a run, in order of first sight."""
    streams = dict.fromkeys(row[1] for row in recorded.rows)
    return [name.removeprefix(INTENT_STREAM_PREFIX) for name in streams if name.startswith(INTENT_STREAM_PREFIX)]
