"""Folding a log again from its first event, and comparing what that comes to with what is there.

Used by `orderctl rebuild` and by library users. `rebuild` writes nothing but a scratch file: what is there may be the SQL
tables, a checkpoint, a state in memory. `rebuild_tables` makes the tables anew beside the live ones, compares, and switches
in one transaction; ended at any moment and in any way, it leaves the live ones as they were. `roll_back` goes back to the
ones before. Promises that every row of the log was checked against its hashes; memory holds the state and one page.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from kernel import events
from kernel.clock import NS_PER_S, Clock, SystemClock
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
from replay.readmodel.sync import POSTGRES, Filler, TablesMoved, connect, open_tables

MEETINGS_MAX = 1_000
"""How often a state that moves on is caught up with before that is given up."""
SWITCHES_MAX = 100


class StoredCheckpoint(Protocol):
    """A state that was stored: where it was, and what it came to."""

    @property
    def position(self) -> int:
        """The last event in it."""

    @property
    def chain_hash(self) -> bytes:
        """The log's chain hash there."""

    @property
    def digest(self) -> str:
        """The state's digest."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One thing that was compared with the refolded log."""

    what: str
    position: int
    """Where it was compared; where the two differ, the first position that is known to have come out differently."""
    equal: bool
    field: str = ""
    """The first field that differs."""
    expected: str = ""
    """What the log says."""
    found: str = ""


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild came to."""

    exchange_id: str
    position: int
    """The last event that was folded."""
    digest: str
    """Of the state there."""
    chain_hash: str
    seconds: float
    compared: tuple[Compared, ...]
    tables_version: int | None = None
    """The version of the tables that was made active."""

    @property
    def ok(self) -> bool:
        """Whether all that was compared is equal."""
        return all(item.equal for item in self.compared)

    @property
    def first(self) -> Compared | None:
        """The first thing that differs, in the order of the log; None where all is equal."""
        return min((item for item in self.compared if not item.equal), key=lambda item: item.position, default=None)

    @property
    def events_per_s(self) -> float:
        """How fast it went."""
        return self.position / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        rate = {"events_per_s": round(self.events_per_s), "ok": self.ok}
        return {**asdict(self), "seconds": round(self.seconds, 3), **rate}


async def rebuild(
    log: EventLog | str,
    *,
    progress: Progress | None = None,
    tables: str | None = None,
    exchange_id: str | None = None,
    state: State | None = None,
    checkpoint: StoredCheckpoint | None = None,
    clock: Clock | None = None,
) -> RebuildReport:
    """Fold from position 1, with all hashes checked, and compare.

    With the stored tables (`tables` is their URL; by default those beside the log, if there are any), a `checkpoint`, and
    a live `state` such as `kernel.state`, which may move on meanwhile. Where one differs, its `Compared` has the first
    position and field. Raises `IntegrityError` and `SchemaError` with the first position that can't be folded, and
    `NotFoundError` for given tables that are not there.
    """
    async with open_for_reading(log, exchange_id) as found:
        work = Rebuild(found, progress, clock or SystemClock())
        with gc_relaxed():
            if checkpoint is not None:
                await work.compare_checkpoint(checkpoint)
            async with stored_tables(found, tables) as store:
                if store is not None:
                    await work.compare_stored(store)
            if state is not None:
                await work.compare_state(state)
            await work.go_to((await found.head()).position)
            return await work.report()


async def rebuild_tables(
    log: EventLog | str,
    target: str | None = None,
    *,
    progress: Progress | None = None,
    exchange_id: str | None = None,
    clock: Clock | None = None,
) -> RebuildReport:
    """Make the tables anew beside the live ones, bring them to the head, compare where the live ones are, and switch.

    They switch also where they differ: the log is the truth, and the old ones stay for a look and for `roll_back`. Whoever
    keeps the live ones current goes on meanwhile, and then with the new ones. Raises what `rebuild` raises.
    """
    async with (
        open_for_reading(log, exchange_id) as found,
        open_tables(found, target) as store,
        open_tables(found, target) as live,
    ):
        await in_thread(store.set_up)
        check_log(await in_thread(store.active), found, store)
        made = await in_thread(partial(store.create, code=fold_version(), log_id=found.log_id))
        work = Rebuild(found, progress, clock or SystemClock())
        try:
            with gc_relaxed():
                return await work.replace_tables(store, made, live)
        except (TablesMoved, KernelError) as problem:
            if made.number not in {item.number for item in await in_thread(store.versions)}:
                raise ConflictError(
                    f"version {made.number} of the tables was taken away by another rebuild"
                ) from problem
            raise
        finally:
            await in_thread(partial(store.discard, made.number))


async def roll_back(log: EventLog | str, target: str | None = None, *, exchange_id: str | None = None) -> TablesVersion:
    """Make the version before the active one the active one again, as it is: whoever follows brings it to the head.

    `NotFoundError` where there is none.
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
    """The tables of a log; None where none were named, and there are none."""
    if target is None and not log.url.startswith(("sqlite://", *POSTGRES)):
        yield None
        return
    try:
        store = await in_thread(partial(_existing, log, target))
    except NotFoundError:
        if target is not None:
            raise
        yield None
        return
    try:
        yield store
    finally:
        await in_thread(store.close)


