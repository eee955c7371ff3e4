"""Folds a log again from its first event and compares the result with the SQL tables or a state in memory.

Used by `orderctl rebuild` and by library users. `rebuild` writes a scratch file only. `rebuild_tables` fills new tables
beside the live ones, compares, and switches in one transaction; interrupted at any moment, it leaves the live ones intact.
`roll_back` returns to the previous tables. Every row's hashes are checked; memory holds the state and one page.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from kernel import events
from kernel.clock import NS_PER_S, SystemClock
from kernel.errors import ConflictError, KernelError, NotFoundError
from kernel.log.base import EventLog
from kernel.platform.version import fold_version
from projections.sql.schema import TABLES
from projections.sql.sqlite import SQLiteTables
from projections.sql.store import RowDifference, TableStore, TablesVersion, compare
from projections.state import State
from replay.formatting.progress_bar import Progress
from replay.log_access.log_reader import chain_at, fold, gc_relaxed, open_for_reading
from replay.log_access.threads import in_thread
from replay.readmodel.sync import POSTGRES, Filler, TablesMoved, check_log, open_tables

MEETINGS_MAX = 1_000
"""Attempts to reach a live state that moves on."""
SWITCHES_MAX = 100


class Compared(msgspec.Struct, frozen=True):
    """One comparison with the folded log."""

    what: str
    position: int
    """Where both were compared; if they differ, the first position that is known to differ."""
    equal: bool
    field: str = ""
    """The first field that differs."""
    expected: str = ""
    """Its value according to the log."""
    found: str = ""


class RebuildReport(msgspec.Struct, frozen=True):
    """The result of a rebuild."""

    exchange_id: str
    position: int
    """The last event that was folded."""
    digest: str
    """The state's digest there."""
    chain_hash: str
    """The log's chain hash there, in hex."""
    seconds: float
    compared: tuple[Compared, ...]
    tables_version: int | None = None
    """The version of the tables that became active."""

    @property
    def ok(self) -> bool:
        return all(item.equal for item in self.compared)

    @property
    def first(self) -> Compared | None:
        """The difference with the lowest position, or None."""
        return min((item for item in self.compared if not item.equal), key=lambda item: item.position, default=None)

    @property
    def events_per_s(self) -> float:
        return self.position / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        rate = {"events_per_s": round(self.events_per_s), "ok": self.ok}
        return {**msgspec.to_builtins(self), "seconds": round(self.seconds, 3), **rate}


async def rebuild(
    log: EventLog | str,
    *,
    progress: Progress | None = None,
    tables: str | None = None,
    exchange_id: str | None = None,
    state: State | None = None,
) -> RebuildReport:
    """Fold a log from position 1 and compare the result with what is stored.

    Args:
        log: An open log or a URL.
        progress: Called with the events folded and to fold.
        tables: The URL of the tables. Default: those beside the log, if there are any.
        exchange_id: The exchange account, needed for a URL with several logs.
        state: A live state to compare, such as `kernel.state`; it may change meanwhile.

    Returns:
        The comparisons; each difference has its first position and field.

    Raises:
        IntegrityError: An event cannot be folded; `position` is the first such.
        SchemaError: Likewise, because this version cannot read it.
        NotFoundError: The log, or the tables at the given URL, do not exist.
        ConflictError: The tables belong to another log, or a running kernel appends faster than the log is read.
    """
    async with open_for_reading(log, exchange_id) as found:
        work = Rebuild(found, progress)
        with gc_relaxed():
            async with stored_tables(found, tables) as store:
                if store is not None:
                    await work.compare_stored(store)
            if state is not None:
                await work.compare_state(state)
            await work.go_to((await found.head()).position)
            return await work.report()


