"""Expected balances, locked funds, drift that changes, cash flows, and fees that are several, late or corrected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from msgspec import structs

from kernel import events
from kernel.clock import NS_PER_S, LoopClock
from kernel.errors import OutcomeUnknown
from kernel.models import AccountState, Balance, ExecType, FindingKind, OrdStatus
from kernel.order_spec import OrderType, Side
from kernel.venues.base import ExecutionReport, SubmitRequest, VenueCapabilities, VenueSnapshot
from replay.views.listing import listing as listed
from replay.views.listing import query_of
from tests.scenarios.field.lab import COIN, FieldOrder, FieldVenue, Lab, field_lab, order

pytestmark = pytest.mark.looptime
RELISTS = 130
"""Seconds in which the account is observed twice."""


async def expected(lab: Lab, asset_id: str) -> Balance:
    account = await lab.kernel.get_account_state()
    assert account.expected is not None
    return account.expected[asset_id]


async def raised(lab: Lab, kind: FindingKind) -> list[str]:
    """Return the texts of every time that a kind of finding was raised."""
    found = [item async for item in _events(lab)]
    return [item.finding.text for item in found if isinstance(item, events.FindingRaised) and item.finding.kind is kind]


async def _events(lab: Lab) -> AsyncIterator[events.BaseEvent]:
    head = await lab.log.head()
    async for item in lab.kernel.events(after=0):
        yield item
        if item.position >= head.position:
            return


async def bought(lab: Lab, quantity: int = COIN, **fill: object) -> tuple[FieldOrder, ExecutionReport]:
    """A buy order that has filled, and its trade."""
    await lab.kernel.place_order(order("BUY", quantity))
    (item,) = lab.venue.open_orders()
    report = lab.venue.fill(item, quantity, **fill)
    await asyncio.sleep(1)
    return item, report


# ------------------------------------------------------------------------------------------------- expected and locked
async def test_free_funds_are_known_right_after_a_fill() -> None:
    """After a fill the expected balances show both assets at once, and agree with the next observation."""
    async with field_lab() as lab:
        await bought(lab, fee=COIN // 1_000, fee_asset="BTC")
        account = await lab.kernel.get_account_state()
        assert account.balances["BTC"].total == 100 * COIN
        for asset_id in ("BTC", "USDT"):
            assert (await expected(lab, asset_id)).free == lab.venue.balances[asset_id]
        await asyncio.sleep(RELISTS)
        account = await lab.kernel.get_account_state()
        assert account.expected is not None
        totals = {name: balance.total for name, balance in account.expected.items()}
        assert totals == lab.venue.balances == {name: balance.total for name, balance in account.balances.items()}
        assert lab.findings() == {}


async def test_open_orders_lock_what_they_may_spend() -> None:
    """A buy locks its cost in the quote asset, a sell its quantity in the base asset, each less what it filled."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order("BUY", 2 * COIN, 6_000_000))
        await lab.kernel.place_order(order("SELL", COIN, 7_000_000))
        assert (await expected(lab, "USDT")).locked == 120_000 * COIN
        assert (await expected(lab, "BTC")).locked == COIN
        buy = next(item for item in lab.venue.open_orders() if item.order.side is Side.BUY)
        lab.venue.fill(buy, COIN)
        await asyncio.sleep(1)
        found = await expected(lab, "USDT")
        assert (found.total, found.locked, found.free) == (940_000 * COIN, 60_000 * COIN, 880_000 * COIN)
        await lab.kernel.cancel_all_orders()
        await asyncio.sleep(5)
        assert (await expected(lab, "USDT")).locked == (await expected(lab, "BTC")).locked == 0


async def test_an_unknown_submit_locks_its_funds() -> None:
    """A submit whose answer is lost counts as working until it is known not to be."""
    async with field_lab() as lab:

        def lose(request: SubmitRequest) -> ExecutionReport:
            raise OutcomeUnknown("the answer was lost")

        def unknown(*_: object) -> ExecutionReport | None:
            raise OutcomeUnknown("no answer")

        lab.venue.on_submit, lab.venue.on_order = lose, unknown
        await lab.kernel.place_order(order("SELL", 3 * COIN, 7_000_000), wait="recorded")
        await asyncio.sleep(1)
        assert (await expected(lab, "BTC")).locked == 3 * COIN
        lab.venue.on_submit, lab.venue.on_order = lab.venue.accept, lab.venue.find_report
        await lab.kernel.cancel_all_orders()
        await asyncio.sleep(200)
        assert (await expected(lab, "BTC")).locked == 0


