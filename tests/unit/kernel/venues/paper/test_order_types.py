"""The paper exchange's other order types: stops, expiring orders, reduce-only orders, icebergs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kernel.clock import NS_PER_S
from kernel.errors import OutcomeUnknown, Rejected
from kernel.models import ExecType, OrdStatus
from kernel.order_spec import OrderType, Side, StandardOrder, TimeInForce
from kernel.venues import AmendDialect, PaperConfig
from kernel.venues.base import TriggerDialect
from kernel.venues.paper.matching.config import TriggerReports, built_in_symbols, full_symbols
from tests.paper_world import BUY, COIN, LAST, LOT, SELL, SYMBOL, USDT, Bench, limit, market, recorded

DAY_S = 86_400


def bench(**config: Any) -> Bench:
    """An engine that accepts every order type."""
    return Bench(**({"symbols": full_symbols()} | config))


def stop(
    side: Side, stop_price: int, *, quantity: int = 100 * LOT, price: int | None = None, **terms: Any
) -> StandardOrder:
    """A STOP order, or with a price a STOP_LIMIT order."""
    kind = OrderType.STOP if price is None else OrderType.STOP_LIMIT
    return StandardOrder(
        symbol_id=SYMBOL, side=side, order_type=kind, quantity=quantity, price=price, stop_price=stop_price, **terms
    )


def test_capabilities_cover_the_symbols() -> None:
    """The capabilities are the union over the symbols; `full` stands for all order types."""
    plain, full = built_in_symbols(), full_symbols()
    assert PaperConfig().capabilities().order_types == {OrderType.LIMIT, OrderType.MARKET}
    assert PaperConfig(symbols=(plain[0], full[1])).capabilities().order_types == set(OrderType)
    assert PaperConfig.model_validate_json('{"symbols":"full"}').capabilities().times_in_force == set(TimeInForce)


# ---------------------------------------------------------------------------------------------------------------- stops
@pytest.mark.parametrize(("side", "sign"), [(BUY, 1), (SELL, -1)])
def test_a_stop_waits_for_its_price(side: Side, sign: int) -> None:
    """It is NEW but not in the book until the market trades there, then TRIGGERED and executed as a MARKET order."""
    at = bench()
    at.submit("a", stop(side, LAST + sign * 100))
    at.engine.place_other(limit(SELL if side is BUY else BUY, quantity=100 * LOT, price=LAST + sign * 300))
    at.tape(LAST + sign * 99, 10 * LOT)
    assert at.new_reports() == [("a", "NEW")]
    assert at.status("a").leaves_qty == 100 * LOT
    at.tape(LAST + sign * 100, 10 * LOT)
    assert at.new_reports() == [("a", "TRIGGERED"), ("a", "TRADE")]
    assert at.reports[-1].last_px == LAST + sign * 300
    assert at.status("a").ord_status is OrdStatus.FILLED


def test_a_stop_limit_becomes_a_limit_order() -> None:
    """Once triggered it rests at its limit, behind the queue; the triggering trade does not fill it."""
    at = bench()
    at.submit("z", limit(BUY, quantity=10 * LOT, price=LAST + 50))
    at.submit("a", stop(BUY, LAST + 100, price=LAST + 50))
    at.tape(LAST + 100, 10 * LOT)
    assert at.new_reports()[-1] == ("a", "TRIGGERED")
    at.tape(LAST + 49, 30 * LOT)
    assert [at.status(name).cum_qty for name in "za"] == [10 * LOT, 20 * LOT]


@pytest.mark.parametrize("order", [stop(BUY, LAST), stop(SELL, LAST + 1), stop(BUY, LAST - 1, price=LAST)])
def test_a_stop_on_the_wrong_side_is_refused(order: StandardOrder) -> None:
    """A stop that would trigger immediately is refused."""
    at = bench()
    with pytest.raises(Rejected, match="trigger immediately") as caught:
        at.submit("a", order)
    assert caught.value.code == "-2010"


def test_a_stop_locks_its_cost() -> None:
    """A buy stop locks funds at its stop price, and EXPIRES if the market asks for more than is free."""
    money = (LAST + 100) * 100 * LOT // 100
    at = bench(balances={"USDT": money})
    at.submit("a", stop(BUY, LAST + 100))
    assert at.free("USDT") == 0
    at.engine.place_other(limit(SELL, quantity=100 * LOT, price=LAST + 9_000))
    at.tape(LAST + 5_000, LOT)
    at.tape(LAST + 8_990, LOT)
    assert at.new_reports()[-2:] == [("a", "TRIGGERED"), ("a", "EXPIRED")]
    assert at.free("USDT") == money


def test_stops_trigger_in_the_order_of_their_age() -> None:
    """Oldest first, each trading before the next is triggered."""
    at = bench(ladder_levels=0)
    for name in "ab":
        at.submit(name, stop(BUY, LAST + 100))
    at.engine.place_other(limit(SELL, quantity=150 * LOT, price=LAST + 300))
    at.new_reports()
    at.tape(LAST + 200, LOT)
    assert at.new_reports() == [
        ("a", "TRIGGERED"),
        ("a", "TRADE"),
        ("b", "TRIGGERED"),
        ("b", "TRADE"),
        ("b", "EXPIRED"),
    ]


def test_a_halt_triggers_nothing() -> None:
    """Trades during a halt do not trigger stops; the next trade after it does."""
    at = bench()
    at.submit("a", stop(BUY, LAST + 100))
    at.engine.halt(SYMBOL)
    at.tape(LAST + 200, LOT)
    assert at.kinds() == ["NEW"]
    at.engine.resume(SYMBOL)
    at.tape(LAST + 150, LOT)
    assert at.new_reports()[1] == ("a", "TRIGGERED")


def test_a_stop_can_be_canceled_and_amended() -> None:
    """An untriggered stop can be canceled, and moved except to the wrong side."""
    at = bench(amend=AmendDialect.IN_PLACE)
    at.submit("a", stop(BUY, LAST + 100))
    at.modify("a", stop(BUY, LAST + 300), request_id="b")
    with pytest.raises(Rejected, match="trigger immediately"):
        at.modify("b", stop(BUY, LAST - 1), request_id="c")
    at.tape(LAST + 200, LOT)
    assert at.status("b").ord_status is OrdStatus.NEW
    at.cancel("b")
    at.tape(LAST + 400, LOT)
    assert at.kinds() == ["NEW", "REPLACED", "CANCELED"]
    assert at.free("USDT") == 1_000_000 * USDT


TOLD = {
    TriggerReports.EXPIRED: ["TRIGGERED", "EXPIRED", "NEW", "TRADE"],
    TriggerReports.CANCELED: ["TRIGGERED", "CANCELED", "NEW", "TRADE"],
    TriggerReports.TRIGGERED: ["TRIGGERED", "NEW", "TRADE"],
    TriggerReports.REPLACED: ["TRIGGERED", "REPLACED", "TRADE"],
    TriggerReports.NEW: ["NEW", "TRADE"],
    TriggerReports.FILLED: ["TRIGGERED", "NEW", "TRADE", "ORDER_STATUS"],
}


@pytest.mark.parametrize("reports", TriggerReports)
def test_a_stop_triggers_as_a_new_order(reports: TriggerReports, tmp_path: Path) -> None:
    """The new order has the stop's client order id, and its quantity; a restart changes nothing."""
    config = {"trigger": TriggerDialect.NEW_ORDER, "trigger_reports": reports, "symbols": full_symbols()}
    with recorded(tmp_path / "journal", **config, ladder_levels=0) as at:
        at.submit("a", stop(BUY, LAST + 100))
        at.engine.place_other(limit(SELL, quantity=100 * LOT, price=LAST + 300))
        at.new_reports()
        at.tape(LAST + 200, LOT)
        assert [kind for _, kind in at.new_reports()] == TOLD[reports]
        assert {report.client_order_id for report in at.reports} == {"a"}
        assert (at.status("a").exchange_order_id, at.status("a").cum_qty) == ("3", 100 * LOT)
        assert at.engine.book.position(SYMBOL) == 100 * LOT
        told = at.reports[-1]
        if reports is TriggerReports.FILLED:
            assert (told.exchange_order_id, told.ord_status, told.cum_qty) == ("1", OrdStatus.FILLED, 100 * LOT)
        truth = at.engine.truth()
    with recorded(tmp_path / "journal", **config, ladder_levels=0) as at:
        assert at.engine.truth() == truth


