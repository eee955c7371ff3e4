"""Contingent orders managed by the paper exchange: one cancels, updates or triggers the others at the same
instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import OutcomeUnknown, Rejected
from kernel.models import ExecType, OrdStatus
from kernel.order_spec import OcoMode, OrderType, Side, StandardOrder, TimeInForce
from kernel.venues import AmendDialect
from kernel.venues.paper.matching.config import full_symbols
from tests.paper_world import BUY, COIN, LAST, LOT, SELL, SYMBOL, USDT, Bench, limit, market, recorded

OCO, OUO, OTO = OcoMode.ONE_CANCELS_OTHER, OcoMode.ONE_UPDATES_OTHER, OcoMode.ONE_TRIGGERS_OTHER
ALL = frozenset({OCO, OUO, OTO})


def bench(**config: Any) -> Bench:
    """An engine that manages every group mode and accepts every order type."""
    return Bench(**({"native_groups": ALL, "symbols": full_symbols(), "maker_fee_bps": 0, "taker_fee_bps": 0} | config))


def at(price: int, side: Side = SELL, lots: int = 100, **terms: Any) -> StandardOrder:
    """A LIMIT order at this distance from the last price."""
    return limit(side, quantity=lots * LOT, price=LAST + price, **terms)


def stop_loss(price: int, lots: int = 100) -> StandardOrder:
    """A STOP sell order at this distance from the last price."""
    return StandardOrder(
        symbol_id=SYMBOL, side=SELL, order_type=OrderType.STOP, quantity=lots * LOT, stop_price=LAST + price
    )


def states(found: Bench, *names: str) -> list[tuple[str, int, int]]:
    """Return status, quantity and filled quantity of orders, in lots."""
    orders = {order["client_order_id"]: order for order in found.engine.truth()["orders"]}
    return [(orders[name]["status"], orders[name]["quantity"] // LOT, orders[name]["cum_qty"] // LOT) for name in names]


# --------------------------------------------------------------------------------------------------------- the request
def test_a_group_is_answered_by_each_first_report() -> None:
    """The answer has the first report of each order, in the order of the request."""
    found = bench()
    reports = found.group(OCO, a=at(100), b=stop_loss(-100))
    assert [(report.client_order_id, report.exec_type) for report in reports] == [
        ("a", ExecType.NEW), ("b", ExecType.NEW),
    ]  # fmt: skip
    assert found.reports == [*reports]
    assert {order["group"] for order in found.engine.truth()["orders"]} == {"group"}


@pytest.mark.parametrize("mode", list(OcoMode))
def test_undeclared_modes_are_refused(mode: OcoMode) -> None:
    """A group mode outside of `native_groups` is `Rejected`."""
    found = bench(native_groups=ALL - {mode})
    with pytest.raises(Rejected) as caught:
        found.group(mode, a=at(100), b=at(200))
    assert caught.value.code == "-1020"


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (at(100, lots=1), "-1013"),
        (limit(SELL, quantity=120 * COIN, price=LAST + 100), "-2010"),
        (stop_loss(0), "-2010"),
        (at(-1_000, post_only=True), "-2010"),
    ],
    ids=["filter", "funds", "stop", "post-only"],
)
def test_all_or_none(bad: StandardOrder, code: str) -> None:
    """One refused order refuses the whole group, and nothing changes."""
    found = bench()
    before = found.engine.truth()
    for orders in ({"a": at(100), "b": bad}, {"a": bad, "b": at(100)}):
        with pytest.raises(Rejected) as caught:
            found.group(OCO, **orders)
        assert caught.value.code == code
        assert found.engine.truth() == before
    assert found.reports == []


def test_ids_of_a_group() -> None:
    """A used id makes the whole request a duplicate; two orders with one id are refused."""
    found = bench()
    found.submit("b", at(100))
    with pytest.raises(OutcomeUnknown) as caught:
        found.group(OCO, a=at(100), b=at(200))
    assert caught.value.duplicate
    assert len(found.engine.open_orders()) == 1


def test_orders_of_other_symbols() -> None:
    """Only ONE_CANCELS_OTHER groups may span symbols."""
    found = bench()
    other = limit(SELL, quantity=10**7, price=300_000, symbol_id="ETHUSDT")
    for mode in (OUO, OTO):
        with pytest.raises(Rejected, match="one symbol"):
            found.group(mode, a=at(100), b=other)
    found.group(OCO, a=at(100), b=other)


def test_siblings_share_locked_funds() -> None:
    """100 lots cover two sell orders of 100, of which only one can trade in full."""
    for mode in (OCO, OUO):
        found = bench(balances={"BTC": 100 * LOT})
        found.group(mode, a=at(100), b=stop_loss(-100))
        assert (found.free("BTC"), found.engine.balances()["BTC"].locked) == (0, 100 * LOT)
        found.cancel("a")
        assert found.free("BTC") == 0
        found.cancel("b")
        assert found.free("BTC") == 100 * LOT


# -------------------------------------------------------------------------------------------------- one cancels other
def test_a_partial_fill_cancels_the_others() -> None:
    """The cancels are in the same line of the journal; the traded order stays open."""
    found = bench()
    found.group(OCO, a=at(100), b=stop_loss(-100), c=at(200))
    found.new_reports()
    found.tape(LAST + 101, 30 * LOT)
    assert found.new_reports() == [("a", "TRADE"), ("b", "CANCELED"), ("c", "CANCELED")]
    assert found.reports[-1].text == "OCO"
    assert states(found, "a", "b", "c") == [("PARTIALLY_FILLED", 100, 30), ("CANCELED", 100, 0), ("CANCELED", 100, 0)]
    assert found.engine.balances()["BTC"].locked == 70 * LOT


def test_one_trade_fills_one_exclusive_order() -> None:
    """A trade through both prices fills only the first, even if its quantity suffices for both."""
    found = bench()
    found.group(OCO, a=at(100), b=at(200))
    found.tape(LAST + 1_000, 500 * LOT)
    assert states(found, "a", "b") == [("FILLED", 100, 100), ("CANCELED", 100, 0)]


def test_a_triggered_stop_cancels_the_other_once_it_trades() -> None:
    """The trigger alone cancels nothing; a first order that trades on arrival keeps the second out."""
    found = bench(ladder_levels=0)
    found.group(OCO, a=at(100), b=stop_loss(-100))
    found.engine.place_other(at(-50, BUY, 40))
    found.new_reports()
    found.tape(LAST - 150, LOT)
    assert found.new_reports() == [("b", "TRIGGERED"), ("b", "TRADE"), ("b", "EXPIRED"), ("a", "CANCELED")]
    found.engine.place_other(at(-50, BUY, 40))
    found.group(OCO, c=at(-50, lots=10), d=at(-50, lots=10))
    assert states(found, "c", "d") == [("FILLED", 10, 10), ("CANCELED", 10, 0)]


def test_an_end_without_a_fill_cancels_nothing() -> None:
    """A canceled or expired order leaves the others working."""
    found = bench()
    found.group(OCO, a=at(100), b=stop_loss(-100))
    found.cancel("a")
    assert states(found, "a", "b") == [("CANCELED", 100, 0), ("NEW", 100, 0)]


# -------------------------------------------------------------------------------------------------- one updates other
def test_a_fill_reduces_the_others() -> None:
    """The others are RESTATED by the filled quantity, and CANCELED with nothing left."""
    found = bench()
    found.group(OUO, a=at(100), b=stop_loss(-100), c=at(200, lots=40))
    found.new_reports()
    found.tape(LAST + 101, 30 * LOT)
    assert found.new_reports() == [("a", "TRADE"), ("b", "RESTATED"), ("c", "RESTATED")]
    restated = found.reports[-1]
    assert (restated.client_order_id, restated.orig_client_order_id, restated.order_qty) == ("c", None, 10 * LOT)
    found.tape(LAST + 101, 20 * LOT)
    assert states(found, "a", "b", "c") == [("PARTIALLY_FILLED", 100, 50), ("NEW", 50, 0), ("CANCELED", 10, 0)]
    found.tape(LAST + 101, 50 * LOT)
    assert states(found, "a", "b") == [("FILLED", 100, 100), ("CANCELED", 50, 0)]
    assert found.engine.balances()["BTC"].locked == 0


def test_one_trade_through_all_siblings_fills_no_more_than_one_of_them() -> None:
    """Within one trade, the second sibling no longer offers what the first has traded."""
    found = bench()
    found.group(OUO, a=at(100, lots=50), b=at(200, lots=80))
    found.tape(LAST + 1_000, 500 * LOT)
    assert sum(filled for _, _, filled in states(found, "a", "b")) == 80


# ------------------------------------------------------------------------------------------------- one triggers other
def bracket(found: Bench, lots: int = 100) -> None:
    """Submit a buy order whose fills release a take-profit and a stop-loss."""
    found.group(OTO, entry=at(-100, BUY, lots), profit=at(500, SELL, lots), loss=stop_loss(-500, lots))
    found.new_reports()


def test_pending_children_are_not_in_the_book() -> None:
    """Children are PENDING_NEW and open, lock no funds, and do not trade."""
    found = bench(balances={"USDT": 1_000_000 * USDT})
    reports = found.group(OTO, entry=at(-100, BUY), profit=at(500), loss=stop_loss(-500))
    assert [report.exec_type for report in reports] == [ExecType.NEW, ExecType.PENDING_NEW, ExecType.PENDING_NEW]
    assert {report.ord_status for report in reports[1:]} == {OrdStatus.PENDING_NEW}
    assert len(found.engine.open_orders()) == 3
    found.tape(LAST + 600, 100 * LOT)
    assert states(found, "profit", "loss") == [("PENDING_NEW", 100, 0), ("PENDING_NEW", 100, 0)]


def test_children_grow_with_the_parent() -> None:
    """Children are released with the parent's filled quantity and RESTATED with each further fill."""
    found = bench(balances={"USDT": 1_000_000 * USDT})
    bracket(found)
    found.tape(LAST - 101, 30 * LOT)
    assert found.new_reports() == [("entry", "TRADE"), ("profit", "NEW"), ("loss", "NEW")]
    assert states(found, "profit", "loss") == [("NEW", 30, 0), ("NEW", 30, 0)]
    found.tape(LAST - 101, 70 * LOT)
    assert found.new_reports() == [("entry", "TRADE"), ("profit", "RESTATED"), ("loss", "RESTATED")]
    assert states(found, "profit", "loss") == [("NEW", 100, 0), ("NEW", 100, 0)]


