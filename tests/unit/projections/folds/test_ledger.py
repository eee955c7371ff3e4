"""The ledger: exact positions and balances, whatever is busted, corrected or late."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.lifecycle.orders.order_facts import CumEvidence, OrderFacts, RareFacts, effective_trades
from kernel.lifecycle.orders.trades import TradeEntry, Trades, fees_of
from kernel.models import Balance
from kernel.order_spec import OrderType, Side, StandardOrder, SymbolMetadata
from kernel.venues.paper.matching.matching_rules import rescale
from projections.folds.ledger import Booking, Ledger, OpenPosition, booked, bookings, position_of_holding

SIDES = st.sampled_from(Side)
PRICES = st.integers(0, 10**7)
QUANTITIES = st.integers(1, 10**9)
TRADES = st.lists(
    st.builds(Booking, st.just("S"), QUANTITIES | QUANTITIES.map(lambda size: -size), PRICES), max_size=12
)


def after(trades: list[Booking]) -> OpenPosition:
    """The position after some trades."""
    position = OpenPosition()
    for trade in trades:
        position = booked(position, trade)
    return position


def opposite(trade: Booking) -> Booking:
    return Booking(trade.symbol_id, -trade.signed_quantity, trade.price, -trade.fee, trade.fee_asset)


# ----------------------------------------------------------------------------------------------------------- positions
@given(TRADES)
def test_a_position_is_the_sum_of_its_trades(trades: list[Booking]) -> None:
    """Quantity is the sum of signed quantities; realized profit less cost is exactly the cash received."""
    position = after(trades)
    assert position.quantity == sum(trade.signed_quantity for trade in trades)
    assert position.realized_pnl - position.cost == -sum(trade.signed_quantity * trade.price for trade in trades)


@given(TRADES)
def test_cost_belongs_to_the_open_quantity(trades: list[Booking]) -> None:
    """A flat position has no cost, an open one has a cost of its own sign; the average is rounded down."""
    position = after(trades)
    if position.quantity == 0:
        assert position.cost == 0
        assert position_of_holding("S", position).avg_px is None
        return
    assert position.cost * position.quantity >= 0
    average = position_of_holding("S", position).avg_px
    assert average == abs(position.cost) // abs(position.quantity)


@given(TRADES)
def test_a_closed_position_has_no_cost(trades: list[Booking]) -> None:
    """Closing at any price removes all cost: everything is realized."""
    position = after(trades)
    closed = booked(position, Booking("S", -position.quantity, 7))
    assert (closed.quantity, closed.cost) == (0, 0)
    assert closed.realized_pnl == position.realized_pnl - position.cost + 7 * position.quantity


@given(TRADES)
def test_long_and_short_mirror_each_other(trades: list[Booking]) -> None:
    """The same trades with sides swapped give the same figures with signs swapped, rounding included."""
    long, short = after(trades), after([opposite(trade) for trade in trades])
    assert (short.quantity, short.cost, short.realized_pnl) == (-long.quantity, -long.cost, -long.realized_pnl)


@pytest.mark.parametrize(
    ("trades", "expected"),
    [
        ([(10, 100)], (10, 1000, 0)),
        ([(10, 100), (10, 200)], (20, 3000, 0)),
        ([(10, 100), (-4, 150)], (6, 600, 200)),
        ([(10, 100), (-10, 90)], (0, 0, -100)),
        ([(10, 100), (-15, 90)], (-5, -450, -100)),
        ([(-10, 100), (4, 90)], (-6, -600, 40)),
        ([(-10, 100), (15, 90)], (5, 450, 100)),
        ([(2, 10), (1, 11), (-1, 20)], (2, 21, 10)),
        ([(-2, 10), (-1, 11), (1, 20)], (-2, -21, -10)),
        ([(5, 0), (-5, 3)], (0, 0, 15)),
    ],
)
def test_examples_of_positions(trades: list[tuple[int, int]], expected: tuple[int, int, int]) -> None:
    """Quantity, cost and realized profit by hand: grow, reduce, close, cross zero, both ways, with a remainder."""
    position = after([Booking("S", quantity, price) for quantity, price in trades])
    assert (position.quantity, position.cost, position.realized_pnl) == expected


@given(st.data())
def test_reversed_trades_leave_nothing(data: st.DataObject) -> None:
    """Every trade booked and reversed, in any order, leaves no quantity, cost, profit or fee."""
    made = data.draw(
        st.lists(
            st.builds(Booking, st.just("S"), QUANTITIES, PRICES, st.integers(-9, 9), st.sampled_from(["A", "B"])),
            max_size=6,
        )
    )
    position = after([*made, *data.draw(st.permutations([opposite(trade) for trade in made]))])
    assert (position.quantity, position.cost, position.realized_pnl) == (0, 0, 0)
    assert set(dict(position.fees).values()) <= {0}


def test_fees_are_kept_by_asset() -> None:
    """Fees paid and received add up in each asset, apart from profit."""
    trades = [
        Booking("S", 1, 10, 3, "BNB"),
        Booking("S", -1, 10, 2, "USDT"),
        Booking("S", 1, 10),
        Booking("S", 1, 10, -1, "BNB"),
    ]
    position = position_of_holding("S", after(trades))
    assert (position.fees, position.realized_pnl) == ({"BNB": 2, "USDT": 2}, 0)


# ------------------------------------------------------------------------------------------------------------ bookings
def an_order(name: str = "o1", *, side: Side = Side.BUY, trades: Iterable[TradeEntry] = (), **given: Any) -> OrderFacts:
    """An order as facts."""
    terms = StandardOrder(symbol_id="S", side=side, order_type=OrderType.LIMIT, quantity=100, price=10)
    fields: dict[str, Any] = {"quantity": 100, "price": 10, "generation": 1, "first_seen_ns": 1, "last_seen_ns": 1}
    fields |= {"trades": Trades(trades), "evidence": given.pop("evidence", ())}
    return OrderFacts(exchange_order_id=name, client_order_ids=("c1",), order=terms, **fields, rare=RareFacts(**given))


def a_trade(key: str, quantity: int, *, price: int = 10, ref: str | None = None, fee: int | None = None) -> TradeEntry:
    return TradeEntry(key, quantity, price, 1, ref, fee, "BNB" if fee is not None else None)


KEYS = st.sampled_from(["t1", "t2", "t3"])
ENTRIES = st.builds(
    TradeEntry,
    KEYS | st.sampled_from(["k1", "k2"]),
    st.integers(1, 50),
    st.integers(1, 9),
    st.integers(0, 9),
    st.none() | KEYS,
    st.none() | st.integers(-5, 5),
    st.sampled_from(["BNB", "USDT"]),
)
ORDERS = st.lists(
    st.builds(
        an_order,
        side=SIDES,
        trades=st.lists(ENTRIES, max_size=4, unique_by=lambda entry: entry.identity).map(tuple),
        busts=st.lists(st.tuples(KEYS, st.just(1)), max_size=2).map(tuple),
    ),
    max_size=2,
).map(tuple)


@given(st.lists(ORDERS, min_size=1, max_size=5))
def test_the_books_hold_the_counting_trades(steps: list[tuple[OrderFacts, ...]]) -> None:
    """After any busts, corrections and late fees the books hold the counting trades: quantity, cash and fees."""
    position = OpenPosition()
    for before, now in zip([(), *steps], steps, strict=False):
        for booking in bookings(before, now):
            position = booked(position, booking)
    counted = [
        (facts.order.side, entry) for facts in steps[-1] for entry in effective_trades(facts.trades, facts.rare.busts)
    ]
    signed = [(entry.quantity if side is Side.BUY else -entry.quantity, entry) for side, entry in counted]
    assert position.quantity == sum(quantity for quantity, _ in signed)
    assert position.realized_pnl - position.cost == -sum(quantity * entry.price for quantity, entry in signed)
    fees = {asset: sum((fees_of(entry) or {}).get(asset, 0) for _, entry in signed) for asset in ("BNB", "USDT")}
    assert {asset: dict(position.fees).get(asset, 0) for asset in fees} == fees


def test_unchanged_facts_book_nothing() -> None:
    """Only the difference that an event made is booked; equal facts in another object book nothing."""
    known = an_order(trades=(a_trade("t1", 30),))
    assert bookings((known,), (known,)) == []
    assert bookings((known,), (an_order(trades=known.trades, stopped=True),)) == []
    more = an_order(trades=(*known.trades, a_trade("t2", 5)))
    assert bookings((known,), (more,)) == [Booking("S", 5, 10)]


def test_a_bust_and_a_correction_are_booked_as_reversals() -> None:
    """A busted trade is reversed at its own price with its fee; a corrected one is reversed first, then booked."""
    known = an_order(side=Side.SELL, trades=(a_trade("t1", 30, fee=2),))
    assert bookings((), (known,)) == [Booking("S", -30, 10, 2, "BNB")]
    busted = an_order(side=Side.SELL, trades=known.trades, busts=(("t1", 2),))
    assert bookings((known,), (busted,)) == [Booking("S", 30, 10), Booking("S", 0, 10, -2, "BNB")]
    corrected = an_order(side=Side.SELL, trades=(*known.trades, a_trade("k1", 20, price=11, ref="t1", fee=2)))
    assert bookings((known,), (corrected,))[:2] == [Booking("S", 30, 10), Booking("S", -20, 11)]


def test_a_late_fee_realizes_nothing() -> None:
    """A fee that is reported after its trade is booked alone: the trade is not sold and bought again."""
    first, second = a_trade("t1", 10, price=1), a_trade("t2", 1, price=100)
    known = an_order(trades=(first, second))
    paid = an_order(trades=(first, a_trade("t2", 1, price=100, fee=4)))
    late = bookings((known,), (paid,))
    assert late == [Booking("S", 0, 100, 4, "BNB")]
    position = after([*bookings((), (known,)), *late])
    assert (position.quantity, position.cost, position.realized_pnl, position.fees) == (11, 110, 0, {"BNB": 4})


def test_an_inferred_quantity_is_not_booked() -> None:
    """A quantity beyond the known trades is never booked."""
    assert bookings((), (an_order(evidence=(CumEvidence(1, 50),), trades=(a_trade("t1", 30),)),)) == [
        Booking("S", 30, 10)
    ]


# ------------------------------------------------------------------------------------------------------------ balances
SYMBOL = SymbolMetadata(symbol_id="S", base_asset="BTC", quote_asset="USDT", price_decimals=2, quantity_decimals=8)
DECIMALS = {"BTC": 8, "USDT": 8, "BNB": 8}


def balances(**totals: int) -> dict[str, Balance]:
    return {asset: Balance(asset_id=asset, total=total, free=total) for asset, total in totals.items()}


class Books:
    """A ledger with a time of its own, one second a step."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.now = 1

    def trade(self, quantity: int, price: int, fee: int = 0, *, asset: str = "BNB", symbol: Any = SYMBOL) -> None:
        self.now += 1
        self.ledger.book(Booking("S", quantity, price, fee, asset), symbol, DECIMALS, at_ns=self.now)

    def observe(self, *, began: int | None = None, **totals: int) -> dict[str, int]:
        """The drift after an observation that began now, or earlier."""
        self.now += 1
        began = self.now if began is None else began
        self.ledger.observe(balances(**totals), began_ns=began, ended_ns=began)
        return self.ledger.drift


