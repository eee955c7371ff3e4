"""How the venue is asked for what is unknown: how far back, and when a person hears of it.

The whole kernel on the memory log and virtual time, with the paper exchange in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from kernel.clock import NS_PER_S
from kernel.events import AttemptStarted, intent_stream
from kernel.models import FindingKind
from kernel.reconciler.result import RequeueAfter
from kernel.settings import KernelSettings
from kernel.venues.base import Dedupe, VenueSnapshot
from kernel.venues.paper.faults import fault
from tests.contract.bench import Bench, a_bench, bid, virtual_time

pytestmark = virtual_time


async def attempts(bench: Bench) -> list[AttemptStarted]:
    """What was sent for the intent `mine`."""
    found = await bench.log.read_stream(intent_stream("mine"))
    return [event for event in found if isinstance(event, AttemptStarted)]


async def test_trades_are_queried_from_the_first_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often an id was sent again, trades are queried from its first send on."""
    asked: list[int] = []
    settings = KernelSettings(stream_quiet_s=1_000)
    async with a_bench(
        "none", settings=settings, dedupe=Dedupe.FOR_EVER, lookup=False, validity_window_ns=None
    ) as bench:
        snapshot = bench.venue.snapshot

        async def noted(since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
            asked.append(since_ns)
            return await snapshot(since_ns, symbols)

        monkeypatch.setattr(bench.venue, "snapshot", noted)
        for _ in range(4):
            await bench.venue.inject(fault("request_lost", "submit"))
        await bench.kernel.place_order(bid(), intent_id="mine", wait="recorded")
        await asyncio.sleep(40)
        sent = await attempts(bench)
        assert len(sent) >= 4
        assert sent[3].stamp_ns - sent[0].stamp_ns > 10 * NS_PER_S
        assert max(asked) <= sent[0].stamp_ns


@pytest.mark.parametrize("too_long_s", [10, 60])
async def test_a_long_unknown_attempt_raises_a_finding_in_time(too_long_s: float) -> None:
    """The finding does not wait for the next, rare, status query."""
    settings = KernelSettings(unknown_too_long_s=too_long_s, order_age_s_max=1_000, relist_interval_s=1_000)
    config: dict[str, Any] = {"dedupe": Dedupe.NONE, "validity_window_ns": None}
    async with a_bench("none", settings=settings, **config) as bench:
        await bench.venue.inject(fault("request_lost", "submit"))
        await bench.kernel.place_order(bid(), intent_id="mine", wait="recorded")
        await asyncio.sleep(too_long_s + 1)
        (stands,) = [item for item in bench.kernel.state.findings() if item.kind is FindingKind.UNKNOWN_TOO_LONG]
        (sent,) = await attempts(bench)
        assert 0 <= stands.raised_at_ns - sent.stamp_ns - too_long_s * NS_PER_S < NS_PER_S


async def test_a_waiting_resend_is_not_put_off_by_each_run() -> None:
    """Runs during the backoff of a resend that waits leave its instant as it is."""
    async with a_bench("none", dedupe=Dedupe.FOR_EVER, validity_window_ns=None) as bench:
        await bench.venue.inject(fault("request_lost", "submit"))
        await bench.kernel.place_order(bid(), intent_id="mine", wait="recorded")
        reconciler = bench.kernel.engine.at_venue
        assert reconciler is not None
        async with asyncio.timeout(30):
            while not (await attempts(bench)):
                await asyncio.sleep(0.01)
        await bench.kernel.pause("mine")
        instants: list[int] = []
        for _ in range(2_000):
            result = await reconciler.reconcile("mine")
            if isinstance(result, RequeueAfter) and result.reason == "the resend waits":
                instants.append(result.instant_ns)
            await asyncio.sleep(0.01)
        assert len(instants) > 200
        assert len(set(instants)) < len(instants) // 10