def test_a_triggered_stop_can_stay_listed() -> None:
    """It is listed as long as the order that its trigger made is open; only that one can be canceled."""
    at = bench(trigger=TriggerDialect.NEW_ORDER, trigger_parent_stays_listed=True)
    at.submit("a", stop(BUY, LAST + 100, price=LAST + 50))
    at.tape(LAST + 100, LOT)
    listed = [(report.exchange_order_id, report.ord_status) for report in at.engine.open_orders()]
    assert listed == [("1", OrdStatus.NEW), ("2", OrdStatus.NEW)]
    with pytest.raises(OutcomeUnknown):
        at.cancel("a", target_exchange_order_id="1")
    at.cancel("a")
    assert at.engine.open_orders() == ()


# ----------------------------------------------------------------------------------------------------------- ends by time
def test_good_till_date() -> None:
    """GTD orders EXPIRE at their instant whoever asks first; a past instant is refused."""
    at = bench()
    end_ns = at.clock.now_ns() + 10 * NS_PER_S
    at.submit("a", limit(time_in_force=TimeInForce.GTD, expire_at_ns=end_ns))
    at.clock.forward(9.999)
    assert at.status("a").ord_status is OrdStatus.NEW
    at.clock.forward(0.001)
    assert at.engine.open_orders() == ()
    assert (at.new_reports()[-1], at.reports[-1].ord_status) == (("a", "EXPIRED"), OrdStatus.EXPIRED)
    assert at.free("USDT") == 1_000_000 * USDT
    with pytest.raises(Rejected, match="expire"):
        at.submit("b", limit(time_in_force=TimeInForce.GTD, expire_at_ns=end_ns))
    with pytest.raises(OutcomeUnknown):
        at.cancel("a")


