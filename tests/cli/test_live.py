"""Commands beside a kernel in its own process: one log, several processes."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest
import yaml

from kernel.events import OrderFilled
from kernel.models import AccountState, OrderIntent, OrderState, Position
from kernel.order_spec import SymbolMetadata
from kernel.values import Value
from tests.cli.world import World

LIMIT = ("--limit", "50000.00")


def fresh(name: str = "i") -> str:
    """An intent id that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def test_place_prints_the_intent_id_and_nothing_else(live: World) -> None:
    """`place` prints the intent id on stdout and nothing on stderr, and the venue has the order."""
    result = live.call("place", "buy", "0.001", "BTCUSDT", *LIMIT)

    assert result.exit_code == 0
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\n", result.stdout)
    assert result.stderr == ""
    order = json.loads(live.ok("get", "order", result.stdout.strip(), "-o", "json"))
    assert (order["status"]["ord_status"], order["reconciliation_status"]) == ("NEW", "SYNCED")


def test_decimals_go_in_and_come_out_exactly(live: World) -> None:
    """A decimal is an integer in the log and the same decimal in JSON."""
    name = fresh()
    live.ok("place", "BUY", "0.00123", "BTCUSDT", "--limit", "50000.01", "--id", name)

    intent = json.loads(live.ok("get", f"intent/{name}", "-o", "json"))
    stored = json.loads(live.ok("events", "--for", name, "--type", "IntentCreated", "-o", "jsonl"))

    assert (intent["order"]["quantity"], intent["order"]["price"]) == ("0.00123000", "50000.01")
    order = stored["state"]["intent"]["order"]
    assert (order["quantity"], order["price"]) == (123_000, 5_000_001)
    assert stored["stream_id"] == f"intent:{name}"
    assert {"position", "version", "actor", "evidence", "leaf_hash", "chain_hash"} <= set(stored)


def test_filled_is_waited_for(live: World) -> None:
    """`place --wait filled` returns after the fill, and fills, positions and account show it."""
    name = fresh()

    live.ok("place", "BUY", "0.002", "BTCUSDT", "--id", name, "--wait", "filled", "--timeout", "20s")

    fills = json.loads(live.ok("get", "fills", name, "-o", "json"))
    assert sum(float(fill["last_qty"]) for fill in fills) == 0.002
    one = json.loads(live.ok("get", "fill", fills[0]["fill_key"], "-o", "json"))
    assert one == fills[0]
    assert live.ok("wait", name, "--for", "terminal") == f"intent/{name} condition met\n"
    assert "filled, not canceled" in live.call("wait", name, "--for", "canceled", "--or-fail-on", "filled").stderr
    assert live.call("wait", name, "--for", "canceled", "--or-fail-on", "rejected,filled").exit_code == 1
    assert "BTC" in live.ok("get", "account")
    assert live.ok("get", "positions", "-o", "name") == "position/BTCUSDT\n"


def test_a_refusal_is_code_5_with_the_id_on_both(live: World) -> None:
    """A rejected order is exit code 5, with the id on stdout and the reason with the id on stderr."""
    name = fresh("doomed")

    result = live.call("place", "BUY", "0.01", "BTCUSDT", "--limit", "90000", "--post-only", "--id", name)

    assert (result.exit_code, result.stdout) == (5, f"{name}\n")
    assert name in result.stderr
    assert "match" in result.stderr
    assert live.call("wait", name, "--for", "working", "--or-fail-on", "rejected").exit_code == 1
    assert live.call("cancel", name).exit_code in (0, 5)


