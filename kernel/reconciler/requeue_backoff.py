"""Requeue backoff by key and kind of action: doubling, with full jitter, in memory.

Used by the reconciler for status queries, cancels and failed runs; the backoff of a submit is in the log. Each kind of
action has its own backoff, so a recent query never delays a cancel. After a restart everything may be tried at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from kernel.actions import ActionKind
from kernel.clock import Clock, IdFactory
from kernel.settings import KernelSettings, ns

RARE_AFTER = 12
"""Status queries about one key in a row before they follow at the longest backoff."""


class Backoff(msgspec.Struct):
    """The backoff of one kind of action of one key."""

    tries: int = 0
    """Runs in a row without progress."""
    not_before_ns: int = 0


class KindBackoffs(msgspec.Struct):
    """The backoffs of one key, and the kind of action that ran last."""

    kinds: dict[ActionKind | None, Backoff] = {}
    current: ActionKind | None = None


@dataclass(eq=False)
class KeyBackoff:
    """The backoffs of all keys that have not converged."""

    clock: Clock
    ids: IdFactory
    settings: KernelSettings
    _keys: dict[str, KindBackoffs] = field(default_factory=dict, init=False)

    def begin(self, key: str, kind: ActionKind) -> int:
        """Note that a run reached this kind of action; return the instant before which it must wait."""
        known = self._keys.setdefault(key, KindBackoffs())
        known.current = kind
        held_until_ns = known.kinds[kind].not_before_ns if kind in known.kinds else 0
        # It is later than any delay only if the clock was set back since.
        longest_s = 2 * max(self.settings.backoff_s_max, self.settings.settle_backoff_s_max)
        return held_until_ns if held_until_ns <= self.clock.now_ns() + ns(longest_s) else 0

    def record_failure(self, key: str) -> int:
        """Note that the run made no progress; return when the same kind of action may run again."""
        known = self._keys.setdefault(key, KindBackoffs())
        backoff = known.kinds.setdefault(known.current, Backoff())
        backoff.tries += 1
        shortest_s = self.settings.backoff_s_min
        # A question that stays open for long is asked ever more rarely.
        rare = known.current is ActionKind.ASK and backoff.tries > RARE_AFTER
        most_s = self.settings.backoff_s_max if rare else self.settings.settle_backoff_s_max
        longest_s = min(most_s, shortest_s * 2 ** min(backoff.tries - 1, 20))
        backoff.not_before_ns = self.clock.now_ns() + ns(shortest_s * 0.5 + longest_s * self.ids.fraction())
        return backoff.not_before_ns

    def record_success(self, key: str) -> None:
        """Reset the backoff of the kind of action that ran last."""
        known = self._keys.get(key)
        if known is not None:
            known.kinds.pop(known.current, None)
            if not known.kinds:
                del self._keys[key]

    def forget(self, key: str) -> None:
        """Reset a key: it has converged or runs now."""
        self._keys.pop(key, None)

    def retain_only(self, keys: frozenset[str]) -> None:
        for key in self._keys.keys() - keys:
            del self._keys[key]