async def rebuild_tables(
    log: EventLog | str, target: str | None = None, *, progress: Progress | None = None, exchange_id: str | None = None
) -> RebuildReport:
    """Fill new tables beside the live ones, compare where the live ones are, and switch to the new ones at the head.

    They replace the live ones also if they differ: the log is the truth, and the old ones stay for `roll_back`. A process
    that keeps the live tables current continues with the new ones. Arguments and errors are as for `rebuild`; `target` is
    the URL of the tables.
    """
    async with (
        open_for_reading(log, exchange_id) as found,
        open_tables(found, target) as store,
        open_tables(found, target) as live,
    ):
        await in_thread(store.set_up)
        check_log(await in_thread(store.active), found, store)
        created = await in_thread(partial(store.create, code=fold_version(), log_id=found.log_id))
        work = Rebuild(found, progress)
        try:
            with gc_relaxed():
                return await work.replace_tables(store, created, live)
        except (TablesMoved, KernelError) as problem:
            if created.number not in {item.number for item in await in_thread(store.versions)}:
                raise ConflictError(
                    f"another rebuild dropped version {created.number} of the tables: run this one again"
                ) from problem
            raise
        finally:
            await in_thread(partial(store.discard, created.number))


async def roll_back(log: EventLog | str, target: str | None = None, *, exchange_id: str | None = None) -> TablesVersion:
    """Make the previous version of the tables active again, as it is; the next sync brings it to the head.

    Raises `NotFoundError` if there is none.
    """
    async with open_for_reading(log, exchange_id) as found, open_tables(found, target, create=False) as store:
        versions = await in_thread(store.versions)
        kept = [item for item in versions if item.was_active and not item.active]
        if not kept:
            raise NotFoundError(f"there is no earlier version of the tables in {store.where}")
        await in_thread(partial(store.switch, kept[-1].number, behind=True))
        return kept[-1]._replace(active=True)


@asynccontextmanager
async def stored_tables(log: EventLog, target: str | None) -> AsyncIterator[TableStore | None]:
    """Yield the tables of a log; None if there are none and no target was given."""
    store: TableStore | None = None
    async with AsyncExitStack() as stack:
        if target is not None or log.url.startswith(("sqlite://", *POSTGRES)):
            try:
                opened = await stack.enter_async_context(open_tables(log, target, create=False))
                if not await in_thread(opened.exists) or await in_thread(opened.active) is None:
                    raise NotFoundError(f"there are no tables in {opened.where}: run `orderctl tables sync` first")
                store = opened
            except NotFoundError:
                if target is not None:
                    raise
        yield store


