"""The signed notes of a log as they are kept outside its database: a directory with a file for each, named by its size.

Called by what verifies a log, what proves by a note, and what writes the next one. Reading never fails for what a file
holds: what is wrong with it is told, and what is told as good was signed by a key that is trusted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import NotFoundError, ValidationError
from replay.transparency.signed_note import NOTE_BYTES_MAX, SignedNote, TreeHead, VerifierKey

SUFFIX = ".note"
NEAREST = 3
"""How many notes are named where the right one is not there."""


@dataclass(frozen=True, slots=True)
class StoredTreeHead:
    """One note: where it is, and what it says."""

    path: Path
    signed: SignedNote
    checkpoint: TreeHead

    @property
    def origin(self) -> str:
        """Which log it is of."""
        return self.checkpoint.origin

    @property
    def size(self) -> int:
        """How many events the log had: the position of the last one."""
        return self.checkpoint.size

    @property
    def root(self) -> bytes:
        """Root of the tree over their leaves."""
        return self.checkpoint.root

    @property
    def chain_hash(self) -> bytes:
        """Chain hash of the last one."""
        return self.checkpoint.chain_hash


@dataclass(frozen=True, slots=True)
class TreeHeadProblem:
    """What is wrong with one file."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


@dataclass(frozen=True, slots=True)
class TreeHeadStore:
    """All notes that were found."""

    notes: tuple[StoredTreeHead, ...]
    """What is good for itself, by size."""
    problems: tuple[TreeHeadProblem, ...]

    @classmethod
    def read(cls, path: str | Path, keys: Iterable[VerifierKey] | None, *, origin: str | None = None) -> TreeHeadStore:
        """The notes in a directory, or the one in a file, that these keys have signed.

        They are all of one log: of `origin` where it is given, else of that of the shortest. With None for keys no
        signature is checked: for who hands a note on to somebody who has them. Raises `NotFoundError` where nothing is.
        """
        notes, problems = [], []
        trusted = None if keys is None else tuple(keys)
        for file in tree_head_files(path):
            try:
                notes.append(read_tree_head(file, trusted))
            except ValidationError as problem:
                problems.append(TreeHeadProblem(file, str(problem)))
        notes.sort(key=lambda note: (note.size, note.path))
        problems += _disagreements(notes)
        expected = origin if origin is not None else notes[0].origin if notes else ""
        problems += [_foreign(note, expected) for note in notes if note.origin != expected]
        return cls(tuple(note for note in notes if note.origin == expected), tuple(problems))


def tree_head_name(size: int) -> str:
    """The name of the file with the note of a size: in the order of sizes."""
    return f"{size:020d}{SUFFIX}"


def newest_tree_head_file(directory: Path) -> Path | None:
    """The note of the largest size by its name; None where there is none."""
    with os.scandir(directory) as entries:
        name = max((entry.name for entry in entries if entry.name.endswith(SUFFIX)), default=None)
    return directory / name if name else None


def tree_head_files(path: str | Path) -> list[Path]:
    """The files at a path that should be notes, in order of their names. Raises `NotFoundError`."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise NotFoundError(f"there are no notes at {path}: neither a directory of them nor one")
    with os.scandir(path) as entries:
        return sorted(path / entry.name for entry in entries if entry.name.endswith(SUFFIX))


def read_tree_head(path: Path, keys: Sequence[VerifierKey] | None) -> StoredTreeHead:
    """The note in a file. Raises `ValidationError` for what is none, or not signed by one of these keys."""
    try:
        with path.open("rb") as stream:
            data = stream.read(NOTE_BYTES_MAX + 1)
    except OSError as problem:
        raise ValidationError(f"it can't be read: {problem.strerror}") from problem
    signed = SignedNote.parse(data)
    if keys is not None:
        signed.signers(keys)
    note = StoredTreeHead(path, signed, TreeHead.parse(signed.text))
    if size_in_name(path) not in (None, note.size):
        raise ValidationError(f"another note was put in its place: it is of {note.size} events")
    return note


def covering_tree_head(
    path: str | Path, position: int, *, keys: Sequence[VerifierKey] | None, origin: str
) -> StoredTreeHead:
    """The good note of the shortest log that has an event. Only notes that may be it are read.

    Raises `NotFoundError` where none is so long, `ValidationError` where those that are so long are bad.
    """
    files = tree_head_files(path)
    note = _first_good(files, lambda size: size >= position, keys=keys, origin=origin)
    if note is None:
        newest = max((size_in_name(file) or 0 for file in files), default=0)
        raise NotFoundError(f"no note covers position {position}: the newest one is of {newest} events")
    return note


def tree_head_of(path: str | Path, size: int, *, keys: Sequence[VerifierKey] | None, origin: str) -> StoredTreeHead:
    """The good note of a size. Raises `NotFoundError`, and `ValidationError` where it is bad."""
    files = tree_head_files(path)
    note = _first_good(files, lambda other: other == size, keys=keys, origin=origin)
    if note is None:
        known = sorted({size_in_name(file) or 0 for file in files}, key=lambda other: abs(other - size))[:NEAREST]
        near = f"the nearest are of {', '.join(map(str, sorted(known)))}" if known else "there is none"
        raise NotFoundError(f"there is no note of {size} events: {near}")
    return note


def _first_good(
    files: list[Path], fits: Callable[[int], bool], *, keys: Sequence[VerifierKey] | None, origin: str
) -> StoredTreeHead | None:
    problems: list[TreeHeadProblem] = []
    for file in files:
        named = size_in_name(file)
        if named is not None and not fits(named):
            continue
        try:
            note = read_tree_head(file, keys)
        except ValidationError as problem:
            problems.append(TreeHeadProblem(file, str(problem)))
            continue
        if note.origin != origin:
            problems.append(_foreign(note, origin))
        elif fits(note.size):
            return note
    if problems:
        raise ValidationError("no note is good: " + "; ".join(map(str, problems[:NEAREST])))
    return None


def size_in_name(file: Path) -> int | None:
    """The size that a note's file is named for; None for a file with another name."""
    return int(file.stem) if file.stem.isascii() and file.stem.isdecimal() else None


def _foreign(note: StoredTreeHead, origin: str) -> TreeHeadProblem:
    return TreeHeadProblem(note.path, f"it is of another log, {note.origin}, not of {origin}")


def _disagreements(notes: list[StoredTreeHead]) -> Iterator[TreeHeadProblem]:
    """Notes of one size that do not say the same: the log was two logs, and both were signed."""
    first: dict[tuple[str, int], StoredTreeHead] = {}
    for note in notes:
        other = first.setdefault((note.origin, note.size), note)
        if other.checkpoint != note.checkpoint:
            yield TreeHeadProblem(note.path, f"it says another thing of the first {note.size} events than {other.path}")
