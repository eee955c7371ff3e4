"""A stop that triggers becomes a new venue order under the same client order id: the new order is the stop's own (H23)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec import structs

from kernel.clock import SeededIds
from kernel.errors import OutcomeUnknown
from kernel.models import ExecType, OrderState, OrdStatus, ReconciliationStatus, UnsolicitedCancelPolicy
from kernel.order_spec import OcoMode, OrderType, StandardOrderGroup
from kernel.venues.base import (
    AmendDialect,
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    ReadLag,
    SubmitRequest,
    TriggerDialect,
)
from kernel.venues.paper.matching.config import TriggerReports
from replay import open_kernel
from tests.scenarios.field.lab import COIN, FieldOrder, FieldVenue, Lab, field_lab, order, paper_lab

pytestmark = pytest.mark.looptime
STOP = order("SELL", COIN, kind="STOP", stop_price=5_900_000)
NEW_ID = "9001"
Tell = Callable[[FieldVenue, FieldOrder, FieldOrder], list[ExecutionReport]]


def triggered(venue: FieldVenue, stop: FieldOrder) -> FieldOrder:
    """The stop leaves the book and a new order takes its place; nothing is told."""
    made = FieldOrder(NEW_ID, stop.client_order_id, stop.order, stop.quantity, stop.price)
    stop.open, stop.status = False, OrdStatus.EXPIRED
    venue.orders["BTCUSDT", NEW_ID] = made
    return made


def mirrored(venue: FieldVenue, stop: FieldOrder) -> ExecutionReport:
    return venue.report(stop, ExecType.ORDER_STATUS, ord_status=OrdStatus.FILLED, cum_qty=COIN, leaves_qty=0)


def as_limit(venue: FieldVenue, made: FieldOrder) -> ExecutionReport:
    terms = order("SELL", COIN, 5_890_000)
    return venue.report(made, ExecType.NEW, order=terms)


WAYS: dict[str, Tell] = {
    "TRIGGERED alone": lambda venue, stop, made: [
        venue.report(stop, ExecType.TRIGGERED), venue.report(made, ExecType.NEW),
    ],
    "TRIGGERED under the new id": lambda venue, stop, made: [venue.report(made, ExecType.TRIGGERED)],
    "TRIGGERED, the stop EXPIRED": lambda venue, stop, made: [
        venue.report(stop, ExecType.TRIGGERED), venue.report(stop, ExecType.EXPIRED),
        venue.report(made, ExecType.NEW),
    ],
    "TRIGGERED, the stop CANCELED": lambda venue, stop, made: [
        venue.report(stop, ExecType.TRIGGERED),
        venue.report(stop, ExecType.CANCELED, ord_status=OrdStatus.CANCELED), venue.report(made, ExecType.NEW),
    ],
    "TRIGGERED, REPLACED": lambda venue, stop, made: [
        venue.report(stop, ExecType.TRIGGERED),
        venue.report(made, ExecType.REPLACED, orig_client_order_id=made.client_order_id),
    ],
    "only the new order": lambda venue, stop, made: [venue.report(made, ExecType.NEW)],
    "the parent named": lambda venue, stop, made: [
        venue.report(made, ExecType.NEW, client_order_id=None, parent_exchange_order_id=stop.id),
        venue.report(stop, ExecType.EXPIRED),
    ],
    "another type": lambda venue, stop, made: [as_limit(venue, made), venue.report(stop, ExecType.EXPIRED)],
    "nothing": lambda venue, stop, made: [],
}  # fmt: skip


async def state(lab: Lab, intent_id: str = "stop") -> OrderState:
    return await lab.kernel.get_order_state(intent_id)


async def placed(lab: Lab, **options: object) -> FieldOrder:
    await lab.kernel.place_order(STOP, intent_id="stop", **options)
    await asyncio.sleep(5)
    (stop,) = lab.venue.open_orders()
    return stop


def live_ids(found: OrderState) -> list[str]:
    return [item.exchange_order_id for item in found.venue_orders if item.live]


async def filled_once(lab: Lab, made: FieldOrder, *, cancels: int = 0) -> None:
    """The new order fills: it counts once, and nothing is left to do."""
    lab.venue.fill(made, COIN, 5_890_000)
    await asyncio.sleep(100)
    await is_filled_once(lab, cancels=cancels)


async def is_filled_once(lab: Lab, *, cancels: int = 0) -> None:
    found = await state(lab)
    assert (found.status.ord_status, found.status.cum_qty) == (OrdStatus.FILLED, COIN)
    assert found.reconciliation_status is ReconciliationStatus.SYNCED
    assert await lab.position() == -COIN
    assert lab.findings() == {}
    assert (lab.venue.count("submit"), lab.venue.count("cancel"), lab.venue.count("modify")) == (1, cancels, 0)


@pytest.mark.parametrize("capability", TriggerDialect)
@pytest.mark.parametrize("lookup", [True, False])
@pytest.mark.parametrize("way", WAYS)
async def test_the_new_order_works_until_it_is_filled(way: str, lookup: bool, capability: TriggerDialect) -> None:
    """However the venue tells it, the new order is the stop's own; it is neither canceled nor counted twice."""
    async with field_lab(trigger=capability, lookup=lookup) as lab:
        stop = await placed(lab)
        made = triggered(lab.venue, stop)
        for report in WAYS[way](lab.venue, stop, made):
            lab.venue.tell(report)
        await asyncio.sleep(200)
        assert live_ids(await state(lab)) == [NEW_ID]
        assert (await state(lab)).exchange_order_id == NEW_ID
        assert lab.venue.count("cancel") == 0
        await filled_once(lab, made)