def test_good_for_the_day() -> None:
    """DAY orders end at the next midnight UTC."""
    at = bench()
    at.submit("a", limit(time_in_force=TimeInForce.DAY, price=LAST - 10))
    left_s = DAY_S - at.clock.now_ns() // NS_PER_S % DAY_S
    at.clock.forward(left_s - 1)
    at.tape(LAST - 11, LOT)
    at.clock.forward(1)
    at.tape(LAST - 11, LOT)
    assert at.kinds() == ["NEW", "TRADE", "EXPIRED"]
    at.submit("b", limit(time_in_force=TimeInForce.DAY))
    assert at.engine.truth()["orders"][1]["expires_ns"] == at.clock.now_ns() + DAY_S * NS_PER_S


def test_the_expiry_can_be_amended() -> None:
    """Only the new instant counts."""
    at = bench(amend=AmendDialect.IN_PLACE)

    def until(seconds: int) -> StandardOrder:
        return limit(time_in_force=TimeInForce.GTD, expire_at_ns=1_700_000_000 * NS_PER_S + seconds * NS_PER_S)

    at.submit("a", until(10))
    at.modify("a", until(20), request_id="b")
    at.clock.forward(15)
    assert at.status("b").ord_status is OrdStatus.NEW
    at.clock.forward(5)
    assert at.status("b").ord_status is OrdStatus.EXPIRED


# ---------------------------------------------------------------------------------------------------------- reduce-only
def test_reduce_only() -> None:
    """It is refused unless all of it reduces the position."""
    at = bench()
    with pytest.raises(Rejected) as caught:
        at.submit("a", limit(SELL, quantity=10 * LOT, price=LAST + 100, reduce_only=True))
    assert caught.value.code == "-2022"
    at.submit("b", market(BUY, quantity=30 * LOT))
    with pytest.raises(Rejected):
        at.submit("c", limit(SELL, quantity=31 * LOT, price=LAST + 100, reduce_only=True))
    with pytest.raises(Rejected):
        at.submit("d", limit(BUY, quantity=10 * LOT, reduce_only=True))
    at.submit("e", market(SELL, quantity=30 * LOT, reduce_only=True))
    assert at.status("e").ord_status is OrdStatus.FILLED


