"""Groups on the command line: created in one append, compared, changed order by order, refused whole, listed and
described."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from kernel.models import OrderIntent
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.venues import PaperVenue
from replay.host.bootstrap import open_client
from replay.manifests.apply import steps_for
from replay.manifests.schema import parse_manifests
from tests.cli.test_apply import Terms, manifest, written
from tests.cli.test_explain import completed
from tests.cli.world import Child, World

LOT = 100_000
"""0.001 coins, at the quantity scale."""


@dataclass
class Pit:
    """A log led by a kernel, and a market that moves only when a test trades."""

    desk: World
    address: str

    def trade(self, price: int, lots: int) -> None:
        """The market trades so much at a price."""
        asyncio.run(self._trade(price=price * 100, quantity=lots * LOT))

    async def _trade(self, **terms: int) -> None:
        venue = PaperVenue(self.address)
        await venue.connect()
        try:
            await venue.admin("trade", symbol_id="BTCUSDT", **terms)
        finally:
            await venue.close()


@pytest.fixture
def pit(tmp_path: Path) -> Iterator[Pit]:
    """A market with every order type and a kernel, each in its own process."""
    exchange = Child("paper-exchange", "--speed", "step", "--markets", "full", "--journal", str(tmp_path / "journal"))
    try:
        desk, address = World(f"sqlite:///{tmp_path / 'kernel.db'}"), exchange.expect(":")
        with desk.leader("--address", address):
            yield Pit(desk, address)
    finally:
        exchange.close()


def group(name: str, mode: str, *orders: Terms, **metadata: Any) -> Terms:
    """A group manifest."""
    spec = {"mode": mode, "orders": list(orders)}
    head = {"apiVersion": "exchange-kernel/v1", "kind": "OrderGroup"}
    return {**head, "metadata": {"name": name, **metadata}, "spec": spec}


def member(name: str, price: str | None = "50000.00", *, side: str = "BUY", **terms: Any) -> Terms:
    """One order of a group: 0.004 coins, resting."""
    given = {"symbol_id": "BTCUSDT", "side": side, "order_type": "LIMIT", "quantity": "0.004", "price": price}
    return {"name": name, **{key: value for key, value in {**given, **terms}.items() if value is not None}}


def bracket(**metadata: Any) -> Terms:
    """A resting entry with a take-profit and a stop-loss."""
    stop: Terms = {"order_type": "STOP", "stop_price": "45000.00"}
    exits = (member("profit", "70000.00", side="SELL"), member("loss", None, side="SELL", **stop))
    return group("trade", "ONE_TRIGGERS_OTHER", member("entry"), *exits, **metadata)


def children(**metadata: Any) -> Terms:
    """A bracket for a market without stops: two take-profits."""
    exits = (member(name, price, side="SELL") for name, price in (("first", "70000.00"), ("second", "71000.00")))
    return group("trade", "ONE_TRIGGERS_OTHER", member("entry"), *exits, **metadata)


def either(mode: str = "ONE_CANCELS_OTHER") -> Terms:
    """A bid and an offer around the market, one of which may fill."""
    return group("g", mode, member("a"), member("b", "70000.00", side="SELL"))


# ------------------------------------------------------------------------------------------------------------- at work
def test_a_bracket_from_its_manifest_to_its_end(pit: Pit, tmp_path: Path) -> None:
    """A bracket is created with its excess bound, held, released as the entry fills, changed by its file, and filled."""
    desk, file = pit.desk, written(tmp_path, bracket(owner="mm-1", labels={"x": "1"}))

    created = desk.call("apply", "-f", file)
    assert (created.exit_code, created.stdout) == (0, "ordergroup/trade created\n")
    assert created.stderr.startswith("ordergroup/trade: up to 0.004 BTC more than the group allows can fill")
    again = desk.call("apply", "-f", file)
    assert (again.stdout, again.stderr) == ("ordergroup/trade unchanged\n", "")
    assert desk.ok("diff") == desk.ok("diff", "-f", file) == ""
    assert "held until entry fills" in desk.call("wait", "profit", "--for", "working", "--timeout", "0").stderr

    pit.trade(49_999, 1)
    desk.ok("wait", "loss", "--for", "working")
    shown = json.loads(desk.ok("get", "group/trade", "-o", "json"))
    assert [item["allowed_qty"] for item in shown["orders"]] == ["0.00400000", "0.00099000", "0.00099000"]
    reason = "released to 0.00099 by fills of entry less fees and other closes, more may follow"
    assert shown["orders"][1]["reason"] == reason

    changed = bracket(owner="mm-2", labels={"x": "1"})
    changed["spec"]["orders"][1] |= {"price": "71000.00", "on_unsolicited_cancel": "RECREATE"}
    file = written(tmp_path, changed)
    assert "-    price: '70000.00'\n+    price: '71000.00'" in desk.call("diff", "-f", file).stdout
    assert desk.ok("apply", "-f", file) == "ordergroup/trade configured\n"
    assert desk.ok("diff", "-f", file) == ""
    profit = json.loads(desk.ok("get", "order", "profit", "-o", "json"))
    assert (profit["status"]["order"]["price"], profit["status"]["leaves_qty"]) == ("71000.00", "0.00099000")
    generations = [json.loads(desk.ok("get", "intent", f"{name}", "-o", "json")) for name in ("profit", "loss")]
    assert [(item["generation"], item["owner"]) for item in generations] == [(2, "mm-2"), (1, "mm-2")]

    pit.trade(49_999, 3)
    desk.ok("wait", "entry", "--for", "filled")
    desk.ok("wait", "profit", "--for", "synced")
    pit.trade(71_001, 4)
    desk.ok("wait", "profit", "--for", "filled")
    desk.ok("wait", "loss", "--for", "canceled")
    assert desk.ok("apply", "-f", file) == "ordergroup/trade unchanged\n"
    assert "reduced to 0 by fills of profit" in desk.ok("describe", "group", "trade")


def test_what_the_group_canceled_is_as_it_was_wanted(pit: Pit, tmp_path: Path) -> None:
    """After the first fill the same file changes nothing; other terms do not bring the canceled leg back."""
    desk, file = pit.desk, written(tmp_path, either())
    desk.ok("apply", "-f", file)
    pit.trade(49_999, 1)
    desk.ok("wait", "b", "--for", "canceled")

    assert desk.ok("apply", "-f", file) == "ordergroup/g unchanged\n"
    assert "canceled by the first fill of a" in desk.ok("describe", "b")
    other = either()
    other["spec"]["orders"][1]["price"] = "71000.00"
    result = desk.call("apply", "-f", written(tmp_path, other))
    assert (result.exit_code, result.stdout) == (4, "")
    assert "ordergroup/g: its order b: the order is CANCELED and cannot be placed again" in result.stderr


def test_an_order_of_a_group_that_is_refused_is_told(pit: Pit, tmp_path: Path) -> None:
    """A rejected order is exit code 5 with the venue's text; the group stays, and its other order works."""
    doomed = group("g", "ONE_UPDATES_OTHER", member("a"), member("b", "90000.00", post_only=True))

    result = pit.desk.call("apply", "-f", written(tmp_path, doomed))

    assert (result.exit_code, result.stdout) == (5, "ordergroup/g created\n")
    assert "b" in result.stderr
    assert pit.desk.ok("wait", "a", "--for", "working") == "intent/a condition met\n"


