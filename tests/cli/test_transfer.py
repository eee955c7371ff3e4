"""`export`, `import`, `backup`, `restore` and `statement` from a shell."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result

from kernel import open_log
from kernel.order_spec import Side
from tests.cli.world import PROJECT, World, clean_environment
from tests.notes import KEY, NEW_KEY, grow
from tests.traded import DAY_2, Book


@pytest.fixture
def traded(tmp_path: Path) -> World:
    """A log with trades of two owners."""
    world = World(f"sqlite:///{tmp_path / 'kernel.db'}")
    asyncio.run(trade(world.url))
    return world


async def trade(url: str) -> None:
    """Trade on two days."""
    async with open_log(url, exchange_id="paper") as log:
        book = Book(log)
        await book.open()
        await book.order("b", Side.BUY, 200_000_000, 100_00, owner="mm-1")
        await book.order("s", Side.SELL, 200_000_000, 110_00, owner="mm-1")
        await book.fill("b", "t1", 100_000_000, 100_00, fee=10_000_000)
        await book.fill("s", "t2", 50_000_000, 110_00, at=DAY_2, fee=1_000)


def test_a_log_goes_through_a_pipe(traded: World, tmp_path: Path) -> None:
    """`export - | import -` creates an equal log; data is on stdout, messages on stderr."""
    exported = subprocess.run(
        [sys.executable, "-m", "cli", "export", "-"],
        capture_output=True,
        check=True,
        cwd=PROJECT,
        env=clean_environment(**traded.environment),
    )
    copy = f"sqlite:///{tmp_path / 'copy.db'}"
    imported = subprocess.run(
        [sys.executable, "-m", "cli", "import", "-", "--log", copy],
        input=exported.stdout,
        capture_output=True,
        check=True,
        cwd=PROJECT,
        env=clean_environment(),
    )
    assert imported.stderr == exported.stderr
    assert b"up to position" in imported.stderr
    assert World(copy).ok("events", "-o", "jsonl") == traded.ok("events", "-o", "jsonl")


def test_an_import_over_a_log_is_a_conflict(traded: World, tmp_path: Path) -> None:
    """An existing log is not replaced; a changed file is exit code 1 with the line."""
    file = tmp_path / "x.jsonl"
    traded.ok("export", str(file))
    assert traded.call("import", str(file)).exit_code == 4
    file.write_text(file.read_text().replace('"intent:b"', '"intent:z"'))
    result = traded.call("import", str(file), "--log", f"sqlite:///{tmp_path / 'y.db'}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "x.jsonl, line 8: position 7: a column was changed" in result.stderr


def test_an_export_up_to_an_instant_or_a_position(traded: World, tmp_path: Path) -> None:
    """`--upto` takes a position or an instant; anything else, or past the head, is refused."""
    traded.ok("export", str(tmp_path / "a.jsonl"), "--upto", "3")
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 4
    assert traded.call("export", str(tmp_path / "b.jsonl"), "--upto", "99").exit_code == 5
    assert traded.call("export", str(tmp_path / "b.jsonl"), "--upto", "2026-01-31").exit_code == 5
    assert not (tmp_path / "b.jsonl").exists()


def test_tables_for_spreadsheets(traded: World, tmp_path: Path) -> None:
    """Fills are exported as CSV to stdout."""
    lines = traded.ok("export", "--format", "csv", "--what", "fills", "-").splitlines()
    assert lines[0].startswith("position,recorded_at_ns,")
    assert len(lines) == 3
    assert ",FILL,mm-1,b,BTCUSDT,BUY,1.00000000,100000000,100.00,10000,0.10000000,10000000,USDT,TAKER," in lines[1]
    assert traded.call("export", "--what", "fills", str(tmp_path / "x")).exit_code == 5


def test_a_backup_and_back(traded: World, tmp_path: Path) -> None:
    """A backup is restored under another name; neither command replaces a file."""
    backup, back = tmp_path / "b.db", World(f"sqlite:///{tmp_path / 'back.db'}")
    traded.ok("backup", str(backup))
    assert traded.call("backup", str(backup)).exit_code == 4
    back.ok("restore", str(backup))
    assert back.call("restore", str(backup)).exit_code == 4
    assert back.ok("events", "-o", "jsonl") == traded.ok("events", "-o", "jsonl")


def test_a_statement_for_people_and_for_programs(traded: World) -> None:
    """`statement` prints a table, CSV and JSON, of one day and of one owner."""
    assert traded.ok("statement") == (
        "DAY          OWNER   SYMBOL    FILLS   BOUGHT   SOLD   REALIZED   QUOTE   FEES\n"
        "2026-01-31   mm-1    BTCUSDT   1       1        0      0          USDT    0.1 USDT\n"
        "2026-02-01   mm-1    BTCUSDT   1       0        0.5    5          USDT    0.00001 USDT\n"
    )
    (line,) = json.loads(traded.ok("statement", "--day", "2026-02-01", "-o", "json"))
    assert (line["realized_pnl"], line["fees"]) == ("5.0000000000", {"USDT": "0.00001000"})
    assert traded.ok("statement", "-o", "csv").splitlines()[1] == (
        "2026-01-31,mm-1,BTCUSDT,1,1,0,0,USDT,0.1 USDT,100,0,0,0"
    )
    assert traded.call("statement", "--owner", "nobody").stderr == "No resources found\n"
    assert traded.call("statement", "--day", "today").exit_code == 5


@pytest.mark.parametrize("verb", ["restore", "import"])
def test_what_is_put_back_is_held_against_its_notes(traded: World, tmp_path: Path, verb: str) -> None:
    """Events missing by the notes are reported, also that none are; a log other than the signed one is refused and
    leaves nothing."""
    copies = {"restore": ("backup", "old.db", "new.db"), "import": ("export", "old.jsonl", "new.jsonl")}
    out, old, new = copies[verb]
    traded.ok(out, str(tmp_path / old))
    asyncio.run(sign_more(traded.url, tmp_path / "notes"))
    traded.ok(out, str(tmp_path / new))

    def put(name: str, to: str, key: str | None = None) -> Result:
        words = (verb, str(tmp_path / name), "--log", f"sqlite:///{tmp_path / to}", "--notes", str(tmp_path / "notes"))
        return traded.call(*words, *(("--key", key) if key else ()))

    key = str(KEY.verifier)
    lacking, whole = put(old, "a.db", key), put(new, "b.db", key)
    assert (lacking.exit_code, whole.exit_code) == (0, 0)
    assert "warning: position" in lacking.stderr
    assert "the log was truncated" in lacking.stderr
    assert whole.stderr.endswith("it agrees with all tree heads, up to the newest\n")
    unknown, unsigned = put(new, "c.db", str(NEW_KEY.verifier)), put(new, "c.db")
    assert (unknown.exit_code, "does not match the signed tree heads" in unknown.stderr) == (1, True)
    assert (unsigned.exit_code, "--key" in unsigned.stderr) == (5, True)
    assert not (tmp_path / "c.db").exists()


async def sign_more(url: str, notes: Path) -> None:
    """Append three events and sign a note of all."""
    async with open_log(url, exchange_id="paper") as log:
        await grow(log, 3, into=notes)
