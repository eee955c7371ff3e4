"""Wakes the tails of this process, with the committed batch where it is known.

The writer publishes after each commit; watchers of other processes wake. A tail subscribed before a commit is woken after
it. Batches held for a slow tail are bounded: it reads dropped ones from the database. Unreferenced tails are forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable

from kernel.log.engine.batch import Batch

HELD_ROWS_MAX = 20_000
"""Rows held for a slow tail before they are dropped."""


class Subscription:
    """The batches that wait for one tail. Used on that tail's event loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, serial: int) -> None:
        self.loop = loop
        self.serial = serial
        self.must_read = True
        """True if the database may have rows that were not published here."""
        self.closed = False
        self._batches: deque[Batch] = deque()
        self._held_rows = 0
        self._woken = asyncio.Event()

    def publish(self, batch: Batch) -> None:
        """Add a batch that this process committed."""
        self._batches.append(batch)
        self._held_rows += len(batch.rows)
        if self._held_rows > HELD_ROWS_MAX:
            self._batches.clear()
            self._held_rows = 0
            self.must_read = True
        self._woken.set()

    def wake(self) -> None:
        """Make the tail read the database."""
        self.must_read = True
        self._woken.set()

    def close(self) -> None:
        self.closed = True
        self._woken.set()

    def take(self, after: int) -> Batch | None:
        """Return the batch with position `after` + 1, and drop older ones; a gap sets `must_read`."""
        while self._batches:
            batch = self._batches[0]
            if batch.previous.position > after:
                self.must_read = True
                return None
            self._batches.popleft()
            self._held_rows -= len(batch.rows)
            if batch.head.position > after:
                return batch
        return None

    async def wait(self) -> None:
        """Wait for the next call of `publish`, `wake` or `close`."""
        await self._woken.wait()
        self._woken.clear()


class TailHub:
    """The tails of one log object, on any event loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: weakref.WeakValueDictionary[int, Subscription] = weakref.WeakValueDictionary()
        """In the order of subscription, which is the order of waking."""
        self._serial = itertools.count()
        self._closed = False

    def __bool__(self) -> bool:
        return len(self._subscriptions) > 0

    def subscribe(self, loop: asyncio.AbstractEventLoop) -> Subscription:
        """Add a tail that runs on `loop`; it is closed if the hub is."""
        with self._lock:
            subscription = Subscription(loop, next(self._serial))
            self._subscriptions[subscription.serial] = subscription
            subscription.closed = self._closed
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.pop(subscription.serial, None)

    def subscriptions(self) -> list[Subscription]:
        with self._lock:
            return list(self._subscriptions.values())

    def wake(self) -> None:
        """Make every tail read the database. Callable from any thread."""
        for subscription in self.subscriptions():
            call_on(subscription.loop, subscription.wake)

    def close(self) -> None:
        """End every tail. Callable from any thread."""
        with self._lock:
            self._closed = True
        for subscription in self.subscriptions():
            call_on(subscription.loop, subscription.close)


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Schedule a call on an event loop; a closed loop is ignored."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)