# ----------------------------------------------------------------------------------------------------------- refused whole
def applied(idle: World, tmp_path: Path, *items: Terms) -> None:
    """Apply manifests without a kernel that acts."""
    idle.ok("apply", "-f", written(tmp_path, *items), "--wait", "recorded")


CONFLICTS: dict[str, tuple[Terms, Terms, str]] = {
    "mode": (either(), either("ONE_UPDATES_OTHER"), "ordergroup/g: its mode is ONE_CANCELS_OTHER"),
    "fewer": (
        group("g", "NONE", member("a"), member("b")), group("g", "NONE", member("a")),
        "its orders are a, b and cannot change",
    ),
    "order": (
        group("g", "NONE", member("a"), member("b")), group("g", "NONE", member("b"), member("a")), "its orders are a, b"
    ),
    "a plain order": (manifest("a"), either(), "ordergroup/g: its order a: an order outside the group has this name"),
    "another group": (
        group("h", "NONE", member("a")), either(), "ordergroup/g: its order a: the name belongs to the group h"
    ),
    "the group's own name": (manifest("g"), either(), "ordergroup/g: an order has this name"),
    "an order named as a group": (either(), manifest("g"), "order/g: a group has this name"),
    "another side": (
        manifest("b"), either(), "ordergroup/g: its order b: an order outside the group has this name"
    ),
    "a member by itself": (either(), manifest("a"), "order/a: the name belongs to the group g"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "given", "told"), CONFLICTS.values(), ids=CONFLICTS)
def test_a_conflict_refuses_everything(idle: World, tmp_path: Path, before: Terms, given: Terms, told: str) -> None:
    """A conflict is exit code 4 with the reason; nothing is appended, and `diff` shows it too."""
    applied(idle, tmp_path, before)
    was = idle.ok("events", "-o", "jsonl")
    file = written(tmp_path, manifest("beside"), given)

    for how in ("none", "server"):
        result = idle.call("apply", "-f", file, f"--dry-run={how}")
        assert (result.exit_code, result.stdout) == (4, "")
        assert told in result.stderr
    assert idle.ok("events", "-o", "jsonl") == was
    compared = idle.call("diff", "-f", file)
    assert (compared.exit_code, told in compared.stderr) == (1, True)


async def test_orders_that_only_name_the_group_are_a_conflict(idle: World) -> None:
    """Orders that name a group that was never placed are a conflict and are not taken over."""
    async with open_client(idle.url, "paper") as kernel:
        order = StandardOrder(symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.MARKET, quantity=LOT)
        await kernel.intent_store.create_intent(
            OrderIntent(intent_id="a", exchange_id="paper", order=order, group_id="g")
        )

        (step,) = steps_for(kernel, parse_manifests([("f", yaml.safe_dump(either()).encode())]))

        assert step.conflict == "its orders a exist already: use other names"


