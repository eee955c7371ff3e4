"""The matching rules of the paper exchange: one pure function, and the integer arithmetic of fees and of the ladder.

Called by `paper_engine` alone. `match` is the only place that decides who trades with whom, at which price, how much, and
what becomes of the rest. No state, no clock; the ladder's chance comes from a seed that is passed in.

The rules, in order:
1. Resting orders trade in price-time priority (the caller hands them over in it), at their own price.
2. A taker meets the orders of other accounts first, then the ladder, each as far as its limit allows.
3. FOK trades whole or not at all. Post-only is refused when it would trade at all.
4. What is left of a GTC LIMIT rests; what is left of MARKET, IOC and FOK expires.
5. A trade of the tape through a resting price fills it, whoever the tape says was the aggressor. At the resting price it
   first takes the quantity that stood ahead of the order, then the order; never more in all than its own quantity.
6. An iceberg trades what it shows; its next part stands behind all others at its price, and behind the market's there.
7. Of orders of one group, what one has traded the others no longer offer; where the group is exclusive, they offer nothing.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby

from kernel.order_spec import Side, SymbolMetadata, TimeInForce

BPS = 10_000
LEVEL_NOTIONAL_MIN = 1_000
"""Least size of a ladder level, in whole units of the quote asset."""
LEVEL_NOTIONAL_MAX = 30_000
"""Greatest size of a ladder level, in whole units of the quote asset."""
LEVEL_STEP_PARTS = 100_000
"""Ladder levels are this part of the price apart, and at least one tick."""


class Ending(StrEnum):
    """What becomes of an incoming order after matching."""

    FILLED = "FILLED"
    RESTS = "RESTS"
    EXPIRED = "EXPIRED"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Resting:
    """An order in the book."""

    order_id: int
    """Its id."""
    price: int
    """Its limit price."""
    leaves: int
    """What is open of it."""
    ahead: int = 0
    """The market's quantity ahead of it at its price; counts against the tape only."""
    shown: int | None = None
    """What it shows now, for an iceberg; none: all of it."""
    refill: int = 0
    """What an iceberg shows next."""
    group: int | None = None
    """The group within which its fills count for its siblings."""
    exclusive: bool = False
    """Whether a fill of one of the group leaves nothing of the others."""


@dataclass(frozen=True, slots=True)
class Level:
    """A price at which the market offers a quantity."""

    price: int
    quantity: int


@dataclass(frozen=True, slots=True)
class Incoming:
    """An order that arrives, or a trade of the tape."""

    side: Side
    """The side that it takes."""
    quantity: int
    """How much."""
    limit: int | None = None
    """The worst price; none for a market order."""
    time_in_force: TimeInForce = TimeInForce.GTC
    """What becomes of the rest (a market order never rests)."""
    post_only: bool = False
    """Refused rather than trade."""
    tape: bool = False
    """A trade of the tape: it meets what is ahead at its own price, and its rest is nobody's."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One trade of the incoming with a resting order, or with the ladder."""

    order_id: int | None
    """The resting order; none for the ladder."""
    price: int
    quantity: int


@dataclass(frozen=True, slots=True)
class Match:
    """What an incoming comes to."""

    executions: tuple[Execution, ...]
    """The trades, in order."""
    leaves: int
    """What is left of the incoming."""
    ending: Ending
    """What becomes of that."""
    ahead: dict[int, int] = field(default_factory=dict)
    """For each resting order whose quantity ahead changed: what it is now."""


def match(incoming: Incoming, resting: Iterable[Resting], ladder: Iterable[Level] = ()) -> Match:
    """Match an incoming against resting orders of the other side (best price first, then oldest), then the ladder."""
    assert incoming.quantity > 0, "an incoming has a quantity"
    if incoming.tape:
        return _match_tape(incoming, resting)
    executions: list[Execution] = []
    leaves, taken = incoming.quantity, _DepthTaken()
    for order, price, quantity in _offers(resting, ladder, taken):
        if leaves == 0:
            break
        if not crosses(incoming, price):
            continue
        if incoming.post_only:
            return Match((), incoming.quantity, Ending.REFUSED)
        traded = min(leaves, quantity)
        executions.append(Execution(order.order_id if order else None, price, traded))
        leaves -= traded
        taken.note(order, traded)
    if leaves and incoming.time_in_force is TimeInForce.FOK:
        return Match((), incoming.quantity, Ending.EXPIRED)
    return Match(tuple(executions), leaves, _ending(incoming, leaves))


