"""Starting from a checkpoint, on both databases: only later events are folded, and a wrong checkpoint does no harm."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kernel import EventSourcedKernel
from kernel.errors import IntegrityError
from kernel.log import EventLog
from projections import State
from projections.checkpoint import CheckpointFiles
from replay import as_of, diff, open_kernel
from replay.log_access.checkpoints import checkpoint_files, restored_state
from replay.log_access.log_reader import fold
from tests.commands import an_append
from tests.contract.backends import PostgresBackend, SQLiteBackend

Database = SQLiteBackend | PostgresBackend
EVERY = 5


@asynccontextmanager
async def a_kernel(log: EventLog, directory: Path) -> AsyncIterator[EventSourcedKernel]:
    """A kernel that writes a checkpoint every five events."""
    async with open_kernel(log, checkpoint_dir=directory, checkpoint_every_events=EVERY) as kernel:
        yield kernel


async def grown(database: Database, directory: Path, *, events: int = 12) -> CheckpointFiles:
    """A log of 13 events that a kernel has read, and its checkpoints."""
    async with database.open() as log:
        for _ in range(events):
            await log.append(an_append("a"))
        async with a_kernel(log, directory):
            pass
        return CheckpointFiles(directory, log.log_id)


async def folded_from_the_beginning(log: EventLog) -> str:
    return (await fold(log, State())).digest()


async def test_events_before_the_checkpoint_are_not_read(database: Database, tmp_path: Path) -> None:
    """A kernel that starts from a checkpoint does not read earlier events: a change of them goes unnoticed."""
    files = await grown(database, tmp_path)
    assert len(files.paths()) == 1
    database.update(2, "meta", b"{}")
    async with database.open() as log, a_kernel(log, tmp_path) as kernel:
        assert kernel.state.position == 13
    with pytest.raises(IntegrityError):
        async with database.open() as log, open_kernel(log, checkpoint_every_events=0):
            raise AssertionError("position 2 can't be folded")


async def test_a_start_from_a_checkpoint_gives_the_same_state(database: Database, tmp_path: Path) -> None:
    """Events after the checkpoint are folded on top, which gives the state of a fold of everything."""
    await grown(database, tmp_path)
    async with database.open() as log:
        for _ in range(3):
            await log.append(an_append("b"))
        async with a_kernel(log, tmp_path) as kernel:
            assert kernel.state.position == 16
            assert kernel.state.digest() == await folded_from_the_beginning(log)  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", ["chain_hash", "code_hash", "log_id", "position", "records"])
async def test_a_wrong_checkpoint_is_skipped(database: Database, tmp_path: Path, wrong: str) -> None:
    """A checkpoint of another history, fold version or log, or a changed one, is skipped, and the log is folded."""
    files = await grown(database, tmp_path)
    (path,) = files.paths()
    first, rest = path.read_bytes().split(b"\n", 1)
    header = json.loads(first)
    header[wrong] = 1 if isinstance(header[wrong], int) else "0" * len(header[wrong])
    path.write_bytes(json.dumps(header).encode() + b"\n" + rest)
    async with database.open() as log:
        assert (await restored_state(log, files)).position == 0
        async with a_kernel(log, tmp_path) as kernel:
            assert kernel.state.digest() == await folded_from_the_beginning(log)  # type: ignore[attr-defined]


async def test_an_older_checkpoint_is_used_if_the_newest_is_damaged(database: Database, tmp_path: Path) -> None:
    """The previous checkpoint is used if the newest one is damaged."""
    files = await grown(database, tmp_path)
    await grown(database, tmp_path, events=EVERY)
    newest, older = files.paths()
    newest.write_bytes(newest.read_bytes()[:-9])
    async with database.open() as log:
        assert (await restored_state(log, files)).position == 13
        assert (await restored_state(log, files, upto=12)).position == 0
    assert older.exists()


async def test_a_running_kernel_writes_checkpoints(database: Database, tmp_path: Path) -> None:
    """A running kernel writes a checkpoint every so many events."""
    async with database.open() as log, a_kernel(log, tmp_path) as kernel:
        files = CheckpointFiles(tmp_path, log.log_id)
        for _ in range(4 * EVERY):
            appended = await log.append(an_append("a"))
            await kernel.state.reached(appended.last_position)
    assert len(files.paths()) == 2
    async with database.open() as log:
        assert (await restored_state(log, files)).position > 2 * EVERY


async def test_a_kernel_works_without_a_checkpoint_directory(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A kernel that cannot write checkpoints works, and logs it."""
    (tmp_path / "file").write_text("in the way")
    await grown(database, tmp_path / "file")
    assert "cannot write the checkpoint" in caplog.text


async def test_a_kernel_works_with_an_impossible_checkpoint_directory(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory that cannot be looked at, such as one below a file, costs a line in the log and nothing else."""
    (tmp_path / "file").touch()
    async with database.open() as log:
        await log.append(an_append("a"))
        async with a_kernel(log, tmp_path / "file" / "checkpoints") as kernel:
            assert kernel.state.position == 2
    assert "no checkpoint is used: [Errno 20] Not a directory" in caplog.text


async def test_the_place_of_checkpoints(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are beside a SQLite file, in the user's cache for a server, or in the given directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    async with database.open() as log:
        found, given = checkpoint_files(log), checkpoint_files(log, tmp_path / "here")
    assert found is not None
    assert given is not None
    beside = tmp_path / "log.db.checkpoints"
    assert found.directory == (beside if isinstance(database, SQLiteBackend) else tmp_path / "cache/exchange-kernel")
    assert given.directory == tmp_path / "here"


async def test_as_of_and_diff_use_a_given_checkpoint_directory(database: Database, tmp_path: Path) -> None:
    """`as_of` and `diff` find checkpoints in another directory, and fold only later events."""
    directory = tmp_path / "elsewhere"
    await grown(database, directory)
    async with database.open() as log:
        head = (await log.append(an_append("a"))).last_position
        whole = await as_of(log)
        folded: list[int] = []

        def note(done: int, total: int) -> None:
            folded.append(total)

        found = await as_of(log, checkpoint_dir=directory, progress=note)
        assert (found.digest(), folded) == (whole.digest(), [1])
        database.update(3, "meta", b"{}")
        assert (await diff(log, head - 1, head, checkpoint_dir=directory)).b == head
        for position in (0, 1):  # before the checkpoint
            assert (await as_of(log, position=position, checkpoint_dir=directory)).position == position
