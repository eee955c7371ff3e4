"""Pauses, halts, rejection storms and quarantined symbols, folded from the log and read by the reconciler. Pure.

A pause stops all requests, a halt all but cancels, for all intents or a symbol; a storm stops a symbol's submits, a
quarantine all but its cancels, until the finding is resolved. The pause of a single intent is in its record. Status
queries always go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from kernel import events
from kernel.models import AttemptKind

NOT_PAUSED = "NOT_PAUSED"
"""The condition that nothing pauses all intents."""


class TradingHalt(NamedTuple):
    """A pause or halt of all intents or of a symbol."""

    cancels: bool
    """True if cancels are sent: it is a halt then."""
    by: str
    """Actor and reason."""


class TradingStatus(msgspec.Struct, frozen=True):
    """Everything that stops requests, except pauses of single intents."""

    every: TradingHalt | None = None
    """Pause or halt of all intents."""
    symbols: Mapping[str, TradingHalt] = {}
    """Symbol → pause or halt."""
    storms: Mapping[str, str] = {}
    """Symbol → the repeated rejection."""
    quarantined: Mapping[str, str] = {}
    """Symbol → why its data at the venue do not fit the log: only cancels are sent."""

    def halted(self, symbol_id: str) -> bool:
        """Return whether a halt covers a symbol: its cancels are sent then, whatever else is paused."""
        holds = (self.every, self.symbols.get(symbol_id))
        return any(halt is not None and halt.cancels for halt in holds)

    def missing(
        self, conditions: Iterable[str], *, symbol_id: str, kind: AttemptKind, intent_paused: bool
    ) -> tuple[str, ...]:
        """Return the missing conditions of a request: those of readiness, and its own."""
        if kind is AttemptKind.CANCEL and self.halted(symbol_id):
            return tuple(name for name in conditions if name != NOT_PAUSED)
        own = (
            ("INTENT_NOT_PAUSED", intent_paused),
            ("SYMBOL_NOT_PAUSED", symbol_id in self.symbols),
            ("NO_STORM", kind is AttemptKind.SUBMIT and symbol_id in self.storms),
            ("SYMBOL_NOT_QUARANTINED", kind is not AttemptKind.CANCEL and symbol_id in self.quarantined),
        )
        return (*conditions, *(name for name, stopped in own if stopped))

    def reason(self, symbol_id: str, kind: AttemptKind, *, intent_paused: bool) -> str:
        """Return what stops a request, in a few words; empty if nothing does."""
        held = self.every is not None or symbol_id in self.symbols or intent_paused
        if self.halted(symbol_id):
            return "" if kind is AttemptKind.CANCEL else "halted"
        if held:
            return "paused"
        if kind is not AttemptKind.CANCEL and symbol_id in self.quarantined:
            return "the symbol is quarantined"
        stormy = kind is AttemptKind.SUBMIT and symbol_id in self.storms
        return "the storm of rejections is not resolved" if stormy else ""

    @property
    def status(self) -> str:
        """Running, Paused or Halted, for all intents."""
        return "Running" if self.every is None else "Halted" if self.every.cancels else "Paused"

    def paused(self, event: events.Paused) -> TradingStatus:
        halt = TradingHalt(bool(event.cancels), f"{event.actor}: {event.reason}".removesuffix(": "))
        if event.symbol_id is None:
            return replace(self, every=halt)
        return replace(self, symbols={**self.symbols, event.symbol_id: halt})

    def stormy(self, symbol_id: str, reason: str) -> TradingStatus:
        return self if symbol_id in self.storms else replace(self, storms={**self.storms, symbol_id: reason})

    def calm(self, symbol_id: str) -> TradingStatus:
        return replace(self, storms={name: why for name, why in self.storms.items() if name != symbol_id})

    def quarantine(self, symbol_id: str, reason: str) -> TradingStatus:
        return replace(self, quarantined={**self.quarantined, symbol_id: reason})

    def release(self, symbol_id: str) -> TradingStatus:
        kept = {name: why for name, why in self.quarantined.items() if name != symbol_id}
        return replace(self, quarantined=kept)

    def resumed(self, event: events.Resumed) -> TradingStatus:
        """Return the status after a resume; a resume of all leaves pauses and halts of symbols."""
        if event.symbol_id is None:
            return replace(self, every=None)
        return replace(self, symbols={name: halt for name, halt in self.symbols.items() if name != event.symbol_id})
