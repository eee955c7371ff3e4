"""Storms: so many equal rejections of different intents' orders in a symbol that it is better to stop and ask.

Fed by `StatusRule`, in the order of the log; how many in which time is what the newest kernel that led recorded. It
holds back nothing itself: the state closes a gate when a storm is told, and opens it when its finding is resolved."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from kernel import events
from kernel.lifecycle import Record
from kernel.models import AttemptKind, AttemptOutcome
from kernel.settings import ns

RecentRejections = dict[str, dict[str, dict[str, int]]]
"""Symbol → reason → intent → when it was last refused for it, the oldest first."""


class Storms:
    """The newest rejections by symbol and reason."""

    def __init__(self) -> None:
        self.rejections = 0
        """So many make a storm; 0: none ever does."""
        self.window_ns = 0
        """Within this time."""
        self._recent: RecentRejections = {}

    def start(self, settings: Mapping[str, Any]) -> None:
        """A kernel leads, with these settings; one from before there were storms has none."""
        rejections, window_s = settings.get("storm_rejections"), settings.get("storm_window_s")
        known = isinstance(rejections, int) and isinstance(window_s, int | float)
        self.rejections, self.window_ns = (rejections, ns(window_s)) if known else (0, 0)  # type: ignore[arg-type, assignment]

    def note(self, before: Record, event: events.BaseEvent) -> tuple[str, str] | None:
        """An event of an intent; the symbol and the reason of the storm that it completes."""
        if not self.rejections or not isinstance(event, REFUSALS) or (found := refusal_of(before, event)) is None:
            return None
        symbol_id, reason = found
        intents = self._recent.setdefault(symbol_id, {}).setdefault(reason, {})
        intents.pop(before.intent_id, None)
        intents[before.intent_id] = event.recorded_at_ns
        self._forget(symbol_id, since_ns=event.recorded_at_ns - self.window_ns)
        return found if len(intents) >= self.rejections else None

    def _forget(self, symbol_id: str, *, since_ns: int) -> None:
        reasons = self._recent[symbol_id]
        for reason, intents in [*reasons.items()]:
            while intents and next(iter(intents.values())) < since_ns:
                del intents[next(iter(intents))]
            if not intents:
                del reasons[reason]

    def resolve(self, symbol_id: str) -> None:
        """Begin anew in a symbol."""
        self._recent.pop(symbol_id, None)

    def recent(self) -> RecentRejections:
        """The newest rejections, copied."""
        return deepcopy(self._recent)

    def restore(self, rejections: int, window_ns: int, recent: RecentRejections) -> None:
        """Take over what another one had."""
        self.rejections, self.window_ns, self._recent = rejections, window_ns, recent

    def held(self) -> tuple[object, ...]:
        """Everything that is held, for a digest."""
        return self.rejections, self.window_ns, self._recent


REFUSALS = (events.OrderRejected, events.AttemptFailed)
"""Events that may be a definitive no to an order."""


def refusal_of(before: Record, event: events.BaseEvent) -> tuple[str, str] | None:
    """Symbol and reason of a definitive no to an order; None for anything else. The venue's code is the reason where there
    is one: its text may name what is of that order alone."""
    match event:
        case events.OrderRejected():
            return event.symbol_id, event.text or ""
        case events.AttemptFailed(outcome=AttemptOutcome.REJECTED, retry_at_ns=None):
            sent = [item for item in before.attempts if item.position == event.attempt_position]
            if sent and sent[0].kind is AttemptKind.SUBMIT and before.sent_order is not None:
                return before.sent_order.symbol_id, event.code or event.text
    return None
