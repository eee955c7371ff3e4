"""Read an export into a new SQLite or PostgreSQL log, byte for byte.

Called by the CLI, by library users and by `backup`. Hashes are checked when a row is read and again when it is inserted.
The import is atomic: after an error, Ctrl-C or SIGKILL there is no log. The imported log has the same log id and so
generates the same client order ids: only one of the two logs may ever be led.
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
    """Create a log from an export.

    Args:
        path: The export, or `-` for standard input.
        url: Where to create the log.
        exchange_id: Expected owner of the log.
        progress: Called with the position reached and the last position.
        notes: Signed tree heads to compare the log with before it is created.

    Returns:
        The head of the new log.

    Raises:
        AlreadyExistsError: The SQLite file exists.
        ConflictError: The log is not empty, or the export has another exchange id.
        IntegrityError: The export is damaged, truncated or changed.
        NotFoundError: The export does not exist.
        ValidationError: The file is not an export from position 1 on, or the URL is not persistent.
    """
    place = _place(url, exchange_id)
    report_progress = on_loop(progress)

    def work(stopped: Stopped) -> Head:
        with reading(str(path)) as file:
            identity = _identity(file.header, str(path), exchange_id)
            pages = _watched(file, report_progress, stopped)
            if notes is not None:
                pages = _guarded(pages, notes, identity)
            return place(lambda recorder: restore_rows(recorder, identity, pages))

    return await until_stopped(work)


def _identity(about: LogFileHeader, path: str, exchange_id: str) -> Identity:
    """Return the identity of the log in an export. Raises if the owner or the first position is wrong."""
    if about.exchange_id != exchange_id:
        raise ConflictError(f"{path} is an export of the log of {about.exchange_id!r}, not of {exchange_id!r}")
    if about.first_position != 1 or about.last_position < 1:
        text = f"{path} has positions {about.first_position} to {about.last_position}"
        raise ValidationError(f"{text}, but an import needs an export from position 1 on")
    return Identity(about.exchange_id, about.log_id, LAYOUT_VERSION)


def _watched(file: LogFile, report_progress: Progress, stopped: Stopped) -> Iterator[list[StoredRow]]:
    """Yield the pages of a file and report progress, until stopped."""
    for rows in file.pages():
        if stopped():
            raise KernelError("the import was stopped: nothing was written")
        yield rows
        report_progress(rows[-1].position, file.header.last_position)


def _guarded(pages: Iterator[list[StoredRow]], notes: TreeHeadGuard, identity: Identity) -> Iterator[list[StoredRow]]:
    """Yield the pages and compare them with tree heads; a difference raises before the commit."""
    notes.begin(identity.exchange_id, identity.log_id)
    head = 0
    for rows in pages:
        yield rows
        notes.leaves(rows)
        head = rows[-1].position
    notes.finish(head)


Work = Callable[[LogRecorder], Head]
"""A function that fills an empty log through its recorder."""


def _place(url: str, exchange_id: str) -> Callable[[Work], Head]:
    """Return a function that runs `Work` on a new log at a URL, atomically."""
    if url.startswith("sqlite://"):
        check_free(sqlite_path(url))
        check_directory(sqlite_path(url).parent)
        return partial(_in_new_file, sqlite_path(url))
    if url.startswith(("postgresql://", "postgres://")):
        return partial(_in_schema, url, exchange_id)
    raise ValidationError(f"{without_password(url)} is not persistent: import into sqlite:///FILE or postgresql://…")


def restore_rows(recorder: LogRecorder, identity: Identity, pages: Iterator[list[StoredRow]]) -> Head:
    """Call `LogRecorder.restore`; rows that the database rejects, such as repeated versions, are a damaged log."""
    try:
        return recorder.restore(identity, pages)
    except RowRefused as problem:
        raise IntegrityError(f"the rows do not form one log: {problem}") from problem


def _in_new_file(path: Path, work: Work) -> Head:
    from kernel.log.backends.sqlite import SQLiteRecorder

    with atomic_file(path) as transaction:
        recorder = SQLiteRecorder(f"{transaction.as_uri()}?mode=rwc")
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
