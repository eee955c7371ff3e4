"""The paper exchange amends working orders: in place or by cancel/replace, by total or by remaining quantity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from kernel.clock import NS_PER_S
from kernel.errors import OutcomeUnknown, Rejected
from kernel.models import ExecType, OrdStatus
from kernel.order_spec import StandardOrder, TimeInForce
from kernel.venues import AmendDialect, AmendQuantity, Dedupe, ReadLag
from kernel.venues.paper.matching.config import full_symbols
from tests.paper_world import BUY, COIN, LAST, LOT, SELL, SYMBOL, USDT, Bench, limit, modify, recorded

IN_PLACE, CANCEL_REPLACE = AmendDialect.IN_PLACE, AmendDialect.CANCEL_REPLACE
NEAR = LAST - 100
"""A price that the tests' trades reach."""


def bench(amend: AmendDialect = IN_PLACE, **config: Any) -> Bench:
    """An engine that amends."""
    return Bench(amend=amend, **config)


def near(lots: int, **terms: Any) -> StandardOrder:
    """A buy order near the prices of the tests."""
    return limit(quantity=lots * LOT, price=NEAR, **terms)


# ------------------------------------------------------------------------------------------------------------- in place
def test_an_amend_in_place_keeps_the_venue_order() -> None:
    """The answer is REPLACED under the request's id with the new terms and the filled quantity, as on the stream."""
    at = bench()
    at.submit("a", near(100))
    at.tape(NEAR - 1, 30 * LOT)
    answer = at.modify("a", near(60), request_id="b")
    assert answer == at.reports[-1]
    assert (answer.exec_type, answer.client_order_id, answer.orig_client_order_id) == (ExecType.REPLACED, "b", "a")
    assert (answer.exchange_order_id, answer.ord_status) == ("1", OrdStatus.PARTIALLY_FILLED)
    assert (answer.order_qty, answer.cum_qty, answer.leaves_qty) == (60 * LOT, 30 * LOT, 30 * LOT)
    assert at.engine.balances()["USDT"].locked == NEAR * 30 * LOT // 100


def test_an_amended_order_is_found_and_canceled_by_each_of_its_names() -> None:
    """An amended order has the request's id; a query by an older id reports both; both ids stay in use."""
    at = bench()
    at.submit("a", near(100))
    at.modify("a", near(60), request_id="b")
    old, new = at.status("a"), at.status("b")
    assert (old.client_order_id, old.orig_client_order_id) == ("b", "a")
    assert (new.client_order_id, new.orig_client_order_id, new.exchange_order_id) == ("b", None, old.exchange_order_id)
    for name in "ab":
        with pytest.raises(OutcomeUnknown, match="Duplicate"):
            at.submit(name, near(10))
    report = at.cancel("a", request_id="c")
    assert (report.client_order_id, report.orig_client_order_id, report.exchange_order_id) == ("c", "b", "1")


@pytest.mark.parametrize(
    ("order", "first"),
    [(near(40), "a"), (near(101), "z"), (limit(quantity=40 * LOT, price=NEAR - 1), "z")],
    ids=["smaller", "larger", "cheaper"],
)
def test_only_a_reduced_order_keeps_its_place(order: StandardOrder, first: str) -> None:
    """An amended order keeps its place at a price only if its quantity was reduced."""
    at = bench()
    at.submit("a", near(100))
    at.submit("z", near(50))
    at.modify("a", order, request_id="b")
    at.tape(NEAR - 1, 10 * LOT)
    assert at.reports[-1].client_order_id == ("b" if first == "a" else "z")


def test_the_quantity_ahead_belongs_to_the_place() -> None:
    """The market's quantity ahead stays with the place and is counted again at another price."""
    at = bench()
    at.tape(NEAR, 5 * LOT)
    at.submit("a", near(100))
    at.tape(NEAR, 3 * LOT)
    at.modify("a", near(50), request_id="b")
    at.tape(NEAR, 3 * LOT)
    assert at.status("b").cum_qty == LOT
    at.modify("b", near(60), request_id="c")
    at.tape(NEAR, 11 * LOT)
    assert at.status("c").cum_qty == LOT


