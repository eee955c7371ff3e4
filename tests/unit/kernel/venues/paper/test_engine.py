"""The paper exchange's engine: what it accepts and refuses, its books, and its journal."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from kernel.clock import NS_PER_S
from kernel.errors import IntegrityError, LogUnavailableError, NotFoundError, OutcomeUnknown, Rejected, ValidationError
from kernel.models import ExecType, Liquidity, OrdStatus
from kernel.order_spec import OrderType, StandardOrder, TimeInForce
from kernel.venues import Dedupe, ModifyRequest, ReadLag
from kernel.venues.base import Operation, RateLimit, RateLimitKind
from kernel.venues.paper.matching.journal import Journal
from kernel.venues.paper.matching.reports import frame
from tests.paper_world import (
    BUY,
    COIN,
    LAST,
    LOT,
    SELL,
    SYMBOL,
    USDT,
    Bench,
    HandClock,
    cancel,
    limit,
    market,
    recorded,
    submit,
)  # fmt: skip

IOC, FOK = TimeInForce.IOC, TimeInForce.FOK


def test_the_first_report_is_complete() -> None:
    """The answer is the NEW report with every field and its own text as `raw`."""
    bench = Bench()
    report = bench.submit("a", limit())
    assert report.raw is not None
    assert json.loads(report.raw) == frame(report)
    assert json.loads(report.raw) == {
        "exec_type": "NEW", "symbol_id": SYMBOL, "exec_id": "1", "side": "BUY", "client_order_id": "a",
        "exchange_order_id": "1", "ord_status": "NEW", "order_qty": COIN, "price": LAST - 100_000, "cum_qty": 0,
        "leaves_qty": COIN, "transact_time_ns": bench.clock.now_ns(),
        "order": {
            "symbol_id": SYMBOL, "side": "BUY", "order_type": "LIMIT", "quantity": COIN, "price": LAST - 100_000,
        },
    }  # fmt: skip
    assert bench.reports == [report]


def test_a_taker_trades_with_the_synthetic_depth() -> None:
    """Fills carry key, fee and liquidity, and add up; the fee is 10 bps of the received coins."""
    bench = Bench()
    assert bench.submit("a", market(quantity=COIN)).exec_type is ExecType.NEW
    fills = [report for report in bench.reports if report.exec_type is ExecType.TRADE]
    assert sum(fill.last_qty or 0 for fill in fills) == COIN
    assert [fill.fill_key for fill in fills] == [f"paper:BTCUSDT:1:{n}" for n in range(1, len(fills) + 1)]
    assert {fill.fee_asset for fill in fills} == {"BTC"}
    assert {fill.liquidity for fill in fills} == {Liquidity.TAKER}
    assert [fill.last_px for fill in fills] == sorted(fill.last_px or 0 for fill in fills)
    assert bench.status("a").ord_status is OrdStatus.FILLED
    fees = sum(fill.fee or 0 for fill in fills)
    cost = sum((fill.last_px or 0) * (fill.last_qty or 0) for fill in fills) // 100
    assert bench.free("BTC") == 100 * COIN + COIN - fees
    assert bench.free("USDT") == 1_000_000 * USDT - cost


def test_taken_depth_is_gone_until_the_tape_moves() -> None:
    """Two takers do not trade with the same quantity; the next trade of the tape brings new depth."""
    bench = Bench()
    bench.submit("a", market(quantity=COIN))
    first = {report.last_px for report in bench.reports if report.exec_type is ExecType.TRADE}
    bench.reports.clear()
    bench.submit("b", market(quantity=LOT))
    assert min(report.last_px or 0 for report in bench.reports if report.last_px) >= max(px or 0 for px in first)
    bench.tape(LAST, LOT)
    bench.reports.clear()
    bench.submit("c", market(quantity=LOT))
    assert bench.reports[1].last_px == min(px or 0 for px in first)


def test_one_seed_one_history() -> None:
    """The same requests with the same seed give the same reports, byte for byte."""

    def history() -> list[str | None]:
        bench = Bench()
        bench.submit("a", market(quantity=3 * COIN))
        bench.tape(LAST + 77, COIN)
        bench.submit("b", limit(SELL, price=LAST - 50))
        return [report.raw for report in bench.reports]

    assert history() == history()


def test_instants_strictly_increase_while_the_clock_stands_still() -> None:
    """`transact_time_ns` strictly increases over the whole exchange."""
    bench = Bench()
    for name in "abc":
        bench.submit(name, market(quantity=2 * COIN))
    times = [report.transact_time_ns or 0 for report in bench.reports]
    assert all(earlier < later for earlier, later in pairwise(times))


@pytest.mark.parametrize(
    ("order", "kinds"),
    [
        (limit(price=LAST, time_in_force=IOC), ["NEW", "EXPIRED"]),
        (limit(price=LAST, time_in_force=FOK), ["NEW", "EXPIRED"]),
        (limit(price=LAST, post_only=True), ["NEW"]),
        (limit(price=LAST), ["NEW"]),
    ],
    ids=["IOC", "FOK", "post-only", "GTC"],
)
def test_orders_without_a_counterparty(order: StandardOrder, kinds: list[str]) -> None:
    """IOC and FOK expire; GTC and post-only rest."""
    bench = Bench()
    bench.submit("a", order)
    assert bench.kinds() == kinds
    assert (bench.free("USDT") == 1_000_000 * USDT) == ("EXPIRED" in kinds)


def test_the_remainder_of_a_market_order_expires() -> None:
    """When the depth ends the remainder is EXPIRED, with the traded quantity."""
    bench = Bench(balances={"BTC": 1_000 * COIN})
    bench.submit("a", market(SELL, quantity=900 * COIN))
    last = bench.reports[-1]
    assert (last.exec_type, last.ord_status, last.leaves_qty) == (ExecType.EXPIRED, OrdStatus.EXPIRED, 0)
    assert 0 < (last.cum_qty or 0) < 900 * COIN


@pytest.mark.parametrize(
    ("order", "code", "word"),
    [
        (limit(symbol_id="DOGEUSDT"), "-1121", "symbol"),
        (limit(price=0), "-1013", "PRICE_FILTER"),
        (limit(price=100_000_001), "-1013", "PRICE_FILTER"),
        (limit(quantity=LOT + 1), "-1013", "LOT_SIZE"),
        (limit(quantity=LOT), "-1013", "NOTIONAL"),
        (limit(order_type=OrderType.STOP_LIMIT, stop_price=LAST), "-1116", "order_type"),
        (limit(time_in_force=TimeInForce.DAY), "-1115", "not DAY"),
        (limit(price=LAST + 1_000, post_only=True), "-2010", "immediately match"),
        (limit(quantity=17 * COIN), "-2010", "insufficient"),
        (limit(SELL, quantity=101 * COIN, price=LAST + 1_000), "-2010", "insufficient"),
        (market(SELL, quantity=101 * COIN), "-2010", "insufficient"),
    ],
)  # fmt: skip
def test_refusals(order: StandardOrder, code: str, word: str) -> None:
    """Each refusal has Binance's code and reason, and changes nothing."""
    bench = Bench()
    before = bench.engine.truth()
    with pytest.raises(Rejected, match=word) as caught:
        bench.submit("a", order)
    assert caught.value.code == code
    assert caught.value.retry_after_s is None
    assert bench.engine.truth() == before
    assert bench.reports == []