async def test_an_external_order_locks_its_funds() -> None:
    """An open order that somebody else placed leaves less to the strategies."""
    async with field_lab() as lab:
        made = lab.venue.new_order(SubmitRequest(client_order_id="web-1", order=order("SELL"), stamp_ns=1))
        lab.venue.tell(lab.venue.report(made, ExecType.NEW))
        await asyncio.sleep(1)
        assert (await expected(lab, "BTC")).free == 99 * COIN
        lab.venue.end(made, OrdStatus.CANCELED)
        await asyncio.sleep(1)
        assert (await expected(lab, "BTC")).free == 100 * COIN


async def test_a_drift_is_in_the_expected_balances() -> None:
    """What the venue shows is what can be spent, whatever explains it; later fills count on top."""
    async with field_lab() as lab:
        lab.venue.transfer("USDT", -1_000 * COIN, listed=False)
        await asyncio.sleep(RELISTS)
        assert (await expected(lab, "USDT")).total == 999_000 * COIN
        await bought(lab)
        assert (await expected(lab, "USDT")).total == lab.venue.balances["USDT"]


async def test_an_account_not_observed_yet_expects_nothing() -> None:
    """Before the first observation there are neither balances nor expected ones."""
    assert AccountState(exchange_id="field").expected is None


# --------------------------------------------------------------------------------------------------------------- drift
async def test_a_larger_drift_is_raised_again() -> None:
    """A drift stands, then a larger one comes: the one finding has the new figure (fail_10)."""
    async with field_lab() as lab:
        lab.venue.balances["USDT"] -= 123_456
        await asyncio.sleep(200)
        assert "-0.00123456 off" in lab.findings()["BALANCE_DRIFT"]
        lab.venue.balances["USDT"] -= 10_000 * COIN
        await asyncio.sleep(3_600)
        assert "-10000.00123456 off" in lab.findings()["BALANCE_DRIFT"]
        assert len(await raised(lab, FindingKind.BALANCE_DRIFT)) == 2
        assert len([*lab.kernel.state.findings()]) == 1


async def test_a_drift_that_shrinks_is_raised_again_and_one_that_vanishes_is_resolved() -> None:
    """Each change of a drift is reported once; one that stands still is not repeated."""
    async with field_lab() as lab:
        for change in (-500, 300, 0, 200):
            lab.venue.balances["BNB"] += change
            await asyncio.sleep(RELISTS)
        assert lab.findings() == {}
        texts = await raised(lab, FindingKind.BALANCE_DRIFT)
        assert ["-0.00000500" in texts[0], "-0.00000200" in texts[1], len(texts)] == [True, True, 2]


async def test_two_assets_drift_apart() -> None:
    """A change of one asset's drift does not repeat the finding of another."""
    async with field_lab() as lab:
        lab.venue.balances["BNB"] -= 7
        lab.venue.balances["ETH"] -= 9
        await asyncio.sleep(RELISTS)
        lab.venue.balances["ETH"] -= 1
        await asyncio.sleep(RELISTS)
        texts = await raised(lab, FindingKind.BALANCE_DRIFT)
        assert [sum(f"the {name} balance" in text for text in texts) for name in ("BNB", "ETH")] == [1, 2]


async def test_a_position_drift_is_raised_again() -> None:
    """A position's drift that changes is raised with the new figure, and resolved when it is gone."""
    async with field_lab() as lab:
        lab.venue.positions = {"BTCUSDT": 0}
        await asyncio.sleep(RELISTS)
        lab.venue.positions = {"BTCUSDT": 2 * COIN}
        await asyncio.sleep(RELISTS)
        lab.venue.positions = {"BTCUSDT": -3 * COIN}
        await asyncio.sleep(RELISTS)
        assert "-3.00000000 off" in lab.findings()["POSITION_DRIFT"]
        lab.venue.positions = {}
        await asyncio.sleep(RELISTS)
        assert lab.findings() == {}
        assert len(await raised(lab, FindingKind.POSITION_DRIFT)) == 2


async def test_a_resolved_drift_is_not_expected_twice() -> None:
    """The transfer that an operator's resolution records explains what is observed already."""
    async with field_lab() as lab:
        lab.venue.balances["USDT"] -= 700
        await asyncio.sleep(RELISTS)
        await lab.kernel.resolve_finding("BALANCE_DRIFT:USDT", evidence="a withdrawal")
        assert (await expected(lab, "USDT")).total == lab.venue.balances["USDT"]
        await asyncio.sleep(RELISTS)
        assert lab.findings() == {}
        lab.venue.balances["USDT"] += 700
        await asyncio.sleep(RELISTS)
        assert "+0.00000700 off" in lab.findings()["BALANCE_DRIFT"]


