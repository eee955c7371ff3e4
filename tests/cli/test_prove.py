"""`keys`, `run --notes` and `prove`: from a new key to a proof that a third party checks."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kernel import open_log
from replay.transparency.keys import read_key, verifier_keys
from replay.transparency.tree_head_store import read_tree_head, tree_head_files
from tests.check_proof import PROGRAM
from tests.cli.world import World
from tests.notes import KEY, grow


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A log of the test."""
    return World(f"sqlite:///{tmp_path / 'kernel.db'}")


@pytest.fixture
def noted(world: World, tmp_path: Path) -> Path:
    """Signed notes of the log, which has eight events."""

    async def write() -> None:
        async with open_log(world.url, exchange_id="paper") as log:
            await grow(log, 3, 4, into=tmp_path / "notes")

    asyncio.run(write())
    return tmp_path / "notes"


def stranger(tmp_path: Path, proof: Path, key: str) -> subprocess.CompletedProcess[str]:
    """Check a proof with the program of `orderctl help check-proof`."""
    program = tmp_path / "check_proof.py"
    program.write_text(PROGRAM, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-I", str(program), str(proof), key], capture_output=True, text=True, check=False, timeout=240
    )


@pytest.mark.parametrize("from_environment", [False, True])
def test_from_a_key_to_a_proof(world: World, tmp_path: Path, from_environment: bool) -> None:
    """The leader signs notes, one of them on leaving; a third party verifies the proof of an order's first event."""
    key, trusted, notes = tmp_path / "note.key", tmp_path / "trusted.keys", tmp_path / "notes"
    verifier = world.ok("keys", "create", str(key), "--trust", str(trusted)).strip()
    words = ["--notes", str(notes), "--note-key", str(key)]
    if from_environment:
        world.environment |= {"ORDERCTL_NOTES": str(notes), "ORDERCTL_NOTE_KEY": read_key(key).secret()}
        words = []
    with world.leader(*words) as leader:
        world.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--id", "mine")
        assert leader.end(signal.SIGTERM) == 0
    events = json.loads(world.ok("events", "-o", "json"))
    heads = [read_tree_head(file, verifier_keys([str(trusted)])) for file in tree_head_files(notes)]
    assert heads[-1].size == len(events)

    (created,) = (event["position"] for event in events if event["topic"] == "IntentCreated")
    proof = tmp_path / "proof.json"
    world.ok("prove", str(created), "--notes", str(notes), "--key", str(trusted), "-o", str(proof))
    done = stranger(tmp_path, proof, verifier)
    assert done.returncode == 0
    shown = json.loads(done.stdout.partition("\n")[2])
    assert json.loads(shown["state"])["intent"]["intent_id"] == "mine"

    proof.write_text(proof.read_text(encoding="utf-8").replace("mine", "ours"), encoding="utf-8")
    done = stranger(tmp_path, proof, verifier)
    assert (done.returncode, done.stderr.startswith("NOT PROVED")) == (1, True)


def test_growth_is_proved(world: World, noted: Path, tmp_path: Path) -> None:
    """Without `-o` the proof is printed."""
    proof = tmp_path / "growth.json"
    proof.write_text(world.ok("prove", "--from", "4", "--to", "8", "--notes", str(noted)), encoding="utf-8")
    done = stranger(tmp_path, proof, str(KEY.verifier))
    assert done.stdout.startswith("PROVED the 4 events of exchange-kernel/paper/")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["9"], 2, "no signed tree head covers position 9: the newest one covers 8 events"),
        (["0"], 5, "position 0 is out of range: positions start at 1"),
        ([], 5, "either a POSITION, or both --from SIZE and --to SIZE"),
        (["1", "--from", "4"], 5, "either a POSITION, or both --from SIZE and --to SIZE"),
        (["--from", "4"], 5, "either a POSITION, or both --from SIZE and --to SIZE"),
        (["--from", "8", "--to", "4"], 5, "size 8 is out of range: it must be from 1 to the second size 4"),
        (["--from", "4", "--to", "7"], 2, "no signed tree head covers 7 events exactly: the nearest sizes are 4, 8"),
        (["1", "--key", "nowhere"], 2, "neither a verifier key nor a file"),
        (["1", "--key", "a+b+c"], 5, "not a verifier key"),
        (["1", "-o", "nowhere/proof.json"], 5, "cannot write the proof to nowhere/proof.json"),
        (["first"], 2, "'first'"),
    ],
)
def test_what_cannot_be_proved_is_told(
    world: World, noted: Path, words: list[str], code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An impossible proof is one line, an exit code, and no output."""
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    result = world.call("prove", "--notes", str(noted), *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert told in result.stderr
    assert {path for path in tmp_path.rglob("*") if "kernel.db" not in path.name} <= before


def test_a_log_that_is_not_what_its_note_says_is_code_1(world: World, noted: Path) -> None:
    """A note with another root is exit code 1."""
    note = next(noted.glob("*8.note"))
    lines = note.read_text(encoding="utf-8").split("\n")
    note.write_text("\n".join([*lines[:2], "A" * 43 + "=", *lines[3:]]), encoding="utf-8")
    result = world.call("prove", "5", "--notes", str(noted))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "position 8: the log up to here differs from the signed tree head" in result.stderr


def test_a_key_is_made_once_and_shown(world: World, tmp_path: Path) -> None:
    """`keys show` prints the public half; an existing or readable-by-others file is refused."""
    path = tmp_path / "note.key"
    made = world.ok("keys", "create", str(path), "--exchange", "other")
    assert made.startswith("exchange-kernel/other+")
    assert world.ok("keys", "show", str(path)) == made
    assert world.call("keys", "create", str(path)).exit_code == 4
    path.chmod(0o644)
    shown = world.call("keys", "show", str(path))
    assert (shown.exit_code, shown.stdout) == (5, "")
    assert "chmod 600" in shown.stderr
    assert world.call("keys", "show", str(tmp_path / "nowhere")).exit_code == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--notes", "notes"], 5, "signing tree heads needs a key"),
        (["--note-key", "note.key"], 5, "--notes DIR"),
        (["--notes", "notes", "--note-key", "nowhere"], 2, "orderctl keys create"),
        (["--notes", "notes", "--note-key", KEY.secret()], 2, "give the key's file"),
    ],
)
def test_a_kernel_does_not_start_with_half_of_it(
    world: World, words: list[str], code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notes without a key, a key without notes, a missing key and a key on the command line are refused before
    starting."""
    monkeypatch.chdir(tmp_path)
    world.ok("keys", "create", "note.key")
    result = world.call("run", *words)
    assert (result.exit_code, told in result.stderr) == (code, True)
    assert KEY.secret()[-40:] not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["note.key"]


def test_a_configuration_names_directory_and_key(world: World, tmp_path: Path) -> None:
    """A configuration file may name the directory and the key."""
    world.ok("keys", "create", str(tmp_path / "note.key"))
    config = tmp_path / "orderctl.toml"
    config.write_text(
        f'speed = "max"\nnotes = "{tmp_path / "notes"}"\nnote_key = "{tmp_path / "note.key"}"\n'
        'note_events = 1\nnote_every = "100ms"\nlog_level = "info"\n'
    )
    with world.child("run", "--config", str(config)) as leader:
        leader.expect("ready: leads", err=True)
        for _ in range(2):
            world.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000")
            leader.expect("signed tree head written", err=True)
        assert leader.end(signal.SIGTERM) == 0
    keys = [read_key(tmp_path / "note.key").verifier]
    assert len([read_tree_head(file, keys) for file in tree_head_files(tmp_path / "notes")]) > 1
