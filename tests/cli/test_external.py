"""External orders are listed and described, and adopted or canceled if `run` is told to."""

from __future__ import annotations

import json

from tests.cli.world import Desk, World


def shown(world: World) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(world.ok("get", "external", "-o", "json"))
    return found


def test_they_are_listed_and_described(desk: Desk) -> None:
    """External orders are shown with decimals and their history, and are not part of `get orders`."""
    desk.place_by_hand("web-1")
    world = desk.world
    with world.child("events", "--type", "ExternalOrderObserved", "-w", "-o", "jsonl") as watch:
        watch.expect("web-1")

    (order,) = shown(world)

    assert (order["client_order_id"], order["quantity"], order["price"]) == ("web-1", "0.01000000", "40000.00")
    name = str(order["exchange_order_id"])
    assert world.ok("get", "external", "-o", "name") == f"external/{name}\n"
    assert "web-1" in world.ok("get", "ext", "--symbol", "BTCUSDT")
    page = world.ok("describe", f"external/{name}")
    assert "web-1" in page
    assert "ExternalOrderObserved" in page
    assert world.ok("get", "orders") == ""
    assert world.call("describe", "external/nothing").exit_code == 2


def test_run_adopts_or_cancels_them(desk: Desk) -> None:
    """`--external-orders` adopts or cancels them, and the log records the policy."""
    world = desk.world
    desk.place_by_hand("web-1")
    desk.kernel.end()
    with world.leader("--address", desk.address, "--external-orders", "adopt"):
        (order,) = json.loads(world.ok("get", "orders", "--owner", "adopted", "-o", "json"))
        assert (order["client_order_id"], order["status"]["ord_status"]) == ("web-1", "NEW")
        assert "adopted" in world.ok("describe", order["intent_id"])
        assert shown(world) == []
        desk.place_by_hand("web-2")
        world.ok("cancel", order["intent_id"])
    with world.leader("--address", desk.address, "--external-orders", "CANCEL"):
        desk.place_by_hand("web-3")
        with world.child("events", "--type", "OrderCanceled", "-w", "-o", "jsonl") as watch:
            watch.expect("web-3")
    assert "web-3" not in desk.open_orders()
    started = [json.loads(line) for line in world.ok("events", "--type", "KernelStarted", "-o", "jsonl").splitlines()]
    assert [item["state"]["settings"]["external_orders"] for item in started] == ["IGNORE", "ADOPT", "CANCEL"]
    assert world.call("run", "--external-orders", "steal").exit_code == 2
