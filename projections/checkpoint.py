"""A state in a file, so that a start does not fold the log from its first event.

Used by the composition root and by readers of history. A checkpoint is a cache: it is used only if it is complete, is of
this log (log id and chain hash at its position) and has this code's fold version. Any other is skipped, and the log is
folded from an older one or from position 1. Files are private to the user (`kernel.platform.private_files`).

A file has lines of JSON: the header, the snapshot, one line per record, and the SHA-256 of all lines before.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from kernel.errors import KernelError, UnsafeFileError
from kernel.lifecycle.orders.shared_sequence import as_list, from_list
from kernel.lifecycle.record import Record
from kernel.platform.private_files import check_directory, make_directory, open_private, replacing
from kernel.platform.version import fold_version
from projections.snapshot import StateSnapshot
from projections.state import State

logger = logging.getLogger(__name__)

T = TypeVar("T")

FORMAT = "exchange-kernel checkpoint 1"
SUFFIX = ".checkpoint"
KEPT = 2
"""Files kept of a log: the newest, and one to fall back on."""


class CheckpointError(KernelError):
    """A file is not a usable checkpoint."""


class Header(msgspec.Struct, frozen=True):
    """The first line. Field names are stored."""

    log_id: str
    exchange_id: str
    position: int
    chain_hash: str
    """The log's chain hash at that position, in hex."""
    code_hash: str
    """Fold version of the code that wrote it (`kernel.platform.version`)."""
    records: int
    open_orders: dict[str, int]
    """Symbol → number of its intents whose order is, or may be, open."""
    format: str = FORMAT


class CheckpointImage(msgspec.Struct, frozen=True):
    """A copy of a state at one position; it can be written while the state changes."""

    snapshot: StateSnapshot
    records: Collection[Record]
    chain_hash: bytes

    def lines(self) -> Iterator[bytes]:
        """The file's lines without the last."""
        header = Header(
            log_id=self.snapshot.log_id,
            exchange_id=self.snapshot.exchange_id,
            position=self.snapshot.position,
            chain_hash=self.chain_hash.hex(),
            code_hash=fold_version(),
            records=len(self.records),
            open_orders=Counter(filter(None, self.snapshot.live.values())),
        )
        yield msgspec.json.encode(header)
        yield encode(self.snapshot)
        yield from map(encode, self.records)


def image(state: State, chain_hash: bytes) -> CheckpointImage:
    """A copy of a state; `chain_hash` is the log's at the state's position."""
    return CheckpointImage(state.snapshot(), [*state.records().values()], chain_hash)


encode = msgspec.json.Encoder(enc_hook=as_list).encode


@cache
def decoder(kind: type[T]) -> Callable[[bytes], T]:
    return msgspec.json.Decoder(kind, dec_hook=from_list).decode


def write(image: CheckpointImage, path: Path) -> None:
    """Write a checkpoint; the file appears complete or not at all. Raises `OSError`."""
    digest = hashlib.sha256()
    with replacing(path) as file:
        for line in image.lines():
            digest.update(line)
            digest.update(b"\n")
            file.write(line + b"\n")
        file.write(msgspec.json.encode({"sha256": digest.hexdigest()}) + b"\n")


def opened(path: Path) -> IO[bytes]:
    return os.fdopen(open_private(path, os.O_RDONLY), "rb")


def read_header(path: Path) -> Header:
    """Read a file's header. Raises `CheckpointError`, `UnsafeFileError`, `OSError`."""
    with opened(path) as file:
        return parsed_header(file.readline())


def parsed_header(line: bytes) -> Header:
    try:
        header = msgspec.json.decode(line, type=Header)
    except ValueError as problem:
        raise CheckpointError(f"the first line is not a checkpoint header: {problem}") from problem
    if header.format != FORMAT:
        raise CheckpointError(f"the format is {header.format!r}; this version reads {FORMAT!r}")
    return header


def checked_header(path: Path) -> Header:
    """Read the header of a file that is checked as a whole. Raises as `read`."""
    with opened(path) as file:
        checked_lines(file)
    return read_header(path)


def read(path: Path) -> State:
    """Read the state in a file, which is checked as a whole first and then restored line by line, to save memory.

    Raises `CheckpointError` for a damaged file, `UnsafeFileError` for one that another user can write, and `OSError`.
    """
    with opened(path) as file:
        lines = checked_lines(file)
        file.seek(0)
        header = parsed_header(file.readline())
        if header.records != lines - 2:
            raise CheckpointError(f"the header promises {header.records} records, the file has {lines - 2}")
        state = State()
        try:
            snapshot = decoder(StateSnapshot)(file.readline())
            state.restore(snapshot, map(decoder(Record), islice(file, header.records)))
        except (ValueError, KeyError) as problem:
            raise CheckpointError(f"the state cannot be read: {problem}") from problem
        return state


def checked_lines(file: Iterable[bytes]) -> int:
    """The number of lines before the last, whose hash the last one has. Raises `CheckpointError`."""
    digest = hashlib.sha256()
    lines, last = 0, b""
    for line in file:
        digest.update(last)
        lines, last = lines + 1, line
    if lines < 3 or not last.endswith(b"\n"):
        raise CheckpointError("the file is incomplete")
    if last != msgspec.json.encode({"sha256": digest.hexdigest()}) + b"\n":
        raise CheckpointError("the file was changed or is incomplete: its SHA-256 does not match")
    return lines - 1


class CheckpointFiles:
    """The checkpoints of one log, in a directory that no other user can write. It is created with the first one."""

    def __init__(self, directory: Path, log_id: str) -> None:
        self.directory = directory
        self._log_id = log_id

    def paths(self) -> list[Path]:
        """The files, the newest first; none if the directory cannot be read."""
        with suppress(OSError):
            return sorted(self.directory.glob(f"{self._log_id}-*{SUFFIX}"), reverse=True)
        return []

    def path(self, position: int) -> Path:
        """The file of a position; names sort like positions."""
        return self.directory / f"{self._log_id}-{position:019d}{SUFFIX}"

    def write(self, image: CheckpointImage) -> Path:
        """Write a checkpoint and remove old ones. Raises `UnsafeFileError`, `OSError`."""
        make_directory(self.directory)
        check_directory(self.directory, sticky_allowed=False)
        path = self.path(image.snapshot.position)
        write(image, path)
        for old in self.paths()[KEPT:]:
            old.unlink(missing_ok=True)
        return path

    def usable(self, *, upto: int) -> Iterator[tuple[Path, Header]]:
        """Checkpoints at or before a position that have this code's fold version, the newest first."""
        try:
            check_directory(self.directory, sticky_allowed=False)
        except FileNotFoundError:
            return
        except (UnsafeFileError, OSError) as problem:
            logger.warning("no checkpoint is used: %s", problem)
            return
        for path in self.paths():
            try:
                header = read_header(path)
            except UnsafeFileError as problem:
                logger.warning("a checkpoint is skipped: %s", problem)
                continue
            except (CheckpointError, OSError) as problem:
                logger.info("the checkpoint %s is skipped: %s", path, problem)
                continue
            if header.log_id == self._log_id and header.code_hash == fold_version() and header.position <= upto:
                yield path, header
