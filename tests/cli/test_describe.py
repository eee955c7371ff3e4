"""`describe` says why wanted and actual differ, what was tried, and what is tried next and when."""

from __future__ import annotations

import asyncio
import uuid

from kernel.clock import NS_PER_S, SystemClock
from kernel.models import OrderState, OrderStatus, ReconciliationStatus
from replay.host.bootstrap import open_client
from tests.cli.world import World

PLACE = ("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000")


def test_nothing_sent_yet(idle: World) -> None:
    """The whole wish is the difference, and nobody is there to see to it."""
    idle.ok(*PLACE, "--wait", "recorded", "--id", "a", "--owner", "mm-1", "--post-only")

    page = idle.ok("describe", "a")

    for words in (
        "Time in force:       GTC, post only", "If canceled there:   STOP", "Actual: nothing was sent yet",
        "Kind:   SUBMIT", "Why:    never sent", "Next:   submit BUY 0.001 BTCUSDT at 50000.00",
        "When:   at once, once a kernel leads: none does now", "Attempts: <none>",
    ):  # fmt: skip
        assert words in page


def test_backing_off_tells_when(idle: World) -> None:
    """After a failure the page has the instant of the next try."""
    idle.ok(*PLACE, "--wait", "recorded", "--id", "a")
    asyncio.run(record_failure(idle.url, "a"))

    page = idle.ok("describe", "a")

    assert "Reconciliation:      BACKING_OFF" in page
    assert "Next:   wait: backing off after 2 failures" in page
    assert "(in 59m)" in page
    assert "after 20" in idle.call("diff").stdout


async def record_failure(url: str, intent_id: str) -> None:
    """Write down that an order failed twice and waits for an hour."""
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
    """Each attempt with what came of it: a submit, its cancel, and a refusal with the venue's words."""
    name, doomed = f"d-{uuid.uuid4().hex[:8]}", f"d-{uuid.uuid4().hex[:8]}"
    live.ok(*PLACE, "--id", name)
    live.ok("cancel", name)
    live.call("place", "BUY", "0.01", "BTCUSDT", "--limit", "90000", "--post-only", "--id", doomed)

    tried = [line.split()[:3] for line in live.ok("describe", name).splitlines() if "ACCEPTED" in line]
    refused = live.ok("describe", doomed)

    assert tried == [["1", "SUBMIT", "ACCEPTED"], ["2", "CANCEL", "ACCEPTED"]]
    assert "Difference: none, wanted and actual agree" in live.ok("describe", name)
    assert "Difference: none, the venue refused it for good" in refused
    assert "1        SUBMIT   REJECTED" in refused


def test_what_is_filled_has_ended(live: World) -> None:
    """Nothing is to be done, and why."""
    name = f"d-{uuid.uuid4().hex[:8]}"
    live.ok("place", "BUY", "0.001", "BTCUSDT", "--id", name, "--wait", "filled", "--timeout", "20s")

    assert "Difference: none, it has ended, FILLED" in live.ok("describe", name)
