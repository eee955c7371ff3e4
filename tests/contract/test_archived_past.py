"""What lies in an archive, for those who do not read the log from its beginning: found by its ids, read back, and dealt
with like what is in the tables."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kernel import EventSourcedKernel
from kernel.clock import SystemClock
from kernel.errors import AlreadyExistsError, ExchangeError
from kernel.events import OrderFilled, intent_stream
from kernel.log import EventLog, LogSettings, open_log
from kernel.log.base import Head, StoredRow
from kernel.log.memory import MemoryRecorder
from kernel.models import AttemptKind, Evidence, ExecType, OrdStatus
from kernel.order_spec import Side
from kernel.recalling import ensure, owner, read_back
from kernel.venues import PaperVenue
from kernel.venues.base import ExecutionReport
from kernel.venues.paper_config import PaperConfig
from kernel.writer import Source
from projections import State
from replay import (
    ProblemKind,
    VerifyReport,
    archive_log,
    export_log,
    import_log,
    migrate_log,
    open_kernel,
    unarchive_log,
    verify,
)
from replay.folding import fold
from replay.verifying import Verification
from tests.contract.backends import PostgresBackend
from tests.contract.bench import LAST, LOT, bid
from tests.contract.test_archiving import Database, content, to_layout_1
from tests.contract.test_letting_go import ODD, SHORT, accepted, record
from tests.folding import an_attempt, an_order
from tests.recorded import intents_in, log_of, simulated
from tests.stories import Story

pytestmark = pytest.mark.xdist_group("archived past")  # these share what is costly to make


@pytest.fixture(scope="module")
def recorded() -> MemoryRecorder:
    """What a simulated run left. Made outside of any loop."""
    return simulated(3)


async def named(log: EventLog) -> tuple[int, int]:
    """Orders of `one` and `two`, the second under the venue id of the first too; where each of them ends."""
    first = await record(log, "one", an_attempt(AttemptKind.SUBMIT, "c1", an_order()), accepted("c1", "7"))
    again = accepted("c1", "7")
    await record(log, "one", again, again)
    last = await record(
        log, "two", an_attempt(AttemptKind.SUBMIT, ODD, an_order()), accepted(ODD, f"8{ODD}"), accepted(ODD, "7")
    )
    await record(log, "three", accepted("c9", "9"))
    return first, last


async def found_by_ids(log: EventLog, first: int, last: int) -> list[str | None]:
    """Whose the ids are."""
    find = log.intent_id_of
    return [
        await find(client_order_id="c1", upto=last),
        await find(client_order_id=ODD, upto=last),
        await find(exchange_order_id=f"8{ODD}", upto=last + 1),
        await find(exchange_order_id="7", upto=last),
        await find(exchange_order_id="7", upto=first),
        await find(client_order_id="c1", exchange_order_id="9", upto=last + 1),
        await find(client_order_id=ODD, upto=first),
        await find(client_order_id="c", exchange_order_id="77", upto=last + 1),
    ]


FOUND = ["one", "two", "two", "two", "one", "three", None, None]


@pytest.mark.parametrize("older", [False, True])
async def test_an_id_is_found_in_the_archive(database: Database, older: bool, tmp_path: Path) -> None:
    """Also where its file is not there, on a log that was migrated, and while it is put back; then as before."""
    log = database.open()
    await log.close()
    if older:
        to_layout_1(database)
    async with database.open() as log:
        first, last = await named(log)
        assert await found_by_ids(log, first, last) == FOUND
        if older:
            await migrate_log(log)
        await archive_log(log, tmp_path / "1.gz", upto=last)
        assert len(content(database, "log_cut_name")) == 5  # once for each id and owner, however often it was named
        (tmp_path / "1.gz").rename(tmp_path / "moved.gz")
        assert await found_by_ids(log, first, last) == FOUND
        await unarchive_log(log, tmp_path / "moved.gz")
        assert await found_by_ids(log, first, last) == FOUND
        assert content(database, "log_cut_name") == []


async def test_the_ids_of_an_archive_stay(database: Database, tmp_path: Path) -> None:
    """They are neither changed nor deleted while their rows are archived."""
    schema = "{schema}." if isinstance(database, PostgresBackend) else ""
    async with database.open() as log:
        _, last = await named(log)
        await archive_log(log, tmp_path / "1.gz", upto=last)
        for statement in (f"DELETE FROM {schema}log_cut_name", f"UPDATE {schema}log_cut_name SET stream_id = 'x'"):
            with pytest.raises(Exception, match="append-only"):
                database.execute(statement, guarded=True)


async def test_a_migrated_log_has_the_indexes_of_a_new_one(database: Database) -> None:
    """So that an id is looked up as fast; cutting and putting back leave them."""
    log = database.open()
    await log.close()
    before = indexes(database)
    assert {"log_by_client_order_id", "log_by_exchange_order_id"} <= before
    to_layout_1(database)
    assert "log_by_client_order_id" not in indexes(database)
    async with database.open() as log:
        await migrate_log(log)
    assert indexes(database) == before


def indexes(database: Database) -> set[str]:
    """Names of the indexes of a log's tables."""
    if isinstance(database, PostgresBackend):
        import psycopg

        with psycopg.connect(database.url) as connection:
            found = connection.execute("SELECT indexname FROM pg_indexes WHERE schemaname = %s", (database.schema,))
            return {name for (name,) in found}
    import sqlite3

    connection = sqlite3.connect(database.path)
    try:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    finally:
        connection.close()


