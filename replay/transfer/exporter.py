"""Write a log to a file: as byte-exact JSONL for an import, or as a CSV or Parquet table.

Called by the CLI and by library users, also beside a running kernel: the export ends at the head at its start. The
hashes of all rows are checked. The file is written atomically; after an error or Ctrl-C there is none.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import msgspec

from kernel.errors import ValidationError
from kernel.log.base import EventLog
from kernel.log.engine import jsonl_file
from kernel.log.factory import SQLITE_BEGIN, beginning_of, sqlite_path
from replay.formatting.progress_bar import Progress
from replay.log_access.atomic_files import atomic_file
from replay.log_access.log_reader import chain_at, checked_pages, open_for_reading, point
from replay.transfer import table_writers
from replay.transfer.tables import TABLES, ExportTable

FORMATS = ("jsonl", "csv", "parquet")


class Exported(msgspec.Struct, frozen=True):
    """The result of an export."""

    path: str
    exchange_id: str
    last_position: int
    chain_hash: bytes
    """Chain hash at the last position."""


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
    """Write a log from its first event to a file.

    Args:
        log: An open log or its URL.
        path: The file, or `-` for standard output. A name ending in `.gz` is compressed (except Parquet). An existing file
            is replaced, unless it is a database.
        format: `jsonl`, `csv` or `parquet`.
        what: `events`, or as a table `orders` or `fills`.
        upto: The last position; default: the head.
        progress: Called with the position reached and the last position.
        exchange_id: Expected owner of the log.

    Raises:
        ValidationError: The arguments do not fit together.
        NotFoundError: The log does not exist.
        IntegrityError: The log was changed.
    """
    path = str(path)
    _check(path, log, format=format, what=what)
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


def _check(path: str, log: EventLog | str, *, format: str, what: str) -> None:  # noqa: A002
    for name, value, choices in (("format", format, FORMATS), ("what", what, tuple(TABLES))):
        if value not in choices:
            raise ValidationError(f"{name} {value!r} is unknown: use {', '.join(choices)}")
    if format == "jsonl" and what != "events":
        raise ValidationError(f"format jsonl exports events only: use csv or parquet for {what}")
    if format == "parquet" and (path == jsonl_file.STANDARD_STREAM or path.endswith(".gz")):
        raise ValidationError(f"Parquet cannot be written to {path}: use a file name without .gz")
    jsonl_file.check_name(path)
    if path != jsonl_file.STANDARD_STREAM and _is_database(Path(path), log):
        raise ValidationError(f"{path} is a database, which an export would replace: use another name")


def _is_database(path: Path, log: EventLog | str) -> bool:
    """Return whether a file is a database. The log's own is not opened, which would drop its connections' locks."""
    if not path.is_file():  # opening a named pipe would block
        return False
    url = log if isinstance(log, str) else log.url
    own = sqlite_path(url) if url.startswith("sqlite://") else None
    if own is not None and own.exists() and path.samefile(own):
        return True
    return beginning_of(path) == SQLITE_BEGIN


@contextmanager
def _target(path: str) -> Iterator[IO[bytes]]:
    """Open the target, which replaces an existing file when the block succeeds."""
    with ExitStack() as stack:
        if path == jsonl_file.STANDARD_STREAM:
            stack.callback(sys.stdout.buffer.flush)
            file: IO[bytes] = sys.stdout.buffer
        else:
            file = stack.enter_context(stack.enter_context(atomic_file(Path(path), replace=True)).open("wb"))
        yield stack.enter_context(jsonl_file.writing(file, compressed=path.endswith(".gz")))


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
