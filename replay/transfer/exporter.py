"""Writes a log to a file: as JSONL, byte-exact, to be imported elsewhere; or as CSV and Parquet tables for people.

Called by the CLI and by library users. It works beside a running kernel: what is written is the log as it was when the
export began. Every row's hashes are checked on the way. The file appears when it is whole; after an error, or Ctrl-C,
there is none.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kernel.errors import ValidationError, Violation
from kernel.log.base import EventLog
from kernel.log.engine import jsonl_file
from kernel.log.factory import SQLITE_BEGIN, beginning_of
from replay.formatting.progress_bar import Progress
from replay.log_access.atomic_files import atomic_file
from replay.log_access.log_reader import chain_at, checked_pages, open_for_reading, point
from replay.transfer import table_writers
from replay.transfer.tables import TABLES, ExportTable

FORMATS = ("jsonl", "csv", "parquet")


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    path: str
    exchange_id: str
    last_position: int
    """The log from 1 up to here."""
    chain_hash: bytes
    """Its chain hash there."""


async def export_log(
    log: EventLog | str,
    path: str | Path,
    *,
    format: str = "jsonl",  # noqa: A002  # the contract's name
    what: str = "events",
    upto: int | None = None,
    progress: Progress | None = None,
    exchange_id: str | None = None,
) -> Exported:
    """Write a log, from its first event up to a position (default: the head now), to a file; `-` is the standard output.

    `format` is jsonl, csv or parquet; `what` is events or, as a table, orders or fills. A name ending in `.gz` is
    compressed (not Parquet, which is so by itself). A file that is there is replaced, unless it is a database. Raises
    `ValidationError`, `NotFoundError`, and `IntegrityError` for a log that is not what was written.
    """
    path = str(path)
    _check(path, format=format, what=what)
    async with open_for_reading(log, exchange_id) as found:
        end = await point(found, position=upto)
        about = jsonl_file.LogFileHeader(
            exchange_id=found.exchange_id,
            log_id=found.log_id,
            first_position=1,
            last_position=end,
            chain_hash_before=await chain_at(found, 0),
            chain_hash=await chain_at(found, end),
        )
        with _target(path) as file:
            if format == "jsonl":
                await _write_rows(found, about, file, progress)
            else:
                await _write_table(found, TABLES[what], file, upto=end, form=format, progress=progress)
    return Exported(path, about.exchange_id, end, about.chain_hash)


def _check(path: str, *, format: str, what: str) -> None:  # noqa: A002
    violations = [
        Violation(name, "choice", f"one of {', '.join(choices)}", given)
        for name, given, choices in (("format", format, FORMATS), ("what", what, tuple(TABLES)))
        if given not in choices
    ]
    if format == "jsonl" and what in ("orders", "fills"):
        violations.append(Violation("format", "choice", f"csv or parquet for {what}", format))
    if format == "parquet" and (path == jsonl_file.STANDARD_STREAM or path.endswith(".gz")):
        violations.append(Violation("path", "form", "an uncompressed file for Parquet", path))
    if violations:
        raise ValidationError(violations=violations)
    jsonl_file.check_name(path)
    if path != jsonl_file.STANDARD_STREAM and beginning_of(Path(path)) == SQLITE_BEGIN:
        raise ValidationError(f"{path} is a database, and an export would replace it: give another name")


@contextmanager
def _target(path: str) -> Iterator[IO[bytes]]:
    """What to write to; put in its place when the block ends well."""
    with _file(path) as file, jsonl_file.writing(file, compressed=path.endswith(".gz")) as target:
        yield target


@contextmanager
def _file(path: str) -> Iterator[IO[bytes]]:
    if path == jsonl_file.STANDARD_STREAM:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with atomic_file(Path(path), replace=True) as transaction, transaction.open("wb") as file:
        yield file


async def _write_rows(
    log: EventLog, about: jsonl_file.LogFileHeader, file: IO[bytes], progress: Progress | None
) -> None:
    file.write(jsonl_file.header_line(about))
    async for rows in checked_pages(log, upto=about.last_position, progress=progress):
        await asyncio.to_thread(file.write, b"".join(map(jsonl_file.row_line, rows)))


async def _write_table(
    log: EventLog, table: ExportTable, file: IO[bytes], *, upto: int, form: str, progress: Progress | None
) -> None:
    make: Callable[[ExportTable, IO[bytes]], table_writers.TableFile] = (
        table_writers.CsvFile if form == "csv" else table_writers.ParquetFile
    )
    written = make(table, file)
    async for rows in table.rows(log, upto, progress):
        await asyncio.to_thread(written.add, rows)
    written.end()