def test_cancel_takes_it_off_the_book(live: World) -> None:
    """`cancel` cancels at the venue, repeating it is no error, and `describe` shows all of it."""
    name = fresh()
    live.ok("place", "SELL", "0.001", "BTCUSDT", "--limit", "99999", "--id", name, "--owner", "mm-1")

    assert live.ok("cancel", name) == f"intent/{name} canceled\n"
    assert live.ok("cancel", name) == f"intent/{name} canceled\n"
    assert live.ok("get", "intents", "--owner", "mm-1", "-o", "name") == f"intent/{name}\n"
    page = live.ok("describe", name)
    for words in (
        "Desired order:",
        "mm-1",
        "CANCELED",
        "Attempts:",
        "Venue orders:",
        "Findings: <none>",
        "AttemptStarted",
    ):
        assert words in page


def test_canceling_what_is_filled_is_too_late(live: World) -> None:
    """Canceling a filled order is exit code 5 with the reason."""
    name = fresh()
    live.ok("place", "BUY", "0.001", "BTCUSDT", "--id", name, "--wait", "filled", "--timeout", "20s")

    result = live.call("cancel", name)

    assert result.exit_code == 5
    assert "FILLED" in result.stderr


def test_a_watch_misses_nothing(live: World) -> None:
    """A watch shows what exists, then every later state in order."""
    before, name = fresh("before"), fresh("after")
    live.ok("place", "BUY", "0.001", "BTCUSDT", *LIMIT, "--id", before, "--owner", before)
    with live.child("get", "orders", "-w", "-o", "jsonl", "--owner", before) as watch:
        assert json.loads(watch.expect(before))["status"]["ord_status"] == "NEW"
        live.ok("place", "BUY", "0.001", "BTCUSDT", *LIMIT, "--id", name, "--owner", before)
        watch.expect(name)
        live.ok("cancel", name)
        while json.loads(line := watch.expect(name))["status"]["ord_status"] != "CANCELED":
            assert json.loads(line)["intent_id"] == name
        assert watch.process.poll() is None


def test_a_watch_of_events_has_no_gap(live: World) -> None:
    """The positions of a watch are consecutive from present to new events."""
    name = fresh()
    head = json.loads(live.ok("health", "-o", "json"))["position"]
    with live.child("events", "-w", "-o", "jsonl", "--after", str(head - 3)) as watch:
        first = json.loads(watch.expect("position"))["position"]
        live.ok("place", "BUY", "0.001", "BTCUSDT", *LIMIT, "--id", name)
        positions = [first]
        ours = ("OrderAccepted", f"intent:{name}")  # that of an earlier test may be among the first
        while ((event := json.loads(watch.expect("position")))["topic"], event["stream_id"]) != ours:
            positions.append(event["position"])
        positions.append(event["position"])

    assert positions[0] == head - 2
    assert positions == list(range(positions[0], positions[-1] + 1))


def test_a_watch_of_fills_shows_each_once(live: World) -> None:
    """A watch shows each fill once, as it is recorded."""
    name = fresh()
    with live.child("get", "fills", "-w", "-o", "jsonl") as watch:
        live.ok("place", "BUY", "0.001", "BTCUSDT", "--id", name, "--wait", "filled", "--timeout", "20s")
        fill = json.loads(watch.expect(name))

    assert (fill["intent_id"], fill["side"]) == (name, "BUY")


@pytest.mark.parametrize("form", ["table", "wide", "json", "yaml", "name", "jsonl"])
@pytest.mark.parametrize("kind", ["int", "ord", "f", "pos", "acc", "sym", "find", "ext"])
def test_every_type_prints_in_every_format(live: World, kind: str, form: str) -> None:
    """Every type, by its short name, prints in every format."""
    assert live.call("get", kind, "-o", form).exit_code == 0


@pytest.mark.parametrize("form", ["table", "wide", "json", "yaml", "jsonl"])
def test_events_print_in_every_format(live: World, form: str) -> None:
    """`events` prints in every format, beginning with the log's creation."""
    text = live.ok("events", "-o", form)

    assert "LogCreated" in text.split("LeaderElected")[0]


