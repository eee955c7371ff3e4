"""The SQL tables, on SQLite and PostgreSQL: their rows, syncs from any position, and refusals."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kernel import events
from kernel.clock import LoopClock, SeededIds
from kernel.errors import ConflictError, IntegrityError, KernelError, NotFoundError, ValidationError
from kernel.log import Append, EventLog, LogSettings, Write, open_log
from kernel.log.backends.memory import MemoryRecorder
from kernel.log.engine.recorded_log import RecordedLog
from kernel.log.factory import LogFactory
from kernel.models import Evidence, ExecType
from kernel.order_spec import UINT64_MAX, Side
from projections.checkpoint import image
from projections.sql.schema import FILLS, INTENTS, ORDERS, POSITIONS, TABLES, Changes, Row
from projections.sql.store import TablesVersion
from projections.state import State
from replay.log_access.checkpoints import checkpoint_files
from replay.log_access.log_reader import chain_at, fold
from replay.readmodel.rebuild import rebuild_tables, roll_back
from replay.readmodel.sync import Synced, open_tables, sync_tables
from tests.benchmarks.made_log import make_log
from tests.commands import fresh_command_id
from tests.contract.backends import PostgresBackend, SQLiteBackend
from tests.folding import an_intent, an_order
from tests.nightly import after_the_first
from tests.recorded import simulated_whole

pytestmark = pytest.mark.xdist_group("tables")  # these share costly fixtures

Database = SQLiteBackend | PostgresBackend
SEEDS = after_the_first(2, (3, 8, 21, 34))
EVENTS = 400


def recorded(log: EventLog) -> RecordedLog:
    """A log that can be filled past its writer."""
    assert isinstance(log, RecordedLog)
    return log


async def all_rows(log: EventLog, target: str | None = None) -> dict[str, list[Row]]:
    """Every row of the active version, by table."""
    async with open_tables(log, target, create=False) as store:
        active = store.active()
        assert active is not None
        return {table.name: list(store.rows(table, active.number)) for table in TABLES}


async def versions(log: EventLog, target: str | None = None) -> list[TablesVersion]:
    """Every version of the tables."""
    async with open_tables(log, target, create=False) as store:
        return store.versions()


def query(database: Database, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a query with another program's connection."""
    if isinstance(database, SQLiteBackend):
        connection = sqlite3.connect(database.path.with_name("log.read.db"))
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()
    with psycopg.connect(database.url, options=f"-c search_path=read_{database.exchange_id}") as session:
        return session.execute(statement.encode()).fetchall()


# ------------------------------------------------------------------------------------------------------- what they hold
@pytest.fixture(scope="module", params=SEEDS)
def simulated(request: pytest.FixtureRequest) -> MemoryRecorder:
    """The log of a simulated run: groups, modifications, busts, external orders, findings."""
    return simulated_whole(request.param)


def memory_log(recorder: MemoryRecorder, page_rows: int) -> EventLog:
    """A log over rows in memory, read in pages of a size."""
    return LogFactory("paper", LoopClock(), SeededIds(), LogSettings(page_rows=page_rows), True).memory(recorder)


async def test_rows_do_not_depend_on_the_batches(simulated: MemoryRecorder, tmp_path: Path) -> None:
    """Tables filled event by event, in small pages, and at once have the same rows."""
    found = []
    for page_rows in (1, 7, 10_000):
        target = f"sqlite:///{tmp_path}/{page_rows}.db"
        async with memory_log(simulated, page_rows) as log:
            await sync_tables(log, target)
            found.append(await all_rows(log, target))
    assert found[0] == found[2]
    assert found[1] == found[2]
    assert found[0][INTENTS.name]


async def test_both_databases_hold_the_same_rows(simulated: MemoryRecorder, tmp_path: Path, postgres_url: str) -> None:
    """Rows read back from PostgreSQL equal those from SQLite."""
    async with memory_log(simulated, 100) as log:
        log.exchange_id = f"same-{simulated.head().chain_hash.hex()[:16]}"  # a schema of its own
        targets = f"sqlite:///{tmp_path}/same.db", postgres_url
        for target in targets:
            await sync_tables(log, target)
        assert await all_rows(log, targets[0]) == await all_rows(log, targets[1])


