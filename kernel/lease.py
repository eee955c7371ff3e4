"""Who leads: one kernel per log acts on the venue, and knows until when it may.

Used by the controller, which acquires a lease before it elects itself, and by the reconciler, which checks the deadline
right before each venue call. Promises: at most one lease of a log is held at a time, on one host for SQLite, among all
hosts for PostgreSQL as long as their clocks run at the same speed; a killed process lets go at once; a lease that is lost
says so. It does not fence what is on its way already: that is what the epoch and the attempts' windows are for.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel.clock import NS_PER_S, Clock, IdFactory, SeededIds
from kernel.errors import KernelError, LogUnavailableError
from kernel.log import EventLog
from kernel.private_files import open_private

if TYPE_CHECKING:
    import psycopg

    from kernel.log.memory import MemoryRecorder

FAR_FUTURE_NS = 2**63 - 1
"""Deadline of a lease that ends only with its process."""
RETRY_INTERVAL_S = 0.05
"""How often a lease that another holds is tried for."""
CHECK_INTERVAL_S = 2
"""How often the session that holds an advisory lock is checked."""
UNLOCK_TIMEOUT_S = 1
"""How long a lock is asked to be given back before its session is just ended."""
LEASE_TTL_S = 10
"""How long after its last successful check a session is trusted."""


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


def lease_for(log: EventLog, *, clock: Clock, ids: IdFactory | None = None) -> Lease:
    """The kind of lease that fits a log's backend."""
    from kernel.log.stored import StoredLog

    assert isinstance(log, StoredLog), "a lease is kept beside the log's own storage"
    if log.url.startswith("sqlite:"):
        from kernel.log.sqlite import SQLiteLog

        assert isinstance(log, SQLiteLog)
        return FileLease(log.path.with_name(log.path.name + ".lock"), ids=ids)
    if log.url.startswith("memory:"):
        from kernel.log.memory import MemoryRecorder

        assert isinstance(log.recorder, MemoryRecorder)
        return MemoryLease(log.recorder, ids=ids)
    from kernel.log.postgres import PostgresRecorder

    assert isinstance(log.recorder, PostgresRecorder)
    datastore = log.recorder.datastore
    return AdvisoryLease(datastore.connect, name=datastore.schema, clock=clock, ids=ids)


class MemoryLease(Lease):
    """A lock beside the rows in memory."""

    def __init__(self, recorder: MemoryRecorder, *, ids: IdFactory | None = None) -> None:
        super().__init__(ids=ids)
        self._recorder = recorder

    @property
    def held(self) -> bool:
        """See `Lease.held`."""
        return self._recorder.lease_holder == self.holder

    async def acquire(self, wait: bool = True) -> bool:
        """See `Lease.acquire`."""
        while not self.held and self._recorder.lease_holder is not None:
            if not wait:
                return False
            await self._recorder.lease_released.wait()
        self._recorder.lease_holder = self.holder
        self._recorder.lease_released.clear()
        return True

    def deadline_ns(self) -> int | None:
        """See `Lease.deadline_ns`."""
        return FAR_FUTURE_NS if self.held else None

    async def release(self) -> None:
        """See `Lease.release`."""
        if self.held:
            self._recorder.lease_holder = None
            self._recorder.lease_released.set()


class FileLease(Lease):
    """A lock of the operating system on a file: gone with the process that holds it, however that ends."""

    def __init__(self, path: Path, *, ids: IdFactory | None = None) -> None:
        super().__init__(ids=ids)
        self.path = path
        """The lock file. It stays; its content names the last holder, for people."""
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """See `Lease.held`."""
        return self._descriptor is not None

    async def acquire(self, wait: bool = True) -> bool:
        """See `Lease.acquire`."""
        while not self.held and not self._try():
            if not wait:
                return False
            await asyncio.sleep(RETRY_INTERVAL_S)
        return True

    def _try(self) -> bool:
        try:
            descriptor = open_private(self.path, os.O_RDWR | os.O_CREAT)
        except OSError as problem:
            raise LogUnavailableError(f"the lock file {self.path} can't be opened: {problem.strerror}") from problem
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        if not self._is_the_file(descriptor):  # removed in between: whoever comes next would lock another file
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{self.holder}\n".encode())
        self._descriptor = descriptor
        return True

    def _is_the_file(self, descriptor: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        return False

    def deadline_ns(self) -> int | None:
        """See `Lease.deadline_ns`."""
        return FAR_FUTURE_NS if self.held else None

    async def release(self) -> None:
        """See `Lease.release`."""
        if self._descriptor is not None:
            os.close(self._descriptor)  # and with it the lock
            self._descriptor = None


class AdvisoryLease(Lease):
    """A session's advisory lock on PostgreSQL, on a connection of its own that is checked again and again."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[tuple[Any, ...]]],
        *,
        name: str,
        clock: Clock,
        ids: IdFactory | None = None,
    ) -> None:
        super().__init__(ids=ids)
        self._connect = connect
        self.key = int.from_bytes(sha256(f"exchange-kernel lease {name}".encode()).digest()[:8], "big", signed=True)
        """The lock's key."""
        self._clock = clock
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
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
        from kernel.log.postgres import translated

        with translated():
            connection = self._connection or self._connected(session)
            if connection is None:
                return False
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (self.key,)).fetchone()
        return row is not None and bool(row[0])

    def _connected(self, session: object) -> psycopg.Connection[tuple[Any, ...]] | None:
        """A new connection for a session; None when that session is not wanted any more."""
        connection = self._connect()
        with self._guard:
            if self._session is session:
                self._connection = connection
                return connection
        connection.close()
        return None

    def _unlock(self) -> bool:
        from kernel.log.postgres import translated

        with translated():
            assert self._connection is not None
            self._connection.execute("SELECT pg_advisory_unlock(%s)", (self.key,))
        return True

    def _ping(self) -> bool:
        from kernel.log.postgres import translated

        with translated():
            assert self._connection is not None
            self._connection.execute("SELECT 1")
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