@given(
    opening=st.integers(0, 10**15),
    trades=st.lists(st.tuples(st.integers(-(10**9), 10**9).filter(bool), PRICES, st.integers(-100, 100)), max_size=8),
    off=st.integers(-(10**6), 10**6),
)
def test_opening_and_fills_explain_balances(opening: int, trades: list[tuple[int, int, int]], off: int) -> None:
    """Balances that follow the paper exchange's fills, rounding included, have no drift; a change beyond that has."""
    books = Books()
    assert books.observe(BTC=opening, USDT=opening, BNB=opening) == {}
    btc = usdt = bnb = opening
    for quantity, price, fee in trades:
        books.trade(quantity, price, fee)
        btc, bnb = btc + quantity, bnb - fee
        notional = abs(quantity) * price
        if quantity > 0:
            usdt -= rescale(notional, decimals=10, to_decimals=8, up=True)
        else:
            usdt += rescale(notional, decimals=10, to_decimals=8, up=False)
    assert books.observe(BTC=btc, USDT=usdt, BNB=bnb) == {}
    drift = books.observe(BTC=btc + off, USDT=usdt + off, BNB=bnb)
    assert drift.get("BTC", 0) == off
    assert abs(drift.get("USDT", 0) - off) <= 2 * len(trades)
    assert books.observe(BTC=btc, USDT=usdt, BNB=bnb) == {}