async def test_counting_fills_sum_to_the_positions(database: Database) -> None:
    """The counting fills of a symbol sum to its position; busted ones are stored, and do not count."""
    async with database.open() as log:
        await make_log(recorded(log), count=3_000)
        await sync_tables(log)
    summed = "SELECT symbol_id, sum(CASE side WHEN 'BUY' THEN quantity ELSE -quantity END) FROM fills WHERE counts = 1"
    sums = query(database, f"{summed} GROUP BY symbol_id ORDER BY symbol_id")
    assert sums == query(database, "SELECT symbol_id, quantity FROM positions ORDER BY symbol_id")
    assert query(database, "SELECT count(*) FROM fills WHERE counts = 0")[0][0] > 0


async def test_numbers_beyond_63_bits_are_kept_exactly(database: Database) -> None:
    """The largest quantity, and a notional far beyond it, are read back exactly."""
    order = an_order(UINT64_MAX, price=UINT64_MAX)
    fill = events.OrderFilled(
        intent_id="i", symbol_id="S", client_order_id="c", exchange_order_id="x\0y", exec_type=ExecType.TRADE,
        side=Side.BUY, fill_key="k", last_qty=UINT64_MAX, last_px=UINT64_MAX, fee=-(2**70), fee_asset="A",
    )  # fmt: skip
    async with database.open() as log:
        await record(log, "intent:i", events.IntentCreated(intent=an_intent(order)), fill)
        await sync_tables(log)
        rows = await all_rows(log)
    orders, fills, positions = (rows[table.name][0] for table in (ORDERS, FILLS, POSITIONS))
    assert orders[ORDERS.names.index("cum_notional")] == UINT64_MAX**2
    assert orders[ORDERS.names.index("exchange_order_id")] == "x\\0y"
    assert (fills[2], fills[3], fills[FILLS.names.index("fee")]) == (UINT64_MAX, UINT64_MAX, -(2**70))
    assert positions[POSITIONS.names.index("cost")] == UINT64_MAX**2


async def record(log: EventLog, stream_id: str, *recorded: events.BaseEvent) -> None:
    """Record events of one stream."""
    await log.append(Append(fresh_command_id(), (Write(stream_id, recorded),), "strategy:t", Evidence.COMMAND))


async def test_a_deleted_intent_has_no_row(database: Database) -> None:
    """A deleted intent has no row, an intent that was never sent has no order, a new one has a row again."""
    created = events.IntentCreated(intent=an_intent())
    async with database.open() as log:
        await record(log, "intent:i", created)
        await sync_tables(log)
        assert [row[0] for row in (await all_rows(log))[INTENTS.name]] == ["i"]
        await record(log, "intent:i", events.IntentDeleted(intent_id="i"))
        await sync_tables(log)
        assert query(database, "SELECT count(*) FROM intents") == [(0,)]
        await record(log, "intent:i", created)
        await sync_tables(log)
    assert query(database, "SELECT intent_id, version, side FROM intents") == [("i", 3, "BUY")]
    assert query(database, "SELECT count(*) FROM orders") == [(0,)]


