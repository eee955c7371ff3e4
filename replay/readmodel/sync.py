"""Brings the SQL tables to the log's head, once or continuously.

Used by `orderctl tables`, by `rebuild` and by library users. It works beside running kernels: it reads the log in pages and
writes many events in one transaction. It may be interrupted at any time, and continues from the position of the tables.
Tables are never filled from another log than their own, nor by code of another fold version: rebuild them then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from kernel.errors import ConflictError, IntegrityError, ValidationError
from kernel.log.base import EventLog
from kernel.log.factory import sqlite_path
from kernel.platform.version import fold_version
from projections.checkpoint import CheckpointFiles
from projections.sql.rows import RowMaker
from projections.sql.schema import Changes
from projections.sql.store import NO_CHAIN, TableStore, TablesVersion
from projections.state import State
from replay.formatting.progress_bar import Progress
from replay.log_access.checkpoints import checkpoint_files, restored_state
from replay.log_access.log_reader import chain_at, fold, folded_pages, open_for_reading
from replay.log_access.threads import in_thread

ROWS_PER_TRANSACTION = 5_000
POSTGRES = ("postgresql://", "postgres://")


class Synced(msgspec.Struct, frozen=True):
    """The position of the tables."""

    where: str
    version: int
    position: int


class TablesMoved(Exception):
    """Another process wrote to the tables or switched to another version of them."""


async def sync_tables(
    log: EventLog | str,
    target: str | None = None,
    *,
    exchange_id: str | None = None,
    follow: bool = False,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
    report: Callable[[Synced], None] | None = None,
) -> Synced:
    """Bring the tables to the log's head; create them if there are none.

    Args:
        log: An open log or a URL.
        target: The URL of the tables. Default: a file beside a SQLite log, a schema beside a PostgreSQL one.
        exchange_id: The exchange account, needed for a URL with several logs.
        follow: Keep the tables at the head until cancelled.
        checkpoint_dir: The directory of the checkpoints, which shorten the fold. Default: their usual place.
        progress: Called with the events folded and to fold.
        report: Called each time the head is reached.

    Returns:
        The position of the tables.

    Raises:
        ConflictError: The tables are of another log or fold version, or another process keeps them current.
        IntegrityError: The tables do not follow from the log, or the log cannot be folded.
        SchemaError: The log has an event that this version cannot read.
    """
    async with open_for_reading(log, exchange_id) as found, open_tables(found, target) as store:
        await in_thread(store.set_up)
        if await in_thread(store.active) is None:
            await in_thread(partial(store.create, code=fold_version(), log_id=found.log_id))
        files = checkpoint_files(found, checkpoint_dir)
        return await Follower(found, store, files, progress, report).run(follow=follow)


@asynccontextmanager
async def open_tables(log: EventLog, target: str | None = None, *, create: bool = True) -> AsyncIterator[TableStore]:
    """Open the tables of a log. Raises `NotFoundError` if there are none and `create` is off."""
    store = await in_thread(partial(connect, log, target, create=create))
    try:
        yield store
    finally:
        await in_thread(store.close)


def connect(log: EventLog, target: str | None, *, create: bool) -> TableStore:
    """Connect to the tables of a log. Raises `ValidationError` if the target is not a database's URL."""
    url = target or beside(log)
    if url.startswith("sqlite://"):
        from projections.sql.sqlite import SQLiteTables

        return SQLiteTables(sqlite_path(url), create=create)
    if target is None or url.startswith(POSTGRES):
        from projections.sql.postgres import PostgresTables

        return PostgresTables(url, exchange_id=log.exchange_id, create=create)
    raise ValidationError(f"the tables cannot be at {url}: give sqlite:///FILE.db or postgresql://…")


def beside(log: EventLog) -> str:
    """The default URL of a log's tables, with its credentials. Raises `ValidationError` if the log is in no database."""
    if log.url.startswith("sqlite://"):
        path = sqlite_path(log.url)
        return f"sqlite:///{path.with_name(path.stem + '.read' + (path.suffix or '.db'))}"
    recorder = getattr(log, "recorder", None)
    conninfo: str | None = getattr(getattr(recorder, "datastore", None), "conninfo", None)
    if not log.url.startswith(POSTGRES) or conninfo is None:
        raise ValidationError(f"the log {log.url} is in no database: give the URL of a database for the tables")
    return conninfo