def test_children_share_the_parents_fills() -> None:
    """What one child sells reduces the other; together they never sell more than the parent bought."""
    found = bench(balances={"USDT": 1_000_000 * USDT})
    bracket(found)
    found.tape(LAST - 101, 60 * LOT)
    found.tape(LAST + 501, 20 * LOT)
    assert states(found, "profit", "loss") == [("PARTIALLY_FILLED", 60, 20), ("NEW", 40, 0)]
    found.tape(LAST - 101, 40 * LOT)
    assert states(found, "profit", "loss") == [("PARTIALLY_FILLED", 100, 20), ("NEW", 80, 0)]
    found.tape(LAST + 501, 80 * LOT)
    assert states(found, "profit", "loss") == [("FILLED", 100, 100), ("CANCELED", 80, 0)]
    assert found.engine.balances()["BTC"].total == 0


def test_a_child_that_used_up_its_share_waits_for_more() -> None:
    """It stays open while the parent works and is FILLED when the parent ends."""
    for rest, profit, loss in (
        (40, ("PARTIALLY_FILLED", 100, 60), ("NEW", 40, 0)),
        (0, ("FILLED", 60, 60), ("CANCELED", 0, 0)),
    ):
        found = bench(balances={"USDT": 1_000_000 * USDT})
        bracket(found)
        found.tape(LAST - 101, 60 * LOT)
        found.tape(LAST + 501, 60 * LOT)
        assert states(found, "profit", "loss") == [("PARTIALLY_FILLED", 60, 60), ("NEW", 0, 0)]
        if rest:
            found.tape(LAST - 101, rest * LOT)
        else:
            found.cancel("entry")
        assert states(found, "profit", "loss") == [profit, loss]


