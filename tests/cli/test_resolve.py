"""`resolve` records an operator's resolution of an attempt or a finding; `get findings` shows the remedy."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner

from cli import cli
from kernel import events
from kernel.clock import SystemClock
from kernel.lifecycle.findings import raised
from kernel.log import Append, Write
from kernel.models import AttemptKind, Evidence, ExecType, FindingKind
from kernel.order_spec import OrderType, Side, StandardOrder
from replay.log_access.log_reader import existing_log
from tests.cli.test_cancel_all import place
from tests.cli.world import World
from tests.commands import fresh_command_id

ORDER = StandardOrder(symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=1_000_000, price=50_000)
SAID = ("--evidence", "support ticket 4711")


def record(world: World, stream_id: str, *made: events.BaseEvent) -> int:
    """Append events as a leader would; returns the first position."""

    async def session() -> int:
        async with existing_log(world.url, "paper") as log:
            write = Write(stream_id, made)
            command = Append(fresh_command_id(), (write,), "kernel", Evidence.INFERRED, is_fact=True)
            return (await log.append(command)).first_position

    return asyncio.run(session())


def unknown_order(world: World) -> int:
    """Record an attempt of order `a` with an unknown outcome at a venue without a validity window; returns its
    position."""
    place(world, "a")
    now_ns = SystemClock().now_ns()
    started = events.AttemptStarted(
        intent_id="a", number=1, kind=AttemptKind.SUBMIT, client_order_id="c1", order=ORDER, generation=1, epoch=0,
        stamp_ns=now_ns, send_by_ns=now_ns, state_position=1, decided_at_ns=now_ns,
    )  # fmt: skip
    position = record(world, events.intent_stream("a"), started)
    finding = raised(
        "UNKNOWN_TOO_LONG:a", FindingKind.UNKNOWN_TOO_LONG, "seen", intent_id="a", symbol_id="BTCUSDT", now_ns=now_ns
    )
    unknown = events.AttemptUnknown(intent_id="a", attempt_position=position, text="timeout")
    record(world, events.intent_stream("a"), unknown, finding)
    return position


def verdicts(world: World) -> list[dict[str, object]]:
    lines = world.ok("events", "--type", "AttemptResolved", "-o", "jsonl").splitlines()
    return [json.loads(line) for line in lines]


def test_a_finding_says_what_to_do_and_that_does_it(idle: World) -> None:
    """The remedy in `get findings` names the command, and its event has who, what and the evidence."""
    position = unknown_order(idle)
    assert "`orderctl resolve a --as dead --evidence TEXT`" in idle.ok("get", "findings")
    assert "`orderctl resolve a --as dead --evidence TEXT`" in idle.ok("describe", "a")

    assert idle.ok("resolve", "intent/a", "--as", "dead", "--yes", *SAID) == "intent/a resolved as DEAD\n"

    (verdict,) = verdicts(idle)
    assert str(verdict["actor"]).startswith("operator")
    assert verdict["evidence"] == "OPERATOR"
    assert verdict["state"] == {
        "intent_id": "a",
        "attempt_position": position,
        "outcome": "DEAD",
        "text": "support ticket 4711",
    }
    assert "RESOLVED" in idle.ok("get", "findings")
    again = idle.call("resolve", "a", "--as", "dead", "--yes", *SAID)
    assert again.exit_code == 4
    assert "nothing to resolve" in again.stderr


def test_an_external_order_becomes_the_attempts(idle: World) -> None:
    """`--order` makes an external order of the symbol and side the intent's, with its trades; another one is refused."""
    unknown_order(idle)
    for order_id, side in (("88", Side.BUY), ("89", Side.SELL)):
        trade = events.ExternalOrderObserved(
            symbol_id="BTCUSDT", exchange_order_id=order_id, exec_type=ExecType.TRADE, side=side, order_qty=1_000_000,
            fill_key=f"t{order_id}", last_qty=400_000, last_px=50_000, transact_time_ns=SystemClock().now_ns(),
        )  # fmt: skip
        record(idle, events.VENUE_STREAM, trade)
    wrong = idle.call("resolve", "a", "--order", "89", "--yes", *SAID)
    assert wrong.exit_code == 5
    assert "side" in wrong.stderr
    assert idle.call("resolve", "a", "--order", "90", "--yes", *SAID).exit_code != 0
    assert idle.call("resolve", "a", "--order", "88", "--as", "dead", "--yes", *SAID).exit_code == 2

    assert idle.ok("resolve", "a", "--order", "88", "--yes", *SAID) == "intent/a resolved as order 88\n"

    shown = json.loads(idle.ok("get", "order", "a", "-o", "json"))
    assert "88" in json.dumps(shown)
    (fill,) = [json.loads(line) for line in idle.ok("events", "--type", "OrderFilled", "-o", "jsonl").splitlines()]
    assert (fill["evidence"], fill["state"]["fill_key"], fill["state"]["intent_id"]) == ("OPERATOR", "t88", "a")
    assert "OPEN" not in idle.ok("get", "findings")


