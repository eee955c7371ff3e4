"""Gauges that are read at the moment when metrics are collected: how far the fold is, what is unknown, what differs.

`replay.vitals` registers `KernelGauges` in the registry of the kernel that runs; `replay.metrics` collects `LogGauges`
alone for a kernel that only reads a log. Collecting asks neither log nor venue and changes nothing: what takes long, or has
to be awaited (the tally of live intents, the health check), is found before and handed over. Every series is always there,
at zero where nothing is known.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from kernel import EventSourcedKernel
from kernel.clock import NS_PER_S, Clock
from kernel.code_hash import kernel_version
from kernel.lifecycle import Record
from kernel.lifecycle.record import reconciliation_status
from kernel.metrics import PREFIX, QUEUE, EngineReading, LimitReading, Metrics, RateWindow
from kernel.models import AttemptOutcome, FindingKind, ReconciliationStatus
from kernel.plan import DifferenceKind, difference
from kernel.readiness import CONDITIONS
from kernel.state import KernelState
from kernel.venues.base import RateLimitKind

SLICE = 25
"""Live intents looked at before the event loop has its turn."""
SERVED = (ReconciliationStatus.SYNCED, ReconciliationStatus.FAILED)
"""Nothing more is going to be done for these."""
AT_REST = EngineReading(lag_ms=0, pending=0, workers=0, ready=0)
"""The engine of a kernel that does not run."""


# ------------------------------------------------------------------------------------------------- found before collecting
@dataclass
class Tally:
    """What the live intents and the open findings come to, as of an instant."""

    at_ns: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    differences: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    oldest_unknown_ns: int | None = None
    oldest_unsynced_ns: int | None = None

    def add(self, record: Record, state: KernelState) -> None:
        """Count one intent, as its group lets it be."""
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


async def tally_of(state: KernelState, *, now_ns: int) -> Tally:
    """Count all live intents and open findings.

    It yields to the event loop after each slice, so that a million intents delay nobody; what changes meanwhile is counted
    as it was or as it is.
    """
    tally = Tally(now_ns)
    for number, intent_id in enumerate(state.live_intent_ids(), start=1):
        tally.add(state.grouped_record(intent_id), state)
        if number % SLICE == 0:
            await asyncio.sleep(0)
    tally.findings.update(item.kind for item in state.findings() if item.resolved_at_ns is None)
    return tally


@dataclass(frozen=True, slots=True)
class HealthReading:
    """What a health check found."""

    conditions: Mapping[str, bool] = field(default_factory=dict)
    ready: bool = False
    leader: bool = False
    log_reachable: bool = False
    lag_events: int = 0

    def after(self, found: dict[str, Any]) -> HealthReading:
        """What a newer check found; a lag that it could not know stays as it was seen last."""
        lag = found["lag_events"]
        return HealthReading(
            conditions={item["type"]: item["status"] for item in found["conditions"]},
            ready=found["ready"],
            leader=found["leader"],
            log_reachable=lag is not None,
            lag_events=self.lag_events if lag is None else max(0, lag),
        )

    def without_answer(self) -> HealthReading:
        """A newer check that the log did not answer: what else holds is not known, and stays as it was seen last."""
        return replace(self, ready=False, log_reachable=False)


# ---------------------------------------------------------------------------------------------------------- the collectors
@dataclass(frozen=True, slots=True)
class LogGauges(Collector):
    """What any kernel over a log can tell, also one that does not lead."""

    exchange_id: str
    position: int
    epoch: int
    tally: Tally
    health: HealthReading

    def collect(self) -> Iterator[Metric]:
        """Each gauge with all its series."""
        info = GaugeMetricFamily(f"{PREFIX}info", "Which kernel this is.", labels=("exchange_id", "version"))
        info.add_metric((self.exchange_id, kernel_version()), 1)
        yield info
        yield gauge("ready", "Whether all conditions hold (1) or not (0).", self.health.ready)
        yield gauges(
            "condition", "Readiness: whether it holds (1) or not (0).", "type", CONDITIONS, self.health.conditions
        )
        yield gauge("epoch", "Epoch of the newest leader.", self.epoch)
        yield gauge("projection_position", "Position of the last event folded.", self.position)
        yield from self._intents()

    def _intents(self) -> Iterator[Metric]:
        tally = self.tally
        yield gauges(
            "live_intents", "Intents that want something, or whose order may be live.", "status",
            ReconciliationStatus, tally.statuses,
        )  # fmt: skip
        yield gauges(
            "intent_actual_diff", "Live intents by what differs from the venue.", "kind",
            DifferenceKind, tally.differences,
        )  # fmt: skip
        yield gauge(
            "oldest_unsynced_intent_seconds", "Age of the oldest wish that is not served yet; 0: none.",
            age_s(tally.oldest_unsynced_ns, tally.at_ns),
        )  # fmt: skip
        yield gauge("unknown_attempts", "Attempts that may have happened: unknown is not no.", tally.unknown)
        yield gauge(
            "oldest_unknown_attempt_seconds", "Age of the oldest of them; 0: none.",
            age_s(tally.oldest_unknown_ns, tally.at_ns),
        )  # fmt: skip
        yield gauges("open_findings", "What should not be, and is.", "kind", FindingKind, tally.findings)


class KernelGauges(Collector):
    """What a kernel that runs tells beside its counters; before it has recovered, and once it has stopped, zeros."""

    def __init__(self, metrics: Metrics, exchange_id: str, *, clock: Clock) -> None:
        self.kernel: EventSourcedKernel | None = None
        """The kernel while it runs."""
        self.tally = Tally()
        self.health = HealthReading()
        self.behind_s = 0.0
        """For how long the projections have been behind the log without a pause."""
        self.loop_lag_s = 0.0
        """How late the event loop was at the newest beat."""
        self._metrics = metrics
        self._exchange_id = exchange_id
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Each gauge with all its series."""
        kernel = self.kernel
        position, epoch = (0, 0) if kernel is None else (kernel.state.position, kernel.state.epoch)
        yield from LogGauges(self._exchange_id, position, epoch, self.tally, self.health).collect()
        yield named("leader_election_master_status", "Whether this process leads (1) or not (0).", self.health.leader)
        yield gauge("log_reachable", "Whether the log's head can be read (1) or not (0).", self.health.log_reachable)
        yield gauge("projection_lag_events", "Events in the log that are not folded yet.", self.health.lag_events)
        yield gauge(
            "projection_lag_seconds", "For how long the projections have been behind the log without a pause.",
            self.behind_s,
        )  # fmt: skip
        yield gauge("event_loop_lag_seconds", "How late the event loop was at the newest beat.", self.loop_lag_s)
        yield from self._venue()
        engine = None if kernel is None else kernel.engine
        yield gauge(
            "running", "Whether the reconciler's loop runs (1) or not (0).", engine is not None and engine.running
        )
        yield from work_gauges(AT_REST if engine is None else engine.reading())
        yield from limit_gauges(() if engine is None or engine.budget is None else engine.budget.readings())

    def _venue(self) -> Iterator[Metric]:
        now_ns = self._clock.now_ns()
        relisted_ns, heard_ns = self._metrics.relisted_ns, self._metrics.heard_ns
        yield gauge(
            "relist_age_seconds",
            "Since the newest complete one, or since it leads; 0 while it does not lead.",
            age_s(relisted_ns, now_ns),
        )
        yield gauge(
            "venue_stream_last_report_age_seconds",
            "Since the stream's last report; 0 before the first.",
            age_s(heard_ns, now_ns),
        )


