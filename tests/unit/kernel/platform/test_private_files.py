"""Private files: created for one user alone, and refused where another user could have put or changed them."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel import open_log
from kernel.clock import SystemClock
from kernel.errors import LogUnavailableError, UnsafeFileError, ValidationError
from kernel.log.backends.sqlite_lease import FileLease, is_locked
from kernel.log.base import EventLog
from kernel.platform.private_files import check_database, check_directory, make_directory, open_private, replacing
from kernel.venues.paper.exchange import PaperExchange
from kernel.venues.paper.matching.config import PaperExchangeOptions
from kernel.venues.paper.matching.journal import Journal
from kernel.venues.paper.server import PaperServer
from projections.sql.sqlite import SQLiteTables
from replay.demo.processes import DemoProcesses
from replay.log_access.atomic_files import write_whole
from replay.readmodel.sync import sync_tables
from replay.transfer.backup import backup_log, restore_log
from replay.transfer.exporter import export_log
from replay.transfer.importer import import_log
from tests.commands import an_append

PRECIOUS = b"precious" * 100
CREATE = os.O_RDWR | os.O_CREAT
HELD = 3
LOCK = f"""
import fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x4000_0002)
except OSError:
    sys.exit({HELD})
"""
"""Locks the bytes that each connection to a SQLite database holds a shared lock on."""


@pytest.fixture
def no_umask() -> Iterator[None]:
    """A process whose umask hides nothing."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(directory: Path) -> dict[str, str]:
    """Of what is in a directory, by name."""
    return {path.name: oct(mode(path)) for path in directory.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def a_log(path: Path, *, create: bool = True) -> EventLog:
    return open_log(f"sqlite:///{path}", exchange_id="paper", create=create)


@pytest.mark.usefixtures("no_umask")
async def test_created_files_are_private(tmp_path: Path) -> None:
    """With umask 000 each file has mode 0600 and each directory 0700, SQLite's files included."""
    top = tmp_path / "made" / "for us"
    make_directory(top)
    os.close(open_private(top / "file", CREATE))
    write_whole(top / "text", "note")
    Journal(top / "journal").close()
    async with a_log(top / "kernel.db") as log:
        await log.append(an_append("a"))
        lease = FileLease(top / "kernel.db.lock")
        assert await lease.acquire()
        await sync_tables(log)
        await backup_log(log, top / "backup.db")
        await export_log(log, top / "export.jsonl")
        await import_log(top / "export.jsonl", f"sqlite:///{top}/imported.db", exchange_id="paper")
        await restore_log(top / "backup.db", f"sqlite:///{top}/restored.db", exchange_id="paper")
        found = modes(top)
        assert {"kernel.db-wal", "kernel.db-shm", "kernel.read.db", "restored.db", "imported.db"} <= found.keys()
        assert set(found.values()) == {"0o600"}
        await lease.release()
    assert [mode(path) for path in (top, top.parent)] == [0o700, 0o700]


@pytest.mark.usefixtures("no_umask")
async def test_only_this_user_can_connect_to_a_socket(tmp_path: Path) -> None:
    """With umask 000 the paper exchange's Unix socket has mode 0600, and it is refused where others could replace it."""
    path = tmp_path / "exchange.sock"
    server = PaperServer(PaperExchange(PaperExchangeOptions(), clock=SystemClock()))
    await server.start(str(path))
    assert mode(path) == 0o600
    await server.stop()
    os.chmod(tmp_path, 0o777)  # noqa: PTH101
    with pytest.raises(UnsafeFileError, match=f"{tmp_path} has mode 0777"):
        await server.start(str(path))
    assert modes(tmp_path) == {}


@pytest.mark.usefixtures("no_umask")
async def test_the_output_of_the_demos_processes_is_private(tmp_path: Path) -> None:
    """With umask 000 what a process of the demo writes to stderr has mode 0600."""
    async with DemoProcesses(tmp_path / "desk", None) as processes:
        await (await processes._start("keys", "--help")).wait()
    assert modes(tmp_path / "desk") == {"keys.err": "0o600"}


async def test_an_export_over_its_own_log_leaves_its_locks(tmp_path: Path) -> None:
    """It is refused without opening the database: closing it would drop the locks that keep the write-ahead log alive."""
    path = tmp_path / "kernel.db"
    async with a_log(path) as log:
        await log.append(an_append("a"))
        with pytest.raises(ValidationError, match="is a database"):
            await export_log(log, path)
        other = await asyncio.create_subprocess_exec(sys.executable, "-c", LOCK, str(path))
        assert await other.wait() == HELD


def test_readable_files_are_tightened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file with mode 0644 opens, has mode 0600 from then on, and is logged once."""
    path = tmp_path / "file"
    path.write_bytes(b"kept")
    path.chmod(0o644)
    for _ in range(2):
        descriptor = open_private(path, os.O_RDWR)
        assert os.read(descriptor, 9) == b"kept"
        os.close(descriptor)
    assert mode(path) == 0o600
    assert [record.levelname for record in caplog.records if str(path) in record.message] == ["WARNING"]


async def test_an_earlier_releases_log_opens_and_is_tightened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A log with mode 0644, as earlier releases created it, is tightened with its companion files."""
    path = tmp_path / "kernel.db"
    async with a_log(path) as log:
        await log.append(an_append("a"))
        for file in (path, tmp_path / "kernel.db-wal", tmp_path / "kernel.db-shm"):
            file.chmod(0o644)
        async with a_log(path, create=False) as again:
            assert (await again.head()).position == 2
            assert set(modes(tmp_path).values()) == {"0o600"}
    assert len([record for record in caplog.records if "was readable" in record.message]) == 1


@pytest.mark.parametrize("bits", [0o602, 0o606, 0o666])
async def test_writable_files_are_refused(tmp_path: Path, bits: int) -> None:
    """Locks, journals, logs and tables that others can write are refused with mode and remedy, and not changed."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    path.chmod(bits)
    with pytest.raises(UnsafeFileError, match=f"has mode {bits:04o}.*chmod go-w {path}"):
        open_private(path, os.O_RDONLY)
    with pytest.raises(UnsafeFileError):
        await FileLease(path).acquire()
    for use in (is_locked, Journal, a_log, SQLiteTables):
        with pytest.raises(UnsafeFileError):
            use(path)
    assert (modes(tmp_path), path.read_bytes()) == ({"file": oct(bits)}, b"")


async def test_an_unsafe_lock_file_leaves_unknown_who_leads(tmp_path: Path) -> None:
    """Views that ask whether a kernel leads get the error that they handle, with the remedy."""
    (tmp_path / "kernel.db.lock").touch()
    os.chmod(tmp_path / "kernel.db.lock", 0o666)  # noqa: PTH101
    async with a_log(tmp_path / "kernel.db") as log:
        with pytest.raises(LogUnavailableError, match=r"unknown: .*chmod go-w"):
            await log.lease_is_held()


async def test_no_symbolic_link_is_followed(tmp_path: Path) -> None:
    """A symbolic link is refused, and its target stays unchanged."""
    target = tmp_path / "target"
    target.write_bytes(PRECIOUS)
    for name, to in (("link", target), ("dangling", tmp_path / "nowhere")):
        link = tmp_path / name
        link.symlink_to(to)
        with pytest.raises(UnsafeFileError, match="symbolic link"):
            await FileLease(link).acquire()
        for use in (Journal, a_log, SQLiteTables):
            with pytest.raises((UnsafeFileError, LogUnavailableError)):
                use(link)
    write_whole(tmp_path / "link", "the link is replaced")
    assert (target.read_bytes(), (tmp_path / "nowhere").exists()) == (PRECIOUS, False)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_link_beside_a_database_is_refused(tmp_path: Path, suffix: str) -> None:
    """SQLite trusts the files beside a database, so they must be private too."""
    (tmp_path / f"kernel.db{suffix}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFileError, match=f"kernel.db{suffix} is a symbolic link"):
        a_log(tmp_path / "kernel.db")


def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    """A named pipe in place of a file is refused without blocking."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for flags in (os.O_RDONLY, CREATE):
        with pytest.raises(UnsafeFileError, match="not a regular file"):
            open_private(tmp_path / "pipe", flags)


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    """Nothing is opened or created where another user can replace it; in a sticky directory single files are safe."""
    home = tmp_path / "open"
    home.mkdir()
    home.chmod(0o777)
    for use in (Journal, a_log, SQLiteTables, lambda path: open_private(path, CREATE)):
        with pytest.raises(UnsafeFileError, match=f"{home} has mode 0777.*chmod go-w"):
            use(home / "file")
    assert [*home.iterdir()] == []
    home.chmod(0o1777)
    check_directory(home)
    with pytest.raises(UnsafeFileError, match="mode 1777"):
        check_directory(home, sticky_allowed=False)


def test_the_users_private_group_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group-writable directory is refused only if the user's group has other members."""
    tmp_path.chmod(0o770)
    user = pwd.getpwuid(os.geteuid())
    for name, members, allowed in ((user.pw_name, [], True), (user.pw_name, ["eve"], False), ("staff", [], False)):
        monkeypatch.setattr(
            pwd, "getpwuid", lambda uid: pwd.struct_passwd((*user[:3], tmp_path.stat().st_gid, *user[4:]))
        )
        monkeypatch.setattr(grp, "getgrgid", lambda gid, it=(name, "x", 0, members): grp.struct_group(it))
        if allowed:
            check_directory(tmp_path, sticky_allowed=False)
            continue
        with pytest.raises(UnsafeFileError):
            check_directory(tmp_path, sticky_allowed=False)


def test_companion_files_exist_in_a_sticky_directory(tmp_path: Path) -> None:
    """Where others can create files, SQLite's companion files are created before the database is opened."""
    home = tmp_path / "sticky"
    home.mkdir()
    home.chmod(0o1777)
    check_database(home / "kernel.db", create=True)
    names = {f"kernel.db{suffix}" for suffix in ("", "-wal", "-shm", "-journal")}
    assert modes(home) == dict.fromkeys(names, "0o600")


async def test_no_file_replaces_a_device_or_a_pipe(tmp_path: Path) -> None:
    """An export or a text written to `/dev/null` by root would break the host: pipes, sockets and devices are refused."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)  # as /dev/stdout is
    async with a_log(tmp_path / "kernel.db") as log:
        await log.append(an_append("a"))
        for path in (pipe, link):
            with pytest.raises(UnsafeFileError, match="is not a regular file"):
                await export_log(log, path)
            with pytest.raises(UnsafeFileError, match="is not a regular file"):
                write_whole(path, "text")
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert link.is_symlink()


def test_a_failed_replacement_changes_nothing(tmp_path: Path) -> None:
    """After an error the file is unchanged, and no partial file remains."""
    path = tmp_path / "file"
    write_whole(path, "old")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"new", "no bytes"])  # type: ignore[list-item]
    assert ([*tmp_path.iterdir()], path.read_text()) == ([path], "old")
