"""The JSONL form of a log: a header line, then a line per row with every stored column.

Written by `replay.transfer.exporter`, read by `replay.transfer.importer`. Payload and envelope are the stored text, ids
and hashes are hex. Files may be compressed with gzip. A reader gets only rows that chain from the header's first to its
last hash; anything else is an error with its line number. Memory is bounded by a page.

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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Annotated, Any, cast

import msgspec

from kernel.errors import IntegrityError, NotFoundError, SchemaError, ValidationError
from kernel.log import hashing
from kernel.log.base import StoredRow
from kernel.log.engine.records import COLUMNS

FORMAT = "exchange-kernel-log"
FORMAT_VERSION = 1
STANDARD_STREAM = "-"
PAGE_ROWS = 1_000
LINE_BYTES_MAX = 256 << 20
"""Longest line that is read, so that another kind of file cannot fill the memory."""
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
NUMBERS = frozenset({"position", "version", "schema_version", "recorded_at_ns", "command_index"})
HEX = frozenset({"command_id", "leaf_hash", "chain_hash"})
STORED_TEXT = frozenset({"meta", "state"})
GZIP_BEGIN = b"\x1f\x8b"
OTHER_COMPRESSIONS = frozenset({".zst", ".bz2", ".xz", ".zip", ".lz4"})


@dataclass(frozen=True, slots=True)
class LogFileHeader:
    """The first line: which rows of which log, and the hashes they chain from and to."""

    exchange_id: str
    log_id: str
    first_position: int
    last_position: int
    chain_hash_before: bytes
    """Chain hash of the position before the first."""
    chain_hash: bytes
    """Chain hash of the last position."""


HEADER_HASHES = ("chain_hash_before", "chain_hash")
HeaderLine = msgspec.defstruct(
    "HeaderLine", [(item.name, Number if "position" in item.name else str) for item in fields(LogFileHeader)]
)
RowLine = msgspec.defstruct(
    "RowLine", [(column, Number if column in NUMBERS else str) for column in COLUMNS], forbid_unknown_fields=True
)
decode_row_line = msgspec.json.Decoder(RowLine).decode


def header_line(header: LogFileHeader) -> bytes:
    stored = asdict(header)
    stored |= {name: stored[name].hex() for name in HEADER_HASHES}
    return msgspec.json.encode({"format": FORMAT, "format_version": FORMAT_VERSION, **stored}) + b"\n"


def row_line(row: StoredRow) -> bytes:
    """Return a row as a line; raises `IntegrityError` for a column that is not text where it must be."""
    stored = row._asdict()
    try:
        stored.update({column: stored[column].decode() for column in STORED_TEXT})
        stored.update({column: stored[column].hex() for column in HEX})
        if not {*map(type, stored.values())} <= {str, int}:
            raise TypeError("neither text nor a number")
        return msgspec.json.encode(stored) + b"\n"
    except (UnicodeError, TypeError, AttributeError) as problem:
        raise IntegrityError(f"a column has an impossible value: {problem}", position=row.position) from problem


def check_name(path: str) -> None:
    """Raise `ValidationError` for the file name extension of an unsupported compression."""
    if Path(path).suffix in OTHER_COMPRESSIONS:
        raise ValidationError(f"{path}: {Path(path).suffix} is not supported, use a plain file or .gz")


@contextmanager
def writing(file: IO[bytes], *, compressed: bool) -> Iterator[IO[bytes]]:
    """Yield the stream to write to; equal content gives equal bytes, also compressed."""
    if not compressed:
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        yield cast(IO[bytes], packed)


class LogFile:
    """Reads a file of this form from its beginning to its end."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        """Read the header. Raises `ValidationError` for a file of another form, `SchemaError` if newer code wrote it."""
        self._file = file
        self._name = name
        self._line_number = 0
        self.header = self._header()

    def pages(self) -> Iterator[list[StoredRow]]:
        """Yield the checked rows; raises `IntegrityError` with the first line that is damaged or missing."""
        header = self.header
        expected, chain = header.first_position, header.chain_hash_before
        rows: list[StoredRow] = []
        while line := self._next_line():
            row = self._row(line)
            if expected > header.last_position:
                raise self._damaged(f"there are rows after position {header.last_position}, the header's last")
            try:
                chain = hashing.verify_rows((row,), after=expected - 1, chain=chain)
            except IntegrityError as problem:
                raise self._damaged(str(problem)) from problem
            expected += 1
            rows.append(row)
            if len(rows) == PAGE_ROWS:
                yield rows
                rows = []
        self._line_number += 1  # the missing line
        if expected <= header.last_position:
            gone = f"positions {expected} to {header.last_position} are"
            gone = f"position {expected} is" if expected == header.last_position else gone
            raise self._damaged(f"the file is truncated: {gone} missing")
        if chain != header.chain_hash:
            raise self._damaged("the rows do not end at the header's chain hash")
        if rows:
            yield rows

    def _next_line(self) -> bytes:
        try:
            line = self._file.readline(LINE_BYTES_MAX)
        except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
            self._line_number += 1
            raise self._damaged(f"the compressed file is damaged or cut off here: {problem}") from problem
        self._line_number += bool(line)
        if len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
            raise self._damaged(f"the line is longer than {LINE_BYTES_MAX} bytes")
        return line

    def _header(self) -> LogFileHeader:
        not_ours = f"{self._name} is not an exported log: use a file that `orderctl export` wrote"
        try:
            value = msgspec.json.decode(self._next_line())
        except ValueError as problem:
            raise ValidationError(not_ours) from problem
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ValidationError(not_ours)
        if value.get("format_version") != FORMAT_VERSION:
            version = f"format version {value.get('format_version')!r}"
            raise SchemaError(f"{self._name} has {version}, this code supports {FORMAT_VERSION}: upgrade to read it")
        return self._parsed_header(value)

    def _parsed_header(self, value: dict[str, Any]) -> LogFileHeader:
        try:
            stored = msgspec.structs.asdict(msgspec.convert(value, HeaderLine))
            header = LogFileHeader(**stored | {name: bytes.fromhex(stored[name]) for name in HEADER_HASHES})
        except ValueError as problem:
            raise self._damaged(f"the header is malformed: {problem!r}") from problem
        if header.first_position < 1 or header.last_position < header.first_position - 1:
            raise self._damaged(f"positions {header.first_position} to {header.last_position} are no range")
        return header

    def _row(self, line: bytes) -> StoredRow:
        try:
            stored = msgspec.structs.asdict(decode_row_line(line))
            stored |= {column: stored[column].encode() for column in STORED_TEXT}
            return StoredRow(**stored | {column: bytes.fromhex(stored[column]) for column in HEX})
        except ValueError as problem:
            raise self._damaged(f"the row is malformed: {problem}") from problem

    def _damaged(self, text: str) -> IntegrityError:
        return IntegrityError(f"{self._name}, line {self._line_number}: {text}")


@contextmanager
def reading(path: str) -> Iterator[LogFile]:
    """Open a file of this form; `-` is standard input. Raises `NotFoundError` if there is no file."""
    if path == STANDARD_STREAM:
        yield LogFile(_unpacked(sys.stdin.buffer), "standard input")
        return
    if not Path(path).exists():
        raise NotFoundError(f"file {path} does not exist")
    with Path(path).open("rb") as file:
        yield LogFile(_unpacked(file), path)


def _unpacked(file: Any) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(file) if file.peek(2)[:2] == GZIP_BEGIN else file)