def test_a_stop_child_without_a_share_triggers_and_waits() -> None:
    """A stop child whose sibling has used up the parent's fills triggers without a trade, and trades what fills next."""
    found = bench(balances={"USDT": 1_000_000 * USDT})
    bracket(found)
    found.tape(LAST - 101, 10 * LOT)
    found.tape(LAST + 501, 10 * LOT)
    found.engine.place_other(at(-50, BUY, 5))
    found.tape(LAST - 500, 5 * LOT)
    assert states(found, "profit", "loss") == [("PARTIALLY_FILLED", 10, 10), ("NEW", 0, 0)]
    found.tape(LAST - 101, 20 * LOT)
    assert states(found, "profit", "loss") == [("PARTIALLY_FILLED", 10, 10), ("PARTIALLY_FILLED", 20, 20)]


def test_a_child_has_its_own_limit() -> None:
    """A child never gets more than its requested quantity."""
    found = bench()
    found.group(OTO, entry=at(-100, BUY), profit=at(500, SELL, 40))
    found.tape(LAST - 101, 100 * LOT)
    assert states(found, "profit") == [("NEW", 40, 0)]


def test_a_parent_without_fills_ends_its_children() -> None:
    """Whether the client or the exchange cancels it, or it expires."""
    for end in ("client", "exchange", "expiry"):
        found = bench()
        entry = at(-100, BUY, time_in_force=TimeInForce.DAY)
        found.group(OTO, entry=entry, profit=at(500))
        found.new_reports()
        if end == "client":
            found.cancel("entry")
        elif end == "exchange":
            found.engine.cancel_order(client_order_id="entry")
        else:
            found.clock.forward(86_400)
            found.engine.expire_due()
        assert found.new_reports() == [("entry", "EXPIRED" if end == "expiry" else "CANCELED"), ("profit", "CANCELED")]
        assert found.engine.balances()["USDT"].locked == 0


