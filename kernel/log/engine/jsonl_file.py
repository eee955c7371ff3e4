"""The JSONL form of a log: one line that says what it is, then a line for each row with all that is stored.

Written by `replay.transfer.exporter`, read by `replay.transfer.importer`. A row's payload and envelope are the stored
text itself, ids and hashes are hex, so that the bytes come back as they were. A name that ends in `.gz` is compressed;
a compressed file is known by its first bytes. Promises that a reader gets only rows whose hashes follow from each
other, as many as the first line says, to the chain hash that it says; anything else is an error with the number of the
line. Memory is bounded by the page.

    {"format":"exchange-kernel-log","format_version":1,"exchange_id":…,"log_id":…,"first_position":1,"last_position":N,
     "chain_hash_before":…,"chain_hash":…}
    {"position":1,"stream_id":…,"version":…,"topic":…,"schema_version":…,"recorded_at_ns":…,"command_id":…,
     "command_index":…,"meta":"…","state":"…","leaf_hash":…,"chain_hash":…}
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import orjson

from kernel.errors import IntegrityError, NotFoundError, SchemaError, ValidationError, Violation
from kernel.log import hashing
from kernel.log.base import StoredRow
from kernel.log.engine.records import COLUMNS

FORMAT = "exchange-kernel-log"
FORMAT_VERSION = 1
STANDARD_STREAM = "-"
PAGE_ROWS = 1_000
LINE_BYTES_MAX = 256 << 20
"""Longest line that is read: more than any row has, so that a file of something else can't fill the memory."""
NUMBER_MAX = 2**63 - 1
"""What both databases hold."""
NUMBERS = frozenset({"position", "version", "schema_version", "recorded_at_ns", "command_index"})
HEX = frozenset({"command_id", "leaf_hash", "chain_hash"})
STORED_TEXT = frozenset({"meta", "state"})
GZIP_BEGIN = b"\x1f\x8b"
NOT_WRITTEN_HERE = frozenset({".zst", ".bz2", ".xz", ".zip", ".lz4"})
"""Endings of compressed files that this form does not have."""


@dataclass(frozen=True, slots=True)
class LogFileHeader:
    """The first line: whose rows, which of them, and what they chain from and to."""

    exchange_id: str
    log_id: str
    first_position: int
    last_position: int
    chain_hash_before: bytes
    """Chain hash of the position before the first."""
    chain_hash: bytes
    """Chain hash of the last position."""


