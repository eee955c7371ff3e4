"""Random scripts: whatever happens within what the venue declares, log and venue end alike, and no rule was broken.

`KERNEL_SCRIPT_SEEDS=500 KERNEL_SCRIPT_FROM=1000 pytest tests/scenarios/test_random_scripts.py` plays more of them. A
failing one is shown whole: its lines, and what came of them.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field

import pytest

from kernel.log.base import StoredRow
from kernel.log.engine.records import event_of
from kernel.models import Desired, FindingKind, ReconciliationStatus
from projections import State
from tests.nightly import after_the_first
from tests.scenarios.author import Author
from tests.scenarios.runner import Script, World, differences

MOVES = 30
FIRST = int(os.environ.get("KERNEL_SCRIPT_FROM", "0"))
QUICK_SEEDS = 35
SEEDS_GIVEN = os.environ.get("KERNEL_SCRIPT_SEEDS")
SEEDS = range(FIRST, FIRST + int(SEEDS_GIVEN or "60"))
AT_REST = (ReconciliationStatus.SYNCED, ReconciliationStatus.FAILED)


@dataclass
class Play:
    """One script being played, and what must not be."""

    seed: int
    world: World = field(default_factory=World)
    problems: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.author = Author(self.world, self.seed)
        self.script = Script(self.world)

    async def run(self) -> None:
        for line in self.author.opening():
            await self.do(line)
        for _ in range(MOVES):
            for written in self.author.move():
                line = self.with_newest(written)
                if self.is_possible(line):
                    await self.do(line)
                elif line.startswith("place"):
                    del self.author.most_wanted[line.split()[1]]
            self.check_exposure()
        await self.do("end")
        self.check_end()

    def with_newest(self, line: str) -> str:
        """The line with the newest message on the wire in place of its star."""
        names = sorted(self.world.exchange.wire, key=lambda name: int(name[1:]))
        return line.replace("*", names[-1]) if names else line

    def is_possible(self, line: str) -> bool:
        """Whether what a line is about is still there: the lines of one move are written before the first is played."""
        verb, *words = line.split()
        if verb == "place":
            return any(not item.dead and item.may_run.is_set() for item in self.world.processes.values())
        if verb != "venue:" or words[0] not in ("deliver", "lose", "double", "fill", "fail"):
            return True
        exchange = self.world.exchange
        if words[0] != "fill":
            return words[1] in (*exchange.wire, *exchange.reports)
        order = exchange.order(words[1])
        return order.open and int(words[2]) <= order.order.quantity - order.cum_qty

    async def do(self, line: str) -> None:
        self.world.lines = []
        await self.script.run(line)
        self.told += [f">> {line}", *self.world.lines]

    def check_exposure(self) -> None:
        """Never more working and filled than was ever wanted."""
        for intent_id, wanted in self.author.most_wanted.items():
            ours = {client_id for client_id, _ in self.world.running.kernel.state.record(intent_id).sends}
            orders = [order for order in self.world.exchange.truth if order.client_order_id in ours]
            most = sum(order.order.quantity if order.open else order.cum_qty for order in orders)
            if most > wanted:
                self.problems.append(f"{intent_id}: {most} filled or working, {wanted} wanted at most")

    def check_end(self) -> None:
        """Faults have stopped: everything is settled, or is what can never be (no window, H5c), and says so."""
        state = self.world.running.kernel.state
        assert isinstance(state, State)
        unprovable = self.world.exchange.capabilities.validity_window_ns is None
        allowed = ReconciliationStatus.UNKNOWN if unprovable else None
        found = differences(self.world)
        self.problems += [text for text in found if not (unprovable and "unsettled" in text)]
        for intent_id in self.author.most_wanted:
            order = state.order_state(intent_id)
            intent = state.intent(intent_id)
            if intent is None:
                self.problems.append(f"{intent_id}: an acknowledged command is not in the log")
            elif order is not None and order.reconciliation_status not in (*AT_REST, allowed):
                self.problems.append(f"{intent_id} ends {order.reconciliation_status}")
            elif intent.desired is Desired.CANCELED and state.record(intent_id).live_orders:
                self.problems.append(f"{intent_id} is canceled and works")
        self.problems += [
            f"{item.kind} stands: {item.text}"
            for item in state.findings()
            if item.intent_id and item.resolved_at_ns is None and not self.may_stand(item.kind, unprovable=unprovable)
        ]
        rebuilt = State()
        rebuilt.apply([event_of(StoredRow(*row)) for row in self.world.recorder.rows])
        if rebuilt.digest() != state.digest():
            self.problems.append("a rebuild differs from the live state")

    def may_stand(self, kind: FindingKind, *, unprovable: bool) -> bool:
        """What nothing can prove stays unknown."""
        return unprovable and kind is FindingKind.UNKNOWN_TOO_LONG


@pytest.mark.looptime
@pytest.mark.parametrize("seed", SEEDS if SEEDS_GIVEN else after_the_first(QUICK_SEEDS, SEEDS))
async def test_log_and_venue_end_alike(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """A script of thirty random moves breaks no rule, and two minutes after it everything agrees."""
    play = Play(seed)
    try:
        await play.run()
    finally:
        await play.world.close()
    broken = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    problems = [*play.world.problems, *play.problems, *broken]
    assert not problems, "\n".join([*problems, *play.told])