def work_gauges(reading: EngineReading) -> Iterator[Metric]:
    """The reconciler's runs and its queue."""
    yield gauge("reconciliation_lag_ms", "How long the newest run took.", reading.lag_ms)
    yield gauge("pending_reconciliations", "Keys ready, delayed or worked on.", reading.pending)
    yield gauge("workers", "Keys that may be worked on at the same time.", reading.workers)
    yield gauge("active_workers", "Keys that are worked on.", len(reading.ages_s))
    yield named("workqueue_depth", "Keys that are ready.", reading.ready)
    yield named("workqueue_unfinished_work_seconds", "Age of all work in hand, summed.", sum(reading.ages_s))
    yield named(
        "workqueue_longest_running_processor_seconds", "Age of the oldest work in hand.",
        max(reading.ages_s, default=0.0),
    )  # fmt: skip


def limit_gauges(limits: Iterable[LimitReading]) -> Iterator[Metric]:
    """The rate limits; of those under one label the fullest counts, which comes last."""
    known = {(item.kind, item.window): item for item in limits}
    every = [
        known.get((kind, window), LimitReading(kind, window, used=0, limit=0, reserved=0))
        for kind in RateLimitKind
        for window in RateWindow
    ]
    for name, text, values in (
        ("budget_used", "Weight spent in the window, as far as is known.", [item.used for item in every]),
        ("budget_limit", "Weight that the venue takes; 0: no such limit.", [item.limit for item in every]),
        ("budget_reserved", "Weight of it that is kept for cancels.", [item.reserved for item in every]),
    ):
        family = GaugeMetricFamily(PREFIX + name, text, labels=("limit", "window"))
        for item, value in zip(every, values, strict=True):
            family.add_metric((item.kind, item.window), value)
        yield family


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """A gauge without labels."""
    return GaugeMetricFamily(PREFIX + name, text, value=float(value))


def gauges(name: str, text: str, label: str, labels: Iterable[str], values: Mapping[str, float]) -> GaugeMetricFamily:
    """A gauge with one label: a series for each of its values, at zero where nothing is given."""
    family = GaugeMetricFamily(PREFIX + name, text, labels=(label,))
    for item in labels:
        family.add_metric((item,), float(values.get(item, 0)))
    return family


def named(name: str, text: str, value: float) -> GaugeMetricFamily:
    """A gauge of client-go's convention, labelled with the work queue's name."""
    family = GaugeMetricFamily(name, text, labels=("name",))
    family.add_metric((QUEUE,), float(value))
    return family
