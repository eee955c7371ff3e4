"""A stop triggers as a new order that is shown without client order id: it is never taken for gone (H20, H23)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kernel.models import AttemptOutcome, ExecType, OrdStatus, ReconciliationStatus, UnsolicitedCancelPolicy
from kernel.settings import KernelSettings
from kernel.venues.base import TriggerDialect
from replay import open_kernel
from tests.scenarios.field.lab import COIN, FieldOrder, Lab, field_lab, order
from tests.scenarios.field.test_hidden_client_ids import AMBIGUOUS, EVIDENCE, EXCLUSIVE, HidingVenue, hiding, status

pytestmark = pytest.mark.looptime
STOP = order("SELL", COIN, kind="STOP", stop_price=5_900_000)
HIDDEN = {"lookup": False, "trigger": TriggerDialect.NEW_ORDER}
UNNAMED_TRADES = HIDDEN | {"trades_carry_client_id": False}
RECREATE = UnsolicitedCancelPolicy.RECREATE


async def placed(lab: Lab, name: str = "stop", policy: UnsolicitedCancelPolicy = RECREATE) -> FieldOrder:
    await lab.kernel.place_order(STOP, intent_id=name, on_unsolicited_cancel=policy)
    await asyncio.sleep(5)
    return lab.venue.open_orders()[-1]


def triggered(venue: HidingVenue, stop: FieldOrder, *, quantity: int = COIN) -> FieldOrder:
    """The stop leaves the book, the order that takes its place fills at once, and nothing is told."""
    made = FieldOrder("9001", stop.client_order_id, stop.order, stop.quantity, stop.price)
    stop.open, stop.status = False, OrdStatus.EXPIRED
    venue.orders["BTCUSDT", made.id] = made
    venue.fill(made, quantity, 5_890_000, tell=False)
    made.open = False
    return made


async def is_filled_once(lab: Lab, quantity: int = COIN) -> None:
    found = await lab.kernel.get_order_state("stop")
    assert found.status.cum_qty == quantity
    assert await lab.position() == -quantity
    assert lab.findings() == {}
    assert lab.venue.count("submit") == 1
    assert lab.kernel.state.expected_balances() == lab.venue.balances


@pytest.mark.parametrize("capabilities", [UNNAMED_TRADES, HIDDEN | AMBIGUOUS, HIDDEN | {"client_order_ids": False}])
@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("policy", UnsolicitedCancelPolicy)
async def test_an_operator_names_the_order_of_the_trigger(
    capabilities: dict[str, Any], is_told: bool, policy: UnsolicitedCancelPolicy
) -> None:
    """While a trade may be the triggered stop's, nothing is placed and its leaves count; an operator books it."""
    venue = hiding(**capabilities)
    async with field_lab(venue=venue) as lab:
        stop = await placed(lab, policy=policy)
        made = triggered(venue, stop)
        if is_told:
            venue.tell(venue.report(stop, ExecType.EXPIRED))
        await asyncio.sleep(300)
        assert venue.count("submit") == 1
        assert status(lab, "stop") is ReconciliationStatus.PENDING
        assert lab.kernel.state.symbol_exposure("BTCUSDT").sells == COIN
        assert f"{made.id} (SELL" in lab.findings()["UNOWNED_CANDIDATE"]
        assert "GHOST" not in lab.findings()
        await lab.kernel.resolve_attempt("stop", order=made.id, evidence=EVIDENCE)
        await asyncio.sleep(200)
        await is_filled_once(lab)
        assert lab.kernel.state.external_order(made.id) is None


@pytest.mark.parametrize("is_told", [True, False])
async def test_an_operator_says_that_none_is_ours(is_told: bool) -> None:
    """The trade is another's: the stop has ended without it, and RECREATE places it again, once."""
    venue = hiding(**UNNAMED_TRADES)
    async with field_lab(venue=venue) as lab:
        stop = await placed(lab)
        venue.fill(venue.foreign("SELL"), COIN, tell=False)
        stop.open, stop.status = False, OrdStatus.EXPIRED
        if is_told:
            venue.tell(venue.report(stop, ExecType.EXPIRED))
        await asyncio.sleep(300)
        assert venue.count("submit") == 1
        await lab.kernel.resolve_attempt("stop", AttemptOutcome.DEAD, evidence=EVIDENCE)
        await asyncio.sleep(300)
        assert venue.count("submit") == 2
        assert set(lab.findings()) == {"UNEXPECTED_TRADE"} | (set() if is_told else {"GHOST"})


