"""A clock that is set while somebody waits for it."""

from __future__ import annotations

import asyncio

import pytest

from kernel.clock import NS_PER_S, LoopClock


class SetClock(LoopClock):
    """A clock that can be set."""

    offset_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.offset_ns


@pytest.mark.looptime
@pytest.mark.parametrize("offset_s", [0, -1, -3600])
async def test_a_clock_set_back_prolongs_no_wait(offset_s: int) -> None:
    """Whoever waits for ten seconds waits no longer if the clock is set back meanwhile."""
    clock, loop = SetClock(), asyncio.get_running_loop()
    began_s = loop.time()
    waiting = asyncio.ensure_future(clock.sleep_until(clock.now_ns() + 10 * NS_PER_S))
    await asyncio.sleep(5)
    clock.offset_ns = offset_s * NS_PER_S
    await waiting

    assert loop.time() - began_s == 10
