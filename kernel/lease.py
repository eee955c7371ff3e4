"""The lease of a log: one kernel per log acts on the venue, and knows until when it may.

Each log provides its kind (`EventLog.lease`). `leadership` acquires it before the election; the reconciler checks the
deadline right before each venue call. At most one kernel holds the lease of a log: on one host for SQLite, among all hosts
for PostgreSQL if their clocks run at the same speed. A killed process releases it at once. It does not fence requests on
their way; epochs and the attempts' validity windows do.
"""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable

from kernel.clock import IdFactory, SeededIds

FAR_FUTURE_NS = 2**63 - 1
"""Deadline of a lease that ends only with its process."""
RETRY_INTERVAL_S = 0.05
"""Interval at which a lease that another holds is tried."""


class Lease(ABC):
    """The right to act on a log's venue."""

    def __init__(self, *, ids: IdFactory | None = None) -> None:
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{(ids or SeededIds()).log_id()[:8]}"
        """Name of this holder: host, pid and a random part."""
        self._lost_callbacks: list[Callable[[], None]] = []

    @property
    @abstractmethod
    def held(self) -> bool:
        """True if this kernel holds it."""

    @abstractmethod
    async def acquire(self, wait: bool = True) -> bool:
        """Acquire the lease and return whether it is held; with `wait`, try until it is.

        Raises:
            LogUnavailableError: The lock cannot be requested, and `wait` is off.
        """

    @abstractmethod
    def deadline_ns(self) -> int | None:
        """Return the instant from which on no venue call may be made; None when the lease is not held."""

    @abstractmethod
    async def release(self) -> None:
        """Release the lease without calling the callbacks. Idempotent."""

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Register a function to call on the event loop when the lease is lost without a release."""
        self._lost_callbacks.append(callback)

    def _lost(self) -> None:
        for callback in self._lost_callbacks:
            callback()
