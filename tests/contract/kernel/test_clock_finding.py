"""A clock that is far behind the log is count of, once."""

from __future__ import annotations

import asyncio

import pytest

from kernel.clock import NS_PER_S, Clock, SystemClock
from kernel.events import FindingRaised
from kernel.log import open_log
from kernel.models import FindingKind
from replay import open_kernel
from tests.commands import an_append


class FastClock(SystemClock):
    """The system's clock, some seconds ahead."""

    def __init__(self, ahead_s: int) -> None:
        self.ahead_ns = ahead_s * NS_PER_S

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead_ns


@pytest.mark.parametrize(("ahead_s", "count"), [(5, 1), (0, 0)])
async def test_a_clock_behind_the_head_is_a_finding(ahead_s: int, count: int) -> None:
    """A kernel whose clock is over a second behind the log's head raises one finding, any other none."""
    fast: Clock = FastClock(ahead_s)
    async with open_log("memory://", exchange_id="paper", clock=fast) as log, open_kernel(log) as kernel:
        for number in range(3):
            appended = await log.append(an_append(f"s-{number}"))
            await kernel.state.reached(appended.last_position)
        if count:
            async with asyncio.timeout(60):
                async for event in kernel.events({"event_type": "FindingRaised"}, after=0):
                    assert isinstance(event, FindingRaised)
                    assert "behind the log's head" in event.finding.text
                    break
        kinds = [finding.kind for finding in kernel.state.findings()]
        assert kinds == [FindingKind.CLOCK_SKEW] * count
