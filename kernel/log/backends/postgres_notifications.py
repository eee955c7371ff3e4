"""Listens for commits of other processes on a PostgreSQL log, and nudges the tails.

Used by `PostgresLog`, which starts it before a tail's first look, so that no commit falls in between. Promises: `start`
returns when the server is listening; a notification that is lost, or a connection that is, costs at most the fallback
interval. It reads no events: that is the tails' work.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.sql import Composed

from kernel.errors import LogUnavailableError

RECONNECT_DELAY_S = 0.2


class Listener:
    """A thread with a connection of its own."""

    def __init__(
        self,
        *,
        name: str,
        connect: Callable[[], psycopg.Connection[tuple[Any, ...]]],
        listen: Composed,
        is_own: Callable[[int], bool],
        wake: Callable[[], None],
        fallback_s: float,
        ready_timeout_s: float,
    ) -> None:
        self._connect = connect
        self._listen = listen
        self._is_own = is_own
        self._wake = wake
        self._fallback_s = fallback_s
        self._ready_timeout_s = ready_timeout_s
        self._lock = threading.Lock()
        self._listening = threading.Event()
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = False

    def start(self) -> None:
        """Return once the server listens; blocks. Idempotent. `LogUnavailableError` when that takes too long."""
        with self._lock:
            if self._stopping:
                return
            if not self._started:
                self._started = True
                self._thread.start()
        if not self._listening.wait(self._ready_timeout_s):
            raise LogUnavailableError("the database does not answer: commits of others would go unnoticed")

    def stop(self) -> None:
        """End the thread; blocks. Idempotent."""
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
            with contextlib.suppress(LogUnavailableError, psycopg.Error, OSError), self._connect() as connection:
                connection.execute(self._listen)
                self._listening.set()
                self._wake()
                self._serve(connection)
            self._wait(None, RECONNECT_DELAY_S)

    def _serve(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        """Nudge on each notification of another session, and at least each fallback interval."""
        while not self._stopping:
            arrived = self._wait(connection.fileno(), self._fallback_s)
            if not arrived or self._foreign(connection):
                self._wake()

    def _wait(self, descriptor: int | None, timeout_s: float) -> bool:
        """Whether something arrived on the connection; returns at once when stopping."""
        if self._stopping:
            return False
        watched = [self._wake_read] if descriptor is None else [self._wake_read, descriptor]
        readable, _, _ = select.select(watched, [], [], timeout_s)
        return descriptor in readable

    def _foreign(self, connection: psycopg.Connection[tuple[Any, ...]]) -> bool:
        """Whether a notification of another session is among what arrived; `psycopg.Error` when the connection is lost."""
        connection.pgconn.consume_input()
        foreign = False
        while (notification := connection.pgconn.notifies()) is not None:
            foreign = foreign or not self._is_own(notification.be_pid)
        return foreign