# ------------------------------------------------------------------------------------------------------------ reading back
async def command_end(log: EventLog, position: int) -> int:
    """The last position of a command, at or before one."""
    ends = [row.position - 1 async for page in log.read(0, position + 1) for row in page if row.command_index == 0]
    return ends[-1]


@asynccontextmanager
async def a_cut_run(recorded: MemoryRecorder, tmp_path: Path) -> AsyncIterator[EventLog]:
    """The log of a simulated run, two thirds of which are in two archives."""
    url = f"sqlite:///{tmp_path}/run.db"
    original = log_of(recorded)
    await export_log(original, tmp_path / "run.jsonl")
    await import_log(tmp_path / "run.jsonl", url, exchange_id=original.exchange_id)
    async with open_log(url, exchange_id=original.exchange_id) as log:
        for part in (1, 2):
            end = await command_end(log, part * len(recorded.rows) // 3)
            await archive_log(log, tmp_path / f"{part}.gz", upto=end)
        yield log


async def test_what_begins_in_an_archive_is_read_back_whole(recorded: MemoryRecorder, tmp_path: Path) -> None:
    """Every intent of a run, with its group, is read back as from the log that was not cut."""
    whole = log_of(recorded)
    async with a_cut_run(recorded, tmp_path) as log:
        head = (await log.head()).position
        for name in intents_in(recorded):
            streams = [intent_stream(name)]
            assert await read_back(log, streams, upto=head) == await read_back(whole, streams, upto=head)


async def test_a_state_that_lets_go_comes_out_the_same_on_a_cut_log(recorded: MemoryRecorder, tmp_path: Path) -> None:
    """What it has to read back from an archive while it folds, and what it is asked for, is what it was."""
    async with a_cut_run(recorded, tmp_path) as log:
        tight = await fold(log, State(SHORT))
        whole = await fold(log_of(recorded), State())
        assert tight.let_go
        assert (await fold(log, State())).digest() == whole.digest()
        for name in intents_in(recorded):
            await ensure(log, tight, name)
            assert tight.record(name) == whole.record(name)
            for facts in whole.record(name).current_orders:
                if facts.exchange_order_id:
                    assert await owner(log, tight, exchange_order_id=facts.exchange_order_id) == name


@asynccontextmanager
async def leading(path: Path) -> AsyncIterator[EventSourcedKernel]:
    """A kernel that leads a log in a file, keeps little in memory, and has an exchange of its own."""
    config = PaperConfig(ladder_levels=0, first_id=1)
    venue = PaperVenue(tape=(), speed="step", symbol="BTCUSDT", config=config, clock=SystemClock())
    url = f"sqlite:///{path}"
    async with open_kernel(url, exchange_id="paper", venue=venue, keeping=SHORT) as kernel:
        await kernel.wait_ready(30)
        yield kernel


async def test_an_order_of_the_archive_is_dealt_with_like_any_other(tmp_path: Path) -> None:
    """The same order again is no event, a change is refused, and a late fill is its own and in the position."""
    async with leading(tmp_path / "kernel.db") as kernel:
        for name in ("old", *(f"n{number}" for number in range(12))):
            await kernel.place_order(bid(), intent_id=name)
            await kernel.cancel_order(name)
        end = (await kernel.log.read_stream(intent_stream("old")))[-1].position
        await archive_log(kernel.log, tmp_path / "1.gz", upto=await command_end(kernel.log, end + 1))
        assert "old" not in {intent.intent_id for intent in await kernel.get_all_intents()}
        state = await kernel.get_order_state("old")
        assert state.status.ord_status is OrdStatus.CANCELED
        head = await kernel.log.head()
        await kernel.cancel_order("old")
        assert await kernel.place_order(bid(), intent_id="old") == "old"
        with pytest.raises(AlreadyExistsError):
            await kernel.place_order(bid(3), intent_id="old")
        with pytest.raises(ExchangeError, match="too late"):
            await kernel.modify_order("old", bid(3))
        assert (await kernel.log.head()).position == head.position
        await take_late_fill(kernel, state.exchange_order_id)
        assert [item.quantity for item in await kernel.get_positions()] == [LOT]
        assert [*kernel.state.external_orders()] == []


async def take_late_fill(kernel: EventSourcedKernel, exchange_order_id: str | None) -> None:
    """The venue tells, twice, of a trade that only its own id names; it is in the stream of `old` once."""
    trade = ExecutionReport(
        symbol_id="BTCUSDT",
        exec_type=ExecType.TRADE,
        side=Side.BUY,
        fill_key="late",
        last_qty=LOT,
        last_px=LAST,
        exchange_order_id=exchange_order_id,
    )
    session = kernel._session
    assert session is not None
    for _ in range(2):
        await session.ingest([trade], Source("venue:paper", Evidence.STREAM))
    fills = [event for event in await kernel.log.read_stream(intent_stream("old")) if isinstance(event, OrderFilled)]
    assert [event.fill_key for event in fills] == ["late"]


# --------------------------------------------------------------------------------------------------------------- verifying
async def told_and_cut(database: Database, tmp_path: Path) -> EventLog:
    """A log with a story in it, and streams that are in the archive alone; two archives."""
    log = database.open()
    await Story(log).tell()
    await archive_log(log, tmp_path / "1.gz", upto=3)
    await archive_log(log, tmp_path / "2.gz", upto=await command_end(log, 14))
    return log


def found(report: VerifyReport) -> list[tuple[ProblemKind, int | None]]:
    """Kinds and positions of what is wrong."""
    return [(item.kind, item.position) for item in report.problems]


async def test_a_cut_log_is_verified_like_a_whole_one(database: Database, tmp_path: Path) -> None:
    """What is said of it is the same before it is cut, after, and where it is all put back."""
    log = database.open()
    async with log:
        await Story(log).tell()
        whole = await verify(log)
        await archive_log(log, tmp_path / "1.gz", upto=3)
        await archive_log(log, tmp_path / "2.gz", upto=await command_end(log, 14))
        assert await verify(log) == whole
        await unarchive_log(log, tmp_path / "2.gz")
        assert await verify(log) == whole


async def test_a_run_that_was_cut_has_no_problem(recorded: MemoryRecorder, tmp_path: Path) -> None:
    """A simulated run with all that befell it."""
    async with a_cut_run(recorded, tmp_path) as log:
        report = await verify(log)
        assert found(report) == []
        assert report.counts == (await verify(log_of(recorded))).counts


async def test_what_is_cut_off_amid_a_verification_is_no_problem(database: Database, tmp_path: Path) -> None:
    """Rows that were read from the tables, and go to an archive before those after them are read, are learned there."""
    async with database.open(settings=LogSettings(page_rows=4)) as log:
        await Story(log).tell()
        end = await command_end(log, 14)
        verification = Verification(log, None, content=True, progress=None)
        look = verification._look_into_archive

        async def look_and_cut(rows: list[StoredRow]) -> None:
            await look(rows)
            if rows[0].position <= 5 <= rows[-1].position:
                await archive_log(log, tmp_path / "1.gz", upto=end)

        verification._look_into_archive = look_and_cut  # type: ignore[method-assign]
        assert found(await verification.run()) == []


async def test_what_is_cut_off_while_it_is_verified_is_no_problem(database: Database, tmp_path: Path) -> None:
    """Streams whose rows were read from the tables, and then went to an archive, are not taken for gone."""
    log = database.open()
    async with log:
        await Story(log).tell()
        verification = Verification(log, None, content=True, progress=None)
        look = verification._check_beyond

        async def cut_and_look(head: Head) -> None:
            await archive_log(log, tmp_path / "1.gz", upto=await command_end(log, 14))
            await look(head)

        verification._check_beyond = cut_and_look  # type: ignore[method-assign]
        assert found(await verification.run()) == []


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DELETE FROM {s}log_cut_command WHERE first_position = 5", (ProblemKind.COMMAND, 5)),
        ("UPDATE {s}log_cut_command SET first_position = 3 WHERE first_position = 5", (ProblemKind.COMMAND, 5)),
        ("UPDATE {s}log_cut_name SET stream_id = 'intent:b' WHERE position = 6", (ProblemKind.STREAM, 6)),
        ("DELETE FROM {s}log_cut_name WHERE position = 6", (ProblemKind.STREAM, 6)),
        ("DELETE FROM {s}log_stream WHERE stream_id = 'intent:b'", (ProblemKind.STREAM, 8)),
        ("UPDATE {s}log_stream SET version = 1 WHERE stream_id = 'intent:b'", (ProblemKind.STREAM, 9)),
        ("UPDATE {s}log_stream SET version = 9 WHERE stream_id = 'intent:b'", (ProblemKind.STREAM, None)),
        ("UPDATE {s}log SET command_id = (SELECT command_id FROM {s}log_cut_command WHERE first_position = 5) "
         "WHERE position = 16", (ProblemKind.REPEATED, 16)),
    ],
)  # fmt: skip
async def test_what_is_kept_of_an_archive_is_held_to_it(
    database: Database, tmp_path: Path, statement: str, expected: tuple[ProblemKind, int | None]
) -> None:
    """Commands, ids and streams by which a writer goes are found where they do not say what the archive says."""
    async with await told_and_cut(database, tmp_path):
        pass
    postgres = isinstance(database, PostgresBackend)
    if not postgres:
        for trigger in ("command_no_delete", "command_no_update", "name_no_delete", "name_no_update"):
            database.execute(f"DROP TRIGGER log_cut_{trigger}")
    database.execute(statement.format(s="{schema}." if postgres else ""))
    async with database.open() as log:
        assert expected in found(await verify(log))


