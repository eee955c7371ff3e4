"""One session at the desk, every verb in the order in which somebody would use it; what it prints is kept in a file.

`KERNEL_REWRITE_TOUR=1 pytest tests/cli/test_tour.py` writes `tour.txt` anew, to be read as a diff. Times, ages,
positions, hosts and what is drawn at random are the same in it whenever it runs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.world import COMMANDS, Child, World

TOUR = Path(__file__).parent / "tour.txt"
REWRITE = os.environ.get("KERNEL_REWRITE_TOUR") == "1"
LINES_MAX = 45
"""What prints more is cut to its first lines."""
HEAD_LINES = 8

LADDER = """
apiVersion: exchange-kernel/v1
kind: Order
metadata: {name: bid-1, owner: mm-1, labels: {ladder: a}}
spec: {symbol_id: BTCUSDT, side: BUY, order_type: LIMIT, quantity: "0.0015", price: "50000.00", time_in_force: GTC}
---
apiVersion: exchange-kernel/v1
kind: Order
metadata: {name: bid-2, owner: mm-1, labels: {ladder: a}}
spec: {symbol_id: BTCUSDT, side: BUY, order_type: LIMIT, quantity: "0.0015", price: "49900.00", time_in_force: GTC}
"""
EITHER = """
apiVersion: exchange-kernel/v1
kind: OrderGroup
metadata: {name: either, owner: mm-2}
spec:
  mode: ONE_CANCELS_OTHER
  orders:
    - {name: low, symbol_id: BTCUSDT, side: BUY, order_type: LIMIT, quantity: "0.002", price: "50000.00"}
    - {name: high, symbol_id: BTCUSDT, side: SELL, order_type: LIMIT, quantity: "0.002", price: "70000.00"}