def test_it_asks_and_names_the_risk(idle: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer no leaves the attempt unknown (1); without a terminal `--yes` is needed (2)."""
    unknown_order(idle)
    assert idle.call("resolve", "a", "--as", "dead", *SAID).exit_code == 2
    monkeypatch.setattr("replay.cli.base.is_asked", lambda: True)
    words = ["resolve", "a", "--as", "dead", *SAID]
    result = CliRunner().invoke(cli, words, input="n\n", env=idle.environment, prog_name="orderctl")
    assert result.exit_code == 1
    assert "an order may be open" in result.stderr
    assert verdicts(idle) == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["a", "--as", "dead", "--yes"], 2),
        (["a", "--yes", *SAID], 2),
        (["--as", "dead", *SAID], 2),
        (["a", "--as", "dead", "--finding", "f", *SAID], 2),
        (["a", "--as", "accepted", *SAID], 2),
        (["nobody", "--as", "dead", "--yes", *SAID], 2),
        (["a", "--as", "dead", "--yes", "--evidence", " "], 5),
        (["--finding", "nothing", *SAID], 2),
        (["--finding", "STORM:BTCUSDT", "--evidence", ""], 5),
    ],
)
def test_what_makes_no_sense_is_refused(idle: World, words: list[str], code: int) -> None:
    """Invalid input has its exit code, and nothing is written."""
    unknown_order(idle)
    storm = raised("STORM:BTCUSDT", FindingKind.STORM, "seen", symbol_id="BTCUSDT", now_ns=1)
    record(idle, events.CONTROL_STREAM, storm)
    before = idle.ok("events", "-o", "jsonl")
    assert idle.call("resolve", *words).exit_code == code
    assert idle.ok("events", "-o", "jsonl") == before


def test_a_finding_is_resolved(idle: World) -> None:
    """A finding is resolved by its id as `get -o name` prints it; repeating it is an error."""
    storm = raised("STORM:BTCUSDT", FindingKind.STORM, "seen", symbol_id="BTCUSDT", now_ns=1)
    record(idle, events.CONTROL_STREAM, storm)
    assert idle.ok("get", "findings", "-o", "name") == "finding/STORM:BTCUSDT\n"
    assert "orderctl resolve --finding STORM:BTCUSDT" in idle.ok("get", "findings")

    said = idle.ok("resolve", "--finding", "finding/STORM:BTCUSDT", "--evidence", "deposited")

    assert said == "finding/STORM:BTCUSDT resolved\n"
    shown = json.loads(idle.ok("get", "finding/STORM:BTCUSDT", "-o", "json"))
    assert shown["resolution"] == "deposited"
    assert idle.call("resolve", "--finding", "STORM:BTCUSDT", "--evidence", "again").exit_code == 4