def test_every_violated_filter_is_named() -> None:
    """A refusal lists every violated filter."""
    with pytest.raises(Rejected) as caught:
        Bench().submit("a", limit(quantity=LOT + 1, price=0))
    assert all(name in caught.value.text for name in ("PRICE_FILTER", "LOT_SIZE", "NOTIONAL"))


def test_a_market_order_needs_its_cost() -> None:
    """A buyer without the funds is refused rather than filled in part."""
    with pytest.raises(Rejected, match="insufficient"):
        Bench(balances={"USDT": 100 * USDT}).submit("a", market(quantity=COIN))


def test_too_many_open_orders() -> None:
    """The 201st open order is refused."""
    bench = Bench()
    for number in range(200):
        bench.submit(f"a{number}", limit(quantity=LOT * 10))
    with pytest.raises(Rejected, match="MAX_NUM_ORDERS"):
        bench.submit("more", limit(quantity=LOT * 10))
    bench.cancel("a7")
    bench.submit("more", limit(quantity=LOT * 10))


@pytest.mark.parametrize("client_order_id", ["", "a" * 37, "white space", "ümlaut"])
def test_invalid_client_order_ids(client_order_id: str) -> None:
    """An id has 1 to 36 letters, digits, `-` and `_`."""
    with pytest.raises(Rejected) as caught:
        Bench().submit(client_order_id, limit())
    assert caught.value.code == "-1100"


