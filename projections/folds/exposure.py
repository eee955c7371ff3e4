"""Open risk by symbol, for the pre-trade limits and the locked balances. Folded by `State`.

An event only marks its intent. Its risk is computed at the next query, so a kernel without limits pays next to nothing,
and one with limits pays for what changed, never for what is live.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from kernel.lifecycle.record import Record
from kernel.limits import NOTHING, Exposure, OpenRisk, open_risks, working_risks
from kernel.order_spec import Side


class Exposures:
    """Open risk by intent, and its sums by symbol."""

    def __init__(self) -> None:
        self.last_prices: dict[str, int] = {}
        """Symbol to the price of its newest fill."""
        self._marked: dict[str, bool] = {}
        """Intents whose risk must be computed again, and whether they are live."""
        self._open_risks: dict[str, tuple[OpenRisk, ...]] = {}
        self._sums: dict[str, Exposure] = {}
        self._working: dict[str, tuple[OpenRisk, ...]] = {}
        """Of it, what was sent: it works or may work."""
        self._working_sums: dict[tuple[str, Side], OpenRisk] = {}

    def mark(self, intent_id: str, *, live: bool) -> None:
        """Mark a changed intent; one that is not `live` has no risk."""
        if live or intent_id in self._open_risks:
            self._marked[intent_id] = live
        else:
            self._marked.pop(intent_id, None)

    def evict(self, intent_id: str) -> None:
        """Remove a terminal intent."""
        assert intent_id not in self._open_risks or self._marked.get(intent_id) is False, (
            "a terminal intent has no risk"
        )
        self._replace(intent_id, (), ())
        self._marked.pop(intent_id, None)

    def of_symbol(self, symbol_id: str, *, position: int, record: Callable[[str], Record]) -> Exposure:
        """A symbol's exposure; `record` returns an intent's record with the quantity at risk."""
        self._update(record)
        known = self._sums.get(symbol_id, NOTHING)
        return replace(known, position=position, last_price=self.last_prices.get(symbol_id))

    def of_intent(self, intent_id: str, *, record: Callable[[str], Record]) -> tuple[OpenRisk, ...]:
        self._update(record)
        return self._open_risks.get(intent_id, ())

    def working(self, *, record: Callable[[str], Record]) -> list[OpenRisk]:
        """Return the orders that work or may work at the venue, by symbol and side."""
        self._update(record)
        return [*self._working_sums.values()]

    def _update(self, record: Callable[[str], Record]) -> None:
        for intent_id, live in self._marked.items():
            found = record(intent_id) if live else None
            self._replace(intent_id, *((), ()) if found is None else (open_risks(found), working_risks(found)))
        self._marked.clear()

    def _replace(self, intent_id: str, risks: tuple[OpenRisk, ...], working: tuple[OpenRisk, ...]) -> None:
        for risk in self._working.pop(intent_id, ()):
            self._add_working(risk.negative())
        for risk in working:
            self._add_working(risk)
        if working:
            self._working[intent_id] = working
        for risk in self._open_risks.pop(intent_id, ()):
            self._add(risk.negative(), -1)
        for risk in risks:
            self._add(risk, 1)
        if risks:
            self._open_risks[intent_id] = risks

    def _add_working(self, risk: OpenRisk) -> None:
        key = (risk.symbol_id, risk.side)
        total = self._working_sums.get(key)
        self._working_sums[key] = risk if total is None else total.plus(risk)
        if self._working_sums[key].quantity == 0:
            del self._working_sums[key]

    def _add(self, risk: OpenRisk, orders: int) -> None:
        total = self._sums.get(risk.symbol_id, NOTHING).plus(risk, orders=orders)
        self._sums[risk.symbol_id] = total
        if total == NOTHING:
            del self._sums[risk.symbol_id]