def _existing(log: EventLog, target: str | None) -> TableStore:
    store = connect(log, target, create=False)
    try:
        if not store.exists() or store.active() is None:
            raise NotFoundError(f"there are no tables in {store.where}")
    except BaseException:
        store.close()
        raise
    return store


def check_log(version: TablesVersion | None, log: EventLog, store: TableStore) -> None:
    """`ConflictError` for tables of another log."""
    if version is not None and version.log_id != log.log_id:
        raise ConflictError(f"the tables in {store.where} are those of another log: give another target")


class Rebuild:
    """One refold, and what it was compared with."""

    def __init__(self, log: EventLog, progress: Progress | None, clock: Clock) -> None:
        self._log = log
        self._progress = progress
        self._clock = clock
        self._began_ns = clock.now_ns()
        self._state = State()
        self._compared: list[Compared] = []
        self._end = 0

    async def go_to(self, position: int) -> None:
        """Fold on up to a position."""
        await fold(
            self._log, self._state, upto=max(position, self._state.position), progress=await self._report_difference()
        )

    async def _report_difference(self) -> Progress | None:
        """Progress of the whole, told of by a part of it."""
        report, begin = self._progress, self._state.position
        if report is None:
            return None
        self._end = max(self._end, (await self._log.head()).position)
        return lambda done, _: report(begin + done, self._end)

    async def report(self, *, tables_version: int | None = None) -> RebuildReport:
        """What it came to."""
        position = self._state.position
        chain = await chain_at(self._log, position)
        seconds = (self._clock.now_ns() - self._began_ns) / NS_PER_S
        return RebuildReport(
            self._log.exchange_id,
            position,
            self._state.digest(),
            chain.hex(),
            seconds,
            tuple(self._compared),
            tables_version,
        )

    def _note(self, what: str, position: int, difference: tuple[str, str, str] | None) -> None:
        found = Compared(what, position, difference is None)
        if difference is not None:
            field, expected, given = difference
            found = replace(found, field=field, expected=expected, found=given)
        self._compared.append(found)

    # ------------------------------------------------------------------------------------------------------ checkpoints
    async def compare_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        """Compare at the checkpoint's position."""
        what, position = "checkpoint", checkpoint.position
        head = (await self._log.head()).position
        if position > head:
            self._note(what, head + 1, ("position", f"at most {head}, the log's end", str(position)))
            return
        await self.go_to(position)
        chain, digest = await chain_at(self._log, position), self._state.digest()
        if chain != checkpoint.chain_hash:
            self._note(what, position, ("chain_hash", chain.hex(), checkpoint.chain_hash.hex()))
        else:
            given = checkpoint.digest
            self._note(what, position, None if digest == given else ("digest", digest, given))

    # ------------------------------------------------------------------------------------------------------ live states
    async def compare_state(self, given: State) -> None:
        """Compare with a state that somebody else folds: where both are at the same position."""
        if self._state.position > given.position:
            self._state = State()
        for _ in range(MEETINGS_MAX):
            await self.go_to(given.position)
            if self._state.position == given.position:  # nothing can come between this and the comparison
                return self._compare_here(given)
        raise ConflictError("the state given moves on faster than the log can be folded: compare while it is quiet")

    def _compare_here(self, given: State) -> None:
        position = self._state.position
        if self._state.digest() == given.digest():
            self._note("state", position, None)
            return
        found = self._state.first_difference(given)
        named = (found.field, found.ours, found.theirs) if found else ("digest", self._state.digest(), given.digest())
        self._note("state", position, named)

    # ----------------------------------------------------------------------------------------------------------- tables
    async def compare_stored(self, live: TableStore) -> None:
        """Fill a scratch file with the tables up to where the stored ones are, and compare row by row."""
        check_log(await in_thread(live.active), self._log, live)
        with tempfile.TemporaryDirectory(prefix="kernel-rebuild-") as directory:
            scratch = await in_thread(partial(SQLiteTables, Path(directory) / "scratch.db"))
            try:
                await in_thread(scratch.set_up)
                made = await in_thread(partial(scratch.create, code=fold_version(), log_id=self._log.log_id))
                filler = Filler(self._log, scratch, made)
                await self._compare_tables(filler, (scratch, made.number), live)
            finally:
                await in_thread(scratch.close)

    async def replace_tables(self, store: TableStore, made: TablesVersion, live: TableStore) -> RebuildReport:
        """Fill a new version, compare it with the live one, and let it take its place."""
        filler = Filler(self._log, store, made)
        if not made.active:
            await self._compare_tables(filler, (store, made.number), live)
        for _ in range(SWITCHES_MAX):
            upto = max((await self._log.head()).position, filler.position)
            await filler.fill(upto, await self._report_difference())
            if await in_thread(partial(store.switch, made.number)):
                self._state = filler.state
                return await self.report(tables_version=made.number)
        raise ConflictError(
            "the live tables move on faster than new ones can be filled: stop `orderctl tables sync` first"
        )

    async def _compare_tables(self, filler: Filler, fresh: tuple[TableStore, int], live: TableStore) -> None:
        """Fill up to where the live tables are, and once more under a snapshot of them, which is then a short way."""
        known = await in_thread(live.active)
        head = (await self._log.head()).position
        assert known is not None
        what = f"tables v{known.number}"
        if known.position > head:
            self._note(what, head + 1, ("position", f"at most {head}, the log's end", str(known.position)))
            return
        await filler.fill(known.position, await self._report_difference())
        self._state = filler.state
        with live.snapshot():
            known = await in_thread(live.active)
            assert known is not None
            await filler.fill(known.position)
            difference = await in_thread(partial(_compare_all, fresh, (live, known.number)))
        if difference is None:
            self._note(what, known.position, None)
            return
        position = await self._first_divergence(difference, known.position)
        self._note(what, position, _difference_text(difference))

    async def _first_divergence(self, difference: RowDifference, upto: int) -> int:
        """The position of the newest event of a row that differs; where that can't be told, of the comparison."""
        row = difference.row
        if isinstance(position := row.get("position"), int):
            return position
        if isinstance(version := row.get("version"), int) and isinstance(intent_id := row.get("intent_id"), str):
            found = await self._log.read_stream(events.intent_stream(intent_id), version - 1)
            if found and found[0].position <= upto:
                return found[0].position
        return upto


def _compare_all(fresh: tuple[TableStore, int], live: tuple[TableStore, int]) -> RowDifference | None:
    for table in TABLES:
        difference = compare(table, fresh[0].rows(table, fresh[1]), live[0].rows(table, live[1]))
        if difference is not None:
            return difference
    return None


def _difference_text(difference: RowDifference) -> tuple[str, str, str]:
    key = "/".join(map(str, difference.key))
    place = f"{difference.table}[{key}]"
    nothing = "NULL" if difference.field else "no row"
    expected, found = (nothing if side is None else str(side) for side in (difference.expected, difference.found))
    return f"{place}.{difference.field}" if difference.field else place, expected, found
