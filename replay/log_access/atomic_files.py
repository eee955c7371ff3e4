"""A file that appears whole or not at all: filled beside its place, synced, then put there in one step.

Used by exports, imports and backups, and by what writes notes and proofs. Promises that after an error nothing is left of
it; after SIGKILL a hidden directory beside it may be, and never a half-written file under the name asked for. A file is
readable by its owner alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernel.errors import AlreadyExistsError, NotFoundError
from kernel.platform.private_files import FILE_MODE, replacing, sync


@contextmanager
def atomic_file(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Where to fill a file, which is empty, that is to be at `path` after the block; what is beside it goes with the block.

    Unless it may `replace` a file, one that is there, or comes meanwhile, is an `AlreadyExistsError`.
    """
    check_free(path, replace=replace)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as home:
        transaction = Path(home) / path.name
        transaction.touch(FILE_MODE)
        yield transaction
        sync(transaction)
        _put(transaction, path, replace=replace)
    sync(path.parent)


def check_free(path: Path, *, replace: bool = False) -> None:
    """`NotFoundError` where there is no directory for a file, `AlreadyExistsError` where there is one already."""
    if not path.parent.is_dir():
        raise NotFoundError(f"there is no directory {path.parent}")
    if path.is_dir() or (path.exists() and not replace):
        raise _taken(path)


def write_whole(path: Path, text: str) -> None:
    """A small file with a text, on the disk when this returns; killed in between, what was there is there still."""
    with replacing(path) as file:
        file.write(text.encode())


def _put(transaction: Path, path: Path, *, replace: bool) -> None:
    if replace:
        transaction.replace(path)
        return
    try:
        path.hardlink_to(transaction)
    except FileExistsError as problem:
        raise _taken(path) from problem


def _taken(path: Path) -> AlreadyExistsError:
    return AlreadyExistsError(f"{path} is there already, and nothing was written: give another name, or move it away")
