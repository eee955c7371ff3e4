"""The paper exchange against an independent backtest engine (backtrader, one bar a trade): which orders fill, how much,
when, and at what price.

The same seeded tape and the same order go through both. Quantities and instants have to be equal; each price by which the
two differ is one of these, and no other:

- `improved`: a trade of the tape through the price of a resting order. backtrader takes the bar's open for the order's
  price, as if the taker had come to it; at an exchange the resting order is there first, and trades at its own limit.
- `ladder`: an order that takes. backtrader trades at the tape's own price, as if the last trade could be repeated; here
  the market stands around it, so that a taker pays one step of the ladder.

And these differences are kept out of the tapes, each with a reason of its own:

- one queue: backtrader gives every order the whole volume of a bar; here a trade is shared in price-time priority. So each
  order is played alone, and `test_a_trade_is_shared_only_at_the_paper_exchange` shows the difference.
- what stood ahead: backtrader has no queue; an order here stands behind what the tape traded at its price in the last
  60 s. So trades are 61 s apart, and no order comes at the price of the last trade.
- the next bar: backtrader looks at an order from the next bar on (a MARKET order takes the close of the last one, and
  is filled a bar later). So no limit crosses the market when it comes.
- volume of a trigger: a taker's size there is bounded by the bar's volume, here by the ladder: neither bounds it.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest

from kernel.models import ExecType
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.venues.paper.matching.config import TapeTrade, full_symbols
from tests.paper_world import BUY, LAST, LOT, SELL, SYMBOL, Bench

STEP = 61
"""One step of the ladder at these prices."""
TRADES = 60
APART_S = 61
SEEDS = range(100)
START = datetime(2024, 8, 8)  # noqa: DTZ001 the other engine knows no time zones


class Fill(NamedTuple):
    """A fill in terms common to both engines."""

    trade: int
    """After how many trades of the tape."""
    lots: int
    price: int


class Case(NamedTuple):
    """One order and when it arrives."""

    order: StandardOrder
    after: int


def seeded_tape(chance: random.Random) -> list[tuple[int, int]]:
    """Prices and volumes (in lots) of a random walk."""
    found, price = [], LAST
    for _ in range(TRADES):
        price += chance.choice((-1, 1)) * chance.randint(1, 4 * STEP)
        found.append((price, chance.randint(40, 80)))
    return found


def random_case(chance: random.Random, kind: OrderType, tape: list[tuple[int, int]]) -> Case:
    """An order that arrives during the tape and does not trade on arrival, except a taker."""
    after = chance.randint(1, TRADES // 2)
    last = tape[after - 1][0]
    side = chance.choice((BUY, SELL))
    sign = 1 if side is BUY else -1
    away = chance.randint(1, 12 * STEP)
    rests = chance.random() < 0.5
    lots = chance.randint(10, 150) if kind is OrderType.LIMIT or (kind is OrderType.STOP_LIMIT and rests) else 20
    terms: dict[str, int] = {}
    if kind is OrderType.LIMIT:
        terms = {"price": last - sign * away}
    elif kind in (OrderType.STOP, OrderType.STOP_LIMIT):
        terms = {"stop_price": last + sign * away}
    if kind is OrderType.STOP_LIMIT:
        gap = -chance.randint(1, 6 * STEP) if rests else 20 * STEP
        terms["price"] = terms["stop_price"] + sign * gap
    order = StandardOrder(symbol_id=SYMBOL, side=side, order_type=kind, quantity=lots * LOT, **terms)
    return Case(order, after)


# ------------------------------------------------------------------------------------------------------------ the two
def paper_fills(tape: list[tuple[int, int]], cases: Iterable[Case]) -> list[list[Fill]]:
    """The fills of each order at the paper exchange."""
    bench = Bench(symbols=full_symbols(), ladder_levels=1)
    found: dict[str, list[Fill]] = {}
    coming = {case: f"order-{number}" for number, case in enumerate(cases)}
    for number, (price, lots) in enumerate(tape, start=1):
        begin = len(bench.reports)
        bench.clock.forward(APART_S)
        trade = TapeTrade(number, price, lots * LOT, bench.clock.now_ns(), buyer_is_maker=False)
        bench.engine.tape_trade(SYMBOL, trade)
        for case, name in coming.items():
            if case.after == number:
                found[name] = []
                bench.submit(name, case.order)
        for report in bench.reports[begin:]:
            if report.exec_type is ExecType.TRADE:
                fill = Fill(number, (report.last_qty or 0) // LOT, report.last_px or 0)
                found[str(report.client_order_id)].append(fill)
    return [found[name] for name in coming.values()]


def backtrader_fills(tape: list[tuple[int, int]], cases: Iterable[Case]) -> list[list[Fill]]:
    """The fills of each order in backtrader, with a bar of one price for each trade."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own are no matter of paper_fills
        import backtrader as bt
    kinds = {
        OrderType.MARKET: bt.Order.Market,
        OrderType.LIMIT: bt.Order.Limit,
        OrderType.STOP: bt.Order.Stop,
        OrderType.STOP_LIMIT: bt.Order.StopLimit,
    }
    played = list(cases)
    found: list[list[Fill]] = [[] for _ in played]

    class Tape(bt.feed.DataBase):  # type: ignore[misc]
        """The tape as bars."""

        def start(self) -> None:
            super().start()
            self.rest = iter(enumerate(tape))

        def _load(self) -> bool:
            bar = next(self.rest, None)
            if bar is None:
                return False
            number, (price, lots) = bar
            self.lines.datetime[0] = bt.date2num(START + timedelta(seconds=number * APART_S))
            for line in (self.lines.open, self.lines.high, self.lines.low, self.lines.close):
                line[0] = price
            self.lines.volume[0], self.lines.openinterest[0] = lots, 0
            return True

    class Player(bt.Strategy):  # type: ignore[misc]
        """Sends each order after its trade, and records its fills."""

        def next(self) -> None:
            for number, case in enumerate(played):
                if case.after == len(self):
                    send = self.buy if case.order.side is BUY else self.sell
                    stop, limit = case.order.stop_price, case.order.price
                    price, plimit = (limit, None) if stop is None else (stop, limit)
                    exectype, size = kinds[case.order.order_type], case.order.quantity // LOT
                    send(size=size, price=price, plimit=plimit, exectype=exectype, number=number)

        def notify_order(self, order: Any) -> None:
            if order.status in (order.Partial, order.Completed):
                bit = order.executed.exbits[-1]
                found[order.info["number"]].append(Fill(len(self), round(abs(bit.size)), round(bit.price)))

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(Tape())
    cerebro.addstrategy(Player)
    cerebro.broker.setcash(1e15)
    cerebro.broker.set_coc(True)
    cerebro.broker.set_filler(bt.fillers.FixedBarPerc(perc=100.0))
    cerebro.run()
    return found