def header_line(header: LogFileHeader) -> bytes:
    """The first line."""
    return orjson.dumps(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "exchange_id": header.exchange_id,
            "log_id": header.log_id,
            "first_position": header.first_position,
            "last_position": header.last_position,
            "chain_hash_before": header.chain_hash_before.hex(),
            "chain_hash": header.chain_hash.hex(),
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def row_line(row: StoredRow) -> bytes:
    """A row's line; `IntegrityError` for one that holds something else than text where a log has text."""
    stored: dict[str, Any] = {column: getattr(row, column) for column in COLUMNS}
    try:
        stored.update({column: stored[column].decode() for column in STORED_TEXT})
        stored.update({column: stored[column].hex() for column in HEX})
        return orjson.dumps(stored, option=orjson.OPT_APPEND_NEWLINE)
    except (UnicodeDecodeError, TypeError) as problem:
        raise IntegrityError(f"a column is not what a log holds: {problem}", position=row.position) from problem


# --------------------------------------------------------------------------------------------------------------- writing
def check_name(path: str) -> None:
    """`ValidationError` for the ending of a compression that is not written here."""
    if Path(path).suffix in NOT_WRITTEN_HERE:
        text = "`{value}`: files are written plain or as {limit}"
        raise ValidationError(violations=[Violation("path", "compression", ".gz", path, text)])


@contextmanager
def writing(file: IO[bytes], *, compressed: bool) -> Iterator[IO[bytes]]:
    """What to write to; the same content gives the same bytes, compressed too."""
    if not compressed:
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        yield cast(IO[bytes], packed)


# --------------------------------------------------------------------------------------------------------------- reading
class LogFile:
    """A file in this form, being read from its beginning to its end."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        """Reads the first line. Raises `ValidationError` for a file that is none of this form, and `SchemaError`."""
        self._file = file
        self._name = name
        self._line_number = 0
        self.header = self._header()

    def pages(self) -> Iterator[list[StoredRow]]:
        """Its rows, checked; `IntegrityError` with the first line that is not as it was written, or is missing."""
        header = self.header
        expected, chain = header.first_position, header.chain_hash_before
        rows: list[StoredRow] = []
        while line := self._next_line():
            row = self._row(line)
            if expected > header.last_position:
                raise self._damaged(f"there is more than the {header.last_position} that the first line says")
            chain = self._checked(row, expected, chain)
            expected += 1
            rows.append(row)
            if len(rows) == PAGE_ROWS:
                yield rows
                rows = []
        self._line_number += 1  # the line that is not there
        if expected <= header.last_position:
            raise self._damaged(f"the file is cut off: position {expected} to {header.last_position} should follow")
        if chain != header.chain_hash:
            raise self._damaged("the rows do not end at the chain hash that the first line says")
        if rows:
            yield rows

    def _checked(self, row: StoredRow, expected: int, chain: bytes) -> bytes:
        try:
            return hashing.verify_row(row, expected=expected, chain=chain)
        except IntegrityError as problem:
            raise self._damaged(str(problem)) from problem

    def _next_line(self) -> bytes:
        """The next line; empty at the end."""
        try:
            line = self._file.readline(LINE_BYTES_MAX)
        except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
            self._line_number += 1
            raise self._damaged(f"the compressed file is damaged or cut off here: {problem}") from problem
        self._line_number += bool(line)
        if len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
            raise self._damaged(f"it is longer than {LINE_BYTES_MAX} bytes")
        return line

    def _header(self) -> LogFileHeader:
        not_ours = f"{self._name} is not an export of a log: `orderctl export` writes one"
        try:
            value = orjson.loads(self._next_line())
        except ValueError as problem:
            raise ValidationError(not_ours) from problem
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ValidationError(not_ours)
        if value.get("format_version") != FORMAT_VERSION:
            version = f"version {value.get('format_version')!r} of the format"
            raise SchemaError(f"{self._name} has {version}, this code knows {FORMAT_VERSION}: upgrade to read it")
        return self._parsed_header(value)

    def _parsed_header(self, value: dict[str, Any]) -> LogFileHeader:
        try:
            header = LogFileHeader(
                exchange_id=_text(value["exchange_id"]),
                log_id=_text(value["log_id"]),
                first_position=_number(value["first_position"]),
                last_position=_number(value["last_position"]),
                chain_hash_before=bytes.fromhex(value["chain_hash_before"]),
                chain_hash=bytes.fromhex(value["chain_hash"]),
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise self._damaged(f"it does not say what the file holds: {problem!r}") from problem
        if header.first_position < 1 or header.last_position < header.first_position - 1:
            raise self._damaged(f"positions {header.first_position} to {header.last_position} can't be")
        return header

    def _row(self, line: bytes) -> StoredRow:
        try:
            value = orjson.loads(line)
            if type(value) is not dict or set(value) != set(COLUMNS):
                raise TypeError(f"a row has {', '.join(COLUMNS)}, each once")
            return StoredRow(**{column: _value(column, value[column]) for column in COLUMNS})
        except (ValueError, TypeError) as problem:
            raise self._damaged(f"it is no row: {problem}") from problem

    def _damaged(self, text: str) -> IntegrityError:
        return IntegrityError(f"{self._name}, line {self._line_number}: {text}")


def _value(column: str, value: Any) -> Any:
    """A column's value from what its line says."""
    if column in NUMBERS:
        return _number(value)
    if column in HEX:
        return bytes.fromhex(value)
    return _text(value).encode() if column in STORED_TEXT else _text(value)


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= NUMBER_MAX:
        raise TypeError(f"{value!r} is no number from 0 to {NUMBER_MAX}")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"{value!r} is no text")
    return value


@contextmanager
def reading(path: str) -> Iterator[LogFile]:
    """A file of this form by its path; `-` is the standard input. Raises `NotFoundError` where there is none."""
    if path == STANDARD_STREAM:
        yield LogFile(_unpacked(sys.stdin.buffer), "standard input")
        return
    if not Path(path).exists():
        raise NotFoundError(f"there is no file {path}")
    with Path(path).open("rb") as file:
        yield LogFile(_unpacked(file), path)


def _unpacked(file: Any) -> IO[bytes]:
    """A file as it is read; one that is compressed begins with two bytes that say so."""
    return cast(IO[bytes], gzip.open(file) if file.peek(2)[:2] == GZIP_BEGIN else file)