@pytest.mark.parametrize("quantity", [COIN, COIN // 2])
async def test_an_exclusive_account_needs_no_operator(quantity: int) -> None:
    """The only suspect of the only such stop is attributed; of a part of its quantity, the rest is not placed again."""
    venue = hiding(**UNNAMED_TRADES)
    async with field_lab(venue=venue, settings=EXCLUSIVE) as lab:
        stop = await placed(lab, policy=UnsolicitedCancelPolicy.STOP)
        triggered(venue, stop, quantity=quantity)
        await asyncio.sleep(300)
        await is_filled_once(lab, quantity) if quantity == COIN else None
        assert await lab.position() == -quantity
        assert venue.count("submit") == 1


async def test_two_stops_alike_need_an_operator() -> None:
    """Where the order may be that of either stop, or of a lost submit, an exclusive account does not tell whose it is."""
    venue = hiding(**UNNAMED_TRADES)
    async with field_lab(venue=venue, settings=EXCLUSIVE) as lab:
        first = await placed(lab)
        second = await placed(lab, "other")
        made = triggered(venue, first)
        second.open, second.status = False, OrdStatus.EXPIRED
        await asyncio.sleep(300)
        assert venue.count("submit") == 2
        assert await lab.position() == 0
        await lab.kernel.resolve_attempt("stop", order=made.id, evidence=EVIDENCE)
        await asyncio.sleep(300)
        assert await lab.position() == -COIN
        assert venue.count("submit") == 3  # the other one, gone, is placed again
        assert lab.kernel.state.record("stop").cum_qty == COIN


async def test_what_cannot_be_its_order_delays_nothing() -> None:
    """Orders known before the stop, trades before it, another side and a larger quantity are no suspects: a ghost."""
    venue = hiding(**UNNAMED_TRADES)
    async with field_lab(venue=venue) as lab:
        older = venue.foreign("SELL", price=7_000_000)
        await asyncio.sleep(70)
        late = venue.fill(venue.foreign("SELL"), COIN, tell=False)
        venue.trades.remove(late)
        await asyncio.sleep(10)
        stop = await placed(lab)
        venue.trades.append(late)
        venue.fill(older, COIN, tell=False)
        venue.fill(venue.foreign("BUY"), COIN, tell=False)
        venue.fill(venue.foreign("SELL", 3 * COIN), 3 * COIN, tell=False)
        stop.open, stop.status = False, OrdStatus.EXPIRED
        await asyncio.sleep(300)
        assert venue.count("submit") == 2
        assert "GHOST" in lab.findings()
        assert "UNOWNED_CANDIDATE" not in lab.findings(resolved=True)


@pytest.mark.parametrize("policy", UnsolicitedCancelPolicy)
async def test_a_trade_that_is_listed_late(policy: UnsolicitedCancelPolicy) -> None:
    """A trade of before the stop's end appears after it was closed as a ghost: a finding names it, nothing is placed."""
    venue = hiding(**UNNAMED_TRADES)
    async with field_lab(venue=venue) as lab:
        stop = await placed(lab, policy=policy)
        made = triggered(venue, stop)
        (trade,) = venue.trades
        venue.trades.clear()
        await lab.kernel.pause(reason="maintenance")
        while "GHOST" not in lab.findings():
            await asyncio.sleep(1)
        venue.trades.append(trade)
        await asyncio.sleep(70)
        await lab.kernel.resume()
        await asyncio.sleep(300)
        assert venue.count("submit") == 1
        assert f"{made.id} (SELL" in lab.findings()["UNOWNED_CANDIDATE"]
        await lab.kernel.resolve_attempt("stop", order=made.id, evidence=EVIDENCE)
        await asyncio.sleep(100)
        await is_filled_once(lab)


async def test_recreate_waits_for_the_trades() -> None:
    """A stop that was told as ended is placed again only after a list of trades that began after its end."""
    venue = hiding(**UNNAMED_TRADES)
    async with field_lab(venue=venue) as lab:
        stop = await placed(lab)
        stop.open, stop.status = False, OrdStatus.EXPIRED
        lists = venue.count("snapshot")
        venue.tell(venue.report(stop, ExecType.EXPIRED))
        await asyncio.sleep(300)
        calls = [name for name, _ in venue.calls]
        again = [place for place, name in enumerate(calls) if name == "submit"][1]
        assert calls[:again].count("snapshot") > lists
        assert venue.count("submit") == 2


async def test_a_triggered_stop_survives_a_restart() -> None:
    """What may be the stop's order follows from the log: a kernel that starts anew waits too."""
    venue = hiding(**UNNAMED_TRADES)
    async with field_lab(venue=venue) as lab:
        stop = await placed(lab)
        made = triggered(venue, stop)
        await asyncio.sleep(300)
        await lab.kernel.stop()
        async with open_kernel(lab.log, venue=venue, clock=venue.clock, settings=KernelSettings()) as second:
            await asyncio.sleep(300)
            assert venue.count("submit") == 1
            await second.resolve_attempt("stop", order=made.id, evidence=EVIDENCE)
            await asyncio.sleep(100)
            assert (await second.get_order_state("stop")).status.ord_status is OrdStatus.FILLED
            assert not any(item.resolved_at_ns is None for item in second.state.findings())
        await lab.kernel.start()


async def test_the_stream_names_the_order_later() -> None:
    """A report with the client order id shows whose the trade is: it is booked, and the findings end."""
    venue = hiding(**UNNAMED_TRADES)
    async with field_lab(venue=venue) as lab:
        stop = await placed(lab)
        made = triggered(venue, stop)
        await asyncio.sleep(300)
        assert "UNOWNED_CANDIDATE" in lab.findings()
        venue.tell(venue.report(made, ExecType.NEW, cum_qty=0, ord_status=OrdStatus.NEW))
        await asyncio.sleep(100)
        await is_filled_once(lab)
