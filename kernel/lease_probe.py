"""Whether somebody holds a log's lease now: a look that does not take it.

Called by `replay.health`, from processes that do not lead. The answer was true at one instant and may be over at once: it
is for people and for monitoring, never a reason to act at a venue. For that there is the lease itself.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

from kernel.clock import SystemClock
from kernel.errors import LogUnavailableError
from kernel.lease import AdvisoryLease, FileLease, lease_for
from kernel.log import EventLog
from kernel.private_files import open_private


async def lease_is_held(log: EventLog) -> bool:
    """Whether the log's lease is held by anybody. Raises `LogUnavailableError` when that can't be seen."""
    lease = lease_for(log, clock=SystemClock())
    if isinstance(lease, FileLease):
        return await asyncio.to_thread(file_is_locked, lease.path)
    if isinstance(lease, AdvisoryLease):
        return await asyncio.to_thread(advisory_lock_is_held, log, lease.key)
    return memory_is_held(log)


def file_is_locked(path: Path) -> bool:
    """Whether a lock file is locked. Asked with a shared lock, given back at once: two who look don't see each other."""
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as problem:
        raise LogUnavailableError(f"the lock file {path} can't be looked at: {problem.strerror}") from problem
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def advisory_lock_is_held(log: EventLog, key: int) -> bool:
    """Whether a session of the database holds an advisory lock of this key."""
    from kernel.log.postgres import PostgresRecorder
    from kernel.log.stored import StoredLog

    assert isinstance(log, StoredLog)
    assert isinstance(log.recorder, PostgresRecorder)
    high, low = key >> 32 & 0xFFFF_FFFF, key & 0xFFFF_FFFF
    query = (
        "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND classid::bigint = %s AND objid::bigint = %s"
    )
    return log.recorder.datastore.read(lambda connection: connection.execute(query, (high, low)).fetchone()) is not None


def memory_is_held(log: EventLog) -> bool:
    """Whether a kernel of this process holds the lease of a log in memory."""
    from kernel.log.memory import MemoryRecorder
    from kernel.log.stored import StoredLog

    assert isinstance(log, StoredLog)
    assert isinstance(log.recorder, MemoryRecorder)
    return log.recorder.lease_holder is not None
