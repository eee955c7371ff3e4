"""The beginning of a log cut off into a file: the log reads, writes and refuses as before, and has it back as it was."""

from __future__ import annotations

import asyncio
import gzip
import itertools
from pathlib import Path
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import NotSupportedError

from kernel.errors import (
    AlreadyExistsError,
    ConflictError,
    IntegrityError,
    KernelError,
    NotFoundError,
    SchemaError,
    ValidationError,
)
from kernel.events import intent_stream
from kernel.log import Append, EventLog, LogSettings, StoredRow, cutting, open_log, row_files
from kernel.log.recorder import TableRecorder
from kernel.log.stored import StoredLog
from projections import State
from replay import archive_log, backup_log, export_log, import_log, migrate_log, restore_log, unarchive_log
from replay.archiving import _commands
from replay.folding import checked_pages, fold, position_at
from tests.commands import an_append, collect
from tests.contract.backends import PostgresBackend, SQLiteBackend

Database = SQLiteBackend | PostgresBackend
SMALL_PAGES = LogSettings(page_rows=3)
TABLES = ("log", "log_head", "log_stream", "log_segment", "log_cut_command", "log_cut_name")


async def rows_of(log: EventLog) -> list[StoredRow]:
    """Every row of a log."""
    return [row async for page in log.read() for row in page]


async def a_log(database: Database) -> tuple[EventLog, list[Append]]:
    """A log of 22 events in streams `a` to `c`, of which `a` ends early; and what was appended."""
    log = database.open(settings=SMALL_PAGES)
    appends = [an_append(name, count=3) for name in ("a", "b", "a", "c", "b", "c", "c")]
    for append in appends:
        await log.append(append)
    return log, appends


def recorder_of(log: EventLog) -> TableRecorder:
    """The tables below a log."""
    assert isinstance(log, StoredLog)
    assert isinstance(log.recorder, TableRecorder)
    return log.recorder


def content(database: Database, table: str) -> list[tuple[Any, ...]]:
    """The rows of a table as they are stored."""
    if isinstance(database, SQLiteBackend):
        import sqlite3

        with sqlite3.connect(database.path) as connection:
            found = connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
        connection.close()
        return found
    with psycopg.connect(database.url) as connection:
        statement = f'SELECT * FROM "{database.schema}".{table} ORDER BY 1'
        return connection.execute(statement).fetchall()  # type: ignore[call-overload]  # a name of our own


async def test_an_archived_log_reads_as_before(database: Database, tmp_path: Path) -> None:
    """Pages from anywhere to anywhere, streams, a tail, a fold and an instant are what they were."""
    log, _ = await a_log(database)
    async with log:
        rows, digest = await rows_of(log), (await fold(log, State())).digest()
        streams = {name: await log.read_stream(intent_stream(name)) for name in "abcd"}
        segment = await archive_log(log, tmp_path / "1.gz", upto=10)
        assert [row[0] for row in content(database, "log")] == list(range(11, 23))
        assert (segment.previous_hash, segment.last_hash) == (bytes(32), rows[9].chain_hash)
        for after, upto in itertools.product(range(22), range(1, 23)):
            found = [row async for page in log.read(after, upto) for row in page]
            assert found == rows[after:upto]
        for name, events in streams.items():
            for version in range(len(events) + 1):
                assert await log.read_stream(intent_stream(name), version) == events[version:]
        for after in (0, 5, 9, 10, 11):
            assert [event.position for event in await collect(log, upto=22, after=after)] == [*range(after + 1, 23)]
        assert (await fold(log, State())).digest() == digest
        assert await position_at(log, rows[-1].recorded_at_ns) == 22
        pages = [page async for page in checked_pages(log, after=4, upto=20)]
        assert [row for page in pages for row in page] == rows[4:20]
    async with database.open() as log:
        assert await rows_of(log) == rows


