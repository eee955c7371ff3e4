"""Send a strategy's heartbeats from a process of its own. Called by `orderctl heartbeat`.

See `kernel.runtime.dead_man_switch` for their effect. If the log is unavailable, the next heartbeat retries: giving up
would cancel the strategy's orders.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kernel import EventSourcedKernel
from kernel.clock import Clock, SystemClock
from kernel.errors import NotReadyError, ValidationError
from kernel.settings import ns
from replay.host.bootstrap import open_client

Say = Callable[[str], None]


class HeartbeatSchedule(msgspec.Struct, frozen=True):
    """The heartbeat of a strategy."""

    owner: str
    ttl_s: float
    every_s: float
    disarm: bool = False
    """True if a normal end disarms the heartbeat."""

    def __post_init__(self) -> None:
        if not 0 < self.every_s <= self.ttl_s / 2:
            limit = f"it must be above 0 s and at most half of the time to live, {self.ttl_s / 2:g} s"
            raise ValidationError(f"heartbeat interval {self.every_s:g} s: {limit}")


async def once(kernel: EventSourcedKernel, owner: str, ttl_s: float, *, disarm: bool = False) -> str:
    """Send one heartbeat or disarm it; return a line of output."""
    if disarm:
        return f"heartbeat/{owner} {'disarmed' if await kernel.disarm_heartbeat(owner) else 'was not armed'}"
    return f"heartbeat/{owner} {'recorded' if await kernel.heartbeat(owner, ttl_s) else 'recorded a moment ago'}"


async def run(url: str, exchange_id: str, schedule: HeartbeatSchedule, *, show: Say, say: Say) -> None:
    """Send heartbeats to an existing log until canceled."""
    async with open_client(url, exchange_id) as kernel:
        show(await once(kernel, schedule.owner, schedule.ttl_s))
        try:
            await send_forever(kernel, schedule, say=say)
        finally:
            if schedule.disarm:
                show(await once(kernel, schedule.owner, schedule.ttl_s, disarm=True))
            else:
                say(
                    f"{schedule.owner} stays armed: without another heartbeat its orders are canceled within"
                    f" {schedule.ttl_s:g} s"
                )


async def send_forever(
    kernel: EventSourcedKernel, schedule: HeartbeatSchedule, *, say: Say, clock: Clock | None = None
) -> None:
    """Send heartbeats forever. An unavailable log is reported and retried; other errors are raised."""
    clock = clock or SystemClock()
    while True:
        await clock.sleep_until(clock.now_ns() + ns(schedule.every_s))
        try:
            await kernel.heartbeat(schedule.owner, schedule.ttl_s)
        except NotReadyError as problem:
            say(f"cannot record a heartbeat of {schedule.owner}: {problem}; next try in {schedule.every_s:g} s")
