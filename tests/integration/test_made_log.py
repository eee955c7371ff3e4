"""The log that benchmarks read: what it promises of itself, so that they measure what a true log costs."""

from __future__ import annotations

from pathlib import Path

from kernel.log import open_log
from kernel.log.engine.recorded_log import RecordedLog
from projections.state import State
from replay import verify
from replay.log_access.log_reader import fold
from tests.benchmarks.made_log import make_log


async def test_a_made_log_is_a_true_one(tmp_path: Path) -> None:
    """Verify finds nothing wrong with it, and no more orders are open at its end than were asked for."""
    async with open_log(f"sqlite:///{tmp_path}/made.db", exchange_id="made") as log:
        assert isinstance(log, RecordedLog)
        assert await make_log(log, count=2_000, live=40) == 2_000
        assert (await verify(log)).ok
        state = await fold(log, State())
    live = [record.intent_id for record in state.records().values() if record.may_be_live]
    assert 0 < len(live) <= 40