@pytest.mark.parametrize("opened", ["before", "after"])
async def test_an_archived_log_is_written_as_before(database: Database, opened: str, tmp_path: Path) -> None:
    """Known command ids, stream versions and new streams are as before, also for who had the log open when it was cut."""
    log, appends = await a_log(database)
    other = database.open()
    await other.append(an_append("warm"))
    async with log:
        await archive_log(log, tmp_path / "1.gz", upto=13)
    if opened == "after":
        await other.close()
        other = database.open()
    async with other:
        again = await other.append(appends[0])
        assert (again.first_position, again.last_position, again.duplicate) == (2, 4, True)
        for name, version in (("a", 0), ("a", 5), ("c", 0)):
            with pytest.raises(ConflictError):
                await other.append(an_append(name, expected=version))
        assert (await other.append(an_append("a", expected=6))).first_position == 24
        assert (await other.append(an_append("new", expected=0))).first_position == 25
        assert (await other.append(appends[6])).duplicate
        assert [event.version for event in await other.read_stream(intent_stream("a"))] == [1, 2, 3, 4, 5, 6, 7]
        assert [event.position for event in await collect(other, upto=25)] == [*range(1, 26)]


async def test_what_is_put_back_is_as_it_was(database: Database, tmp_path: Path) -> None:
    """Every table has what it had, to the byte; the file is not needed any more."""
    log, _ = await a_log(database)
    async with log:
        before = {table: content(database, table) for table in TABLES}
        await archive_log(log, tmp_path / "1.gz", upto=4)
        await archive_log(log, tmp_path / "2.gz", upto=13)
        assert [row[:2] for row in content(database, "log_segment")] == [(1, 4), (5, 13)]
        rows = await rows_of(log)
        with pytest.raises(ConflictError, match=r"2\.gz was cut off after it"):
            await unarchive_log(log, tmp_path / "1.gz")
        await unarchive_log(log, tmp_path / "2.gz")
        assert await rows_of(log) == rows
        await unarchive_log(log, tmp_path / "1.gz")
        (tmp_path / "1.gz").unlink()
        (tmp_path / "2.gz").unlink()
        assert {table: content(database, table) for table in TABLES} == before
        with pytest.raises(NotFoundError):
            await unarchive_log(log, tmp_path / "1.gz")
        assert (await log.append(an_append("a", expected=6))).first_position == 23


async def test_without_its_file_an_archive_is_named(database: Database, tmp_path: Path) -> None:
    """Reading what is archived says where it should be and what to do; what comes after is read, and the log written."""
    log, appends = await a_log(database)
    async with log:
        rows = await rows_of(log)
        await archive_log(log, tmp_path / "1.gz", upto=13)
        (tmp_path / "1.gz").rename(tmp_path / "moved.gz")
        for read in (rows_of(log), log.read_stream(intent_stream("a")), fold(log, State()), collect(log, upto=22)):
            with pytest.raises(NotFoundError, match=r"1\.gz: put the file back.*orderctl archive --restore"):
                await read
        assert [row async for page in log.read(13) for row in page] == rows[13:]
        assert [event.position for event in await collect(log, upto=22, after=13)] == [*range(14, 23)]
        assert [event.version for event in await log.read_stream(intent_stream("c"), 3)] == [4, 5, 6, 7, 8, 9]
        assert await log.read_stream(intent_stream("unheard-of")) == []
        assert (await log.append(appends[0])).duplicate
        assert (await log.append(an_append("a", expected=6))).first_position == 23
        await unarchive_log(log, tmp_path / "moved.gz")
        assert (await rows_of(log))[:22] == rows


async def test_the_librarys_reads_refuse_a_cut_log(database: Database, tmp_path: Path) -> None:
    """They know of tables alone, and do not leave out in silence what is archived."""
    log, _ = await a_log(database)
    async with log:
        recorder = recorder_of(log)
        assert len(recorder.select_events(intent_stream("a"))) == 6
        await archive_log(log, tmp_path / "1.gz", upto=13)
        with pytest.raises(NotSupportedError, match="EventLog"):
            recorder.select_events(intent_stream("a"))
        with pytest.raises(NotSupportedError, match="EventLog"):
            recorder.select_notifications(1, 10)


