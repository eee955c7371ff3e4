"""The matching rules: a table of examples, and properties that always hold."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.order_spec import Side, TimeInForce
from kernel.venues.paper.matching.config import built_in_symbols
from kernel.venues.paper.matching.matching_rules import (
    Ending,
    Execution,
    Incoming,
    Level,
    Match,
    Resting,
    crosses,
    fee_of,
    match,
    rescale,
    synthetic_depth,
)

BUY, SELL = Side.BUY, Side.SELL
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK


class Example(NamedTuple):
    """An incoming order, the book it meets, and the expected result."""

    name: str
    incoming: Incoming
    resting: list[Resting]
    ladder: list[Level]
    executions: list[tuple[int | None, int, int]]
    leaves: int
    ending: Ending
    ahead: dict[int, int] = {}  # noqa: RUF012 never changed


ASKS = [Resting(1, 100, 5), Resting(2, 100, 5), Resting(3, 101, 5)]
BIDS = [Resting(1, 100, 5), Resting(2, 100, 5), Resting(3, 99, 5)]
OFFERS = [Level(102, 5), Level(103, 5)]

EXAMPLES = [
    Example("nobody there: rests", Incoming(BUY, 4, 100), [], [], [], 4, Ending.RESTS),
    Example("below the best offer: rests", Incoming(BUY, 4, 99), ASKS, OFFERS, [], 4, Ending.RESTS),
    Example("at the offer, at the maker's price", Incoming(BUY, 4, 105), ASKS, [], [(1, 100, 4)], 0, Ending.FILLED),
    Example("price, then time", Incoming(BUY, 12, 101), ASKS, [], [(1, 100, 5), (2, 100, 5), (3, 101, 2)], 0,
            Ending.FILLED),
    Example("sellers meet the highest bid first", Incoming(SELL, 12, 99), BIDS, [], [(1, 100, 5), (2, 100, 5), (3, 99, 2)],
            0, Ending.FILLED),
    Example("limit reached: the rest rests", Incoming(BUY, 12, 100), ASKS, OFFERS, [(1, 100, 5), (2, 100, 5)], 2,
            Ending.RESTS),
    Example("orders first, then the ladder", Incoming(BUY, 17, 102), ASKS, OFFERS,
            [(1, 100, 5), (2, 100, 5), (3, 101, 5), (None, 102, 2)], 0, Ending.FILLED),
    Example("other accounts come before a better ladder", Incoming(BUY, 6, 110), [Resting(1, 105, 5)], [Level(102, 5)],
            [(1, 105, 5), (None, 102, 1)], 0, Ending.FILLED),
    Example("beyond the limit of an order the ladder is still met", Incoming(BUY, 3, 102), [Resting(1, 105, 5)],
            [Level(102, 5)], [(None, 102, 3)], 0, Ending.FILLED),
    Example("a market order takes what there is and expires", Incoming(BUY, 30), ASKS, OFFERS,
            [(1, 100, 5), (2, 100, 5), (3, 101, 5), (None, 102, 5), (None, 103, 5)], 5, Ending.EXPIRED),
    Example("a market order with nobody there", Incoming(SELL, 3), [], [], [], 3, Ending.EXPIRED),
    Example("IOC: the rest expires", Incoming(BUY, 12, 100, IOC), ASKS, [], [(1, 100, 5), (2, 100, 5)], 2, Ending.EXPIRED),
    Example("FOK: all of it", Incoming(BUY, 10, 100, FOK), ASKS, [], [(1, 100, 5), (2, 100, 5)], 0, Ending.FILLED),
    Example("FOK: or nothing", Incoming(BUY, 11, 100, FOK), ASKS, [], [], 11, Ending.EXPIRED),
    Example("FOK counts the ladder in", Incoming(BUY, 20, 102, FOK), ASKS, OFFERS,
            [(1, 100, 5), (2, 100, 5), (3, 101, 5), (None, 102, 5)], 0, Ending.FILLED),
    Example("post-only that would take is refused", Incoming(BUY, 1, 100, post_only=True), ASKS, [], [], 1, Ending.REFUSED),
    Example("post-only looks at the ladder too", Incoming(BUY, 1, 102, post_only=True), [], OFFERS, [], 1, Ending.REFUSED),
    Example("post-only that rests", Incoming(BUY, 1, 99, post_only=True), ASKS, OFFERS, [], 1, Ending.RESTS),
    Example("what is ahead of an order does not hide it from takers", Incoming(SELL, 2, 100), [Resting(1, 100, 5, 50)], [],
            [(1, 100, 2)], 0, Ending.FILLED),
    Example("tape through the price: filled at our price", Incoming(SELL, 9, 98, tape=True), [Resting(1, 100, 5, 50)], [],
            [(1, 100, 5)], 4, Ending.EXPIRED, {1: 0}),
    Example("tape above a bid: nothing", Incoming(SELL, 9, 101, tape=True), BIDS, [], [], 9, Ending.EXPIRED),
    Example("tape through an offer", Incoming(BUY, 3, 101, tape=True), [Resting(1, 100, 5, 7)], [], [(1, 100, 3)], 0,
            Ending.FILLED, {1: 0}),
    Example("tape at the price: first what is ahead", Incoming(SELL, 4, 100, tape=True), [Resting(1, 100, 5, 10)], [],
            [], 0, Ending.FILLED, {1: 6}),
    Example("tape at the price: then us", Incoming(SELL, 14, 100, tape=True), [Resting(1, 100, 5, 10)], [],
            [(1, 100, 4)], 0, Ending.FILLED, {1: 0}),
    Example("nothing ahead: at once", Incoming(SELL, 14, 100, tape=True), [Resting(1, 100, 5)], [],
            [(1, 100, 5)], 9, Ending.EXPIRED),
    Example("one tape trade is shared by price and time", Incoming(SELL, 12, 99, tape=True), BIDS, [],
            [(1, 100, 5), (2, 100, 5), (3, 99, 2)], 0, Ending.FILLED),
    Example("one queue seen from two places", Incoming(SELL, 16, 100, tape=True),
            [Resting(1, 100, 5, 4), Resting(2, 100, 5, 7)], [], [(1, 100, 5), (2, 100, 4)], 0, Ending.FILLED,
            {1: 0, 2: 0}),
    Example("what is ahead is taken once, whoever stands behind it", Incoming(SELL, 3, 100, tape=True),
            [Resting(1, 100, 5, 4), Resting(2, 100, 5, 7)], [], [], 0, Ending.FILLED, {1: 1, 2: 4}),
    Example("the tape never meets the ladder", Incoming(BUY, 3, 105, tape=True), [], OFFERS, [], 3, Ending.EXPIRED),
]  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example: Example) -> None:
    """Each example gives its expected result."""
    assert match(example.incoming, example.resting, example.ladder) == Match(
        tuple(Execution(*execution) for execution in example.executions), example.leaves, example.ending, example.ahead
    )


prices = st.integers(90, 110)
quantities = st.integers(1, 50)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Incoming, list[Resting], list[Level]]:
    """Any incoming order, with sorted resting orders and depth."""
    side = draw(st.sampled_from([BUY, SELL]))
    tape = draw(st.booleans())
    bound = draw(prices) if tape else draw(st.none() | prices)
    incoming = Incoming(
        side,
        draw(quantities),
        bound,
        draw(st.sampled_from([GTC, IOC, FOK])) if not tape else GTC,
        post_only=draw(st.booleans()) and not tape and bound is not None,
        tape=tape,
    )
    ahead = st.integers(0, 60)
    offers = draw(st.lists(st.tuples(prices, quantities, ahead), max_size=8))
    offers.sort(key=lambda offer: offer[0] if side is BUY else -offer[0])
    resting = [Resting(number, *offer) for number, offer in enumerate(offers)]
    levels = sorted({level[0]: Level(*level) for level in draw(st.lists(st.tuples(prices, quantities)))}.items())
    return incoming, resting, [level for _, level in (levels if side is BUY else reversed(levels))]


@given(situations())
def test_quantity_is_conserved(situation: tuple[Incoming, list[Resting], list[Level]]) -> None:
    """No order trades more than its open quantity."""
    incoming, resting, levels = situation
    result = match(incoming, resting, levels)
    traded = sum(execution.quantity for execution in result.executions)
    taken_ahead = max((order.ahead - result.ahead.get(order.order_id, order.ahead) for order in resting
                       if order.price == incoming.limit), default=0) if incoming.tape else 0  # fmt: skip
    assert traded + result.leaves + taken_ahead == incoming.quantity
    for order in resting:
        mine = [execution.quantity for execution in result.executions if execution.order_id == order.order_id]
        assert len(mine) <= 1
        assert all(0 < quantity <= order.leaves for quantity in mine)


@given(situations())
def test_price_time_priority_is_kept(situation: tuple[Incoming, list[Resting], list[Level]]) -> None:
    """No order trades while one before it, with nothing ahead, has an open quantity."""
    incoming, resting, levels = situation
    result = match(incoming, resting, levels)
    done = {execution.order_id: execution.quantity for execution in result.executions}
    for better, worse in pairwise(resting):
        if worse.order_id in done:
            assert done.get(better.order_id) == better.leaves
    if None in done:
        assert all(done.get(order.order_id) == order.leaves for order in resting if crosses(incoming, order.price))


@given(situations())
def test_every_trade_is_within_the_limit(situation: tuple[Incoming, list[Resting], list[Level]]) -> None:
    """No trade is worse than the limit, and each is at the price of the resting side."""
    incoming, resting, levels = situation
    at = {order.order_id: order.price for order in resting}
    for execution in match(incoming, resting, levels).executions:
        assert crosses(incoming, execution.price)
        if execution.order_id is not None:
            assert execution.price == at[execution.order_id]


@given(situations())
def test_endings_fit_the_terms(situation: tuple[Incoming, list[Resting], list[Level]]) -> None:
    """Only orders that may rest do; FOK trades in full or not at all; a refused post-only order trades nothing."""
    incoming, resting, levels = situation
    result = match(incoming, resting, levels)
    assert (result.leaves == 0) == (result.ending is Ending.FILLED)
    if result.ending is Ending.RESTS:
        assert incoming.limit is not None
        assert incoming.time_in_force is GTC
    if incoming.post_only:
        assert not result.executions
    if incoming.time_in_force is FOK and not incoming.post_only:
        assert not result.executions or result.leaves == 0


@given(st.integers(0, 10**30), st.integers(0, 18), st.integers(0, 18))
def test_rescaling_is_off_by_less_than_one(amount: int, decimals: int, to_decimals: int) -> None:
    """Rounding up and down enclose the exact value, and agree if it fits."""
    down = rescale(amount, decimals=decimals, to_decimals=to_decimals, up=False)
    upper = rescale(amount, decimals=decimals, to_decimals=to_decimals, up=True)
    scaled = amount * 10**to_decimals
    assert down * 10**decimals <= scaled <= upper * 10**decimals
    assert upper - down == (0 if scaled % 10**decimals == 0 else 1)


def test_fees_are_rounded_down() -> None:
    """10 bps of 100,000 is 100; of 999 it is 0."""
    assert fee_of(100_000, bps=10) == 100
    assert fee_of(999, bps=10) == 0


@given(st.integers(0, 2**32), st.integers(1_000, 99_000_000), st.sampled_from([BUY, SELL]))
def test_the_depth_is_seeded_and_within_the_filters(seed: int, last_price: int, side: Side) -> None:
    """The same seed gives the same 20 levels, best first, on ticks and lots."""
    symbol = built_in_symbols()[0]
    levels = list(synthetic_depth(symbol, side=side, last_price=last_price, levels=20, seed=str(seed)))
    assert levels == list(synthetic_depth(symbol, side=side, last_price=last_price, levels=20, seed=str(seed)))
    assert len(levels) == 20
    away = [level.price - last_price if side is SELL else last_price - level.price for level in levels]
    assert away == sorted(set(away))
    assert away[0] > 0
    assert all(level.quantity > 0 and level.quantity % symbol.lot_size == 0 for level in levels)


def test_the_depth_stays_within_the_price_range() -> None:
    """Near zero the bids end with the price range."""
    symbol = built_in_symbols()[0]
    assert [level.price for level in synthetic_depth(symbol, side=BUY, last_price=4, levels=20, seed="0")] == [3, 2, 1]


# --------------------------------------------------------------------------------------------------- icebergs and groups
def test_an_iceberg_goes_behind_at_its_price_only() -> None:
    """Its parts take turns at one price; worse prices follow when it is used up."""
    resting = [
        Resting(1, 100, leaves=50, shown=10, refill=20),
        Resting(2, 100, leaves=5),
        Resting(3, 101, leaves=5),
    ]
    found = match(Incoming(Side.BUY, 60), resting)
    assert [(each.order_id, each.quantity) for each in found.executions] == [
        (1, 10), (2, 5), (1, 20), (1, 20), (3, 5),
    ]  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(95, 105), st.integers(1, 30), st.integers(0, 9)), max_size=6),
    st.integers(1, 200),
    st.none() | st.integers(95, 105),
    st.booleans(),
)
def test_hidden_quantity_trades(
    orders: list[tuple[int, int, int]], quantity: int, limit: int | None, tape: bool
) -> None:
    """Displaying less changes the turns but not the total; at the tape's own price it trades less."""
    if tape and limit is None:
        return

    def volume(hides: bool) -> dict[int, int]:
        resting = [
            Resting(number, price, leaves, shown=min(part, leaves) if hides and part else None, refill=part)
            for number, (price, leaves, part) in enumerate(sorted(orders))
        ]
        found: dict[int, int] = {}
        for each in match(Incoming(Side.BUY, quantity, limit, tape=tape), resting).executions:
            found[each.price] = found.get(each.price, 0) + each.quantity
        return found

    hidden, plain = volume(hides=True), volume(hides=False)
    if tape and limit is not None:
        assert hidden.pop(limit, 0) <= plain.pop(limit, 0)
    assert hidden == plain


@given(
    st.lists(st.tuples(st.integers(95, 105), st.integers(1, 30)), min_size=1, max_size=6), st.booleans(), st.booleans()
)
def test_a_group_offers_no_more_than_its_largest(orders: list[tuple[int, int]], exclusive: bool, tape: bool) -> None:
    """Of exclusive orders one trades; other siblings together trade at most the largest quantity."""
    resting = [
        Resting(number, price, leaves, group=7, exclusive=exclusive)
        for number, (price, leaves) in enumerate(sorted(orders))
    ]
    found = match(Incoming(Side.BUY, 1_000, 106, tape=tape), resting)
    assert sum(each.quantity for each in found.executions) <= max(leaves for _, leaves in orders)
    if exclusive:
        assert len({each.order_id for each in found.executions}) == 1
