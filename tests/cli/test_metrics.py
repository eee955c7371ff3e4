"""Metrics and probes over HTTP while an order is placed, and metrics computed from a log."""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.world import Child, World

PATIENCE_S = 120.0
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A log of the test."""
    return World(f"sqlite:///{tmp_path / 'kernel.db'}")


def port_of(process: Child) -> int:
    """The port at which a kernel says it serves."""
    line = process.expect("metrics: http://127.0.0.1:", err=True)
    return int(line.rpartition(":")[2].removesuffix("/metrics"))


def asked(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def scraped(port: int) -> Series:
    """Every served series, parsed as Prometheus does."""
    status, text = asked(port, "/metrics")
    assert status == 200
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        (item.name.removeprefix("exchange_kernel_"), tuple(sorted(item.labels.items()))): item.value for item in samples
    }


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_an_order_moves_the_counters(world: World) -> None:
    """All series exist at zero; a placed order is counted at each step; no series carries its id."""
    attempt = ("attempts_total", (("kind", "SUBMIT"), ("outcome", "ACCEPTED")))
    with world.child("run", "--speed", "max", "--metrics-port", "0") as leader:
        port = port_of(leader)
        leader.expect("ready: leads", err=True)
        before = scraped(port)
        assert before[attempt] == 0
        assert before["leader_election_master_status", (("name", "reconciler"),)] == 1
        world.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--id", "counted")
        until(lambda: scraped(port)[attempt] == 1)
        after = scraped(port)
        shown = world.ok("metrics", "--metrics-port", str(port))
        assert leader.end() == 0

    assert before.keys() == after.keys()
    assert all(after[key] >= value for key, value in before.items() if key[0].endswith(("_total", "_count", "_bucket")))
    for name, labels in (
        ("attempts_started_total", (("kind", "SUBMIT"),)),
        ("venue_requests_total", (("operation", "SUBMIT"), ("result", "ANSWERED"))),
        ("venue_request_duration_seconds_count", (("operation", "SUBMIT"),)),
        ("intent_to_venue_seconds_count", (("kind", "SUBMIT"),)),
        ("workqueue_adds_total", (("name", "reconciler"),)),
        ("log_appends_total", (("result", "RECORDED"),)),
        ("reconcile_duration_seconds_count", ()),
        ("live_intents", (("status", "SYNCED"),)),
    ):
        assert after[name, labels] > before[name, labels], name
    assert after["projection_lag_events", ()] == 0
    assert after["unknown_attempts", ()] == 0
    assert not [key for key in after if "counted" in str(key) or "BTCUSDT" in str(key)]
    assert "exchange_kernel_attempts_total" in shown


def test_readiness_turns_and_life_goes_on(world: World, tmp_path: Path) -> None:
    """Without a venue /healthz is 200 and /readyz 503 with the missing conditions; with one both are 200; other paths
    are 404."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
    with world.child("run", "--address", address, "--metrics-port", "0") as kernel:
        port = port_of(kernel)
        until(lambda: "VENUE_CONNECTED" in asked(port, "/readyz")[1] and "LEASE_HELD" not in asked(port, "/readyz")[1])
        status, text = asked(port, "/readyz")
        assert status == 503
        assert json.loads(text)["missing"] == ["VENUE_CONNECTED", "VENUE_SNAPSHOT_COMPLETE"]
        assert asked(port, "/healthz") == (200, "ok\n")
        exchange = Child("paper-exchange", "--listen", address, "--journal", str(tmp_path / "exchange.journal"))
        try:
            until(lambda: asked(port, "/readyz")[0] == 200)
            assert json.loads(asked(port, "/readyz")[1]) == {"ready": True, "missing": [], "reasons": {}}
        finally:
            exchange.close()
        until(lambda: asked(port, "/readyz")[0] == 503)
        assert asked(port, "/healthz?verbose")[0] == 200
        assert asked(port, "/metrics/../etc/passwd")[0] == 404
        assert asked(port, "/metrics", "POST")[0] == 405
        assert asked(port, "/healthz", "HEAD") == (200, "")
        assert kernel.end() == 0
    with pytest.raises(ConnectionError):
        asked(port, "/healthz")


def test_who_stands_by_lives_and_is_not_ready(world: World, tmp_path: Path) -> None:
    """A standby kernel misses the lease in /readyz and is no leader in its metrics."""
    path = tmp_path / "orderctl.toml"
    path.write_text('speed = "max"\nmetrics_port = 0\nmetrics_host = "127.0.0.1"\n')
    with world.leader(), world.child("run", "--config", str(path)) as second:
        port = port_of(second)
        second.expect("standing by", err=True)
        status, text = asked(port, "/readyz")
        assert (status, json.loads(text)["missing"][0]) == (503, "LEASE_HELD")
        assert asked(port, "/healthz")[0] == 200
        assert scraped(port)["leader_election_master_status", (("name", "reconciler"),)] == 0


def test_a_port_in_use_is_told_before_anything_starts(world: World, tmp_path: Path) -> None:
    """A port in use is exit code 2 in one line, and no log is created."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        result = world.call("run", "--metrics-port", str(held.getsockname()[1]))

    assert result.exit_code == 2
    assert os.strerror(errno.EADDRINUSE) in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_nobody_serves_metrics(world: World) -> None:
    """Without a serving kernel `metrics --metrics-port` is exit code 6 and says how to start one."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    result = world.call("metrics", "--metrics-port", str(port))

    assert result.exit_code == 6
    assert f"orderctl run --metrics-port {port}" in result.stderr


def test_a_log_tells_without_a_kernel(world: World) -> None:
    """A log alone gives intents, findings and conditions, and no process counters."""
    with world.leader():
        world.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000")
    found = {item["name"]: item for item in json.loads(world.ok("metrics", "-o", "json"))}
    live = {item["labels"]["status"]: item["value"] for item in found["exchange_kernel_live_intents"]["series"]}

    assert live["SYNCED"] == 1
    assert found["exchange_kernel_ready"]["series"][0]["value"] == 0
    assert sum(item["value"] for item in found["exchange_kernel_open_findings"]["series"]) == 0
    assert "workqueue_depth" not in found
    assert "live_intents" in world.ok("metrics")
