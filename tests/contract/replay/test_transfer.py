"""Export and import of a log: the same bytes, or nothing at all."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.persistence import StoredEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.clock import SeededIds, SystemClock
from kernel.errors import (
    AlreadyExistsError,
    ConflictError,
    FencedError,
    IntegrityError,
    KernelError,
    NotFoundError,
    SchemaError,
    ValidationError,
)
from kernel.events import CONTROL_STREAM, LeaderElected
from kernel.log import Append, EventLog, LogSettings, StoredRow, Write, open_log
from kernel.log.backends.library import LibraryRecorder
from kernel.log.backends.memory import MemoryRecorder
from kernel.log.engine.jsonl_file import reading
from kernel.log.engine.recorder import Identity
from kernel.log.factory import LogFactory
from kernel.models import Evidence
from replay.transfer.exporter import export_log
from replay.transfer.importer import import_log, restore_rows
from tests.commands import a_pause, an_append, fresh_command_id
from tests.contract.backends import Backend, PostgresBackend, SQLiteBackend
from tests.contract.processes import read_line, running

_names = itertools.count(1)


async def rows_of(log: EventLog) -> list[StoredRow]:
    """Return every row of a log."""
    return [row async for page in log.read() for row in page]


def names_in(directory: Path) -> set[str]:
    """Return the names in a directory, including hidden files."""
    return {item.name for item in directory.iterdir()}


def pausing(reason: str) -> Append:
    """An append with free text in its payload and its envelope."""
    write = Write(CONTROL_STREAM, (a_pause(reason),))
    return Append(fresh_command_id(), (write,), f"operator:{reason}", Evidence.OPERATOR)


async def memory_copy(path: Path) -> EventLog:
    """Import an export into a memory log."""
    recorder = MemoryRecorder()
    with reading(str(path)) as file:
        restore_rows(recorder, Identity(file.header.exchange_id, file.header.log_id, 1), file.pages())
        opener = LogFactory(file.header.exchange_id, SystemClock(), SeededIds(), LogSettings(), False)
    return opener.memory(recorder)


async def a_log(backend: Backend, count: int = 5) -> EventLog:
    """A log with events of several streams, including an election."""
    log = backend.open(settings=LogSettings(page_rows=3))
    for number in range(count):
        await log.append(an_append(f"i-{number % 3}", count=1 + number % 2))
    election = Write(CONTROL_STREAM, (LeaderElected(epoch=1, holder="k"),))
    await log.append(Append(fresh_command_id(), (election,), "kernel", Evidence.COMMAND, epoch=1, elects=True))
    await log.append(pausing("größer \x00 \u2028 \U0001f980 \"'\\ \r\n"))
    return log


@pytest.mark.parametrize("target", ["sqlite", "postgres", "memory"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
async def test_an_imported_log_is_equal(
    backend: Backend, target: str, suffix: str, postgres_url: str, tmp_path: Path
) -> None:
    """Between any two backends rows and head are equal, and so is the file of another export."""
    first, second = tmp_path / f"a.jsonl{suffix}", tmp_path / f"b.jsonl{suffix}"
    async with await a_log(backend) as log:
        await export_log(log, first)
        rows, head = await rows_of(log), await log.head()
    if isinstance(backend, PostgresBackend) and target == "postgres":
        backend.execute("DROP SCHEMA {schema} CASCADE")
    url = postgres_url if target == "postgres" else f"sqlite:///{tmp_path}/moved.db"
    if target != "memory":
        assert await import_log(first, url, exchange_id=backend.exchange_id) == head
    moved = await memory_copy(first) if target == "memory" else open_log(url, exchange_id=backend.exchange_id)
    async with moved:
        assert (await rows_of(moved), await moved.head(), head.epoch) == (rows, head, 1)
        await export_log(moved, second)
    assert first.read_bytes() == second.read_bytes()


async def test_an_imported_log_accepts_appends(database: SQLiteBackend | PostgresBackend, tmp_path: Path) -> None:
    """Command ids, stream versions, the leader's epoch and the head are those of the original log."""
    known = an_append("a")
    async with open_log("memory://", exchange_id=database.exchange_id) as log:
        await log.append(known)
        await log.append(an_append("a", count=2))
        election = Write(CONTROL_STREAM, (LeaderElected(epoch=1, holder="k"),))
        await log.append(Append(fresh_command_id(), (election,), "kernel", Evidence.COMMAND, epoch=1, elects=True))
        await export_log(log, tmp_path / "x.jsonl")
    await import_log(tmp_path / "x.jsonl", database.url, exchange_id=database.exchange_id)
    async with database.open() as log:
        assert (await log.append(known)).duplicate
        with pytest.raises(ConflictError, match="at version 3"):
            await log.append(an_append("a", expected=1))
        with pytest.raises(FencedError, match="epoch 1"):
            await log.append(an_append("a", epoch=2))
        appended = await log.append(an_append("a", expected=3, epoch=1))
        assert appended.first_position == 6
        assert [event.version for event in await log.read_stream("intent:a")] == [1, 2, 3, 4]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(reasons=st.lists(TEXT, max_size=12), big=st.integers(0, 300_000))
