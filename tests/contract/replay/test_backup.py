"""A backup beside a running writer, and a log restored from it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kernel.errors import AlreadyExistsError, ConflictError, IntegrityError, NotFoundError, ValidationError
from kernel.log import EventLog, StoredRow, open_log
from replay import backup_log, restore_log
from replay.transparency.import_guard import TreeHeadGuard
from replay.transparency.tree_head_store import tree_head_name
from tests.commands import an_append
from tests.contract.backends import PostgresBackend, SQLiteBackend
from tests.notes import KEY, NEW_KEY, grow, rewrite

Database = SQLiteBackend | PostgresBackend


async def rows_of(log: EventLog) -> list[StoredRow]:
    """Return every row of a log."""
    return [row async for page in log.read() for row in page]


def names_in(directory: Path) -> set[str]:
    """Return the names in a directory, including hidden files."""
    return {item.name for item in directory.iterdir()}


async def a_log(database: Database, count: int = 9) -> EventLog:
    """A log with some events."""
    log = database.open()
    for number in range(count):
        await log.append(an_append(f"i-{number % 3}"))
    return log


async def test_a_restored_log_is_the_original(database: Database, tmp_path: Path) -> None:
    """A restored log has equal rows and an equal head, and accepts appends."""
    async with await a_log(database) as log:
        head = await backup_log(log, tmp_path / "backup")
        rows = await rows_of(log)
    url = f"sqlite:///{tmp_path}/back.db"
    assert await restore_log(tmp_path / "backup", url, exchange_id=database.exchange_id) == head
    async with open_log(url, exchange_id=database.exchange_id) as log:
        assert await rows_of(log) == rows
        assert (await log.append(an_append("i-0", expected=3))).first_position == head.position + 1


async def test_a_backup_beside_a_writer_is_a_consistent_prefix(database: Database, tmp_path: Path) -> None:
    """A backup made while a writer appends is a verified prefix of the log."""
    async with await a_log(database) as log:
        making = asyncio.ensure_future(backup_log(database.url, tmp_path / "b", exchange_id=database.exchange_id))
        appended = 0
        while not making.done():
            await log.append(an_append("busy"))
            appended += 1
        head = await making
        rows = await rows_of(log)
    assert appended
    assert 10 <= head.position <= len(rows)
    assert rows[head.position - 1].chain_hash == head.chain_hash
    await restore_log(tmp_path / "b", f"sqlite:///{tmp_path}/r.db", exchange_id=database.exchange_id)
    async with open_log(f"sqlite:///{tmp_path}/r.db", exchange_id=database.exchange_id) as copy:
        assert await rows_of(copy) == rows[: head.position]


async def test_nothing_is_overwritten(database: Database, tmp_path: Path) -> None:
    """A backup does not replace a file, and a restore does not replace a log."""
    (tmp_path / "there").write_text("mine")
    async with await a_log(database) as log:
        with pytest.raises(AlreadyExistsError, match="already exists and was not changed"):
            await backup_log(log, tmp_path / "there")
        await backup_log(log, tmp_path / "b")
        rows = await rows_of(log)
    with pytest.raises((AlreadyExistsError, ConflictError)):
        await restore_log(tmp_path / "b", database.url, exchange_id=database.exchange_id)
    async with database.open() as log:
        assert await rows_of(log) == rows
    assert (tmp_path / "there").read_text() == "mine"


async def test_a_damaged_log_makes_no_backup(database: Database, tmp_path: Path) -> None:
    """A changed row is found when the copy is checked, and no file is left."""
    async with await a_log(database) as log:
        database.update(5, "meta", b"{}")
        with pytest.raises(IntegrityError, match="position 5"):
            await backup_log(log, tmp_path / "b")
    assert not any(name.startswith((".b", "b")) for name in names_in(tmp_path))


async def test_a_damaged_backup_is_not_restored(tmp_path: Path) -> None:
    """A changed row in a backup is found before there is a log."""
    database = SQLiteBackend("x", tmp_path / "log.db")
    async with await a_log(database) as log:
        await backup_log(log, tmp_path / "b")
    SQLiteBackend("x", tmp_path / "b").update(5, "meta", b"{}")
    with pytest.raises(IntegrityError, match="position 5"):
        await restore_log(tmp_path / "b", f"sqlite:///{tmp_path}/r.db", exchange_id="x")
    (tmp_path / "c").write_bytes((tmp_path / "b").read_bytes()[:9000])
    with pytest.raises(IntegrityError):
        await restore_log(tmp_path / "c", f"sqlite:///{tmp_path}/r.db", exchange_id="x")
    assert not any("r.db" in name for name in names_in(tmp_path))


async def test_the_write_ahead_log_of_a_backup_belongs_to_it(tmp_path: Path) -> None:
    """A backup with a write-ahead log beside it is restored completely."""
    database = SQLiteBackend("x", tmp_path / "log.db")
    async with await a_log(database) as log:
        await backup_log(log, tmp_path / "b")
    with closing(sqlite3.connect(tmp_path / "b")) as held:
        held.execute("SELECT count(*) FROM log").fetchone()
        async with open_log(f"sqlite:///{tmp_path}/b", exchange_id="x") as log:
            await log.append(an_append("later"))
        assert "b-wal" in names_in(tmp_path)
        head = await restore_log(tmp_path / "b", f"sqlite:///{tmp_path}/r.db", exchange_id="x")
    assert head.position == 11


async def test_an_impossible_restore_is_an_error_with_a_remedy(tmp_path: Path, postgres_url: str) -> None:
    """A missing file, another account's log, and a SQLite file for PostgreSQL are errors with a remedy."""
    database = SQLiteBackend("x", tmp_path / "log.db")
    async with await a_log(database) as log:
        await backup_log(log, tmp_path / "b")
    with pytest.raises(NotFoundError, match="absent does not exist"):
        await restore_log(tmp_path / "absent", f"sqlite:///{tmp_path}/r.db", exchange_id="x")
    with pytest.raises(ConflictError, match="'x'"):
        await restore_log(tmp_path / "b", f"sqlite:///{tmp_path}/r.db", exchange_id="y")
    with pytest.raises(ValidationError, match="orderctl export --log sqlite:"):
        await restore_log(tmp_path / "b", postgres_url, exchange_id="x")
    assert not any("r.db" in name for name in names_in(tmp_path))


