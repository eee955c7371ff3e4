"""`orderctl heartbeat` keeps a script's orders alive, and they are canceled when it is killed."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from kernel.clock import LoopClock, SeededIds
from kernel.errors import LogUnavailableError
from kernel.log import open_log
from replay import open_kernel
from replay.operations.heartbeat_loop import HeartbeatSchedule, send_forever
from tests.cli.world import World

BID = ("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--owner", "mm-1", "--id")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A log of the test."""
    return World(f"sqlite:///{tmp_path / 'kernel.db'}")


def test_a_script_that_is_killed_has_its_orders_canceled(world: World) -> None:
    """The leader cancels the orders of a killed script with the reason; orders placed before its next heartbeat do not
    stay."""
    with world.leader(), world.child("heartbeat", "mm-1", "--ttl", "1s", "--every", "300ms") as script:
        script.expect("heartbeat/mm-1 recorded")
        world.ok(*BID, "works")
        assert script.end(signal.SIGKILL) == -signal.SIGKILL
        world.ok("wait", "works", "--for", "canceled", "--timeout", "20s")
        (canceled,) = world.ok("events", "--type", "IntentCancelRequested", "-o", "jsonl").splitlines()
        assert json.loads(canceled)["state"]["reason"].startswith("mm-1 missed its heartbeat")
        assert json.loads(canceled)["actor"] == "kernel"
        world.ok(*BID, "during", "--wait", "recorded")
        world.ok("wait", "during", "--for", "canceled", "--timeout", "20s")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_ended_in_order_it_disarms_if_it_was_told_to(idle: World, number: signal.Signals, code: int) -> None:
    """Ended in order, it disarms with `--disarm`; without, it stays armed and says so."""
    with idle.child("heartbeat", "mm-1", "--ttl", "1m", "--every", "10s", "--disarm") as script:
        script.expect("recorded")
        assert script.end(number) == code
        script.expect("heartbeat/mm-1 disarmed")
    with idle.child("heartbeat", "mm-1", "--ttl", "1m", "--every", "10s") as script:
        script.expect("recorded")
        assert script.end(number) == code
        script.expect("mm-1 stays armed", err=True)
    topics = [json.loads(line)["topic"] for line in idle.ok("events", "-o", "jsonl").splitlines()]

    assert topics[-3:] == ["HeartbeatReceived", "HeartbeatDisarmed", "HeartbeatReceived"]


def test_one_beat_at_a_time(idle: World) -> None:
    """Each call sends a heartbeat; an immediate repeat is not recorded again; after disarm the owner is not watched."""
    said = [idle.ok("heartbeat", "mm-1", *more) for more in ((), (), ("--ttl", "5s"), ("--disarm",), ("--disarm",))]

    assert [line.removeprefix("heartbeat/mm-1 ").strip() for line in said] == [
        "recorded", "recorded a moment ago", "recorded", "disarmed", "was not armed"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("mm-1", "--ttl", "100ms"), "ttl_s 0.1: must be between 1 and 86400 s"),
        (("mm-1", "--ttl", "2s", "--every", "1.5s"), "interval 1.5 s: it must be above 0 s and at most half"),
        (("mm-1", "--every", "0s"), "heartbeat interval 0 s: it must be above 0 s"),
        ((" \t",), "1 to 128 printable characters"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(idle: World, words: tuple[str, ...], told: str) -> None:
    """An impossible schedule is exit code 5 with limit and value, and nothing is written."""
    before = idle.ok("events", "-o", "jsonl")
    result = idle.call("heartbeat", *words)

    assert (result.exit_code, result.stdout) == (5, "")
    assert told in result.stderr
    assert idle.ok("events", "-o", "jsonl") == before


@pytest.mark.looptime
async def test_a_log_that_is_away_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unavailable log is reported and retried at the next heartbeat: giving up would cancel the orders."""
    clock, said = LoopClock(), list[str]()
    async with (
        open_log("memory://", exchange_id="paper", clock=clock, ids=SeededIds(1)) as log,
        open_kernel(log, clock=clock, ids=SeededIds(2)) as kernel,
    ):
        honest, tries = kernel.heartbeat, list[float]()

        async def away_twice(owner: str, ttl_s: float) -> bool:
            tries.append(ttl_s)
            if len(tries) <= 2:
                raise LogUnavailableError("the database is down")
            return await honest(owner, ttl_s)

        monkeypatch.setattr(kernel, "heartbeat", away_twice)
        beating = asyncio.create_task(
            send_forever(kernel, HeartbeatSchedule("mm-1", 9, 3), say=said.append, clock=clock)
        )
        await asyncio.sleep(10)
        beating.cancel()
        assert said == ["cannot record a heartbeat of mm-1: the database is down; next try in 3 s"] * 2
        assert kernel.state.heartbeats["mm-1"].ttl_ns == 9 * 10**9