def test_a_halted_symbol() -> None:
    """It refuses orders with a retry delay, accepts cancels, shows its status, and does not trade."""
    bench = Bench()
    bench.submit("a", limit(price=LAST))
    bench.engine.halt(SYMBOL)
    with pytest.raises(Rejected, match="closed") as caught:
        bench.submit("b", limit())
    assert caught.value.retry_after_s == 1.0
    bench.tape(LAST - 500, COIN)
    assert bench.kinds() == ["NEW"]
    bench.cancel("a")
    bench.engine.resume(SYMBOL)
    bench.submit("b", limit())
    with pytest.raises(NotFoundError):
        bench.engine.halt("DOGEUSDT")


def test_a_tick_can_change() -> None:
    """New prices must fit the new tick; resting orders stay, and invalid sizes change nothing."""
    bench = Bench()
    bench.submit("before", limit(price=LAST - 101))
    bench.engine.set_filters(SYMBOL, tick_size=50)
    with pytest.raises(Rejected, match="PRICE_FILTER"):
        bench.submit("off", limit(price=LAST - 101))
    bench.submit("on", limit(price=LAST - 100))
    assert len(bench.engine.open_orders()) == 2
    with pytest.raises(ValidationError, match="tick_size"):
        bench.engine.set_filters(SYMBOL, tick_size=0)
    with pytest.raises(NotFoundError):
        bench.engine.set_filters("DOGEUSDT", tick_size=1)


def test_the_rate_limit_names_the_retry_delay() -> None:
    """A burst up to the limit passes; the next call learns when it will pass."""
    bench = Bench(rate_limits=(RateLimit(kind=RateLimitKind.REQUEST_WEIGHT, window_ns=NS_PER_S, limit=5),))
    for _ in range(5):
        bench.engine.charge(Operation.ORDER)
        bench.clock.forward(0.1)
    with pytest.raises(Rejected) as caught:
        bench.engine.charge(Operation.ORDER)
    assert (caught.value.code, caught.value.rate_limit) == ("-1003", "REQUEST_WEIGHT")
    assert caught.value.retry_after_s == pytest.approx(0.5)
    bench.clock.forward(caught.value.retry_after_s or 0)
    bench.engine.charge(Operation.ORDER)


@pytest.mark.parametrize(
    ("age_s", "window_s", "taken"), [(5, 5, True), (5.001, 5, False), (999, None, True), (-2, 5, False)]
)
def test_the_request_window(age_s: float, window_s: int | None, taken: bool) -> None:
    """A late request and one stamped in the future are refused; without a window neither is."""
    bench = Bench(validity_window_ns=None if window_s is None else window_s * NS_PER_S)
    if taken:
        bench.submit("a", limit(), age_s=age_s)
        return
    with pytest.raises(Rejected) as caught:
        bench.submit("a", limit(), age_s=age_s)
    assert caught.value.code == "-1021"


def test_valid_until_takes_precedence() -> None:
    """`valid_until_ns` overrides stamp and window."""
    bench = Bench()
    request = submit("a", limit(), bench.clock)
    late = structs.replace(request, valid_until_ns=request.stamp_ns)
    bench.clock.forward(0.001)
    with pytest.raises(Rejected, match="recvWindow"):
        bench.engine.submit(late)


@pytest.mark.parametrize("dedupe", list(Dedupe))
def test_dedupe(dedupe: Dedupe) -> None:
    """A used id is refused never, while its order is open, or forever, as `OutcomeUnknown` with `duplicate`."""
    bench = Bench(dedupe=dedupe)

    def taken() -> bool:
        try:
            bench.submit("a", limit())
        except OutcomeUnknown as unknown:
            return unknown.code != "-2010" or not unknown.duplicate
        return True

    assert taken()
    assert taken() == (dedupe is Dedupe.NONE)
    bench.cancel("a")
    if dedupe is Dedupe.NONE:
        bench.cancel("a")
    assert taken() == (dedupe is not Dedupe.FOR_EVER)