class _DepthTaken:
    """What was traded in this match, by order and by group."""

    def __init__(self) -> None:
        self._orders: dict[int, int] = {}
        self._groups: dict[int, int] = {}

    def note(self, order: Resting | None, quantity: int) -> None:
        """Count a trade."""
        if order is not None:
            self._orders[order.order_id] = self._orders.get(order.order_id, 0) + quantity
            if order.group is not None:
                self._groups[order.group] = self._groups.get(order.group, 0) + quantity

    def left(self, order: Resting) -> int:
        """What an order still offers."""
        own = self._orders.get(order.order_id, 0)
        by_siblings = self._groups.get(order.group, 0) - own if order.group is not None else 0
        return 0 if by_siblings and order.exclusive else max(order.leaves - own - by_siblings, 0)

    def part(self, order: Resting) -> int:
        """What an order shows of that: at first what it shows now, then one part after the other."""
        first = order.leaves if order.shown is None else order.shown
        own = self._orders.get(order.order_id, 0)
        return min(first if own == 0 else order.refill or order.leaves, self.left(order))


def _queue(resting: Iterable[Resting], taken: _DepthTaken) -> Iterator[tuple[Resting, int]]:
    """Orders with what each offers, in the order of service: an iceberg comes again behind the others at its price."""
    for _, level in groupby(resting, key=lambda order: order.price):
        waiting = deque(level)
        while waiting:
            order = waiting.popleft()
            left = taken.left(order)
            if left:
                yield order, taken.part(order)
            if order.shown is not None and 0 < taken.left(order) < left:
                waiting.append(order)


def crosses(incoming: Incoming, price: int) -> bool:
    """Whether the incoming may trade at a price."""
    if incoming.limit is None:
        return True
    return price <= incoming.limit if incoming.side is Side.BUY else price >= incoming.limit


def _offers(
    resting: Iterable[Resting], ladder: Iterable[Level], taken: _DepthTaken
) -> Iterator[tuple[Resting | None, int, int]]:
    for order, part in _queue(resting, taken):
        yield order, order.price, part
    for level in ladder:
        yield None, level.price, level.quantity


def _ending(incoming: Incoming, leaves: int) -> Ending:
    if leaves == 0:
        return Ending.FILLED
    rests = incoming.limit is not None and incoming.time_in_force not in (TimeInForce.IOC, TimeInForce.FOK)
    return Ending.RESTS if rests else Ending.EXPIRED


def _match_tape(trade: Incoming, resting: Iterable[Resting]) -> Match:
    """The tape's trade against resting orders. Quantities ahead of several orders at one price are one queue seen from
    several places: what was taken ahead of the first is no longer ahead of the second."""
    executions: list[Execution] = []
    ahead: dict[int, int] = {}
    leaves, passed, taken, met = trade.quantity, 0, _DepthTaken(), set[int]()
    for order, part in _queue(resting, taken):
        if not crosses(trade, order.price):
            break
        at_price = order.price == trade.limit
        if order.order_id not in met:
            met.add(order.order_id)
            if at_price:
                ahead_now = min(leaves, max(order.ahead - passed, 0))
                passed, leaves = passed + ahead_now, leaves - ahead_now
            now_ahead = max(order.ahead - passed, 0) if at_price else 0
            if now_ahead != order.ahead:
                ahead[order.order_id] = now_ahead
        elif at_price:
            continue  # the next part of an iceberg stands behind this trade of the market
        traded = min(leaves, part)
        if traded:
            executions.append(Execution(order.order_id, order.price, traded))
            leaves -= traded
            taken.note(order, traded)
    return Match(tuple(executions), leaves, Ending.FILLED if leaves == 0 else Ending.EXPIRED, ahead)


def rescale(amount: int, *, decimals: int, to_decimals: int, up: bool) -> int:
    """An amount at one scale as an amount at another, rounded up or down where it does not fit."""
    if to_decimals >= decimals:
        return int(amount * 10 ** (to_decimals - decimals))
    divisor = int(10 ** (decimals - to_decimals))
    return -(-amount // divisor) if up else amount // divisor


def fee_of(received: int, *, bps: int) -> int:
    """The fee on what is received, in the same unit, rounded down."""
    return received * bps // BPS


def synthetic_depth(
    metadata: SymbolMetadata, *, side: Side, last_price: int, levels: int, seed: str
) -> Sequence[Level]:
    """The market's offers on one side (SELL: what a buyer meets) around the last trade price, best first."""
    chance = random.Random(f"{seed}/{metadata.symbol_id}/{side}")
    tick, lot = max(metadata.tick_size, 1), max(metadata.lot_size, 1)
    step = max(last_price // LEVEL_STEP_PARTS // tick, 1) * tick
    away = step if side is Side.SELL else -step
    unit = 10 ** (metadata.price_decimals + metadata.quantity_decimals)
    found = []
    for number in range(1, levels + 1):
        price = last_price + away * number
        notional = chance.randint(LEVEL_NOTIONAL_MIN, LEVEL_NOTIONAL_MAX) * unit
        if metadata.min_price <= price <= metadata.max_price and price > 0:
            found.append(Level(price, max(notional // price // lot, 1) * lot))
    return found
