"""The generated log of the benchmarks is a valid one."""

from __future__ import annotations

from pathlib import Path

from kernel.log import open_log
from kernel.log.engine.recorded_log import RecordedLog
from projections.state import State
from replay import verify
from replay.log_access.log_reader import fold
from tests.benchmarks.made_log import make_log


async def test_a_generated_log_is_valid(tmp_path: Path) -> None:
    """`verify` finds no problem, and the requested number of orders is open at its end."""
    async with open_log(f"sqlite:///{tmp_path}/made.db", exchange_id="made") as log:
        assert isinstance(log, RecordedLog)
        assert await make_log(log, count=2_000, live=40) == 2_000
        assert (await verify(log)).ok
        state = await fold(log, State())
    live = [record.intent_id for record in state.records().values() if record.may_be_live]
    assert 0 < len(live) <= 40
