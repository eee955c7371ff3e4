"""The processes: signals, kills, standby, configuration."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kernel.settings import KernelSettings
from replay.host.config import settings_over
from tests.cli.test_tour import LADDER
from tests.cli.world import Child, World, clean_environment


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A log of the test."""
    return World(f"sqlite:///{tmp_path / 'kernel.db'}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_in_order(world: World, number: signal.Signals, code: int) -> None:
    """SIGTERM is exit code 0, SIGINT 130; both record KernelStopped."""
    with world.leader() as leader:
        assert leader.end(number) == code

    assert json.loads(world.ok("events", "-o", "json"))[-1]["topic"] == "KernelStopped"
    assert json.loads(world.call("health", "-o", "json").stdout)["conditions"][0]["reason"] == "Stopped"


def test_orders_survive_a_kill(world: World) -> None:
    """After SIGKILL the next kernel finds the orders at the exchange, and nothing was sent twice."""
    with world.leader() as leader:
        world.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--id", "kept")
        before = world.ok("get", "order", "kept", "-o", "json")
        leader.end(signal.SIGKILL)
    assert world.call("health").exit_code == 6

    with world.leader():
        assert (
            json.loads(world.ok("get", "order", "kept", "-o", "json"))["exchange_order_id"]
            == (json.loads(before)["exchange_order_id"])
        )
        assert world.ok("events", "--type", "AttemptStarted", "-o", "jsonl").count("\n") == 1
        assert world.ok("cancel", "kept") == "intent/kept canceled\n"


def test_a_second_kernel_stands_by_and_takes_over(world: World) -> None:
    """A second kernel reports the leader, and leads under the next epoch after that one is killed."""
    with world.leader() as first, world.child("run", "--speed", "max") as second:
        second.expect("standing by", err=True)
        first.end(signal.SIGKILL)
        second.expect("ready: leads paper, epoch 2", err=True)
        assert json.loads(world.ok("health", "-o", "json"))["epoch"] == 2


def test_an_exchange_of_its_own_process(world: World, tmp_path: Path) -> None:
    """`paper-exchange` prints its address once, a kernel trades there, and SIGTERM ends it with 0."""
    exchange = Child("paper-exchange", "--speed", "max", "--journal", str(tmp_path / "exchange.journal"))
    try:
        address = exchange.expect(":")
        with world.child("run", "--address", address) as leader:
            leader.expect("ready: leads", err=True)
            world.ok("place", "BUY", "0.001", "BTCUSDT", "--wait", "filled", "--timeout", "20s")
        assert exchange.end() == 0
        assert list(exchange.out.queue) == [None]
    finally:
        exchange.close()


def test_the_environment_is_over_the_file(world: World, tmp_path: Path) -> None:
    """A variable overrides the file, the file the default, and the log records the settings."""
    path = tmp_path / "orderctl.toml"
    path.write_text('speed = "warp"\nexchange = "fromfile"\n[kernel]\nworkers = 3\nqueue_keys_max = 50\n')
    del world.environment["ORDERCTL_EXCHANGE"]
    world.environment |= {"ORDERCTL_SPEED": "max", "ORDERCTL_KERNEL_WORKERS": "5"}
    with world.child("run", "--config", str(path)) as leader:
        leader.expect("ready: leads fromfile", err=True)
        world.environment["ORDERCTL_EXCHANGE"] = "fromfile"
        started = json.loads(world.ok("events", "--type", "KernelStarted", "-o", "jsonl"))

    assert (started["state"]["settings"]["workers"], started["state"]["settings"]["queue_keys_max"]) == (5, 50)


def test_settings_are_layered() -> None:
    """Environment overrides table overrides default, whatever the case of the variable."""
    made = settings_over({"workers": 3, "resync_interval_s": 9}, {"ORDERCTL_KERNEL_workers": "5"})

    assert (made.workers, made.resync_interval_s) == (KernelSettings().workers, 9)


def test_a_misspelled_variable_is_refused(world: World) -> None:
    """A variable that names no setting is an error, as an unknown key of the file is."""
    world.environment["ORDERCTL_KERNEL_WORKERZ"] = "5"

    result = world.call("run")

    assert (result.exit_code, result.stdout) == (5, "")
    assert "environment variable ORDERCTL_KERNEL_WORKERZ names no setting" in result.stderr


def test_limits_of_the_file_hold_for_every_verb(world: World, tmp_path: Path) -> None:
    """`[limits]` are recorded by the kernel; `place` beyond them is exit code 5 and appends nothing."""
    path = tmp_path / "orderctl.toml"
    path.write_text(
        '[limits]\nopen_orders_max = 9\n[limits.symbols.BTCUSDT]\norder_quantity_max = "0.002"\nposition_max = "0.004"\n'
    )
    ladder = tmp_path / "ladder.yaml"
    ladder.write_text(LADDER)
    with world.leader("--config", str(path)):
        world.ok("place", "BUY", "0.002", "BTCUSDT", "--limit", "50000", "--id", "fits")
        refused = world.call("place", "BUY", "0.003", "BTCUSDT", "--limit", "50000", "--id", "exceeds")
        changed = world.call("modify", "fits", "--quantity", "0.003")
        applied = [world.call("apply", "-f", str(ladder), f"--dry-run={how}") for how in ("server", "none")]

        assert (refused.exit_code, refused.stdout, changed.exit_code) == (5, "", 5)
        assert "quantity 0.003 is above order_quantity_max 0.002" in refused.stderr
        assert [item.exit_code for item in applied] == [5, 5]  # either order alone would fit
        assert all("(Order bid-2)" in item.stderr and "position_max" in item.stderr for item in applied)
        assert world.ok("get", "intents", "-o", "name") == "intent/fits\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[limits]\nposition_max = 0.5\n", 'must be text, "0.5"'),
        ("[limits.symbols.BTCUSDT]\nsize_max = 5\n", "symbols.BTCUSDT.size_max"),
        ("limits = 5\n", "a table of limits"),
        ("[kernel.limits]\n", "to the table [limits]"),
    ],
)
def test_limits_that_are_not_understood_are_refused(world: World, tmp_path: Path, text: str, told: str) -> None:
    """Invalid limits are exit code 5 before anything runs: they must not count as none."""
    path = tmp_path / "orderctl.toml"
    path.write_text(text)

    result = world.call("run", "--config", str(path))

    assert result.exit_code == 5
    assert told in result.stderr


