"""A state in a file, so that a start need not fold the log from its beginning.

Written and read by the composition root and by whoever looks into the past. A checkpoint is a cache: it is taken only when
it is whole, is of this log (its id, and the chain hash at its position), and has this code's fold version; any other is
passed over, and the log is folded from an older one, or from position 1. Nobody else can read or write one: where another
user could have put one, none is read or written (`kernel.platform.private_files`).

A file has lines of JSON: what it is; the state's parts; a line for each record; the SHA-256 of all lines before.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any

import orjson
import pydantic

from kernel.errors import KernelError, UnsafeFileError
from kernel.lifecycle import Record
from kernel.platform.private_files import check_directory, make_directory, open_private, replacing
from kernel.platform.version import fold_version
from projections.snapshot import StateSnapshot
from projections.state import State

logger = logging.getLogger(__name__)

FORMAT = "exchange-kernel checkpoint 1"
SUFFIX = ".checkpoint"
KEPT = 2
"""How many files of a log are kept: the newest, and one to fall back on."""


class CheckpointError(KernelError):
    """A file is no checkpoint that can be used."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a checkpoint is of."""

    log_id: str
    exchange_id: str
    position: int
    chain_hash: str
    """At that position, in hex."""
    code_hash: str
    """The fold version of the code that folded it (`kernel.platform.version`)."""
    records: int
    format: str = FORMAT


@dataclass(frozen=True, slots=True)
class CheckpointImage:
    """A state as it was at one position; it can be written while the state goes on."""

    parts: StateSnapshot
    records: Collection[Record]
    chain_hash: bytes

    @property
    def header(self) -> Header:
        """The file's first line."""
        return Header(
            log_id=self.parts.log_id,
            exchange_id=self.parts.exchange_id,
            position=self.parts.position,
            chain_hash=self.chain_hash.hex(),
            code_hash=fold_version(),
            records=len(self.records),
        )

    def lines(self) -> Iterator[bytes]:
        """The file's lines, but for the last."""
        yield orjson.dumps(asdict(self.header))
        yield adapter(StateSnapshot).dump_json(self.parts)
        record = adapter(Record)
        for item in self.records:
            yield record.dump_json(item)


def image(state: State, chain_hash: bytes) -> CheckpointImage:
    """A state as it is now; `chain_hash` is the log's at the state's position."""
    return CheckpointImage(state.snapshot(), state.records().as_now(), chain_hash)


@cache
def adapter(kind: type) -> pydantic.TypeAdapter[Any]:
    """What writes and reads values of a type."""
    return pydantic.TypeAdapter(kind)


def write(image: CheckpointImage, path: Path) -> None:
    """Store a checkpoint; the file is there whole, or not at all. Raises `OSError`."""
    digest = hashlib.sha256()
    with replacing(path) as file:
        for line in image.lines():
            digest.update(line)
            digest.update(b"\n")
            file.write(line + b"\n")
        file.write(orjson.dumps({"sha256": digest.hexdigest()}) + b"\n")


def opened(path: Path) -> IO[bytes]:
    return os.fdopen(open_private(path, os.O_RDONLY), "rb")


def read_header(path: Path) -> Header:
    """What a file says that it is. Raises `CheckpointError`, `UnsafeFileError`, `OSError`."""
    with opened(path) as file:
        return parsed_header(file.readline())


def parsed_header(line: bytes) -> Header:
    try:
        header = Header(**orjson.loads(line))
    except (ValueError, TypeError) as problem:
        raise CheckpointError(f"its first line is not a checkpoint's: {problem}") from problem
    if header.format != FORMAT:
        raise CheckpointError(f"its form is {header.format!r}, this code knows {FORMAT!r}")
    return header


def read(path: Path) -> State:
    """The state in a file. Raises `CheckpointError` unless it is whole, `UnsafeFileError`, `OSError`.

    The file is gone through twice, line by line: once whole and found good, it is restored without being held in memory.
    """
    with opened(path) as file:
        lines = checked(file)
        file.seek(0)
        header = parsed_header(file.readline())
        if header.records != lines - 2:
            raise CheckpointError(f"it should have {header.records} records, and has {lines - 2}")
        return restored(file.readline(), islice(file, header.records))


def checked(file: Iterable[bytes]) -> int:
    """The number of lines before the last, which has their hash. Raises `CheckpointError`."""
    digest = hashlib.sha256()
    lines, last = 0, b""
    for line in file:
        digest.update(last)
        lines, last = lines + 1, line
    if lines < 3 or not last.endswith(b"\n"):
        raise CheckpointError("it is not whole")
    if last != orjson.dumps({"sha256": digest.hexdigest()}) + b"\n":
        raise CheckpointError("it was changed, or not written whole")
    return lines - 1


def restored(parts: bytes, records: Iterable[bytes]) -> State:
    record = adapter(Record)
    state = State()
    try:
        state.restore(adapter(StateSnapshot).validate_json(parts), map(record.validate_json, records))
    except (ValueError, KeyError) as problem:
        raise CheckpointError(f"it can't be read: {problem}") from problem
    return state


class CheckpointFiles:
    """The checkpoints of one log in a directory that nobody else can write."""

    def __init__(self, directory: Path, log_id: str) -> None:
        """The directory is made with the first checkpoint."""
        self.directory = directory
        self._log_id = log_id

    def paths(self) -> list[Path]:
        """Those that are there, the newest first. What can't be looked at is not there."""
        with suppress(OSError):
            return sorted(self.directory.glob(f"{self._log_id}-*{SUFFIX}"), reverse=True)
        return []

    def path(self, position: int) -> Path:
        """Where the checkpoint of a position is; names sort like positions."""
        return self.directory / f"{self._log_id}-{position:019d}{SUFFIX}"

    def write(self, image: CheckpointImage) -> Path:
        """Store one, and remove those that are not needed any more. Raises `UnsafeFileError`, `OSError`."""
        make_directory(self.directory)
        check_directory(self.directory, sticky_allowed=False)
        path = self.path(image.parts.position)
        write(image, path)
        for old in self.paths()[KEPT:]:
            old.unlink(missing_ok=True)
        return path

    def usable(self, *, upto: int) -> Iterator[tuple[Path, Header]]:
        """Those at or before a position that have this code's fold version, the newest first."""
        try:
            check_directory(self.directory, sticky_allowed=False)
        except FileNotFoundError:
            return
        except UnsafeFileError as problem:
            logger.warning("no checkpoint is read: %s", problem)
            return
        for path in self.paths():
            try:
                header = read_header(path)
            except UnsafeFileError as problem:
                logger.warning("a checkpoint is passed over: %s", problem)
                continue
            except (CheckpointError, OSError) as problem:
                logger.info("the checkpoint %s is passed over: %s", path, problem)
                continue
            if header.log_id == self._log_id and header.code_hash == fold_version() and header.position <= upto:
                yield path, header
