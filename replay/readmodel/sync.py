"""Keeping the SQL tables at the log's head: once, or for as long as events come.

Used by `orderctl tables`, by `rebuilding`, and by library users. It works beside running kernels: it reads the log in pages
and writes to a place of its own, many events in a transaction. It can be ended at any time, in any way, and goes on from
where the tables are. Promises that tables are never filled from another log than their own, nor by code of another fold
version than began them: then they have to be made anew (`orderctl rebuild --tables`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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


@dataclass(frozen=True, slots=True)
class Synced:
    """Where the tables are."""

    where: str
    version: int
    position: int


class TablesMoved(Exception):
    """Somebody else wrote to the tables, or another version became the active one: look again."""


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
    """Bring the tables to the log's head, from where they are; with `follow`, then keep them there until cancelled.

    `target` is the URL of the tables: by default a file beside a SQLite log, a schema beside a PostgreSQL one. Where there
    are none they are made. The fold that goes on from where they are begins with a checkpoint where one can serve
    (`checkpoint_dir`: where those are, if not at their usual place). `tell` hears of each time that the head is reached.
    Raises `ConflictError` for tables of another log or another fold version, `IntegrityError` where they do not follow
    from the log, and what `fold` raises.
    """
    async with open_for_reading(log, exchange_id) as found, open_tables(found, target) as store:
        await in_thread(store.set_up)
        if await in_thread(store.active) is None:
            await in_thread(partial(store.create, code=fold_version(), log_id=found.log_id))
        files = checkpoint_files(found, checkpoint_dir)
        return await Follower(found, store, files, progress, report).run(follow=follow)


@asynccontextmanager
async def open_tables(log: EventLog, target: str | None = None, *, create: bool = True) -> AsyncIterator[TableStore]:
    """The tables of a log, open; `NotFoundError` where there are none and none are to be made."""
    store = await in_thread(partial(connect, log, target, create=create))
    try:
        yield store
    finally:
        await in_thread(store.close)


def connect(log: EventLog, target: str | None, *, create: bool) -> TableStore:
    """A connection to the tables of a log. `ValidationError` for a target that can't be one."""
    url = target or beside(log)
    if url.startswith("sqlite://"):
        from projections.sql.sqlite import SQLiteTables

        return SQLiteTables(sqlite_path(url), create=create)
    if target is None or url.startswith(POSTGRES):
        from projections.sql.postgres import PostgresTables

        return PostgresTables(url, exchange_id=log.exchange_id, create=create)
    raise ValidationError("the tables need a database: sqlite:///file.db or postgresql://…")


def beside(log: EventLog) -> str:
    """Where a log's tables are unless told otherwise, with whatever is needed to connect; `ValidationError` for a log that
    is in no database."""
    if log.url.startswith("sqlite://"):
        path = sqlite_path(log.url)
        return f"sqlite:///{path.with_name(path.stem + '.read' + (path.suffix or '.db'))}"
    recorder = getattr(log, "recorder", None)
    conninfo: str | None = getattr(getattr(recorder, "datastore", None), "conninfo", None)
    if not log.url.startswith(POSTGRES) or conninfo is None:
        raise ValidationError(f"the log {log.url} is in no database, so its tables need one: give their URL")
    return conninfo


