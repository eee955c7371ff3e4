"""`halt` cancels everything and reports what is left; `--break-glass` cancels at the venue when the log is unavailable."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import cli
from kernel.log.backends import sqlite as sqlite_log
from kernel.models import UnsolicitedCancelPolicy
from replay.formatting.order_input import OrderInput, order_of
from replay.host.bootstrap import open_client
from tests.cli.test_cancel_all import place
from tests.cli.world import Desk, World


def halts(world: World) -> list[dict[str, object]]:
    lines = world.ok("events", "--type", "Paused", "-o", "jsonl").splitlines()
    return [json.loads(line) for line in lines]


# --------------------------------------------------------------------------------------------------------- with the log
def test_all_is_taken_down(live: World) -> None:
    """No order is open when `halt` returns; later intents wait for `resume`; the log has who and why."""
    for name in ("h1", "h2"):
        live.ok("place", "BUY", "0.01", "BTCUSDT", "--limit", "40000", "--id", name)

    result = live.call("halt", "--yes", "--reason", "fat finger")

    assert (result.exit_code, result.stdout) == (0, "exchange/paper halted\n")
    assert "2 cancels requested; no order is open any more" in result.stderr
    live.ok("wait", "h1", "--for", "canceled", "--timeout", "0")
    assert live.call("health").exit_code == 6
    assert "Halted" in live.call("health").stdout
    live.ok("place", "BUY", "0.01", "BTCUSDT", "--limit", "40000", "--id", "h3", "--wait", "recorded")
    assert "not while halted" in live.ok("describe", "h3")
    assert live.ok("resume") == "exchange/paper resumed\n"
    live.ok("wait", "h3", "--for", "working")
    (halt,) = halts(live)
    assert str(halt["actor"]).startswith("operator")
    assert halt["state"] == {"cancels": True, "reason": "fat finger"}


def test_a_symbol_is_halted_and_resumed(live: World) -> None:
    """A symbol is halted alone; the others continue."""
    live.ok("place", "BUY", "0.01", "BTCUSDT", "--limit", "40000", "--id", "s1")
    live.ok("place", "BUY", "0.1", "ETHUSDT", "--limit", "1000", "--id", "s2", "--wait", "recorded")

    assert live.ok("halt", "--symbol", "BTCUSDT", "--yes") == "symbol/BTCUSDT halted\n"

    live.ok("wait", "s1", "--for", "canceled", "--timeout", "0")
    assert "CANCELED" not in live.ok("get", "intent/s2")
    assert live.ok("resume", "--symbol", "BTCUSDT") == "symbol/BTCUSDT resumed\n"
    assert live.ok("resume", "--symbol", "BTCUSDT") == "symbol/BTCUSDT was neither paused nor halted\n"
    assert live.call("resume", "s1", "--symbol", "BTCUSDT").exit_code == 2
    assert live.call("halt", "--symbol", "BTCUSD", "--yes").exit_code == 2


def test_it_shows_and_asks(idle: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer no changes nothing (1); no terminal and no `--yes` is a usage error (2)."""
    place(idle, "a")
    assert idle.call("halt").exit_code == 2
    monkeypatch.setattr("replay.cli.base.is_asked", lambda: True)
    result = CliRunner().invoke(cli, ["halt"], input="n\n", env=idle.environment, prog_name="orderctl")
    assert result.exit_code == 1
    assert "Halt everything and cancel 1 order?" in result.stderr
    assert halts(idle) == []


def test_with_nobody_who_leads_it_says_what_is_left(idle: World) -> None:
    """Without a leader, unsent orders end at once and the halt holds for the next leader."""
    place(idle, "a")
    result = idle.call("halt", "--yes")
    assert (result.exit_code, result.stdout) == (0, "exchange/paper halted\n")
    assert "1 cancel requested" in result.stderr
    assert len(halts(idle)) == 1