def test_a_transfer_explains_a_balance() -> None:
    """An unexplained change is drift until its transfer is known."""
    books = Books()
    books.observe(BTC=5)
    assert books.observe(BTC=9) == {"BTC": 4}
    books.ledger.transfer("BTC", 4, DECIMALS, at_ns=books.now)
    assert books.observe(BTC=9) == {}


def test_roundings_change_no_known_drift() -> None:
    """A drift is another one only if it changed by more than the venue rounds."""
    books = Books()
    books.observe(USDT=100)
    assert books.observe(USDT=90) == {"USDT": -10}
    for held in (89, 88, 87):
        books.trade(1, 1)  # of which the venue rounds the quote
        assert books.observe(USDT=held, BTC=90 - held) == {"USDT": -10}
    assert books.observe(USDT=80, BTC=3) == {"USDT": -19}


def test_changes_during_an_observation_are_no_drift() -> None:
    """Nothing is compared while a booking is newer than the begin of the observation."""
    books = Books()
    books.observe(BTC=5)
    began = books.now + 1
    books.trade(3, 0)
    assert books.observe(BTC=5, began=began) == books.observe(BTC=8, began=began) == {}
    assert books.observe(BTC=8) == {}
    assert books.observe(BTC=9) == {"BTC": 1}
    books.ledger.transfer("BTC", 1, DECIMALS, at_ns=books.now)
    assert books.observe(BTC=8, began=books.now) == {"BTC": 1}
    assert books.ledger.observed["BTC"].total == 8