def test_a_tape_that_cannot_be_read_is_refused(world: World, tmp_path: Path) -> None:
    """A bad tape is exit code 5 with the file's name, and no log is created."""
    path = tmp_path / "BTCUSDT-trades-x.csv"
    path.write_text("1,not-a-price,1,1,1723161255342,True,True\n")

    result = world.call("run", "--tape", str(path))

    assert result.exit_code == 5
    assert path.name in result.stderr
    assert not (tmp_path / "kernel.db").exists()


def test_an_address_in_use_is_told(tmp_path: Path) -> None:
    """A second exchange at the same address is refused in one line."""
    with World("memory://").child("paper-exchange") as first:
        address = first.expect(":")
        second = Child("paper-exchange", "--listen", address)
        second.expect("cannot listen", err=True)
        assert second.wait() == 6


def test_a_watch_ends_with_an_interruption(world: World) -> None:
    """Ctrl-C on a watch is 130 without a message (but for the line break after the terminal's ^C)."""
    with world.leader(), world.child("get", "orders", "-w", "-o", "name") as watch:
        world.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000")
        watch.expect("order/")
        assert watch.end(signal.SIGINT) == 130
        assert watch.talk in ([], [""])


def test_output_that_nobody_reads_ends_quietly(world: World) -> None:
    """A closed pipe (`| head -1`) is exit code 0 with nothing on stderr."""
    words = [sys.executable, "-m", "cli", "events", "-w", "-o", "jsonl"]
    with world.leader():
        world.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000")
        environment = clean_environment(**world.environment)
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            world.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000")
            assert process.wait(timeout=120) == 0
            assert process.stderr.read() == b""


def test_a_watch_has_no_gap_over_a_kill(world: World) -> None:
    """Watches survive the kill and takeover of the leader and show every event and state once, in order."""
    market = ("place", "BUY", "0.001", "BTCUSDT", "--wait", "filled", "--timeout", "20s", "--id")
    with world.leader() as leader:
        world.ok(*market, "before")
        with (
            world.child("get", "orders", "-w", "-o", "jsonl") as orders,
            world.child("get", "fills", "-w", "-o", "jsonl") as fills,
            world.child("events", "-w", "-o", "jsonl") as events,
        ):
            keys = [json.loads(fills.expect("fill_key"))["fill_key"]]
            for watch in (orders, events):
                watch.expect('"before"')
            leader.end(signal.SIGKILL)
            world.ok("place", "BUY", "0.001", "BTCUSDT", "--wait", "recorded", "--id", "between")
            with world.leader():
                world.ok("wait", "between", "--for", "filled", "--timeout", "20s")
                world.ok(*market, "after")
                while '"FILLED"' not in orders.expect('"intent_id":"after"'):
                    pass
                stored = [json.loads(line)["fill_key"] for line in world.ok("get", "fills", "-o", "jsonl").splitlines()]
                while keys[-1] != stored[-1]:
                    keys.append(json.loads(fills.expect("fill_key"))["fill_key"])
                head = json.loads(world.ok("health", "-o", "json"))["position"]
                positions = [json.loads(events.expect('"position"'))["position"]]
                while positions[-1] < head:
                    positions.append(json.loads(events.expect('"position"'))["position"])

    assert keys == stored
    assert len(stored) >= 3
    assert positions == list(range(positions[0], head + 1))


def test_each_decision_is_a_line_with_its_intent_and_position(world: World) -> None:
    """`--log-format json`: every line on stderr is an object, and each decision names its intent and position."""
    with world.leader("--log-format", "json") as leader:
        world.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--id", "told")
        submitted = json.loads(leader.expect('"told"', err=True))
        world.ok("cancel", "told")
        canceled = json.loads(leader.expect('"told"', err=True))
        assert leader.end() == 0
        assert all(json.loads(line) for line in leader.talk)

    assert (submitted["message"], submitted["level"], submitted["generation"]) == ("decided: submit", "INFO", 1)
    assert canceled["message"].startswith("decided: cancel")
    assert 0 < submitted["position"] < canceled["position"]


def test_a_quiet_process_says_only_what_is_wrong(world: World) -> None:
    """`--log-level warning` omits decisions and readiness."""
    with world.leader() as first:
        first.end()
    with world.child("run", "--speed", "max", "--log-level", "warning") as process:
        world.ok("place", "BUY", "0.001", "BTCUSDT", "--wait", "filled", "--timeout", "20s")
        assert process.end() == 0
        assert process.talk == []


def test_what_ends_a_process_is_a_line_of_its_log(world: World, tmp_path: Path) -> None:
    """With JSON logs the final error is JSON too, with the exit code."""
    with World("memory://").child("paper-exchange") as first:
        address = first.expect(":")
        second = Child("paper-exchange", "--listen", address, "--log-format", "json")
        last = json.loads(second.expect("cannot listen", err=True))

        assert second.wait() == last["exit_code"] == 6
        assert last["level"] == "ERROR"
