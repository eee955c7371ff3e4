"""Trades are listed by symbol, or not for ever: the cursor moves for what was asked, and a gap is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec import structs

from kernel.actions import Priority
from kernel.clock import NS_PER_S
from kernel.models import ExecType, OrdStatus, UnsolicitedCancelPolicy
from kernel.reconciler.rate_limiter import RateLimiter
from kernel.venues.base import Operation, RateLimit, RateLimitKind, RateUsage, VenueSnapshot
from tests.scenarios.field.lab import COIN, FieldVenue, Lab, field_lab, order

pytestmark = pytest.mark.looptime

HOUR_NS = 3_600 * NS_PER_S


class BySymbol(FieldVenue):
    """Lists open orders and trades of the symbols that are named."""

    since: list[int]

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
        self.since = [*getattr(self, "since", []), since_ns]
        found = await super().snapshot(since_ns, symbols)
        kept = frozenset(symbols)
        return structs.replace(
            found,
            open_orders=tuple(item for item in found.open_orders if item.symbol_id in kept),
            fills=tuple(item for item in found.fills if item.symbol_id in kept),
            symbols=kept,
        )


async def by_symbol() -> BySymbol:
    async with field_lab() as made:
        return BySymbol(made.venue.clock, made.venue.capabilities)


async def reconnected(lab: Lab) -> None:
    lab.venue.tell(None)  # type: ignore[arg-type]
    await asyncio.sleep(1)


async def test_a_cursor_for_each_symbol() -> None:
    """A symbol that was not asked for keeps its cursor: its trades are found when it is asked for."""
    venue = await by_symbol()
    async with field_lab(venue=venue) as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        await asyncio.sleep(200)
        state = lab.kernel.state
        first_ns = state.trades_cursor_of("BTCUSDT")
        assert first_ns is not None
        assert (state.trades_cursor_ns, state.trades_cursor_of("ETHUSDT")) == (None, None)
        await lab.kernel.place_order(order(symbol_id="ETHUSDT"), intent_id="b")
        placed_ns = venue.clock.now_ns()
        venue.fill(venue.open_orders()[1], COIN, tell=False)
        await asyncio.sleep(60)
        assert (await lab.kernel.get_order_state("b")).status.ord_status is OrdStatus.FILLED
        assert venue.calls[-1] == ("snapshot", ["BTCUSDT", "ETHUSDT"])
        assert placed_ns - 200 * NS_PER_S < min(venue.since[-3:])
        assert (state.trades_cursor_of("ETHUSDT") or 0) > placed_ns


async def test_a_gap_in_the_history() -> None:
    """A kernel that listed no trades for longer than the venue keeps them says which time is missing, once."""
    async with field_lab(trades_history_ns=HOUR_NS) as lab:
        assert "TRADES_GAP" not in lab.findings()
        real = lab.venue.connect

        async def down() -> None:
            raise ConnectionError("maintenance")

        lab.venue.connect = down  # type: ignore[method-assign]
        lab.venue.tell(None)  # type: ignore[arg-type]
        await asyncio.sleep(7_200)
        lab.venue.connect = real  # type: ignore[method-assign]
        await asyncio.sleep(200)
        gaps = [item for item in lab.kernel.state.findings() if item.kind == "TRADES_GAP"]
        assert len(gaps) == 1
        assert "trades of the account from 2023-11-14T22:13:20Z until 2023-11-14T23:13:" in gaps[0].text


class Forgetful(FieldVenue):
    """Lists the trades of the last hour, and knows closed orders no more."""

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
        return await super().snapshot(max(since_ns, self.clock.now_ns() - HOUR_NS), symbols)


async def test_a_trade_that_is_no_longer_listed() -> None:
    """An order that ended while the kernel was away has no known rest if its trades may have left the venue's list: it is
    not placed again before an operator has dealt with the gap."""
    options = {"trades_history_ns": HOUR_NS, "lookup": False, "lookup_closed": False}
    async with field_lab(venue_type=Forgetful, **options) as lab:
        await lab.kernel.place_order(order(), intent_id="a", on_unsolicited_cancel=UnsolicitedCancelPolicy.RECREATE)
        real = lab.venue.connect

        async def down() -> None:
            raise ConnectionError("maintenance")

        lab.venue.connect = down  # type: ignore[method-assign]
        lab.venue.tell(None)  # type: ignore[arg-type]
        lab.venue.fill(lab.venue.open_orders()[0], COIN, tell=False)
        await asyncio.sleep(7_200)
        lab.venue.connect = real  # type: ignore[method-assign]
        await asyncio.sleep(600)
        assert (await lab.kernel.get_order_state("a")).reconciliation_status == "PENDING"
        assert lab.venue.count("submit") == 1
        assert "are all known" not in str([await lab.kernel.log.read_stream("intent:a")])
        (gap,) = (item for item in lab.kernel.state.findings() if item.kind == "TRADES_GAP")
        await lab.kernel.resolve_finding(gap.finding_id, evidence="the statement shows one trade, booked by hand")
        await asyncio.sleep(60)
        assert lab.venue.count("submit") == 2


def test_a_snapshot_costs_by_symbol() -> None:
    """A rate limit charges a snapshot for each symbol that it names."""
    limit = RateLimit(
        kind=RateLimitKind.REQUEST_WEIGHT,
        window_ns=60 * NS_PER_S,
        limit=100,
        weights={Operation.SNAPSHOT: 10},
        symbol_weights={Operation.SNAPSHOT: 6},
    )
    limiter = RateLimiter(reserved_share=0)
    limiter.declare([limit])
    limiter.take(Priority.RESYNC, Operation.SNAPSHOT, 0, symbols=10)
    assert limiter.limits[0].whole.under_way == 70
    assert limiter.wait(Priority.RESYNC, (Operation.SNAPSHOT,), 0, symbols=4) is not None
    assert limiter.wait(Priority.RESYNC, (Operation.SNAPSHOT,), 0, symbols=3) is None


async def test_the_polls_of_the_stream_count() -> None:
    """Where the adapter polls for its reports, the counter that they move holds orders back as any other call does."""
    window_ns = 60 * NS_PER_S
    limit = RateLimit(kind=RateLimitKind.REQUEST_WEIGHT, window_ns=window_ns, limit=100)
    async with field_lab(rate_limits=(limit,)) as lab:
        await lab.kernel.place_order(order(), intent_id="a")
        lab.venue.rate_usage = (RateUsage(kind=limit.kind, window_ns=window_ns, used=100),)
        lab.venue.tell(lab.venue.report(lab.venue.open_orders()[0], ExecType.ORDER_STATUS))
        await asyncio.sleep(1)
        await lab.kernel.place_order(order(), intent_id="b", wait="recorded")
        await asyncio.sleep(50)
        assert lab.venue.count("submit") == 1
        lab.venue.rate_usage = ()
        await asyncio.sleep(15)
        assert lab.venue.count("submit") == 2
