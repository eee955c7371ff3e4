"""The beginning of a log as a file of its own: cut off the live log, still read from there, put back when it is wanted.

Called by the CLI and by library users. The archive is the JSONL form of the rows, compressed, written and read again before
a row is deleted. From then on the log reads the positions from the file where it is at its path, with every hash checked:
all that reads history goes on. Where it is not, reading them is a clear error, and what comes after them is read as before.
The file belongs to the log: keep it with its backups.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from kernel.errors import ConflictError, IntegrityError, KernelError, NotFoundError, ValidationError, Violation
from kernel.log import cutting, hashing, row_files
from kernel.log.base import EventLog
from kernel.log.recorder import (
    CUT_LAYOUT_VERSION,
    LAYOUT_VERSION,
    NAMING_TOPICS,
    RowRefused,
    TableRecorder,
    named_in,
)
from kernel.log.segments import Segment
from kernel.log.stored import StoredLog
from replay.folding import chain_at, checked_pages, opened, point
from replay.new_files import new_file
from replay.progress import Progress
from replay.threads import Stopped, in_thread, on_loop, until_stopped

SUFFIX = ".gz"
CutCommand = tuple[bytes, int, int]
"""A command id with its first and last position."""


async def archive_log(
    log: EventLog | str,
    path: str | Path,
    *,
    upto: int,
    progress: Progress | None = None,
    exchange_id: str | None = None,
) -> Segment:
    """Cut the positions up to one off a log, into a file that is not there yet, whose name ends in `.gz`.

    A cut that was interrupted is finished by calling this again with the same file. Raises `ValidationError` (a position
    that is not in the log, in the middle of a command, archived already, or its last; a layout without archives),
    `AlreadyExistsError` (the file), `IntegrityError`.
    """
    path = _place(path)
    async with opened(log, exchange_id) as found:
        recorder = _recorder(found)
        known = await asyncio.to_thread(recorder.segments)
        segment = next((item for item in known if (item.uri, item.last_position) == (str(path), upto)), None)
        if segment is None:
            segment = await _write(found, path, known, upto, progress)
        steps, told = cutting.cut(recorder, segment, _commands(segment), _names(segment)), on_loop(progress)
        await until_stopped(lambda stopped: _run(steps, stopped, told, segment))
        return segment


async def unarchive_log(
    log: EventLog | str, path: str | Path, *, progress: Progress | None = None, exchange_id: str | None = None
) -> Segment:
    """Put the rows of an archive back into the log that they were cut off; the file stays, and is not needed any more.

    Raises `NotFoundError` (no file, or nothing of it was archived), `ConflictError` (another part was cut off after it:
    that comes first), `IntegrityError` (it is not as it was written).
    """
    async with opened(log, exchange_id) as found:
        recorder = _recorder(found)
        known = await asyncio.to_thread(recorder.segments)
        with row_files.reading(str(path)) as file:
            segment = next((item for item in known if item.describes(file.about)), None)
            if segment is None or file.about.log_id != found.log_id:
                raise NotFoundError(f"{path} is no archive that was cut off this log")
            if segment != known[-1]:
                raise ConflictError(f"{known[-1].uri} was cut off after it: put that back first")
            steps, told = cutting.put_back(recorder, segment, file.pages()), on_loop(progress)
            await until_stopped(lambda stopped: _run(steps, stopped, told, segment))
        return segment


async def migrate_log(log: EventLog | str, *, exchange_id: str | None = None) -> int:
    """Bring a log's tables to the newest layout, in one transaction; the layout that they had. Rows are not touched."""
    async with opened(log, exchange_id) as found:
        recorder = _recorder(found, layout=1)
        before = await asyncio.to_thread(recorder.layout)
        await asyncio.to_thread(recorder.migrate)
        return before


def _place(path: str | Path) -> Path:
    """Where a file is, from wherever one looks."""
    return Path(path).absolute()


def _recorder(log: EventLog, *, layout: int = CUT_LAYOUT_VERSION) -> TableRecorder:
    """The tables of a log, of a layout at least."""
    recorder = log.recorder if isinstance(log, StoredLog) else None
    if not isinstance(recorder, TableRecorder):
        raise ValidationError(f"{log.url} has no tables: a log in SQLite or PostgreSQL is needed")
    if recorder.layout() < layout:
        limit = f"{layout} (of {LAYOUT_VERSION})"
        raise ValidationError(
            "the log's tables, upgrade them with `orderctl log migrate`",
            [Violation("layout_version", "at least", limit, str(recorder.layout()))],
        )
    return recorder


