"""Recorded logs for tests of what reads history: what a simulated run left, with all that befell it."""

from __future__ import annotations

import functools
import logging

from kernel.clock import SystemClock
from kernel.events import INTENT_STREAM_PREFIX
from kernel.log import LogSettings
from kernel.log.memory import MemoryLog, MemoryRecorder
from tests.simulation.loop import VirtualLoop, run
from tests.simulation.plan import from_seed
from tests.simulation.player import Player


@functools.cache
def played(seed: int, commands: int = 60) -> MemoryRecorder:
    """The rows of a simulated run: crashes, lost answers, groups, busts, takeovers, as the seed has it. It has a loop of
    its own, so it is played outside of any other."""
    players: list[Player] = []

    async def play(loop: VirtualLoop) -> None:
        players.append(Player(from_seed(seed, commands=commands), loop, trace=False))
        await players[0].play()

    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)  # a kernel under faults has much to say, and nobody to read it
    try:
        run(play)
    finally:
        logging.disable(disabled)
    return players[0].world.recorder


def log_over(recorded: MemoryRecorder) -> MemoryLog:
    """A log over the rows of a run."""
    identity = recorded.identity()
    assert identity is not None
    return MemoryLog(recorded, identity, clock=SystemClock(), settings=LogSettings(page_rows=100))


def intents_in(recorded: MemoryRecorder) -> list[str]:
    """The intents of a run, in order of first sight."""
    streams = dict.fromkeys(row[1] for row in recorded.rows)
    return [name.removeprefix(INTENT_STREAM_PREFIX) for name in streams if name.startswith(INTENT_STREAM_PREFIX)]