def test_dedupe_for_a_time() -> None:
    """An id is refused while its order is open and for the period after its first use."""
    bench = Bench(dedupe_for_ns=60 * NS_PER_S)
    bench.submit("a", limit())
    bench.cancel("a")
    bench.clock.forward(60)
    with pytest.raises(OutcomeUnknown):
        bench.submit("a", limit())
    bench.clock.forward(1)
    bench.submit("a", limit())


def test_a_cancel_reports_the_order_and_the_request() -> None:
    """The report has both ids and the final quantity, and the funds are free again."""
    bench = Bench()
    bench.submit("a", limit())
    report = bench.cancel("a", request_id="c")
    assert (report.exec_type, report.ord_status) == (ExecType.CANCELED, OrdStatus.CANCELED)
    assert (report.client_order_id, report.orig_client_order_id, report.exchange_order_id) == ("c", "a", "1")
    assert (report.cum_qty, report.leaves_qty, report.order_qty) == (0, 0, COIN)
    assert bench.free("USDT") == 1_000_000 * USDT


def test_bare_cancel_reports() -> None:
    """Cancels on request can omit the filled quantity; the exchange's own cancels report it."""
    bench = Bench(cancel_reports_cum_qty=False)
    for name in "ab":
        bench.submit(name, limit())
    bare = bench.cancel("a")
    assert (bare.cum_qty, bare.leaves_qty, bare.ord_status) == (None, None, OrdStatus.CANCELED)
    bench.engine.cancel_order(client_order_id="b", text="maintenance")
    report = bench.reports[-1]
    assert (report.client_order_id, report.orig_client_order_id, report.text, report.cum_qty) == (
        "b",
        None,
        "maintenance",
        0,
    )


def test_cancels_of_orders_that_are_not_open() -> None:
    """Unknown, done, or another symbol's: `OutcomeUnknown` -2011. The venue's id takes precedence."""
    bench = Bench()
    bench.submit("a", limit())
    bench.submit("b", limit())
    for target, fields in (
        ("nobody", {}),
        ("a", {"symbol_id": "ETHUSDT"}),
        ("a", {"target_exchange_order_id": "99"}),
        ("a", {"target_exchange_order_id": "x"}),
    ):
        request = structs.replace(cancel(target, bench.clock), **fields)
        with pytest.raises(OutcomeUnknown) as caught:
            bench.engine.cancel(request)
        assert caught.value.code == "-2011"
    assert bench.cancel("a", target_exchange_order_id="2").orig_client_order_id == "b"
    with pytest.raises(OutcomeUnknown):
        bench.cancel("b")


def test_modify_without_an_amend_dialect() -> None:
    """A modify request is `Rejected`."""
    bench = Bench()
    bench.submit("a", limit())
    request = ModifyRequest(**structs.asdict(cancel("a", bench.clock)), order=limit(quantity=2 * COIN))
    with pytest.raises(Rejected, match="does not amend"):
        bench.engine.modify(request)
    with pytest.raises(Rejected, match="recvWindow"):
        bench.engine.modify(structs.replace(request, stamp_ns=0))


def test_the_tape_fills_behind_the_quantity_ahead() -> None:
    """The tape's volume of the last 60 s at a price is ahead of a new order; earlier orders fill first."""
    bench = Bench()
    bench.tape(LAST, 7 * LOT, at_s=-61)
    bench.tape(LAST, 5 * LOT, at_s=-60)
    bench.tape(LAST + 50, 1 * LOT, at_s=0)
    bench.submit("a", limit(quantity=10 * LOT, price=LAST))
    bench.submit("b", limit(quantity=10 * LOT, price=LAST))
    bench.tape(LAST, 3 * LOT)
    assert bench.status("a").cum_qty == 0
    bench.tape(LAST, 3 * LOT)
    assert bench.status("a").cum_qty == LOT
    bench.tape(LAST, 10 * LOT)
    assert (bench.status("a").cum_qty, bench.status("b").cum_qty) == (10 * LOT, LOT)
    bench.tape(LAST - 1, 5 * LOT)
    assert bench.status("b").cum_qty == 6 * LOT
    fills = [report for report in bench.reports if report.exec_type is ExecType.TRADE]
    assert {fill.liquidity for fill in fills} == {Liquidity.MAKER}
    assert {fill.last_px for fill in fills} == {LAST}


