"""`cancel-all` shows the orders, asks, and cancels exactly what it showed."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from cli import cli
from kernel.commands.handler import CANCELS_MAX
from replay.formatting.order_input import OrderInput, order_of
from replay.host.bootstrap import open_client
from replay.operations.bulk_cancel import chosen, clear
from tests.cli.world import World, clean_environment


def place(world: World, *names: str, owner: str = "", symbol: str = "BTCUSDT") -> None:
    """Record intents that no kernel sends."""
    for name in names:
        words = ("place", "BUY", "0.01", symbol, "--limit", "500", "--id", name, "--owner", owner, "--wait", "recorded")
        world.ok(*words)


def at_a_terminal(world: World, monkeypatch: pytest.MonkeyPatch, *words: str, says: str) -> Result:
    """Call a command as on a terminal."""
    monkeypatch.setattr("replay.cli.base.is_asked", lambda: True)
    return CliRunner().invoke(cli, list(words), input=says, env=world.environment, prog_name="orderctl")


def canceled(world: World) -> set[str]:
    """Intents whose cancel is in the log."""
    lines = world.ok("events", "--type", "IntentCancelRequested", "-o", "jsonl").splitlines()
    return {line.partition('"stream_id":')[2].split('"')[1].removeprefix("intent:") for line in lines}


def test_it_shows_and_asks(idle: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table and the question go to stderr; after yes, a line per cancel to stdout and the count to stderr."""
    place(idle, "a", "b")

    result = at_a_terminal(idle, monkeypatch, "cancel-all", says="y\n")

    assert result.exit_code == 0
    assert result.stdout == "intent/a cancel requested\nintent/b cancel requested\n"
    assert "INTENT" in result.stderr
    assert "Cancel 2 orders?" in result.stderr
    assert "2 cancels requested" in result.stderr
    assert canceled(idle) == {"a", "b"}


def test_a_real_terminal_is_asked_on(idle: World) -> None:
    """On a terminal the question is asked and answered there; stdout has only the lines of the cancels."""
    place(idle, "a")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"y\n")
        words = [sys.executable, "-m", "cli", "cancel-all"]
        environment = clean_environment(**idle.environment)
        done = subprocess.run(
            words, stdin=theirs, capture_output=True, text=True, env=environment, timeout=240, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)

    assert (done.returncode, done.stdout) == (0, "intent/a cancel requested\n")
    assert "Cancel 1 order?" in done.stderr


def test_no_is_no(idle: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any answer but yes cancels nothing: exit code 1."""
    place(idle, "a")

    assert at_a_terminal(idle, monkeypatch, "cancel-all", says="\n").exit_code == 1
    assert canceled(idle) == set()


def test_without_a_terminal_yes_is_needed(idle: World) -> None:
    """Without a terminal and without `--yes`: exit code 2, and nothing is canceled."""
    place(idle, "a")

    result = idle.call("cancel-all")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "--yes" in result.stderr
    assert canceled(idle) == set()


def test_a_dry_run_changes_nothing(idle: World) -> None:
    """`--dry-run` prints the table, also with `--yes`."""
    place(idle, "a", owner="mm-1")

    shown = idle.ok("cancel-all", "--dry-run", "--yes")

    assert "mm-1" not in shown  # the narrow table, as `get intents`
    assert shown.splitlines()[1].startswith("a ")
    assert canceled(idle) == set()


def test_only_of_a_symbol_or_an_owner(idle: World) -> None:
    """`--symbol` and `--owner` both narrow the selection; canceled intents are not selected."""
    place(idle, "a", "b", owner="mm-1")
    place(idle, "c")
    place(idle, "d", symbol="ETHUSDT")

    assert idle.ok("cancel-all", "--yes", "--owner", "mm-1", "--symbol", "ETHUSDT") == ""
    assert idle.ok("cancel-all", "--yes", "--owner", "mm-1").count("\n") == 2
    assert idle.ok("cancel-all", "--yes", "--symbol", "ETHUSDT") == "intent/d cancel requested\n"
    assert idle.ok("cancel-all", "--yes") == "intent/c cancel requested\n"
    again = idle.call("cancel-all", "--yes")
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "there is nothing to cancel\n")


def test_a_symbol_that_nobody_knows_is_told(idle: World) -> None:
    """An unknown symbol is exit code 2: a typo must not read as nothing to cancel."""
    result = idle.call("cancel-all", "--yes", "--symbol", "BTCUSD")

    assert result.exit_code == 2
    assert "BTCUSDT" in result.stderr


def test_what_was_not_shown_stays(idle: World) -> None:
    """An order placed after the selection is left alone; one that ended since is reported and stops nothing."""
    place(idle, "a", "b")

    async def session() -> list[str]:
        async with open_client(idle.url, "paper") as kernel:
            intent_ids = chosen(kernel)
            await asyncio.to_thread(place, idle, "late")
            await kernel.intent_store.delete_intent("a")
            return [item.line async for item in clear(kernel, intent_ids)]

    assert asyncio.run(session()) == ["intent/a not canceled: intent a not found", "intent/b cancel requested"]
    assert canceled(idle) == {"b"}


def test_many_are_taken_down_in_groups(idle: World) -> None:
    """More orders than one batch are all canceled, in order of creation, by one call."""
    names = [f"i{number}" for number in range(CANCELS_MAX + 44)]

    async def prepare() -> None:
        async with open_client(idle.url, "paper") as kernel:
            order = order_of(kernel, OrderInput(side="BUY", quantity="0.01", symbol_id="BTCUSDT", limit="500"))
            await asyncio.gather(*(kernel.place_order(order, intent_id=name, wait="recorded") for name in names))

    asyncio.run(prepare())
    lines = idle.ok("cancel-all", "--yes").splitlines()

    assert sorted(lines) == sorted(f"intent/{name} cancel requested" for name in names)
    assert canceled(idle) == set(names)
