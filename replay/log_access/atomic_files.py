"""Files that appear complete or not at all, readable by their owner only.

Used by exports, imports, backups, tree heads and proofs. A file is filled in a hidden directory beside its place,
synced and moved. After an error nothing is left; SIGKILL may leave the hidden directory, never a partial file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernel.errors import AlreadyExistsError, NotFoundError
from kernel.platform.private_files import FILE_MODE, check_replaceable, replacing, sync


@contextmanager
def atomic_file(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty file to fill, which is moved to `path` after the block; files beside it are removed.

    Raises `AlreadyExistsError` if `path` exists, now or after the block, unless `replace` is set.
    """
    check_free(path, replace=replace)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as home:
        draft = Path(home) / path.name
        draft.touch(FILE_MODE)
        yield draft
        sync(draft)
        _put(draft, path, replace=replace)
    sync(path.parent)


def check_free(path: Path, *, replace: bool = False) -> None:
    """Raise `NotFoundError` if the file's directory is missing, `AlreadyExistsError` if the file exists, and
    `UnsafeFileError` for a device, a pipe or a socket."""
    if not path.parent.is_dir():
        raise NotFoundError(f"directory {path.parent} does not exist: create it first")
    if path.is_dir() or (path.exists() and not replace):
        raise _taken(path)
    check_replaceable(path)


def write_whole(path: Path, text: str) -> None:
    """Write a small text file durably; if interrupted, the old content stays."""
    with replacing(path) as file:
        file.write(text.encode())


def _put(draft: Path, path: Path, *, replace: bool) -> None:
    if replace:
        draft.replace(path)
        return
    try:
        path.hardlink_to(draft)
    except FileExistsError as problem:
        raise _taken(path) from problem


def _taken(path: Path) -> AlreadyExistsError:
    return AlreadyExistsError(f"{path} already exists and was not changed: choose another name or move it away")
