"""Account drift: findings for balances and positions at the venue that the log does not explain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from msgspec import structs

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
    """The position in S at a venue with positions, in addition to its trades."""
    beside: Held = {"S": 0}
    snapshot: Callable[..., object] = ScriptedVenue.snapshot

    async def with_positions(venue: ScriptedVenue, since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
        found = await snapshot(venue, since_ns, symbols)  # type: ignore[misc]
        assert isinstance(found, VenueSnapshot)
        quantity = beside["S"] + sum(order.cum_qty for order in venue.exchange.truth)
        return structs.replace(found, positions={"S": quantity} if quantity else {})

    monkeypatch.setattr(ScriptedVenue, "snapshot", with_positions)
    return beside


async def unresolved(desk: Desk) -> list[FindingKind]:
    """Return the unresolved findings after the next snapshots."""
    await asyncio.sleep(130)
    return standing(desk)


@virtual_time
@pytest.mark.parametrize("opening", [0, -7])
async def test_a_position_drift_is_raised_and_resolved(held: Held, opening: int) -> None:
    """Opening positions and fills are no drift; a difference raises a finding, which is resolved when it disappears."""
    held["S"] = opening
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(5))
        desk.exchange.fill("#0", 3)
        assert await unresolved(desk) == []
        held["S"] += 2
        assert await unresolved(desk) == [FindingKind.POSITION_DRIFT]
        (finding,) = desk.kernel.state.findings()
        assert (finding.symbol_id, desk.kernel.state.position_drift()) == ("S", {"S": 2})
        assert "the venue's S position is +2 off" in finding.text
        held["S"] -= 2
        assert await unresolved(desk) == []


@virtual_time
async def test_a_resolved_position_drift_is_the_new_basis(held: Held) -> None:
    """After a resolution the venue's position is the basis, and a new difference raises a new finding."""
    async with a_desk() as desk:
        held["S"] = 4
        assert await unresolved(desk) == [FindingKind.POSITION_DRIFT]
        await desk.kernel.resolve_finding("POSITION_DRIFT:S", evidence="a settlement")
        assert await unresolved(desk) == []
        await desk.kernel.place_order(buy(5))
        desk.exchange.fill("#0", 3)
        assert await unresolved(desk) == []
        held["S"] = 5
        assert await unresolved(desk) == [FindingKind.POSITION_DRIFT]


@virtual_time
async def test_a_position_that_is_gone_is_flat(held: Held) -> None:
    """A position that the venue no longer lists is flat."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(3))
        desk.exchange.fill("#0", 3)
        held["S"] = -3
        assert await unresolved(desk) == [FindingKind.POSITION_DRIFT]
        assert desk.kernel.state.position_drift() == {"S": -3}


@virtual_time
async def test_an_external_trade_explains_balances_and_position(held: Held) -> None:
    """An external trade raises its own finding, and neither balances nor position drift."""
    async with a_desk() as desk:
        now_ns = desk.exchange.clock.now_ns()
        desk.exchange.do_submit(SubmitRequest(client_order_id="web-1", order=buy(5), stamp_ns=now_ns), None)
        desk.exchange.fill("#0", 3)
        assert await unresolved(desk) == [FindingKind.UNEXPECTED_TRADE]
        assert [item.quantity for item in await desk.kernel.get_positions()] == []


@virtual_time
async def test_a_venue_without_positions_has_no_position_drift() -> None:
    """A spot account has balances only."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(3))
        desk.exchange.fill("#0", 3)
        assert await unresolved(desk) == []
        deposit(desk, 2)
        assert await unresolved(desk) == [FindingKind.BALANCE_DRIFT]
        assert desk.kernel.state.position_drift() == {}
        deposit(desk, -2)
        assert await unresolved(desk) == []
