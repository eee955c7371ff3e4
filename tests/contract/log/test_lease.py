"""The lease's contract: one holder, released with its process, and its loss is reported."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kernel.clock import NS_PER_S, SystemClock
from kernel.errors import LogUnavailableError
from kernel.lease import FAR_FUTURE_NS, Lease
from kernel.log import EventLog
from kernel.log.backends.postgres import PostgresRecorder
from kernel.log.backends.postgres_lease import LEASE_TTL_S, AdvisoryLease
from kernel.log.backends.sqlite_lease import FileLease
from tests.contract.backends import Backend, PostgresBackend, SQLiteBackend
from tests.contract.processes import HOLD_LEASE, read_line, running


class HurriedClock(SystemClock):
    """A clock on which waits end at once, so that checks follow each other without a pause."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead_ns

    async def sleep_until(self, instant_ns: int) -> None:
        await asyncio.sleep(0.01)


def a_lease(log: EventLog) -> Lease:
    """Return a lease of a log."""
    return log.lease(clock=SystemClock())


async def test_one_holder_at_a_time(log: EventLog) -> None:
    """A held lease cannot be acquired until it is released."""
    first, second = a_lease(log), a_lease(log)
    assert await first.acquire()
    assert first.held
    assert not await second.acquire(wait=False)
    assert not second.held
    assert second.deadline_ns() is None
    await first.release()
    assert first.deadline_ns() is None
    assert await second.acquire(wait=False)
    await second.release()


async def test_lease_is_held_takes_nothing(log: EventLog) -> None:
    """`lease_is_held` shows whether the lease is held, without taking it."""
    lease = a_lease(log)
    assert not await log.lease_is_held()
    await lease.acquire()
    assert await log.lease_is_held()
    assert lease.held
    await lease.release()
    assert not await log.lease_is_held()


async def test_a_held_lease_is_acquired_again_at_once(log: EventLog) -> None:
    """Acquiring or releasing twice is not an error."""
    lease = a_lease(log)
    assert await lease.acquire()
    assert await lease.acquire(wait=False)
    await lease.release()
    await lease.release()
    assert lease.deadline_ns() is None


async def test_a_waiting_acquire_gets_the_released_lease(log: EventLog) -> None:
    """A waiting acquire returns when the holder releases the lease."""
    first, second = a_lease(log), a_lease(log)
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0)
    await first.release()
    assert await asyncio.wait_for(waiting, 60)
    await second.release()


async def test_a_canceled_wait_leaves_nothing_behind(log: EventLog) -> None:
    """A canceled acquire never holds the lease."""
    first, second, third = a_lease(log), a_lease(log), a_lease(log)
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await first.release()
    assert await third.acquire(wait=False)
    assert not second.held
    await third.release()