def test_the_opening_balance_contains_earlier_fills() -> None:
    """Fills before the first observation are in it; one during it defers the opening to the next."""
    books = Books()
    books.trade(3, 10)
    assert books.observe(BTC=3, USDT=0, began=books.now) == {}
    assert books.ledger.opening is None
    assert books.observe(BTC=3, USDT=0) == {}
    books.trade(2, 0)
    assert books.observe(BTC=5, USDT=0) == {}
    assert books.observe(BTC=3, USDT=0) == {"BTC": -2}


def test_a_lagging_venue_is_compared_later() -> None:
    """If the account lags, nothing is opened or compared until the bookings are older than the lag."""
    books = Books()
    books.ledger.lag_ns = 3
    books.trade(3, 0)
    assert books.observe(BTC=0) == {}
    assert books.ledger.opening is None
    books.now += 3
    assert books.observe(BTC=3) == {}
    books.trade(2, 0)
    assert books.observe(BTC=3) == {}
    books.now += 3
    assert books.observe(BTC=4) == {"BTC": -1}


@pytest.mark.parametrize("had", [False, True])
def test_a_trade_at_the_opening_reported_later_is_no_drift(had: bool) -> None:
    """Whether or not the opening balance has a trade that is reported later, there is no drift; a real one is reported."""
    books = Books()
    books.now, books.ledger.lag_ns = 100, 3
    books.observe(BTC=5 if had else 0)
    assert books.ledger.opening is not None
    traded_ns = books.now + 2
    books.now += 10
    books.ledger.book(Booking("S", 5, 0), SYMBOL, DECIMALS, at_ns=books.now, venue_ns=traded_ns, external=True)
    books.now += 10
    assert books.observe(BTC=5) == {}
    assert books.observe(BTC=6) == {"BTC": 1}


def test_external_trades_after_the_opening_keep_the_books() -> None:
    """After the venue's lag the opening balance contains no later trade."""
    books = Books()
    books.now, books.ledger.lag_ns = 100, 3
    books.observe(BTC=5)
    later = books.now + 3
    books.ledger.book(Booking("S", 5, 0), SYMBOL, DECIMALS, at_ns=later, venue_ns=later, external=True)
    books.now = later + 10
    assert books.observe(BTC=5) == {"BTC": -5}


def test_the_opening_forgets_earlier_excuses() -> None:
    """Earlier roundings and unknown assets or symbols are in the opening balance, and excuse no drift."""
    books = Books()
    books.trade(1, 1)  # of which the venue rounds the quote
    books.trade(1, 0, fee=1, asset="XYZ")
    books.trade(1, 0, symbol=None)
    assert books.observe(BTC=8, USDT=8, XYZ=4) == {}
    assert books.observe(BTC=8, USDT=9, XYZ=5) == {"USDT": 1, "XYZ": 1}


def test_an_unlisted_asset_has_a_balance_of_zero() -> None:
    """A missing balance is drift if one is expected, and none if it went to zero."""
    books = Books()
    books.observe(BTC=5, USDT=7)
    assert books.observe(USDT=7) == {"BTC": -5}
    books.trade(-5, 0)
    assert books.observe(USDT=7) == {}


def test_an_unknown_scale_hides_the_drift() -> None:
    """No drift is reported for an asset or symbol that was unknown when it moved."""
    books = Books()
    books.observe(BTC=5, XYZ=5)
    books.trade(1, 0, fee=1, asset="XYZ")
    assert books.observe(BTC=6, XYZ=0) == {}
    assert books.observe(BTC=7, XYZ=0) == {"BTC": 1}
    strange = Books()
    strange.observe(BTC=5)
    strange.trade(1, 0, symbol=None)
    assert strange.observe(BTC=9) == {}
    assert strange.ledger.positions["S"].quantity == 1
