"""A strategy's heartbeat as a process of its own: once, or again and again until a signal ends it in order.

Called by the CLI's `heartbeat`, for strategies that are scripts. What a beat means is in
`kernel.runtime.dead_man_switch`. A log that is away ends nothing: it is tried again at the next beat, since giving up
would be the silence that cancels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kernel import EventSourcedKernel
from kernel.clock import Clock, SystemClock
from kernel.errors import NotReadyError, ValidationError, Violation
from kernel.settings import ns
from replay.host.bootstrap import open_client

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class HeartbeatSchedule:
    """Whose heart, and how it beats."""

    owner: str
    ttl_s: float
    every_s: float
    disarm: bool = False
    """Whether an end in order disarms it."""

    def __post_init__(self) -> None:
        if 0 < self.every_s <= self.ttl_s / 2:
            return
        limit = f"above 0 and at most half of the time to live ({self.ttl_s / 2:g} s)"
        raise ValidationError(violations=[Violation("heartbeat interval", "time", limit, f"{self.every_s:g} s")])


async def once(kernel: EventSourcedKernel, owner: str, ttl_s: float, *, disarm: bool = False) -> str:
    """One heartbeat, or its end; what came of it, for people."""
    if disarm:
        return f"heartbeat/{owner} {'disarmed' if await kernel.disarm_heartbeat(owner) else 'was not armed'}"
    return f"heartbeat/{owner} {'recorded' if await kernel.heartbeat(owner, ttl_s) else 'recorded a moment ago'}"


async def run(url: str, exchange_id: str, schedule: HeartbeatSchedule, *, show: Say, say: Say) -> None:
    """Beat on a log that exists, until cancelled."""
    async with open_client(url, exchange_id) as kernel:
        show(await once(kernel, schedule.owner, schedule.ttl_s))
        try:
            await send_forever(kernel, schedule, say=say)
        finally:
            if schedule.disarm:
                show(await once(kernel, schedule.owner, schedule.ttl_s, disarm=True))
            else:
                say(
                    f"{schedule.owner} stays armed: within {schedule.ttl_s:g} s its orders are canceled, "
                    "unless it is heard of"
                )


async def send_forever(
    kernel: EventSourcedKernel, schedule: HeartbeatSchedule, *, say: Say, clock: Clock | None = None
) -> None:
    """Beat for ever. Raises what ends a kernel; that the log is away is told, and tried again."""
    clock = clock or SystemClock()
    while True:
        await clock.sleep_until(clock.now_ns() + ns(schedule.every_s))
        try:
            await kernel.heartbeat(schedule.owner, schedule.ttl_s)
        except NotReadyError as problem:
            say(f"{schedule.owner} is not heard: {problem}; again in {schedule.every_s:g} s")