# --------------------------------------------------------------------------------------------------------------- going on
async def test_a_sync_continues_from_the_position_of_the_tables(database: Database) -> None:
    """Tables synced in steps equal those filled at once, and a second sync changes nothing."""
    async with database.open(settings=LogSettings(page_rows=50)) as log:
        for count in (EVENTS // 2, EVENTS):
            await make_log(recorded(log), count=count, seed=count)
            synced = await sync_tables(log)
            assert synced == await sync_tables(log)
            assert synced.position == (await log.head()).position
        by_steps = await all_rows(log)
        await rebuild_tables(log)
        assert await all_rows(log) == by_steps


async def test_a_follower_continues_with_new_tables(database: Database) -> None:
    """Tables follow new events; after a switch the follower continues with the new ones."""
    async with database.open() as log:
        await make_log(recorded(log), count=EVENTS)
        told: asyncio.Queue[Synced] = asyncio.Queue()
        following = asyncio.create_task(sync_tables(log, follow=True, report=told.put_nowait))
        assert (await told.get()).version == 1
        await rebuild_tables(log)
        await record(log, "intent:i", events.IntentCreated(intent=an_intent()))
        head = (await log.head()).position
        async with asyncio.timeout(60):
            while (synced := await told.get()).position < head or synced.version == 1:
                pass
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert [(item.number, item.active, item.position) for item in await versions(log)] == [
            (1, False, head - 1),
            (2, True, head),
        ]


async def test_a_second_writer_is_refused(database: Database) -> None:
    """If another process has moved the tables on, nothing is written."""
    async with database.open() as log:
        await make_log(recorded(log), count=EVENTS)
        await sync_tables(log)
        await record(log, "intent:i", events.IntentCreated(intent=an_intent()))
        async with open_tables(log) as store, open_tables(log) as other:
            active = store.active()
            assert active is not None
            given = {
                "after": active.position,
                "position": active.position + 1,
                "chain_hash": bytes(32),
                "if_active": True,
            }
            assert store.write(active.number, Changes(), **given)
            assert not other.write(active.number, Changes(), **given)


# ------------------------------------------------------------------------------------------------------------- refusals
async def test_tables_of_another_log_are_not_changed(tmp_path: Path) -> None:
    """A log does not write to the tables of another log; the error says so."""
    target = f"sqlite:///{tmp_path}/tables.db"
    for name in ("a", "b"):
        async with open_log(f"sqlite:///{tmp_path}/{name}.db", exchange_id=name) as log:
            if name == "a":
                await sync_tables(log, target)
                continue
            for work in (sync_tables, rebuild_tables):
                with pytest.raises(ConflictError, match="another log"):
                    await work(log, target)


async def test_tables_of_another_fold_version_must_be_rebuilt(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of two fold versions are never mixed: a sync is refused until a rebuild."""
    async with database.open() as log:
        await sync_tables(log)
        monkeypatch.setattr("kernel.platform.version.FOLD_VERSION", 999)
        with pytest.raises(ConflictError, match="rebuild --tables"):
            await sync_tables(log)
        await rebuild_tables(log)
        assert (await sync_tables(log)).version == 2


async def test_tables_that_do_not_follow_from_the_log_are_not_synced(database: Database) -> None:
    """If the tables were filled from another event or past the log's end, that position is named."""
    async with database.open() as log:
        await make_log(recorded(log), count=20)
        await sync_tables(log)
        head = (await log.head()).position
        for position, chain, bad in ((head, bytes(32), head), (head + 5, bytes(32), head + 1)):
            async with open_tables(log) as store:
                known = store.active()
                assert known is not None
                store.write(
                    known.number, Changes(), after=known.position, position=position, chain_hash=chain, if_active=False
                )
            with pytest.raises(IntegrityError) as caught:
                await sync_tables(log)
            assert caught.value.position == bad


async def test_a_database_with_other_tables_is_not_changed(tmp_path: Path) -> None:
    """The log's own file, and a file that is no database, are refused and not changed."""
    url = f"sqlite:///{tmp_path}/kernel.db"
    (tmp_path / "text.db").write_text("not a database, and longer than any header of one would be " * 20)
    before = (tmp_path / "text.db").read_bytes()
    async with open_log(url, exchange_id="a") as log:
        with pytest.raises(KernelError, match="has other tables"):
            await sync_tables(log, url)
        with pytest.raises(KernelError, match="not a SQLite database"):
            await sync_tables(log, f"sqlite:///{tmp_path}/text.db")
        with pytest.raises(ValidationError, match="cannot be at memory:"):
            await sync_tables(log, "memory://")
        with pytest.raises(NotFoundError, match="tables sync"):
            await roll_back(log)
    assert (tmp_path / "text.db").read_bytes() == before
    async with open_log("memory://", exchange_id="a") as log:
        with pytest.raises(ValidationError, match="give the URL of a database"):
            await sync_tables(log)


async def test_a_sync_begins_with_a_checkpoint(database: Database, tmp_path: Path) -> None:
    """Only events between the checkpoint and the tables are folded again; a checkpoint past the tables is not used."""
    told: list[tuple[int, int]] = []
    async with database.open() as log:
        there = await make_log(recorded(log), count=EVENTS)
        await sync_tables(log)
        await record(log, events.intent_stream("z"), events.IntentCreated(intent=an_intent(an_order(), "z")))
        files = checkpoint_files(log, tmp_path / "checkpoints")
        assert files is not None
        for position in (there - 50, there + 1):
            state = await fold(log, State(), upto=position)
            files.write(image(state, await chain_at(log, position)))

        def progress(done: int, total: int) -> None:
            told.append((done, total))

        reached = await sync_tables(log, checkpoint_dir=files.directory, progress=progress)
        assert (reached.position, told) == (there + 1, [(50, 50), (1, 1)])
        elsewhere = f"sqlite:///{tmp_path}/whole.db"
        await sync_tables(log, elsewhere)
        assert await all_rows(log) == await all_rows(log, elsewhere)
