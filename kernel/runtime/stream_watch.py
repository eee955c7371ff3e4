"""Decides whether a report stream is silent: connected, and without what it should bring. Arithmetic over instants.

Used by the session. A stream is silent if it misses its heartbeat, if a query shows news that it does not bring in time, or
if the adapter fails to read it; then it is reconnected, at most every `reconnect_ns`, and the account is queried
meanwhile. Where nothing was heard of a request that the venue answered, the account is queried: soon, and then ever less
often; at most every `probe_ns_max` while the stream has never brought anything. A venue may not report every answer on
its stream, so a missing echo alone proves nothing. While an order is live, the account is queried if neither the stream nor
a list showed anything for `quiet_ns`: nothing else tells a quiet stream from a silent one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

HEARTBEATS_MISSED = 2
"""A stream that brought nothing for so many heartbeats is silent."""


class StreamStep(Enum):
    """The next step of a watch."""

    NOTHING = "NOTHING"
    PROBE = "PROBE"
    """Query the account."""
    SILENT = "SILENT"
    """The stream is silent: reconnect."""


@dataclass(eq=False)
class StreamWatch:
    """The reports that one venue's stream brought, and those that it lacks."""

    echo_ns: int
    """Within this time the stream brings what answers and queries show."""
    probe_ns_max: int
    """Longest interval of queries while the stream has brought nothing since the connect."""
    quiet_ns: int
    """Longest time without a report, a heartbeat or a list while an order is live."""
    reconnect_ns: int
    """Shortest time between two reconnects of a silent stream."""
    silent: bool = field(default=False, init=False)
    """True from the proof of silence until the stream brings something."""
    _heartbeat_ns: int | None = field(default=None, init=False)
    _heard_ns: int = field(default=0, init=False)
    """When the stream last brought something, or was connected."""
    _heard_any: bool = field(default=False, init=False)
    _told_ns: int | None = field(default=None, init=False)
    """When it last brought a report since the connect."""
    _lacks: bool = field(default=False, init=False)
    """True if it is silent as it lacks a report, so that a heartbeat proves nothing."""
    _found_ns: int | None = field(default=None, init=False)
    """When a query showed news that the stream has not brought."""
    _probe_at_ns: int | None = field(default=None, init=False)
    _quiet_at_ns: int | None = field(default=None, init=False)
    """When it was quiet for too long; None without live orders."""
    _interval_ns: int = field(default=0, init=False)
    _reconnected_ns: int | None = field(default=None, init=False)
    _failed: bool = field(default=False, init=False)
    _failed_ns: int | None = field(default=None, init=False)
    """When a stream that had failed was last reconnected."""

    def connected(self, now_ns: int, *, heartbeat_ns: int | None) -> None:
        self._heartbeat_ns, self._heard_ns, self._heard_any = heartbeat_ns, now_ns, False
        self._found_ns = self._probe_at_ns = self._told_ns = None
        self._failed = False
        self._quiet_at_ns = now_ns + self.quiet_ns
        if self.silent:
            self.answered(now_ns)

    def heard(self, now_ns: int, *, is_report: bool = True) -> None:
        """Note a report, or a heartbeat, which does not show that reports come."""
        self._heard_ns, self._heard_any = now_ns, True
        if is_report:
            self._told_ns, self._lacks = now_ns, False
            self._found_ns = self._probe_at_ns = None
        if not self._lacks:
            self.silent, self._reconnected_ns = False, None
            self._quiet_at_ns = now_ns + self.quiet_ns

    def listed(self, now_ns: int) -> None:
        """Note that a query showed the account."""
        self._quiet_at_ns = now_ns + self.quiet_ns

    def answered(self, now_ns: int) -> None:
        """Note that the venue answered a request: the stream should report that too, or did so just before."""
        if not self._heard_lately(now_ns):
            self._interval_ns = self.echo_ns
            self._probe_at_ns = now_ns + self.echo_ns
        if self._quiet_at_ns is None:
            self._quiet_at_ns = now_ns + self.quiet_ns

    def found(self, now_ns: int) -> None:
        """Note that a query showed news; the stream may still bring them, or did so just before."""
        if self._found_ns is None and not self._heard_lately(now_ns):
            self._found_ns = now_ns

    def _heard_lately(self, now_ns: int) -> bool:
        return self._told_ns is not None and now_ns - self._told_ns <= self.echo_ns

    def failed(self, now_ns: int) -> None:
        """Note that the adapter cannot read the stream: one message may fail at each connect, whatever comes before it."""
        self.silent = self._failed = True
        self._heard_any, self._told_ns = False, None
        self.answered(now_ns)

    def due_ns(self) -> int | None:
        """Return when `step` may have something to do; None if nothing is expected."""
        due = [self._silent_at_ns(), self._probe_at_ns, self._quiet_at_ns]
        return min((item for item in due if item is not None), default=None)

    def _silent_at_ns(self) -> int | None:
        if self._failed:
            return 0 if self._failed_ns is None else self._failed_ns + self.reconnect_ns
        due = []
        if self._found_ns is not None:
            due.append(self._found_ns + self.echo_ns)
        if self._heartbeat_ns is not None:
            due.append(self._heard_ns + HEARTBEATS_MISSED * self._heartbeat_ns)
        if not due:
            return None
        return min(due) if self._reconnected_ns is None else max(min(due), self._reconnected_ns + self.reconnect_ns)

    def step(self, now_ns: int, *, has_orders: bool) -> StreamStep:
        """Return the next step."""
        silent_at_ns = self._silent_at_ns()
        if silent_at_ns is not None and now_ns >= silent_at_ns:
            self.silent, self._reconnected_ns = True, now_ns
            self._lacks = self._lacks or self._found_ns is not None
            if self._failed:
                self._failed, self._failed_ns = False, now_ns
            return StreamStep.SILENT
        is_expected = self._probe_at_ns is not None and now_ns >= self._probe_at_ns
        is_quiet = self._quiet_at_ns is not None and now_ns >= self._quiet_at_ns
        if not is_expected and not is_quiet:
            return StreamStep.NOTHING
        if not has_orders:
            self._probe_at_ns = self._quiet_at_ns = None
            return StreamStep.NOTHING
        if is_expected:
            self._next_probe(now_ns)
        self._quiet_at_ns = now_ns + self.quiet_ns
        return StreamStep.PROBE

    def _next_probe(self, now_ns: int) -> None:
        self._interval_ns *= 2
        if not self._heard_any:
            self._interval_ns = min(self._interval_ns, self.probe_ns_max)
        self._probe_at_ns = now_ns + self._interval_ns if self._interval_ns <= self.reconnect_ns else None