def test_children_of_a_partially_filled_parent_work_for_its_fills() -> None:
    """They work for the filled quantity and are done when that has traded."""
    found = bench()
    bracket(found)
    found.tape(LAST - 101, 30 * LOT)
    found.cancel("entry")
    assert states(found, "profit", "loss") == [("NEW", 30, 0), ("NEW", 30, 0)]
    found.tape(LAST + 501, 30 * LOT)
    assert states(found, "profit", "loss") == [("FILLED", 30, 30), ("CANCELED", 30, 0)]


def test_a_parent_that_trades_on_arrival_releases_its_children() -> None:
    """The answers are unchanged; a child that crosses trades at once."""
    found = bench(ladder_levels=0, balances={"USDT": 1_000_000 * USDT})
    found.engine.place_other(at(10, SELL, 100))
    found.engine.place_other(at(5, BUY, 30))
    found.group(OTO, entry=market(BUY, quantity=100 * LOT), profit=at(5), loss=stop_loss(-500))
    assert found.new_reports() == [
        ("entry", "NEW"), ("profit", "PENDING_NEW"), ("loss", "PENDING_NEW"),
        ("entry", "TRADE"), ("profit", "NEW"), ("profit", "TRADE"), ("loss", "NEW"),
    ]  # fmt: skip
    assert states(found, "profit", "loss") == [("PARTIALLY_FILLED", 100, 30), ("NEW", 70, 0)]


def test_a_child_without_funds_is_canceled_on_release() -> None:
    """Fees have reduced the quantity that it could sell."""
    found = bench(balances={"USDT": 1_000_000 * USDT}, maker_fee_bps=10)
    bracket(found)
    found.tape(LAST - 101, 30 * LOT)
    assert found.new_reports() == [
        ("entry", "TRADE"),
        ("profit", "NEW"),
        ("profit", "CANCELED"),
        ("loss", "NEW"),
        ("loss", "CANCELED"),
    ]
    assert all(balance.free >= 0 for balance in found.engine.balances().values())


def test_a_reduce_only_bracket() -> None:
    """A reduce-only child is checked against the position when it is released, not before."""
    found = bench()
    found.group(OTO, entry=at(-100, BUY), profit=at(500, reduce_only=True))
    found.tape(LAST - 101, 30 * LOT)
    assert states(found, "profit") == [("NEW", 30, 0)]


# ------------------------------------------------------------------------------------------------------ groups amended
def test_an_amended_member_stays_in_its_group() -> None:
    """In both dialects its fills still count for its siblings, and a parent's for its children."""
    for dialect in (AmendDialect.IN_PLACE, AmendDialect.CANCEL_REPLACE):
        found = bench(amend=dialect)
        bracket(found)
        found.modify("entry", at(-150, BUY), request_id="entry-2")
        found.tape(LAST - 151, 30 * LOT)
        found.modify("profit", at(400), request_id="profit-2")
        assert states(found, "profit-2", "loss") == [("NEW", 30, 0), ("NEW", 30, 0)]
        found.tape(LAST + 401, 10 * LOT)
        found.modify("profit-2", at(450, lots=90), request_id="profit-3")
        found.tape(LAST - 151, 70 * LOT)
        working = [order for order in found.engine.truth()["orders"] if order["leaves_qty"]]
        assert {order["client_order_id"]: order["leaves_qty"] // LOT for order in working} == {
            "profit-3": 80,
            "loss": 90,
        }


def test_a_pending_child_can_be_amended_and_canceled() -> None:
    """An amended child stays pending; a canceled one is never released."""
    for dialect in (AmendDialect.IN_PLACE, AmendDialect.CANCEL_REPLACE):
        found = bench(amend=dialect)
        bracket(found)
        found.modify("profit", at(400, lots=20), request_id="profit-2")
        found.cancel("loss")
        found.tape(LAST - 101, 30 * LOT)
        assert states(found, "profit-2", "loss") == [("NEW", 20, 0), ("CANCELED", 100, 0)]