def test_other_accounts_trade_with_us_both_ways() -> None:
    """Other accounts' orders trade before the depth; the client's own orders never trade with each other."""
    bench = Bench()
    other = bench.engine.place_other(limit(SELL, quantity=3 * 10 * LOT, price=LAST + 5_000))
    bench.submit("a", limit(BUY, quantity=2 * 10 * LOT, price=LAST + 5_000))
    taken = bench.reports[-1]
    assert (taken.last_px, taken.liquidity) == (LAST + 5_000, Liquidity.TAKER)
    bench.engine.cancel_order(exchange_order_id=other)
    bench.submit("b", limit(SELL, quantity=2 * 10 * LOT, price=LAST + 40_000))
    bench.submit("c", limit(BUY, quantity=2 * 10 * LOT, price=LAST - 40_000))
    bench.engine.place_other(market(BUY, quantity=10 * LOT))
    made = bench.reports[-1]
    assert (made.client_order_id, made.liquidity) == ("b", Liquidity.MAKER)
    assert bench.status("c").cum_qty == 0
    with pytest.raises(Rejected):
        bench.engine.place_other(limit(BUY, price=LAST + 40_000, quantity=10 * LOT, post_only=True))
    with pytest.raises(ValidationError):
        bench.engine.place_other(limit(), account="")
    with pytest.raises(NotFoundError):
        bench.engine.cancel_order(exchange_order_id=other)


def test_a_bust_reopens_a_filled_order() -> None:
    """The balances are restored, and the order works and can fill again."""
    bench = Bench()
    bench.submit("a", limit(quantity=10 * LOT, price=LAST))
    bench.tape(LAST - 1, 10 * LOT)
    assert bench.status("a").ord_status is OrdStatus.FILLED
    bench.engine.bust(1)
    bust = bench.reports[-1]
    assert (bust.exec_type, bust.ref_fill_key) == (ExecType.TRADE_CANCEL, "paper:BTCUSDT:1:1")
    assert bust.fill_key not in (None, bust.ref_fill_key)
    assert (bust.ord_status, bust.cum_qty, bust.leaves_qty) == (OrdStatus.NEW, 0, 10 * LOT)
    assert bench.engine.balances()["BTC"].total == 100 * COIN
    bench.tape(LAST - 1, 10 * LOT)
    assert bench.status("a").ord_status is OrdStatus.FILLED
    assert [report.exec_type for report in bench.engine.fills_since(0)] == [
        ExecType.TRADE,
        ExecType.TRADE_CANCEL,
        ExecType.TRADE,
    ]
    with pytest.raises(NotFoundError):
        bench.engine.bust(1)


def test_a_busted_market_order_expires() -> None:
    """An order that cannot rest expires when its trade is busted."""
    bench = Bench()
    bench.submit("a", market(quantity=LOT))
    bench.engine.bust(1)
    assert bench.kinds() == ["NEW", "TRADE", "TRADE_CANCEL", "EXPIRED"]
    assert bench.status("a").ord_status is OrdStatus.EXPIRED
    assert bench.free("BTC") == 100 * COIN
    assert bench.free("USDT") == 1_000_000 * USDT


def test_corrections_follow_each_other() -> None:
    """Each names the one it replaces; price, quantity, fee and balances follow; impossible values are refused."""
    bench = Bench()
    bench.submit("a", limit(quantity=10_000 * LOT, price=LAST))
    bench.tape(LAST - 1, 4_000 * LOT)
    bench.engine.correct(1, price=LAST - 100)
    first = bench.reports[-1]
    assert (first.exec_type, first.last_px, first.last_qty) == (ExecType.TRADE_CORRECT, LAST - 100, 4_000 * LOT)
    bench.engine.correct("1", quantity=2_000 * LOT)
    second = bench.reports[-1]
    assert second.ref_fill_key == first.fill_key
    assert (second.cum_qty, second.leaves_qty, second.fee) == (2_000 * LOT, 8_000 * LOT, 2 * LOT)
    bench.cancel("a")
    spent = (LAST - 100) * 2_000 * LOT // 100
    assert bench.free("USDT") == 1_000_000 * USDT - spent
    assert bench.free("BTC") == 100 * COIN + 1_998 * LOT
    for bad in (-1, 10_001 * LOT):
        with pytest.raises(ValidationError, match="must be from 0 to"):
            bench.engine.correct(1, quantity=bad)


