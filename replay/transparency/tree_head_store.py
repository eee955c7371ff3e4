"""Read the signed tree heads of a log: a directory outside the database with one file for each, named by its size.

Called by verification, proofs and the signer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from kernel.errors import NotFoundError, ValidationError
from replay.transparency.signed_note import NOTE_BYTES_MAX, SignedNote, TreeHead, VerifierKey

SUFFIX = ".note"
NEAREST = 3
"""Number of tree heads that an error names."""


class StoredTreeHead(TreeHead, frozen=True):
    """A tree head with its file and signatures."""

    path: Path
    signed: SignedNote


def tree_head_name(size: int) -> str:
    """Return the file name for a size; names sort by size."""
    return f"{size:020d}{SUFFIX}"


def newest_tree_head_file(directory: Path) -> Path | None:
    """Return the file of the largest size by name, if any."""
    with os.scandir(directory) as entries:
        name = max((entry.name for entry in entries if entry.name.endswith(SUFFIX)), default=None)
    return directory / name if name else None


def tree_head_files(path: str | Path) -> list[Path]:
    """Return the tree head files at a path by name. Raises `NotFoundError`."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise NotFoundError(f"no signed tree heads at {path}: it is neither a file nor a directory")
    with os.scandir(path) as entries:
        return sorted(path / entry.name for entry in entries if entry.name.endswith(SUFFIX))


def read_tree_head(path: Path, keys: Sequence[VerifierKey] | None) -> StoredTreeHead:
    """Read a tree head. Raises `ValidationError` if it is malformed or not signed by one of the keys."""
    try:
        with path.open("rb") as stream:
            data = stream.read(NOTE_BYTES_MAX + 1)
    except OSError as problem:
        raise ValidationError(f"cannot be read: {problem.strerror}") from problem
    signed = SignedNote.parse(data)
    if keys is not None:
        signed.signers(keys)
    head = TreeHead.parse(signed.text)
    if size_in_name(path) not in (None, head.size):
        raise ValidationError(f"the file was replaced: it covers {head.size} events, which is not the size in its name")
    return StoredTreeHead(head.origin, head.size, head.root, head.chain_hash, path, signed)


def covering_tree_head(
    path: str | Path, position: int, *, keys: Sequence[VerifierKey] | None, origin: str
) -> StoredTreeHead:
    """Return the smallest good tree head that covers a position, reading only candidates.

    Raises `NotFoundError` if none covers the position, `ValidationError` if those that do are bad.
    """
    files = tree_head_files(path)
    head = _first_good(files, lambda size: size >= position, keys=keys, origin=origin)
    if head is None:
        newest = max((size_in_name(file) or 0 for file in files), default=0)
        raise NotFoundError(f"no signed tree head covers position {position}: the newest one covers {newest} events")
    return head


def tree_head_of(path: str | Path, size: int, *, keys: Sequence[VerifierKey] | None, origin: str) -> StoredTreeHead:
    """Return the good tree head of a size. Raises `NotFoundError`, or `ValidationError` if it is bad."""
    files = tree_head_files(path)
    head = _first_good(files, lambda other: other == size, keys=keys, origin=origin)
    if head is None:
        known = sorted({size_in_name(file) or 0 for file in files}, key=lambda other: abs(other - size))[:NEAREST]
        near = f"the nearest sizes are {', '.join(map(str, sorted(known)))}" if known else "there is none at all"
        raise NotFoundError(f"no signed tree head covers {size} events exactly: {near}")
    return head


def _first_good(
    files: list[Path], fits: Callable[[int], bool], *, keys: Sequence[VerifierKey] | None, origin: str
) -> StoredTreeHead | None:
    problems: list[str] = []
    for file in files:
        named = size_in_name(file)
        if named is not None and not fits(named):
            continue
        try:
            head = read_tree_head(file, keys)
        except ValidationError as problem:
            problems.append(f"{file}: {problem}")
            continue
        if head.origin != origin:
            problems.append(f"{file}: {other_log(head, origin)}")
        elif fits(head.size):
            return head
    if problems:
        raise ValidationError("no good signed tree head: " + "; ".join(problems[:NEAREST]))
    return None


def size_in_name(file: Path) -> int | None:
    """Return the size in a file's name, if it has one."""
    return int(file.stem) if file.stem.isascii() and file.stem.isdecimal() else None


def other_log(head: StoredTreeHead, origin: str) -> str:
    return f"it is of another log, {head.origin}, not of {origin}"
