"""Opens a log by its URL: selects the backend, creates what is missing, and refuses the log of another account.

Called by the composition root, the CLI and tests. Opening blocks and raises at once. A backend is imported only when a URL
needs it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

from kernel.clock import Clock, IdFactory, SeededIds, SystemClock
from kernel.errors import IntegrityError, LogUnavailableError, NotFoundError, ValidationError
from kernel.events import CONTROL_STREAM, LogCreated
from kernel.log.base import Append, EventLog, LogSettings, Write
from kernel.log.engine.records import prepare
from kernel.models import Evidence
from kernel.order_spec import EXCHANGE_ID_PATTERN, EXCHANGE_ID_RULE
from kernel.platform.private_files import check_database, tighten_database

if TYPE_CHECKING:
    from kernel.log.backends.memory import MemoryRecorder
    from kernel.log.engine.recorder import Identity, LogRecorder

POSTGRES_SCHEMES = ("postgresql://", "postgres://")
SQLITE_BEGIN = b"SQLite format 3\0"
"""The first 16 bytes of a database file (https://www.sqlite.org/fileformat.html)."""
SQLITE_BYTES_MIN = 512
"""SQLite's smallest page size: a shorter file is no database."""


def open_log(
    url: str,
    *,
    exchange_id: str,
    clock: Clock | None = None,
    ids: IdFactory | None = None,
    settings: LogSettings | None = None,
    create: bool = True,
    check_end: bool = True,
) -> EventLog:
    """Open the log at a URL, and create it if it does not exist.

    Args:
        url: `memory://`, `sqlite:///relative.db`, `sqlite:////absolute/path.db` or `postgresql://…`.
        exchange_id: The exchange account that the log belongs to.
        clock: Source of `recorded_at_ns`; the system clock by default.
        ids: Source of the log id and of command ids; random by default.
        settings: Bounds of queues, batches and pages.
        create: Whether to create a log that does not exist.
        check_end: Whether to compare the last event with the head; off for tools that diagnose a damaged log.

    Raises:
        ValidationError: The URL or the exchange id is malformed.
        NotFoundError: There is no log, and `create` is off.
        ConflictError: The log belongs to another exchange id.
        SchemaError: Newer code made the log, or a part of it is archived.
        LogUnavailableError: The database cannot be reached or written.
        IntegrityError: The last event does not match the head.
        UnsafeFileError: Another user of the host owns the file or can write it.
        KernelError: The database holds something else.
    """
    if not isinstance(exchange_id, str) or not re.fullmatch(EXCHANGE_ID_PATTERN.rstrip("$") + r"\Z", exchange_id):
        raise ValidationError(f"exchange id {exchange_id!r}: must be {EXCHANGE_ID_RULE}")
    factory = LogFactory(exchange_id, clock or SystemClock(), ids, settings or LogSettings(), create, check_end)
    if url == "memory://":
        return factory.memory()
    if url.startswith("sqlite://"):
        return factory.sqlite(url)
    if url.startswith(POSTGRES_SCHEMES):
        return factory.postgres(url)
    raise ValidationError(f"log URL {without_password(url)!r}: use memory://, sqlite:///FILE or postgresql://…")


def exchange_at(url: str) -> str:
    """Return the exchange id of the only log at a URL.

    Raises as `open_log`, and `ValidationError` if there are several logs, one per PostgreSQL schema.
    """
    if url.startswith("sqlite://"):
        found = _exchange_in_file(sqlite_path(url))
    elif url.startswith(POSTGRES_SCHEMES):
        from kernel.log.backends.postgres import exchanges_at

        found = exchanges_at(url)
    else:
        raise ValidationError(f"{without_password(url)} does not name a stored log: give the exchange id")
    if not found:
        raise NotFoundError(f"there is no log at {without_password(url)}")
    if len(found) > 1:
        raise ValidationError(f"there are logs of {', '.join(found)} at {without_password(url)}: give the exchange id")
    return found[0]


def _exchange_in_file(path: Path) -> list[str]:
    from kernel.log.backends.sqlite import SQLiteRecorder

    _check_path(path, create=False)
    recorder = SQLiteRecorder(f"{path.as_uri()}?mode=rw")
    try:
        recorder.ensure_tables(str(path), create=False)
        identity = recorder.identity()
    finally:
        recorder.close()
    return [identity.exchange_id] if identity is not None else []


def without_password(url: str) -> str:
    """Return a URL, or a PostgreSQL connection string, with its password removed."""
    shown = re.sub(r"(://[^:/@]*):[^@/]*@", r"\1@", url)
    return re.sub(r"(password=)[^&]*" if "://" in url else r"(password=).*", r"\1…", shown)


class LogFactory(msgspec.Struct, frozen=True):
    """Opens one log, on any backend."""

    exchange_id: str
    clock: Clock
    ids: IdFactory | None
    settings: LogSettings
    create: bool
    check_end: bool = True

    def memory(self, recorder: MemoryRecorder | None = None) -> EventLog:
        """Return a log in memory: a new one, or one more log object over a recorder."""
        from kernel.log.backends.memory import MemoryLog, MemoryRecorder

        recorder = recorder or MemoryRecorder()
        return MemoryLog(recorder, self._identity(recorder), clock=self.clock, settings=self.settings)

    def sqlite(self, url: str) -> EventLog:
        from kernel.log.backends.sqlite import SQLiteLog, SQLiteRecorder

        path = sqlite_path(url)
        _check_path(path, create=self.create)
        recorder = SQLiteRecorder(f"{path.as_uri()}?mode={'rwc' if self.create else 'rw'}")
        try:
            recorder.ensure_tables(str(path), create=self.create)
            tighten_database(path)
            identity = self._identity(recorder)
        except BaseException:
            recorder.close()
            raise
        return SQLiteLog(recorder, identity, url=url, path=path, clock=self.clock, settings=self.settings)

    def postgres(self, url: str) -> EventLog:
        from kernel.log.backends.postgres import PostgresLog, PostgresRecorder
        from kernel.log.backends.postgres_datastore import Datastore

        schema = f"log_{self.exchange_id}"
        recorder = PostgresRecorder(Datastore(url, schema=schema), settings=self.settings)
        try:
            recorder.ensure_tables(f"schema {schema}", create=self.create)
            identity = self._identity(recorder)
        except BaseException:
            recorder.close()
            raise
        return PostgresLog(recorder, identity, url=without_password(url), clock=self.clock, settings=self.settings)

    def _identity(self, recorder: LogRecorder) -> Identity:
        """Return the log's identity, written first into an empty log, after the checks that `open_log` promises."""
        identity = recorder.identity() or self._write_identity(recorder)
        identity.check(self.exchange_id)
        if self.check_end:
            recorder.check_end()
        return identity

    def _write_identity(self, recorder: LogRecorder) -> Identity:
        from kernel.log.engine.recorder import LAYOUT_VERSION, Identity

        if not self.create:
            raise NotFoundError(f"there is no log of {self.exchange_id}")
        try:
            now_ns = self.clock.now_ns()
        except RuntimeError:  # a clock that follows an event loop, and none is running
            now_ns = 0
        ids = self.ids or SeededIds()
        identity = Identity(self.exchange_id, ids.log_id(), LAYOUT_VERSION)
        created = LogCreated(log_id=identity.log_id, exchange_id=identity.exchange_id)
        append = Append(ids.command_id(now_ns), (Write(CONTROL_STREAM, (created,), 0),), "kernel", Evidence.COMMAND)
        return recorder.adopt_identity(identity, prepare(append, recorder.writer), now_ns)


def _check_path(path: Path, *, create: bool) -> None:
    """Refuse a path that cannot be a log's, before SQLite opens it."""
    if not path.parent.is_dir():
        raise LogUnavailableError(f"there is no directory {path.parent}: create it first")
    if path.is_dir():
        raise LogUnavailableError(f"{path} is a directory: name a SQLite file")
    if not create and not path.exists():
        raise NotFoundError(f"there is no log at {path}")
    # Do not open the file here: closing it would drop the POSIX locks of this process's connections to it.
    size = path.stat().st_size if path.exists() else 0
    if 0 < size < SQLITE_BYTES_MIN:  # SQLite would take it for an empty database, and write to it
        raise IntegrityError(f"{path} is damaged or not a SQLite database: it has {size} bytes")
    if not size and not create:
        raise NotFoundError(f"there is no log in {path}: the file is empty")
    try:
        check_database(path, create=create)
    except OSError as problem:
        raise LogUnavailableError(f"{path} cannot be opened: {problem.strerror}") from problem


def sqlite_path(url: str) -> Path:
    """Return the absolute path of the file that a `sqlite://` URL names."""
    if not url.startswith("sqlite:///") or len(url) == len("sqlite:///"):
        raise ValidationError(f"log URL {url!r}: use sqlite:///relative.db or sqlite:////absolute.db")
    return Path(unquote(url.removeprefix("sqlite:///"))).absolute()


def beginning_of(path: Path) -> bytes:
    """Return a file's first 16 bytes; none if it does not exist.

    Never call this for a log that this process may have open: closing the file drops the POSIX locks of its connections.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE_BEGIN))
    except FileNotFoundError:
        return b""
    except OSError as problem:
        raise LogUnavailableError(f"{path} cannot be read: {problem.strerror}") from problem
