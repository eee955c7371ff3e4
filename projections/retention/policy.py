"""Which terminal intents stay in memory. Used by `StateData`.

Live intents and the newest terminal ones stay; an evicted one is read back from the log when needed. Eviction happens at
fixed positions, by the positions of the intents' own events, so every fold of a log evicts the same, whatever the batches.
"""

from __future__ import annotations

import heapq

import msgspec

HEAP_SLACK = 1_000
"""The heap is rebuilt when it has this many stale entries more than valid ones."""


class RetentionPolicy(msgspec.Struct, frozen=True):
    """How much stays in memory. Folds of one log are equal only if they have the same policy."""

    intents_max: int = 10_000
    """Terminal intents in memory, at most."""
    every_positions: int = 1_000
    """Intents are evicted at each multiple of this position."""

    def next_eviction(self, position: int) -> int:
        """The first position from `position` on after which intents are evicted."""
        return -(-position // self.every_positions) * self.every_positions


class TerminalIndex:
    """Terminal intents by the position of their newest event."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        """May contain stale entries."""

    def add(self, intent_id: str, position: int) -> None:
        """Add an intent, or move it to the position of its newest event."""
        if self._positions.get(intent_id) != position:
            self._positions[intent_id] = position
            heapq.heappush(self._heap, (position, intent_id))
            if len(self._heap) > 2 * len(self._positions) + HEAP_SLACK:
                self._heap = [(at, name) for name, at in self._positions.items()]
                heapq.heapify(self._heap)

    def drop(self, intent_id: str) -> None:
        self._positions.pop(intent_id, None)

    def oldest_beyond(self, intents_max: int) -> str | None:
        """The intent with the oldest newest event if there are more than `intents_max`, else None."""
        if len(self._positions) <= intents_max:
            return None
        while True:
            position, intent_id = heapq.heappop(self._heap)
            if self._positions.get(intent_id) == position:
                return intent_id
