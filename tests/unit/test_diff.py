"""Whether an intent differs, told from its record where that is plain, against the one comparison."""

from __future__ import annotations

from collections import Counter

import pytest

from kernel import plan
from kernel.log.memory import MemoryRecorder
from kernel.log.records import event_of
from projections import diff
from projections.state import State
from tests.recorded import log_of, simulated


@pytest.fixture(params=(1, 4, 7, 11, 15, 23))
def recorded(request: pytest.FixtureRequest) -> MemoryRecorder:
    """A run; it is played outside of the tests' loop."""
    return simulated(request.param)


async def test_what_differs_is_what_the_comparison_says(recorded: MemoryRecorder) -> None:
    """After each event of a run, of each intent that it touched: plain or not, the answer is the comparison's."""
    state, plain = State(), Counter[tuple[bool, bool]]()
    async for rows in log_of(recorded).read():
        for row in rows:
            for intent_id in state.apply([event_of(row)]).touched:
                record = state.grouped_record(intent_id)
                differs = plan.difference(state.wish(intent_id), state.exposure(intent_id)) is not None
                assert diff.differs(state, intent_id) == differs
                if not differs:
                    plain[bool(record.live_orders), diff.plainly_agree(record)] += 1
    assert plain[True, True] > plain[True, False], "most that work are plain"
    assert plain[False, True] > plain[False, False], "most that are over are plain"
