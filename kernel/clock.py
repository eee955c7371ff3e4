"""Sources of time, ids and randomness, injected into everything that does I/O.

Pure functions get instants as arguments instead. Tests run the kernel with a `LoopClock` on a virtual-time event loop.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """A source of wall-clock instants and delays."""

    def now_ns(self) -> int:
        """Return the current instant in Unix nanoseconds."""

    async def sleep_until(self, instant_ns: int) -> None:
        """Return once `now_ns()` is at least `instant_ns`, or would be if the clock had not been set back meanwhile."""


def elapsed_ns() -> int:
    """Return the event loop's time, which goes on when the host's clock is set."""
    return round(asyncio.get_running_loop().time() * NS_PER_S)


class SystemClock:
    """The clock of the host."""

    def now_ns(self) -> int:
        return time.time_ns()

    async def sleep_until(self, instant_ns: int) -> None:
        end_ns = elapsed_ns() + instant_ns - self.now_ns()
        while (delay_ns := min(instant_ns - self.now_ns(), end_ns - elapsed_ns())) > 0:
            await asyncio.sleep(delay_ns / NS_PER_S)


async def wait_for(clock: Clock, *, event: asyncio.Event | None, due_ns: int | None) -> None:
    """Wait for an event or an instant, whichever comes first; None for neither."""
    waiting: list[asyncio.Future[Any]] = []
    if event is not None:
        waiting.append(asyncio.ensure_future(event.wait()))
    if due_ns is not None:
        waiting.append(asyncio.ensure_future(clock.sleep_until(due_ns)))
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


class LoopClock(SystemClock):
    """A clock that follows the event loop's time; on a virtual-time loop the whole kernel runs on virtual time."""

    def __init__(self, *, origin_ns: int = 1_700_000_000 * NS_PER_S) -> None:
        self.origin_ns = origin_ns

    def now_ns(self) -> int:
        return self.origin_ns + elapsed_ns()


class IdFactory(Protocol):
    """A source of ids and jitter."""

    def command_id(self, now_ns: int) -> bytes:
        """Return 16 unique bytes that sort by time (UUIDv7, RFC 9562)."""

    def intent_id(self, now_ns: int) -> str:
        """Return a new intent id that sorts by time."""

    def log_id(self) -> str:
        """Return 64 random bits as 16 hex digits."""

    def fraction(self) -> float:
        """Return a number in [0, 1), for jitter."""


class SeededIds:
    """Ids from one random generator; repeatable with a seed, unpredictable without."""

    def __init__(self, seed: int | None = None) -> None:
        import random  # a command that only reads needs none

        self._random = random.Random(os.urandom(32) if seed is None else seed)

    def command_id(self, now_ns: int) -> bytes:
        return uuid7(now_ns, self._random.getrandbits(74))

    def intent_id(self, now_ns: int) -> str:
        return self.command_id(now_ns).hex()

    def log_id(self) -> str:
        return f"{self._random.getrandbits(64):016x}"

    def fraction(self) -> float:
        return self._random.random()


def uuid7(now_ns: int, random_bits: int) -> bytes:
    """Return the 16 bytes of a version 7 UUID (RFC 9562, 5.7) from an instant and 74 random bits."""
    high = random_bits >> 62 & 0xFFF
    low = random_bits & ((1 << 62) - 1)
    return ((now_ns // NS_PER_MS & ((1 << 48) - 1)) << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low).to_bytes(
        16, "big"
    )