class Rebuild:
    """One fold of the whole log and its comparisons."""

    def __init__(self, log: EventLog, progress: Progress | None) -> None:
        self._log = log
        self._progress = progress
        self._clock = SystemClock()
        self._began_ns = self._clock.now_ns()
        self._state = State()
        self._compared: list[Compared] = []
        self._end = 0

    async def go_to(self, position: int) -> None:
        upto = max(position, self._state.position)
        await fold(self._log, self._state, upto=upto, progress=await self._part_progress())

    async def _part_progress(self) -> Progress | None:
        """A callback for one part of the fold, which reports the progress of the whole."""
        report, begin = self._progress, self._state.position
        if report is None:
            return None
        self._end = max(self._end, (await self._log.head()).position)
        return lambda done, _: report(begin + done, self._end)

    async def report(self, *, tables_version: int | None = None) -> RebuildReport:
        return RebuildReport(
            self._log.exchange_id,
            self._state.position,
            self._state.digest(),
            (await chain_at(self._log, self._state.position)).hex(),
            (self._clock.now_ns() - self._began_ns) / NS_PER_S,
            tuple(self._compared),
            tables_version,
        )

    def _add(self, what: str, position: int, difference: tuple[str, str, str] | None) -> None:
        """Add a comparison; a difference is field, expected and found."""
        self._compared.append(Compared(what, position, difference is None, *(difference or ())))

    async def compare_state(self, live: State) -> None:
        """Compare with a state that another task folds, when both are at the same position."""
        if self._state.position > live.position or self._state.retention != live.retention:
            self._state = State(live.retention)
        for _ in range(MEETINGS_MAX):
            await self.go_to(live.position)
            if self._state.position == live.position:  # nothing runs between this and the comparison
                return self._compare_here(live)
        raise ConflictError("the kernel appends faster than the log is read: compare when it is idle")

    def _compare_here(self, live: State) -> None:
        ours, theirs = self._state.digest(), live.digest()
        difference = None
        if ours != theirs:
            found = self._state.first_difference(live)
            difference = (found.field, found.ours, found.theirs) if found else ("digest", ours, theirs)
        self._add("state", self._state.position, difference)

    async def compare_stored(self, live: TableStore) -> None:
        """Fill a scratch file up to the position of the stored tables, and compare row by row."""
        check_log(await in_thread(live.active), self._log, live)
        with tempfile.TemporaryDirectory(prefix="kernel-rebuild-") as directory:
            scratch = await in_thread(partial(SQLiteTables, Path(directory) / "scratch.db"))
            try:
                await in_thread(scratch.set_up)
                created = await in_thread(partial(scratch.create, code=fold_version(), log_id=self._log.log_id))
                filler = Filler(self._log, scratch, created)
                await self._compare_tables(filler, (scratch, created.number), live)
            finally:
                await in_thread(scratch.close)

    async def replace_tables(self, store: TableStore, created: TablesVersion, live: TableStore) -> RebuildReport:
        """Fill a new version, compare it with the live one, and switch to it."""
        filler = Filler(self._log, store, created)
        if not created.active:
            await self._compare_tables(filler, (store, created.number), live)
        for _ in range(SWITCHES_MAX):
            upto = max((await self._log.head()).position, filler.position)
            await filler.fill(upto, await self._part_progress())
            if await in_thread(partial(store.switch, created.number)):
                self._state = filler.state
                return await self.report(tables_version=created.number)
        raise ConflictError(
            "the live tables move on faster than new ones are filled: stop `orderctl tables sync --follow` first"
        )

    async def _compare_tables(self, filler: Filler, fresh: tuple[TableStore, int], live: TableStore) -> None:
        """Fill up to the position of the live tables, then the short rest under a snapshot of them, and compare."""
        known = await in_thread(live.active)
        head = (await self._log.head()).position
        assert known is not None
        what = f"tables v{known.number}"
        if known.position > head:
            self._add(what, head + 1, ("position", f"at most {head}, the log's end", str(known.position)))
            return
        await filler.fill(known.position, await self._part_progress())
        self._state = filler.state
        with live.snapshot():
            known = await in_thread(live.active)
            assert known is not None
            await filler.fill(known.position)
            difference = await in_thread(partial(_compare_all, fresh, (live, known.number)))
        if difference is None:
            self._add(what, known.position, None)
        else:
            position = await self._first_divergence(difference, known.position)
            self._add(what, position, _difference_text(difference))

    async def _first_divergence(self, difference: RowDifference, upto: int) -> int:
        """The position of the newest event of a differing row; if unknown, that of the comparison."""
        row = difference.row
        if isinstance(position := row.get("position"), int):
            return position
        if isinstance(version := row.get("version"), int) and isinstance(intent_id := row.get("intent_id"), str):
            found = await self._log.read_stream(events.intent_stream(intent_id), version - 1)
            if found and found[0].position <= upto:
                return found[0].position
        return upto


def _compare_all(fresh: tuple[TableStore, int], live: tuple[TableStore, int]) -> RowDifference | None:
    pairs = ((table, fresh[0].rows(table, fresh[1]), live[0].rows(table, live[1])) for table in TABLES)
    return next((found for pair in pairs if (found := compare(*pair)) is not None), None)


def _difference_text(difference: RowDifference) -> tuple[str, str, str]:
    place = f"{difference.table}[{'/'.join(map(str, difference.key))}]"
    nothing = "NULL" if difference.field else "no row"
    expected, found = (nothing if side is None else str(side) for side in (difference.expected, difference.found))
    return f"{place}.{difference.field}" if difference.field else place, expected, found
