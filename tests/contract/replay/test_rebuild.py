"""A log folded again and compared: equal tables and states, and the position and field of the first difference."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace

from kernel import events
from kernel.errors import ConflictError, IntegrityError, NotFoundError
from kernel.lifecycle.orders.shared_sequence import SharedSequence
from kernel.lifecycle.record import Record
from kernel.log import EventLog, LogSettings, open_log
from kernel.models import Balance
from projections import State
from projections.digest import first_field
from projections.retention.policy import RetentionPolicy
from replay.log_access.log_reader import fold
from replay.readmodel.rebuild import RebuildReport, rebuild, rebuild_tables, roll_back
from replay.readmodel.sync import open_tables, sync_tables
from tests.benchmarks.made_log import make_log
from tests.contract.backends import Backend, SQLiteBackend
from tests.contract.projections.test_sql_tables import Database, all_rows, record, recorded, versions

EVENTS = 400


def change(database: Database, statement: str) -> None:
    """Change the tables behind the kernel's back; `@` precedes a table's name."""
    if isinstance(database, SQLiteBackend):
        with sqlite3.connect(database.path.with_name("log.read.db")) as connection:
            connection.execute(statement.replace("@", ""))
        connection.close()
        return
    with psycopg.connect(database.url, autocommit=True) as session:
        session.execute(statement.replace("@", f'"read_{database.exchange_id}".').encode())


@pytest.fixture
async def log(database: Database) -> AsyncIterator[EventLog]:
    """A log with some hundred events, and its tables."""
    async with database.open(settings=LogSettings(page_rows=90)) as log:
        await make_log(recorded(log), count=EVENTS)
        await sync_tables(log)
        yield log


# ----------------------------------------------------------------------------------------------------------- comparing
async def test_equal_tables_are_reported_equal(log: EventLog) -> None:
    """Tables at the head and behind it equal the fold there; the digest is the fold's."""
    whole = await rebuild(log)
    await make_log(recorded(log), count=EVENTS + 200, seed=2)
    behind = await rebuild(log)
    assert (whole.ok, behind.ok) == (True, True)
    assert [(item.what, item.position) for item in (*whole.compared, *behind.compared)] == [("tables v1", EVENTS)] * 2
    assert (behind.position, behind.digest) == (EVENTS + 200, (await fold(log, State())).digest())


@pytest.mark.parametrize(
    ("statement", "field", "expected", "found"),
    [
        ("UPDATE @orders_v1 SET cum_qty = 7 WHERE intent_id = 'o0000005'", "orders[o0000005].cum_qty", None, "7"),
        ("DELETE FROM @intents_v1 WHERE intent_id = 'o0000005'", "intents[o0000005]", None, "no row"),
        ("INSERT INTO @position_fees_v1 VALUES ('A', 'B', 1)", "position_fees[A/B]", "no row", None),
        ("UPDATE @balances_v1 SET drift = 1 WHERE asset_id = 'BTC'", "balances[BTC].drift", None, "1"),
        (
            "UPDATE @intents_v1 SET group_id = 'g' WHERE intent_id = 'o0000005'",
            "intents[o0000005].group_id",
            "NULL",
            "g",
        ),
    ],
    ids=["a field", "a row is missing", "a row too many", "a balance", "something where nothing is"],
)
async def test_changed_tables_are_found(
    database: Database, log: EventLog, statement: str, field: str, expected: str | None, found: str | None
) -> None:
    """The first field that differs is named with both sides, at the position of the row's newest event."""
    balances = {"BTC": Balance(asset_id="BTC", total=5, free=5)}
    await record(log, events.VENUE_STREAM, events.BalancesObserved(balances=balances, began_ns=1, ended_ns=2))
    await sync_tables(log)
    change(database, statement)
    report = await rebuild(log)
    first = report.first
    assert not report.ok
    assert first is not None
    assert first.field == field
    assert expected in (None, first.expected)
    assert found in (None, first.found)
    if "o0000005" in field:
        stream = await log.read_stream("intent:o0000005")
        assert first.position == stream[-1].position


async def test_a_live_state_is_compared_while_it_moves_on(backend: Backend) -> None:
    """A state that is folded meanwhile, or keeps less in memory, is equal; a changed one differs in the changed field."""
    async with backend.open(settings=LogSettings(page_rows=50)) as log:
        await make_log(recorded(log), count=EVENTS)
        state = await fold(log, State(), upto=100)
        following = asyncio.create_task(fold(log, state))
        assert (await rebuild(log, state=state)).ok
        evicting = await fold(log, State(RetentionPolicy(intents_max=3, every_positions=10)))
        assert (await rebuild(log, state=evicting)).ok
        await following
        state.records()["o0000004"] = replace(state.record("o0000004"), failures=3)
        report = await rebuild(log, state=state)
        assert report.first is not None
        assert (report.first.position, report.first.field) == (EVENTS, "records['o0000004'].failures")
        assert (report.first.expected, report.first.found) == ("0", "3")


async def test_a_changed_event_ends_a_rebuild(database: Database, log: EventLog) -> None:
    """A row with a wrong hash is an error with its position, not a difference; the tables do not change."""
    before = await versions(log)
    database.update(77, "meta", b"{}")
    for work in (rebuild, rebuild_tables):
        with pytest.raises(IntegrityError) as caught:
            await work(log)
        assert caught.value.position == 77
    assert await versions(log) == before