def test_any_text_round_trips(reasons: list[str], big: int, postgres_url: str, tmp_path: Path) -> None:
    """With any texts, memory to PostgreSQL to SQLite to memory gives equal files at each step."""
    exchange_id = f"moving-{next(_names)}"
    home = tmp_path / exchange_id
    home.mkdir()

    async def travel() -> set[bytes]:
        async with open_log("memory://", exchange_id=exchange_id) as log:
            for reason in [*reasons, "x" * big]:
                await log.append(pausing(reason))
            await export_log(log, home / "0.jsonl")
        for stop, url in enumerate((postgres_url, f"sqlite:///{home}/x.db"), start=1):
            await import_log(home / f"{stop - 1}.jsonl", url, exchange_id=exchange_id)
            await export_log(url, home / f"{stop}.jsonl", exchange_id=exchange_id)
        async with await memory_copy(home / "2.jsonl") as log:
            await export_log(log, home / "3.jsonl")
        return {(home / f"{stop}.jsonl").read_bytes() for stop in range(4)}

    assert len(asyncio.run(travel())) == 1


async def test_an_export_up_to_a_position_is_a_prefix(backend: Backend, tmp_path: Path) -> None:
    """An export up to a position is a prefix of the whole one and can be imported."""
    async with await a_log(backend) as log:
        written = await export_log(log, tmp_path / "part.jsonl", upto=4)
        rows = await rows_of(log)
        with pytest.raises(ValidationError, match="position `99`: must be between 0 and 10"):
            await export_log(log, tmp_path / "more.jsonl", upto=99)
    assert (written.last_position, written.chain_hash) == (4, rows[3].chain_hash)
    url = f"sqlite:///{tmp_path}/part.db"
    await import_log(tmp_path / "part.jsonl", url, exchange_id=backend.exchange_id)
    async with open_log(url, exchange_id=backend.exchange_id) as part:
        assert await rows_of(part) == rows[:4]


# ------------------------------------------------------------------------------------------------------ what is refused
def changed(number: int, change: Callable[[dict[str, Any]], object]) -> Callable[[list[bytes]], list[bytes]]:
    """Change the object in a line of the file."""

    def change_line(lines: list[bytes]) -> list[bytes]:
        said = json.loads(lines[number - 1])
        change(said)
        lines[number - 1] = json.dumps(said).encode() + b"\n"
        return lines

    return change_line


def column(name: str, value: Any) -> Callable[[list[bytes]], list[bytes]]:
    """Change a column of the third row."""
    return changed(4, lambda said: said.update({name: value}))


def swapped(lines: list[bytes]) -> list[bytes]:
    """Swap two rows."""
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


DAMAGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "position": (column("position", 99), "line 4: position 3"),
    "stream_id": (column("stream_id", "intent:z"), "line 4: position 3: a column was changed"),
    "version": (column("version", 7), "line 4: position 3: a column was changed"),
    "topic": (column("topic", "IntentDeleted"), "line 4: position 3: a column was changed"),
    "schema_version": (column("schema_version", 2), "line 4: position 3: a column was changed"),
    "recorded_at_ns": (column("recorded_at_ns", 1), "line 4: position 3: a column was changed"),
    "command_id": (column("command_id", "00" * 16), "line 4: position 3: a column was changed"),
    "command_index": (column("command_index", 3), "line 4: position 3: a column was changed"),
    "meta": (column("meta", "{}"), "line 4: position 3: a column was changed"),
    "state": (column("state", "{}"), "line 4: position 3: a column was changed"),
    "leaf_hash": (column("leaf_hash", "00" * 32), "line 4: position 3: a column was changed"),
    "chain_hash": (column("chain_hash", "00" * 32), "line 4: position 3: the chain hash does not follow"),
    "number as text": (column("version", "1"), "line 4: the row is malformed"),
    "number too large": (column("version", 2**63), "line 4: the row is malformed"),
    "number below zero": (column("version", -1), "line 4: the row is malformed"),
    "number that is true": (column("version", True), "line 4: the row is malformed"),
    "text as number": (column("state", 1), "line 4: the row is malformed"),
    "no hex": (column("leaf_hash", "zz"), "line 4: the row is malformed"),
    "hex as number": (column("leaf_hash", 1), "line 4: the row is malformed"),
    "column lost": (changed(4, lambda said: said.pop("meta")), "line 4: the row is malformed"),
    "column too many": (column("more", 1), "line 4: the row is malformed"),
    "row lost": (lambda lines: [*lines[:3], *lines[4:]], "line 4: position 3: this event is missing"),
    "row doubled": (lambda lines: [*lines[:4], lines[3], *lines[4:]], "line 5: position 4"),
    "rows swapped": (swapped, "line 4: position 3"),
    "end cut off": (lambda lines: lines[:-2], "line 9: the file is truncated: positions 8 to 9 are"),
    "cut in a line": (lambda lines: [*lines[:-1], lines[-1][:30]], "line 10: the row is malformed"),
    "all rows lost": (lambda lines: lines[:1], "line 2: the file is truncated: positions 1 to 9 are"),
    "a line too many": (lambda lines: [*lines, lines[-1]], "line 11: there are rows after position 9"),
    "empty line": (lambda lines: [*lines[:3], b"\n", *lines[3:]], "line 4: the row is malformed"),
    "no json": (lambda lines: [*lines[:3], b"nonsense\n", *lines[3:]], "line 4: the row is malformed"),
    "no utf-8": (lambda lines: [*lines[:3], b'{"a":"\xff"}\n', *lines[3:]], "line 4: the row is malformed"),
    "a list": (lambda lines: [*lines[:3], b"[]\n", *lines[3:]], "line 4: the row is malformed"),
    "another end": (changed(1, lambda said: said.update(chain_hash="00" * 32)), "line 11: the rows do not end at"),
    "another beginning": (changed(1, lambda said: said.update(chain_hash_before="11" * 32)), "line 2: position 1"),
    "another length": (changed(1, lambda said: said.update(last_position=8)), "line 10: there are rows after position 8"),
    "another log id": (changed(1, lambda said: said.update(log_id="0" * 16)), "position 1: this is log"),
    "no length": (changed(1, lambda said: said.pop("last_position")), "line 1: the header is malformed"),
    "backwards": (changed(1, lambda said: said.update(first_position=5, last_position=3)), "line 1: positions 5 to 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
async def test_a_damaged_file_is_rejected_and_nothing_is_left(name: str, tmp_path: Path) -> None:
    """The error for any change names the line, and no new file is left."""
    damage, message = DAMAGES[name]
    path = tmp_path / "x.jsonl"
    async with open_log("memory://", exchange_id="x") as log:
        for _ in range(8):
            await log.append(an_append("a"))
        await export_log(log, path)
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))

    with pytest.raises(IntegrityError) as caught:
        await import_log(path, f"sqlite:///{tmp_path}/y.db", exchange_id="x")

    assert message in str(caught.value)
    assert names_in(tmp_path) == {"x.jsonl"}


@pytest.mark.parametrize("kept", [0.5, 0.9])
async def test_a_truncated_compressed_file_is_rejected(kept: float, tmp_path: Path) -> None:
    """The error names the line that cannot be read."""
    path = tmp_path / "x.jsonl.gz"
    async with open_log("memory://", exchange_id="x") as log:
        for _ in range(50):
            await log.append(an_append("a"))
        await export_log(log, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])

    with pytest.raises(IntegrityError, match=r"line \d+: the compressed file is damaged"):
        await import_log(path, f"sqlite:///{tmp_path}/y.db", exchange_id="x")


