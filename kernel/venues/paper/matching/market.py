"""One symbol's market as shown by the tape: last price, recent volume by price, and synthetic depth.

The engine has one per symbol. In memory only: after a restart the market starts again with the tape.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from kernel.clock import NS_PER_S
from kernel.order_spec import Side, SymbolMetadata
from kernel.venues.paper.matching.config import TapeTrade
from kernel.venues.paper.matching.matching_rules import Level, synthetic_depth

AHEAD_WINDOW_NS = 60 * NS_PER_S
"""A new order queues behind the volume that the tape traded at its price in this period, in tape time."""


class PaperMarket:
    """The market around the exchange's accounts, in one symbol."""

    def __init__(self, metadata: SymbolMetadata, *, last_price: int, seed: int, levels: int) -> None:
        self.last_price = last_price
        self._metadata = metadata
        self._seed = seed
        self._levels = levels
        self._seen = 0
        self._recent: deque[TapeTrade] = deque()
        self._volume: dict[int, int] = {}
        self._depth: dict[Side, list[Level]] = {}

    def observe(self, trade: TapeTrade) -> None:
        """Record a trade of the tape: a new last price and new depth. A trade without quantity sets the price alone."""
        self._seen += 1
        self.last_price = trade.price
        self._depth.clear()
        if trade.quantity:
            self._recent.append(trade)
            self._volume[trade.price] = self._volume.get(trade.price, 0) + trade.quantity
        while self._recent and self._recent[0].time_ns < trade.time_ns - AHEAD_WINDOW_NS:
            self._forget(self._recent.popleft())

    def volume_at(self, price: int) -> int:
        return self._volume.get(price, 0)

    def offers(self, taker: Side) -> Sequence[Level]:
        """Return the depth for a taker's side, best first, less what was taken since the last trade of the tape."""
        if taker not in self._depth:
            self._depth[taker] = list(
                synthetic_depth(
                    self._metadata,
                    side=Side.SELL if taker is Side.BUY else Side.BUY,
                    last_price=self.last_price,
                    levels=self._levels,
                    seed=f"{self._seed}/{self._seen}",
                )
            )
        return self._depth[taker]

    def take(self, taker: Side, *, price: int, quantity: int) -> None:
        self._depth[taker] = [
            Level(level.price, level.quantity - quantity if level.price == price else level.quantity)
            for level in self.offers(taker)
            if level.price != price or level.quantity > quantity
        ]

    def _forget(self, trade: TapeTrade) -> None:
        left = self._volume[trade.price] - trade.quantity
        if left:
            self._volume[trade.price] = left
        else:
            del self._volume[trade.price]