async def test_an_archive_that_was_changed_is_found(database: Database, tmp_path: Path) -> None:
    """Another file in its place, or a changed one, is an integrity error; the log is not put back from it."""
    log, _ = await a_log(database)
    path = tmp_path / "1.gz"
    async with log:
        await archive_log(log, path, upto=13)
        whole = gzip.decompress(path.read_bytes())
        path.write_bytes(gzip.compress(whole.replace(b'"intent:a"', b'"intent:z"')))
        for read in (rows_of(log), unarchive_log(log, path)):
            with pytest.raises(IntegrityError, match=r"1\.gz, line 3: position 2"):
                await read
        path.write_bytes(gzip.compress(whole.replace(b'"last_position":13', b'"last_position":12')))
        with pytest.raises(IntegrityError, match=r"1\.gz is not the archive of the positions 1 to 13"):
            await rows_of(log)
        path.write_bytes(gzip.compress(whole + whole.splitlines(keepends=True)[-1]))
        with pytest.raises(IntegrityError, match="line 15: there is more than the 13"):
            await rows_of(log)
        path.write_bytes(gzip.compress(whole))
        assert len(await rows_of(log)) == 22


async def test_a_part_of_a_log_is_not_imported(tmp_path: Path) -> None:
    """A file that does not begin with the first event is refused as what it is, and nothing is there."""
    log, _ = await a_log(SQLiteBackend("x", tmp_path / "log.db"))
    async with log:
        await archive_log(log, tmp_path / "1.gz", upto=4)
        await archive_log(log, tmp_path / "2.gz", upto=13)
    with pytest.raises(ValidationError, match="positions 5 to 13: a log is imported from position 1 on"):
        await import_log(tmp_path / "2.gz", f"sqlite:///{tmp_path}/part.db", exchange_id="x")
    assert not (tmp_path / "part.db").exists()


async def test_an_archive_that_did_not_come_out_right_takes_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written is read again before a row goes: of a file that is not the rows nothing is left, nor of the cut."""
    log, _ = await a_log(database)
    write = row_files.row_line
    async with log:
        before = {table: content(database, table) for table in TABLES}
        with monkeypatch.context() as patch:
            patch.setattr(row_files, "row_line", lambda row: write(row._replace(meta=row.meta + b" ")))
            with pytest.raises(IntegrityError, match="line 2"):
                await archive_log(log, tmp_path / "1.gz", upto=13)
        assert not (tmp_path / "1.gz").exists()
        assert {table: content(database, table) for table in TABLES} == before


async def test_only_what_a_segment_covers_may_be_deleted(database: Database, tmp_path: Path) -> None:
    """The triggers refuse rows that are not archived, a segment that is none, and to forget what is cut."""
    log, _ = await a_log(database)
    schema = "{schema}." if isinstance(database, PostgresBackend) else ""
    lie = "VALUES (1, 5, 'x', 'y', 'z', 'w')" if schema else "VALUES (1, 5, x'00', x'00', 'z', 'w')"
    async with log:
        for statement in (
            f"DELETE FROM {schema}log WHERE position = 1",
            f"INSERT INTO {schema}log_segment {lie}",
        ):
            with pytest.raises(Exception, match="append-only"):
                database.execute(statement, guarded=True)
        await archive_log(log, tmp_path / "1.gz", upto=13)
        for statement in (
            f"DELETE FROM {schema}log WHERE position = 14",
            f"DELETE FROM {schema}log",
            f"UPDATE {schema}log SET version = 9",
            f"DELETE FROM {schema}log_segment",
            f"UPDATE {schema}log_segment SET last_position = 20",
            f"DELETE FROM {schema}log_cut_command",
            f"UPDATE {schema}log_cut_command SET first_position = 20",
            f"DELETE FROM {schema}log_stream",
            f"DELETE FROM {schema}log_head",
        ):
            with pytest.raises(Exception, match=r"append-only|stays?\b"):
                database.execute(statement, guarded=True)
        assert len(await rows_of(log)) == 22


@pytest.mark.parametrize("steps", [1, 2, 5])
async def test_an_interrupted_cut_reads_the_same_and_is_finished(
    database: Database, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it stops, the log reads as before; done again it is done, and so is putting back."""
    monkeypatch.setattr(cutting, "ROWS_PER_STEP", 2)
    monkeypatch.setattr("kernel.log.row_files.PAGE_ROWS", 2)
    log, appends = await a_log(database)
    async with log:
        rows = await rows_of(log)
        recorder = recorder_of(log)
        real_write = recorder.write

        def interrupted(count: int) -> None:
            left = itertools.count(count, -1)

            def write(given: Any) -> None:
                if next(left) == 0:
                    raise KernelError("interrupted")
                real_write(given)

            monkeypatch.setattr(recorder, "write", write)

        interrupted(7 + steps)
        with pytest.raises(KernelError, match="interrupted"):
            await archive_log(log, tmp_path / "1.gz", upto=13)
        assert await rows_of(log) == rows
        monkeypatch.setattr(recorder, "write", real_write)
        await archive_log(log, tmp_path / "1.gz", upto=13)
        assert len(content(database, "log")) == 9
        interrupted(steps)
        with pytest.raises(KernelError, match="interrupted"):
            await unarchive_log(log, tmp_path / "1.gz")
        assert await rows_of(log) == rows
        assert [event.version for event in await log.read_stream(intent_stream("b"))] == [1, 2, 3, 4, 5, 6]
        assert [event.position for event in await collect(log, upto=22)] == [*range(1, 23)]
        assert (await log.append(appends[0])).duplicate
        monkeypatch.setattr(recorder, "write", real_write)
        await unarchive_log(log, tmp_path / "1.gz")
        assert len(content(database, "log")) == 22
        assert (content(database, "log_segment"), content(database, "log_cut_command")) == ([], [])