async def test_a_wait_given_up_while_connecting_leaves_no_session(postgres_url: str, exchange_id: str) -> None:
    """A session opened by a canceled acquire is closed, and never holds the lock."""
    connecting, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def slow_connect() -> psycopg.Connection[tuple[Any, ...]]:
        connecting.set()
        go_on.wait(10)
        connection = psycopg.connect(postgres_url, autocommit=True)
        close = connection.close

        def closing() -> None:
            close()
            closed.set()

        connection.close = closing  # type: ignore[method-assign]  # to see it happen
        return connection

    waiter = AdvisoryLease(slow_connect, name=exchange_id, clock=SystemClock())
    waiting = asyncio.create_task(waiter.acquire())
    await asyncio.to_thread(connecting.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()

    assert await asyncio.to_thread(closed.wait, 10)
    assert not waiter.held


async def test_holders_have_names_of_their_own(log: EventLog) -> None:
    """Each lease's holder has host, process id and a random part."""
    one, two = a_lease(log), a_lease(log)
    assert one.holder != two.holder
    assert f":{os.getpid()}:" in one.holder


async def test_leases_of_two_logs_are_independent(postgres_url: str, exchange_id: str) -> None:
    """Each log on a server has its own lease."""
    one, two = PostgresBackend(exchange_id, postgres_url), PostgresBackend(exchange_id + "-2", postgres_url)
    async with one.open() as log, two.open() as other:
        lease, another = a_lease(log), a_lease(other)
        assert await lease.acquire(wait=False)
        assert await another.acquire(wait=False)
        await lease.release()
        await another.release()


async def test_a_killed_holder_releases_the_lease(database: SQLiteBackend | PostgresBackend) -> None:
    """The lease of a process that gets SIGKILL is free at once."""
    async with database.open() as log:
        lease = a_lease(log)
        async with running(HOLD_LEASE, database.url, database.exchange_id) as process:
            holder = await read_line(process)
            assert holder.split(":")[1] == str(process.pid)
            assert not await lease.acquire(wait=False)
            process.kill()
            process.wait()
        assert await asyncio.wait_for(lease.acquire(), 60)
        await lease.release()


async def test_deadlines(backend: Backend) -> None:
    """A file lease lasts as long as its process; a session is trusted for ten seconds."""
    async with backend.open() as log:
        lease = a_lease(log)
        before_ns = SystemClock().now_ns()
        await lease.acquire()
        deadline_ns = lease.deadline_ns()
        assert deadline_ns is not None
        if isinstance(lease, AdvisoryLease):
            assert before_ns < deadline_ns <= SystemClock().now_ns() + LEASE_TTL_S * NS_PER_S
        else:
            assert deadline_ns == FAR_FUTURE_NS
        await lease.release()


async def test_a_removed_lock_file_is_not_trusted(exchange_id: str, tmp_path: object) -> None:
    """A lease locks the existing file, and writes its holder into it."""
    from pathlib import Path

    path = Path(str(tmp_path)) / "log.db.lock"
    lease = FileLease(path)
    assert await lease.acquire()
    assert path.read_text().strip() == lease.holder
    await lease.release()
    with pytest.raises(LogUnavailableError, match="lock file"):
        await FileLease(Path(str(tmp_path)) / "missing" / "x.lock").acquire(wait=False)


async def test_a_full_disk_does_not_leave_a_lock_that_nobody_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock whose holder's name cannot be written is held, and can be released."""

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    first, second = FileLease(tmp_path / "lock"), FileLease(tmp_path / "lock")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        assert await first.acquire(wait=False)
    assert not await second.acquire(wait=False)
    await first.release()
    assert await second.acquire(wait=False)
    await second.release()


async def test_a_session_is_renewed(postgres_url: str, exchange_id: str) -> None:
    """Each successful check renews the deadline."""
    async with PostgresBackend(exchange_id, postgres_url).open() as log:
        clock = HurriedClock()
        lease = log.lease(clock=clock)
        await lease.acquire()
        first = lease.deadline_ns()
        assert first is not None
        async with asyncio.timeout(60):
            while (lease.deadline_ns() or 0) <= first:
                await asyncio.sleep(0.005)
        await lease.release()


async def test_a_lost_session_is_reported(postgres_url: str, exchange_id: str) -> None:
    """When the server ends the session, the lease is lost, its holder is called, and may acquire again."""
    async with PostgresBackend(exchange_id, postgres_url).open() as log:
        lease = log.lease(clock=HurriedClock())
        lost = asyncio.Event()
        lease.on_lost(lost.set)
        await lease.acquire()
        _end_lease_session(log, postgres_url)
        await asyncio.wait_for(lost.wait(), 60)
        assert not lease.held
        assert lease.deadline_ns() is None
        assert await asyncio.wait_for(lease.acquire(), 60)
        await lease.release()


def _end_lease_session(log: EventLog, postgres_url: str) -> None:
    recorder = getattr(log, "recorder", None)
    assert isinstance(recorder, PostgresRecorder)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")


async def test_past_its_deadline_a_lease_is_not_held(postgres_url: str, exchange_id: str) -> None:
    """A session's lease expires when no check succeeds."""
    async with PostgresBackend(exchange_id, postgres_url).open() as log:
        clock = HurriedClock()
        lease = log.lease(clock=clock)
        await lease.acquire()
        clock.ahead_ns = 2 * LEASE_TTL_S * NS_PER_S
        assert not lease.held
        await lease.release()