def test_health_of_a_leader_is_ready(live: World) -> None:
    """`health` of a led log is exit code 0, every condition true, with the leader's name."""
    found = json.loads(live.ok("health", "-o", "json"))

    assert found["ready"] is True
    assert all(item["status"] for item in found["conditions"])
    assert (found["epoch"], found["unknown_attempts"], found["open_findings"]) == (1, 0, 0)
    assert "Ready:               yes" in live.ok("health")


@pytest.mark.parametrize("form", ["table", "wide", "json", "yaml", "name", "jsonl"])
def test_health_prints_in_every_format(live: World, form: str) -> None:
    """`health` prints in every format."""
    assert "paper" in live.ok("health", "-o", form)


def test_two_logs_are_two_worlds(live: World, tmp_path: Path) -> None:
    """Two logs share nothing, and each paper exchange has its own journal."""
    other = World(f"sqlite:///{tmp_path / 'other.db'}", "other")
    with other.leader():
        other.ok("place", "BUY", "0.001", "BTCUSDT", *LIMIT, "--id", "only-here")

        assert other.ok("get", "intents", "-o", "name") == "intent/only-here\n"
        assert live.call("get", "intent", "only-here").exit_code == 2


def test_postgres_is_no_different(postgres_url: str, exchange_id: str, tmp_path: Path) -> None:
    """The same commands work on a log in PostgreSQL."""
    world = World(postgres_url, exchange_id)
    with world.leader("--journal", str(tmp_path / "paper.journal")) as leader:
        assert world.ok("place", "BUY", "0.001", "BTCUSDT", *LIMIT, "--id", "p1") == "p1\n"
        assert world.ok("get", "orders", "-o", "name") == "order/p1\n"
        assert world.call("health").exit_code == 0
        assert world.ok("cancel", "p1") == "intent/p1 canceled\n"
        assert leader.end() == 0
    assert world.call("health").exit_code == 6


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("intents", OrderIntent), ("orders", OrderState), ("fills", OrderFilled), ("positions", Position),
        ("account", AccountState), ("symbols", SymbolMetadata),
    ],
)  # fmt: skip
def test_json_has_the_models_field_names(live: World, kind: str, model: type[Value]) -> None:
    """JSON, JSON lines and YAML have exactly the model's fields, and events also their position and time."""
    live.ok("place", "BUY", "0.001", "BTCUSDT", "--wait", "filled", "--timeout", "20s")
    extra = {"position", "recorded_at_ns"} if kind == "fills" else set()

    position = json.loads(live.ok("health", "-o", "json"))["position"]  # the account is observed again all the time
    get = ("get", kind, "--as-of", str(position), "-o")

    found = json.loads(live.ok(*get, "json"))

    assert found
    assert all(set(item) == set(model.__struct_fields__) | extra for item in found)
    assert yaml.safe_load(live.ok(*get, "yaml")) == found
    assert [json.loads(line) for line in live.ok(*get, "jsonl").splitlines()] == found


def test_several_names_are_an_array_in_their_order_of_creation(live: World) -> None:
    """`get TYPE NAME…` and `get TYPE/NAME…` agree; JSON of one name is an object, of several an array."""
    one, two = fresh("one"), fresh("two")
    for name in (one, two):
        live.ok("place", "BUY", "0.001", "BTCUSDT", *LIMIT, "--id", name)

    assert live.ok("get", "orders", one, two, "-o", "name") == f"order/{one}\norder/{two}\n"
    assert live.ok("get", f"order/{two}", f"order/{one}", "-o", "name") == f"order/{one}\norder/{two}\n"
    assert [item["intent_id"] for item in json.loads(live.ok("get", "int", one, two, "-o", "json"))] == [one, two]
    assert json.loads(live.ok("get", f"int/{one}", "-o", "json"))["intent_id"] == one
    result = live.call("get", "orders", one, "nobody", "no-one")
    assert (result.exit_code, "order nobody, no-one not found" in result.stderr) == (2, True)