async def test_a_writer_goes_on_while_a_log_is_cut(database: Database, tmp_path: Path) -> None:
    """Commits of another log object come between the steps, and nothing is lost or moved."""
    log, _ = await a_log(database)
    async with log, database.open() as other:
        for _ in range(30):
            await log.append(an_append("bulk", count=200))
        rows = await rows_of(log)
        cut = asyncio.ensure_future(archive_log(log, tmp_path / "1.gz", upto=6013))
        appended = 0
        while not cut.done():
            await other.append(an_append("busy"))
            appended += 1
        with pytest.raises(ValidationError):
            await cut  # 6013 is within a command
        cut = asyncio.ensure_future(archive_log(log, tmp_path / "1.gz", upto=5822))
        while not cut.done():
            await other.append(an_append("busy"))
            appended += 1
        await cut
        assert appended
        assert (await rows_of(log))[: len(rows)] == rows
        assert len(await rows_of(other)) == len(rows) + appended


@pytest.mark.parametrize(
    ("upto", "message"),
    [(0, "1 … 21"), (22, "1 … 21"), (99, "1 … 21"), (-1, "1 … 21"), (2, "as 1"), (3, "as 1"), (6, "as 4")],
)
async def test_what_can_not_be_cut_off_is_said(database: Database, upto: int, message: str, tmp_path: Path) -> None:
    """The last event stays, and a command is not cut in two; nothing is written."""
    log, _ = await a_log(database)
    async with log:
        with pytest.raises(ValidationError, match=message):
            await archive_log(log, tmp_path / "1.gz", upto=upto)
        assert not (tmp_path / "1.gz").exists()
        assert len(content(database, "log")) == 22


async def test_an_archive_needs_a_name_of_its_own(database: Database, tmp_path: Path) -> None:
    """A file that is there is not replaced, and the name says that it is compressed; a log in memory has no tables."""
    log, _ = await a_log(database)
    (tmp_path / "1.gz").write_text("mine")
    async with log, open_log("memory://", exchange_id="x") as memory:
        with pytest.raises(AlreadyExistsError):
            await archive_log(log, tmp_path / "1.gz", upto=13)
        with pytest.raises(ValidationError, match=r"ends in \.gz"):
            await archive_log(log, tmp_path / "1.jsonl", upto=13)
        with pytest.raises(ValidationError, match="no tables"):
            await archive_log(memory, tmp_path / "2.gz", upto=1)
        assert (tmp_path / "1.gz").read_text() == "mine"
        assert len(content(database, "log")) == 22


async def test_a_cut_log_is_exported_whole_and_backed_up(tmp_path: Path) -> None:
    """An export has the archived rows too; a backup is the live part, checked, and reads the rest from the archive."""
    database = SQLiteBackend("x", tmp_path / "log.db")
    log, _ = await a_log(database)
    async with log:
        rows = await rows_of(log)
        await archive_log(log, tmp_path / "1.gz", upto=13)
        await export_log(log, tmp_path / "all.jsonl")
        await import_log(tmp_path / "all.jsonl", f"sqlite:///{tmp_path}/all.db", exchange_id="x")
        await backup_log(log, tmp_path / "b.db")
    await restore_log(tmp_path / "b.db", f"sqlite:///{tmp_path}/back.db", exchange_id="x")
    for name in ("all", "back"):
        async with open_log(f"sqlite:///{tmp_path}/{name}.db", exchange_id="x") as copy:
            assert await rows_of(copy) == rows


