"""The states that views show: a kernel's, that of single streams, or the log as it was known at a point."""

from __future__ import annotations

from typing import Protocol

import msgspec

from kernel.log.base import EventLog
from kernel.state import KernelState
from projections.state import State
from replay.formatting.output import utc


class StateSource(Protocol):
    """A kernel, which answers for now, or a `HistoricState`."""

    @property
    def state(self) -> KernelState:
        """Everything folded so far."""

    @property
    def log(self) -> EventLog:
        """The log that the state was folded from. Do not show what it recorded after the state's position."""

    @property
    def now_ns(self) -> int:
        """The instant that ages count from, in Unix nanoseconds."""


class HistoricState(msgspec.Struct, frozen=True):
    """A log as it was known at a point."""

    log: EventLog
    state: State
    recorded_at_ns: int
    """When the last event was recorded; 0 before the first."""
    now_ns: int
    """The requested instant; for a position, when its event was recorded."""

    @property
    def title(self) -> str:
        """The point, for people."""
        recorded = f"recorded at {utc(self.recorded_at_ns)}" if self.state.position else "before the first event"
        return f"as of position {self.state.position}, {recorded}"