# ------------------------------------------------------------------------------------------------------------- recovery
@pytest.mark.parametrize("mode", sorted(ALL))
def test_the_journal_holds_groups(tmp_path: Path, mode: OcoMode) -> None:
    """After a restart a group continues exactly as it would have, byte for byte."""
    path = tmp_path / "journal"
    config: dict[str, Any] = {"native_groups": ALL, "symbols": full_symbols(), "amend": AmendDialect.IN_PLACE}

    def rest_of_the_day(found: Bench) -> list[str | None]:
        found.tape(LAST - 101, 20 * LOT)
        found.tape(LAST + 501, 10 * LOT)
        found.cancel("entry") if found.status("entry").leaves_qty else None
        found.tape(LAST - 600, 50 * LOT)
        return [report.raw for report in found.reports]

    with recorded(path, **config) as found:
        found.group(mode, entry=at(-100, BUY), profit=at(500), loss=stop_loss(-500))
        if mode is OTO:
            found.tape(LAST - 101, 30 * LOT)
            found.modify("profit", at(500, lots=90), request_id="profit-2")
        truth, sofar = found.engine.truth(), path.read_bytes()
        found.reports.clear()
        rest, whole = rest_of_the_day(found), path.read_bytes()
    path.write_bytes(sofar)
    with recorded(path, **config) as again:
        assert again.engine.truth() == truth
        assert rest_of_the_day(again) == rest
        assert path.read_bytes() == whole


# ------------------------------------------------------------------------------------------------------ whatever comes
acts = st.lists(
    st.one_of(
        st.tuples(st.just("tape"), st.integers(-6, 6), st.integers(1, 60)),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("amend"), st.integers(0, 5), st.integers(1, 99), st.integers(-6, 6)),
        st.tuples(st.just("other"), st.integers(-6, 6), st.integers(1, 60), st.sampled_from([BUY, SELL])),
    ),
    max_size=20,
)
prices = st.tuples(st.integers(-6, -1), st.integers(1, 6), st.integers(1, 6), st.integers(-6, -1))


@given(
    st.sampled_from(sorted(ALL)), prices, acts, st.sampled_from([AmendDialect.IN_PLACE, AmendDialect.CANCEL_REPLACE])
)
def test_groups_keep_their_invariants(
    mode: OcoMode, away: tuple[int, ...], day: list[Any], dialect: AmendDialect
) -> None:
    """Children never trade more than the parent, one exclusive order trades, reports add up, and no funds stay locked."""
    found = bench(
        amend=dialect, ladder_levels=1, balances={"USDT": 1_000_000 * USDT, "BTC": 0 if mode is OTO else COIN}
    )
    entry, profit, more, loss = away
    try:
        if mode is OTO:
            found.group(mode, a=at(entry, BUY), b=at(profit), c=at(more, lots=60), d=stop_loss(loss))
        else:
            found.group(mode, a=at(profit), b=at(more, lots=60), d=stop_loss(loss))
    except Rejected:
        return
    for number, act in enumerate(day):
        perform(found, act, number)
        assert all(balance.free >= 0 and balance.locked >= 0 for balance in found.engine.balances().values())
        orders = [*found.engine.book.own_orders()]
        sold = sum(order.cum_qty for order in orders if order.side is SELL)
        if mode is OTO:
            assert sold <= sum(order.cum_qty for order in orders if order.side is BUY)
        if mode is OCO:
            names = {report.exchange_order_id for report in found.reports if report.last_qty}
            assert len(names) <= 1 or dialect is AmendDialect.CANCEL_REPLACE
    for order in found.engine.book.own_orders():
        own = [report for report in found.reports if report.exchange_order_id == str(order.order_id)]
        assert sum(report.last_qty or 0 for report in own) == order.cum_qty <= order.quantity
        assert (own[-1].ord_status, own[-1].leaves_qty) == (order.status, order.leaves_qty)
    while shown := found.engine.open_orders():
        found.cancel(str(shown[0].client_order_id))
    assert all(balance.locked == 0 for balance in found.engine.balances().values())


def perform(found: Bench, act: tuple[Any, ...], number: int) -> None:
    """Execute one action; the exchange may refuse it."""
    name, *terms = act
    shown = found.engine.open_orders()
    try:
        if name == "tape":
            found.tape(LAST + terms[0], terms[1] * LOT)
        elif name == "other":
            found.engine.place_other(limit(terms[2], terms[1] * LOT, LAST + terms[0]))
        elif shown and name == "cancel":
            found.cancel(str(shown[terms[0] % len(shown)].client_order_id))
        elif shown:
            picked = shown[terms[0] % len(shown)]
            if picked.price is not None:
                order = limit(picked.side or BUY, terms[1] * LOT, LAST + terms[2])
                found.modify(str(picked.client_order_id), order, request_id=f"m{number}")
    except (Rejected, OutcomeUnknown):
        return
