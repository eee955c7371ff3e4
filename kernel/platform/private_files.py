"""Files that no other user of the host can read or write: logs, checkpoints, locks, journals and exports.

Files are created with mode 0600 and directories with 0700, whatever the umask. `UnsafeFileError` is raised, before anything
is written, for a file that another user owns, can write or can replace, and for a symbolic link. A file that others can
merely read is tightened to 0600, with a log line. Partial files have random names.

- A file must belong to the user of this process, also if that is root.
- A directory must belong to this user or root, and be writable by neither group nor others. A user's private group (its
  name, no other member) does not count. In a sticky directory like `/tmp` nobody can replace this user's files, so single
  files may be there, but no checkpoints, of which any new name counts.
- Protecting the directories above is the administrator's task.

Files are checked by descriptor, except SQLite's: closing a descriptor of an open database drops the locks of this process
(https://www.sqlite.org/howtocorrupt.html, section 2.2). They are created here and checked by path, where only this user can
replace them.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import stat
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
"""Follow no symbolic link, and do not block on a named pipe."""
COMPANIONS = ("-journal", "-wal", "-shm")
"""Suffixes of the files that SQLite opens beside a database."""


def open_private(path: Path, flags: int) -> int:
    """Open a file that belongs to this user alone, tightened if others can read it; the caller closes the descriptor.

    Truncate only after this returns: the file may be another user's until then. Raises `UnsafeFileError` if another
    user owns, can write or can replace it, or if it is no regular file; `OSError` if it cannot be opened.
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
    """Write a new file that replaces `path`, durably, at the end of the block; after an error nothing changes.

    Raises `UnsafeFileError` for a device, a named pipe or a socket, which a file must not replace.
    """
    import tempfile  # what only reads does without

    check_replaceable(path)
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


def check_replaceable(path: Path) -> None:
    """Raise `UnsafeFileError` for a device, a named pipe or a socket: root would replace `/dev/null` for the whole host."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise _not_regular(path)


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create a directory and its missing parents with mode 0700."""
    for directory in [*reversed(path.parents), path]:
        directory.mkdir(mode=DIRECTORY_MODE, exist_ok=True)


def check_directory(path: Path, *, sticky_allowed: bool = True) -> None:
    """Raise `UnsafeFileError` if another user can replace files in a directory (or add some, unless `sticky_allowed`)."""
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        remedy = f"use a directory of your own (mkdir -m 700 …), or run as {_user(status.st_uid)}"
        raise UnsafeFileError(f"the directory {path} {_owned(status)}, who can replace its files: {remedy}")
    if _others_can_write(status) and not (sticky_allowed and status.st_mode & stat.S_ISVTX):
        remedy = f"chmod go-w {path}, or use a directory of your own (mkdir -m 700 …)"
        raise UnsafeFileError(f"the directory {path} {_writable(status)}, who can replace its files: {remedy}")


def check_database(path: Path, *, create: bool) -> None:
    """Check the files of a SQLite database before SQLite opens them; with `create`, create it empty if it is missing.

    Raises `UnsafeFileError` as `open_private`, and `OSError` if it cannot be created.
    """
    check_directory(path.parent)
    shared = bool(path.parent.stat().st_mode & stat.S_ISVTX)
    for file in [path] * create + _companions(path) * shared:  # in a shared directory others could take a free name
        with suppress(FileExistsError):
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    for file in [path, *_companions(path)]:
        with suppress(FileNotFoundError):
            _check_file(file.lstat(), file)


def tighten_database(path: Path) -> None:
    """Check the files that SQLite has opened once more, and tighten them if others can read them."""
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


def _check_file(status: os.stat_result, path: Path) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _is_a_link(path)
    if not stat.S_ISREG(status.st_mode):
        raise _not_regular(path)
    if status.st_uid != os.geteuid():
        remedy = f"run as {_user(status.st_uid)}, or move it away if it is not yours"
        raise UnsafeFileError(f"{path} {_owned(status)}, and only a file of your own is safe: {remedy}")
    if _others_can_write(status):
        remedy = f"check that nobody changed it, then chmod go-w {path}"
        raise UnsafeFileError(f"{path} {_writable(status)}, who may have changed it: {remedy}")


def _others_can_write(status: os.stat_result) -> bool:
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_own_group(status.st_gid)


def _is_own_group(gid: int) -> bool:
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return (user.pw_gid, user.pw_name) == (gid, group.gr_name) and set(group.gr_mem) <= {user.pw_name}


def _not_regular(path: Path) -> UnsafeFileError:
    return UnsafeFileError(f"{path} is not a regular file: give the name of a file")


def _is_a_link(path: Path) -> UnsafeFileError:
    return UnsafeFileError(f"{path} is a symbolic link, which is not followed: give the path of the file")


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
    logger.warning("%s was readable by other users of this host: its mode is now %04o", path, FILE_MODE)
