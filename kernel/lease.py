"""Who leads: one kernel per log acts on the venue, and knows until when it may.

Each log gives its own kind of lease (`EventLog.lease`), kept where the log is. `leadership` acquires it before it elects
itself, and the reconciler checks the deadline right before each venue call. Promises: at most one lease of a log is held at
a time, on one host for SQLite, among all hosts for PostgreSQL as long as their clocks run at the same speed; a killed
process lets go at once; a lease that is lost says so. It does not fence what is on its way already: that is what the epoch
and the attempts' windows are for.
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
"""How often a lease that another holds is tried for."""


class Lease(ABC):
    """The right to act on a log's venue."""

    def __init__(self, *, ids: IdFactory | None = None) -> None:
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{(ids or SeededIds()).log_id()[:8]}"
        """Who holds it when this one does: host, pid and a random part."""
        self._lost_callbacks: list[Callable[[], None]] = []

    @property
    @abstractmethod
    def held(self) -> bool:
        """Whether it is held here."""

    @abstractmethod
    async def acquire(self, wait: bool = True) -> bool:
        """Whether it is held now. With `wait` it is tried for until it is; a cancelled wait leaves nothing behind.

        Raises `LogUnavailableError` when the lock can't be asked for, and `wait` is off.
        """

    @abstractmethod
    def deadline_ns(self) -> int | None:
        """No venue call may be made at or after this instant; None when the lease is not held."""

    @abstractmethod
    async def release(self) -> None:
        """Let go. Idempotent. No callback is called."""

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Have a function called, on the event loop, when the lease is lost without having been released."""
        self._lost_callbacks.append(callback)

    def _lost(self) -> None:
        for callback in self._lost_callbacks:
            callback()