def test_a_lagging_query_shows_the_new_id_with_the_amend() -> None:
    """Until then it shows nothing under the new id, and the order has its old terms."""
    at = bench(read_lag=ReadLag(order_ns=NS_PER_S))
    at.submit("a", near(100))
    at.clock.forward(2)
    at.modify("a", near(60), request_id="b")
    assert at.engine.order(SYMBOL, "b", None) is None
    assert at.status("a").order_qty == 100 * LOT
    at.clock.forward(1)
    assert at.status("b").order_qty == 60 * LOT


def test_an_id_set_by_an_amend_is_deduplicated_from_the_amend_on() -> None:
    """The dedupe period starts with the amend, not with the order."""
    at = bench(dedupe_for_ns=60 * NS_PER_S)
    at.submit("a", near(100))
    at.clock.forward(100)
    at.modify("a", near(60), request_id="b")
    at.cancel("b")
    with pytest.raises(OutcomeUnknown):
        at.submit("b", near(100))
    at.submit("a", near(100))


def test_an_amend_that_crosses_trades() -> None:
    """A price that others offer trades at once, after the REPLACED report."""
    at = bench()
    at.engine.place_other(limit(SELL, quantity=20 * LOT, price=NEAR + 50))
    at.submit("a", near(100))
    at.new_reports()
    at.modify("a", limit(quantity=100 * LOT, price=NEAR + 50), request_id="b")
    assert at.new_reports() == [("a", "REPLACED"), ("b", "TRADE")]
    assert at.status("b").cum_qty == 20 * LOT


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (limit(quantity=100 * LOT + 1, price=NEAR), "-1013"),
        (limit(quantity=17 * COIN, price=NEAR), "-2010"),
        (limit(SELL, quantity=100 * LOT, price=NEAR), "-2038"),
        (near(100, symbol_id="ETHUSDT"), "-2038"),
        (near(100, time_in_force=TimeInForce.IOC), "-2038"),
        (near(100, post_only=True), "-2038"),
    ],
    ids=["lot", "funds", "side", "symbol", "time in force", "post-only"],
)
def test_a_refused_amend_changes_nothing(order: StandardOrder, code: str) -> None:
    """A refused amend is `Rejected`, and the order works unchanged."""
    at = bench()
    at.submit("a", near(100))
    before = at.engine.truth()
    with pytest.raises(Rejected) as caught:
        at.modify("a", order)
    assert caught.value.code == code
    assert at.engine.truth() == before
    assert at.kinds() == ["NEW"]


def test_a_post_only_order_is_not_amended_into_taking() -> None:
    """An amend of a post-only order to a crossing price is refused."""
    at = bench()
    at.engine.place_other(limit(SELL, quantity=20 * LOT, price=NEAR + 50))
    at.submit("a", near(100, post_only=True))
    with pytest.raises(Rejected, match="immediately match"):
        at.modify("a", limit(quantity=100 * LOT, price=NEAR + 50, post_only=True))
    assert at.status("a").price == NEAR


# ----------------------------------------------------------------------------------------------------------- both kinds
@pytest.mark.parametrize("dialect", [IN_PLACE, CANCEL_REPLACE])
def test_a_total_that_has_already_filled_ends_the_order(dialect: AmendDialect) -> None:
    """The report is CANCELED with the filled quantity."""
    at = bench(dialect)
    at.submit("a", near(100))
    at.tape(NEAR - 1, 30 * LOT)
    answer = at.modify("a", near(30), request_id="b")
    assert (answer.exec_type, answer.ord_status) == (ExecType.CANCELED, OrdStatus.CANCELED)
    assert (answer.client_order_id, answer.orig_client_order_id, answer.cum_qty) == ("b", "a", 30 * LOT)
    assert at.engine.open_orders() == ()


@pytest.mark.parametrize("dialect", [IN_PLACE, CANCEL_REPLACE])
@pytest.mark.parametrize(("meant", "working"), [(AmendQuantity.TOTAL, 30), (AmendQuantity.REMAINING, 50)])
def test_a_fill_during_an_amend(dialect: AmendDialect, meant: AmendQuantity, working: int) -> None:
    """A fill unknown to the client counts towards a total, and comes on top of a remaining quantity."""
    at = bench(dialect, amend_quantity=meant)
    at.submit("a", near(100))
    at.tape(NEAR - 1, 30 * LOT)
    answer = at.modify("a", near(60), request_id="b", cum_qty=10 * LOT)
    assert answer.leaves_qty == working * LOT
    assert sum(order["leaves_qty"] for order in at.engine.truth()["orders"]) == working * LOT