# ---------------------------------------------------------------------------------------------------------- cash flows
@pytest.mark.parametrize("amount", [250 * COIN, -250 * COIN, -1])
async def test_a_cash_flow_of_the_venue_is_no_drift(amount: int) -> None:
    """A deposit, a withdrawal or a funding payment that the venue reports explains the balance, and is booked once."""
    async with field_lab() as lab:
        lab.venue.transfer("USDT", amount)
        await asyncio.sleep(RELISTS)
        assert lab.findings(resolved=True) == {}
        assert (await expected(lab, "USDT")).total == lab.venue.balances["USDT"]
        moved = [item async for item in _events(lab) if isinstance(item, events.TransferObserved)]
        assert [(item.asset_id, item.amount) for item in moved] == [("USDT", amount)]


async def test_funding_at_every_relist_hides_no_drift() -> None:
    """Payments that never stop are explained, and a loss beside them is still reported."""
    async with field_lab() as lab:
        await asyncio.sleep(10)
        for hour in range(10):
            lab.venue.transfer("USDT", -100 - hour)
            await asyncio.sleep(60)
        assert lab.findings(resolved=True) == {}
        lab.venue.balances["USDT"] -= 5_000
        for hour in range(5):
            lab.venue.transfer("USDT", -200 - hour)
            await asyncio.sleep(60)
        assert "-0.00005000 off" in lab.findings()["BALANCE_DRIFT"]


async def test_a_transfer_listed_late_resolves_its_drift() -> None:
    """A deposit that the venue lists only later is a drift until then."""
    async with field_lab() as lab:
        lab.venue.transfer("BNB", 5, listed=False)
        await asyncio.sleep(RELISTS)
        assert "BALANCE_DRIFT" in lab.findings()
        lab.venue.transfer("BNB", 5)
        lab.venue.balances["BNB"] -= 5
        await asyncio.sleep(RELISTS)
        assert lab.findings() == {}


# ---------------------------------------------------------------------------------------------------------------- fees
async def fees(lab: Lab) -> dict[str, int]:
    (position,) = await lab.kernel.get_positions()
    return {asset_id: fee for asset_id, fee in position.fees.items() if fee}


