"""Balances and positions at the venue, against what the log comes to: what nothing explains is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kernel.models import FindingKind
from kernel.venues.base import SubmitRequest, VenueSnapshot
from replay.testing import ScriptedVenue
from tests.contract.kernel.test_manual_resolution import deposit, standing
from tests.desk import Desk, a_desk
from tests.orders import buy

virtual_time = pytest.mark.looptime
Held = dict[str, int]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """A venue that keeps positions: what it holds in S beside what was traded, under `S`."""
    beside: Held = {"S": 0}
    snapshot: Callable[..., object] = ScriptedVenue.snapshot

    async def with_positions(venue: ScriptedVenue, since_ns: int) -> VenueSnapshot:
        found = await snapshot(venue, since_ns)  # type: ignore[misc]
        assert isinstance(found, VenueSnapshot)
        quantity = beside["S"] + sum(order.cum_qty for order in venue.exchange.truth)
        return found.model_copy(update={"positions": {"S": quantity} if quantity else {}})

    monkeypatch.setattr(ScriptedVenue, "snapshot", with_positions)
    return beside


async def looked_at(desk: Desk) -> list[FindingKind]:
    """What stands after the next looks at the account."""
    await asyncio.sleep(130)
    return standing(desk)


@virtual_time
@pytest.mark.parametrize("opening", [0, -7])
async def test_a_position_is_held_against_the_venues(held: Held, opening: int) -> None:
    """What was there when the log began is no drift, nor are our fills; what comes of itself is told, and no more when it
    has gone again."""
    held["S"] = opening
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(5))
        desk.exchange.fill("#0", 3)
        assert await looked_at(desk) == []
        held["S"] += 2
        assert await looked_at(desk) == [FindingKind.POSITION_DRIFT]
        (finding,) = desk.kernel.state.findings()
        assert (finding.symbol_id, desk.kernel.state.position_drift()) == ("S", {"S": 2})
        assert "the venue's position is +2 off" in finding.text
        held["S"] -= 2
        assert await looked_at(desk) == []


@virtual_time
async def test_a_position_that_is_resolved_is_expected(held: Held) -> None:
    """The venue's figure counts from then on: the next look tells of nothing, a new difference is told again."""
    async with a_desk() as desk:
        held["S"] = 4
        assert await looked_at(desk) == [FindingKind.POSITION_DRIFT]
        await desk.kernel.resolve_finding("POSITION_DRIFT:S", evidence="a settlement")
        assert await looked_at(desk) == []
        await desk.kernel.place_order(buy(5))
        desk.exchange.fill("#0", 3)
        assert await looked_at(desk) == []
        held["S"] = 5
        assert await looked_at(desk) == [FindingKind.POSITION_DRIFT]


@virtual_time
async def test_a_position_that_is_gone_is_flat(held: Held) -> None:
    """A venue that lists it no more says that there is none."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(3))
        desk.exchange.fill("#0", 3)
        held["S"] = -3
        assert await looked_at(desk) == [FindingKind.POSITION_DRIFT]
        assert desk.kernel.state.position_drift() == {"S": -3}


@virtual_time
async def test_a_strangers_trade_explains_both(held: Held) -> None:
    """It is told as what it is; neither the balances nor the position are then off."""
    async with a_desk() as desk:
        now_ns = desk.exchange.clock.now_ns()
        desk.exchange.do_submit(SubmitRequest(client_order_id="web-1", order=buy(5), stamp_ns=now_ns), None)
        desk.exchange.fill("#0", 3)
        assert await looked_at(desk) == [FindingKind.UNEXPECTED_TRADE]
        assert [item.quantity for item in await desk.kernel.get_positions()] == []


@virtual_time
async def test_without_positions_nothing_is_said_of_them() -> None:
    """A spot account has balances alone."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(3))
        desk.exchange.fill("#0", 3)
        assert await looked_at(desk) == []
        deposit(desk, 2)
        assert await looked_at(desk) == [FindingKind.BALANCE_DRIFT]
        assert desk.kernel.state.position_drift() == {}
        deposit(desk, -2)
        assert await looked_at(desk) == []