"""
ELSEWHERE = {"demo"}
"""The verb that begins no session: it is one."""


def padded(text: str) -> Callable[[re.Match[str]], str]:
    """The same text for whatever was found, what stands in groups left as it is; in a table the columns stay in place."""

    def same(found: re.Match[str]) -> str:
        before, after = (*found.groups(default=""), "", "")[:2]
        made = f"{before}{text}"
        width = len(found[0]) - len(after)
        return (made.ljust(width) if (after or found.string[found.end() :])[:1] == " " else made) + after

    return same


ACTOR = r"(?:reconciler|kernel|venue:paper|operator:ann|strategy:[\w-]+)"
STEADY = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "2026-01-01T00:00:00.000000Z"),
    (r"(?<![\w.-])\d+[smh](?:\d+[smh])?\b", "1s"),
    (r"\b[\w.-]+:\d+:[0-9a-f]{8}\b", "host:1:0a1b2c3d"),
    (r"\b[a-z2-7]{26}\b", "c" * 26),
    (r"(exchange-kernel/paper)\+[0-9a-f]{8}\+\S+", "+0a1b2c3d+" + "A" * 44),
    (r"\boperator:\w+", "operator:ann"),
    (r'(version=)"[^"]*"', '"0.1.0"'),
    (r"(?m)(^ *)\d+( +1s )", "n"),  # an event's position
    (r"(?m)(^)\d+( +2026-01-01T)", "n"),
    (r"\+[\d.]+ (?:ns|µs|ms|s)(?= )", "+1 ms"),  # the time since the one before
    (
        rf"({ACTOR} +)(?:\d+|\(\d+\)|-)(?= +\w)",
        "n",
    ),  # its cause: of what the venue says, answer or stream, whichever came first
    (r"(c{26} +)\d+( +-)", "n"),
    (r"(position )\d+ of \d+", "n of n"),
    (r"([Pp]osition:? +)\d+", "n"),
    (r"(?m)(^verified: the log of paper ).+$", "(0a1b2c3d0a1b2c3d) is intact up to position n (n events)"),
    (r"(projection_position )[\d.]+", "n"),
    (r"(venue order |Venue id: +|, of )\d+", "n"),
    (r"(?m)(^  )\d+( +c{26} )", "n"),
    (r'("exchange_order_id": )"\d+"', '"n"'),
    (r"(?m)(^BTCUSDT +)\d+( +\d+ +\d+ +[\d.]+$)", "n"),  # events of late
)
"""What differs from run to run, and what stands for it in the file."""


def steady(text: str, *, lines_max: int = LINES_MAX) -> str:
    """What a verb printed, as it is whenever it runs."""
    for pattern, same in STEADY:
        text = re.sub(pattern, padded(same), text)
    text = re.sub(r"\b1s +(ago|old)\b", r"1s \1", text)  # a session that took more than a minute has longer ages
    lines = [re.sub(" {3,}", "   ", line) if " Ready: " in line else line.rstrip() for line in text.splitlines()]
    if len(lines) > lines_max:
        lines = [*lines[: min(lines_max, HEAD_LINES)], "…"]
    return "".join(f"{line}\n" for line in lines)


class Tour(World):
    """A world that remembers which verbs were used, and what they printed."""

    used: set[str]
    pages: list[str]

    def does(self, line: str, *, code: int = 0, lines_max: int = LINES_MAX) -> str:
        """What a line prints, once its exit code is as expected."""
        words = line.split()
        result = self.call(*words)
        assert result.exit_code == code, (line, result.exit_code, result.output)
        self.says(line, result.output, code=code, lines_max=lines_max)
        return result.stdout

    def says(self, line: str, output: str, *, code: int = 0, lines_max: int = LINES_MAX) -> None:
        """Remember what a line printed."""
        self.used.add(line.split()[0])
        self.pages.append(
            f"$ orderctl {line}\n{steady(output, lines_max=lines_max)}" + (f"(exit code {code})\n" if code else "")
        )


def test_a_session_at_the_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ladder is declared, compared, watched, changed and taken down; each verb is used, each says what it did."""
    monkeypatch.chdir(tmp_path)
    ladder = Path("ladder.yaml")
    ladder.write_text(LADDER)
    desk = Tour(f"sqlite:///{tmp_path / 'kernel.db'}")
    desk.used, desk.pages = set(), []
    exchange = Child("paper-exchange", "--speed", "max", "--journal", str(tmp_path / "exchange.journal"))
    try:
        address = exchange.expect(":")
        desk.says("paper-exchange --listen 127.0.0.1:7000 &", "127.0.0.1:7000\n")
        desk.does("keys create note.key --trust trusted.keys")
        with desk.leader("--address", address, "--notes", "notes", "--note-key", "note.key") as leader:
            told = "ready: leads paper, epoch 1\n"
            desk.says("run --address 127.0.0.1:7000 --notes notes --note-key note.key &", told)
            walk(desk, ladder)
            assert leader.end() == 0
        desk.does("health", code=6)
        desk.does("diff", code=0)
        desk.does("verify --notes notes --key trusted.keys")
        desk.does("prove 17 --notes notes --key trusted.keys -o event-17.json")
        look_back(desk)
    finally:
        exchange.close()

    assert desk.used | ELSEWHERE >= set(COMMANDS), "a new verb belongs into the tour"
    if REWRITE:
        TOUR.write_text("\n".join(desk.pages))
    assert "\n".join(desk.pages) == TOUR.read_text()


def look_back(desk: Tour) -> None:
    """What can be done with a log when the day is over; most of it says how long it took, and is tested elsewhere."""
    desk.does("history taker", lines_max=0)
    desk.does("rebuild", lines_max=0)
    desk.does("tables sync", lines_max=0)
    desk.does("rebuild --tables", lines_max=0)
    desk.does("statement", lines_max=0)
    desk.does("decisions", lines_max=0)
    suppose(desk)
    desk.does("export kernel.jsonl.gz", lines_max=0)
    desk.does("import kernel.jsonl.gz --log sqlite:///other.db", lines_max=0)
    desk.does("backup kernel.backup", lines_max=0)
    desk.does("restore kernel.backup --log sqlite:///back.db", lines_max=0)


def suppose(desk: Tour) -> None:
    """What would have come of the day without its last order: forked where that was not wanted yet."""
    wanted = json.loads(desk.ok("events", "--for", "last", "-o", "jsonl").splitlines()[0])["position"]
    found = desk.call("what-if", "--at", str(wanted - 1), "--drop", "last", "--for", "1s")
    assert found.exit_code == 0, found.output
    assert "last" in found.stdout
    desk.says("what-if --at $BEFORE_LAST --drop last --for 1s", found.output, lines_max=0)