def test_reads_lag_as_declared() -> None:
    """Each query shows exactly the state of its own lag ago."""
    lag = ReadLag(order_ns=1 * NS_PER_S, open_orders_ns=2 * NS_PER_S, trades_ns=3 * NS_PER_S)
    bench = Bench(read_lag=lag)
    bench.submit("a", limit(quantity=20 * LOT, price=LAST))
    bench.tape(LAST - 1, LOT)
    seen = []
    for _ in range(5):
        order = bench.engine.order(SYMBOL, "a", None)
        lists = (len(bench.engine.open_orders()), len(bench.engine.fills_since(0)))
        seen.append((order.cum_qty if order else None, *lists, bench.engine.balances()["USDT"].locked > 0))
        bench.clock.forward(1)
    assert seen[0] == (None, 0, 0, False)
    assert seen[2] == (LOT, 1, 0, True)
    assert seen[4] == (LOT, 1, 1, True)


def test_nothing_is_hidden_for_longer_than_the_lag() -> None:
    """Many changes at one instant of the clock are all visible when the lag is over."""
    bench = Bench(read_lag=ReadLag(order_ns=NS_PER_S, open_orders_ns=NS_PER_S, trades_ns=NS_PER_S))
    for number in range(20):
        bench.submit(f"a{number}", limit(quantity=10 * LOT))
    bench.clock.forward(1)
    assert bench.engine.order(SYMBOL, "a19", None) is not None
    assert len(bench.engine.open_orders()) == 20


def test_a_stale_query_shows_the_state_of_its_instant() -> None:
    """Orders and fills are shown as they were then."""
    bench = Bench()
    bench.submit("a", limit(quantity=20 * LOT, price=LAST))
    bench.clock.forward(10)
    bench.tape(LAST - 1, LOT)
    bench.cancel("a")
    (old,) = bench.engine.open_orders(stale_ns=5 * NS_PER_S)
    assert (old.ord_status, old.cum_qty, old.leaves_qty) == (OrdStatus.NEW, 0, 20 * LOT)
    assert bench.engine.fills_since(0, stale_ns=5 * NS_PER_S) == ()
    assert bench.engine.open_orders() == ()


def test_order_query() -> None:
    """It returns the newest order with an id; closed orders and the query itself only if declared."""
    bench = Bench()
    assert bench.engine.order(SYMBOL, "a", None) is None
    bench.submit("a", limit())
    bench.cancel("a")
    bench.submit("a", limit(quantity=2 * COIN))
    assert bench.status("a").order_qty == 2 * COIN
    assert bench.engine.order("ETHUSDT", "a", None) is None
    bench.cancel("a")
    assert bench.status("a").ord_status is OrdStatus.CANCELED
    bare = Bench(lookup_closed=False)
    bare.submit("a", limit())
    assert bare.status("a").exec_type is ExecType.ORDER_STATUS
    bare.cancel("a")
    assert bare.engine.order(SYMBOL, "a", None) is None
    with pytest.raises(OutcomeUnknown):
        Bench(lookup=False).engine.order(SYMBOL, "a", None)


def test_fills_since_an_instant() -> None:
    """The list starts with the first fill at or after the instant."""
    bench = Bench()
    bench.submit("a", market(quantity=LOT))
    bench.clock.forward(1)
    bench.submit("b", market(quantity=LOT))
    times = [report.transact_time_ns or 0 for report in bench.engine.fills_since(0)]
    assert len(bench.engine.fills_since(times[1])) == 1
    assert len(bench.engine.fills_since(times[1] + 1)) == 0


# -------------------------------------------------------------------------------------------------------- the journal
def a_day(bench: Bench) -> None:
    """Requests of every kind."""
    bench.submit("rests", limit(quantity=10 * LOT, price=LAST - 10))
    bench.submit("takes", market(quantity=3 * COIN))
    bench.submit("gone", limit())
    bench.cancel("gone")
    bench.submit("ioc", limit(price=LAST, time_in_force=IOC))
    bench.engine.place_other(limit(SELL, quantity=COIN, price=LAST + 9_000))
    bench.tape(LAST - 10, 4 * LOT)
    bench.tape(LAST - 11, 4 * LOT)
    bench.engine.correct(1, price=LAST)
    bench.engine.halt("ETHUSDT")
    bench.engine.set_filters("ETHUSDT", lot_size=7)


