"""Prometheus gauges that are read at collection: fold progress, unknown attempts, differences, the queue, rate limits.

`replay.host.probes` registers `KernelGauges` for a running kernel; `metrics` renders `log_gauges` for one that only reads a
log. Collecting reads memory only; what must be awaited (the tally, the health check) is computed before. Every series is
always present, zero if nothing is known.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from kernel import EventSourcedKernel
from kernel.actions import ActionKind
from kernel.clock import NS_PER_S, Clock
from kernel.lifecycle.record import Record, reconciliation_status
from kernel.metrics import QUEUE, EngineReading, LimitReading, Metrics, RateWindow, full_name
from kernel.models import AttemptOutcome, FindingKind, ReconciliationStatus
from kernel.plan import difference
from kernel.platform.version import kernel_version
from kernel.safety.readiness import ADVISORY, CONDITIONS
from kernel.state import KernelState
from kernel.venues.base import RateLimitKind

SLICE = 25
"""Live intents counted between two yields to the event loop."""
SERVED = (ReconciliationStatus.SYNCED, ReconciliationStatus.FAILED)
"""Statuses after which the kernel does nothing more."""
NOT_RUNNING: Mapping[str, Any] = {"conditions": (), "ready": False, "leader": False, "lag_events": None}
"""The health of a kernel that has not recovered yet, or has stopped."""


@dataclass
class Tally:
    """Live intents and open findings, counted as of an instant."""

    at_ns: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    differences: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    oldest_unknown_ns: int | None = None
    oldest_unsynced_ns: int | None = None

    def add(self, record: Record, state: KernelState) -> None:
        """Count one intent, at the quantity that its group permits."""
        order = state.observed_order(record.intent_id)
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
    """Seconds since an instant; 0 for none, and for an instant in the future."""
    return 0.0 if then_ns is None else max(0, now_ns - then_ns) / NS_PER_S


async def tally_of(state: KernelState, *, now_ns: int) -> Tally:
    """Count all live intents and open findings, yielding to the event loop between slices."""
    tally = Tally(now_ns)
    for number, intent_id in enumerate(state.live_intent_ids(), start=1):
        tally.add(state.grouped_record(intent_id), state)
        if number % SLICE == 0:
            await asyncio.sleep(0)
    tally.findings.update(item.kind for item in state.findings() if item.resolved_at_ns is None)
    return tally


def log_gauges(
    exchange_id: str, tally: Tally, health: Mapping[str, Any], *, position: int, epoch: int
) -> Iterator[Metric]:
    """Gauges of any kernel over a log, leading or not; `health` is the result of a health check."""
    info = GaugeMetricFamily(
        full_name("info"), "Exchange id and version of the kernel.", labels=("exchange_id", "version")
    )
    info.add_metric((exchange_id, kernel_version()), 1)
    yield info
    yield gauge("ready", "Whether all conditions hold (1) or not (0).", health["ready"])
    conditions = {item["type"]: item["status"] for item in health["conditions"]}
    types = (*CONDITIONS, *ADVISORY)
    yield gauges("condition", "Whether the readiness condition holds (1) or not (0).", conditions, type=types)
    yield gauge("epoch", "Epoch of the newest leader.", epoch)
    yield gauge("projection_position", "Position of the last event folded.", position)
    text = "Intents that are active, or whose order may be live."
    yield gauges("live_intents", text, tally.statuses, status=ReconciliationStatus)
    text = "Live intents by their difference from the actual order."
    yield gauges("intent_actual_diff", text, tally.differences, kind=ActionKind)
    text = "Age of the oldest intent that is not reconciled yet; 0: none."
    yield gauge("oldest_unsynced_intent_seconds", text, age_s(tally.oldest_unsynced_ns, tally.at_ns))
    yield gauge("unknown_attempts", "Attempts whose outcome is unknown.", tally.unknown)
    text = "Age of the oldest attempt whose outcome is unknown; 0: none."
    yield gauge("oldest_unknown_attempt_seconds", text, age_s(tally.oldest_unknown_ns, tally.at_ns))
    yield gauges("open_findings", "Open findings.", tally.findings, kind=FindingKind)


class KernelGauges(Collector):
    """Gauges of a running kernel; zeros before it has recovered and after it has stopped."""

    def __init__(self, metrics: Metrics, exchange_id: str, *, clock: Clock) -> None:
        self.kernel: EventSourcedKernel | None = None
        """The kernel, while it runs."""
        self.tally = Tally()
        self.behind_s = 0.0
        """How long the projections have been behind the log without interruption, in seconds."""
        self.loop_lag_s = 0.0
        """Delay of the event loop at its newest heartbeat, in seconds."""
        self._health = NOT_RUNNING
        self._lag_events = 0
        self._metrics = metrics
        self._exchange_id = exchange_id
        self._clock = clock

    def note_health(self, found: Mapping[str, Any] | None) -> None:
        """Record a health check; None: the log did not answer, and the other values stay."""
        self._health = {**self._health, "ready": False, "lag_events": None} if found is None else found
        if self._health["lag_events"] is not None:
            self._lag_events = max(0, self._health["lag_events"])

    def collect(self) -> Iterator[Metric]:
        kernel, health = self.kernel, self._health
        position, epoch = (0, 0) if kernel is None else (kernel.state.position, kernel.state.epoch)
        yield from log_gauges(self._exchange_id, self.tally, health, position=position, epoch=epoch)
        yield named("leader_election_master_status", "Whether this process leads (1) or not (0).", health["leader"])
        reachable = health["lag_events"] is not None
        yield gauge("log_reachable", "Whether the log's head can be read (1) or not (0).", reachable)
        yield gauge("projection_lag_events", "Events of the log not folded yet.", self._lag_events)
        text = "Time for which the projections have been behind the log without interruption."
        yield gauge("projection_lag_seconds", text, self.behind_s)
        yield gauge("event_loop_lag_seconds", "Delay of the event loop at its newest heartbeat.", self.loop_lag_s)
        now_ns = self._clock.now_ns()
        text = "Time since the newest complete relist, or since it leads; 0 while it does not lead."
        yield gauge("relist_age_seconds", text, age_s(self._metrics.relisted_ns, now_ns))
        text = "Time since the last report of the venue's stream; 0 before the first."
        yield gauge("venue_stream_last_report_age_seconds", text, age_s(self._metrics.heard_ns, now_ns))
        engine = None if kernel is None else kernel.engine
        running = engine is not None and engine.running
        yield gauge("running", "Whether the reconciler's loop runs (1) or not (0).", running)
        yield from work_gauges(EngineReading() if engine is None else engine.reading())
        yield from limit_gauges({} if engine is None or engine.at_venue is None else engine.at_venue.limiter.readings())


def work_gauges(reading: EngineReading) -> Iterator[Metric]:
    yield gauge("reconciliation_lag_ms", "Duration of the newest reconciler run.", reading.lag_ms)
    yield gauge("pending_reconciliations", "Keys ready, delayed or being processed.", reading.pending)
    yield gauge("workers", "Keys that may be processed concurrently.", reading.workers)
    yield gauge("active_workers", "Keys being processed.", len(reading.ages_s))
    yield named("workqueue_depth", "Keys that are ready.", reading.ready)
    yield named("workqueue_unfinished_work_seconds", "Summed age of the keys being processed.", sum(reading.ages_s))
    oldest_s = max(reading.ages_s, default=0.0)
    yield named("workqueue_longest_running_processor_seconds", "Age of the oldest key being processed.", oldest_s)


def limit_gauges(limits: Mapping[tuple[str, str], LimitReading]) -> Iterator[Metric]:
    for name, text, values in (
        ("used", "Weight used in the window, as far as known.", {key: item.used for key, item in limits.items()}),
        ("limit", "Weight that the venue allows; 0: no such limit.", {key: item.limit for key, item in limits.items()}),
        ("reserved", "Weight of it reserved for cancels.", {key: item.reserved for key, item in limits.items()}),
    ):
        yield gauges(f"budget_{name}", text, values, limit=RateLimitKind, window=RateWindow)


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(full_name(name), text, value=float(value))


def gauges(name: str, text: str, values: Mapping[Any, float], /, **labels: Iterable[str]) -> Metric:
    """A gauge with a series for each combination of label values, zero where `values` has none."""
    family = GaugeMetricFamily(full_name(name), text, labels=tuple(labels))
    for key in itertools.product(*labels.values()):
        family.add_metric(key, float(values.get(key if len(key) > 1 else key[0], 0)))
    return family


def named(name: str, text: str, value: float) -> Metric:
    """A gauge in client-go's convention, labelled with the work queue's name."""
    return gauges(name, text, {QUEUE: value}, name=(QUEUE,))