async def _write(log: EventLog, path: Path, known: list[Segment], upto: int, progress: Progress | None) -> Segment:
    """The archive, written, read again, and in its place."""
    after, chain = (known[-1].last_position, known[-1].last_hash) if known else (0, hashing.GENESIS)
    await _check(log, path, after, upto)
    about = row_files.About(
        exchange_id=log.exchange_id,
        log_id=log.log_id,
        first_position=after + 1,
        last_position=upto,
        chain_hash_before=chain,
        chain_hash=await chain_at(log, upto),
    )
    if _is_there(path, about):
        digest = await in_thread(partial(_read_again, path, about))
    else:
        digest = await _written(log, path, about, progress)
    hashes = (about.chain_hash_before, about.chain_hash)
    return Segment(about.first_position, upto, *hashes, uri=str(path), file_sha256=digest)


def _is_there(path: Path, about: row_files.About) -> bool:
    """Whether a file says that it is this archive already: then it is what an interrupted cut left."""
    if not path.exists():
        return False
    try:
        with row_files.reading(str(path)) as file:
            return file.about == about
    except KernelError:
        return False


async def _written(log: EventLog, path: Path, about: row_files.About, progress: Progress | None) -> str:
    """The SHA-256 of the archive, once it is in its place."""
    after, upto, chain = about.first_position - 1, about.last_position, about.chain_hash_before
    with new_file(path) as draft:
        with draft.open("wb") as file, row_files.writing(file, compressed=True) as target:
            target.write(row_files.about_line(about))
            async for rows in checked_pages(log, after=after, upto=upto, chain=chain, progress=progress):
                await asyncio.to_thread(target.write, b"".join(map(row_files.row_line, rows)))
        return await in_thread(partial(_read_again, draft, about))


async def _check(log: EventLog, path: Path, after: int, upto: int) -> None:
    if path.suffix != SUFFIX:
        raise ValidationError("the archive", [Violation("path", "form", "a name that ends in .gz", path.name)])
    head = await point(log)
    if not after < upto < head:
        limit = f"{after + 1} … {head - 1}: after what is archived, before the last event"
        raise ValidationError("position", [Violation("upto", "range", limit, str(upto))])
    async for rows in log.read(upto, upto + 1):
        if rows[0].command_index:
            first = rows[0].position - rows[0].command_index
            limit = f"the end of a command, as {first - 1}"
            raise ValidationError("position", [Violation("upto", "place", limit, str(upto))])


def _read_again(path: Path, about: row_files.About) -> str:
    """The SHA-256 of a file whose rows were read back and checked."""
    with row_files.reading(str(path)) as file:
        if file.about != about or not sum(len(rows) for rows in file.pages()):
            raise IntegrityError(f"{path} does not hold what was written to it")
    with path.open("rb") as raw:
        return hashlib.file_digest(raw, "sha256").hexdigest()


def _commands(segment: Segment) -> Iterator[list[CutCommand]]:
    """The command ids of an archive, each with its first and last position: a command's rows stand next to each other."""
    current: CutCommand | None = None
    with row_files.reading(segment.uri) as file:
        for rows in file.pages():
            ended: list[CutCommand] = []
            for row in rows:
                if current is not None and row.command_id == current[0]:
                    current = (row.command_id, current[1], row.position)
                    continue
                ended += [current] if current is not None else []
                current = (row.command_id, row.position, row.position)
            yield ended
    assert current is not None, "a segment has a row"
    yield [current]


def _names(segment: Segment) -> Iterator[list[dict[str, object]]]:
    """The ids of orders that the events of an archive name."""
    with row_files.reading(segment.uri) as file:
        for rows in file.pages():
            yield [
                {"field": field, "value": value, "position": row.position, "stream_id": row.stream_id}
                for row in rows
                for field in NAMING_TOPICS
                if (value := named_in(field, row.topic, row.state)) is not None
            ]


def _run(steps: Iterator[int], stopped: Stopped, told: Progress, segment: Segment) -> None:
    """Every step, until somebody wants them to stop: what was done stays, and the rest can be done later."""
    try:
        for done in steps:
            told(done, segment.last_position - segment.first_position + 1)
            if stopped():
                return
    except RowRefused as problem:
        raise ConflictError(f"somebody else archives this log at the same time, look again: {problem}") from problem
