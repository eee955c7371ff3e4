"""Wakes the tails of this process: with a committed batch in hand where possible, with a nudge to read otherwise.

The writer publishes after each commit, the watchers of other processes nudge, a tail takes. Promises: a tail that was
subscribed before a commit is woken after it; what is held for a slow tail is bounded, and what was dropped is read from
the database; a tail that nobody holds any more is forgotten. Order and hashes are the tail's business.
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
"""Rows that are held for a tail that is behind; then they are dropped, and it reads the database."""


class Subscription:
    """One tail's place in the feed. Taken from on its own loop, offered to on that loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, serial: int) -> None:
        self.loop = loop
        self.serial = serial
        self.must_read = True
        """Whether the database may hold what was not handed over."""
        self.closed = False
        self._batches: deque[Batch] = deque()
        self._held_rows = 0
        self._woken = asyncio.Event()

    def publish(self, batch: Batch) -> None:
        """A batch was committed here."""
        self._batches.append(batch)
        self._held_rows += len(batch.rows)
        if self._held_rows > HELD_ROWS_MAX:
            self._drop()
        self._woken.set()

    def wake(self) -> None:
        """Something may be there that was not handed over."""
        self.must_read = True
        self._woken.set()

    def close(self) -> None:
        """Nothing comes any more."""
        self.closed = True
        self._woken.set()

    def take(self, after: int) -> Batch | None:
        """The batch that holds the position after `after`. Older ones are let go; a gap asks for a read."""
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

    def _drop(self) -> None:
        self._batches.clear()
        self._held_rows = 0
        self.must_read = True

    async def wait(self) -> None:
        """Return once there was an offer, a nudge or the end since the last time."""
        await self._woken.wait()
        self._woken.clear()


class TailHub:
    """The tails of one log object, on whatever loops they run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: weakref.WeakValueDictionary[int, Subscription] = weakref.WeakValueDictionary()
        """In the order in which they came: who came first hears first."""
        self._serial = itertools.count()
        self._closed = False

    def __bool__(self) -> bool:
        return len(self._subscriptions) > 0

    def subscribe(self, loop: asyncio.AbstractEventLoop) -> Subscription:
        """A place for a tail that runs on `loop`; it is closed at once when the feed is."""
        with self._lock:
            subscription = Subscription(loop, next(self._serial))
            self._subscriptions[subscription.serial] = subscription
            subscription.closed = self._closed
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a tail."""
        with self._lock:
            self._subscriptions.pop(subscription.serial, None)

    def subscriptions(self) -> list[Subscription]:
        """Every tail there is now."""
        with self._lock:
            return list(self._subscriptions.values())

    def wake(self) -> None:
        """Let every tail look at the database; from any thread."""
        for subscription in self.subscriptions():
            call_on(subscription.loop, subscription.wake)

    def close(self) -> None:
        """End every tail; from any thread."""
        with self._lock:
            self._closed = True
        for subscription in self.subscriptions():
            call_on(subscription.loop, subscription.close)


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Have a loop call a function; a loop that is closed has nobody left to tell."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)
