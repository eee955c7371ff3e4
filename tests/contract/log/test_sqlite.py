"""A log in a SQLite file: durability settings, bad files, full disks, and reading it with sqlite3."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from kernel.errors import IntegrityError, KernelError, LogUnavailableError, NotFoundError, SchemaError, ValidationError
from kernel.events import CONTROL_STREAM
from kernel.log import Appended, EventLog, Write, open_log
from kernel.log.backends.sqlite import LISTED, SELECT_NAMING, SQLiteLog
from tests.commands import a_pause, an_append
from tests.contract.backends import SQLiteBackend

CHECKER = Path(__file__).parents[2] / "golden" / "check_log.py"


@pytest.fixture
def file(exchange_id: str, tmp_path: Path) -> SQLiteBackend:
    """A store without a log."""
    return SQLiteBackend(exchange_id, tmp_path / "log.db")


def writer_connection(log: EventLog) -> sqlite3.Connection:
    """Return the connection that a log writes on."""
    assert isinstance(log, SQLiteLog)
    return log._recorder._writer_connection()


def sqlite_code(problem: BaseException) -> int:
    """Return SQLite's primary result code behind an error."""
    cause = problem.__cause__
    if isinstance(cause, sqlite3.Error):
        return cause.sqlite_errorcode & 0xFF
    assert cause is not None, "SQLite had no part in it"
    return sqlite_code(cause)


def checked(path: Path) -> subprocess.CompletedProcess[str]:
    """Run the stand-alone checker on a file."""
    return subprocess.run([sys.executable, "-I", str(CHECKER), str(path)], capture_output=True, text=True, check=False)


async def test_commits_are_synced(file: SQLiteBackend) -> None:
    """The writer's connection is in WAL mode with `synchronous=FULL`."""
    async with file.open() as log:
        connection = writer_connection(log)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.parametrize("field", LISTED)
@pytest.mark.parametrize("is_older", [False, True])
async def test_an_order_id_is_found_by_an_index(file: SQLiteBackend, field: str, is_older: bool) -> None:
    """A search for an order id uses the index of the log, also the one of an older log."""
    async with file.open() as log:
        connection, index = writer_connection(log), f"log_by_{field}"
        if is_older:
            connection.execute(f"DROP INDEX {index}")
            rows = f"WHERE {LISTED[field]} AND json_valid(state)"
            connection.execute(f"CREATE INDEX {index} ON log (json_extract(state, '$.{field}')) {rows}")
        plan = connection.execute(f"EXPLAIN QUERY PLAN {SELECT_NAMING[field]}", ("x", 1)).fetchall()
        assert any(index in step[3] for step in plan)


async def test_a_file_that_cannot_be_synced_is_refused(file: SQLiteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without support for WAL is refused."""
    monkeypatch.setattr("kernel.log.backends.sqlite._to_wal", lambda connection, deadline_s: "delete")
    with pytest.raises(LogUnavailableError, match="durably"):
        file.open()


async def test_relative_and_escaped_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes are relative to the working directory; special characters in a name are kept."""
    monkeypatch.chdir(tmp_path)
    for url, name in (
        ("sqlite:///a.db", "a.db"),
        ("sqlite:///b%20%3F%23%25.db", "b ?#%.db"),
        ("sqlite:///c d.db", "c d.db"),
    ):
        async with open_log(url, exchange_id="paper") as log:
            await log.append(an_append())
        assert (tmp_path / name).exists()


async def test_without_create_a_missing_log_is_not_found(file: SQLiteBackend, tmp_path: Path) -> None:
    """Without `create` a missing or empty file is not found, and not created."""
    with pytest.raises(NotFoundError):
        open_log(file.url, exchange_id="paper", create=False)
    assert not file.path.exists()
    file.path.touch()
    with pytest.raises(NotFoundError):
        open_log(file.url, exchange_id="paper", create=False)
    await file.open().close()
    await open_log(file.url, exchange_id=file.exchange_id, create=False).close()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite://x.db", "mysql://x", "log.db", "postgresql://[bad"]
)
def test_a_malformed_url_is_refused(url: str) -> None:
    """A URL that names no log raises a validation error that lists the forms."""
    with pytest.raises(ValidationError):
        open_log(url, exchange_id="paper")