class Filler:
    """Folds a log, and brings one version of the tables along."""

    def __init__(
        self,
        log: EventLog,
        store: TableStore,
        version: TablesVersion,
        *,
        if_active: bool = False,
        checkpoints: CheckpointFiles | None = None,
    ) -> None:
        """`if_active`: stop (`TablesMoved`) as soon as the version is not the active one any more. Without
        `checkpoints` the log is folded from its first event, and all of it is checked."""
        self.position = version.position
        """Where the tables are."""
        self.state = State()
        self._log = log
        self._store = store
        self._version = version
        self._if_active = if_active
        self._checkpoints = checkpoints
        self._maker: RowMaker | None = None
        self._changes = Changes()
        self._chain = NO_CHAIN

    async def fill(self, upto: int, progress: Progress | None = None) -> None:
        """Go on up to a position of the log: the first time, to where the tables are, without a write.

        Raises `TablesMoved`; `IntegrityError` where the tables are past the log, or do not follow from it.
        """
        if self._maker is None:
            await self._begin(progress)
        async for page in folded_pages(self._log, self.state, upto=max(upto, self.position), progress=progress):
            assert self._maker is not None
            self._maker.note(page.events, page.applied, self._changes)
            self._chain = page.chain_hash
            if self._changes.size >= ROWS_PER_TRANSACTION:
                await self._write()
        if self.state.position > self.position:
            await self._write()

    async def _begin(self, progress: Progress | None) -> None:
        version = self._version
        head = (await self._log.head()).position
        if version.position > head:
            text = f"the tables are at {version.position}, and the log ends at {head}: it was cut off, or is another"
            raise IntegrityError(text, position=head + 1)
        if version.position and await chain_at(self._log, version.position) != version.chain_hash:
            raise IntegrityError("the tables were filled from a log with another event here", position=version.position)
        self.state = await restored_state(self._log, self._checkpoints, upto=version.position)
        await fold(self._log, self.state, upto=version.position, progress=progress)
        self._maker = RowMaker(self.state)

    async def _write(self) -> None:
        changes, position = self._changes, self.state.position
        write = partial(
            self._store.write, self._version.number, changes,
            after=self.position, position=position, chain_hash=self._chain, if_active=self._if_active,
        )  # fmt: skip
        if not await in_thread(write):
            raise TablesMoved
        self.position = position
        self._changes = Changes()


class Follower:
    """Keeps the active version at the head, whichever that is."""

    def __init__(
        self,
        log: EventLog,
        store: TableStore,
        checkpoints: CheckpointFiles | None,
        progress: Progress | None,
        report: Callable[[Synced], None] | None,
    ) -> None:
        self._log = log
        self._store = store
        self._checkpoints = checkpoints
        self._progress = progress
        self._tell = report

    async def run(self, *, follow: bool) -> Synced:
        """Fill until the head is reached; with `follow`, until the log is closed. Where another version becomes the active
        one it goes on with that; where somebody else writes to the same one, that is a `ConflictError`."""
        while True:
            version = await in_thread(self._store.active)
            if version is None:
                raise ConflictError(f"the tables in {self._store.where} were taken away")
            check_origin(version, self._log, self._store)
            filler = Filler(self._log, self._store, version, if_active=True, checkpoints=self._checkpoints)
            try:
                return await self._fill(filler, version, follow=follow)
            except TablesMoved:
                now = await in_thread(self._store.active)
                if now is not None and now.number == version.number:
                    raise ConflictError(f"somebody else keeps the tables in {self._store.where} current") from None

    async def _fill(self, filler: Filler, version: TablesVersion, *, follow: bool) -> Synced:
        head = (await self._log.head()).position
        await filler.fill(head, self._progress)
        reached = self._reached(version, filler)
        if not follow:
            return reached
        async for batch in self._log.tail(filler.position):
            if batch[-1].position > filler.position:
                await filler.fill(batch[-1].position)
                reached = self._reached(version, filler)
        return reached

    def _reached(self, version: TablesVersion, filler: Filler) -> Synced:
        reached = Synced(self._store.where, version.number, filler.position)
        if self._tell is not None:
            self._tell(reached)
        return reached


def check_origin(version: TablesVersion, log: EventLog, store: TableStore) -> None:
    """`ConflictError` for tables that must not be filled from this log by this code."""
    if version.log_id != log.log_id:
        raise ConflictError(
            f"the tables in {store.where} are those of another log ({version.log_id}): give another target"
        )
    if version.code_hash != fold_version():
        raise ConflictError(
            f"the tables in {store.where} have fold version {version.code_hash!r}, and this code fills {fold_version()!r}: "
            "`orderctl rebuild --tables` makes them anew"
        )