async def test_a_fee_that_is_corrected() -> None:
    """A fee first reported as 0, then in BNB, then as another amount: the newest report counts."""
    async with field_lab() as lab:
        _, trade = await bought(lab, fee=0, fee_asset="BNB")
        trade = lab.venue.charge(trade, fee=700, fee_asset="BNB")
        await asyncio.sleep(1)
        assert await fees(lab) == {"BNB": 700}
        trade = lab.venue.charge(trade, fee=500, fee_asset="BNB")
        await asyncio.sleep(RELISTS)
        assert await fees(lab) == {"BNB": 500}
        lab.venue.charge(trade, fee=COIN // 1_000, fee_asset="BTC")
        await asyncio.sleep(RELISTS)
        assert (await fees(lab), await lab.position()) == ({"BTC": COIN // 1_000}, COIN)
        assert lab.findings() == {}
        assert (await expected(lab, "BNB")).total == 100 * COIN


async def test_a_fee_that_comes_late_changes_no_observed_balance() -> None:
    """A fee reported after the balance that includes it is not subtracted from it again."""
    async with field_lab() as lab:
        _, trade = await bought(lab)
        await asyncio.sleep(5)
        lab.venue.charge(trade, tell=False, fee=900, fee_asset="BNB")
        told = lab.venue.trades.pop()
        await asyncio.sleep(RELISTS)
        assert "BALANCE_DRIFT" in lab.findings()
        lab.venue.tell(told)
        await asyncio.sleep(1)
        assert (await expected(lab, "BNB")).total == 100 * COIN - 900
        await asyncio.sleep(RELISTS)
        assert (lab.findings(), await fees(lab)) == ({}, {"BNB": 900})


@pytest.mark.parametrize("several", [{"BTC": 100, "BNB": 7}, {"USDT": -3, "BNB": 7}, {"BNB": 7}, {}])
async def test_a_trade_with_several_fees(several: dict[str, int]) -> None:
    """Each fee of a trade is booked in its own asset, and a later report of the trade replaces them all."""
    async with field_lab() as lab:
        _, trade = await bought(lab, fees=several)
        await asyncio.sleep(RELISTS)
        assert (await fees(lab), lab.findings(resolved=True)) == (several, {})
        lab.venue.charge(trade, fees={"BNB": 9, "ETH": 2})
        await asyncio.sleep(RELISTS)
        assert (await fees(lab), lab.findings()) == ({"BNB": 9, "ETH": 2}, {})
        (fill,) = {item.fill_key: item for item in await lab.kernel.get_fills()}.values()
        assert fill.last_qty == COIN


async def test_fees_of_an_external_trade() -> None:
    """Several fees of an external order's trade, and their correction, explain the balances."""
    async with field_lab() as lab:
        made = lab.venue.new_order(SubmitRequest(client_order_id="web-1", order=order(), stamp_ns=1))
        trade = lab.venue.fill(made, COIN, fees={"BNB": 5, "BTC": 6})
        await asyncio.sleep(RELISTS)
        assert set(lab.findings()) == {"UNEXPECTED_TRADE"}
        lab.venue.charge(trade, fees={"BNB": 8})
        await asyncio.sleep(RELISTS)
        assert set(lab.findings(resolved=True)) - {"BALANCE_DRIFT"} == {"UNEXPECTED_TRADE"}
        assert set(lab.findings()) == {"UNEXPECTED_TRADE"}
        assert (await expected(lab, "BTC")).total == lab.venue.balances["BTC"] == 101 * COIN


# ------------------------------------------------------------------------------------------------- provisional opening
class LateVenue(FieldVenue):
    """A venue that shows the balances of an earlier time for a while, and says nothing of it."""

    def __init__(self, *, shown: dict[str, int], answers: int) -> None:
        super().__init__(LoopClock(), VenueCapabilities(order_types=frozenset(OrderType)))
        self.shown, self.answers = shown, answers

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
        found = await super().snapshot(since_ns, symbols)
        self.answers -= 1
        if self.answers < 0:
            return found
        balances = {name: Balance(asset_id=name, total=held, free=held) for name, held in self.shown.items()}
        return structs.replace(found, balances=balances)


@pytest.mark.parametrize("answers", [0, 1, 2])
@pytest.mark.parametrize("age_s", [0, 2])
async def test_an_opening_balance_older_than_declared(answers: int, age_s: int) -> None:
    """Trades and transfers that the opening balance lacks are no drift: the next observation shows that it lacked them."""
    venue = LateVenue(shown=dict(FieldVenue(LoopClock(), VenueCapabilities()).balances), answers=answers)
    early_ns = venue.clock.now_ns() - age_s * NS_PER_S
    for number in range(2):
        made = venue.new_order(SubmitRequest(client_order_id=f"web-{number}", order=order(), stamp_ns=1))
        venue.fill(made, COIN, tell=False, fees={"BNB": 3}, transact_time_ns=early_ns)
    venue.transfer("ETH", 5)
    async with field_lab(venue=venue) as lab:
        await asyncio.sleep(300)
        assert set(lab.findings()) == {"UNEXPECTED_TRADE"}
        account = await lab.kernel.get_account_state()
        assert {name: item.total for name, item in (account.expected or {}).items()} == venue.balances
        venue.balances["ETH"] -= 1
        await asyncio.sleep(RELISTS)
        assert "-0.00000001 off" in lab.findings()["BALANCE_DRIFT"]


async def test_a_loss_right_after_the_opening_is_reported() -> None:
    """A difference that no known trade or transfer explains is a drift at the second observation already."""
    async with field_lab() as lab:
        lab.venue.balances["USDT"] -= 10
        await asyncio.sleep(70)
        assert "-0.00000010 off" in lab.findings()["BALANCE_DRIFT"]


@pytest.mark.parametrize("included", [True, False])
async def test_a_trade_at_the_opening_that_is_reported_later(included: bool) -> None:
    """Whether or not the opening balance has a trade that is reported after it, there is no drift."""
    venue = FieldVenue(LoopClock(), VenueCapabilities(order_types=frozenset(OrderType)))
    made = venue.new_order(SubmitRequest(client_order_id="web-1", order=order(), stamp_ns=1))
    before = dict(venue.balances)
    trade = venue.fill(made, COIN, tell=False, transact_time_ns=venue.clock.now_ns() - NS_PER_S)
    after, venue.trades = dict(venue.balances), []
    venue.balances = after if included else before
    async with field_lab(venue=venue) as lab:
        venue.balances = after
        venue.trades = [trade]
        venue.tell(trade)
        await asyncio.sleep(RELISTS)
        assert set(lab.findings(resolved=True)) == {"UNEXPECTED_TRADE"}
        assert (await expected(lab, "BTC")).total == 101 * COIN


async def test_the_account_is_listed_with_expected_balances() -> None:
    """`get account` shows what was observed and, beside it, what is expected, in decimals."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order("SELL", COIN // 2, 7_000_000))
        found = await listed(lab.kernel, query_of(("account",)))
        (item,) = found.items
        (row,) = (dict(zip(found.columns, cells, strict=True)) for cells in item.lines if cells[0] == "BTC")
        shown = ("TOTAL", "LOCKED", "FREE", "EXPECTED", "EXP-LOCKED", "EXP-FREE")
        assert [row[name] for name in shown] == ["100", "0", "100", "100", "0.5", "99.5"]
        assert item.data["expected"]["BTC"]["free"] == "99.50000000"