async def test_without_tables_there_is_nothing_to_compare(tmp_path: Path) -> None:
    """A log without tables is folded, and no file is created; tables given by URL must exist."""
    async with open_log(f"sqlite:///{tmp_path}/x.db", exchange_id="x") as log:
        report = await rebuild(log)
        assert (report.ok, report.compared, report.position) == (True, (), 1)
        with pytest.raises(NotFoundError, match="no tables"):
            await rebuild(log, tables=f"sqlite:///{tmp_path}/y.db")
    assert {name for name in os.listdir(tmp_path) if "read" in name} == set()  # noqa: PTH208  # nothing waits for it


# ------------------------------------------------------------------------------------------------------- where folds part
def test_the_first_difference_has_a_path() -> None:
    """Differences in models, records, mappings, sets and sequences have a path; equal values have none."""
    a, b = Record("i"), Record("i", solicited=frozenset({"x"}), targets=SharedSequence([("a", "b")]))
    found = first_field(a, b)
    assert first_field(a, Record("i")) is None
    assert found is not None
    assert (found.field, found.ours, found.theirs) == ("targets[0]", "<absent>", "('a', 'b')")
    cases: list[tuple[object, object, str]] = [
        ({"k": 1}, {"k": 2}, "['k']"),
        ({"k": [1, (2, 3)]}, {"k": [1, (2, 4)]}, "['k'][1][1]"),
        (frozenset({1}), frozenset({2}), ""),
        (1, True, ""),
    ]
    for ours, theirs, field in cases:
        parted = first_field(ours, theirs)
        assert parted is not None
        assert parted.field == field


# -------------------------------------------------------------------------------------------------------- tables made anew
async def test_new_tables_replace_wrong_ones(database: Database, log: EventLog) -> None:
    """A rebuild replaces wrong tables, reports the difference, and can be rolled back."""
    right = await all_rows(log)
    change(database, "UPDATE @orders_v1 SET cum_qty = 7 WHERE intent_id = 'o0000005'")
    wrong = await all_rows(log)
    report = await rebuild_tables(log)
    assert (report.ok, report.tables_version) == (False, 2)
    assert await all_rows(log) == right
    back = await roll_back(log)
    assert (back.number, await all_rows(log)) == (1, wrong)


async def test_two_versions_are_kept(log: EventLog) -> None:
    """The previous version is kept, older ones are not; without a previous one there is no rollback."""
    async with open_tables(log) as store:  # a version of another rebuild, which never was active
        begun = store.create(code="", log_id=log.log_id)
        with pytest.raises(NotFoundError, match="no earlier version"):
            await roll_back(log)
        store.discard(begun.number)
    for expected in ([1, 2], [2, 3], [3, 4]):
        assert (await rebuild_tables(log)).ok
        assert [item.number for item in await versions(log)] == expected
    async with open_tables(log) as store:
        names = {name for name in store.table_names() if name.startswith("orders_v")}
    assert names == {"orders_v3", "orders_v4"}


async def test_a_rollback_works_after_the_log_has_grown(log: EventLog) -> None:
    """The previous version becomes active though it is behind, and is then synced like any other."""
    (first,) = await versions(log)
    await rebuild_tables(log)
    head = await make_log(recorded(log), count=EVENTS + 100, seed=2)
    await sync_tables(log)
    assert await roll_back(log) == first
    assert [(item.number, item.active) for item in await versions(log)] == [(1, True), (2, False)]
    assert (await sync_tables(log)).position == head


async def test_tables_that_are_behind_do_not_become_active(log: EventLog) -> None:
    """New tables that are behind the live ones are not switched to, except by a rollback."""
    async with open_tables(log) as store:
        (live,) = store.versions()
        made = store.create(code=live.code_hash, log_id=live.log_id)
        views = store.versions()
        assert not store.switch(made.number)
        assert store.versions() == views
        assert store.active() == live
        assert store.switch(made.number, behind=True)
        assert store.active() == made._replace(active=True, was_active=True)


async def test_a_rebuild_that_is_stopped_leaves_the_live_tables(log: EventLog) -> None:
    """A cancelled rebuild drops its new tables and leaves the live ones."""
    before, rows = await versions(log), await all_rows(log)
    for stop_at in (1, 2, 4):
        seen = asyncio.Event()
        told: list[int] = []

        def tell(
            done: int, total: int, told: list[int] = told, seen: asyncio.Event = seen, stop_at: int = stop_at
        ) -> None:
            told.append(done)
            if len(told) >= stop_at:
                seen.set()

        work = asyncio.create_task(rebuild_tables(log, progress=tell))
        await seen.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert (await versions(log), await all_rows(log)) == (before, rows)


async def test_tables_of_a_killed_rebuild_are_dropped(log: EventLog) -> None:
    """A version that never was active is dropped by the next rebuild, which uses a new number."""
    async with open_tables(log) as store:
        store.create(code="any", log_id=log.log_id)
    assert [item.number for item in await versions(log)] == [1, 2]
    assert (await rebuild_tables(log)).tables_version == 3
    assert [item.number for item in await versions(log)] == [1, 3]


async def test_the_later_of_two_rebuilds_wins(log: EventLog) -> None:
    """A rebuild whose tables another one dropped reports that, and changes nothing."""
    overtaken: list[asyncio.Task[RebuildReport]] = []

    def overtake(done: int, total: int) -> None:
        if not overtaken:
            overtaken.append(asyncio.create_task(rebuild_tables(log)))

    slow = asyncio.create_task(rebuild_tables(log, progress=overtake))
    results = await asyncio.gather(slow, return_exceptions=True)
    ended = [*results, *await asyncio.gather(*overtaken, return_exceptions=True)]
    won = [item.tables_version for item in ended if isinstance(item, RebuildReport)]
    assert len(won) == 1
    assert [type(item) for item in ended if not isinstance(item, RebuildReport)] == [ConflictError]
    assert [(item.number, item.active) for item in await versions(log)] == [(1, False), (won[0], True)]
