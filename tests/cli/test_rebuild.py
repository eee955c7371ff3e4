"""`rebuild` and `tables`: output and exit codes."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from pathlib import Path

import pytest

from kernel.log import open_log
from kernel.log.engine.recorded_log import RecordedLog
from tests.benchmarks.made_log import make_log
from tests.cli.world import World

EVENTS = 200


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A log with events and without tables."""
    made = World(f"sqlite:///{tmp_path}/kernel.db")

    async def fill() -> None:
        async with open_log(made.url, exchange_id="paper") as log:
            assert isinstance(log, RecordedLog)
            await make_log(log, count=EVENTS)

    asyncio.run(fill())
    return made


def tables_of(tmp_path: Path) -> sqlite3.Connection:
    """The tables, opened with sqlite3."""
    return sqlite3.connect(tmp_path / "kernel.read.db")


def test_a_rebuild_without_tables_says_so(world: World, tmp_path: Path) -> None:
    """Without tables `rebuild` prints the digest, its speed, and that there was nothing to compare, and creates no
    file."""
    result = world.call("rebuild")
    assert result.exit_code == 0
    assert "verified   digest " in result.stdout
    assert f"{EVENTS} events in " in result.stderr
    assert "nothing is stored to compare with" in result.stderr
    assert not (tmp_path / "kernel.read.db").exists()


def test_tables_are_made_listed_and_compared(world: World, tmp_path: Path) -> None:
    """`tables sync` fills tables that `tables list` shows, SQL can query, and `rebuild` finds equal."""
    result = world.call("tables", "sync")
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"tables v1 in {tmp_path}/kernel.read.db are at position {EVENTS}" in result.stderr
    [version] = json.loads(world.ok("tables", "list", "-o", "json"))
    assert (version["number"], version["active"], version["position"], version["head"]) == (1, True, EVENTS, EVENTS)
    with tables_of(tmp_path) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone()[0] > 0
    connection.close()
    report = json.loads(world.ok("rebuild", "-o", "json"))
    assert (report["ok"], report["position"], report["compared"][0]["what"]) == (True, EVENTS, "tables v1")


def test_a_difference_is_code_1_and_named(world: World, tmp_path: Path) -> None:
    """A changed row is exit code 1 with table, row and field; `--tables` repairs it and can be rolled back."""
    world.ok("tables", "sync")
    with tables_of(tmp_path) as connection:
        connection.execute("UPDATE orders_v1 SET failures = 3 WHERE intent_id = 'o0000002'")
    connection.close()
    result = world.call("rebuild")
    assert result.exit_code == 1
    assert "differs" in result.stdout
    assert "orders[o0000002].failures" in result.stderr
    anew = world.call("rebuild", "--tables")
    assert (anew.exit_code, "tables v2 are active" in anew.stderr) == (1, True)
    world.ok("rebuild")
    assert "tables v1 are active" in world.call("rebuild", "--rollback").stderr
    assert world.call("rebuild").exit_code == 1


def test_wrong_use_is_told(world: World, tmp_path: Path) -> None:
    """Conflicting options, missing tables, a bad target and a damaged log each have their exit code."""
    assert world.call("rebuild", "--tables", "--rollback").exit_code == 2
    assert world.call("rebuild", "--rollback").exit_code == 2
    assert world.call("tables", "list").exit_code == 2
    assert world.call("rebuild", "--to", f"sqlite:///{tmp_path}/none.db").exit_code == 2
    assert world.call("tables", "sync", "--to", "memory://").exit_code == 5
    connection = sqlite3.connect(tmp_path / "kernel.db")
    connection.execute("DROP TRIGGER log_no_update")
    connection.execute("UPDATE log SET meta = '{}' WHERE position = 90")
    connection.commit()
    connection.close()
    damaged = world.call("rebuild")
    assert (damaged.exit_code, "90" in damaged.stderr) == (1, True)


def test_following_ends_with_a_signal(world: World) -> None:
    """`tables sync --follow` reports reaching the head and ends with a signal."""
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        with world.child("tables", "sync", "--follow") as process:
            process.expect(f"position {EVENTS}", err=True)
            assert process.end(number) == code