def test_reduce_only_orders_shrink_with_the_position() -> None:
    """Resting and armed ones are restated to the position, and canceled once it is closed."""
    at = bench(ladder_levels=0)
    at.submit("a", limit(BUY, quantity=30 * LOT, price=LAST + 100))
    at.tape(LAST, 30 * LOT)
    at.submit("stop", stop(SELL, LAST - 1000, quantity=30 * LOT, reduce_only=True))
    at.submit("rests", limit(SELL, quantity=20 * LOT, price=LAST + 500, reduce_only=True))
    at.submit("close", limit(SELL, quantity=15 * LOT, price=LAST + 200))
    at.new_reports()
    at.tape(LAST + 201, 15 * LOT)
    assert at.new_reports() == [("close", "TRADE"), ("stop", "RESTATED"), ("rests", "RESTATED")]
    assert (at.status("stop").order_qty, at.status("rests").order_qty) == (15 * LOT, 15 * LOT)
    at.tape(LAST + 501, 15 * LOT)
    assert at.new_reports() == [("rests", "TRADE"), ("stop", "CANCELED")]


def test_reduce_only_orders_that_one_trade_reaches_do_not_turn_the_position() -> None:
    """One trade of the market meets another sell and two reduce-only orders of more than the position."""
    at = bench(ladder_levels=0)
    at.submit("a", limit(BUY, quantity=30 * LOT, price=LAST + 100))
    at.tape(LAST, 30 * LOT)
    at.submit("b", limit(SELL, quantity=10 * LOT, price=LAST + 200))
    at.submit("c", limit(SELL, quantity=15 * LOT, price=LAST + 300, reduce_only=True))
    at.submit("d", limit(SELL, quantity=30 * LOT, price=LAST + 400, reduce_only=True))
    at.new_reports()
    at.tape(LAST + 500, 100 * LOT)
    assert at.new_reports() == [("b", "TRADE"), ("c", "TRADE"), ("d", "TRADE"), ("d", "CANCELED")]
    assert [at.status(name).cum_qty // LOT for name in "bcd"] == [10, 15, 5]


def test_a_busted_buy_shrinks_reduce_only_orders() -> None:
    """The position that a busted trade takes back cannot be reduced any more."""
    at = bench(ladder_levels=0)
    at.submit("a", limit(BUY, quantity=30 * LOT, price=LAST + 100))
    at.tape(LAST, 30 * LOT)
    at.submit("b", limit(SELL, quantity=30 * LOT, price=LAST + 500, reduce_only=True))
    (trade,) = at.engine.book.trades
    at.new_reports()
    at.engine.bust(trade)
    assert at.new_reports() == [("a", "TRADE_CANCEL"), ("b", "CANCELED")]


# -------------------------------------------------------------------------------------------------------------- icebergs
def test_an_iceberg_queues_again_for_each_part() -> None:
    """Takers meet its displayed part, then the others at its price, then its next part."""
    at = bench(ladder_levels=0)
    at.submit("a", limit(SELL, quantity=50 * LOT, price=LAST - 100, display_quantity=20 * LOT, post_only=True))
    at.submit("z", limit(SELL, quantity=10 * LOT, price=LAST - 100, post_only=True))
    at.new_reports()
    at.engine.place_other(limit(BUY, quantity=45 * LOT, price=LAST - 100))
    assert [(report.client_order_id, report.last_qty) for report in at.reports[2:]] == [
        ("a", 20 * LOT), ("z", 10 * LOT), ("a", 15 * LOT),
    ]  # fmt: skip
    at.submit("y", limit(SELL, quantity=10 * LOT, price=LAST - 100, post_only=True))
    at.engine.place_other(limit(BUY, quantity=20 * LOT, price=LAST - 100))
    assert [(report.client_order_id, report.last_qty) for report in at.reports[-3:]] == [
        ("a", 5 * LOT), ("y", 10 * LOT), ("a", 5 * LOT),
    ]  # fmt: skip


def test_the_tape_fills_the_displayed_part_at_its_price() -> None:
    """The next part queues behind the market there; a trade through the price fills everything."""
    at = bench()
    at.submit("a", limit(BUY, quantity=100 * LOT, price=LAST - 100, display_quantity=20 * LOT))
    at.tape(LAST - 100, 70 * LOT)
    assert at.status("a").cum_qty == 20 * LOT
    at.tape(LAST - 100, 75 * LOT)
    assert at.status("a").cum_qty == 25 * LOT
    at.tape(LAST - 101, 70 * LOT)
    assert at.status("a").cum_qty == 95 * LOT
    assert [report.last_qty for report in at.reports[3:]] == [15 * LOT, 20 * LOT, 20 * LOT, 15 * LOT]


@pytest.mark.parametrize(
    ("order", "word"),
    [
        (limit(quantity=101 * LOT, display_quantity=LOT), "ICEBERG_PARTS"),
        (market(quantity=100 * LOT, display_quantity=10 * LOT), "iceberg"),
        (limit(quantity=100 * LOT, display_quantity=LOT + 1), "LOT_SIZE"),
    ],
)
def test_invalid_icebergs(order: StandardOrder, word: str) -> None:
    """Too many parts, no price, or parts off the lot size."""
    with pytest.raises(Rejected, match=word) as caught:
        bench().submit("a", order)
    assert caught.value.code == "-1013"


# -------------------------------------------------------------------------------------------------------------- recovery
def a_day(at: Bench) -> None:
    """One order of each type, some partially filled."""
    end_ns = at.clock.now_ns() + 100 * NS_PER_S
    at.submit("stop", stop(BUY, LAST + 500))
    at.submit("stop-limit", stop(SELL, LAST - 500, price=LAST - 600))
    at.submit("sprung", stop(SELL, LAST - 100, price=LAST + 900))
    at.submit("gtd", limit(time_in_force=TimeInForce.GTD, expire_at_ns=end_ns))
    at.submit("day", limit(time_in_force=TimeInForce.DAY))
    at.submit("iceberg", limit(BUY, quantity=100 * LOT, price=LAST - 90, display_quantity=20 * LOT))
    at.submit("bought", market(quantity=10 * LOT))
    at.tape(LAST - 100, 30 * LOT)


def test_the_journal_restores_every_order_type(tmp_path: Path) -> None:
    """After a restart stops wait, icebergs show the same part, and orders still expire."""
    path = tmp_path / "journal"

    def rest_of_the_day(at: Bench) -> list[str | None]:
        at.clock.forward(100)
        at.tape(LAST - 600, 30 * LOT)
        at.tape(LAST + 900, 30 * LOT)
        at.submit("sold", market(SELL, quantity=10 * LOT, reduce_only=True))
        at.cancel("day")
        return [report.raw for report in at.reports]

    config: dict[str, Any] = {"symbols": full_symbols(), "ladder_levels": 0}
    with recorded(path, **config) as at:
        at.engine.place_other(limit(SELL, quantity=COIN, price=LAST + 1_000))
        at.engine.place_other(limit(BUY, quantity=COIN, price=LAST - 1_000))
        a_day(at)
        truth, sofar = at.engine.truth(), path.read_bytes()
        at.reports.clear()
        rest = rest_of_the_day(at)
        whole, ended = path.read_bytes(), at.engine.truth()
    path.write_bytes(sofar)
    with recorded(path, **config) as again:
        assert again.engine.truth() == truth
        assert rest_of_the_day(again) == rest
        assert again.engine.truth() == ended
        assert path.read_bytes() == whole


def test_reports_of_each_order_type_add_up() -> None:
    """The sum of an order's reports equals the answer to an order query."""
    at = bench()
    a_day(at)
    at.clock.forward(200)
    at.tape(LAST + 900, 30 * LOT)
    for order in at.engine.truth()["orders"]:
        own = [report for report in at.reports if report.exchange_order_id == order["exchange_order_id"]]
        assert own[0].exec_type is ExecType.NEW
        assert sum(report.last_qty or 0 for report in own) == order["cum_qty"]
        assert (str(own[-1].ord_status), own[-1].leaves_qty) == (order["status"], order["leaves_qty"])
