"""A queue of keys: deduplicated, one worker per key, with delays and priorities that age.

Filled by the engine (change feed, resync, outcomes), emptied by its workers. It holds each key once and no events; a key
added while a worker has it runs once more after `done`. A priority is a head start in waiting time, so nothing starves.
When an action has to wait for rate-limit capacity, its whole priority lane is parked, and waiting keys cost no runs.
Adding, taking and parking cost O(log n). Nothing is durable: after a restart the diff feeds the keys again.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque

from kernel.actions import Priority
from kernel.clock import NS_PER_S, Clock
from kernel.metrics import Metrics, QueueMetrics

HEAD_START_NS = 10 * NS_PER_S
"""Head start of each priority over the one below it."""

Place = tuple[int, int, Priority]
"""Place of a key: its rank (smaller is earlier), a serial number, and its priority lane."""


class WorkQueue:
    """The keys to work on; for one event loop, not thread-safe."""

    def __init__(self, clock: Clock, *, keys_max: int = 1_000_000, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = QueueMetrics(metrics, clock)
        self._keys_max = keys_max
        self._serial = itertools.count()
        self._lanes: dict[Priority, list[tuple[int, int, str]]] = {priority: [] for priority in Priority}
        """For each priority a heap of (rank, serial, key); only entries that `_place` confirms count."""
        self._place: dict[str, Place] = {}
        """Ready keys."""
        self._parked: dict[Priority, int] = {}
        """Lane → instant until which it is parked."""
        self._delayed: list[tuple[int, int, str]] = []
        """Heap of (instant, serial, key); only entries that `_due` confirms count."""
        self._due: dict[str, tuple[int, Priority]] = {}
        """Delayed keys: instant and priority."""
        self._working: dict[str, Place] = {}
        """Keys that workers have, and their former places."""
        self._again: dict[str, tuple[Priority, Place | None]] = {}
        """Keys added while a worker has them, and the place to which parked ones return."""
        self._waiters: deque[asyncio.Future[str]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = True

    def __len__(self) -> int:
        """Number of ready and parked keys."""
        return len(self._place)

    @property
    def pending(self) -> int:
        """Number of ready, parked and delayed keys, and of those being worked on."""
        return len(self._place) + len(self._due) + len(self._working)

    def ages_s(self) -> tuple[float, ...]:
        """Return, for each key that is being worked on, the seconds since its run began."""
        return self._metrics.ages_s()

    def is_working(self, key: str) -> bool:
        return key in self._working

    def add(self, key: str, priority: Priority = Priority.RESYNC) -> None:
        """Make a key ready. If it is already in the queue, the earlier rank and the higher priority count."""
        if not self._open:
            return
        now_ns = self._clock.now_ns()
        self._metrics.added(key, now_ns)
        if key in self._working:
            known, place = self._again.get(key, (priority, None))
            self._again[key] = (max(priority, known), place)
            return
        self._put(key, (now_ns - priority * HEAD_START_NS, next(self._serial), priority))

    def _put(self, key: str, place: Place) -> None:
        self._due.pop(key, None)
        known = self._place.get(key)
        if known is not None:
            place = (*min(known[:2], place[:2]), max(known[2], place[2]))
            if place == known:
                return
        assert len(self._place) < self._keys_max, "the work queue is full"
        self._place[key] = place
        heapq.heappush(self._lanes[place[2]], (*place[:2], key))
        self._hand_out()

    def park(self, key: str, priority: Priority, until_ns: int) -> None:
        """Park a priority lane until an instant; the caller's key returns to its place after `done`."""
        assert key in self._working, "only a key that is being worked on can be parked"
        if not self._open:
            return
        self._metrics.added(key, self._clock.now_ns())
        known, _ = self._again.get(key, (priority, None))
        self._again[key] = (max(priority, known), self._working[key])
        self._parked[priority] = until_ns
        self._set_timer()

    def release(self) -> None:
        """Unpark every lane."""
        self._parked.clear()
        self._hand_out()

    def add_at(self, key: str, instant_ns: int) -> None:
        """Make a key ready at an instant, unless it is ready or due earlier."""
        if not self._open:
            return
        self._metrics.put_off()
        if key in self._place or (key in self._due and self._due[key][0] <= instant_ns):
            return
        *_, priority = self._working.get(key, (Priority.RESYNC,))
        if instant_ns <= self._clock.now_ns():
            self.add(key, priority)
            return
        self._due[key] = (instant_ns, priority)
        heapq.heappush(self._delayed, (instant_ns, next(self._serial), key))
        self._set_timer()

    async def get(self) -> str:
        """Wait for the next key; it is the caller's until `done`."""
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
        """Return a key; if it was added meanwhile, it is ready again."""
        self._working.pop(key, None)
        self._metrics.done(key)
        if not self._working:
            self._idle.set()
        if (again := self._again.pop(key, None)) is None:
            return
        priority, place = again
        if place is None:
            self.add(key, priority)
        else:
            self._put(key, (*place[:2], priority))

    def close(self) -> None:
        """Drop all keys and accept none; keys being worked on stay with their workers."""
        self._open = False
        for waiter in self._waiters:
            waiter.cancel()
        self._waiters.clear()
        for lane in self._lanes.values():
            lane.clear()
        self._place.clear()
        self._parked.clear()
        self._due.clear()
        self._delayed.clear()
        self._again.clear()
        self._metrics.closed()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def drained(self) -> None:
        """Return once no key is being worked on."""
        await self._idle.wait()

    def _pop(self) -> str | None:
        """Take the first key of the lanes that are not parked, if any."""
        now_ns = self._clock.now_ns()
        heads = [
            (lane[0], priority)
            for priority, lane in self._lanes.items()
            if self._parked.get(priority, now_ns) <= now_ns and self._has_head(priority)
        ]
        if not heads:
            return None
        (_, _, key), priority = min(heads)
        heapq.heappop(self._lanes[priority])
        self._working[key] = self._place.pop(key)
        self._metrics.taken(key)
        self._idle.clear()
        return key

    def _has_head(self, priority: Priority) -> bool:
        """Return whether a lane has a key, after dropping stale entries."""
        lane = self._lanes[priority]
        while lane:
            rank, serial, key = lane[0]
            if self._place.get(key) == (rank, serial, priority):
                return True
            heapq.heappop(lane)
        return False

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
        while self._delayed and self._due.get(self._delayed[0][2], (None,))[0] != self._delayed[0][0]:
            heapq.heappop(self._delayed)
        instants = [*self._parked.values(), *(item[0] for item in self._delayed[:1])]
        if instants:
            delay_ns = max(0, min(instants) - self._clock.now_ns())
            self._timer = asyncio.get_running_loop().call_later(delay_ns / NS_PER_S, self._promote)

    def _promote(self) -> None:
        self._timer = None
        now_ns = self._clock.now_ns()
        while self._delayed and self._delayed[0][0] <= now_ns:
            instant_ns, _, key = heapq.heappop(self._delayed)
            due_ns, priority = self._due.get(key, (None, Priority.RESYNC))
            if due_ns == instant_ns:
                del self._due[key]
                self.add(key, priority)
        self._parked = {priority: until_ns for priority, until_ns in self._parked.items() if until_ns > now_ns}
        self._hand_out()
        self._set_timer()
