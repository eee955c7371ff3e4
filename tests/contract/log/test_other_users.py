"""Another user of the host can neither plant data that a kernel trusts nor stop a kernel.

The other user is `nobody`, in a shell that only root can start.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel import events, open_log
from kernel.errors import UnsafeFileError
from kernel.log.backends.sqlite_lease import FileLease
from kernel.log.base import EventLog
from kernel.models import Evidence
from kernel.order_spec import OrderType, Side, StandardOrder
from projections import State, checkpoint
from projections.checkpoint import CheckpointFiles
from replay.host.bootstrap import open_kernel
from replay.log_access.log_reader import fold
from tests.commands import an_append
from tests.envelopes import envelope_by, with_envelope
from tests.folding import an_intent

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user of the host")


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of the kernel's user that others can enter."""
    with tempfile.TemporaryDirectory(prefix="kernel-users-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def shared(home: Path) -> Path:
    """A directory that everybody can write."""
    directory = home / "shared"
    directory.mkdir()
    directory.chmod(0o777)
    return directory


@pytest.fixture
def sticky(shared: Path) -> Path:
    """A directory like `/tmp`: everybody can create files in it, and nobody can replace those of others."""
    shared.chmod(0o1777)
    return shared


def as_nobody(script: str, *paths: Path) -> int:
    """Run a shell script as `nobody`, and return its exit code; `$1`, `$2`… are the paths."""
    user = pwd.getpwnam("nobody")
    words = ["sh", "-ec", script, "sh", *map(str, paths)]
    who: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
    return subprocess.run(words, check=False, capture_output=True, timeout=60, **who).returncode


def modes(directory: Path) -> dict[str, str]:
    """Return the modes of a directory's files by name."""
    return {path.name: oct(stat.S_IMODE(path.lstat().st_mode)) for path in directory.iterdir()}


def a_log(path: Path) -> EventLog:
    return open_log(f"sqlite:///{path}", exchange_id="paper")


async def forged(log: EventLog) -> checkpoint.CheckpointImage:
    """A valid checkpoint whose last event is a forged intent to buy 5 BTC."""
    head = await log.head()
    state = await fold(log, State(), upto=head.position - 1)
    order = StandardOrder(
        symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=500_000_000, price=6_000_000
    )
    created = events.IntentCreated(intent=an_intent(order, "forged"))
    envelope = envelope_by(
        position=head.position, stream_id=events.intent_stream("forged"), version=1, recorded_at_ns=head.recorded_at_ns,
        actor="strategy:eve", evidence=Evidence.COMMAND,
    )  # fmt: skip
    state.apply([with_envelope(created, envelope)])
    return checkpoint.image(state, head.chain_hash)


async def intents_with(log: EventLog, directory: Path) -> list[str]:
    """Return the intents of a kernel that starts with the checkpoints of a directory."""
    async with open_kernel(log, checkpoint_dir=directory) as kernel:
        return [intent.intent_id for intent in kernel.state.intents()]


async def test_no_planted_checkpoint_makes_a_kernel_trade(
    home: Path, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A checkpoint that another user owns, or in a directory that others can write, is never restored."""
    async with a_log(home / "kernel.db") as log:
        await log.append(an_append("a"))
        ours = CheckpointFiles(home / "ours", log.log_id).write(await forged(log))
        assert "forged" in await intents_with(log, ours.parent)  # where we alone can write, it would be believed
        planted = shared / "checkpoints"
        assert as_nobody('mkdir -m 777 "$1"', planted) == 0
        ours.chmod(0o644)
        ours.parent.chmod(0o755)
        for directory in (shared, planted):
            caplog.clear()
            assert as_nobody('cp "$1" "$2"', ours, directory) == 0
            assert await intents_with(log, directory) == []
            assert f"the directory {directory}" in caplog.text
        user = pwd.getpwnam("nobody")
        os.chown(ours, user.pw_uid, user.pw_gid)
        assert await intents_with(log, ours.parent) == []
        assert "is owned by nobody, while this process runs as root" in caplog.text


async def test_nobody_else_can_lock_what_a_kernel_needs(home: Path) -> None:
    """A lock needs an open file: another user cannot open the log, the files beside it or the lock file."""
    path = home / "kernel.db"
    async with a_log(path) as log:
        await log.append(an_append("a"))
        lease = FileLease(path.with_name("kernel.db.lock"))
        assert await lease.acquire()
        names = {"kernel.db", "kernel.db-wal", "kernel.db-shm", "kernel.db.lock"}
        assert modes(home).keys() == names
        assert [name for name in names if as_nobody('exec 9< "$1"', home / name) == 0] == []
        await lease.release()


@pytest.mark.parametrize("name", ["kernel.db", "kernel.db-wal", "kernel.db-shm", "kernel.db-journal", "kernel.db.lock"])
@pytest.mark.parametrize("plant", ['cp /dev/null "$1"', 'ln -s /etc/passwd "$1"'], ids=["file", "link"])
async def test_what_another_user_puts_beside_a_log_is_refused(sticky: Path, name: str, plant: str) -> None:
    """In a sticky directory another user can create a file first; such a file is refused."""
    assert as_nobody(plant, sticky / name) == 0
    with pytest.raises(UnsafeFileError, match=f"{name} is (owned by nobody|a symbolic link)"):
        async with a_log(sticky / "kernel.db"):
            await FileLease(sticky / "kernel.db.lock").acquire()


async def test_root_does_not_work_on_another_users_log(home: Path) -> None:
    """Root is refused, as the owner could not open the files that root would create."""
    path = home / "kernel.db"
    async with a_log(path) as log:
        await log.append(an_append("a"))
    user = pwd.getpwnam("nobody")
    os.chown(path, user.pw_uid, user.pw_gid)
    with pytest.raises(UnsafeFileError, match="run as nobody"):
        a_log(path)
    os.chown(home, user.pw_uid, user.pw_gid)
    with pytest.raises(UnsafeFileError, match=f"the directory {home} is owned by nobody"):
        a_log(path)
    assert modes(home) == {"kernel.db": "0o600"}
