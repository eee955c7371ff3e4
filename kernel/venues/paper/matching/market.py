"""One symbol's market as the tape shows it: last price, recent volume by price, and the seeded ladder.

Used by `paper_engine`, one per symbol. Held in memory only: after a restart the market begins again with the tape.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from kernel.clock import NS_PER_S
from kernel.order_spec import Side, SymbolMetadata
from kernel.venues.paper.matching.config import TapeTrade
from kernel.venues.paper.matching.matching_rules import Level, synthetic_depth

AHEAD_WINDOW_NS = 60 * NS_PER_S
"""An order stands behind what the tape traded at its price in this time before it came, in the tape's own time."""


class PaperMarket:
    """What the rest of the world does in one symbol."""

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
        """The tape has moved: a new last price, a new ladder. Without a quantity it is the price alone that is known."""
        self._seen += 1
        self.last_price = trade.price
        self._depth.clear()
        if trade.quantity:
            self._recent.append(trade)
            self._volume[trade.price] = self._volume.get(trade.price, 0) + trade.quantity
        while self._recent and self._recent[0].time_ns < trade.time_ns - AHEAD_WINDOW_NS:
            self._forget(self._recent.popleft())

    def volume_at(self, price: int) -> int:
        """What the tape traded at a price in the last 60 s."""
        return self._volume.get(price, 0)

    def offers(self, taker: Side) -> Sequence[Level]:
        """What a taker of a side meets on the ladder, best first, less what was taken since the tape last moved."""
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
        """Somebody took a quantity from the ladder."""
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