@pytest.mark.parametrize("dialect", [IN_PLACE, CANCEL_REPLACE])
def test_an_order_that_is_not_open_is_unknown(dialect: AmendDialect) -> None:
    """An amend of a missing, done or other symbol's order is -2011 (`OutcomeUnknown`); a used request id is a
    duplicate.
    """
    at = bench(dialect, dedupe=Dedupe.FOR_EVER)
    at.submit("a", near(100))
    at.submit("done", near(100))
    at.cancel("done")
    for target in ("nobody", "done"):
        with pytest.raises(OutcomeUnknown) as caught:
            at.modify(target, near(50))
        assert caught.value.code == "-2011"
    with pytest.raises(OutcomeUnknown) as caught:
        at.modify("a", near(50), request_id="done")
    assert (caught.value.code, caught.value.duplicate) == ("-2010", True)
    with pytest.raises(Rejected, match="recvWindow"):
        at.engine.modify(structs.replace(modify("a", near(50), at.clock), stamp_ns=0))


# ------------------------------------------------------------------------------------------------------- cancel-replace
def test_cancel_replace() -> None:
    """The old order is CANCELED with its final quantity; the new one has the request's id, the rest, and a new place."""
    at = bench(CANCEL_REPLACE)
    at.submit("a", near(100))
    at.tape(NEAR - 1, 30 * LOT)
    at.submit("z", near(10))
    answer = at.modify("a", near(60), request_id="b")
    canceled, new = at.reports[-2:]
    assert answer == new
    assert (canceled.exec_type, canceled.exchange_order_id, canceled.cum_qty) == (ExecType.CANCELED, "1", 30 * LOT)
    assert (canceled.client_order_id, canceled.orig_client_order_id) == ("b", "a")
    assert (new.exec_type, new.exchange_order_id) == (ExecType.NEW, "3")
    assert (new.client_order_id, new.orig_client_order_id) == ("b", "a")
    assert (new.order_qty, new.cum_qty, new.leaves_qty) == (30 * LOT, 0, 30 * LOT)
    at.tape(NEAR - 1, 10 * LOT)
    assert at.reports[-1].client_order_id == "z"


