"""`wait`: every condition, what ends a wait without it, and the three exit codes."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from replay.host.bootstrap import open_client
from replay.views.conditions import CONDITIONS
from tests.cli.world import World

RESTING = ("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000")
FILLED = ("place", "BUY", "0.001", "BTCUSDT", "--wait", "filled", "--timeout", "20s")
REFUSED = ("place", "BUY", "0.01", "BTCUSDT", "--limit", "90000", "--post-only")
EXPIRED = ("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--tif", "IOC")

HOLDS = {
    RESTING: {"working", "synced"},
    FILLED: {"filled", "terminal", "synced"},
    REFUSED: {"rejected", "failed", "terminal"},
}
"""What is true of an order once it has got where it goes."""


@pytest.mark.parametrize("words", HOLDS, ids=["resting", "filled", "refused"])
def test_each_condition_is_true_or_false(live: World, words: tuple[str, ...]) -> None:
    """A check is 0 if the condition holds, 3 if not yet, 1 if another condition ended the wait."""
    name = f"w-{uuid.uuid4().hex[:8]}"
    live.call(*words, "--id", name)
    ends = sorted(HOLDS[words])

    for condition in CONDITIONS:
        held = condition in HOLDS[words]
        assert live.call("wait", name, "--for", condition, "--timeout", "0").exit_code == (0 if held else 3), condition
        ended = live.call("wait", name, "--for", condition, "--timeout", "0", "--or-fail-on", ",".join(ends))
        assert ended.exit_code == (0 if held else 1), condition
        assert held or "not " + condition in ended.stderr


def test_a_canceled_order_is_canceled_and_nothing_else(live: World) -> None:
    """A canceled order is terminal and synced, and not working."""
    name = f"w-{uuid.uuid4().hex[:8]}"
    live.ok(*RESTING, "--id", name)
    live.ok("cancel", name)

    for condition in ("canceled", "terminal", "synced"):
        assert live.ok("wait", f"order/{name}", "--for", condition) == f"intent/{name} condition met\n"
    assert live.call("wait", name, "--for", "working", "--timeout", "0").exit_code == 3
    options = ("--or-fail-on", "filled", "--or-fail-on", "expired,CANCELED")
    result = live.call("wait", name, "--for", "WORKING", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "canceled, not working; order CANCELED, SYNCED" in result.stderr


def test_an_order_of_one_shot_ends_by_itself(live: World) -> None:
    """An IOC order without a match ends."""
    name = f"w-{uuid.uuid4().hex[:8]}"
    live.ok(*EXPIRED, "--id", name)

    assert live.ok("wait", name, "--for", "terminal", "--timeout", "20s") == f"intent/{name} condition met\n"
    assert live.call("wait", name, "--for", "filled", "--or-fail-on", "expired,canceled").exit_code == 1


def test_a_wait_is_over_when_the_time_is(idle: World) -> None:
    """A timeout is exit code 3 with the order's status."""
    idle.ok(*RESTING, "--wait", "recorded", "--id", "a")

    result = idle.call("wait", "a", "--for", "working", "--or-fail-on", "terminal", "--timeout", "30ms")

    assert (result.exit_code, result.stdout) == (3, "")
    assert "not working after 0.03 s: nothing sent yet" in result.stderr


def test_what_was_deleted_has_ended(idle: World) -> None:
    """A deleted intent that was never sent is terminal."""
    idle.ok(*RESTING, "--wait", "recorded", "--id", "a")
    asyncio.run(delete(idle.url, "a"))

    assert idle.ok("wait", "a", "--for", "terminal") == "intent/a condition met\n"


async def delete(url: str, intent_id: str) -> None:
    """Delete an intent's record."""
    async with open_client(url, "paper") as kernel:
        await kernel.intent_store.delete_intent(intent_id)
