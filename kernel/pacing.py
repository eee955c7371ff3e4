"""How runs of a key that settle nothing are spaced: by key and kind of action, doubling, with full jitter.

Used by the reconciler for questions and cancels, and for runs that went wrong. A submit's backoff is not kept here: it is
in the log. Each kind of action has its own pace, so that a question asked a moment ago never delays a cancel. In memory
only: after a restart everything may be tried at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kernel.clock import Clock, IdFactory
from kernel.settings import KernelSettings, ns


@dataclass(slots=True)
class Pace:
    """One kind of action of one key."""

    tries: int = 0
    """Runs in a row that settled nothing."""
    not_before_ns: int = 0
    """When it may run again."""


@dataclass(slots=True)
class KeyPaces:
    """All kinds of one key, and the one that ran last."""

    paces: dict[object, Pace] = field(default_factory=dict)
    current: object = None


class Pacing:
    """The paces of all keys that have not converged."""

    def __init__(self, clock: Clock, ids: IdFactory, settings: KernelSettings) -> None:
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._keys: dict[str, KeyPaces] = {}

    def begin(self, key: str, kind: object) -> int:
        """A run comes to this kind of action; the instant before which it has to wait."""
        known = self._keys.setdefault(key, KeyPaces())
        known.current = kind
        return known.paces[kind].not_before_ns if kind in known.paces else 0

    def slow_down(self, key: str) -> int:
        """The run settled nothing, or has to be confirmed: when the same kind of action may run again."""
        known = self._keys.setdefault(key, KeyPaces())
        pace = known.paces.setdefault(known.current, Pace())
        pace.tries += 1
        shortest_s = self._settings.backoff_s_min
        longest_s = min(self._settings.settle_backoff_s_max, shortest_s * 2 ** min(pace.tries - 1, 20))
        pace.not_before_ns = self._clock.now_ns() + ns(shortest_s * 0.5 + longest_s * self._ids.fraction())
        return pace.not_before_ns

    def settled(self, key: str) -> None:
        """The run did what it was for: its kind of action starts anew."""
        known = self._keys.get(key)
        if known is not None:
            known.paces.pop(known.current, None)
            if not known.paces:
                del self._keys[key]

    def forget(self, key: str) -> None:
        """The key has converged, or somebody wants it run now."""
        self._keys.pop(key, None)

    def keep(self, keys: frozenset[str]) -> None:
        """Forget all others."""
        for key in self._keys.keys() - keys:
            del self._keys[key]
