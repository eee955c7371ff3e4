"""Intents about which nothing is left to watch: which of them were heard of last, and are kept.

Kept by `StatusRule`. Memory holds what is live and the newest of what is over; what is let go is read back from the log
when something happens to it after all. What is let go is a function of the log, so that every fold lets go alike: it is
decided at certain positions only, whatever the batches were, by the positions of the intents' own events."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

HEAP_SLACK = 1_000
"""Entries that no longer hold are cleared when there are more of them than of those that do, and so many."""


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How much of what is over is kept. Folds of one log are alike only where this is."""

    intents_max: int = 10_000
    """Intents that are over and still held."""
    every_positions: int = 1_000
    """More are let go at each multiple of this position."""
    unpacked_max: int = 1_000
    """Records that are held as they are, and not as bytes (`records`); each takes some 10 kB, a packed one 2."""

    def end_of_part(self, position: int) -> int:
        """The next position after which something may be let go."""
        return -(-position // self.every_positions) * self.every_positions


class TerminalIndex:
    """Intents that are over, by the position of their newest event."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        """May have entries that no longer hold."""

    def note(self, intent_id: str, position: int) -> None:
        """One is over; its newest event has this position."""
        if self._positions.get(intent_id) != position:
            self._positions[intent_id] = position
            heapq.heappush(self._heap, (position, intent_id))
            if len(self._heap) > 2 * len(self._positions) + HEAP_SLACK:
                self._heap = [(at, name) for name, at in self._positions.items()]
                heapq.heapify(self._heap)

    def drop(self, intent_id: str) -> None:
        """One is not over any more, or is let go."""
        self._positions.pop(intent_id, None)

    def oldest_beyond(self, intents_max: int) -> str | None:
        """The one that was heard of longest ago, if there are more than so many."""
        if len(self._positions) <= intents_max:
            return None
        while True:
            position, intent_id = heapq.heappop(self._heap)
            if self._positions.get(intent_id) == position:
                return intent_id
