"""Listens for other processes' commits on a PostgreSQL log, and wakes the tails.

Used by `PostgresLog`, which starts it before a tail's first read, so that no commit is missed. A lost notification or
connection delays a tail by at most the fallback interval.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg.sql import Composed

from kernel.errors import LogUnavailableError
from kernel.log.backends.postgres_datastore import Connection

RECONNECT_DELAY_S = 0.2


@dataclass(kw_only=True, eq=False)
class Listener:
    """A thread with a connection of its own."""

    name: str
    connect: Callable[[], Connection]
    listen: Composed
    """The LISTEN statement."""
    is_own: Callable[[int], bool]
    """True if a server process is this log's writer."""
    wake: Callable[[], None]
    fallback_s: float
    ready_timeout_s: float

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._listening = threading.Event()
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._started = False

    def start(self) -> None:
        """Block until the server listens. Idempotent. Raises `LogUnavailableError` after `ready_timeout_s`."""
        with self._lock:
            if self._stopping:
                return
            if not self._started:
                self._started = True
                self._thread.start()
        if not self._listening.wait(self.ready_timeout_s):
            raise LogUnavailableError("the database does not answer: other processes' commits would be missed")

    def stop(self) -> None:
        """End the thread. Blocks. Idempotent."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        os.write(self._wake_write, b"x")
        if self._started:
            self._thread.join()
        self._listening.set()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run(self) -> None:
        while not self._stopping:
            with contextlib.suppress(LogUnavailableError, psycopg.Error, OSError), self.connect() as connection:
                connection.execute(self.listen)
                self._listening.set()
                self.wake()
                self._serve(connection)
            self._wait(None, RECONNECT_DELAY_S)

    def _serve(self, connection: Connection) -> None:
        """Wake the tails on each notification of another session, and at least once per fallback interval."""
        while not self._stopping:
            arrived = self._wait(connection.fileno(), self.fallback_s)
            if not arrived or self._has_foreign(connection):
                self.wake()

    def _wait(self, descriptor: int | None, timeout_s: float) -> bool:
        """Return whether data arrived on the connection; returns at once when stopping."""
        if self._stopping:
            return False
        watched = [self._wake_read] if descriptor is None else [self._wake_read, descriptor]
        readable, _, _ = select.select(watched, [], [], timeout_s)
        return descriptor in readable

    def _has_foreign(self, connection: Connection) -> bool:
        """Consume the notifications, and return whether one is of another session."""
        connection.pgconn.consume_input()
        foreign = False
        while (notification := connection.pgconn.notifies()) is not None:
            foreign = foreign or not self.is_own(notification.be_pid)
        return foreign
