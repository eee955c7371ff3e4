"""The lease of a log in a SQLite file: a lock of the operating system on a file beside it.

Given out by `SQLiteLog`. It is gone with the process that holds it, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path

from kernel.clock import IdFactory
from kernel.errors import LogUnavailableError
from kernel.lease import FAR_FUTURE_NS, RETRY_INTERVAL_S, Lease
from kernel.platform.private_files import open_private


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


def lock_file(database: Path) -> Path:
    """Where the lease of a database file is."""
    return database.with_name(database.name + ".lock")


def is_locked(path: Path) -> bool:
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
