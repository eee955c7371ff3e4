"""`describe` shows the difference, its reason, the attempts, and the next action with its time."""

from __future__ import annotations

import asyncio
import uuid

from kernel.clock import NS_PER_S, SystemClock
from kernel.models import OrderState, OrderStatus, ReconciliationStatus
from replay.host.bootstrap import open_client
from tests.cli.world import World

PLACE = ("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000")


def test_nothing_sent_yet(idle: World) -> None:
    """Before the first request the difference is SUBMIT, and the page says that no kernel leads."""
    idle.ok(*PLACE, "--wait", "recorded", "--id", "a", "--owner", "mm-1", "--post-only")

    page = idle.ok("describe", "a")

    for words in (
        "Time in force:          GTC, post only", "If the venue cancels:   do not replace",
        "Actual order: nothing sent yet", "Kind:     SUBMIT", "Reason:   never sent",
        "Next:     submit BUY 0.001 BTCUSDT at 50000.00",
        "When:     at once, once a kernel leads (none does)", "Attempts: <none>",
    ):  # fmt: skip
        assert words in page


def test_backing_off_tells_when(idle: World) -> None:
    """After a failure the page shows the time of the next attempt."""
    idle.ok(*PLACE, "--wait", "recorded", "--id", "a")
    asyncio.run(record_failure(idle.url, "a"))

    page = idle.ok("describe", "a")

    assert "Reconciliation:      BACKING_OFF" in page
    assert "Next:     wait: backing off after 2 failures" in page
    assert "(in 59m)" in page
    assert "after 20" in idle.call("diff").stdout


async def record_failure(url: str, intent_id: str) -> None:
    """Record an order that failed twice and backs off for an hour."""
    async with open_client(url, "paper") as kernel:
        intent = await kernel.get_order_intent(intent_id)
        state = OrderState(
            intent_id=intent_id,
            status=OrderStatus(order=intent.order),
            reconciliation_status=ReconciliationStatus.BACKING_OFF,
            failures=2,
            not_before_ns=SystemClock().now_ns() + 3_599 * NS_PER_S,
        )
        await kernel.actual_store.create_order_state(state)


def test_what_was_tried_is_told_to_the_end(live: World) -> None:
    """Every attempt is listed with its outcome: a submit, its cancel, and a rejection with the venue's text."""
    name, doomed = f"d-{uuid.uuid4().hex[:8]}", f"d-{uuid.uuid4().hex[:8]}"
    live.ok(*PLACE, "--id", name)
    live.ok("cancel", name)
    live.call("place", "BUY", "0.01", "BTCUSDT", "--limit", "90000", "--post-only", "--id", doomed)

    tried = [line.split()[:3] for line in live.ok("describe", name).splitlines() if "ACCEPTED" in line]
    refused = live.ok("describe", doomed)

    assert tried == [["1", "SUBMIT", "ACCEPTED"], ["2", "CANCEL", "ACCEPTED"]]
    assert "Difference: none, desired and actual order agree" in live.ok("describe", name)
    assert "Difference: none, the venue rejected it" in refused
    assert "1        SUBMIT   REJECTED" in refused


def test_what_is_filled_has_ended(live: World) -> None:
    """A filled order needs no action, and the page says so."""
    name = f"d-{uuid.uuid4().hex[:8]}"
    live.ok("place", "BUY", "0.001", "BTCUSDT", "--id", name, "--wait", "filled", "--timeout", "20s")

    assert "Difference: none, the order is FILLED" in live.ok("describe", name)