def walk(desk: Tour, ladder: Path) -> None:
    """The session, while a kernel leads."""
    assert "Ready:" in desk.does("health")
    assert "exchange_kernel_ready 1.0" in desk.does("metrics -o prometheus")
    assert "How long the order works (FIX 59)." in desk.does("explain intent.order.time_in_force")
    assert "complete" in desk.does("completion bash", lines_max=3)
    assert "runbook" in desk.does("help")
    assert desk.does(f"diff -f {ladder}", code=1).count("+++") == 2
    assert desk.does(f"apply -f {ladder} --dry-run=server").count("created") == 2
    assert desk.does(f"apply -f {ladder}") == "order/bid-1 created\norder/bid-2 created\n"
    assert desk.does("wait bid-1 --for working") == "intent/bid-1 condition met\n"
    ladder.write_text(LADDER.replace("49900", "49950"))
    assert "+  price: '49950.00'" in desk.does(f"diff -f {ladder}", code=1)
    assert desk.does(f"apply -f {ladder}") == "order/bid-1 unchanged\norder/bid-2 configured\n"
    assert desk.does(f"diff -f {ladder}") == ""
    assert desk.does("diff") == ""
    assert json.loads(desk.does("get order/bid-2 -o json"))["status"]["order"]["price"] == "49950.00"
    assert desk.does("modify bid-2 --limit 49960 --quantity 0.002") == "intent/bid-2 modified\n"
    assert json.loads(desk.does("get order/bid-2 -o json"))["status"]["leaves_qty"] == "0.00200000"
    assert desk.does("place BUY 0.001 BTCUSDT --id taker --wait filled --timeout 20s") == "taker\n"
    assert "BTCUSDT" in desk.does("get positions")
    assert desk.does("cancel order/bid-1") == "intent/bid-1 canceled\n"
    assert desk.does("wait bid-1 --for canceled --or-fail-on filled") == "intent/bid-1 condition met\n"
    assert "2        CANCEL   ACCEPTED" in desk.does("describe bid-1")
    assert "OrderCanceled" in desk.does("history bid-1")
    assert "IntentModified" in desk.does("events --for bid-2")
    desk.does(f"apply -f {ladder}", code=4)
    assert "bid-2" in desk.does("cancel-all --owner mm-1 --dry-run")
    desk.does("cancel-all", code=2)
    assert desk.does("pause bid-2 --reason lunch") == "intent/bid-2 paused\n"
    assert "PAUSED" in desk.does("get order bid-2")
    assert desk.does("resume bid-2") == "intent/bid-2 resumed\n"
    assert "Longest out of sync: desired and actual order agree" in desk.does("top --once")
    assert desk.does("heartbeat mm-1 --ttl 1m") == "heartbeat/mm-1 recorded\n"
    assert desk.does("heartbeat mm-1 --disarm") == "heartbeat/mm-1 disarmed\n"
    assert desk.does("cancel-all --owner mm-1 --yes") == "intent/bid-2 cancel requested\n"
    assert desk.does("wait bid-2 --for canceled") == "intent/bid-2 condition met\n"
    ladder.write_text(EITHER)
    assert desk.does(f"apply -f {ladder}") == "ordergroup/either created\n"
    assert "ONE_CANCELS_OTHER" in desk.does("get groups --owner mm-2")
    assert "Permits:   0.002, the full quantity" in desk.does("describe low")
    assert "filled beyond what the group allows, at most 0.002 possible" in desk.does("describe group either")
    desk.does("cancel-all --owner mm-2 --yes")
    assert desk.does("wait high --for canceled") == "intent/high condition met\n"
    assert desk.does("place BUY 0.001 BTCUSDT --limit 49000 --id last") == "last\n"
    assert desk.does("halt --reason evening --yes") == "exchange/paper halted\n"
    assert " CANCELED " in desk.does("get orders last")
    assert desk.does("resume") == "exchange/paper resumed\n"
    desk.does("resolve last --as dead --evidence guess --yes", code=4)
