"""Opens a log by its URL: finds the backend, creates what is missing, and refuses what is not this account's log.

Called by whoever needs a log: the composition root, the CLI, tests. Opening blocks (a file or a connection is opened) and
raises at once. The backends are imported only when a URL asks for them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from kernel.clock import Clock, IdFactory, SeededIds, SystemClock
from kernel.errors import (
    ConflictError,
    IntegrityError,
    KernelError,
    LogUnavailableError,
    NotFoundError,
    SchemaError,
    ValidationError,
    Violation,
)
from kernel.events import CONTROL_STREAM, LogCreated
from kernel.log.base import Append, EventLog, LogSettings, Write
from kernel.log.engine.records import prepare
from kernel.models import Evidence
from kernel.order_spec import EXCHANGE_ID_PATTERN, EXCHANGE_ID_RULE
from kernel.platform.private_files import check_database, tighten_database

if TYPE_CHECKING:
    from kernel.log.backends.memory import MemoryRecorder
    from kernel.log.engine.recorder import Identity, LogRecorder, TableRecorder

KERNEL_ACTOR = "kernel"


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
    """The log at a URL: `memory://`, `sqlite:///relative.db`, `sqlite:////absolute/path.db`, `postgresql://…`.

    A log that is not there is created with its first event, unless `create` is off: then `NotFoundError`. With `check_end`
    off a log whose end is not what its head says is opened as well, for whoever is to find out what is wrong. Raises
    `ValidationError` (URL, exchange id), `ConflictError` (it is the log of another exchange id), `SchemaError` (made by
    newer code, or a part of it is in an archive), `LogUnavailableError` (it can't be reached or written),
    `IntegrityError` (its end is not what its head says), `UnsafeFileError` (another user of the host can write it),
    `KernelError` (something else is there).
    """
    _check_exchange_id(exchange_id)
    factory = LogFactory(
        exchange_id, clock or SystemClock(), ids or SeededIds(), settings or LogSettings(), create, check_end=check_end
    )
    if url == "memory://":
        return factory.memory()
    if url.startswith("sqlite://"):
        return factory.sqlite(url)
    if url.startswith(("postgresql://", "postgres://")):
        return factory.postgres(url)
    limit = "memory://, sqlite:///file.db or postgresql://…"
    raise ValidationError(violations=[Violation("log URL", "form", limit, without_password(url))])


def exchange_at(url: str) -> str:
    """The exchange id of the one log at a URL, for who only reads it.

    Raises `NotFoundError` where there is none, `ValidationError` where there are several (a schema each), and
    what `open_log` raises.
    """
    if url.startswith("sqlite://"):
        found = _exchange_in_file(sqlite_path(url))
    elif url.startswith(("postgresql://", "postgres://")):
        from kernel.log.backends.postgres import exchanges_at

        found = exchanges_at(url)
    else:
        raise ValidationError(f"{without_password(url)} says of no log whose it is: exchange_id is needed")
    if not found:
        raise NotFoundError(f"there is no log at {without_password(url)}")
    if len(found) > 1:
        raise ValidationError(f"there are the logs of {', '.join(found)}: exchange_id says which")
    return found[0]


def _exchange_in_file(path: Path) -> list[str]:
    from kernel.log.backends.sqlite import SQLiteLogDatastore, SQLiteRecorder

    factory = LogFactory("", SystemClock(), SeededIds(), LogSettings(), create=False)
    factory.check_path(path)
    recorder = SQLiteRecorder(SQLiteLogDatastore(f"{path.as_uri()}?mode=rw"))
    try:
        factory.tables(recorder, str(path))
        identity = recorder.identity()
    finally:
        recorder.close()
    return [identity.exchange_id] if identity is not None else []


def _check_exchange_id(exchange_id: str) -> None:
    if not isinstance(exchange_id, str) or not re.fullmatch(EXCHANGE_ID_PATTERN.rstrip("$") + r"\Z", exchange_id):
        raise ValidationError(violations=[Violation("exchange id", "pattern", EXCHANGE_ID_RULE, str(exchange_id))])


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    shown = re.sub(r"(://[^:/@]*):[^@/]*@", r"\1@", url)
    return re.sub(r"(password=)[^&]*", r"\1…", shown)


class LogFactory:
    """Opens one log; a method for each backend."""

    def __init__(
        self,
        exchange_id: str,
        clock: Clock,
        ids: IdFactory,
        settings: LogSettings,
        create: bool,
        *,
        check_end: bool = True,
    ) -> None:
        self._exchange_id = exchange_id
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._create = create
        self._check_end = check_end

    def memory(self, recorder: MemoryRecorder | None = None) -> EventLog:
        """A log in memory: a new one, or another log object over a recorder."""
        from kernel.log.backends.memory import MemoryLog, MemoryRecorder

        recorder = recorder or MemoryRecorder()
        return MemoryLog(recorder, self.adopt_identity(recorder), clock=self._clock, settings=self._settings)

    def sqlite(self, url: str) -> EventLog:
        """The log in a SQLite file."""
        from kernel.log.backends.sqlite import SQLiteLog, SQLiteLogDatastore, SQLiteRecorder

        path = sqlite_path(url)
        self.check_path(path)
        recorder = SQLiteRecorder(SQLiteLogDatastore(f"{path.as_uri()}?mode={'rwc' if self._create else 'rw'}"))
        try:
            self.tables(recorder, str(path))
            tighten_database(path)
            identity = self.adopt_identity(recorder)
        except BaseException:
            recorder.close()
            raise
        return SQLiteLog(recorder, identity, url=url, path=path, clock=self._clock, settings=self._settings)

    def check_path(self, path: Path) -> None:
        """Whether a file can be a log's, before SQLite touches it."""
        if not path.parent.is_dir():
            raise LogUnavailableError(f"there is no directory {path.parent}: create it first")
        if path.is_dir():
            raise LogUnavailableError(f"{path} is a directory, a SQLite file is needed")
        if not self._create and not path.exists():
            raise NotFoundError(f"there is no log at {path}")
        # The file is not opened here: to close it would drop the locks of this process's connections to it.
        size = path.stat().st_size if path.exists() else 0
        if 0 < size < SQLITE_BYTES_MIN:  # SQLite would take it for an empty one, and write to it
            raise IntegrityError(f"{path} is damaged, or no SQLite database: it has {size} bytes")
        if not size and not self._create:
            raise NotFoundError(f"there is no log in {path}: it is empty")
        try:
            check_database(path, create=self._create)
        except OSError as problem:
            raise LogUnavailableError(f"{path} can't be opened: {problem.strerror}") from problem

    def tables(self, recorder: TableRecorder, where: str) -> None:
        """Create the tables in an empty database; refuse one that holds something else, or only a part of a log."""
        from kernel.log.engine.recorder import missing_tables

        tables = recorder.tables()
        if not tables and not self._create:
            raise NotFoundError(f"there is no log in {where}")
        if not tables:
            recorder.create_table()
        elif missing := missing_tables(tables):
            raise KernelError(f"{where} holds something else than a log of this software: it lacks {sorted(missing)}")
        else:
            recorder.check_whole()

    def postgres(self, url: str) -> EventLog:
        """The log in a PostgreSQL schema."""
        from kernel.log.backends.postgres import PostgresLog, PostgresRecorder
        from kernel.log.backends.postgres_datastore import Datastore

        recorder = PostgresRecorder(Datastore(url, schema=f"log_{self._exchange_id}"), settings=self._settings)
        try:
            self.tables(recorder, f"schema log_{self._exchange_id}")
            identity = self.adopt_identity(recorder)
        except BaseException:
            recorder.close()
            raise
        return PostgresLog(recorder, identity, url=without_password(url), clock=self._clock, settings=self._settings)

    def adopt_identity(self, recorder: LogRecorder) -> Identity:
        """Whose log it is, after making an empty one ours; refuses another account's, a newer one and a broken end."""
        identity = recorder.identity()
        if identity is None:
            identity = self._write_identity(recorder)
        _check_identity(identity, self._exchange_id)
        if self._check_end:
            _check_end(recorder)
        return identity

    def _write_identity(self, recorder: LogRecorder) -> Identity:
        from kernel.log.engine.recorder import LAYOUT_VERSION, Identity

        if not self._create:
            raise NotFoundError(f"there is no log of {self._exchange_id} yet")
        now_ns = self._clock_ns()
        identity = Identity(self._exchange_id, self._ids.log_id(), LAYOUT_VERSION)
        created = LogCreated(log_id=identity.log_id, exchange_id=identity.exchange_id)
        append = Append(
            self._ids.command_id(now_ns), (Write(CONTROL_STREAM, (created,), 0),), KERNEL_ACTOR, Evidence.COMMAND
        )
        return recorder.adopt_identity(identity, prepare(append, recorder.writer), now_ns)

    def _clock_ns(self) -> int:
        """The clock's instant; 0 from a clock that follows an event loop, when none is running yet."""
        try:
            return self._clock.now_ns()
        except RuntimeError:
            return 0


def sqlite_path(url: str) -> Path:
    """The file that a `sqlite://` URL names, absolute."""
    if not url.startswith("sqlite:///") or len(url) == len("sqlite:///"):
        limit = "sqlite:///relative.db or sqlite:////absolute.db"
        raise ValidationError(violations=[Violation("log URL", "form", limit, url)])
    return Path(unquote(url.removeprefix("sqlite:///"))).absolute()


def _check_identity(identity: Identity, exchange_id: str) -> None:
    from kernel.log.engine.recorder import LAYOUT_VERSION_MAX

    if identity.layout_version > LAYOUT_VERSION_MAX:
        layouts = f"layout {identity.layout_version}, this code knows 1 … {LAYOUT_VERSION_MAX}"
        raise SchemaError(f"the log's tables have {layouts}: upgrade to open it")
    if identity.exchange_id != exchange_id:
        raise ConflictError(f"this is the log of {identity.exchange_id!r}, not of {exchange_id!r}")


def _check_end(recorder: LogRecorder) -> None:
    """The head row and the last row must agree: a log cut off, or grown past its head, is not opened."""
    from kernel.log.engine.recorder import RowQuery

    rows = recorder.select(RowQuery(descending=True, limit=1))
    head = recorder.head()
    last = rows[0].position if rows else 0
    if last < head.position:  # cut off, or somebody appended between the two looks
        rows = recorder.select(RowQuery(after=head.position - 1, upto=head.position))
        last = rows[0].position if rows else last
    if last != head.position:
        text = f"the head says {head.position}, the last event is {last}: the log was cut off, or its head was changed"
        raise IntegrityError(text, position=min(last, head.position) + 1)
    if rows[0].chain_hash != head.chain_hash:
        raise IntegrityError("the head's chain hash is not that of the last event", position=head.position)


SQLITE_BEGIN = b"SQLite format 3\0"
"""The first 16 bytes of a database file, see https://www.sqlite.org/fileformat.html."""
SQLITE_BYTES_MIN = 512
"""The smallest page: what is shorter is no database."""


def beginning_of(path: Path) -> bytes:
    """The first bytes of a file; none for one that is not there. Not for a log that this process may have open: to close
    the file would drop the locks of its connections to it."""
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE_BEGIN))
    except FileNotFoundError:
        return b""
    except OSError as problem:
        raise LogUnavailableError(f"{path} can't be read: {problem.strerror}") from problem