def test_the_commands_of_an_archive_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command whose rows are on two pages is one, with its first and its last position."""
    monkeypatch.setattr("kernel.log.row_files.PAGE_ROWS", 2)
    database = SQLiteBackend("x", tmp_path / "log.db")

    async def cut() -> list[tuple[int, int]]:
        log, appends = await a_log(database)
        async with log:
            segment = await archive_log(log, tmp_path / "1.gz", upto=7)
            commands = [command for page in _commands(segment) for command in page]
            assert [command[0] for command in commands[1:]] == [append.command_id for append in appends[:2]]
            return [(first, last) for _, first, last in commands]

    assert asyncio.run(cut()) == [(1, 1), (2, 4), (5, 7)]


# ------------------------------------------------------------------------------------------------------------ layouts
INDEXES = ("log_by_client_order_id", "log_by_exchange_order_id")
SQLITE_LAYOUT_1 = (
    *(f"DROP INDEX {name}" for name in INDEXES),
    "DROP TABLE log_segment",
    "DROP TABLE log_cut_command",
    "DROP TABLE log_cut_name",
    "DROP TRIGGER log_no_delete",
    """CREATE TRIGGER log_no_delete BEFORE DELETE ON log
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: no delete'); END""",
    "UPDATE log_head SET layout_version = 1",
)
POSTGRES_LAYOUT_1 = (
    *(f"DROP INDEX {{schema}}.{name}" for name in INDEXES),
    "DROP TABLE {schema}.log_segment",
    "DROP TABLE {schema}.log_cut_command",
    "DROP TABLE {schema}.log_cut_name",
    "DROP TRIGGER log_no_delete ON {schema}.log",
    """CREATE OR REPLACE TRIGGER log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {schema}.log
        FOR EACH STATEMENT EXECUTE FUNCTION {schema}.log_refuse()""",
    "UPDATE {schema}.log_head SET layout_version = 1",
)


def to_layout_1(database: Database) -> None:
    """A log as it was made before there were archives."""
    for statement in SQLITE_LAYOUT_1 if isinstance(database, SQLiteBackend) else POSTGRES_LAYOUT_1:
        database.execute(statement, guarded=True)


async def test_an_older_layout_is_read_and_written_and_migrated(database: Database, tmp_path: Path) -> None:
    """Layout 1 works without archives, which ask for the migration; that touches no row, and may be done again."""
    log, appends = await a_log(database)
    await log.close()
    to_layout_1(database)
    async with database.open() as log:
        assert (await log.append(appends[0])).duplicate
        assert (await log.append(an_append("a", expected=6))).first_position == 23
        assert await log.read_stream(intent_stream("unheard-of")) == []
        rows = await rows_of(log)
        with pytest.raises(ValidationError, match="orderctl log migrate"):
            await archive_log(log, tmp_path / "1.gz", upto=13)
        assert await migrate_log(log) == 1
        assert await migrate_log(log) == 2
        assert await rows_of(log) == rows
        await archive_log(log, tmp_path / "1.gz", upto=13)
        assert await rows_of(log) == rows
        assert (await log.append(appends[0])).duplicate


async def test_a_migration_beside_a_writer_is_noticed(database: Database, tmp_path: Path) -> None:
    """Who has had the log open since before its migration knows what was archived all the same."""
    log, appends = await a_log(database)
    await log.close()
    to_layout_1(database)
    async with database.open() as writer:
        await writer.append(an_append("warm"))
        async with database.open() as log:
            await migrate_log(log)
            await archive_log(log, tmp_path / "1.gz", upto=13)
        with pytest.raises(ConflictError):
            await writer.append(an_append("a", expected=0))
        assert (await writer.append(appends[1])).duplicate
        assert (await writer.append(an_append("a", expected=6))).first_position == 24
        assert len(await rows_of(writer)) == 24


async def test_older_code_refuses_what_was_migrated(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that knows layout 1 alone does not open layout 2."""
    await (await a_log(database))[0].close()
    monkeypatch.setattr("kernel.log.recorder.LAYOUT_VERSION", 1)
    with pytest.raises(SchemaError, match="layout 2"):
        database.open()