ORDERS = [
    (way, turn) for way in WAYS for turn in itertools.permutations(range(3)) if way in ("TRIGGERED, the stop EXPIRED",)
]


@pytest.mark.parametrize(("way", "turn"), ORDERS)
async def test_the_reports_may_arrive_in_any_order(way: str, turn: tuple[int, ...]) -> None:
    """The order of arrival does not matter."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER) as lab:
        stop = await placed(lab)
        made = triggered(lab.venue, stop)
        told = WAYS[way](lab.venue, stop, made)
        for place in turn:
            lab.venue.tell(told[place])
            await asyncio.sleep(1)
        assert live_ids(await state(lab)) == [NEW_ID]
        await filled_once(lab, made)


@pytest.mark.parametrize("is_timed", [True, False])
@pytest.mark.parametrize("way", WAYS)
async def test_a_stop_whose_acceptance_was_lost(way: str, is_timed: bool) -> None:
    """The new order is known first: the stop, reported later, is closed and the new order stays.

    Without a venue time the stop is mistaken for the new order, until a list shows the other one open.
    """
    async with field_lab(trigger=TriggerDialect.NEW_ORDER, lookup=False) as lab:
        late: list[ExecutionReport] = []

        def lost(request: SubmitRequest) -> ExecutionReport:
            late.append(lab.venue.accept(request))
            (stop,) = lab.venue.open_orders()
            made = triggered(lab.venue, stop)
            lab.venue.tell(lab.venue.report(made, ExecType.NEW, transact_time_ns=lab.venue.clock.now_ns() + 1_000_000))
            raise OutcomeUnknown("timeout")

        lab.venue.on_submit = lost
        await lab.kernel.place_order(STOP, intent_id="stop")
        await asyncio.sleep(1)
        stop, made = lab.venue.orders.values()
        told = [late[0], *WAYS[way](lab.venue, stop, made)]
        for report in told:
            lab.venue.tell(report if is_timed else structs.replace(report, transact_time_ns=None))
        await asyncio.sleep(200)
        assert live_ids(await state(lab)) == [NEW_ID]
        assert made.open
        await filled_once(lab, made, cancels=lab.venue.count("cancel"))
        assert lab.venue.count("cancel") <= (0 if is_timed else 1)


@pytest.mark.parametrize("lookup", [True, False])
@pytest.mark.parametrize("first", ["the new order", "the mirrored total", "the fill"])
async def test_a_mirrored_fill_counts_once(first: str, lookup: bool) -> None:
    """The stop is told as filled with the quantity that the new order filled."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER, lookup=lookup) as lab:
        stop = await placed(lab)
        made = triggered(lab.venue, stop)
        new = lab.venue.report(made, ExecType.NEW)
        fill = lab.venue.fill(made, COIN, 5_890_000, tell=False)
        stop.status, stop.cum_qty = OrdStatus.FILLED, COIN
        told = {"the new order": new, "the mirrored total": mirrored(lab.venue, stop), "the fill": fill}
        for name in (first, *told):
            lab.venue.tell(told[name])
            await asyncio.sleep(1)
        await is_filled_once(lab)
        await asyncio.sleep(100)
        await is_filled_once(lab)


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_mirrored_trade_is_booked_once(is_first: bool) -> None:
    """The venue reports the new order's trade also under the stop's id: it is the same trade."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER) as lab:
        stop = await placed(lab)
        made = triggered(lab.venue, stop)
        trade = lab.venue.fill(made, COIN, 5_890_000, tell=False)
        copy = structs.replace(trade, exchange_order_id=stop.id)
        for report in (copy, trade, copy) if is_first else (trade, copy, trade):
            lab.venue.tell(report)
            await asyncio.sleep(1)
        await is_filled_once(lab)
        await asyncio.sleep(100)
        await is_filled_once(lab)
        assert len(await lab.kernel.get_fills("stop")) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_cancel_reaches_the_new_order(way: str) -> None:
    """After the trigger a cancel of the intent cancels the new order, whether or not the trigger was told."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER) as lab:
        stop = await placed(lab)
        made = triggered(lab.venue, stop)
        for report in WAYS[way](lab.venue, stop, made):
            lab.venue.tell(report)
        await lab.kernel.cancel_order("stop")
        await asyncio.sleep(100)
        assert made.status is OrdStatus.CANCELED
        assert (await state(lab)).status.ord_status is OrdStatus.CANCELED
        assert lab.findings().keys() <= ({"STREAM_SILENT"} if way == "nothing" else set())