def test_the_journal_restores_everything(tmp_path: Path) -> None:
    """Orders, trades, balances, reported fills, ids, dedupe memory, halts and other accounts' orders."""
    path = tmp_path / "journal"
    with recorded(path) as bench:
        a_day(bench)
        truth, fills, reports = bench.engine.truth(), bench.engine.fills, len(bench.reports)
    with recorded(path, balances={"USDT": 1}) as again:
        assert again.engine.truth() == truth
        assert again.engine.fills == fills
        assert again.reports == []
        with pytest.raises(OutcomeUnknown):
            again.submit("rests", limit())
        report = again.submit("next", limit(BUY, quantity=LOT * 10, price=LAST + 9_000))
        assert report.exchange_order_id == "6"
        assert report.exec_id == str(reports + 2)
        assert again.reports[-1].last_px == LAST + 9_000
        symbol = again.engine.book.symbols["ETHUSDT"]
        assert (str(symbol.status), symbol.lot_size) == ("HALTED", 7)


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    """The state is that of the lines before, and the journal continues."""
    path = tmp_path / "journal"
    with recorded(path) as bench:
        bench.submit("a", limit())
        before = bench.engine.truth()
        whole = path.read_bytes()
        bench.submit("b", market(quantity=COIN))
    line = path.read_bytes()[len(whole) :]
    for cut in (1, len(line) // 2, len(line) - 1):
        path.write_bytes(whole + line[:cut])
        with recorded(path) as again:
            assert again.engine.truth() == before
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "bad",
    [
        b"{}",
        b"no json",
        b'[{"kind":"unknown"}]',
        b'[{"kind":"closed","at_ns":1,"exec_id":1,"order_id":77,"status":"CANCELED"}]',
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, bad: bytes) -> None:
    """An unreadable or contradictory line stops the start; nothing is repaired."""
    path = tmp_path / "journal"
    with recorded(path) as bench:
        bench.submit("a", limit())
        bench.submit("b", limit())
    lines = path.read_bytes().splitlines()
    lines[2] = bad
    content = b"\n".join(lines) + b"\n"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="line 3") as caught, recorded(path):
        pass
    assert caught.value.position == 3
    assert path.read_bytes() == content


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    """A second exchange on the same journal is refused, and so is an invalid path."""
    with recorded(tmp_path / "journal"), pytest.raises(LogUnavailableError, match="another process"):
        Journal(tmp_path / "journal")
    with pytest.raises(LogUnavailableError):
        Journal(tmp_path / "nowhere" / "journal")


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    """A request that cannot be journaled is `OutcomeUnknown` and did not happen, now and after a restart."""
    limits = pytest.importorskip("resource")
    path = tmp_path / "journal"
    with recorded(path) as bench:
        bench.submit("a", limit())
        truth, size = bench.engine.truth(), path.stat().st_size
        soft, hard = limits.getrlimit(limits.RLIMIT_FSIZE)
        limits.setrlimit(limits.RLIMIT_FSIZE, (size + 20, hard))
        try:
            with pytest.raises(OutcomeUnknown, match="journal"):
                bench.submit("b", limit())
        finally:
            limits.setrlimit(limits.RLIMIT_FSIZE, (soft, hard))
        assert bench.engine.truth() == truth
        assert path.stat().st_size == size
        bench.submit("c", limit())
        truth = bench.engine.truth()
    with recorded(path) as again:
        assert again.engine.truth() == truth


def test_without_a_journal_ids_start_at_the_clock() -> None:
    """Ids must be unique forever, and an exchange without a journal forgets those it used."""
    first = Bench(first_id=None)
    first.submit("a", limit())
    later = Bench(first_id=None, clock=HandClock(first.clock.now_ns() + NS_PER_S))
    later.submit("a", limit())
    assert int(first.reports[0].exchange_order_id or 0) < int(later.reports[0].exchange_order_id or 0)