@pytest.mark.parametrize("exchange_id", ["", "Paper", "a b", "x" * 41, "-a", "paper\n", 'a"b'])
def test_a_malformed_exchange_id_is_refused(exchange_id: str) -> None:
    """Exchange ids become schema names: only those of the grammar are accepted."""
    with pytest.raises(ValidationError, match="exchange"):
        open_log("memory://", exchange_id=exchange_id)


def test_a_missing_directory_is_unavailable(tmp_path: Path) -> None:
    """A missing directory, or a directory in place of the file, is unavailability."""
    for path in (tmp_path / "missing" / "log.db", tmp_path):
        with pytest.raises(LogUnavailableError, match="directory"):
            open_log(f"sqlite:///{path}", exchange_id="paper")


def test_a_file_that_is_something_else(file: SQLiteBackend) -> None:
    """A file that is not a database, or a database without a log, is refused and not changed."""
    for content in (b"not a database, but long enough to be looked at" * 20, b"x"):
        file.path.write_bytes(content)
        with pytest.raises(IntegrityError, match="not a SQLite database"):
            file.open()
        assert file.path.read_bytes() == content
    file.path.unlink()
    file.execute("CREATE TABLE other (x)")
    with pytest.raises(KernelError, match="is not a log of this software"):
        file.open()
    connection = sqlite3.connect(file.path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("other",)]
    connection.close()


async def test_newer_tables_are_refused(file: SQLiteBackend) -> None:
    """A newer table layout is a schema error."""
    await file.open().close()
    file.execute("UPDATE log_head SET layout_version = 99")
    with pytest.raises(SchemaError, match="99"):
        file.open()


async def test_a_commit_before_the_first_poll_is_not_missed(file: SQLiteBackend) -> None:
    """A commit between a tail's read and the first poll is found, as the first poll counts as a change."""
    async with file.open() as log:
        assert isinstance(log, SQLiteLog)
        recorder = log._recorder
        assert [recorder.changed_elsewhere() for _ in range(3)] == [True, False, False]
        await log.append(an_append())
        assert not recorder.changed_elsewhere()
        async with file.open() as other:
            await other.append(an_append())
        assert recorder.changed_elsewhere()


