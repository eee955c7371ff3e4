"""The venue reports the end of an order and then shows it open (H21): live again, found by the newest evidence."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from kernel.errors import OutcomeUnknown
from kernel.models import ExecType, OrdStatus, ReconciliationStatus, UnsolicitedCancelPolicy
from kernel.order_spec import TimeInForce
from kernel.venues.base import Dedupe, ExecutionReport, ReadLag, SubmitRequest
from replay.testing import run_virtually
from tests.scenarios.field.lab import COIN, FieldOrder, Lab, field_lab, order

RECREATE = UnsolicitedCancelPolicy.RECREATE


def say_ended(lab: Lab, item: FieldOrder, exec_type: ExecType = ExecType.EXPIRED) -> None:
    """Report an end that did not happen."""
    lab.venue.tell(lab.venue.report(item, exec_type, ord_status=OrdStatus(exec_type.value), leaves_qty=0))


async def status_of(lab: Lab, intent_id: str = "a") -> OrdStatus:
    return (await lab.kernel.get_order_state(intent_id)).status.ord_status


async def placed(lab: Lab, **policy: UnsolicitedCancelPolicy) -> FieldOrder:
    await lab.kernel.place_order(order(), intent_id="a", **policy)
    return lab.venue.orders["BTCUSDT", "1"]


def submits(lab: Lab) -> int:
    return lab.venue.count("submit")


LOOKUPS = pytest.mark.parametrize("lookup", [True, False])
ENDS = pytest.mark.parametrize("end", [ExecType.EXPIRED, ExecType.CANCELED])


@LOOKUPS
@ENDS
@pytest.mark.parametrize("lag_s", [0, 2])
def test_an_order_that_every_list_shows_is_live_again(lookup: bool, end: ExecType, lag_s: int) -> None:
    """It works again, a finding says so, and a cancel reaches it; its end costs one query."""

    async def main() -> None:
        lag = ReadLag(order_ns=lag_s * 10**9, open_orders_ns=lag_s * 10**9)
        async with field_lab(lookup=lookup, read_lag=lag) as lab:
            item = await placed(lab)
            asked = lab.venue.count("order") + lab.venue.count("snapshot")
            say_ended(lab, item, end)
            await asyncio.sleep(lag_s + 0.5)
            assert await status_of(lab) is OrdStatus.NEW
            assert lab.venue.count("order") + lab.venue.count("snapshot") == asked + 1
            assert "FALSE_END" in lab.findings()
            await asyncio.sleep(600)
            assert submits(lab) == 1
            await lab.kernel.cancel_order("a")
            assert not item.open
            assert await status_of(lab) is OrdStatus.CANCELED
            await asyncio.sleep(100)
            assert "FALSE_END" not in lab.findings()
            assert "FALSE_END" in lab.findings(resolved=True)

    run_virtually(main)


@LOOKUPS
def test_an_order_to_recreate_is_not_placed_twice(lookup: bool) -> None:
    """While the venue still has the order, no second one is sent, however often its end is reported."""

    async def main() -> None:
        async with field_lab(lookup=lookup) as lab:
            item = await placed(lab, on_unsolicited_cancel=RECREATE)
            for _ in range(3):
                await asyncio.sleep(50)
                say_ended(lab, item, ExecType.CANCELED)
            await asyncio.sleep(600)
            assert (submits(lab), len(lab.venue.open_orders())) == (1, 1)
            lab.venue.fill(item, COIN)
            await asyncio.sleep(100)
            assert await lab.position() == COIN
            assert not lab.findings()

    run_virtually(main)


def test_a_true_end_is_recreated_after_one_query() -> None:
    """An end that a status query confirms acts: the rest is placed again, once."""

    async def main() -> None:
        async with field_lab() as lab:
            item = await placed(lab, on_unsolicited_cancel=RECREATE)
            lab.venue.fill(item, COIN // 4)
            asked = lab.venue.count("order")
            lab.venue.end(item, OrdStatus.CANCELED)
            await asyncio.sleep(100)
            assert (submits(lab), lab.venue.count("order") - asked) == (2, 1)
            assert [open_order.quantity for open_order in lab.venue.open_orders()] == [COIN * 3 // 4]

    run_virtually(main)


def test_an_unsolicited_end_stops_only_once_it_is_confirmed() -> None:
    """Until then the order is in question, and its rest counts as exposure."""

    async def main() -> None:
        async with field_lab(read_lag=ReadLag(order_ns=5 * 10**9)) as lab:
            item = await placed(lab)
            lab.venue.end(item, OrdStatus.CANCELED)
            await asyncio.sleep(1)
            state = await lab.kernel.get_order_state("a")
            assert state.reconciliation_status is not ReconciliationStatus.SYNCED
            risk = lab.kernel.state.open_risk("a", order())
            assert risk is not None
            assert risk.quantity == COIN
            await asyncio.sleep(10)
            state = await lab.kernel.get_order_state("a")
            assert state.reconciliation_status is ReconciliationStatus.SYNCED
            assert lab.kernel.state.open_risk("a", order()) is None
            assert (lab.venue.count("order"), submits(lab)) == (1, 1)

    run_virtually(main)


def test_an_end_that_was_confirmed_stays_told() -> None:
    """Hidden when it was asked for, open later: STOP was told, so that the order is canceled."""

    async def main() -> None:
        async with field_lab(lookup=False) as lab:
            item = await placed(lab)
            item.open = False
            say_ended(lab, item)
            await asyncio.sleep(100)
            assert await status_of(lab) is OrdStatus.EXPIRED
            item.open = True
            await asyncio.sleep(100)
            assert "FALSE_END" in lab.findings(resolved=True)
            assert (item.open, lab.venue.count("cancel"), submits(lab)) == (False, 1, 1)

    run_virtually(main)


def test_a_confirmed_false_end_and_its_successor_leave_one_order() -> None:
    """Placed again because the venue hid the first order: the youngest is canceled once both are shown."""

    async def main() -> None:
        async with field_lab(lookup=False) as lab:
            item = await placed(lab, on_unsolicited_cancel=RECREATE)
            item.open = False
            say_ended(lab, item)
            await asyncio.sleep(100)
            assert submits(lab) == (1 if await status_of(lab) is OrdStatus.EXPIRED else 2)
            item.open = True
            await asyncio.sleep(200)
            assert lab.venue.open_orders() in ([item], [])

    run_virtually(main)


@pytest.mark.parametrize("exec_type", [ExecType.NEW, ExecType.RESTATED])
def test_a_newer_report_of_the_stream_reopens(exec_type: ExecType) -> None:
    """A broker reports EXPIRED in the evening and NEW or RESTATED in the morning: by its own time it is newer."""

    async def main() -> None:
        async with field_lab() as lab:
            item = await placed(lab)
            item.open, item.status = False, OrdStatus.EXPIRED
            say_ended(lab, item)
            await asyncio.sleep(1_000)
            item.open, item.status = True, OrdStatus.NEW
            lab.venue.tell(lab.venue.report(item, exec_type))
            await asyncio.sleep(1)
            assert "FALSE_END" in lab.findings(resolved=True)
            await asyncio.sleep(100)
            assert not item.open, "STOP was told: it is canceled"

    run_virtually(main)


@pytest.mark.parametrize("way", ["cancel_all", "halt"])
def test_every_cancel_reaches_a_reopened_order(way: str) -> None:
    """`cancel_all` and `halt` cancel it like any other."""

    async def main() -> None:
        async with field_lab() as lab:
            item = await placed(lab)
            say_ended(lab, item)
            await asyncio.sleep(600)
            if way == "cancel_all":
                assert await lab.kernel.cancel_all_orders() == 1
            else:
                await lab.kernel.halt(reason="test")
                await lab.kernel.cancel_all_orders()
            await asyncio.sleep(60)
            assert not item.open

    run_virtually(main)


def test_a_late_fill_is_no_reopening_but_is_asked_about() -> None:
    """A fill later than a confirmed end counts, and one query follows; the order stays ended."""

    async def main() -> None:
        async with field_lab() as lab:
            item = await placed(lab)
            lab.venue.end(item, OrdStatus.CANCELED)
            await asyncio.sleep(10)
            asked = lab.venue.count("order")
            lab.venue.fill(item, COIN // 2)
            await asyncio.sleep(100)
            assert await lab.position() == COIN // 2
            assert lab.venue.count("order") == asked + 1
            assert (await lab.kernel.get_order_state("a")).status.cum_qty == COIN // 2

    run_virtually(main)


def test_an_end_that_is_repeated_does_not_close_again() -> None:
    """The stream repeats the false end, with its old time, after a list has shown the order open."""

    async def main() -> None:
        async with field_lab() as lab:
            item = await placed(lab)
            false_end = lab.venue.report(item, ExecType.EXPIRED, ord_status=OrdStatus.EXPIRED, leaves_qty=0)
            lab.venue.tell(false_end)
            await asyncio.sleep(100)
            lab.venue.tell(false_end)
            await asyncio.sleep(0.01)
            assert await status_of(lab) is OrdStatus.NEW

    run_virtually(main)


def test_an_end_as_its_terms_say_costs_no_query() -> None:
    """The rest of an IOC order is not asked for."""

    async def main() -> None:
        async with field_lab() as lab:
            terms = order(time_in_force=TimeInForce.IOC)
            await lab.kernel.place_order(terms, intent_id="a")
            item = lab.venue.orders["BTCUSDT", "1"]
            lab.venue.end(item, OrdStatus.EXPIRED)
            await asyncio.sleep(30)
            assert lab.venue.count("order") == 0
            state = await lab.kernel.get_order_state("a")
            assert state.reconciliation_status is ReconciliationStatus.SYNCED

    run_virtually(main)


@pytest.mark.parametrize("confirm", [True, False])
def test_the_end_of_a_canceled_order_waits_where_ends_are_false(confirm: bool) -> None:
    """With `confirm_all_ends` the order that follows a cancel is sent only after a query, so there is never a second."""

    async def main() -> None:
        async with field_lab(confirm_all_ends=confirm) as lab:
            item = await placed(lab)
            most = 0

            def lie(request: object) -> object:
                del lab.venue.on_cancel
                lab.venue.on_cancel = lab.venue.do_cancel
                return lab.venue.report(item, ExecType.CANCELED, ord_status=OrdStatus.CANCELED, leaves_qty=0)

            lab.venue.on_cancel = lie  # type: ignore[assignment]
            changed = order(price=5_900_000)
            await lab.kernel.modify_order("a", changed)
            for _ in range(200):
                most = max(most, len(lab.venue.open_orders()))
                await asyncio.sleep(1)
            assert most == (1 if confirm else 2)
            (left,) = lab.venue.open_orders()
            assert left.price == 5_900_000

    run_virtually(main)


def test_a_trade_after_a_false_end_without_its_client_order_id() -> None:
    """At a venue that gives ids again, the trade is the order's own once newer evidence shows that order open."""

    async def main() -> None:
        async with field_lab(order_ids_unique=False) as lab:
            item = await placed(lab)
            lab.venue.end(item, OrdStatus.EXPIRED)
            await asyncio.sleep(130)
            item.open, item.status = True, OrdStatus.NEW
            trade = lab.venue.fill(item, COIN // 4, tell=False)
            lab.venue.trades[0] = structs.replace(trade, client_order_id=None)
            await asyncio.sleep(130)
            assert await lab.position() == COIN // 4
            say_ended(lab, item)
            item.open = False
            await asyncio.sleep(130)
            assert (await status_of(lab), await lab.position()) == (OrdStatus.CANCELED, COIN // 4)

    run_virtually(main)


@LOOKUPS
def test_a_resend_does_not_wait_for_an_earlier_order_for_ever(lookup: bool) -> None:
    """An ended order is shown open once and is gone: its final quantity is queried though a later request is unknown."""

    async def main() -> None:
        lag = ReadLag(open_orders_ns=10**9, trades_ns=10**9)
        async with field_lab(lookup=lookup, read_lag=lag, dedupe=Dedupe.FOR_EVER, validity_window_ns=None) as lab:
            item = await placed(lab, on_unsolicited_cancel=RECREATE)

            def on_submit(request: SubmitRequest) -> ExecutionReport:
                raise OutcomeUnknown("the connection was lost")

            lab.venue.on_submit = on_submit
            lab.venue.end(item, OrdStatus.CANCELED)
            while submits(lab) < 2:
                await asyncio.sleep(0.1)
            shown = lab.venue.report(item, ExecType.ORDER_STATUS, ord_status=OrdStatus.NEW, leaves_qty=item.quantity)
            lab.venue.tell(shown)
            await asyncio.sleep(0.1)
            lab.venue.on_submit = lab.venue.accept
            await asyncio.sleep(300)
            assert [other.open for other in lab.venue.orders.values()] == [False, True]

    run_virtually(main)
