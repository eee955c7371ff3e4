"""Files that no other user of the host can read or write: logs, checkpoints, locks, journals, and what is exported.

Called by whatever stores something that a kernel believes later. Promises: what is created has mode 0600, a directory
0700, whatever the umask is; a file is refused (`UnsafeFileError`) that another user owns or can write, that is a symbolic
link, or that is in a directory where another user can replace it; a file of this user that others can merely read is
tightened to 0600, with one log line; a partial file has a name that nobody can foresee. Nothing is written before a
refusal.

The rules:

- A file belongs to the user that this process runs as. That holds for root too, whose files would lock the user out.
- A directory belongs to this user or to root, and neither its group nor others can write it. A user's own group (it has
  the user's name and no other member, as on Debian, Ubuntu and Fedora) is not another user. In a sticky directory like
  `/tmp` nobody can replace a file of this user, so a single file may be there; checkpoints, of which any new name counts,
  may not.
- The directories above are the administrator's to protect.

Files are checked on their descriptor, not by path. SQLite opens its files itself, by path, and closing a descriptor of an
open database drops the locks of this process's connections to it, so that another process may delete the WAL under them
(https://www.sqlite.org/howtocorrupt.html, section 2.2). So a database's files are created here, and looked at without being
opened; only this user can replace them between the look and SQLite's own.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from kernel.errors import UnsafeFileError

logger = logging.getLogger(__name__)

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
OTHERS = stat.S_IRWXG | stat.S_IRWXO
OPEN_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Follow no symbolic link, and do not wait for the other end of a named pipe that somebody has put there."""
COMPANIONS = ("-journal", "-wal", "-shm")
"""What SQLite appends to a database's name for the files that it opens beside it, and believes."""


def open_private(path: Path, flags: int) -> int:
    """Open a file that belongs to this user alone; one that `flags` create has mode 0600.

    Args:
        path: The file. What others could merely read is tightened.
        flags: As for `os.open`. Truncate only after this has returned: the file may be somebody else's until then.

    Returns:
        The descriptor, which the caller closes.

    Raises:
        UnsafeFileError: Another user owns the file, can write it, or can replace it; or it is no regular file.
        OSError: It can't be opened.
    """
    check_directory(path.parent)
    try:
        descriptor = os.open(path, flags | OPEN_FLAGS, FILE_MODE)
    except OSError as problem:
        if path.is_symlink():
            raise _is_a_link(path) from problem
        raise
    try:
        status = os.fstat(descriptor)
        _check_file(status, path)
        if status.st_mode & OTHERS:
            os.fchmod(descriptor, FILE_MODE)
            _note_tightened(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file of mode 0600 that is at `path` after the block, whole and on the disk; after an error, nothing changes."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create a directory, and those above it, with mode 0700 each. One that exists stays as it is."""
    for directory in [*reversed(path.parents), path]:
        directory.mkdir(mode=DIRECTORY_MODE, exist_ok=True)


def check_directory(path: Path, *, sticky_allowed: bool = True) -> None:
    """Raise `UnsafeFileError` where another user can put files into a directory, or replace them; `OSError` without one.

    Args:
        path: The directory.
        sticky_allowed: Whether others may put new files into it, as long as they can't replace those that are there.
    """
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        remedy = f"use a directory of your own (mkdir -m 700 …), or run as {_user(status.st_uid)}"
        raise UnsafeFileError(f"the directory {path} {_owned(status)}, who can replace what is in it: {remedy}")
    if _others_can_write(status) and not (sticky_allowed and status.st_mode & stat.S_ISVTX):
        remedy = f"chmod go-w {path}, or use a directory of your own (mkdir -m 700 …)"
        raise UnsafeFileError(f"the directory {path} {_writable(status)}, who can replace what is in it: {remedy}")


# -------------------------------------------------------------------------------------------------------------- databases
def check_database(path: Path, *, create: bool) -> None:
    """Check a SQLite database and the files beside it, before SQLite opens them; create it, empty, where it may be.

    Raises:
        UnsafeFileError: As `open_private`, for any of the files.
        OSError: It can't be created.
    """
    check_directory(path.parent)
    shared = path.parent.stat().st_mode & stat.S_ISVTX
    for file in [path] * create + _companions(path) * bool(
        shared
    ):  # where others can take a free name, none stays free
        with suppress(FileExistsError):
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    for file in [path, *_companions(path)]:
        with suppress(FileNotFoundError):
            _check_file(file.lstat(), file)


def tighten_database(path: Path) -> None:
    """Check the files once more that SQLite has now opened, and take them from others who could read them.

    Called when the database has been found to be one of ours. Raises `UnsafeFileError`, `OSError`.
    """
    wide = []
    for file in [path, *_companions(path)]:
        with suppress(FileNotFoundError):
            status = file.lstat()
            _check_file(status, file)
            if status.st_mode & OTHERS:
                file.chmod(FILE_MODE)
                wide.append(file)
    if wide:
        _note_tightened(path)


def _companions(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in COMPANIONS]


# ------------------------------------------------------------------------------------------------------------------ rules
def _check_file(status: os.stat_result, path: Path) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _is_a_link(path)
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeFileError(f"{path} is no regular file, and a file is needed: give another name")
    if status.st_uid != os.geteuid():
        remedy = f"run as {_user(status.st_uid)}, or move it away if it is not yours"
        raise UnsafeFileError(f"{path} {_owned(status)}, and only a file of your own is safe to use: {remedy}")
    if _others_can_write(status):
        remedy = f"check that nobody changed it, then chmod go-w {path}"
        raise UnsafeFileError(f"{path} {_writable(status)}, who may have changed it: {remedy}")


def _others_can_write(status: os.stat_result) -> bool:
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_own_group(status.st_gid)


def _is_own_group(gid: int) -> bool:
    """Whether a group is the one that a user was given for itself alone."""
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return (user.pw_gid, user.pw_name) == (gid, group.gr_name) and set(group.gr_mem) <= {user.pw_name}


def _is_a_link(path: Path) -> UnsafeFileError:
    return UnsafeFileError(f"{path} is a symbolic link, which is not followed: give the path of the file itself")


def _owned(status: os.stat_result) -> str:
    return f"is owned by {_user(status.st_uid)}, while this process runs as {_user(os.geteuid())}"


def _writable(status: os.stat_result) -> str:
    return f"has mode {stat.S_IMODE(status.st_mode):04o}, so it can be written by other users"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _note_tightened(path: Path) -> None:
    logger.warning("%s could be read by other users of this host: its mode is now %04o", path, FILE_MODE)
