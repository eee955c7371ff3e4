"""What holds requests back, as the log says: pauses, halts and storms. Folded by `StatusRule`, asked by the reconciler.

A pause holds everything back, a halt everything but cancels, for all intents or for a symbol; a storm holds a symbol's
submits back until its finding is resolved. Pure values: an event makes a new one. What one intent is paused by is in its
record. Nothing here is about questions to the venue: those always go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kernel import events
from kernel.models import AttemptKind
from kernel.safety.readiness import NOT_PAUSED


class TradingHalt(NamedTuple):
    """A pause, or a halt, of many intents together."""

    cancels: bool
    """Whether cancels go out all the same: it is a halt then."""
    by: str
    """Who, and why."""


@dataclass(frozen=True, slots=True)
class TradingStatus:
    """All that holds requests back, but for the pauses of single intents."""

    every: TradingHalt | None = None
    """Of all intents."""
    symbols: Mapping[str, TradingHalt] = field(default_factory=dict)
    """By symbol."""
    storms: Mapping[str, str] = field(default_factory=dict)
    """Symbol → the rejection that kept coming back."""

    def halted(self, symbol_id: str) -> bool:
        """Whether a halt is on: then cancels in this symbol go out, whatever else is paused."""
        holds = (self.every, self.symbols.get(symbol_id))
        return any(halt is not None and halt.cancels for halt in holds)

    def missing(
        self, conditions: Iterable[str], *, symbol_id: str, kind: AttemptKind, intent_paused: bool
    ) -> tuple[str, ...]:
        """What a request waits for: the `conditions` of readiness that do not hold, and what holds back just this one."""
        if kind is AttemptKind.CANCEL and self.halted(symbol_id):
            return tuple(name for name in conditions if name != NOT_PAUSED)
        own = (
            ("INTENT_NOT_PAUSED", intent_paused),
            ("SYMBOL_NOT_PAUSED", symbol_id in self.symbols),
            ("NO_STORM", kind is AttemptKind.SUBMIT and symbol_id in self.storms),
        )
        return (*conditions, *(name for name, holds_back in own if holds_back))

    def reason(self, symbol_id: str, kind: AttemptKind, *, intent_paused: bool) -> str:
        """What holds a request back, in a few words; empty when nothing does."""
        held = self.every is not None or symbol_id in self.symbols or intent_paused
        if self.halted(symbol_id):
            return "" if kind is AttemptKind.CANCEL else "halted"
        if held:
            return "paused"
        stormy = kind is AttemptKind.SUBMIT and symbol_id in self.storms
        return "the storm of rejections is not resolved" if stormy else ""

    @property
    def status(self) -> str:
        """What is true of all intents together: Running, Paused or Halted."""
        return "Running" if self.every is None else "Halted" if self.every.cancels else "Paused"

    def paused(self, event: events.Paused) -> TradingStatus:
        """After a pause or a halt of all, or of a symbol."""
        halt = TradingHalt(bool(event.cancels), f"{event.actor}: {event.reason}".removesuffix(": "))
        if event.symbol_id is None:
            return replace(self, every=halt)
        return replace(self, symbols={**self.symbols, event.symbol_id: halt})

    def stormy(self, symbol_id: str, reason: str) -> TradingStatus:
        """After a storm of rejections began in a symbol; the same while one goes on."""
        return self if symbol_id in self.storms else replace(self, storms={**self.storms, symbol_id: reason})

    def calm(self, symbol_id: str) -> TradingStatus:
        """After the finding of a symbol's storm was resolved."""
        return replace(self, storms={name: why for name, why in self.storms.items() if name != symbol_id})

    def resumed(self, event: events.Resumed) -> TradingStatus:
        """After a resume of all, or of a symbol; a symbol that is held by itself stays so when all are resumed."""
        if event.symbol_id is None:
            return replace(self, every=None)
        return replace(self, symbols={name: halt for name, halt in self.symbols.items() if name != event.symbol_id})