async def test_no_id_of_an_archive_goes_away_unnoticed(database: Database, tmp_path: Path) -> None:
    """By each of them a late fill may have to find its intent; one that was taken away is told where it was."""
    async with database.open() as log:
        _, last = await named(log)
        await archive_log(log, tmp_path / "1.gz", upto=3)
        await archive_log(log, tmp_path / "2.gz", upto=last)
        told = set((await verify(log)).problems)  # the events of `named` are no story
    rows = content(database, "log_cut_name")
    assert len(rows) == 5
    if not isinstance(database, PostgresBackend):
        database.execute("DROP TRIGGER log_cut_name_no_delete")
    table = "{schema}.log_cut_name" if isinstance(database, PostgresBackend) else "log_cut_name"
    for field, value, position, stream_id in rows:
        database.execute(f"DELETE FROM {table} WHERE field = '{field}' AND position = {position}")
        async with database.open() as log:
            (lacking,) = set((await verify(log)).problems) - told
        assert (lacking.kind, lacking.position) == (ProblemKind.STREAM, position)
        assert f"lacks {field} {value} of {stream_id}" in lacking.text
        told.add(lacking)


@pytest.mark.parametrize("position", [0, 3, 16, 99])
async def test_what_was_put_in_beside_an_archive_is_found(database: Database, tmp_path: Path, position: int) -> None:
    """An id of an order or of a command that no event has, wherever it says that it is from, archived or not or nowhere."""
    async with await told_and_cut(database, tmp_path):
        pass
    schema = "{schema}." if isinstance(database, PostgresBackend) else ""
    blob = "'\\xabcd'" if schema else "x'abcd'"
    database.execute(f"INSERT INTO {schema}log_cut_command VALUES ({blob}, {position}, {position})")
    database.execute(f"INSERT INTO {schema}log_cut_name VALUES ('client_order_id', 'x', {position}, 'intent:b')")
    at = position if 0 < position < 99 else None
    async with database.open() as log:
        assert found(await verify(log)) == [(ProblemKind.COMMAND, at), (ProblemKind.STREAM, at)]


async def test_a_changed_archive_is_found(database: Database, tmp_path: Path) -> None:
    """A row that was changed in an archive is told, with its file, line and position."""
    async with await told_and_cut(database, tmp_path) as log:
        path = tmp_path / "2.gz"
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b'"intent:b"', b'"intent:z"')))
        report = await verify(log)
        (damage,) = [item for item in report.problems if item.kind is ProblemKind.DAMAGED]
        assert not report.ok
        assert "2.gz, line" in damage.text
        assert "position 8" in damage.text
