"""A bracket's exits: sized by what is held, placed again while they are released, and reported while none works."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs

from kernel.clock import NS_PER_S, LoopClock
from kernel.errors import OutcomeUnknown, Rejected
from kernel.models import ExecType, OrdStatus, ReconciliationStatus, VenueTermsPolicy
from kernel.order_spec import OcoMode, StandardOrder, StandardOrderGroup
from kernel.settings import KernelSettings
from kernel.venues.base import AmendDialect, Dedupe, ExecutionReport, ModifyRequest, SubmitRequest, VenueCapabilities
from kernel.venues.paper.matching.config import full_symbols
from tests.scenarios.field.lab import BTCUSDT, COIN, FieldOrder, FieldVenue, Lab, field_lab, order, paper_lab

pytestmark = pytest.mark.looptime
ENTRY, PROFIT, STOP = "entry", "profit", "stop"
LOT = BTCUSDT.lot_size
AMENDS = pytest.mark.parametrize("amend", list(AmendDialect))


def bracket(quantity: int = COIN, *exits: StandardOrder, **terms: Any) -> StandardOrderGroup:
    """A bought entry with a limit exit above and a stop below it, unless other exits are given."""
    pair = (
        order("SELL", quantity, 6_300_000, **terms),
        order("SELL", quantity, kind="STOP", stop_price=6_000_000, **terms),
    )
    entry = order("BUY", quantity, 6_180_000)
    return StandardOrderGroup(mode=OcoMode.ONE_TRIGGERS_OTHER, orders=(entry, *(exits or pair)))


async def place(lab: Lab, group: StandardOrderGroup | None = None) -> FieldOrder:
    """Place a bracket; returns its entry at the venue."""
    group = group or bracket()
    ids = (ENTRY, PROFIT, STOP)[: len(group.orders)]
    await lab.kernel.place_order_group(group, group_id="b", intent_ids=ids, wait="recorded")
    await asyncio.sleep(1)
    (entry,) = lab.venue.open_orders()
    return entry


def exits(lab: Lab) -> dict[str, int]:
    """Open quantity of each exit at the venue, by order type."""
    found = [item for item in lab.venue.open_orders() if item.order.side == "SELL"]
    assert len({item.order.order_type for item in found}) == len(found), "one order for each exit"
    return {item.order.order_type.value: item.quantity - item.cum_qty for item in found}


def stop_of(lab: Lab) -> FieldOrder:
    (found,) = [item for item in lab.venue.open_orders() if item.order.stop_price is not None]
    return found


def refuse_sells(venue: FieldVenue, while_: Any, text: str = "insufficient balance") -> list[SubmitRequest]:
    """Let the venue refuse the sell orders for which `while_` holds; returns them as they come."""
    refused: list[SubmitRequest] = []

    def on_submit(request: SubmitRequest) -> ExecutionReport:
        if request.order.side == "SELL" and while_(request):
            refused.append(request)
            raise Rejected(text, code="-2010")
        return venue.accept(request)

    venue.on_submit = on_submit
    return refused


@AMENDS
async def test_fees_in_the_base_asset_make_exits_smaller(amend: AmendDialect) -> None:
    """Exits sell what is left after the fees of each part, rounded down to the lot."""
    async with field_lab(amend=amend) as lab:
        entry = await place(lab)
        lab.venue.fill(entry, COIN // 2, fee=50_001, fee_asset="BTC")
        await asyncio.sleep(5)
        assert exits(lab) == {"LIMIT": COIN // 2 - 51_000, "STOP": COIN // 2 - 51_000}
        lab.venue.fill(entry, COIN // 2, fee=50_001, fee_asset="BTC")
        await asyncio.sleep(5)
        assert exits(lab) == {"LIMIT": COIN - 101_000, "STOP": COIN - 101_000}
        lab.venue.fill(stop_of(lab), COIN - 101_000, 6_000_000)
        await asyncio.sleep(120)
        assert exits(lab) == {}
        assert lab.findings() == {}, "the rest is less than a lot"


@AMENDS
async def test_a_fee_told_later_shrinks_a_working_exit(amend: AmendDialect) -> None:
    """The exit of the whole fill was accepted; once its fee is known, it is too large."""
    async with field_lab(amend=amend) as lab:
        entry = await place(lab)
        report = lab.venue.fill(entry, COIN)
        await asyncio.sleep(5)
        assert exits(lab) == {"LIMIT": COIN, "STOP": COIN}
        lab.venue.tell(structs.replace(report, fee=100_000, fee_asset="BTC"))
        await asyncio.sleep(5)
        assert exits(lab) == {"LIMIT": COIN - 100_000, "STOP": COIN - 100_000}


@pytest.mark.parametrize("asset", ["BNB", "USDT"])
async def test_a_fee_in_another_asset_takes_nothing(asset: str) -> None:
    """Only fees in the base asset reduce what can be sold."""
    async with field_lab() as lab:
        entry = await place(lab)
        lab.venue.fill(entry, COIN, fee=100_000, fee_asset=asset)
        await asyncio.sleep(5)
        assert exits(lab) == {"LIMIT": COIN, "STOP": COIN}


async def test_the_exits_of_a_short_are_not_reduced_by_fees() -> None:
    """A short bracket buys back what it sold."""
    async with field_lab() as lab:
        sell = order("SELL", COIN, 6_180_000)
        buys = (order("BUY", COIN, 6_000_000), order("BUY", COIN, kind="STOP", stop_price=6_300_000))
        entry = await place(lab, StandardOrderGroup(mode=OcoMode.ONE_TRIGGERS_OTHER, orders=(sell, *buys)))
        lab.venue.fill(entry, COIN, fee=100_000, fee_asset="BTC")
        await asyncio.sleep(5)
        assert {item.quantity for item in lab.venue.open_orders()} == {COIN}


@AMENDS
async def test_an_account_that_lags_behind_the_fill(amend: AmendDialect) -> None:
    """Refused for funds at first, the exits are placed as soon as the account shows the fill; no finding."""
    async with field_lab(amend=amend) as lab:
        entry = await place(lab)
        lags_until_ns = lab.venue.clock.now_ns() + NS_PER_S
        refused = refuse_sells(lab.venue, lambda _: lab.venue.clock.now_ns() < lags_until_ns)
        lab.venue.fill(entry, COIN // 2)
        await asyncio.sleep(10)
        assert exits(lab) == {"LIMIT": COIN // 2, "STOP": COIN // 2}
        assert 1 <= len(refused) < 10
        lab.venue.fill(entry, COIN // 2)
        await asyncio.sleep(10)
        assert exits(lab) == {"LIMIT": COIN, "STOP": COIN}
        assert lab.findings(resolved=True) == {}


async def test_a_venue_that_locks_funds_works_the_stop() -> None:
    """With funds for one exit only the stop works, whatever comes first, and grows with the entry."""
    async with field_lab(amend=AmendDialect.IN_PLACE) as lab:
        venue = lab.venue
        entry = await place(lab)

        def lacks_funds(request: SubmitRequest) -> bool:
            locked = sum(item.quantity - item.cum_qty for item in venue.open_orders() if item.order.side == "SELL")
            return request.order.quantity > entry.cum_qty - locked

        refused = refuse_sells(venue, lacks_funds)
        for _ in range(4):
            venue.fill(entry, COIN // 4)
            await asyncio.sleep(20)
        assert exits(lab) == {"STOP": COIN}
        assert lab.findings(resolved=True) == {}
        assert {request.order.order_type.value for request in refused} == {"LIMIT"}
        sent = len(refused)
        await asyncio.sleep(600)
        assert len(refused) - sent <= 60, "its delay has grown to 30 s, with jitter"


async def test_a_missing_exit_is_reported_until_one_works() -> None:
    """A finding, a condition and a metric tell of a position without a working stop; the kernel stays ready."""
    async with field_lab() as lab:
        entry = await place(lab)
        blocked = True
        refuse_sells(lab.venue, lambda request: blocked and request.order.stop_price is not None, "no stops today")
        lab.venue.fill(entry, COIN)
        await asyncio.sleep(4)
        assert lab.findings() == {}
        await asyncio.sleep(2)
        text = lab.findings()["EXIT_MISSING"]
        assert text.startswith("the bracket b holds 1.00000000 BTCUSDT without an exit that works: STOP stop")
        assert "no stops today" in text
        health = await lab.kernel.health_check()
        (shown,) = [item for item in health["conditions"] if item["type"] == "EXITS_WORKING"]
        assert (shown["status"], shown["message"], health["ready"]) == (False, "b", True)
        await asyncio.sleep(60)
        assert exits(lab) == {"LIMIT": COIN}, "any exit is better than none"
        blocked = False
        await asyncio.sleep(60)
        assert exits(lab) == {"LIMIT": COIN, "STOP": COIN}
        assert lab.findings() == {}
        health = await lab.kernel.health_check()
        assert all(item["status"] for item in health["conditions"])


async def test_a_refused_resend_does_not_keep_the_request_before_it_unknown() -> None:
    """Once no earlier send can arrive any more and a query shows no order, the exit is refused and tried, not unknown."""
    async with field_lab(dedupe=Dedupe.FOR_EVER) as lab:
        entry = await place(lab)
        unanswered: list[SubmitRequest] = []

        def on_submit(request: SubmitRequest) -> ExecutionReport:
            if not unanswered:
                unanswered.append(request)
                raise OutcomeUnknown("the connection was lost")
            raise Rejected("insufficient balance", code="-2010")

        lab.venue.on_submit = on_submit
        lab.venue.fill(entry, COIN)
        await asyncio.sleep(60)
        states = [await lab.kernel.get_order_state(name) for name in (PROFIT, STOP)]
        assert {item.reconciliation_status for item in states} == {ReconciliationStatus.BACKING_OFF}
        assert {*lab.findings()} == {"EXIT_MISSING"}
        lab.venue.on_submit = lab.venue.accept
        await asyncio.sleep(60)
        assert exits(lab) == {"LIMIT": COIN, "STOP": COIN}


@pytest.mark.parametrize("status", [OrdStatus.CANCELED, OrdStatus.EXPIRED, OrdStatus.REJECTED])
async def test_an_exit_that_the_venue_ends_is_placed_again(status: OrdStatus) -> None:
    """Canceled by the venue, expired or rejected after it was accepted: the stop works again."""
    async with field_lab() as lab:
        entry = await place(lab)
        lab.venue.fill(entry, COIN)
        await asyncio.sleep(90)
        lab.venue.end(stop_of(lab), status)
        await asyncio.sleep(90)
        assert exits(lab) == {"LIMIT": COIN, "STOP": COIN}
        assert "EXIT_MISSING" not in lab.findings()


async def test_an_exit_at_other_terms_works_between_the_tries() -> None:
    """An exit that the venue works at a worse price than requested is replaced once a minute, not taken away."""

    def on_submit(request: SubmitRequest) -> ExecutionReport:
        made = lab.venue.new_order(request)
        made.price = made.price - 3 if made.price and request.order.side == "SELL" else made.price
        return lab.venue.report(made, ExecType.NEW)

    async with field_lab() as lab:
        lab.venue.on_submit = on_submit
        entry = await place(lab)
        lab.venue.fill(entry, COIN)
        await asyncio.sleep(120)
        sent = lab.venue.count("submit")
        working = 0
        for _ in range(300):
            await asyncio.sleep(1)
            working += exits(lab) == {"LIMIT": COIN, "STOP": COIN}
        assert working >= 290
        assert lab.venue.count("submit") - sent <= 6
        assert list(lab.findings()) == ["VENUE_DISAGREES"]


async def test_an_exit_that_ended_can_be_canceled() -> None:
    """An expired stop that waits to be placed again is canceled by its owner, and then no exit is missing."""
    async with field_lab() as lab:
        entry = await place(lab)
        lab.venue.fill(entry, COIN)
        await asyncio.sleep(90)
        refuse_sells(lab.venue, lambda _: True)
        lab.venue.end(stop_of(lab), OrdStatus.EXPIRED)
        await asyncio.sleep(30)
        assert "EXIT_MISSING" in lab.findings()
        await lab.kernel.cancel_order(STOP)
        await lab.kernel.cancel_order(PROFIT)
        await asyncio.sleep(30)
        assert exits(lab) == {}
        assert lab.findings() == {}
        sent = lab.venue.count("submit")
        await asyncio.sleep(120)
        assert lab.venue.count("submit") == sent


async def test_parts_below_the_minimum() -> None:
    """An entry that fills in parts too small for an order is reported, and its exits are placed once they suffice."""
    least, symbol = 2 * LOT, structs.replace(BTCUSDT, min_quantity=5 * LOT, min_notional=0)
    venue = FieldVenue(LoopClock(), VenueCapabilities(validity_window_ns=5 * NS_PER_S), all_symbols=[symbol])
    async with field_lab(venue=venue) as lab:
        entry = await place(lab)
        lab.venue.fill(entry, least)
        await asyncio.sleep(10)
        assert exits(lab) == {}
        assert "0.00002" in lab.findings()["EXIT_MISSING"]
        for _ in range(8):
            lab.venue.fill(entry, least)
            await asyncio.sleep(1)
        await asyncio.sleep(60)
        assert exits(lab) == {"LIMIT": 9 * least, "STOP": 9 * least}
        assert lab.findings() == {}
        assert (await lab.kernel.get_order_state(STOP)).reconciliation_status is ReconciliationStatus.SYNCED


async def test_less_than_a_lot_is_reported_too() -> None:
    """What a fee leaves of a first part may be less than a lot."""
    async with field_lab() as lab:
        entry = await place(lab)
        lab.venue.fill(entry, LOT, fee=1, fee_asset="BTC")
        await asyncio.sleep(10)
        assert "EXIT_MISSING" in lab.findings()
        lab.venue.fill(entry, COIN - LOT)
        await asyncio.sleep(10)
        assert exits(lab) == {"LIMIT": COIN - LOT, "STOP": COIN - LOT}
        assert lab.findings() == {}


@AMENDS
@pytest.mark.parametrize("part", [COIN // 4, COIN])
async def test_another_sell_closes_the_position(part: int, amend: AmendDialect) -> None:
    """What the owner sells otherwise, the exits do not sell again; what he buys back, they do."""
    async with field_lab(amend=amend) as lab:
        entry = await place(lab)
        lab.venue.fill(entry, COIN)
        await asyncio.sleep(5)
        await lab.kernel.place_order(order("SELL", part, 6_200_000), intent_id="close")
        (close,) = [item for item in lab.venue.open_orders() if item.price == 6_200_000]
        lab.venue.fill(close, part)
        await asyncio.sleep(10)
        left = COIN - part
        assert exits(lab) == ({"LIMIT": left, "STOP": left} if left else {})
        assert lab.findings() == {}
        await lab.kernel.place_order(order("BUY", part, 6_100_000), intent_id="again")
        (again,) = [item for item in lab.venue.open_orders() if item.price == 6_100_000]
        lab.venue.fill(again, part)
        await asyncio.sleep(60)
        assert exits(lab) == {"LIMIT": COIN, "STOP": COIN}


async def test_a_sell_of_what_was_bought_otherwise_closes_nothing() -> None:
    """A separate position of the owner, and trades of other owners, do not reduce the exits."""
    async with field_lab() as lab:
        await lab.kernel.place_order(order("BUY", COIN, 6_100_000), intent_id="own")
        (own,) = lab.venue.open_orders()
        lab.venue.fill(own, COIN)
        entry = await place(lab)
        lab.venue.fill(entry, COIN)
        await asyncio.sleep(5)
        for name, owner in (("sell", ""), ("of_another", "market-maker")):
            await lab.kernel.place_order(order("SELL", COIN, 6_200_000), intent_id=name, owner=owner)
            (sell,) = [item for item in lab.venue.open_orders() if item.price == 6_200_000]
            lab.venue.fill(sell, COIN)
            await asyncio.sleep(5)
            assert exits(lab) == {"LIMIT": COIN, "STOP": COIN}


async def test_one_sell_closes_the_older_of_two_brackets() -> None:
    """One coin of two is sold: the exits of one coin stay."""
    async with field_lab() as lab:
        for number in (1, 2):
            await lab.kernel.place_order_group(bracket(), group_id=f"b{number}", wait="recorded")
            await asyncio.sleep(1)
            (entry,) = [item for item in lab.venue.open_orders() if item.order.side == "BUY"]
            lab.venue.fill(entry, COIN)
            await asyncio.sleep(5)
        await lab.kernel.place_order(order("SELL", COIN, 6_200_000), intent_id="close")
        (close,) = [item for item in lab.venue.open_orders() if item.price == 6_200_000]
        lab.venue.fill(close, COIN)
        await asyncio.sleep(10)
        assert exits(lab) == {"LIMIT": COIN, "STOP": COIN}


async def test_a_bust_reopens_what_a_sell_closed() -> None:
    """The closing sell is busted: the exits are placed again."""
    async with field_lab() as lab:
        entry = await place(lab)
        lab.venue.fill(entry, COIN)
        await asyncio.sleep(5)
        await lab.kernel.place_order(order("SELL", COIN, 6_200_000), intent_id="close")
        (close,) = [item for item in lab.venue.open_orders() if item.price == 6_200_000]
        trade = lab.venue.fill(close, COIN)
        await asyncio.sleep(5)
        assert exits(lab) == {}
        close.cum_qty, close.status = 0, OrdStatus.CANCELED
        lab.venue.trades.remove(trade)
        fields = {"fill_key": "bust", "ref_fill_key": trade.fill_key, "cum_qty": 0}
        lab.venue.tell(lab.venue.report(close, "TRADE_CANCEL", **fields))
        lab.venue.balances["BTC"] += COIN
        await asyncio.sleep(60)
        assert exits(lab) == {"LIMIT": COIN, "STOP": COIN}


async def test_two_limit_exits() -> None:
    """A bracket without a stop: one of its exits works, so nothing is missing."""
    async with field_lab() as lab:
        pair = (order("SELL", COIN, 6_300_000), order("SELL", COIN, 6_400_000))
        entry = await place(lab, bracket(COIN, *pair))
        refuse_sells(lab.venue, lambda request: request.order.price == 6_300_000)
        lab.venue.fill(entry, COIN)
        await asyncio.sleep(60)
        assert exits(lab) == {"LIMIT": COIN}
        assert lab.findings() == {}


async def test_the_stop_of_the_paper_exchange_works_for_what_was_bought() -> None:
    """Default fees, nothing of the base asset at first: the stop works for the rest after the fee."""
    async with paper_lab(symbols=full_symbols(), balances={"USDT": 10**6 * COIN}) as (kernel, venue):
        await kernel.place_order_group(bracket(), group_id="b", wait="recorded")
        await asyncio.sleep(2)
        await venue.admin("trade", symbol_id="BTCUSDT", price=6_170_000, quantity=COIN)
        await asyncio.sleep(300)
        orders = (await venue.truth())["orders"]
        works = [(item["order_type"], item["quantity"]) for item in orders if item["status"] == "NEW"]
        assert works == [("STOP", COIN - COIN // 1000)]
        assert not [item for item in kernel.state.findings() if item.kind.value == "EXIT_MISSING"]


async def test_a_reduce_only_order_at_the_paper_exchange_does_not_turn_the_position() -> None:
    """The exchange reduces it with the position; its intent is served with less."""
    fees = {"maker_fee_bps": 0, "taker_fee_bps": 0}
    async with paper_lab(symbols=full_symbols(), **fees) as (kernel, venue):
        whole, half = 13_400_000, 6_700_000

        async def trade(price: int, quantity: int) -> None:
            await venue.admin("trade", symbol_id="BTCUSDT", price=price, quantity=quantity)
            await asyncio.sleep(90)

        await kernel.place_order(order("BUY", whole, 6_180_000), intent_id="buy")
        await trade(6_170_000, COIN)
        await kernel.place_order(order("SELL", whole, 6_300_000, reduce_only=True), intent_id="target")
        await kernel.place_order(order("SELL", half, 6_200_000), intent_id="half")
        await trade(6_210_000, half)
        state = await kernel.get_order_state("target")
        assert (state.status.leaves_qty, state.reconciliation_status) == (half, ReconciliationStatus.SYNCED)
        assert len(state.attempts) == 1
        await trade(6_310_000, COIN)
        state = await kernel.get_order_state("target")
        assert (state.status.ord_status, state.status.cum_qty) == (OrdStatus.FILLED, half)
        assert state.reconciliation_status is ReconciliationStatus.SYNCED
        assert [item.quantity for item in await kernel.get_positions()] == [0]
        assert not [item for item in kernel.state.findings() if item.resolved_at_ns is None]
        assert "target" not in kernel.state.live_intent_ids()


async def test_an_exit_that_may_not_grow_works_on() -> None:
    """The venue refuses to enlarge the stop: the smaller one works, what it leaves open is reported and tried again."""
    async with field_lab(amend=AmendDialect.IN_PLACE) as lab:
        entry = await place(lab, bracket(COIN, order("SELL", COIN, kind="STOP", stop_price=6_000_000)))
        lab.venue.fill(entry, COIN // 4)
        await asyncio.sleep(5)
        assert exits(lab) == {"STOP": COIN // 4}
        blocked = True

        def on_modify(request: ModifyRequest) -> ExecutionReport:
            if blocked:
                raise Rejected("insufficient balance", code="-2010")
            return lab.venue.do_modify(request)

        lab.venue.on_modify = on_modify
        lab.venue.fill(entry, COIN // 4)
        for _ in range(300):
            await asyncio.sleep(1)
            assert exits(lab) == {"STOP": COIN // 4}
        assert 8 <= lab.venue.count("modify") <= 40
        text = lab.findings()["EXIT_MISSING"]
        part = "the bracket b holds 0.50000000 BTCUSDT, 0.25000000 of it without an exit that works: STOP profit: AMEND"
        assert text.startswith(part)
        assert "insufficient balance" in text
        blocked = False
        await asyncio.sleep(60)
        assert exits(lab) == {"STOP": COIN // 2}
        assert lab.findings() == {}
        assert lab.venue.count("cancel") == 0


@AMENDS
@pytest.mark.parametrize("paused", [True, False])
async def test_an_exit_that_a_changed_tick_size_keeps_small(amend: AmendDialect, paused: bool) -> None:
    """The part that a working exit cannot grow by is reported with the rule that forbids it, and then protected again."""
    settings = KernelSettings(reference_interval_s=30)
    async with field_lab(amend=amend, settings=settings) as lab:
        entry = await place(lab, bracket(COIN, order("SELL", COIN, kind="STOP", stop_price=6_000_000)))
        lab.venue.fill(entry, COIN // 4)
        await asyncio.sleep(5)
        symbols = lab.venue.all_symbols
        changed = [structs.replace(symbols[0], tick_size=7), *symbols[1:]]
        if paused:  # the fill is known before the new tick size
            await lab.kernel.pause(reason="a test")
            lab.venue.fill(entry, COIN // 4)
            await asyncio.sleep(5)
        lab.venue.all_symbols = changed
        await asyncio.sleep(100)
        if paused:
            await lab.kernel.resume()
        else:
            lab.venue.fill(entry, COIN // 4)
        await asyncio.sleep(10)
        assert exits(lab) == {"STOP": COIN // 4}, "the smaller one works on"
        assert lab.findings().keys() == {"EXIT_MISSING"}
        part = "the bracket b holds 0.50000000 BTCUSDT, 0.25000000 of it without an exit that works: STOP profit:"
        assert lab.findings()["EXIT_MISSING"].startswith(
            f"{part} stop_price 60000 is not a multiple of the tick size 0.07"
        )
        lab.venue.all_symbols = symbols
        await asyncio.sleep(100)
        assert exits(lab) == {"STOP": COIN // 2}
        assert lab.findings() == {}


@pytest.mark.parametrize("by_policy", [True, False])
@AMENDS
async def test_an_exit_whose_smaller_quantity_was_accepted_grows_with_the_entry(
    amend: AmendDialect, by_policy: bool
) -> None:
    """What was accepted counts for what was asked for then; of what is bought later, the exit sells what it can."""
    policy = VenueTermsPolicy.ACCEPT if by_policy else VenueTermsPolicy.REQUIRE
    async with field_lab(amend=amend, settings=KernelSettings(venue_terms=policy)) as lab:

        def rounded(item: FieldOrder) -> None:
            if item.order.stop_price is not None:
                item.quantity -= item.quantity % 1_000_000

        def accept(request: SubmitRequest) -> ExecutionReport:
            item = lab.venue.new_order(request)
            rounded(item)
            return lab.venue.report(item, ExecType.NEW)

        def change(request: ModifyRequest) -> ExecutionReport:
            report = lab.venue.do_modify(request)
            item = lab.venue.orders["BTCUSDT", report.exchange_order_id or ""]
            rounded(item)
            return structs.replace(report, order_qty=item.quantity, leaves_qty=item.quantity)

        lab.venue.on_submit, lab.venue.on_modify = accept, change
        entry = await place(lab)
        for bought in (33_456_000, 66_912_000):
            lab.venue.fill(entry, 33_456_000)
            await asyncio.sleep(100)
            if not by_policy and bought == 33_456_000:
                (name,) = [item.finding_id for item in lab.kernel.state.findings() if item.kind == "VENUE_DISAGREES"]
                await lab.kernel.resolve_finding(name, evidence="fine", accept=True)
                await asyncio.sleep(5)
            assert stop_of(lab).quantity == bought - bought % 1_000_000
            assert "VENUE_DISAGREES" not in lab.findings()
