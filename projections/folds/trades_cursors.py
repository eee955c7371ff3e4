"""Up to when the log has every trade, by scope: the account, or single symbols at a venue that lists trades by symbol."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class TradesCursors(msgspec.Struct):
    """The cursors of the trades query. They move only by complete answers, each for what was asked."""

    account_ns: int | None = None
    symbols: dict[str, int] = {}
    """Symbol → cursor, where an answer was about single symbols."""
    evicted: dict[str, None] = {}
    """Symbols without an intent in memory whose cursor has not moved since: their trades may come late."""

    def move(self, cursor_ns: int, symbols: Iterable[str] | None) -> None:
        if symbols is None:
            self.account_ns = max(self.account_ns or 0, cursor_ns)
            self.evicted.clear()
            return
        for symbol_id in symbols:
            self.symbols[symbol_id] = max(self.symbols.get(symbol_id, 0), cursor_ns)
            self.evicted.pop(symbol_id, None)

    def of(self, symbol_id: str) -> int | None:
        """Return the cursor that holds for a symbol; None before the first complete answer about it."""
        known = [item for item in (self.account_ns, self.symbols.get(symbol_id)) if item is not None]
        return max(known, default=None)
