"""Raises findings about the log: a clock that is behind it, and storms of rejections. Run by `KernelRuntime`."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from kernel import events
from kernel.clock import NS_PER_S, Clock
from kernel.models import FindingKind
from kernel.runtime.finding_writer import FindingWriter
from kernel.state import KernelState

CLOCK_BEHIND_NS_MAX = NS_PER_S
"""How far this host's clock may be behind the log's head without a finding."""


@dataclass(kw_only=True, eq=False)
class LogMonitor:
    """Watches the log's time stamps and the rejections in it."""

    state: KernelState
    findings: FindingWriter
    clock: Clock
    storm_rejections: int
    host: str = field(default_factory=socket.gethostname)
    is_confirmed: Callable[[], bool] = lambda: False
    """Returns whether the venue's clock agrees with this host's: then the host that wrote the head is ahead."""

    def watch_clock(self, head: events.BaseEvent) -> None:
        """Raise one finding for a host whose clock is wrong, as its requests are refused, or stay valid too long."""
        behind_ns = head.recorded_at_ns - self.clock.now_ns()
        if behind_ns <= CLOCK_BEHIND_NS_MAX:
            return
        name, text = self.host, f"the clock of {self.host} is {behind_ns / NS_PER_S:.3f} s behind the log's head"
        if self.is_confirmed():
            writer = head.envelope.origin.host or self.host
            if writer == self.host:
                return  # it was ahead, and has been set since
            name, text = writer, f"the clock of {writer} is {behind_ns / NS_PER_S:.3f} s ahead of {self.host}'s"
        self.findings.raise_finding(FindingKind.CLOCK_SKEW, name, text)

    def watch_storms(self) -> None:
        """Raise a finding for each storm; a failed append is retried with the next batch."""
        for symbol_id, reason in self.state.trading_status.storms.items():
            text = f"{self.storm_rejections} or more intents in {symbol_id} were rejected for one reason: {reason}"
            self.findings.raise_finding(FindingKind.STORM, symbol_id, text, symbol_id=symbol_id)