# ------------------------------------------------------------------------------------------------------ the comparison
def price_difference(case: Case, tape: list[tuple[int, int]], here: Fill, there: Fill) -> str | None:
    """Return the reason for which two fills differ in price; empty if they agree, None if there is no reason."""
    if here.price == there.price:
        return ""
    sign = 1 if case.order.side is BUY else -1
    last = tape[here.trade - 1][0]
    if here.price == case.order.price and there.price == last and sign * (here.price - last) > 0:
        return "improved"
    if there.price == last and here.price == last + sign * STEP:
        return "ladder"
    return None


@pytest.mark.parametrize("kind", list(OrderType))
def test_one_order_fills_alike(kind: OrderType) -> None:
    """A hundred seeded orders of each kind fill alike; each difference in price has a reason, and each reason occurs."""
    names: dict[str, int] = {}
    filled = 0
    for seed in SEEDS:
        chance = random.Random(f"{seed}/{kind}")
        tape = seeded_tape(chance)
        case = random_case(chance, kind, tape)
        (here,), (there,) = paper_fills(tape, [case]), backtrader_fills(tape, [case])
        if kind is OrderType.MARKET:
            there = [fill._replace(trade=fill.trade - 1) for fill in there]  # reported with the next bar comes
        assert [fill[:2] for fill in here] == [fill[:2] for fill in there], f"seed {seed}: {case}"
        filled += bool(here)
        for pair in zip(here, there, strict=True):
            name = price_difference(case, tape, *pair)
            assert name is not None, f"seed {seed}: {case}: {pair}"
            names[name] = names.get(name, 0) + 1
    assert len(SEEDS) // 3 < filled, "the orders of this test trade"
    expected = {
        OrderType.MARKET: {"ladder"},
        OrderType.LIMIT: {"improved", ""},
        OrderType.STOP: {"ladder"},
        OrderType.STOP_LIMIT: {"improved", "ladder", ""},
    }
    assert {name for name, count in names.items() if count > 0} <= expected[kind]
    assert expected[kind] - {""} <= set(names)


def test_orders_that_do_not_meet_fill_alike_together() -> None:
    """Six orders fill alike on a tape whose every trade suffices for all of them."""
    for seed in range(20):
        chance = random.Random(f"together/{seed}")
        tape = [(price, 10_000) for price, _ in seeded_tape(chance)]
        cases = [random_case(chance, chance.choice((OrderType.LIMIT, OrderType.STOP_LIMIT)), tape) for _ in range(6)]
        here, there = paper_fills(tape, cases), backtrader_fills(tape, cases)
        assert [[fill[:2] for fill in fills] for fills in here] == [[fill[:2] for fill in fills] for fills in there]


def test_a_trade_is_shared_only_at_the_paper_exchange() -> None:
    """Two orders at one price share a trade that suffices for one of them."""
    order = StandardOrder(
        symbol_id=SYMBOL, side=Side.BUY, order_type=OrderType.LIMIT, quantity=30 * LOT, price=LAST - 100
    )
    cases = [Case(order, 1), Case(order, 2)]
    tape = [(LAST, 50), (LAST + 10, 50), (LAST - 200, 40)]
    assert paper_fills(tape, cases) == [[Fill(3, 30, LAST - 100)], [Fill(3, 10, LAST - 100)]]
    assert backtrader_fills(tape, cases) == [[Fill(3, 30, LAST - 200)], [Fill(3, 30, LAST - 200)]]
