"""Bad input has its exit code and a message on stderr, and writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.world import World

PLACE = ("place", "--wait", "recorded")
BAD = [
    (
        (*PLACE, "BUY", "0.001", "BTCUSDT", "--limit", "60000.001"),
        5,
        "order.price 60000.001 has more than 2 decimal places",
    ),
    ((*PLACE, "BUY", "0.123456789", "BTCUSDT"), 5, "order.quantity 0.123456789 has more than 8 decimal places"),
    ((*PLACE, "BUY", "1e400", "BTCUSDT"), 5, "order.quantity"),
    ((*PLACE, "BUY", "nan", "BTCUSDT"), 5, "order.quantity `nan`: must be finite and not negative"),
    ((*PLACE, "BUY", "ten", "BTCUSDT"), 5, "quantity `ten`: must be a decimal number"),
    ((*PLACE, "BUY", "0", "BTCUSDT"), 5, "quantity"),
    (
        (*PLACE, "BUY", "0.000015", "BTCUSDT", "--limit", "60000"),
        5,
        "quantity 0.000015 is not a multiple of the lot size 0.00001",
    ),
    ((*PLACE, "BUY", "0.00001", "BTCUSDT", "--limit", "60000"), 5, "notional 0.6 is below the minimum 5"),
    (
        (*PLACE, "BUY", "1", "BTCUSDT", "--stop", "60000"),
        5,
        "BTCUSDT takes LIMIT and MARKET orders, not STOP (the paper exchange takes it with `--markets full`)",
    ),
    ((*PLACE, "BUY", "1", "BTCUSDT", "--post-only"), 5, "post_only"),
    (
        (*PLACE, "BUY", "1", "BTCUSDT", "--limit", "60000", "--tif", "DAY"),
        5,
        "BTCUSDT takes FOK, GTC and IOC orders, not DAY",
    ),
    ((*PLACE, "BUY", "1", "NOSUCH"), 5, "symbol `NOSUCH` is not known; known symbols: BTCUSDT, ETHUSDT"),
    ((*PLACE, "BUY", "1", "BTCUSDT", "--id", "no spaces"), 5, "intent id `no spaces`: must be 1 to 64 characters of"),
    ((*PLACE, "BUY", "1", "BTCUSDT", "--id", "a" * 65), 5, "intent id `aaa"),
    ((*PLACE, "BUY", "1", "BTCUSDT", "--tif", "NEVER"), 2, "NEVER"),
    ((*PLACE, "BUY", "1", "BTCUSDT", "--timeout", "soon"), 2, "is not a duration"),
    (("cancel", "nobody"), 2, "nobody not found"),
    (("modify", "nobody", "--limit", "1"), 2, "nobody not found"),
    (("wait", "nobody", "--for", "filled"), 2, "nobody not found"),
    (("wait", "nobody", "--for", "happy"), 2, "happy"),
    (("wait", "nobody", "--for", "filled", "--or-fail-on", "sad"), 2, "sad"),
    (("describe", "nobody"), 2, "nobody not found"),
    (("get", "order", "nobody"), 2, "order nobody not found"),
    (("get", "external", "nobody"), 2, "external order nobody not found"),
    (("get", "intent/nobody"), 2, "intent nobody not found"),
    (("get", "unicorns"), 2, "no resource type 'unicorns': use one of intents, orders"),
    (("get", "symbols", "--owner", "me"), 5, "owner"),
    (("get", "intent/a", "order/b"), 5, "must be TYPE/NAME, each with the same TYPE"),
    (("events", "--for", "nobody"), 2, "nobody not found"),
    (("events", "--type", "Nonsense"), 5, "Nonsense"),
    (("get", "orders", "-o", "xml"), 2, "xml"),
]


@pytest.mark.parametrize(("words", "code", "text"), BAD, ids=[" ".join(words)[:60] for words, _, _ in BAD])
def test_bad_input_has_its_code_and_writes_nothing(idle: World, words: tuple[str, ...], code: int, text: str) -> None:
    """Exit code and message name the problem; the log is unchanged, and stdout empty."""
    before = idle.ok("events", "-o", "jsonl")

    result = idle.call(*words)

    assert (result.exit_code, result.stdout) == (code, "")
    assert text in result.stderr
    assert "Traceback" not in result.stderr
    assert idle.ok("events", "-o", "jsonl") == before


def test_all_problems_of_an_order_are_told(idle: World) -> None:
    """Every violated constraint has its line."""
    result = idle.call("place", "BUY", "0.123456789", "BTCUSDT", "--limit", "1.001", "--stop", "x")

    assert result.exit_code == 5
    assert result.stderr.splitlines()[1:] == [
        "  order.quantity 0.123456789 has more than 8 decimal places",
        "  order.price 1.001 has more than 2 decimal places",
        "  order.stop_price `x`: must be a decimal number",
    ]


def test_a_wrong_url_makes_no_log(tmp_path: Path) -> None:
    """A log that does not exist is an error and is not created."""
    result = World(f"sqlite:///{tmp_path / 'none.db'}").call("place", "BUY", "1", "BTCUSDT")

    assert result.exit_code == 2
    assert "there is no log" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_exchanges_log_is_a_conflict(idle: World) -> None:
    """A log of another account is refused."""
    result = idle.call("get", "orders", "--exchange", "other")

    assert result.exit_code == 4
    assert "'paper', not of 'other'" in result.stderr


def test_a_taken_id_is_a_conflict_and_the_same_order_is_none(idle: World) -> None:
    """Repeating an id with an equal order places nothing new; another order is refused."""
    words = (*PLACE, "BUY", "0.001", "BTCUSDT", "--limit", "60000", "--id", "twice")

    assert idle.ok(*words) == "twice\n"
    assert idle.ok(*words) == "twice\n"
    assert idle.call(*PLACE, "BUY", "0.002", "BTCUSDT", "--limit", "60000", "--id", "twice").exit_code == 4
    assert len(json.loads(idle.ok("get", "intents", "-o", "json"))) == 1


def test_without_a_kernel_an_order_is_recorded_and_said_to_wait(idle: World) -> None:
    """Without a leader `place` prints the id and the status on stderr, and `wait` times out."""
    result = idle.call("place", "BUY", "0.001", "BTCUSDT", "--limit", "60000", "--id", "alone", "--timeout", "50ms")

    assert (result.exit_code, result.stdout) == (0, "alone\n")
    assert "nothing sent yet" in result.stderr
    assert idle.call("wait", "alone", "--for", "working", "--timeout", "50ms").exit_code == 3
    assert idle.call("wait", "alone", "--for", "working", "--timeout", "0").exit_code == 3
    assert idle.call("get", "order", "alone").exit_code == 2
    assert idle.ok("cancel", "intent/alone") == "intent/alone canceled\n"
    assert idle.ok("wait", "alone", "--for", "canceled") == "intent/alone condition met\n"


def test_no_market_is_not_ready(tmp_path: Path) -> None:
    """A log on which no kernel has run has no symbols: exit code 6 with the remedy."""
    world = World(f"sqlite:///{tmp_path / 'kernel.db'}")
    with world.child("run", "--address", "127.0.0.1:1") as process:
        process.expect("not ready", err=True)
        result = world.call("place", "BUY", "1", "BTCUSDT")

    assert result.exit_code == 6
    assert "orderctl run" in result.stderr


def test_nothing_found_is_talk(idle: World) -> None:
    """An empty result is a message for people and an empty array for programs."""
    result = idle.call("get", "orders")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No resources found\n")
    assert idle.ok("get", "orders", "-o", "json") == "[]\n"


def test_health_without_a_leader_is_code_6(idle: World) -> None:
    """Without a leader `health` is exit code 6 and names the missing condition."""
    result = idle.call("health", "-o", "json")

    assert result.exit_code == 6
    found = json.loads(result.stdout)
    assert found["ready"] is False
    assert {item["type"]: item["status"] for item in found["conditions"]}["LEASE_HELD"] is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense = 1", "nonsense is not a known setting; known settings: "),
        ("[kernel]\nworkerz = 1", "kernel.workerz is not a known setting; known settings: "),
        ("[kernel]\nworkers = 0", "workers"),
        ("[limits]\nopen_orders = 1", "limits.open_orders is not a known field"),
        (
            "[limits.symbols.BTCUSDT]\nopen_orders_max = -1",
            "limits.symbols.BTCUSDT.open_orders_max `-1`: must be at least",
        ),
        ("limits = 1", "[limits] must be a table of limits"),
        ("speed = ", "cannot be read"),
        ('speed = "warp"', "warp"),
    ],
)
def test_a_bad_configuration_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """Unknown keys, impossible values and broken files are refused before anything is opened."""
    path = tmp_path / "orderctl.toml"
    path.write_text(text)

    result = World(f"sqlite:///{tmp_path / 'kernel.db'}").call("run", "--config", str(path))

    assert result.exit_code == 5
    assert words in result.stderr
    assert not (tmp_path / "kernel.db").exists()


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ("BUY", "0", "BTCUSDT", "--post-only"),
            [
                "error: invalid standard order",
                "  quantity `0`: must be more than 0",
                "  post_only is for LIMIT orders that can rest, not MARKET GTC",
            ],
        ),
        (
            ("BUY", "1", "BTCUSDT", "--id", "no spaces"),
            [
                "error: the intent is not valid",
                "  intent id `no spaces`: must be 1 to 64 characters of `A-Z a-z 0-9 . _ -`, the first a letter or digit",
            ],
        ),
    ],
)
def test_a_line_for_each_problem_of_a_model(idle: World, words: tuple[str, ...], lines: list[str]) -> None:
    """Pydantic's errors are reported as ours, without links and types."""
    told = idle.call(*PLACE, *words).stderr.splitlines()

    for line, expected in zip(told, lines, strict=True):
        begin, _, end = expected.partition("…")
        assert line == expected or ("…" in expected and line.startswith(begin) and line.endswith(end))


def test_the_unexpected_is_one_line(idle: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error is exit code 2 and one line; the traceback needs --debug."""

    def broken(*_: object) -> None:
        raise RuntimeError("a\nbug")

    monkeypatch.setattr("replay.views.listing.listing", broken)

    assert idle.call("get", "orders").stderr == "error: unexpected RuntimeError: a bug (--debug prints the traceback)\n"
    assert idle.call("get", "orders").exit_code == 2
    assert "Traceback" in idle.call("--debug", "get", "orders").stderr
