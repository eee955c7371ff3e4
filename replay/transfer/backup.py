"""Back up a log and restore it. Called by the CLI and by library users.

The backup of a SQLite log is a SQLite file, copied while a kernel may be writing; that of any other log is its JSONL
export. Every copy is read again and its hashes are checked; nothing is overwritten; a failed restore leaves nothing.
Events after the backup are not in it, so a restored log must not be led while the original may be.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from kernel.errors import NotFoundError, ValidationError
from kernel.log.base import EventLog, Head
from kernel.log.factory import SQLITE_BEGIN, beginning_of, sqlite_path, without_password
from kernel.platform.private_files import FILE_MODE, check_directory
from replay.formatting.progress_bar import Progress
from replay.log_access.atomic_files import atomic_file, check_free
from replay.log_access.log_reader import checked_pages, existing_log, open_for_reading
from replay.log_access.threads import in_thread, until_stopped
from replay.transfer.exporter import export_log
from replay.transfer.importer import import_log

if TYPE_CHECKING:
    from replay.transparency.import_guard import TreeHeadGuard


async def backup_log(
    log: EventLog | str, path: str | Path, *, progress: Progress | None = None, exchange_id: str | None = None
) -> Head:
    """Write a backup of a log to a new file.

    Args:
        log: An open log or its URL.
        path: The new file.
        progress: Called with the position reached and the last position.
        exchange_id: Expected owner of the log.

    Returns:
        The head of the log in the backup.

    Raises:
        AlreadyExistsError: The file exists.
        NotFoundError: The log does not exist.
        IntegrityError: The log was changed.
    """
    path = Path(path)
    check_free(path)
    async with open_for_reading(log, exchange_id) as found:
        if found.url.startswith("sqlite://"):
            return await _back_up_file(found, path, progress)
        head = await found.head()
        await export_log(found, path, upto=head.position, progress=progress)
        return head


async def _back_up_file(log: EventLog, path: Path, progress: Progress | None) -> Head:
    from kernel.log.backends.sqlite import SQLiteLog, SQLiteRecorder

    assert isinstance(log, SQLiteLog)
    recorder = log.recorder
    assert isinstance(recorder, SQLiteRecorder)
    with atomic_file(path) as transaction:
        await until_stopped(lambda stopped: recorder.back_up(transaction, stopped=stopped))
        return await _checked(transaction, log.exchange_id, progress)


async def restore_log(
    path: str | Path,
    url: str,
    *,
    exchange_id: str,
    progress: Progress | None = None,
    notes: TreeHeadGuard | None = None,
) -> Head:
    """Restore a log from a backup; return its head.

    `path` is an export, or a SQLite file for a `sqlite:///…` URL. Arguments and errors are those of `import_log`.
    """
    path = Path(path)
    if not path.exists():
        raise NotFoundError(f"file {path} does not exist")
    if beginning_of(path) != SQLITE_BEGIN:
        return await import_log(path, url, exchange_id=exchange_id, progress=progress, notes=notes)
    if not url.startswith("sqlite://"):
        remedy = f"export it with `orderctl export --log sqlite:///{path} FILE` and import FILE"
        raise ValidationError(f"{path} is a SQLite log and cannot be restored to {without_password(url)}: {remedy}")
    place = sqlite_path(url)
    with atomic_file(place) as transaction:
        check_directory(place.parent)
        await in_thread(partial(_copy, path, transaction))
        return await _checked(transaction, exchange_id, progress, notes)


def _copy(path: Path, transaction: Path) -> None:
    """Copy a SQLite file and its write-ahead log, if a program left one."""
    for suffix in ("", "-wal"):
        if Path(f"{path}{suffix}").exists():
            Path(f"{transaction}{suffix}").touch(FILE_MODE)
            shutil.copyfile(f"{path}{suffix}", f"{transaction}{suffix}")


async def _checked(path: Path, exchange_id: str, progress: Progress | None, notes: TreeHeadGuard | None = None) -> Head:
    """Check the hashes of a log file and compare it with tree heads; return its head."""
    async with existing_log(f"sqlite:///{quote(str(path))}", exchange_id) as log:
        head = await log.head()
        if notes is not None:
            notes.begin(log.exchange_id, log.log_id)
        async for rows in checked_pages(log, upto=head.position, progress=progress):
            if notes is not None:
                notes.leaves(rows)
        if notes is not None:
            notes.finish(head.position)
        return head
