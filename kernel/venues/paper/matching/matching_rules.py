"""The matching rules of the paper exchange: a pure function, and the integer arithmetic of fees and synthetic depth.

`match` alone decides who trades with whom, at which price and quantity, and how the remainder ends:

1. Resting orders trade in price-time priority (the caller sorts them), at their own price.
2. A taker trades with other accounts' orders first, then with the synthetic depth, as far as its limit allows.
3. FOK trades in full or not at all. A post-only order that would trade is refused.
4. The remainder of a GTC LIMIT order rests; that of MARKET, IOC and FOK orders expires.
5. A trade of the tape through a resting price fills the order, whichever side was the aggressor. At the resting price it
   first consumes the quantity ahead of the order; it never trades more than its own quantity in total.
6. An iceberg trades what it displays; its next part queues behind all others at its price, and behind the market's there.
7. In a group, what one order trades its siblings no longer offer; in an exclusive group they then offer nothing.
8. A reduce-only order never trades more than its account's position, counting what the account's other orders trade in
   the same match.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import groupby

import msgspec

from kernel.order_spec import Side, SymbolMetadata, TimeInForce

BPS = 10_000
LEVEL_NOTIONAL_MIN = 1_000
"""Least notional of a depth level, in whole units of the quote asset."""
LEVEL_NOTIONAL_MAX = 30_000
"""Greatest notional of a depth level, in whole units of the quote asset."""
LEVEL_STEP_PARTS = 100_000
"""Depth levels are this fraction of the price apart, and at least one tick."""


class Ending(StrEnum):
    FILLED = "FILLED"
    RESTS = "RESTS"
    EXPIRED = "EXPIRED"
    REFUSED = "REFUSED"


class Resting(msgspec.Struct, frozen=True):
    """An order in the book."""

    order_id: int
    price: int
    leaves: int
    """Open quantity."""
    ahead: int = 0
    """The market's quantity ahead of it at its price; counts against the tape only."""
    shown: int | None = None
    """Displayed quantity of an iceberg; None: all of it."""
    refill: int = 0
    """Quantity that an iceberg displays next."""
    group: int | None = None
    """Group in which its fills count against its siblings."""
    exclusive: bool = False
    """A fill of one order of the group leaves nothing of the others."""
    own: bool = False
    """It belongs to the client."""
    reducible: int | None = None
    """The client's position that a reduce-only order may close; None for other orders."""


class Level(msgspec.Struct, frozen=True):
    price: int
    quantity: int


class Incoming(msgspec.Struct, frozen=True):
    """An arriving order, or a trade of the tape."""

    side: Side
    quantity: int
    limit: int | None = None
    """Worst price; None for a market order."""
    time_in_force: TimeInForce = TimeInForce.GTC
    """Decides how the remainder ends (a market order never rests)."""
    post_only: bool = False
    """Refused if it would trade."""
    tape: bool = False
    """A trade of the tape: it consumes the quantity ahead at its own price, and its remainder is dropped."""


class Execution(msgspec.Struct, frozen=True):
    """A trade of the incoming order with a resting order or the synthetic depth."""

    order_id: int | None
    """The resting order; None for the synthetic depth."""
    price: int
    quantity: int


class Match(msgspec.Struct, frozen=True):
    """The result of matching."""

    executions: tuple[Execution, ...]
    """The trades, in order."""
    leaves: int
    """Remaining quantity of the incoming order."""
    ending: Ending
    """How the remainder ends."""
    ahead: dict[int, int] = {}
    """New quantity ahead, for each resting order where it changed."""


def match(incoming: Incoming, resting: Iterable[Resting], depth: Iterable[Level] = ()) -> Match:
    """Match an incoming order against resting orders of the other side (best price first, then oldest), then the depth."""
    assert incoming.quantity > 0, "an incoming order has a quantity"
    if incoming.tape:
        return _match_tape(incoming, resting)
    executions: list[Execution] = []
    leaves, taken = incoming.quantity, _DepthTaken()
    for order, price, quantity in _offers(resting, depth, taken):
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
    """Quantities traded in one match, by order and by group."""

    def __init__(self) -> None:
        self._orders: dict[int, int] = {}
        self._groups: dict[int, int] = {}
        self._own = 0

    def note(self, order: Resting | None, quantity: int) -> None:
        if order is not None:
            self._own += quantity if order.own else 0
            self._orders[order.order_id] = self._orders.get(order.order_id, 0) + quantity
            if order.group is not None:
                self._groups[order.group] = self._groups.get(order.group, 0) + quantity

    def left(self, order: Resting) -> int:
        """Return the quantity that an order still offers."""
        own = self._orders.get(order.order_id, 0)
        by_siblings = self._groups.get(order.group, 0) - own if order.group is not None else 0
        left = 0 if by_siblings and order.exclusive else max(order.leaves - own - by_siblings, 0)
        return left if order.reducible is None else min(left, max(order.reducible - self._own, 0))

    def part(self, order: Resting) -> int:
        """Return how much of that it displays: first its displayed quantity, then one refill after the other."""
        first = order.leaves if order.shown is None else order.shown
        own = self._orders.get(order.order_id, 0)
        return min(first if own == 0 else order.refill or order.leaves, self.left(order))


def _queue(resting: Iterable[Resting], taken: _DepthTaken) -> Iterator[tuple[Resting, int]]:
    """Yield orders with the quantity each offers, by priority; an iceberg queues again behind the others at its price."""
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
    """Return whether the incoming order may trade at a price."""
    if incoming.limit is None:
        return True
    return price <= incoming.limit if incoming.side is Side.BUY else price >= incoming.limit


def _offers(
    resting: Iterable[Resting], depth: Iterable[Level], taken: _DepthTaken
) -> Iterator[tuple[Resting | None, int, int]]:
    for order, part in _queue(resting, taken):
        yield order, order.price, part
    for level in depth:
        yield None, level.price, level.quantity


def _ending(incoming: Incoming, leaves: int) -> Ending:
    if leaves == 0:
        return Ending.FILLED
    rests = incoming.limit is not None and incoming.time_in_force not in (TimeInForce.IOC, TimeInForce.FOK)
    return Ending.RESTS if rests else Ending.EXPIRED


def _match_tape(trade: Incoming, resting: Iterable[Resting]) -> Match:
    """Match a trade of the tape. The quantities ahead of several orders at one price overlap: what was consumed ahead
    of the first order is no longer ahead of the second.
    """
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
            continue  # the next part of an iceberg queues behind this trade of the market
        traded = min(leaves, part)
        if traded:
            executions.append(Execution(order.order_id, order.price, traded))
            leaves -= traded
            taken.note(order, traded)
    return Match(tuple(executions), leaves, Ending.FILLED if leaves == 0 else Ending.EXPIRED, ahead)


def rescale(amount: int, *, decimals: int, to_decimals: int, up: bool) -> int:
    """Convert an amount between scales; round up or down if it does not fit."""
    if to_decimals >= decimals:
        return int(amount * 10 ** (to_decimals - decimals))
    divisor = int(10 ** (decimals - to_decimals))
    return -(-amount // divisor) if up else amount // divisor


def fee_of(received: int, *, bps: int) -> int:
    """Return the fee on a received amount, in the same unit, rounded down."""
    return received * bps // BPS


def synthetic_depth(
    metadata: SymbolMetadata, *, side: Side, last_price: int, levels: int, seed: str
) -> Sequence[Level]:
    """Return the market's offers on one side (SELL: those a buyer meets) around the last price, best first."""
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
