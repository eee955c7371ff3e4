"""`kill -9` of a rebuild of the tables at random moments, on SQLite and PostgreSQL: the live tables do not change."""

from __future__ import annotations

import asyncio
import random

from kernel.log import open_log
from kernel.log.engine.recorded_log import RecordedLog
from projections.sql.schema import TABLES, Row
from projections.sql.store import TableStore
from replay.readmodel.rebuild import rebuild, rebuild_tables
from replay.readmodel.sync import open_tables, sync_tables
from tests.benchmarks.made_log import make_log
from tests.integration.world import Process

EVENTS = 4_000
KILLS = 3
MOMENT_S_MAX = 0.3


def rows_of(store: TableStore) -> dict[str, list[Row]]:
    """Return every row of the live tables."""
    active = store.active()
    assert active is not None
    return {table.name: list(store.rows(table, active.number)) for table in TABLES}


async def test_a_killed_rebuild_leaves_the_live_tables(log_url: str, exchange_id: str) -> None:
    """A rebuild killed at any moment changes no live row, and the next one succeeds."""
    chance = random.Random(5)
    async with open_log(log_url, exchange_id=exchange_id) as log:
        assert isinstance(log, RecordedLog)
        await make_log(log, count=EVENTS)
        await sync_tables(log)
        async with open_tables(log) as store:
            before, rows = store.versions(), rows_of(store)
            met = 0
            for number in range(KILLS):
                process = Process("cli", "rebuild", "--tables", "--log", log_url, "--exchange", exchange_id)
                await process.start(wait=False)
                known = {item.number for item in store.versions()}
                await appeared(store, known, process)
                await asyncio.sleep(number * chance.random() * MOMENT_S_MAX / KILLS)  # the first at once
                await process.kill()
                active = store.active()
                assert active is not None
                met += active.number == before[0].number
                assert rows_of(store) == rows
        assert met, "every kill came too late"
        report = await rebuild_tables(log)
        assert report.ok
        assert (await rebuild(log)).ok


async def appeared(store: TableStore, known: set[int], process: Process) -> None:
    """Wait until the process has created another version of the tables."""
    async with asyncio.timeout(120):
        while {item.number for item in store.versions()} <= known:
            assert process.pid is not None, "it ended without a new version"
            await asyncio.sleep(0.005)
