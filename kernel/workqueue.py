"""A queue of keys: deduplicated, one worker per key, with delays and priorities that age.

Filled by the engine (change feed, resync, outcomes), emptied by its workers. It holds keys only, never events: which event
woke a key does not matter. A key is in it once. A key added while a worker has it runs once more after `done`. A higher
priority is a head start in waiting time, so that nothing starves: an old resync beats a young cancel in the end. Nothing
here is durable: after a restart the diff feeds the keys again.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from enum import IntEnum

from kernel.clock import NS_PER_S, Clock
from kernel.metrics import Metrics, QueueMetrics


class Priority(IntEnum):
    """How many seconds of waiting a key has ahead of a resync."""

    RESYNC = 0
    SUBMIT = 1
    MODIFY = 2
    SETTLE = 3
    CANCEL = 4


class WorkQueue:
    """Keys to work on. Not thread-safe: it lives on one event loop."""

    def __init__(self, clock: Clock, *, keys_max: int = 1_000_000, metrics: Metrics | None = None) -> None:
        self._clock = clock
        self._metrics = QueueMetrics(metrics or Metrics(), clock)
        self._keys_max = keys_max
        self._serial = itertools.count()
        self._ready: list[tuple[int, int, str]] = []
        """Heap of (rank, serial, key); a key's newest entry counts, others are skipped."""
        self._rank: dict[str, tuple[int, int]] = {}
        """Rank of each ready key."""
        self._delayed: list[tuple[int, int, str]] = []
        """Heap of (instant, serial, key); the entry named in `_due` counts, others are skipped."""
        self._due: dict[str, int] = {}
        """When each delayed key becomes ready."""
        self._working: set[str] = set()
        self._again: dict[str, Priority] = {}
        """Keys added while a worker has them."""
        self._waiters: deque[asyncio.Future[str]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = True

    def __len__(self) -> int:
        """Keys that are ready."""
        return len(self._rank)

    @property
    def pending(self) -> int:
        """Keys that are ready, delayed or being worked on."""
        return len(self._rank) + len(self._due) + len(self._working)

    def observe(self) -> None:
        """Set the metrics that are measured when somebody asks."""
        self._metrics.observe(len(self))

    def is_working(self, key: str) -> bool:
        """Whether a worker has a key."""
        return key in self._working

    def add(self, key: str, priority: Priority = Priority.RESYNC) -> None:
        """Make a key ready. Where it is there already, the earlier rank counts; a delay on it is over."""
        if not self._open:
            return
        now_ns = self._clock.now_ns()
        self._metrics.added(key, now_ns)
        if key in self._working:
            self._again[key] = max(priority, self._again.get(key, priority))
            return
        self._due.pop(key, None)
        rank = (now_ns - priority * NS_PER_S, next(self._serial))
        if key in self._rank and self._rank[key] <= rank:
            return
        assert len(self._rank) < self._keys_max, "more keys than there can be"
        self._rank[key] = rank
        heapq.heappush(self._ready, (*rank, key))
        self._hand_out()

    def add_at(self, key: str, instant_ns: int) -> None:
        """Make a key ready at an instant. An earlier time, or being ready, wins."""
        if not self._open:
            return
        self._metrics.put_off()
        if key in self._rank or self._due.get(key, instant_ns + 1) <= instant_ns:
            return
        if instant_ns <= self._clock.now_ns():
            self.add(key)
            return
        self._due[key] = instant_ns
        heapq.heappush(self._delayed, (instant_ns, next(self._serial), key))
        self._set_timer()

    async def get(self) -> str:
        """The next key, once there is one; it is the caller's until `done`."""
        if (key := self._pop()) is not None:
            return key
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.done(waiter.result())
            raise

    def done(self, key: str) -> None:
        """The caller is through with a key; if it was added meanwhile, it is ready again."""
        self._working.discard(key)
        self._metrics.done(key)
        if not self._working:
            self._idle.set()
        if (priority := self._again.pop(key, None)) is not None:
            self.add(key, priority)

    def close(self) -> None:
        """Take no more keys and hand out none; what is being worked on goes on."""
        self._open = False
        for waiter in self._waiters:
            waiter.cancel()
        self._waiters.clear()
        self._ready.clear()
        self._rank.clear()
        self._due.clear()
        self._delayed.clear()
        self._again.clear()
        self._metrics.closed()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def drained(self) -> None:
        """Return once nobody works on a key."""
        await self._idle.wait()

    def _pop(self) -> str | None:
        while self._ready:
            rank, serial, key = heapq.heappop(self._ready)
            if self._rank.get(key) == (rank, serial):
                del self._rank[key]
                self._working.add(key)
                self._metrics.taken(key)
                self._idle.clear()
                return key
        return None

    def _hand_out(self) -> None:
        while self._waiters:
            if self._waiters[0].done():
                self._waiters.popleft()
                continue
            if (key := self._pop()) is None:
                return
            self._waiters.popleft().set_result(key)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._delayed and self._due.get(self._delayed[0][2]) != self._delayed[0][0]:
            heapq.heappop(self._delayed)
        if self._delayed:
            delay_ns = max(0, self._delayed[0][0] - self._clock.now_ns())
            self._timer = asyncio.get_running_loop().call_later(delay_ns / NS_PER_S, self._promote)

    def _promote(self) -> None:
        self._timer = None
        now_ns = self._clock.now_ns()
        while self._delayed and self._delayed[0][0] <= now_ns:
            instant_ns, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == instant_ns:
                del self._due[key]
                self.add(key)
        self._set_timer()
