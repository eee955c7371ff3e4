"""The health of a kernel, seen from outside the leading process.

Called by the CLI's `health` and by `replay.host.run`. Reads the lease, the leader's events, the newest complete venue
snapshot, pauses, findings and unknown attempts. Conditions are named as in `EventSourcedKernel.health_check`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import asdict, replace

from kernel import EventSourcedKernel, events
from kernel.clock import SystemClock
from kernel.log.base import EventLog
from kernel.log.engine.records import event_of
from kernel.models import AttemptOutcome, Finding
from kernel.safety.readiness import (
    LEASE_HELD,
    PROJECTIONS_AT_HEAD,
    REMEDIES,
    VENUE_CONNECTED,
    VENUE_SNAPSHOT_COMPLETE,
    Condition,
    advisory_conditions,
    all_hold,
    clock_condition,
)
from kernel.safety.trading_halts import NOT_PAUSED
from kernel.settings import KernelSettings, ns
from kernel.state import KernelState
from replay.formatting.output import Format, Item, Listing, age, aligned, render

WINDOW_ROWS = 1_000
"""Rows at the log's end that are searched first; each further search covers twice as many."""
RELISTS_MISSED_MAX = 2
"""The venue counts as disconnected if the newest complete snapshot is older than this many relist intervals and one
query."""


class LeaderStatus(msgspec.Struct, frozen=True):
    """The newest leader, as the control stream shows it."""

    epoch: int = 0
    holder: str = ""
    elected: events.LeaderElected | None = None
    started: events.KernelStarted | None = None
    stopped: events.KernelStopped | None = None

    @property
    def host(self) -> str:
        return self.holder.partition(":")[0]


class HealthInputs(NamedTuple):
    """Inputs of the conditions."""

    leader: LeaderStatus
    held: bool
    snapshot: events.VenueSnapshotTaken | None
    position: int
    head: int
    now_ns: int


async def leader_of(log: EventLog) -> LeaderStatus:
    leader = LeaderStatus()
    for event in await log.read_stream(events.CONTROL_STREAM):
        leader = leader_after(leader, event)
    return leader


def leader_after(leader: LeaderStatus, event: events.BaseEvent) -> LeaderStatus:
    """The newest leader after one more event of the control stream."""
    match event:
        case events.LeaderElected():
            return LeaderStatus(event.epoch, event.holder, elected=event)
        case events.KernelStarted():
            return replace(leader, started=event, stopped=None)
        case events.KernelStopped():
            return replace(leader, stopped=event)
    return leader


async def newest_complete_snapshot(log: EventLog) -> events.VenueSnapshotTaken | None:
    """Return the newest complete venue snapshot, searching from the log's end backwards."""
    upto, window = (await log.head()).position, WINDOW_ROWS
    while upto > 0:
        after = max(0, upto - window)
        found: events.VenueSnapshotTaken | None = None
        async for rows in log.read(after, upto):
            for row in rows:
                if row.topic != events.VenueSnapshotTaken.topic or row.stream_id != events.VENUE_STREAM:
                    continue
                event = event_of(row)
                assert isinstance(event, events.VenueSnapshotTaken)
                found = event if event.complete else found
        if found is not None:
            return found
        upto, window = after, window * 2
    return None


async def health(kernel: EventSourcedKernel) -> dict[str, Any]:
    """Check whether a kernel, leading or not, acts on its log; return `exchange_id`, `ready`, … as JSON values."""
    log, now_ns = kernel.log, SystemClock().now_ns()
    head = await log.head()
    seen = HealthInputs(
        leader=await leader_of(log),
        held=await log.lease_is_held(),
        snapshot=await newest_complete_snapshot(log),
        position=kernel.state.position,
        head=head.position,
        now_ns=now_ns,
    )
    conditions, live = conditions_of(seen, kernel.state), kernel.state.live_intent_ids()
    unresolved = [attempt for name in live for attempt in kernel.state.record(name).unresolved]
    return {
        "exchange_id": kernel.exchange_id,
        "ready": all_hold(conditions),
        "leader": seen.held,
        "epoch": seen.leader.epoch,
        "holder": seen.leader.holder,
        "conditions": [asdict(condition) for condition in conditions],
        "position": seen.head,
        "last_event_at_ns": head.recorded_at_ns,
        "kernel_started_at_ns": recorded_at_ns(seen.leader.started),
        "kernel_stopped_at_ns": recorded_at_ns(seen.leader.stopped),
        "snapshot_at_ns": seen.snapshot.ended_ns if seen.snapshot else None,
        "paused": kernel.state.paused,
        "held_symbols": held_symbols(kernel.state),
        "live_intents": len(live),
        "unknown_attempts": sum(attempt.outcome is AttemptOutcome.UNKNOWN for attempt in unresolved),
        "open_findings": len(open_findings(kernel.state.findings())),
    }


def held_symbols(state: KernelState) -> dict[str, str]:
    """Symbols in which nothing is placed, with the reason."""
    status = state.trading_status
    storms = {name: f"rejection storm: {reason}" for name, reason in status.storms.items()}
    storms |= dict.fromkeys(status.quarantined, "quarantined")
    holds = {name: f"{'halted' if halt.cancels else 'paused'} by {halt.by}" for name, halt in status.symbols.items()}
    return storms | holds


def open_findings(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.resolved_at_ns is None]