def test_a_group_with_a_canceled_order_is_a_conflict(idle: World, tmp_path: Path) -> None:
    """A canceled order is not placed again, and the diff shows it."""
    applied(idle, tmp_path, either())
    idle.ok("cancel", "b", "--wait", "recorded")
    file = written(tmp_path, either())

    assert "its order b: the intent was canceled" in idle.call("apply", "-f", file).stderr
    assert "-    state: CANCELED\n+    state: WORKING\n" in idle.call("diff", "-f", file).stdout


def test_what_the_market_does_not_take_refuses_the_group(idle: World, tmp_path: Path) -> None:
    """Every problem of every order is reported with file, document and field, and nothing is appended."""
    before = idle.ok("events", "-o", "jsonl")
    wrong = either()
    wrong["spec"]["orders"][0] |= {"price": "50000.001"}
    wrong["spec"]["orders"][1] |= {"quantity": "0.00001"}

    result = idle.call("apply", "-f", written(tmp_path, manifest("beside"), wrong))

    assert (result.exit_code, result.stdout) == (5, "")
    assert "m.yaml, document 2 (Order a), spec.orders[0].price 50000.001 has more than 2 decimal" in result.stderr
    assert "m.yaml, document 2 (Order b), spec.orders[1].quantity" in result.stderr
    assert idle.ok("events", "-o", "jsonl") == before


def test_dry_runs_of_a_group_append_nothing(idle: World, tmp_path: Path) -> None:
    """The client's dry run needs no log; the server's also reports the excess bound."""
    before, file = idle.ok("events", "-o", "jsonl"), written(tmp_path, either())

    assert idle.ok("apply", "-f", file, "--dry-run=client") == "ordergroup/g valid (client dry run)\n"
    result = idle.call("apply", "-f", file, "--dry-run=server")
    assert (result.exit_code, result.stdout) == (0, "ordergroup/g created (server dry run)\n")
    assert "ordergroup/g: up to 0.004 BTC more than the group allows can fill" in result.stderr
    assert idle.ok("events", "-o", "jsonl") == before


def test_limits_count_a_group_as_it_will_be_held(tmp_path: Path) -> None:
    """A bracket's exits are no position of their own; a group beyond a limit is refused before anything is applied."""
    config = tmp_path / "orderctl.toml"
    config.write_text('[limits]\nposition_max = "0.006"\n')
    desk, stop = World(f"sqlite:///{tmp_path / 'kernel.db'}"), {"order_type": "STOP", "stop_price": "45000"}
    with desk.leader("--config", str(config), "--markets", "full"):
        large = group(
            "l", "ONE_UPDATES_OTHER", member("m", quantity="0.007"), member("n", None, **stop | {"side": "SELL"})
        )
        refused = desk.call("apply", "-f", written(tmp_path, manifest("beside"), large))
        assert (refused.exit_code, refused.stdout) == (5, "")
        assert "(Order m)" in refused.stderr
        assert "position_max" in refused.stderr
        assert desk.ok("get", "intents", "-o", "name") == ""
        assert desk.ok("apply", "-f", written(tmp_path, bracket())) == "ordergroup/trade created\n"


# ---------------------------------------------------------------------------------------------------------------- to see
def test_a_group_can_be_asked_for_by_every_name(idle: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`get` accepts plural, singular and short names, formats and filters, and completes group names."""
    applied(idle, tmp_path, children(owner="mm"), either())
    offered = functools.partial(completed, idle, monkeypatch=monkeypatch)

    assert idle.ok("get", "groups", "-o", "name") == "group/trade\ngroup/g\n"
    assert idle.ok("get", "grp", "--owner", "mm", "-o", "name") == "group/trade\n"
    assert idle.ok("get", "groups", "--symbol", "ETHUSDT", "-o", "name") == ""
    assert json.loads(idle.ok("get", "ordergroup/g", "-o", "json"))["max_excess"] == "0.00400000"
    assert len(idle.ok("get", "groups", "-o", "jsonl").splitlines()) == 2
    assert "ORDERS" in idle.ok("get", "groups", "-o", "wide").splitlines()[0]
    assert idle.call("get", "group", "nowhere").exit_code == 2
    assert offered("orderctl describe group ") == ["trade", "g"]
    assert offered("orderctl describe group/t") == ["group/trade"]
    assert offered("orderctl describe se") == ["second"]
    assert "ONE_CANCELS_OTHER of a, b" in idle.ok("events", "--type", "GroupCreated")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("group", "g"), 0), (("group/g",), 0), (("intent", "a"), 0), (("order/a",), 0), (("a",), 0),
        (("group", "a"), 2), (("g",), 2), (("fill", "a"), 5), (("a", "b"), 2), (("group", "g", "g"), 5), (("group/",), 5),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_describe_takes_a_name_or_a_type_and_a_name(
    idle: World, tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    """`describe` accepts an intent with or without its type, and a group with its type; anything else is an error."""
    applied(idle, tmp_path, either())

    result = idle.call("describe", *words)

    assert result.exit_code == code
    assert ("Group" in result.stdout) == (code == 0)
    assert (result.stderr == "") == (code == 0)