@dataclass(eq=False)
class Filler:
    """Folds a log and fills one version of the tables with it."""

    log: EventLog
    store: TableStore
    version: TablesVersion
    if_active: bool = False
    """Raise `TablesMoved` once the version is inactive."""
    checkpoints: CheckpointFiles | None = None
    """None: fold and check the log from its first event."""

    def __post_init__(self) -> None:
        self.position = self.version.position
        self.state = State()
        self._maker: RowMaker | None = None
        self._changes = Changes()
        self._chain = NO_CHAIN

    async def fill(self, upto: int, progress: Progress | None = None) -> None:
        """Fill up to a position. Raises `TablesMoved`, and `IntegrityError` if the tables do not follow from the log."""
        if self._maker is None:
            await self._begin(progress)
        async for page in folded_pages(self.log, self.state, upto=max(upto, self.position), progress=progress):
            assert self._maker is not None
            self._maker.collect(page.events, page.applied, self._changes)
            self._chain = page.chain_hash
            if self._changes.size >= ROWS_PER_TRANSACTION:
                await self._write()
        if self.state.position > self.position:
            await self._write()

    async def _begin(self, progress: Progress | None) -> None:
        version = self.version
        head = (await self.log.head()).position
        if version.position > head:
            text = f"the tables are at {version.position}, and the log ends at {head}: it was truncated"
            raise IntegrityError(text, position=head + 1)
        if version.position and await chain_at(self.log, version.position) != version.chain_hash:
            raise IntegrityError(
                "the tables were filled from a log with another event here: run `orderctl rebuild --tables`",
                position=version.position,
            )
        self.state = await restored_state(self.log, self.checkpoints, upto=version.position)
        await fold(self.log, self.state, upto=version.position, progress=progress)
        self._maker = RowMaker(self.state)

    async def _write(self) -> None:
        changes, position = self._changes, self.state.position
        write = partial(
            self.store.write, self.version.number, changes,
            after=self.position, position=position, chain_hash=self._chain, if_active=self.if_active,
        )  # fmt: skip
        if not await in_thread(write):
            raise TablesMoved
        self.position = position
        self._changes = Changes()


@dataclass(frozen=True)
class Follower:
    """Keeps the active version at the head."""

    log: EventLog
    store: TableStore
    checkpoints: CheckpointFiles | None
    progress: Progress | None
    report: Callable[[Synced], None] | None

    async def run(self, *, follow: bool) -> Synced:
        """Fill to the head; with `follow`, until the log is closed. Continues with another version that becomes active;
        raises `ConflictError` if another process writes to the same one."""
        while True:
            version = await in_thread(self.store.active)
            if version is None:
                raise ConflictError(f"the tables in {self.store.where} were dropped")
            check_origin(version, self.log, self.store)
            filler = Filler(self.log, self.store, version, if_active=True, checkpoints=self.checkpoints)
            try:
                return await self._fill(filler, version, follow=follow)
            except TablesMoved:
                now = await in_thread(self.store.active)
                if now is not None and now.number == version.number:
                    raise ConflictError(f"another process keeps the tables in {self.store.where} current") from None

    async def _fill(self, filler: Filler, version: TablesVersion, *, follow: bool) -> Synced:
        await filler.fill((await self.log.head()).position, self.progress)
        reached = self._reached(version, filler)
        if not follow:
            return reached
        async for batch in self.log.tail(filler.position):
            if batch[-1].position > filler.position:
                await filler.fill(batch[-1].position)
                reached = self._reached(version, filler)
        return reached

    def _reached(self, version: TablesVersion, filler: Filler) -> Synced:
        reached = Synced(self.store.where, version.number, filler.position)
        if self.report is not None:
            self.report(reached)
        return reached


def check_log(version: TablesVersion | None, log: EventLog, store: TableStore) -> None:
    """Raise `ConflictError` for tables of another log."""
    if version is not None and version.log_id != log.log_id:
        raise ConflictError(f"the tables in {store.where} are of another log ({version.log_id}): give another URL")


def check_origin(version: TablesVersion, log: EventLog, store: TableStore) -> None:
    """Raise `ConflictError` for tables of another log or another fold version."""
    check_log(version, log, store)
    if version.code_hash != fold_version():
        raise ConflictError(
            f"the tables in {store.where} have fold version {version.code_hash!r}, this version of the kernel writes "
            f"{fold_version()!r}: run `orderctl rebuild --tables`"
        )