async def test_a_canceled_backup_leaves_nothing(database: Database, tmp_path: Path) -> None:
    """A backup canceled while it is written leaves no file."""
    async with await a_log(database) as log:
        making = asyncio.ensure_future(backup_log(log, tmp_path / "b"))
        while not any(name.startswith(".b") for name in names_in(tmp_path)):
            await asyncio.sleep(0)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
    assert not any(name.startswith((".b", "b")) for name in names_in(tmp_path))


async def backed_up(database: Database, tmp_path: Path) -> tuple[int, int]:
    """Back up a log, append to it, and sign a tree head at both positions; return the positions."""
    async with await a_log(database) as log:
        await grow(log, 1, into=tmp_path / "notes")
        head = await backup_log(log, tmp_path / "backup")
        await grow(log, 3, into=tmp_path / "notes")
        return head.position, (await log.head()).position


async def test_a_backup_older_than_the_newest_tree_head_is_reported(database: Database, tmp_path: Path) -> None:
    """An older backup of the signed log is restored, and the missing positions are reported; a current one misses none."""
    backup, end = await backed_up(database, tmp_path)
    held = TreeHeadGuard(tmp_path / "notes", [KEY.verifier])
    url = f"sqlite:///{tmp_path}/back.db"
    head = await restore_log(tmp_path / "backup", url, exchange_id=database.exchange_id, notes=held)
    assert head.position == backup
    assert held.lacks is not None
    assert (held.lacks.position, held.lacks.last_position) == (backup + 1, end)
    (tmp_path / "notes" / tree_head_name(end)).unlink()
    again = TreeHeadGuard(tmp_path / "notes", [KEY.verifier])
    url = f"sqlite:///{tmp_path}/again.db"
    await restore_log(tmp_path / "backup", url, exchange_id=database.exchange_id, notes=again)
    assert again.lacks is None


async def test_a_backup_that_differs_from_its_tree_heads_is_rejected(database: Database, tmp_path: Path) -> None:
    """A rewritten backup, or one without a trusted tree head, is not restored."""
    async with await a_log(database) as log:
        await grow(log, 1, into=tmp_path / "notes")
        await rewrite(database, log, 4)
    async with database.open() as log:
        await backup_log(log, tmp_path / "backup")
    for key, message in (
        (KEY, "from the first event on it was rewritten"),
        (NEW_KEY, "does not match the signed tree heads"),
    ):
        held = TreeHeadGuard(tmp_path / "notes", [key.verifier])
        with pytest.raises(IntegrityError, match=message):
            await restore_log(
                tmp_path / "backup", f"sqlite:///{tmp_path}/back.db", exchange_id=database.exchange_id, notes=held
            )
    with pytest.raises(ValidationError, match="--key"):
        await restore_log(
            tmp_path / "backup",
            f"sqlite:///{tmp_path}/back.db",
            exchange_id=database.exchange_id,
            notes=TreeHeadGuard(tmp_path / "notes", []),
        )
    assert not (tmp_path / "back.db").exists()