def recorded_at_ns(event: events.BaseEvent | None) -> int | None:
    return event.recorded_at_ns if event is not None else None


def conditions_of(seen: HealthInputs, state: KernelState) -> list[Condition]:
    """Every condition of `health_check`, as the log and the lease show it."""
    findings = [*state.findings()]
    at_head = seen.position >= seen.head
    folded = f"this process has folded position {seen.position} of {seen.head}"
    return [
        lease_condition(seen),
        Condition(PROJECTIONS_AT_HEAD, at_head, "Folded" if at_head else "Behind", folded, seen.now_ns),
        connection_condition(seen),
        snapshot_condition(seen),
        clock_condition(findings, seen.leader.host, created_at_ns=state.created_at_ns),
        Condition(NOT_PAUSED, not state.paused, state.trading_status.status, state.paused_by, seen.now_ns),
        *advisory_conditions(findings, created_at_ns=state.created_at_ns),
    ]


def lease_condition(seen: HealthInputs) -> Condition:
    leader = seen.leader
    if not seen.held:
        reason = "NeverStarted" if leader.elected is None else "Stopped" if leader.stopped else "HolderGone"
        since_ns = recorded_at_ns(leader.stopped or leader.started or leader.elected) or 0
        return Condition(LEASE_HELD, False, reason, "no kernel leads", since_ns)
    if leader.started is None or leader.stopped is not None:
        return Condition(
            LEASE_HELD, False, "Starting", "the lease is held; its holder has not started yet", seen.now_ns
        )
    return Condition(
        LEASE_HELD, True, "Elected", f"epoch {leader.epoch}, {leader.holder}", recorded_at_ns(leader.elected) or 0
    )


def connection_condition(seen: HealthInputs) -> Condition:
    """Return whether the leader's newest complete snapshot is recent."""
    snapshot, started = seen.snapshot, seen.leader.started
    if not seen.held or started is None or snapshot is None or snapshot.position < started.position:
        return Condition(VENUE_CONNECTED, False, "NotSeen", "no venue snapshot since the leader started", seen.now_ns)
    fresh = seen.now_ns - snapshot.ended_ns <= snapshot_age_ns_max(started)
    text = f"the newest complete venue snapshot is {age(snapshot.ended_ns, seen.now_ns)} old"
    return Condition(VENUE_CONNECTED, fresh, "SnapshotFresh" if fresh else "SnapshotStale", text, snapshot.ended_ns)


def snapshot_age_ns_max(started: events.KernelStarted) -> int:
    """How old the newest snapshot may be under the leader's settings."""
    defaults = KernelSettings.model_fields
    interval_s, query_s = (
        float(started.settings.get(name, defaults[name].default)) for name in ("relist_interval_s", "query_timeout_s")
    )
    return ns(RELISTS_MISSED_MAX * interval_s + query_s)


def snapshot_condition(seen: HealthInputs) -> Condition:
    """Return whether this leader has taken a complete snapshot."""
    snapshot, started = seen.snapshot, seen.leader.started
    if not seen.held or snapshot is None or started is None or snapshot.position < started.position:
        return Condition(
            VENUE_SNAPSHOT_COMPLETE,
            False,
            "NotTaken",
            "no complete venue snapshot since the leader started",
            seen.now_ns,
        )
    return Condition(
        VENUE_SNAPSHOT_COMPLETE, True, "SnapshotTaken", f"position {snapshot.position}", snapshot.recorded_at_ns
    )


def health_text(found: dict[str, Any], now_ns: int) -> str:
    facts = [
        ("Exchange:", found["exchange_id"]),
        ("Ready:", "yes" if found["ready"] else "no"),
        ("Leader:", f"epoch {found['epoch']}, {found['holder']}" if found["leader"] else "none"),
        ("Position:", f"{found['position']}, last event {age(found['last_event_at_ns'], now_ns)} ago"),
        ("Kernel started:", since_text(found["kernel_started_at_ns"], now_ns)),
        ("Kernel stopped:", since_text(found["kernel_stopped_at_ns"], now_ns)),
        ("Complete snapshot:", since_text(found["snapshot_at_ns"], now_ns)),
        ("Paused:", "yes" if found["paused"] else "no"),
        ("Held symbols:", ", ".join(f"{name} ({reason})" for name, reason in found["held_symbols"].items()) or "none"),
        ("Live intents:", str(found["live_intents"])),
        ("Unknown attempts:", str(found["unknown_attempts"])),
        ("Open findings:", str(found["open_findings"])),
    ]
    header = ("CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE")
    lines = [
        (item["type"], str(item["status"]), item["reason"], age(item["since_ns"], now_ns), item["message"])
        for item in found["conditions"]
    ]
    missing = [item["type"] for item in found["conditions"] if not item["status"]]
    remedies = "".join(f"{name}: {REMEDIES[name].do}\n" for name in missing)
    return aligned(facts) + "\n" + aligned([header, *lines]) + (f"\n{remedies}" if remedies else "")


def health_as(found: dict[str, Any], form: Format) -> str:
    if form in (Format.TABLE, Format.WIDE):
        return health_text(found, SystemClock().now_ns())
    return render(Listing("exchange", (), 0, (Item(found["exchange_id"], found, ()),), single=True), form)


def since_text(instant_ns: int | None, now_ns: int) -> str:
    return "never" if instant_ns is None else f"{age(instant_ns, now_ns)} ago"