async def test_a_changed_compressed_file_is_rejected(tmp_path: Path) -> None:
    """A changed byte is found by the compression or by the hashes, and nothing is left."""
    path = tmp_path / "x.jsonl.gz"
    async with open_log("memory://", exchange_id="x") as log:
        for _ in range(50):
            await log.append(an_append("a"))
        await export_log(log, path)
    whole = path.read_bytes()
    for at in range(len(whole) // 4, len(whole), len(whole) // 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with pytest.raises((IntegrityError, ValidationError, ConflictError)):
            await import_log(path, f"sqlite:///{tmp_path}/y.db", exchange_id="x")
    assert names_in(tmp_path) == {"x.jsonl.gz"}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", ValidationError),
        (b"nonsense", ValidationError),
        (b"[1]\n", ValidationError),
        (b'{"format":"something"}\n', ValidationError),
        (b"\x1f\x8bnot really", IntegrityError),
        (gzip.compress(b"nonsense", mtime=0), ValidationError),
        (b'{"format":"exchange-kernel-log","format_version":2}\n', SchemaError),
    ],
)
async def test_a_file_that_is_not_an_export_is_rejected(
    content: bytes, kind: type[KernelError], tmp_path: Path
) -> None:
    """A file of another kind or version is an error that names the file."""
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(kind, match=r"x\.jsonl"):
        await import_log(tmp_path / "x.jsonl", f"sqlite:///{tmp_path}/y.db", exchange_id="x")


async def test_a_part_of_a_log_is_not_imported(tmp_path: Path) -> None:
    """An export that does not begin with position 1 is rejected, and nothing is left."""
    path = tmp_path / "x.jsonl"
    async with open_log("memory://", exchange_id="x") as log:
        await log.append(an_append("a", count=4))
        await export_log(log, path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([changed(1, lambda said: said.update(first_position=3))(lines)[0], *lines[3:]]))
    with pytest.raises(ValidationError, match="positions 3 to 5, but an import needs an export from position 1 on"):
        await import_log(path, f"sqlite:///{tmp_path}/part.db", exchange_id="x")
    assert names_in(tmp_path) == {"x.jsonl"}


async def test_rows_go_into_an_empty_log_only(database: SQLiteBackend | PostgresBackend, tmp_path: Path) -> None:
    """An existing log is not changed."""
    async with await a_log(database) as log:
        await export_log(log, tmp_path / "x.jsonl")
        rows = await rows_of(log)
    with pytest.raises(
        (AlreadyExistsError, ConflictError), match=r"already exists and was not changed|into an empty log only"
    ):
        await import_log(tmp_path / "x.jsonl", database.url, exchange_id=database.exchange_id)
    async with database.open() as log:
        assert await rows_of(log) == rows


async def test_rows_go_into_an_empty_memory_only(tmp_path: Path) -> None:
    """An existing memory log is not changed, and a failed import leaves nothing."""
    path = tmp_path / "x.jsonl"
    async with open_log("memory://", exchange_id="x") as log:
        await log.append(an_append("a"))
        await export_log(log, path)
    recorder = MemoryRecorder()
    with reading(str(path)) as file, pytest.raises(IntegrityError, match="this is log"):
        restore_rows(recorder, Identity("x", "0" * 16, 1), file.pages())
    assert (recorder.rows, recorder.head().position, recorder.identity()) == ([], 0, None)
    with reading(str(path)) as file:
        about = file.header
        restore_rows(recorder, Identity("x", about.log_id, 1), file.pages())
    with reading(str(path)) as file, pytest.raises(ConflictError, match="2 events"):
        restore_rows(recorder, Identity("x", about.log_id, 1), file.pages())


async def test_another_exchange_id_is_rejected(database: SQLiteBackend | PostgresBackend, tmp_path: Path) -> None:
    """An export is imported only for its own exchange id."""
    async with open_log("memory://", exchange_id="mine") as log:
        await export_log(log, tmp_path / "x.jsonl")
    with pytest.raises(ConflictError, match="'mine'"):
        await import_log(tmp_path / "x.jsonl", database.url, exchange_id=database.exchange_id)
    with pytest.raises(NotFoundError):
        open_log(database.url, exchange_id=database.exchange_id, create=False)


async def test_an_import_needs_a_persistent_place_and_a_file(tmp_path: Path) -> None:
    """A memory URL, a missing file and a missing directory are errors."""
    with pytest.raises(ValidationError, match="is not persistent"):
        await import_log(tmp_path / "x.jsonl", "memory://", exchange_id="x")
    with pytest.raises(NotFoundError, match=r"x\.jsonl does not exist"):
        await import_log(tmp_path / "x.jsonl", f"sqlite:///{tmp_path}/y.db", exchange_id="x")
    with pytest.raises(NotFoundError, match="does not exist: create it first"):
        await import_log(tmp_path / "x.jsonl", f"sqlite:///{tmp_path}/z/y.db", exchange_id="x")


async def test_a_changed_log_is_not_exported(database: SQLiteBackend | PostgresBackend, tmp_path: Path) -> None:
    """An export of a changed log fails with the position and leaves no file."""
    async with await a_log(database) as log:
        database.update(3, "meta", b"{}")
        with pytest.raises(IntegrityError, match="position 3"):
            await export_log(log, tmp_path / "x.jsonl.gz")
    assert not any("x.jsonl" in name for name in names_in(tmp_path))


