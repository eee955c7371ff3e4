"""Rejection storms: equal rejections of different intents' orders in a symbol, counted for the circuit breaker.

Folded by `Fold`, with the thresholds that the newest leader recorded. It stops nothing itself: the fold halts the symbol
when a storm is detected, and lifts the halt when the finding is resolved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kernel import events
from kernel.clock import NS_PER_S
from kernel.lifecycle.record import Record
from kernel.models import AttemptKind, AttemptOutcome

RecentRejections = dict[str, dict[str, dict[str, int]]]
"""Symbol to reason to intent to the time (ns) of its last rejection, the oldest first."""


class Storms(msgspec.Struct):
    """Recent rejections by symbol and reason. Field names are stored in checkpoints."""

    rejections: int = 0
    """Intents that make a storm within `window_ns`; 0 disables detection."""
    window_ns: int = 0
    recent: RecentRejections = {}

    def start(self, settings: Mapping[str, Any]) -> None:
        """Take the settings of a new leader; logs of old kernels may lack them."""
        rejections, window_s = settings.get("storm_rejections"), settings.get("storm_window_s")
        self.rejections = self.window_ns = 0
        if isinstance(rejections, int) and isinstance(window_s, int | float):
            self.rejections, self.window_ns = rejections, round(window_s * NS_PER_S)

    def apply(self, before: Record, event: events.BaseEvent) -> tuple[str, str] | None:
        """Count an event of an intent; returns symbol and reason if that makes a storm."""
        if not self.rejections or not isinstance(event, REJECTIONS) or (found := rejection_of(before, event)) is None:
            return None
        symbol_id, reason = found
        intents = self.recent.setdefault(symbol_id, {}).setdefault(reason, {})
        intents.pop(before.intent_id, None)
        intents[before.intent_id] = event.recorded_at_ns
        self._expire(symbol_id, since_ns=event.recorded_at_ns - self.window_ns)
        return found if len(intents) >= self.rejections else None

    def _expire(self, symbol_id: str, *, since_ns: int) -> None:
        reasons = self.recent[symbol_id]
        for reason, intents in [*reasons.items()]:
            while intents and next(iter(intents.values())) < since_ns:
                del intents[next(iter(intents))]
            if not intents:
                del reasons[reason]

    def resolve(self, symbol_id: str) -> None:
        self.recent.pop(symbol_id, None)


REJECTIONS = (events.OrderRejected, events.AttemptFailed)


def rejection_of(before: Record, event: events.BaseEvent) -> tuple[str, str] | None:
    """Symbol and reason of a definitive rejection of an order, or None. The venue's code is preferred as the reason: its
    text may contain details of the one order."""
    match event:
        case events.OrderRejected():
            return event.symbol_id, event.text or ""
        case events.AttemptFailed(outcome=AttemptOutcome.REJECTED, retry_at_ns=None):
            sent = [item for item in before.attempts if item.position == event.attempt_position]
            if sent and sent[0].kind is AttemptKind.SUBMIT and before.sent_order is not None:
                return before.sent_order.symbol_id, event.code or event.text
    return None
