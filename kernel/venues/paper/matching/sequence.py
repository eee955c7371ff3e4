"""The instants and the ids that a paper exchange gives: each later, or higher, than every one before.

One per engine; what is being decided takes a copy, which the engine keeps once it has happened.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.clock import Clock


@dataclass(slots=True)
class IdSequence:
    """The next ids, and the last instant."""

    clock: Clock
    order: int
    trade: int
    exec: int
    last_ns: int
    ratchet_ns: int = 0
    """How far instants were ahead of the clock at most."""

    def copy(self) -> IdSequence:
        """Another that begins where this one is."""
        return IdSequence(self.clock, self.order, self.trade, self.exec, self.last_ns, self.ratchet_ns)

    def tick(self) -> int:
        """The next instant of the exchange: the clock's, or one later than the last."""
        now_ns = self.clock.now_ns()
        self.last_ns = max(now_ns, self.last_ns + 1)
        self.ratchet_ns = max(self.ratchet_ns, self.last_ns - now_ns)
        return self.last_ns

    def order_id(self) -> int:
        """The next order's."""
        self.order += 1
        return self.order - 1

    def trade_id(self) -> int:
        """The next trade's."""
        self.trade += 1
        return self.trade - 1

    def exec_id(self) -> int:
        """The next report's."""
        self.exec += 1
        return self.exec - 1