async def test_an_export_replaces_an_export_but_no_database(tmp_path: Path) -> None:
    """A database is never overwritten, and an unknown compression is an error."""
    async with open_log(f"sqlite:///{tmp_path}/x.db", exchange_id="x") as log:
        await export_log(log, tmp_path / "x.jsonl")
        await log.append(an_append("a"))
        assert (await export_log(log, tmp_path / "x.jsonl")).last_position == 2
        with pytest.raises(ValidationError, match="is a database"):
            await export_log(log, tmp_path / "x.db")
        with pytest.raises(ValidationError, match="zst"):
            await export_log(log, tmp_path / "x.jsonl.zst")
        assert (await log.head()).position == 2


async def test_foreign_json_is_kept(backend: Backend, tmp_path: Path) -> None:
    """Events written by the event-sourcing library keep their key order, spaces and spelling."""
    state = '{"b": 1,  "a":[1.50, "\\u00e9é"], "b":2}'.encode()
    async with backend.open() as log:
        recorder: Any = getattr(log, "recorder", None)
        theirs = StoredEvent("theirs", 0, "Somebody:Theirs", state)
        await asyncio.to_thread(LibraryRecorder(recorder).insert_events, [theirs])
        await export_log(log, tmp_path / "x.jsonl")
    url = f"sqlite:///{tmp_path}/back.db"
    await import_log(tmp_path / "x.jsonl", url, exchange_id=backend.exchange_id)
    async with open_log(url, exchange_id=backend.exchange_id) as back:
        assert [row.state async for rows in back.read(1) for row in rows] == [state]


# --------------------------------------------------------------------------------------------------- what is interrupted
async def half_of(log: EventLog, tmp_path: Path) -> tuple[Path, Path, bytes]:
    """Return an export of several pages, a pipe to import from, and the first half of its lines."""
    path, pipe = tmp_path / "x.jsonl", tmp_path / "pipe"
    for _ in range(40):
        await log.append(an_append("a", count=100))
    await export_log(log, path)
    os.mkfifo(pipe)
    lines = path.read_bytes().splitlines(keepends=True)
    return path, pipe, b"".join(lines[:3000])


async def test_a_canceled_import_leaves_nothing(database: SQLiteBackend | PostgresBackend, tmp_path: Path) -> None:
    """An import canceled in the middle ends with its worker thread and leaves no log."""
    async with open_log("memory://", exchange_id=database.exchange_id) as log:
        path, pipe, half = await half_of(log, tmp_path)
    begun = asyncio.Event()
    working = asyncio.ensure_future(
        import_log(pipe, database.url, exchange_id=database.exchange_id, progress=lambda *_: begun.set())
    )
    with suppress(BrokenPipeError), await asyncio.to_thread(pipe.open, "wb") as feed:
        await asyncio.to_thread(feed.write, half)
        await begun.wait()
        working.cancel()
        await asyncio.sleep(0)
        assert not working.done()
        await asyncio.to_thread(feed.write, path.read_bytes()[len(half) :])  # it could be whole, and is not wanted
    with pytest.raises(asyncio.CancelledError):
        await working
    with pytest.raises(NotFoundError):
        open_log(database.url, exchange_id=database.exchange_id, create=False)


IMPORT = """
import asyncio, sys
from replay import import_log

told = lambda done, total: print(done, flush=True)
asyncio.run(import_log(sys.argv[1], sys.argv[2], exchange_id=sys.argv[3], progress=told))
"""


async def test_a_killed_import_leaves_no_log(database: SQLiteBackend | PostgresBackend, tmp_path: Path) -> None:
    """After SIGKILL in the middle there is no log, and another import succeeds."""
    async with open_log("memory://", exchange_id=database.exchange_id) as log:
        path, pipe, half = await half_of(log, tmp_path)
        head = await log.head()
    async with running(IMPORT, str(pipe), database.url, database.exchange_id) as process:
        with await asyncio.to_thread(pipe.open, "wb") as feed:
            await asyncio.to_thread(feed.write, half)
            assert await read_line(process) == "1000"
            process.kill()
            process.wait()
    with pytest.raises(NotFoundError):
        open_log(database.url, exchange_id=database.exchange_id, create=False)
    assert await import_log(path, database.url, exchange_id=database.exchange_id) == head
