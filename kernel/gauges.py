"""What is measured when somebody asks: how far the fold is, what is unknown, what differs, which conditions hold.

Called by `replay.vitals` (over the kernel that runs) and by `replay.metrics` (over a log alone): sets the gauges of
a `Metrics`. A look at every live intent yields to the event loop after each slice, so that a million of them delay nobody;
what changes meanwhile may be counted as it was or as it is. It changes nothing and asks neither log nor venue.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from kernel.clock import NS_PER_S
from kernel.controller import EventSourcedKernel
from kernel.lifecycle import Record
from kernel.lifecycle.record import reconciliation_status
from kernel.metrics import QUEUE, Metrics
from kernel.models import AttemptOutcome, ReconciliationStatus
from kernel.plan import difference
from kernel.state import KernelState

SLICE = 25
"""Live intents looked at before the event loop has its turn."""
SERVED = (ReconciliationStatus.SYNCED, ReconciliationStatus.FAILED)
"""Nothing more is going to be done for these."""


@dataclass
class Tally:
    """What the live intents come to."""

    statuses: Counter[str] = field(default_factory=Counter)
    differences: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    oldest_unknown_ns: int | None = None
    oldest_unsynced_ns: int | None = None

    def add(self, record: Record, state: KernelState) -> None:
        """One of them, as its group lets it be."""
        order = state.exposure(record.intent_id)
        status = reconciliation_status(record) if order is None else order.reconciliation_status
        self.statuses[status] += 1
        found = difference(record.intent, order)
        if found is not None:
            self.differences[found.kind] += 1
        unknown = [item for item in record.attempts if item.outcome is AttemptOutcome.UNKNOWN]
        self.unknown += len(unknown)
        for attempt in unknown:
            self.oldest_unknown_ns = oldest(self.oldest_unknown_ns, attempt.stamp_ns)
        if record.intent is not None and status not in SERVED:
            self.oldest_unsynced_ns = oldest(self.oldest_unsynced_ns, record.intent.updated_at_ns)


def oldest(known_ns: int | None, other_ns: int) -> int:
    return other_ns if known_ns is None else min(known_ns, other_ns)


def age_s(then_ns: int | None, now_ns: int) -> float:
    """Seconds since an instant; 0 for none, and for one that a clock further on has stamped."""
    return 0.0 if then_ns is None else max(0, now_ns - then_ns) / NS_PER_S


async def observe_intents(metrics: Metrics, state: KernelState, *, now_ns: int) -> None:
    """Set what the live intents and the findings come to."""
    tally = Tally()
    for number, intent_id in enumerate(state.live_intent_ids(), start=1):
        tally.add(state.grouped_record(intent_id), state)
        if number % SLICE == 0:
            await asyncio.sleep(0)
    metrics.live_intents.set_all(tally.statuses)
    metrics.differences.set_all(tally.differences)
    metrics.unknown_attempts.set(tally.unknown)
    metrics.oldest_unknown.set(age_s(tally.oldest_unknown_ns, now_ns))
    metrics.oldest_unsynced.set(age_s(tally.oldest_unsynced_ns, now_ns))
    metrics.findings.set_all(Counter(item.kind for item in state.findings() if item.resolved_at_ns is None))


def observe_position(metrics: Metrics, state: KernelState) -> None:
    """Set where the fold is."""
    metrics.position.set(state.position)
    metrics.epoch.set(state.epoch)


def observe_kernel(kernel: EventSourcedKernel, *, now_ns: int) -> None:
    """Set what is measured of a kernel that runs, beside its live intents: where it is, the queue and the venue."""
    metrics = kernel.metrics
    observe_position(metrics, kernel.state)
    kernel.engine.observe()
    metrics.relist_age.set(age_s(metrics.relisted_ns, now_ns))
    metrics.heard_age.set(age_s(metrics.heard_ns, now_ns))


def observe_health(metrics: Metrics, found: dict[str, object]) -> None:
    """Set what `health_check` found. A lag that can't be known, as the log is away, is left as it was seen last."""
    conditions = found["conditions"]
    assert isinstance(conditions, list)
    metrics.conditions.set_all({item["type"]: item["status"] for item in conditions})
    metrics.ready.set(bool(found["ready"]))
    metrics.leader.set(bool(found["leader"]), QUEUE)
    lag = found["lag_events"]
    metrics.log_reachable.set(lag is not None)
    if isinstance(lag, int):
        metrics.lag_events.set(max(0, lag))
