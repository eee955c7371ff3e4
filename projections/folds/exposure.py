"""What is at stake in each symbol, summed up: for the pre-trade limits.

Kept by `StatusRule`. An event only marks its intent; what that comes to is worked out when somebody asks, so a kernel
without limits pays next to nothing, and one with limits pays for what changed, never for what is live."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kernel.lifecycle import Record
from kernel.limits import NOTHING, Exposure, OpenRisk, open_risks


class Exposures:
    """Claims by intent, and their sums by symbol."""

    def __init__(self) -> None:
        self.last_prices: dict[str, int] = {}
        """Symbol → price of its newest fill."""
        self._marked: dict[str, bool] = {}
        """Intents whose claims are to be worked out anew, and whether they may come to anything."""
        self._open_risks: dict[str, tuple[OpenRisk, ...]] = {}
        self._sums: dict[str, Exposure] = {}

    def mark(self, intent_id: str, *, live: bool) -> None:
        """An intent changed; `live` says whether it may still come to anything."""
        if live or intent_id in self._open_risks:
            self._marked[intent_id] = live
        else:
            self._marked.pop(intent_id, None)

    def forget(self, intent_id: str) -> None:
        """An intent that is over is let go: it comes to nothing."""
        assert intent_id not in self._open_risks or self._marked.get(intent_id) is False, "what is over has no claims"
        self._work_out_one(intent_id, ())
        self._marked.pop(intent_id, None)

    def of_symbol(self, symbol_id: str, *, position: int, record: Callable[[str], Record]) -> Exposure:
        """What is at stake in a symbol."""
        self._work_out(record)
        known = self._sums.get(symbol_id, NOTHING)
        return replace(known, position=position, last_price=self.last_prices.get(symbol_id))

    def of_intent(self, intent_id: str, *, record: Callable[[str], Record]) -> tuple[OpenRisk, ...]:
        """What an intent may still come to."""
        self._work_out(record)
        return self._open_risks.get(intent_id, ())

    def _work_out(self, record: Callable[[str], Record]) -> None:
        for intent_id, live in self._marked.items():
            self._work_out_one(intent_id, open_risks(record(intent_id)) if live else ())
        self._marked.clear()

    def _work_out_one(self, intent_id: str, made: tuple[OpenRisk, ...]) -> None:
        for claim in self._open_risks.pop(intent_id, ()):
            self._add(claim.negative(), -1)
        for claim in made:
            self._add(claim, 1)
        if made:
            self._open_risks[intent_id] = made

    def _add(self, claim: OpenRisk, orders: int) -> None:
        changed = self._sums.get(claim.symbol_id, NOTHING).plus(claim, orders=orders)
        self._sums[claim.symbol_id] = changed
        if changed == NOTHING:
            del self._sums[claim.symbol_id]