# ------------------------------------------------------------------------------------------------------ emergency
@contextmanager
def locked(world: World) -> Iterator[None]:
    """Lock the log against other writers."""
    connection = sqlite3.connect(world.url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


def wanted(world: World, name: str, policy: UnsolicitedCancelPolicy) -> None:
    """Place an order with a policy for cancels by the venue."""

    async def session() -> None:
        async with open_client(world.url, "paper") as kernel:
            order = order_of(kernel, OrderInput(side="BUY", quantity="0.01", symbol_id="BTCUSDT", limit="40000"))
            await kernel.place_order(order, intent_id=name, on_unsolicited_cancel=policy)

    asyncio.run(session())


def test_the_log_is_locked_and_the_orders_must_go(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the log locked `halt` names the remedy; `--break-glass` cancels every open order and says what was not
    logged."""
    world = desk.world
    monkeypatch.setattr(sqlite_log, "BUSY_TIMEOUT_S", 0.5)
    wanted(world, "stop", UnsolicitedCancelPolicy.STOP)
    wanted(world, "again", UnsolicitedCancelPolicy.RECREATE)
    desk.place_by_hand("web-1")
    assert len(desk.open_orders()) == 3

    with locked(world):
        refused = world.call("halt", "--yes")
        assert refused.exit_code == 6
        assert "orderctl halt --break-glass" in refused.stderr

        done = world.call("halt", "--break-glass", "--yes", "--address", desk.address)
        assert done.exit_code == 0, done.output
        assert [line.split()[-1] for line in done.stdout.splitlines()] == ["canceled"] * 3
        assert "0.01 BTCUSDT at 40000.00, web-1" in done.stdout
        assert "3 found open, 3 gone, 0 still open" in done.stderr
        assert "the log does not have these cancels" in done.stderr
        assert "RECREATE" in done.stderr
        assert desk.open_orders() == []

    world.ok("wait", "stop", "--for", "canceled")
    world.ok("wait", "again", "--for", "working")
    assert len(desk.open_orders()) == 1
    assert halts(world) == []


def test_the_kernel_is_gone_and_finds_it_when_it_is_back(desk: Desk) -> None:
    """With the kernel killed and the log locked the orders are canceled; the next kernel records them as canceled."""
    world, path = desk.world, Path(desk.world.url.removeprefix("sqlite:///"))
    wanted(world, "stop", UnsolicitedCancelPolicy.STOP)
    desk.kernel.process.kill()
    desk.kernel.wait()
    away = path.rename(path.with_suffix(".away"))

    refused = world.call("halt", "--yes")
    assert refused.exit_code == 2
    assert "--break-glass" in refused.stderr
    assert world.call("halt", "--break-glass", "--yes", "--address", desk.address).exit_code == 0
    assert desk.open_orders() == []

    away.rename(path)
    with world.leader("--address", desk.address):
        world.ok("wait", "stop", "--for", "canceled")
    assert " CANCELED " in world.ok("get", "orders", "stop")


def test_only_a_symbol_goes(desk: Desk) -> None:
    """`--symbol` narrows what is canceled at the venue."""
    wanted(desk.world, "stop", UnsolicitedCancelPolicy.STOP)
    done = desk.world.call("halt", "--break-glass", "--yes", "--address", desk.address, "--symbol", "ETHUSDT")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "0 found open" in done.stderr
    assert len(desk.open_orders()) == 1


def test_it_does_not_run_quietly_nor_against_nothing(idle: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `--yes` or an answer the venue gets no request; an unreachable exchange is 6, none at all is 5."""
    assert idle.call("halt", "--break-glass", "--address", "127.0.0.1:1").exit_code == 2
    assert idle.call("halt", "--break-glass", "--yes", "--address", "127.0.0.1:1").exit_code == 6
    empty = idle.call("halt", "--break-glass", "--yes")
    assert empty.exit_code == 5
    assert "--journal" in empty.stderr
    monkeypatch.setattr("replay.cli.base.is_asked", lambda: True)
    words = ["halt", "--break-glass", "--address", "127.0.0.1:1"]
    result = CliRunner().invoke(cli, words, input="n\n", env=idle.environment, prog_name="orderctl")
    assert result.exit_code == 1
    assert "bypassing the log?" in result.stderr


def test_the_file_of_run_says_where_the_venue_is(idle: World, tmp_path: Path) -> None:
    """The address in run's configuration file is used; its symbol does not narrow the cancel."""
    file = tmp_path / "run.toml"
    file.write_text('address = "127.0.0.1:1"\nsymbol = "ETHUSDT"\n')
    place(idle, "a")
    assert idle.call("halt", "--break-glass", "--yes", "--config", str(file)).exit_code == 6
    assert idle.ok("halt", "--yes", "--config", str(file)) == "exchange/paper halted\n"


def test_an_exchange_inside_the_kernel_is_opened_by_its_journal(tmp_path: Path) -> None:
    """The journal opens the exchange once its process has ended; while it runs, exit code 6."""
    world = World(f"sqlite:///{tmp_path / 'kernel.db'}")
    with world.leader() as kernel:
        world.ok("place", "BUY", "0.01", "BTCUSDT", "--limit", "40000")
        busy = world.call("halt", "--break-glass", "--yes")
        assert busy.exit_code == 6, busy.output
        kernel.process.kill()
        kernel.wait()
    done = world.call("halt", "--break-glass", "--yes")
    assert done.exit_code == 0, done.output
    assert "1 found open, 1 gone" in done.stderr
