"""One session at the desk, every verb in the order in which somebody would use it."""

from __future__ import annotations

import json
from pathlib import Path

from cli import cli
from tests.cli.world import Child, World

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
ELSEWHERE = {"demo"}
"""Verbs with a whole test of their own, which no session begins with."""


class Tour(World):
    """A world that remembers which verbs were used."""

    used: set[str]

    def does(self, line: str, *, code: int = 0) -> str:
        """What a line prints, once its exit code is as expected."""
        words = line.split()
        self.used.add(words[0])
        result = self.call(*words)
        assert result.exit_code == code, (line, result.exit_code, result.output)
        return result.stdout


def test_a_session_at_the_desk(tmp_path: Path) -> None:
    """A ladder is declared, compared, watched, changed and taken down; each verb is used, each says what it did."""
    ladder = tmp_path / "ladder.yaml"
    ladder.write_text(LADDER)
    desk = Tour(f"sqlite:///{tmp_path / 'kernel.db'}")
    desk.used = {"run", "paper-exchange"}
    exchange = Child("paper-exchange", "--speed", "max", "--journal", str(tmp_path / "exchange.journal"))
    try:
        with desk.leader("--address", exchange.expect(":")) as leader:
            walk(desk, ladder)
            assert leader.end() == 0
        desk.does("health", code=6)
        desk.does("diff", code=0)
    finally:
        exchange.close()

    assert desk.used | ELSEWHERE >= set(cli.commands), "a new verb belongs into the tour"


def walk(desk: Tour, ladder: Path) -> None:
    """The session, while a kernel leads."""
    assert "ready" in desk.does("health -o json")
    assert "exchange_kernel_ready 1.0" in desk.does("metrics -o prometheus")
    assert "How long the order works." in desk.does("explain intent.order.time_in_force")
    assert "complete" in desk.does("completion bash")
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
    assert "IntentModified" in desk.does("events --for bid-2")
    desk.does(f"apply -f {ladder}", code=4)
    assert "bid-2" in desk.does("cancel-all --owner mm-1 --dry-run")
    desk.does("cancel-all", code=2)
    assert desk.does("pause bid-2 --reason lunch") == "intent/bid-2 paused\n"
    assert "PAUSED" in desk.does("get order bid-2")
    assert desk.does("resume bid-2") == "intent/bid-2 resumed\n"
    assert desk.does("cancel-all --owner mm-1 --yes") == "intent/bid-2 cancel requested\n"
    assert desk.does("wait bid-2 --for canceled") == "intent/bid-2 condition met\n"
    assert desk.does("place BUY 0.001 BTCUSDT --limit 49000 --id last") == "last\n"
    assert desk.does("halt --reason evening --yes") == "exchange/paper halted\n"
    assert " CANCELED " in desk.does("get orders last")
    assert desk.does("resume") == "exchange/paper resumed\n"
    desk.does("resolve last --as dead --evidence guess --yes", code=4)