# ------------------------------------------------------------------------------------------------ whatever comes
acts = st.one_of(
    st.tuples(
        st.just("submit"),
        st.sampled_from([BUY, SELL]),
        st.integers(1, 400_000),
        st.none() | st.integers(LAST - 300, LAST + 300),
        st.sampled_from([TimeInForce.GTC, IOC, FOK]),
    ),
    st.tuples(st.just("other"), st.sampled_from([BUY, SELL]), st.integers(1, 400_000), st.integers(LAST - 300, LAST + 300)),
    st.tuples(st.just("tape"), st.integers(LAST - 300, LAST + 300), st.integers(1, 300_000).map(lambda lots: lots * LOT)),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
)  # fmt: skip


def perform(bench: Bench, act: tuple[Any, ...], number: int) -> None:
    """Execute one action; the exchange may refuse it."""
    name, *terms = act
    try:
        if name == "submit":
            side, lots, price, tif = terms
            order = market(side, lots * LOT) if price is None else limit(side, lots * LOT, price, time_in_force=tif)
            bench.submit(f"a{number}", order)
        elif name == "other":
            side, lots, price = terms
            bench.engine.place_other(limit(side, lots * LOT, price))
        elif name == "tape":
            bench.tape(*terms)
        else:
            bench.cancel(f"a{terms[0]}")
    except (Rejected, OutcomeUnknown):
        return


@given(st.lists(acts, max_size=25))
def test_the_books_balance(day: list[tuple[Any, ...]]) -> None:
    """Balances are never negative, no funds are locked without an order, and fills explain balances and quantities."""
    bench = Bench(balances={"USDT": 200_000 * USDT, "BTC": 3 * COIN})
    for number, act in enumerate(day):
        perform(bench, act, number)
        assert all(balance.free >= 0 and balance.locked >= 0 for balance in bench.engine.balances().values())
    truth = bench.engine.truth()
    for order in truth["orders"]:
        filled = sum(
            trade["last_qty"] for trade in truth["trades"] if trade["client_order_id"] == order["client_order_id"]
        )
        assert filled == order["cum_qty"] <= order["quantity"]
    signed = [(1 if trade["side"] == "BUY" else -1, trade) for trade in truth["trades"]]
    coins = sum(sign * trade["last_qty"] - trade["fee"] * (sign > 0) for sign, trade in signed)
    money = sum(
        -sign * trade["last_qty"] * trade["last_px"] // 100 - trade["fee"] * (sign < 0) for sign, trade in signed
    )
    balances = bench.engine.balances()
    assert balances["BTC"].total == 3 * COIN + coins
    assert balances["USDT"].total == 200_000 * USDT + money
    for order in truth["orders"]:
        if order["leaves_qty"]:
            bench.cancel(order["client_order_id"])
    assert all(balance.locked == 0 for balance in bench.engine.balances().values())


@given(st.lists(st.integers(1, 3 * LOT), min_size=1, max_size=20))
def test_odd_quantities_are_rounded_once_an_order(quantities: list[int]) -> None:
    """Fractions of the smallest unit are rounded up per order, not per trade."""
    bench = Bench()
    bench.submit("a", limit(quantity=100 * LOT, price=LAST - 1))
    for quantity in quantities:
        bench.tape(LAST - 2, quantity)
    bench.cancel("a")
    filled = sum(trade["last_qty"] for trade in bench.engine.truth()["trades"])
    assert bench.free("USDT") == 1_000_000 * USDT - -(-filled * (LAST - 1) // 100)


@settings(max_examples=40, deadline=None)
@given(st.lists(acts, max_size=25))
def test_reports_add_up_to_the_order(day: list[tuple[Any, ...]]) -> None:
    """The sum of an order's reports equals the answer to an order query."""
    bench = Bench()
    for number, act in enumerate(day):
        perform(bench, act, number)
    for order in bench.engine.book.own_orders():
        own = [report for report in bench.reports if report.exchange_order_id == str(order.order_id)]
        assert own[0].exec_type is ExecType.NEW
        assert sum(report.last_qty or 0 for report in own) == order.cum_qty
        assert own[-1].ord_status is order.status
        assert (own[-1].cum_qty, own[-1].leaves_qty) == (order.cum_qty, order.leaves_qty)