async def test_a_canceled_close_releases_the_file(file: SQLiteBackend) -> None:
    """It ends once the connections are closed: SQLite then removes the write-ahead log."""
    log = file.open()
    assert isinstance(log, SQLiteLog)
    await log.append(an_append())
    wal = log.path.with_name(f"{log.path.name}-wal")
    assert wal.exists()
    closing = asyncio.ensure_future(log.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert not wal.exists()


async def test_a_full_disk_refuses_and_goes_on_when_there_is_space(file: SQLiteBackend) -> None:
    """On a full disk an append is refused whole; the log works again when there is space."""
    async with file.open() as log:
        await log.append(an_append("a"))
        connection = writer_connection(log)
        connection.execute("PRAGMA max_page_count = 1")  # as many pages as there are: no new ones
        large = Write(CONTROL_STREAM, (a_pause("x" * 100_000),))
        with pytest.raises(LogUnavailableError) as refused:
            await log.append(an_append(writes=(large,)))
        assert sqlite_code(refused.value) == sqlite3.SQLITE_FULL
        assert (await log.head()).position == 2
        connection.execute("PRAGMA max_page_count = 1000000")
        assert await log.append(an_append(writes=(large,))) == Appended(3, 3)


async def test_a_read_only_file_is_refused(file: SQLiteBackend) -> None:
    """A log in a read-only file refuses appends as unavailable, and can be read."""
    async with file.open() as log:
        writer_connection(log).execute("PRAGMA query_only = ON")
        with pytest.raises(LogUnavailableError) as refused:
            await log.append(an_append())
        assert sqlite_code(refused.value) == sqlite3.SQLITE_READONLY
        assert (await log.head()).position == 1


async def test_a_locked_file_is_waited_for(file: SQLiteBackend) -> None:
    """An append waits for another process's transaction, and is then recorded."""
    async with file.open() as log:
        other = sqlite3.connect(file.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(log.append(an_append()))
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        other.execute("ROLLBACK")
        other.close()
        assert await waiting == Appended(2, 2)


async def test_a_row_the_head_does_not_know_is_an_integrity_error(file: SQLiteBackend) -> None:
    """If there are rows after the head, an append is refused and nothing is overwritten."""
    async with file.open() as log:
        await log.append(an_append("a"))
        rows = [row async for page in log.read() for row in page]
        forged = (3, "intent:z", 1, *file.row(rows[1])[3:6], b"z" * 16, *file.row(rows[1])[7:])
        file.insert(forged)
        with pytest.raises(IntegrityError, match="refuses"):
            await log.append(an_append("a"))


async def test_the_log_is_readable_by_hand(file: SQLiteBackend) -> None:
    """`sqlite3` shows meta and state as JSON text."""
    async with file.open() as log:
        await log.append(an_append("a"))
    connection = sqlite3.connect(file.path)
    meta, state, kind = connection.execute("SELECT meta, state, typeof(state) FROM log WHERE position = 2").fetchone()
    connection.close()
    assert kind == "text"
    assert json.loads(meta)["actor"] == "strategy:test"
    assert json.loads(state) == {"generation": 2, "intent_id": "a", "requested_at_ns": 5}


async def test_the_checker_verifies_the_file(file: SQLiteBackend) -> None:
    """The stand-alone checker accepts a log, and names the first bad position of a tampered one."""
    async with file.open() as log:
        for _ in range(4):
            await log.append(an_append("a", count=2))
        head = await log.head()
    good = checked(file.path)
    assert (good.returncode, good.stdout.split()) == (0, ["9", head.chain_hash.hex()])
    file.update(6, "state", b'{"generation":3,"intent_id":"b","requested_at_ns":5}')
    bad = checked(file.path)
    assert (bad.returncode, bad.stderr.strip()) == (1, "bad: position 6")


async def test_opening_a_log_once_more_keeps_the_locks_of_the_first(file: SQLiteBackend) -> None:
    """Opening a log repeatedly keeps this process's locks: another process that opens and closes it does not
    remove the WAL, and later commits are visible to all.
    """
    async with file.open() as log:
        await log.append(an_append("a"))
        async with file.open():
            pass
        for position in (2, 3):
            assert await asyncio.to_thread(last_position, file.path) == position
            await log.append(an_append(f"b{position}"))


def last_position(path: Path) -> int:
    """Return the last position that a new process reads, which then closes the database."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "print(*c.execute('SELECT max(position) FROM log').fetchone()); c.close()"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True, timeout=60
    )
    return int(shown.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only inotify reports writes")
async def test_another_processes_commits_are_found_without_polling(
    file: SQLiteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write to the WAL by anyone makes a log check for commits, however far away its next poll is."""
    for name in ("POLL_INTERVAL_S_MIN", "POLL_INTERVAL_S_MAX"):
        monkeypatch.setattr(f"kernel.log.backends.sqlite.{name}", 3_600)
    async with file.open() as log, file.open() as other, asyncio.timeout(60):
        tail = log.tail(1)
        for _ in range(5):
            waiting = asyncio.ensure_future(anext(tail))
            while (
                not waiting.done()
            ):  # a commit may end after the check that its write caused, and is found by the next
                await other.append(an_append())


async def test_commits_are_found_where_nothing_reports_writes(
    file: SQLiteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a watch, tails see other processes' commits as well."""
    monkeypatch.setattr("kernel.log.backends.file_watch.FileWatch.arm", lambda watch: None)
    async with file.open() as log, file.open() as other, asyncio.timeout(60):
        tail = log.tail(1)
        for _ in range(3):
            waiting = asyncio.ensure_future(anext(tail))
            await other.append(an_append())
            await waiting
