"""The conditions under which the kernel acts. While one is missing, commands are recorded and nothing is sent.

Set by the runtime and its session, read by the engine and by `health_check`. Advisory conditions need attention and stop
nothing; they follow from the findings, so that every process that reads the log shows them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import msgspec

from kernel.clock import Clock
from kernel.errors import Remedy
from kernel.lifecycle.remediation import REMEDIATION, TO_DO
from kernel.models import Finding, FindingKind
from kernel.safety.trading_halts import NOT_PAUSED

LEASE_HELD = "LEASE_HELD"
PROJECTIONS_AT_HEAD = "PROJECTIONS_AT_HEAD"
VENUE_CONNECTED = "VENUE_CONNECTED"
VENUE_SNAPSHOT_COMPLETE = "VENUE_SNAPSHOT_COMPLETE"
VENUE_CLOCK = "VENUE_CLOCK"
VENUE_STREAM = "VENUE_STREAM"
EXITS_WORKING = "EXITS_WORKING"
REMEDIES = {
    LEASE_HELD: Remedy(
        "A kernel holds the lease and has started to act.",
        "`orderctl health` (`NeverStarted`, `Stopped`, `HolderGone`), and the last log lines of the process that led",
        "start `orderctl run`; a second one stands by and takes over",
        "remove `kernel.db.lock` or end the database session of a holder that is alive: two kernels would act",
    ),
    PROJECTIONS_AT_HEAD: Remedy(
        "The state includes every event of the log.",
        "`projection_lag_events` in `orderctl metrics`; the process's log names the position; `orderctl health`, which"
        " reads the log itself, fails there too",
        "wait after a start, or while the database is unavailable; with the reason `ReaderFailed`, run `orderctl verify`"
        " and stop the process",
        "continue with a version older than the one that wrote the log",
    ),
    VENUE_CONNECTED: Remedy(
        "The exchange is connected and its report stream is open.",
        "the log of `orderctl run` (`ConnectFailed`, `StreamEnded`), `venue_requests_total` in `orderctl metrics`",
        "wait: it reconnects by itself; otherwise check the network, the address and the exchange's status page",
        "trade at the exchange by hand meanwhile: such orders belong to no intent",
    ),
    VENUE_SNAPSHOT_COMPLETE: Remedy(
        "A complete list of open orders, trades and balances was received since the connect.",
        "`relist_age_seconds` and `budget_used` in `orderctl metrics`, and warnings in the process's log",
        "wait for the next list; if the rate limit is used up, find out who else uses the account",
        "restart in a loop: each start asks for the whole list again",
    ),
    VENUE_CLOCK: Remedy(
        "The exchange does not refuse requests because this host's clock differs from its own.",
        "`orderctl get findings` (`CLOCK_SKEW` has the difference)",
        "set the host's clock (NTP); the kernel compares every 5 seconds and then continues by itself",
        "restart the kernel: its requests are refused until the clock is set",
    ),
    VENUE_STREAM: Remedy(
        "The report stream brings what queries show; orders are sent in either case.",
        "`orderctl get findings` (`STREAM_SILENT`), `venue_reports_total` and `venue_stream_reconnects_total` in"
        " `orderctl metrics`",
        "wait: the kernel reconnects, and queries more often meanwhile; if it stays, check the exchange's status page and"
        " what stands between (proxy, firewall)",
        "restart in a loop: the fills are known from the queries",
    ),
    NOT_PAUSED: Remedy(
        "Nobody has paused or halted the exchange account.",
        "`orderctl health` (who), `orderctl events` (the reason)",
        "ask that person, then `orderctl resume`",
        "resume without knowing the reason: everything that was placed meanwhile is sent then",
    ),
    EXITS_WORKING: Remedy(
        "Every bracket whose entry has filled has an exit that works. The kernel is ready without it.",
        "`orderctl get findings` (`EXIT_MISSING` names the bracket and why its exits do not work)",
        REMEDIATION[FindingKind.EXIT_MISSING].do,
        "stop the kernel: it is what tries to place the exits",
    ),
}  # fmt: skip
"""Every condition, with its entry in the runbook."""
ADVISORY = (VENUE_STREAM, EXITS_WORKING)
"""Conditions that only inform, and that follow from the findings: the kernel is ready without them."""
CONDITIONS = tuple(name for name in REMEDIES if name not in ADVISORY)
"""The conditions that `Readiness` keeps."""
HOLD_AT_FIRST = frozenset({VENUE_CLOCK})
"""Conditions that hold until the opposite is found."""


class Condition(msgspec.Struct, frozen=True):
    """One condition: whether it holds, why, and since when."""

    type: str
    status: bool
    reason: str
    message: str
    since_ns: int


def advisory_conditions(findings: Iterable[Finding], *, created_at_ns: int) -> list[Condition]:
    """Return the conditions that follow from the findings of a log created at this instant."""
    silent, missing = FindingKind.STREAM_SILENT, FindingKind.EXIT_MISSING
    found = [item for item in findings if item.kind in (silent, missing)]
    exits = [item for item in found if item.kind is missing]
    streams = [item for item in found if item.kind is silent]
    return [
        _from_findings(VENUE_STREAM, ("NotSilent", "StreamSilent"), streams, observation, created_at_ns),
        _from_findings(EXITS_WORKING, ("AllWorking", "ExitMissing"), exits, subject, created_at_ns),
    ]


def _from_findings(
    name: str, reasons: tuple[str, str], found: Sequence[Finding], tell: Callable[[Finding], str], created_at_ns: int
) -> Condition:
    """Return a condition that holds while none of the findings is open; `reasons` are those of true and false."""
    if still_open := [item for item in found if item.resolved_at_ns is None]:
        since_ns = min(item.raised_at_ns for item in still_open)
        return Condition(name, False, reasons[1], ", ".join(map(tell, still_open)), since_ns)
    since_ns = max((item.resolved_at_ns or 0 for item in found), default=created_at_ns)
    return Condition(name, True, reasons[0], "", since_ns)


def clock_condition(findings: Iterable[Finding], host: str, *, created_at_ns: int) -> Condition:
    """Return the condition VENUE_CLOCK of a leader on this host, as its findings show it."""
    found = [item for item in findings if item.kind is FindingKind.CLOCK_SKEW and subject(item) == host]
    refused = [item for item in found if item.resolved_at_ns is not None or item.blocks_sending]
    shown = _from_findings(VENUE_CLOCK, ("Agrees", "Refused"), refused, observation, created_at_ns)
    if differing := [item for item in found if item not in refused]:
        shown = Condition(VENUE_CLOCK, True, "Differs", observation(differing[0]), shown.since_ns)
    return shown


def subject(finding: Finding) -> str:
    """Return what a finding is about: its id without the kind."""
    return finding.finding_id.partition(":")[2]


def observation(finding: Finding) -> str:
    """Return the text of a finding without its remedy."""
    return finding.text.partition(TO_DO)[0]


def all_hold(conditions: Iterable[Condition]) -> bool:
    """Return whether all conditions hold, advisory ones excepted."""
    return all(item.status for item in conditions if item.type not in ADVISORY)


class Readiness:
    """The conditions of a kernel."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        now_ns = clock.now_ns()
        self._conditions = {
            name: Condition(name, name in HOLD_AT_FIRST, "NotStarted", "", now_ns) for name in CONDITIONS
        }
        self._ready = asyncio.Event()
        self._able = False
        self.on_able: Callable[[], None] = lambda: None
        """Called once all conditions but a pause hold: a pause may be a halt, which lets cancels out."""

    def set(self, name: str, status: bool, reason: str, message: str = "") -> None:
        """Set a condition; its time changes only with its status."""
        known = self._conditions[name]
        since_ns = known.since_ns if known.status == status else self._clock.now_ns()
        self._conditions[name] = Condition(name, status, reason, message, since_ns)
        missing = self.missing()
        if missing:
            self._ready.clear()
        else:
            self._ready.set()
        was_able, self._able = self._able, set(missing) <= {NOT_PAUSED}
        if self._able and not was_able:
            self.on_able()

    def missing(self) -> tuple[str, ...]:
        """Return the names of the conditions that do not hold and without which the kernel does not act."""
        items = self._conditions.items()
        return tuple(name for name, condition in items if not condition.status and name not in ADVISORY)

    @property
    def ready(self) -> bool:
        return self._ready.is_set()

    def __getitem__(self, name: str) -> Condition:
        return self._conditions[name]

    def conditions(self) -> list[Condition]:
        return list(self._conditions.values())

    async def wait(self) -> None:
        await self._ready.wait()
