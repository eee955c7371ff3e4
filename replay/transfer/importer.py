"""Reads a log from a file into an empty place: SQLite or PostgreSQL, whichever it came from, with the same bytes.

Called by the CLI and by library users, and by `backups`. Each row's hashes are checked as it is read and again as it is
put in. Promises all or nothing: a SQLite file appears when it is whole, a PostgreSQL schema with its commit; after an
error, Ctrl-C or SIGKILL there is no log. The imported log has the same log id, and so the same client order ids to come:
of two logs with one id only one may ever be led.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kernel.errors import ConflictError, IntegrityError, KernelError, ValidationError
from kernel.log.base import Head, StoredRow
from kernel.log.engine.jsonl_file import LogFile, LogFileHeader, reading
from kernel.log.engine.recorder import LAYOUT_VERSION, Identity, LogRecorder, RowRefused
from kernel.log.factory import sqlite_path, without_password
from kernel.platform.private_files import check_directory
from replay.formatting.progress_bar import Progress
from replay.log_access.atomic_files import atomic_file, check_free
from replay.log_access.threads import Stopped, on_loop, until_stopped

if TYPE_CHECKING:
    from replay.transparency.import_guard import TreeHeadGuard


async def import_log(
    path: str | Path,
    url: str,
    *,
    exchange_id: str,
    progress: Progress | None = None,
    notes: TreeHeadGuard | None = None,
) -> Head:
    """Read an export into an empty log at a URL; the end of the log that is there now. `-` is the standard input.

    `notes`: signed notes that it is held against before it is in its place.

    Raises `AlreadyExistsError` (a SQLite file is there), `ConflictError` (the log is not empty, or the file is of another
    exchange id), `IntegrityError` (the file is damaged, cut off or was changed: with the line), `NotFoundError`,
    `ValidationError` (it is no export, or is not from position 1 on; the URL keeps nothing).
    """
    place = _place(url, exchange_id)
    report_progress = on_loop(progress)

    def work(stopped: Stopped) -> Head:
        with reading(str(path)) as file:
            identity = _identity(file.header, str(path), exchange_id)
            pages = _watched(file, report_progress, stopped)
            if notes is not None:
                pages = _held(pages, notes, identity)
            return place(lambda recorder: restore_rows(recorder, identity, pages))

    return await until_stopped(work)


def _identity(about: LogFileHeader, path: str, exchange_id: str) -> Identity:
    """Whose log a file makes; refuses another account's, and a file that does not begin with the first event."""
    if about.exchange_id != exchange_id:
        raise ConflictError(f"{path} is of the log of {about.exchange_id!r}, not of {exchange_id!r}")
    if about.first_position != 1 or about.last_position < 1:
        text = f"{path} has the positions {about.first_position} to {about.last_position}"
        raise ValidationError(f"{text}: a log is imported from position 1 on")
    return Identity(about.exchange_id, about.log_id, LAYOUT_VERSION)


def _watched(file: LogFile, report_progress: Progress, stopped: Stopped) -> Iterator[list[StoredRow]]:
    """The pages of a file, telling how far they are, until somebody wants them to stop."""
    for rows in file.pages():
        if stopped():
            raise KernelError("stopped before it was done: nothing was written")
        yield rows
        report_progress(rows[-1].position, file.header.last_position)


def _held(pages: Iterator[list[StoredRow]], notes: TreeHeadGuard, identity: Identity) -> Iterator[list[StoredRow]]:
    """The pages, which the notes see on their way; what they say against them comes before the commit."""
    notes.begin(identity.exchange_id, identity.log_id)
    head = 0
    for rows in pages:
        yield rows
        notes.leaves(rows)
        head = rows[-1].position
    notes.finish(head)


Work = Callable[[LogRecorder], Head]
"""What is done with a recorder on an empty log."""


def _place(url: str, exchange_id: str) -> Callable[[Work], Head]:
    """What gives a function a recorder on an empty place at a URL, and keeps what it wrote when it ends well."""
    if url.startswith("sqlite://"):
        check_free(sqlite_path(url))
        check_directory(sqlite_path(url).parent)
        return partial(_in_new_file, sqlite_path(url))
    if url.startswith(("postgresql://", "postgres://")):
        return partial(_in_schema, url, exchange_id)
    raise ValidationError(f"{without_password(url)} keeps nothing: import into sqlite:///FILE or postgresql://…")


def restore_rows(recorder: LogRecorder, identity: Identity, pages: Iterator[list[StoredRow]]) -> Head:
    """`LogRecorder.restore`, where what the database refuses is a damaged log: each id and each version is there once."""
    try:
        return recorder.restore(identity, pages)
    except RowRefused as problem:
        raise IntegrityError(f"the rows are not those of one log: {problem}") from problem


def _in_new_file(path: Path, work: Work) -> Head:
    from kernel.log.backends.sqlite import SQLiteLogDatastore, SQLiteRecorder

    with atomic_file(path) as transaction:
        recorder = SQLiteRecorder(SQLiteLogDatastore(f"{transaction.as_uri()}?mode=rwc"))
        try:
            recorder.create_table()
            return work(recorder)
        finally:
            recorder.close()


def _in_schema(url: str, exchange_id: str, work: Work) -> Head:
    from kernel.log.backends.postgres import PostgresRecorder
    from kernel.log.backends.postgres_datastore import Datastore

    recorder = PostgresRecorder(Datastore(url, schema=f"log_{exchange_id}"))
    try:
        return work(recorder)
    finally:
        recorder.close()
