"""`verify`: exit code 0 for an intact log, 1 for each damaged copy, with the position."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from kernel.log import open_log
from replay.transparency.signed_note import SignerKey
from replay.transparency.tree_head_signer import TreeHeadOptions, TreeHeadWriter
from tests.cli.world import World
from tests.stories import STORY_LENGTH, Story

LAST = STORY_LENGTH
DAMAGES: dict[str, tuple[int, list[str]]] = {
    "a payload changed": (7, ["UPDATE log SET state = replace(state, '60', '61') WHERE position = 7"]),
    "an envelope changed": (5, ["UPDATE log SET meta = replace(meta, 'reconciler', 'strategy:x') WHERE position = 5"]),
    "a topic changed": (6, ["UPDATE log SET topic = 'OrderTriggered' WHERE position = 6"]),
    "an instant changed": (9, ["UPDATE log SET recorded_at_ns = recorded_at_ns + 1 WHERE position = 9"]),
    "a chain hash changed": (12, ["UPDATE log SET chain_hash = zeroblob(32) WHERE position = 12"]),
    "two payloads swapped": (
        6,
        [
            "CREATE TEMP TABLE kept AS SELECT position, state FROM log WHERE position IN (6, 14)",
            "UPDATE log SET state = (SELECT state FROM kept WHERE position = 14) WHERE position = 6",
            "UPDATE log SET state = (SELECT state FROM kept WHERE position = 6) WHERE position = 14",
        ],
    ),
    "a row removed": (10, ["DELETE FROM log WHERE position = 10"]),
    "a row removed, and the gap closed": (
        10,
        [
            "DELETE FROM log WHERE position = 10",
            "UPDATE log SET position = position - 1 WHERE position > 10",
            "UPDATE log_head SET position = position - 1",
        ],
    ),
    "the end cut off": (LAST - 1, [f"DELETE FROM log WHERE position >= {LAST - 1}"]),
    "the head row set back": (
        LAST - 1,
        [
            "UPDATE log_head SET position = position - 1, chain_hash = (SELECT chain_hash FROM log "
            f"WHERE position = {LAST - 1})",
        ],
    ),
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a log, a note of it, and the key that signed it."""
    directory = tmp_path_factory.mktemp("verified")

    async def record() -> None:
        async with open_log(f"sqlite:///{directory}/x.db", exchange_id="paper") as log:
            await Story(log).record_all()
            key = SignerKey.create("exchange-kernel/paper")
            await TreeHeadWriter(log, TreeHeadOptions(directory=directory / "notes", keys=(key,))).write()
            (directory / "trusted.keys").write_text(f"{key.verifier}\n")

    asyncio.run(record())
    return directory


def copy_of(recorded: Path, directory: Path, statements: list[str]) -> World:
    """A copy of the log, altered with SQL."""
    shutil.copy(recorded / "x.db", directory / "x.db")
    with sqlite3.connect(directory / "x.db") as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return World(f"sqlite:///{directory}/x.db")


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_log_as_it_was_recorded_is_verified(recorded: Path) -> None:
    """An intact log is exit code 0 in every format, with and without notes."""
    world = World(f"sqlite:///{recorded}/x.db")
    assert " is intact up to position " in world.ok("verify")
    assert world.ok("verify", "--hashes-only").startswith("verified: the log of paper")
    notes = ("--notes", str(recorded / "notes"), "--key", str(recorded / "trusted.keys"))
    (whole,) = lines_of(world.ok("verify", *notes, "-o", "jsonl"))
    assert (whole["ok"], whole["position"], whole["counts"]["signed_upto"]) == (True, LAST, LAST)
    note = next((recorded / "notes").glob("*.note"))
    assert json.loads(world.ok("verify", *notes, "--from", str(note), "-o", "json"))["problems"] == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_copy_is_not(recorded: Path, tmp_path: Path, damage: str) -> None:
    """A damaged copy is exit code 1 with the first bad position, as table and JSON lines."""
    position, statements = DAMAGES[damage]
    world = copy_of(recorded, tmp_path, statements)
    result = world.call("verify")
    assert result.exit_code == 1, result.output
    assert f"the first at position {position} " in result.stdout
    lines = world.call("verify", "-o", "jsonl")
    assert lines.exit_code == 1
    *problems, whole = lines_of(lines.stdout)
    assert problems[0]["position"] == whole["first_bad_position"] == position
    assert (whole["ok"], whole["problem_count"]) == (False, len(problems))


def test_a_damaged_file_is_told(recorded: Path, tmp_path: Path) -> None:
    """An overwritten page of the file is exit code 1 and a sentence, no traceback."""
    copy_of(recorded, tmp_path, [])
    with (tmp_path / "x.db").open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 8192)
    result = World(f"sqlite:///{tmp_path}/x.db").call("verify")
    assert result.exit_code == 1
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--notes", "{notes}"), 5, "--key"),
        (("--notes", "{notes}", "--key", "nonsense"), 2, "nonsense"),
        (("--notes", "{notes}/none", "--key", "{keys}"), 2, "none"),
        (("--from", "{notes}/1.note", "--key", "{keys}"), 2, "1.note does not exist"),
        (("--log", "sqlite:///no-such.db"), 2, "no log"),
        (("-o", "yaml"), 2, "yaml"),
    ],
)
def test_bad_input_is_told(recorded: Path, words: tuple[str, ...], code: int, said: str) -> None:
    """Missing or unusable notes, keys, logs and formats are errors with their exit code."""
    filled = [word.format(notes=recorded / "notes", keys=recorded / "trusted.keys") for word in words]
    result = World(f"sqlite:///{recorded}/x.db").call("verify", *filled)
    assert (result.exit_code, said in result.stderr, "Traceback" in result.output) == (code, True, False), result.output
