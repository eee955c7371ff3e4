"""The lease of a log in a SQLite file: a lock of the operating system on a file beside it.

Created by `SQLiteLog`. The lock ends with the process that holds it, however the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path

from kernel.errors import LogUnavailableError
from kernel.lease import FAR_FUTURE_NS, RETRY_INTERVAL_S, Lease
from kernel.platform.private_files import open_private


class FileLease(Lease):
    """An `flock` on a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        """The lock file. It is never removed; it names the last holder, for people."""
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    async def acquire(self, wait: bool = True) -> bool:
        while not self.held and not self._try():
            if not wait:
                return False
            await asyncio.sleep(RETRY_INTERVAL_S)
        return True

    def _try(self) -> bool:
        try:
            descriptor = open_private(self.path, os.O_RDWR | os.O_CREAT)
        except OSError as problem:
            raise LogUnavailableError(f"the lock file {self.path} cannot be opened: {problem.strerror}") from problem
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        if not self._is_the_file(descriptor):  # removed meanwhile: another process would lock a new file
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        with contextlib.suppress(OSError):  # the name is for people: on a full disk the lock is held all the same
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{self.holder}\n".encode())
        return True

    def _is_the_file(self, descriptor: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        return False

    def deadline_ns(self) -> int | None:
        return FAR_FUTURE_NS if self.held else None

    async def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # releases the lock
            self._descriptor = None


def lock_file(database: Path) -> Path:
    return database.with_name(database.name + ".lock")


def is_locked(path: Path) -> bool:
    """Return whether a lock file is locked, by a shared lock that is released at once."""
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as problem:
        raise LogUnavailableError(f"the lock file {path} cannot be read: {problem.strerror}") from problem
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
