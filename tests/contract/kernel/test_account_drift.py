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
async def test_a_position_drift_is_found(held: Held, opening: int) -> None:
    """Positions from before the log and our fills are no drift; any other change is a finding until it is gone."""
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
async def test_a_resolved_position_drift_is_the_new_baseline(held: Held) -> None:
    """After the resolution the venue's figure is expected, and a new difference is a new finding."""
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
    """A venue that no longer lists a position has none."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(3))
        desk.exchange.fill("#0", 3)
        held["S"] = -3
        assert await looked_at(desk) == [FindingKind.POSITION_DRIFT]
        assert desk.kernel.state.position_drift() == {"S": -3}


@virtual_time
async def test_an_external_trade_explains_balances_and_position(held: Held) -> None:
    """An external trade is recorded, and neither balances nor position drift."""
    async with a_desk() as desk:
        now_ns = desk.exchange.clock.now_ns()
        desk.exchange.do_submit(SubmitRequest(client_order_id="web-1", order=buy(5), stamp_ns=now_ns), None)
        desk.exchange.fill("#0", 3)
        assert await looked_at(desk) == [FindingKind.UNEXPECTED_TRADE]
        assert [item.quantity for item in await desk.kernel.get_positions()] == []


@virtual_time
async def test_a_spot_account_has_no_position_drift() -> None:
    """A spot account has balances only."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(3))
        desk.exchange.fill("#0", 3)
        assert await looked_at(desk) == []
        deposit(desk, 2)
        assert await looked_at(desk) == [FindingKind.BALANCE_DRIFT]
        assert desk.kernel.state.position_drift() == {}
        deposit(desk, -2)
        assert await looked_at(desk) == []
