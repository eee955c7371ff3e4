"""The ledger: what fills come to in positions and balances, exactly, whatever is busted, corrected or late."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.lifecycle.order_facts import CumEvidence, OrderFacts, effective_trades
from kernel.lifecycle.trades import TradeEntry, Trades
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
    """The position that some trades come to."""
    position = OpenPosition()
    for trade in trades:
        position = booked(position, trade)
    return position


def opposite(trade: Booking) -> Booking:
    return Booking(trade.symbol_id, -trade.signed_quantity, trade.price, -trade.fee, trade.fee_asset)


# ----------------------------------------------------------------------------------------------------------- positions
@given(TRADES)
def test_a_position_is_the_sum_of_its_trades(trades: list[Booking]) -> None:
    """Quantity is the sum of signed quantities; realized profit less cost is exactly the cash that came in."""
    position = after(trades)
    assert position.quantity == sum(trade.signed_quantity for trade in trades)
    assert position.realized_pnl - position.cost == -sum(trade.signed_quantity * trade.price for trade in trades)


@given(TRADES)
def test_cost_belongs_to_what_is_open(trades: list[Booking]) -> None:
    """A flat position costs nothing, an open one has a cost of its own sign; the average is rounded down."""
    position = after(trades)
    if position.quantity == 0:
        assert position.cost == 0
        assert position_of_holding("S", position).avg_px is None
        return
    assert position.cost * position.quantity >= 0
    average = position_of_holding("S", position).avg_px
    assert average == abs(position.cost) // abs(position.quantity)


@given(TRADES)
def test_flat_again_costs_nothing(trades: list[Booking]) -> None:
    """Closing whatever is open, at any price, removes all cost: what was paid is all realized."""
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
    """Quantity, cost and realized profit by hand: grow, reduce, close, cross zero, both ways, with a rest of a division."""
    position = after([Booking("S", quantity, price) for quantity, price in trades])
    assert (position.quantity, position.cost, position.realized_pnl) == expected


@given(st.data())
def test_what_is_taken_back_leaves_nothing(data: st.DataObject) -> None:
    """Every trade booked and taken back, in any order: no quantity, no cost, no profit, no fee."""
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
    """Fees paid and received add up in each asset, apart from profit; a trade without a fee adds none."""
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
    fields["trades"] = Trades(trades)
    return OrderFacts(exchange_order_id=name, client_order_ids=("c1",), order=terms, **{**fields, **given})


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
def test_the_books_hold_what_counts_now(steps: list[tuple[OrderFacts, ...]]) -> None:
    """However facts came to be what they are (busts, corrections, a fee known late), the books come to the trades that
    count now: quantity, cash and fees."""
    position = OpenPosition()
    for before, now in zip([(), *steps], steps, strict=False):
        for booking in bookings(before, now):
            position = booked(position, booking)
    counted = [
        (facts.order.side, entry) for facts in steps[-1] for entry in effective_trades(facts.trades, facts.busts)
    ]
    signed = [(entry.quantity if side is Side.BUY else -entry.quantity, entry) for side, entry in counted]
    assert position.quantity == sum(quantity for quantity, _ in signed)
    assert position.realized_pnl - position.cost == -sum(quantity * entry.price for quantity, entry in signed)
    fees = {asset: sum(entry.fee or 0 for _, entry in signed if entry.fee_asset == asset) for asset in ("BNB", "USDT")}
    assert {asset: dict(position.fees).get(asset, 0) for asset in fees} == fees


def test_what_did_not_change_is_not_booked() -> None:
    """Only the difference that an event made is booked; the same facts again, or in another object, book nothing."""
    known = an_order(trades=(a_trade("t1", 30),))
    assert bookings((known,), (known,)) == []
    assert bookings((known,), (an_order(trades=known.trades, stopped=True),)) == []
    more = an_order(trades=(*known.trades, a_trade("t2", 5)))
    assert bookings((known,), (more,)) == [Booking("S", 5, 10)]


def test_a_bust_and_a_correction_are_booked_as_opposites() -> None:
    """A busted trade is taken out at its own price with its fee; a corrected one is replaced, what goes out first."""
    known = an_order(side=Side.SELL, trades=(a_trade("t1", 30, fee=2),))
    assert bookings((), (known,)) == [Booking("S", -30, 10), Booking("S", 0, 10, 2, "BNB")]
    busted = an_order(side=Side.SELL, trades=known.trades, busts=(("t1", 2),))
    assert bookings((known,), (busted,)) == [Booking("S", 30, 10), Booking("S", 0, 10, -2, "BNB")]
    corrected = an_order(side=Side.SELL, trades=(*known.trades, a_trade("k1", 20, price=11, ref="t1", fee=2)))
    assert bookings((known,), (corrected,))[:2] == [Booking("S", 30, 10), Booking("S", -20, 11)]


def test_a_fee_that_comes_late_realizes_nothing() -> None:
    """A fee that becomes known after its trade is booked alone: the trade is not sold and bought again."""
    first, second = a_trade("t1", 10, price=1), a_trade("t2", 1, price=100)
    known = an_order(trades=(first, second))
    paid = an_order(trades=(first, a_trade("t2", 1, price=100, fee=4)))
    late = bookings((known,), (paid,))
    assert late == [Booking("S", 0, 100, 4, "BNB")]
    position = after([*bookings((), (known,)), *late])
    assert (position.quantity, position.cost, position.realized_pnl, position.fees) == (11, 110, 0, (("BNB", 4),))


def test_an_inferred_quantity_is_in_no_book() -> None:
    """What evidence shows beyond known trades is never booked."""
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
    """Balances that moved as the paper exchange moves them (rounded in its favour at each trade) are no drift; what is
    beyond that rounding is, by about that much."""
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
    """An unexplained change is drift until the transfer behind it is known."""
    books = Books()
    books.observe(BTC=5)
    assert books.observe(BTC=9) == {"BTC": 4}
    books.ledger.transfer("BTC", 4, DECIMALS, at_ns=books.now)
    assert books.observe(BTC=9) == {}


def test_what_came_after_an_observation_began_is_no_drift() -> None:
    """A fill or a transfer booked after the look began may be in it or not: nothing is compared until a later look."""
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


def test_the_opening_balance_holds_what_came_before() -> None:
    """Fills before the first look are in it; one that came while it was taken puts the opening off to the next."""
    books = Books()
    books.trade(3, 10)
    assert books.observe(BTC=3, USDT=0, began=books.now) == {}
    assert books.ledger.opening is None
    assert books.observe(BTC=3, USDT=0) == {}
    books.trade(2, 0)
    assert books.observe(BTC=5, USDT=0) == {}
    assert books.observe(BTC=3, USDT=0) == {"BTC": -2}


def test_what_a_lagging_venue_may_not_show_yet_is_not_compared() -> None:
    """Where the account is shown as it was a while ago, nothing is opened or compared until what is booked is older."""
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
def test_others_trades_at_the_opening_open_the_books_anew(had: bool) -> None:
    """It can't be told whether the opening balance has a trade of while it was looked at, or of as long after as the venue
    may lag: either way there is no drift once the account was looked at again, and from then on there is what differs."""
    books = Books()
    books.now, books.ledger.lag_ns = 100, 3
    books.observe(BTC=5 if had else 0)
    assert books.ledger.opening is not None
    traded_ns = books.now + 2
    books.now += 10
    books.ledger.book_external(Booking("S", 5, 0), SYMBOL, DECIMALS, at_ns=books.now)
    books.ledger.mark_opening_provisional(traded_ns)
    books.now += 10
    assert books.observe(BTC=5) == {}
    assert books.observe(BTC=6) == {"BTC": 1}


def test_others_trades_after_the_opening_are_no_doubt() -> None:
    """Once the venue's lag is over, the opening balance has no trade in it that comes then."""
    books = Books()
    books.now, books.ledger.lag_ns = 100, 3
    books.observe(BTC=5)
    books.ledger.mark_opening_provisional(books.now + 3)
    assert books.observe(BTC=6) == {"BTC": 1}


def test_books_that_are_opened_anew_know_nothing_of_before() -> None:
    """What had been rounded, or moved in an asset or a symbol that was not known then, is in the new opening balance: it
    excuses nothing any more."""
    books = Books()
    books.observe(BTC=5, USDT=9, XYZ=5)
    books.trade(1, 1)  # of which the venue rounds the quote
    books.trade(1, 0, fee=1, asset="XYZ")
    books.trade(1, 0, symbol=None)
    books.ledger.mark_opening_provisional(0)
    assert books.observe(BTC=8, USDT=8, XYZ=4) == {}
    assert books.observe(BTC=8, USDT=9, XYZ=5) == {"USDT": 1, "XYZ": 1}


def test_an_asset_that_is_not_listed_is_none() -> None:
    """A venue that leaves an asset out has none of it: what should be there is missing, what went to zero is not."""
    books = Books()
    books.observe(BTC=5, USDT=7)
    assert books.observe(USDT=7) == {"BTC": -5}
    books.trade(-5, 0)
    assert books.observe(USDT=7) == {}


def test_an_unknown_scale_tells_no_drift() -> None:
    """An asset whose scale was not known when it moved, or a symbol that was not: no drift is claimed."""
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
