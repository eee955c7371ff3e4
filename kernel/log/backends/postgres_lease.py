"""The lease of a log in PostgreSQL: a session's advisory lock, on a connection of its own that is checked again and again.

Given out by `PostgresLog`. The database ends a session, and with it the lock, when its process is gone; the holder trusts
its session only for a time after the last check that was answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import LiteralString

from kernel.clock import NS_PER_S, Clock, IdFactory
from kernel.errors import KernelError, LogUnavailableError
from kernel.lease import RETRY_INTERVAL_S, Lease
from kernel.log.backends.postgres_datastore import Connection, Datastore, translated

CHECK_INTERVAL_S = 2
"""How often the session that holds an advisory lock is checked."""
UNLOCK_TIMEOUT_S = 1
"""How long a lock is asked to be given back before its session is just ended."""
LEASE_TTL_S = 10
"""How long after its last successful check a session is trusted."""


class AdvisoryLease(Lease):
    """A session's advisory lock on PostgreSQL, on a connection of its own that is checked again and again."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        name: str,
        clock: Clock,
        ids: IdFactory | None = None,
    ) -> None:
        super().__init__(ids=ids)
        self._connect = connect
        self.key = lock_key(name)
        """The lock's key."""
        self._clock = clock
        self._connection: Connection | None = None
        self._deadline_ns: int | None = None
        self._thread: ThreadPoolExecutor | None = None
        """One thread at a time talks on the connection."""
        self._guard = threading.Lock()
        """Held where `_session` and `_connection` are changed: the loop and the thread both do."""
        self._session = object()
        """Stands for the session wanted now. A connection that a thread makes for an earlier one is closed at once: who
        gave up waiting must not come to hold the lock."""
        self._checks: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        """See `Lease.held`. Past its deadline it is not held, whether that was noticed yet or not."""
        return self._deadline_ns is not None and self._clock.now_ns() < self._deadline_ns

    def deadline_ns(self) -> int | None:
        """See `Lease.deadline_ns`."""
        return self._deadline_ns

    async def acquire(self, wait: bool = True) -> bool:
        """See `Lease.acquire`."""
        if self.held:
            return True
        await self.release()
        try:
            while not await self._tried(wait):
                if not wait:
                    return False
                await asyncio.sleep(RETRY_INTERVAL_S)
        finally:
            if self._deadline_ns is None:
                await self._disconnect()
        self._checks = asyncio.get_running_loop().create_task(self._check_again_and_again())
        return True

    async def _tried(self, wait: bool) -> bool:
        """Whether the lock was to be had; a database that is away is one more reason to wait."""
        began_ns = self._clock.now_ns()
        try:
            locked = await self._call(partial(self._lock, self._session))
        except KernelError:
            if not wait:
                raise
            await self._disconnect()
            return False
        if locked:
            self._deadline_ns = began_ns + LEASE_TTL_S * NS_PER_S
        return locked

    async def _call(self, function: Callable[[], bool]) -> bool:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="lease")
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _lock(self, session: object) -> bool:
        with translated():
            connection = self._connection or self._connected(session)
            if connection is None:
                return False
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (self.key,)).fetchone()
        return row is not None and bool(row[0])

    def _connected(self, session: object) -> Connection | None:
        """A new connection for a session; None when that session is not wanted any more."""
        connection = self._connect()
        with self._guard:
            if self._session is session:
                self._connection = connection
                return connection
        connection.close()
        return None

    def _unlock(self) -> bool:
        return self._execute("SELECT pg_advisory_unlock(%s)", self.key)

    def _ping(self) -> bool:
        return self._execute("SELECT 1")

    def _execute(self, query: LiteralString, *values: int) -> bool:
        connection = self._connection
        if connection is None:
            raise LogUnavailableError("the lease's session has ended")
        with translated():
            connection.execute(query, values)
        return True

    async def _check_again_and_again(self) -> None:
        """Renew the deadline as long as the session answers in time; then tell that the lease is lost."""
        while self._deadline_ns is not None:
            await self._clock.sleep_until(self._clock.now_ns() + CHECK_INTERVAL_S * NS_PER_S)
            began_ns = self._clock.now_ns()
            try:
                async with asyncio.timeout((self._deadline_ns - began_ns) / NS_PER_S):
                    await self._call(self._ping)
            except (KernelError, TimeoutError):
                break
            self._deadline_ns = began_ns + LEASE_TTL_S * NS_PER_S
        self._deadline_ns = None
        self._lost()

    async def release(self) -> None:
        """See `Lease.release`. The lock is given back before the session ends, which the server notices only later."""
        held, self._deadline_ns = self.held, None
        checks, self._checks = self._checks, None
        if checks is not None:
            checks.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await checks
        if held and self._connection is not None:
            with contextlib.suppress(KernelError, TimeoutError):
                async with asyncio.timeout(UNLOCK_TIMEOUT_S):
                    await self._call(self._unlock)
        await self._disconnect()

    async def _disconnect(self) -> None:
        """End the session, and with it the lock. A session that hangs is ended from outside of its thread."""
        with self._guard:
            self._session = object()
            connection, self._connection = self._connection, None
        thread, self._thread = self._thread, None
        if connection is not None:
            connection.close()
        if thread is not None:
            thread.shutdown(wait=False)


def lock_key(name: str) -> int:
    """The key of a log's advisory lock."""
    return int.from_bytes(sha256(f"exchange-kernel lease {name}".encode()).digest()[:8], "big", signed=True)


def is_locked(datastore: Datastore) -> bool:
    """Whether a session of the database holds the lease of a log."""
    key = lock_key(datastore.schema)
    values = (key >> 32 & 0xFFFF_FFFF, key & 0xFFFF_FFFF)
    query = (
        "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND classid::bigint = %s AND objid::bigint = %s"
    )
    return datastore.read(lambda connection: connection.execute(query, values).fetchone()) is not None