def test_funds_of_the_old_order_pay_for_the_new() -> None:
    """The new order can use the funds that the old one locked, and no more."""
    at = bench(CANCEL_REPLACE, balances={"USDT": NEAR * 100 * LOT // 100})
    at.submit("a", near(100))
    with pytest.raises(Rejected, match="insufficient"):
        at.modify("a", near(101), request_id="b")
    at.modify("a", near(100), request_id="b")
    assert at.free("USDT") == 0


REFUSED = [
    limit(quantity=60 * LOT + 1, price=NEAR),
    limit(quantity=60 * LOT, price=NEAR + 50, post_only=True),
    limit(quantity=17 * COIN, price=NEAR),
]


@pytest.mark.parametrize("order", REFUSED, ids=["lot", "post-only", "funds"])
def test_an_atomic_replace_that_is_refused_keeps_the_old_order(order: StandardOrder) -> None:
    """With `amend_atomic` a refused new order leaves the old one working."""
    at = bench(CANCEL_REPLACE)
    at.engine.place_other(limit(SELL, quantity=20 * LOT, price=NEAR + 50))
    at.submit("a", near(100))
    before = at.engine.truth()
    with pytest.raises(Rejected):
        at.modify("a", order, request_id="b")
    assert at.engine.truth() == before


@pytest.mark.parametrize("order", REFUSED, ids=["lot", "post-only", "funds"])
def test_a_non_atomic_replace_that_is_refused_cancels_the_old_order(order: StandardOrder) -> None:
    """The old order is canceled and reported before the new one is refused."""
    at = bench(CANCEL_REPLACE, amend_atomic=False)
    at.engine.place_other(limit(SELL, quantity=20 * LOT, price=NEAR + 50))
    at.submit("a", near(100))
    with pytest.raises(Rejected):
        at.modify("a", order, request_id="b")
    assert at.new_reports() == [("a", "NEW"), ("a", "CANCELED")]
    assert at.engine.open_orders() == ()
    assert at.free("USDT") == 1_000_000 * USDT


# ------------------------------------------------------------------------------------------------------------- recovery
@pytest.mark.parametrize("dialect", [IN_PLACE, CANCEL_REPLACE])
def test_the_journal_holds_amends(tmp_path: Path, dialect: AmendDialect) -> None:
    """After a restart orders have their terms, ids, places and locked funds, and can be amended again."""
    path = tmp_path / "journal"
    with recorded(path, amend=dialect) as at:
        at.submit("a", near(100))
        at.submit("z", near(10))
        at.tape(NEAR - 1, 30 * LOT)
        at.modify("a", near(60), request_id="b")
        truth, found = at.engine.truth(), at.status("b")
    with recorded(path, amend=dialect) as again:
        assert again.engine.truth() == truth
        assert again.status("b") == found
        again.modify("b", near(50), request_id="c")
        again.tape(NEAR - 1, 10 * LOT)
        assert again.reports[-1].client_order_id == ("c" if dialect is IN_PLACE else "z")


def test_a_full_day_in_both_dialects_is_the_same_each_time() -> None:
    """The same requests give the same reports, byte for byte."""

    def day(dialect: AmendDialect) -> list[str | None]:
        at = bench(dialect)
        at.submit("a", near(100))
        at.modify("a", near(80), request_id="b")
        at.tape(NEAR - 1, 30 * LOT)
        at.modify("b", limit(quantity=90 * LOT, price=LAST + 10_000), request_id="c")
        return [report.raw for report in at.reports]

    for dialect in (IN_PLACE, CANCEL_REPLACE):
        assert day(dialect) == day(dialect)


acts = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(1, 40), st.integers(-3, 3), st.sampled_from([BUY, SELL])),
        st.tuples(st.just("modify"), st.integers(1, 40), st.integers(-3, 3), st.integers(0, 30)),
        st.tuples(st.just("tape"), st.integers(1, 30), st.integers(-3, 3)),
        st.tuples(st.just("other"), st.integers(1, 30), st.integers(-3, 3), st.sampled_from([BUY, SELL])),
    ),
    max_size=25,
)


@given(acts, st.sampled_from([IN_PLACE, CANCEL_REPLACE]), st.sampled_from(AmendQuantity), st.booleans())
def test_the_books_balance(day: list[Any], dialect: AmendDialect, meant: AmendQuantity, atomic: bool) -> None:
    """Under any amends no balance is negative, reports add up to the order, and no funds stay locked without an order."""
    at = bench(dialect, amend_quantity=meant, amend_atomic=atomic, symbols=full_symbols(), ladder_levels=2,
               balances={"USDT": 2 * 10**9, "BTC": 30 * LOT})  # fmt: skip
    for number, (name, lots, away, *more) in enumerate(day):
        try:
            if name == "submit":
                at.submit(f"a{number}", limit(more[0], lots * 10 * LOT, LAST + away))
            elif name == "modify":
                shown = [report for report in at.engine.open_orders() if report.client_order_id]
                if shown:
                    picked = shown[more[0] % len(shown)]
                    order = limit(picked.side or BUY, lots * 10 * LOT, LAST + away)
                    at.modify(str(picked.client_order_id), order, request_id=f"m{number}", cum_qty=picked.cum_qty)
            elif name == "tape":
                at.tape(LAST + away, lots * 7 * LOT)
            else:
                at.engine.place_other(limit(more[0], lots * LOT, LAST + away))
        except (Rejected, OutcomeUnknown):
            continue
        assert all(balance.free >= 0 and balance.locked >= 0 for balance in at.engine.balances().values())
    for order in at.engine.truth()["orders"]:
        own = [report for report in at.reports if report.exchange_order_id == order["exchange_order_id"]]
        assert sum(report.last_qty or 0 for report in own) == order["cum_qty"] <= order["quantity"]
        assert (own[-1].cum_qty, own[-1].leaves_qty) == (order["cum_qty"], order["leaves_qty"])
        if order["leaves_qty"]:
            at.cancel(order["client_order_id"])
    assert all(balance.locked == 0 for balance in at.engine.balances().values())