async def test_a_cancel_before_the_trigger_that_hits_the_new_order() -> None:
    """The venue cancels by client order id: the end of the new order was asked for, and the intent goes on as modified."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER) as lab:
        stop = await placed(lab)
        made = triggered(lab.venue, stop)

        def by_client_id(request: CancelRequest) -> ExecutionReport:
            made.open, made.status = False, OrdStatus.CANCELED
            return lab.venue.report(made, ExecType.CANCELED)

        lab.venue.on_cancel = by_client_id
        await lab.kernel.modify_order("stop", order("SELL", COIN, kind="STOP", stop_price=5_800_000))
        await asyncio.sleep(100)
        (working,) = lab.venue.open_orders()
        assert working.order.stop_price == 5_800_000
        assert lab.findings() == {}


async def test_a_change_after_the_trigger_changes_the_new_order() -> None:
    """A smaller quantity cancels the new order and places the rest, once."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER) as lab:
        stop = await placed(lab)
        made = triggered(lab.venue, stop)
        lab.venue.tell(lab.venue.report(made, ExecType.NEW))
        lab.venue.fill(made, COIN // 4, 5_890_000)
        await asyncio.sleep(1)
        await lab.kernel.modify_order("stop", order("SELL", COIN // 2, kind="STOP", stop_price=5_900_000))
        await asyncio.sleep(100)
        (working,) = lab.venue.open_orders()
        assert (working.id, working.quantity) == ("2", COIN // 4)
        assert (await state(lab)).status.cum_qty == COIN // 4


async def test_a_change_that_is_lost_as_the_stop_triggers() -> None:
    """It may still reach the new order: no other change is sent before that is ruled out or has happened."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER, amend=AmendDialect.IN_PLACE) as lab:
        terms = {"kind": "STOP_LIMIT", "stop_price": 5_900_000}
        await lab.kernel.place_order(order("SELL", COIN, 5_890_000, **terms), intent_id="stop")
        (stop,) = lab.venue.open_orders()
        lost: list[ModifyRequest] = []

        def on_modify(request: ModifyRequest) -> ExecutionReport:
            if lost:
                return lab.venue.do_modify(request)
            lost.append(request)
            made = triggered(lab.venue, stop)
            lab.venue.tell(lab.venue.report(made, ExecType.TRIGGERED, parent_exchange_order_id=stop.id))
            raise OutcomeUnknown("timeout")

        lab.venue.on_modify = on_modify
        await lab.kernel.modify_order("stop", order("SELL", COIN, 5_880_000, **terms), wait="recorded")
        await asyncio.sleep(4)
        assert lab.venue.count("modify") == 1
        await asyncio.sleep(30)
        assert lab.venue.count("modify") == 2
        assert [(item.id, item.price) for item in lab.venue.open_orders()] == [(NEW_ID, 5_880_000)]


async def test_the_new_order_is_rejected() -> None:
    """The bracket's stop is placed again, as its end needs no other evidence."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER) as lab:
        entry, stop = order("BUY", COIN, 6_180_000), order("SELL", COIN, kind="STOP", stop_price=6_000_000)
        group = StandardOrderGroup(mode=OcoMode.ONE_TRIGGERS_OTHER, orders=(entry, stop))
        await lab.kernel.place_order_group(group, group_id="b", wait="recorded")
        await asyncio.sleep(1)
        lab.venue.fill(lab.venue.open_orders()[0], COIN)
        await asyncio.sleep(70)
        (works,) = lab.venue.open_orders()
        made = triggered(lab.venue, works)
        made.open, made.status = False, OrdStatus.REJECTED
        lab.venue.tell(lab.venue.report(works, ExecType.TRIGGERED))
        lab.venue.tell(lab.venue.report(works, ExecType.EXPIRED))
        lab.venue.tell(lab.venue.report(made, ExecType.REJECTED, parent_exchange_order_id=works.id))
        await asyncio.sleep(60)
        assert [item.quantity for item in lab.venue.open_orders()] == [COIN]


@pytest.mark.parametrize("end", [OrdStatus.CANCELED, OrdStatus.EXPIRED])
async def test_the_venue_ends_the_new_order(end: OrdStatus) -> None:
    """The end of the new order is an unsolicited end; the stop's is none."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER) as lab:
        stop = await placed(lab, on_unsolicited_cancel=UnsolicitedCancelPolicy.RECREATE)
        made = triggered(lab.venue, stop)
        lab.venue.tell(lab.venue.report(made, ExecType.NEW))
        await asyncio.sleep(100)
        assert lab.venue.count("submit") == 1
        lab.venue.end(made, end)
        await asyncio.sleep(300)
        assert lab.venue.count("submit") == 2


@pytest.mark.parametrize("lookup", [True, False])
async def test_the_trigger_is_found_after_a_disconnect(lookup: bool) -> None:
    """Nothing is told; the list shows the new order and not the stop."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER, lookup=lookup) as lab:
        stop = await placed(lab)
        await lab.venue.close()
        made = triggered(lab.venue, stop)
        lab.venue.fill(made, COIN // 2, 5_890_000, tell=False)
        await asyncio.sleep(100)
        found = await state(lab)
        assert (live_ids(found), found.status.cum_qty) == ([NEW_ID], COIN // 2)
        lab.venue.fill(made, COIN // 2, 5_890_000)
        await asyncio.sleep(100)
        assert (await state(lab)).status.ord_status is OrdStatus.FILLED
        assert lab.venue.count("cancel") == 0


@pytest.mark.parametrize("lag_ns", [0, 2 * 10**9])
async def test_a_stop_that_stays_listed(lag_ns: int) -> None:
    """The venue lists the triggered stop on: it does not reopen, and the new order works."""
    capabilities = {"trigger": TriggerDialect.NEW_ORDER, "trigger_parent_stays_listed": True}
    async with field_lab(**capabilities, read_lag=ReadLag(open_orders_ns=lag_ns)) as lab:
        stop = await placed(lab)
        made = triggered(lab.venue, stop)
        stop.open, stop.status = True, OrdStatus.NEW
        lab.venue.tell(lab.venue.report(made, ExecType.NEW))
        await asyncio.sleep(300)
        assert live_ids(await state(lab)) == [NEW_ID]
        stop.open = False
        await filled_once(lab, made)


async def test_a_stale_list_does_not_reopen_the_stop() -> None:
    """A list within the read lag may still show the stop."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER, read_lag=ReadLag(open_orders_ns=5 * 10**9)) as lab:
        stop = await placed(lab)
        await asyncio.sleep(52)
        made = triggered(lab.venue, stop)
        lab.venue.tell(lab.venue.report(made, ExecType.NEW))
        stop.open, stop.status = True, OrdStatus.NEW
        await asyncio.sleep(6)  # a relist in between
        stop.open, stop.status = False, OrdStatus.EXPIRED
        await asyncio.sleep(100)
        assert live_ids(await state(lab)) == [NEW_ID]
        await filled_once(lab, made)


@pytest.mark.parametrize("told", [None, STOP])
async def test_a_second_stop_is_a_duplicate(told: object) -> None:
    """Two orders that both stay open are no trigger: a finding, and the younger is canceled."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER) as lab:
        stop = await placed(lab)
        twin = FieldOrder(NEW_ID, stop.client_order_id, stop.order, stop.quantity, stop.price)
        lab.venue.orders["BTCUSDT", NEW_ID] = twin
        lab.venue.tell(lab.venue.report(twin, ExecType.NEW, order=told))
        await asyncio.sleep(300)
        assert [item.id for item in lab.venue.open_orders()] == [stop.id]
        assert "DUPLICATE_ORDER" in lab.findings(resolved=True)


async def test_two_orders_of_one_trigger_are_a_duplicate() -> None:
    """One stop accounts for one triggered order."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER) as lab:
        stop = await placed(lab)
        made = triggered(lab.venue, stop)
        twin = FieldOrder("9002", stop.client_order_id, stop.order, stop.quantity, stop.price)
        lab.venue.orders["BTCUSDT", "9002"] = twin
        for item in (made, twin):
            lab.venue.tell(lab.venue.report(item, ExecType.NEW, parent_exchange_order_id=stop.id))
        await asyncio.sleep(100)
        assert [item.id for item in lab.venue.open_orders()] == [NEW_ID]
        assert "DUPLICATE_ORDER" in lab.findings(resolved=True)


async def test_a_stop_limit_keeps_its_price() -> None:
    """A stop limit works at its limit as the new order."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER) as lab:
        terms = order("SELL", COIN, 5_880_000, kind="STOP_LIMIT", stop_price=5_900_000)
        await lab.kernel.place_order(terms, intent_id="stop")
        await asyncio.sleep(5)
        (stop,) = lab.venue.open_orders()
        made = triggered(lab.venue, stop)
        lab.venue.tell(lab.venue.report(made, ExecType.NEW))
        await asyncio.sleep(1)
        found = await state(lab)
        assert (found.status.order.order_type, found.status.order.price) == (OrderType.STOP_LIMIT, 5_880_000)
        await filled_once(lab, made)


@pytest.mark.parametrize("stays_listed", [False, True])
@pytest.mark.parametrize("reports", TriggerReports)
async def test_at_the_paper_exchange(reports: TriggerReports, stays_listed: bool) -> None:
    """However the paper exchange reports the trigger, the new order works, fills once, and is the only one."""
    told = {"trigger": TriggerDialect.NEW_ORDER, "trigger_reports": reports}
    async with paper_lab(**told, trigger_parent_stays_listed=stays_listed, symbols="full") as (kernel, venue):
        terms = order("SELL", COIN, 6_090_000, kind="STOP_LIMIT", stop_price=6_100_000)
        await kernel.place_order(terms, intent_id="stop", on_unsolicited_cancel=UnsolicitedCancelPolicy.RECREATE)
        await asyncio.sleep(5)
        await venue.admin("trade", symbol_id="BTCUSDT", price=6_095_000, quantity=COIN)
        await asyncio.sleep(130)
        found = await kernel.get_order_state("stop")
        assert (found.status.ord_status, live_ids(found)) == (OrdStatus.NEW, ["2"])
        await venue.admin("trade", symbol_id="BTCUSDT", price=6_120_000, quantity=COIN // 2)
        await asyncio.sleep(130)
        await venue.admin("trade", symbol_id="BTCUSDT", price=6_120_000, quantity=COIN)
        await asyncio.sleep(130)
        found = await kernel.get_order_state("stop")
        assert (found.status.ord_status, found.status.cum_qty) == (OrdStatus.FILLED, COIN)
        assert found.reconciliation_status is ReconciliationStatus.SYNCED
        assert len((await venue.truth())["orders"]) == 2
        assert not [item for item in kernel.state.findings() if item.resolved_at_ns is None]


@pytest.mark.parametrize("lookup", [True, False])
@pytest.mark.parametrize("way", WAYS)
async def test_the_trigger_happens_while_no_kernel_runs(way: str, lookup: bool) -> None:
    """The next kernel finds the new order, whether or not the log already knows of it, and fills it once."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER, lookup=lookup) as lab:
        stop = await placed(lab)
        made = triggered(lab.venue, stop)
        for report in WAYS[way](lab.venue, stop, made)[:1]:
            lab.venue.tell(report)
        await asyncio.sleep(0.5)
        await lab.kernel.stop()
        lab.venue.fill(made, COIN // 2, 5_890_000, tell=False)
        async with open_kernel(lab.log, venue=lab.venue, clock=lab.venue.clock, ids=SeededIds(3)) as kernel:
            await kernel.wait_ready(30)
            again = replace(lab, kernel=kernel)
            await asyncio.sleep(100)
            found = await state(again)
            assert (live_ids(found), found.status.cum_qty) == ([NEW_ID], COIN // 2)
            lab.venue.fill(made, COIN // 2, 5_890_000)
            await asyncio.sleep(100)
            await is_filled_once(again)


@pytest.mark.parametrize("reports", TriggerReports)
async def test_a_stop_of_a_group(reports: TriggerReports) -> None:
    """A stop of a one-cancels-other pair triggers: its fills, and nothing before them, cancel the other order."""
    told = {"trigger": TriggerDialect.NEW_ORDER, "trigger_reports": reports}
    async with paper_lab(**told, symbols="full") as (kernel, venue):
        stop = order("SELL", COIN, 6_090_000, kind="STOP_LIMIT", stop_price=6_100_000)
        target = order("SELL", COIN, 6_300_000)
        pair = StandardOrderGroup(mode=OcoMode.ONE_CANCELS_OTHER, orders=(stop, target))
        await kernel.place_order_group(pair, intent_ids=("stop", "target"))
        await asyncio.sleep(5)
        await venue.admin("trade", symbol_id="BTCUSDT", price=6_095_000, quantity=COIN)
        await asyncio.sleep(100)
        works = {item["client_order_id"]: item for item in (await venue.truth())["orders"] if item["leaves_qty"]}
        assert len(works) == 2
        await venue.admin("trade", symbol_id="BTCUSDT", price=6_120_000, quantity=COIN)
        await asyncio.sleep(100)
        assert (await kernel.get_order_state("stop")).status.ord_status is OrdStatus.FILLED
        assert (await kernel.get_order_state("target")).status.ord_status is OrdStatus.CANCELED
        assert not [item for item in kernel.state.findings() if item.resolved_at_ns is None]


@pytest.mark.parametrize("lookup", [True, False])
@pytest.mark.parametrize("gap_s", [0.001, 0.3, 5])
@pytest.mark.parametrize("end", [ExecType.EXPIRED, ExecType.CANCELED])
async def test_the_end_of_the_stop_is_told_long_before_the_new_order(end: ExecType, gap_s: float, lookup: bool) -> None:
    """The end of the stop acts only once a query confirms it, and that finds the new order."""
    async with field_lab(trigger=TriggerDialect.NEW_ORDER, lookup=lookup) as lab:
        stop = await placed(lab, on_unsolicited_cancel=UnsolicitedCancelPolicy.RECREATE)
        made = triggered(lab.venue, stop)
        lab.venue.tell(lab.venue.report(stop, end, ord_status=OrdStatus(end.value)))
        await asyncio.sleep(gap_s)
        lab.venue.tell(lab.venue.report(made, ExecType.NEW))
        await asyncio.sleep(100)
        assert live_ids(await state(lab)) == [NEW_ID]
        await filled_once(lab, made)
