"""Gauges that are read at the moment when metrics are collected: how far the fold is, what is unknown, what differs.

`replay.host.probes` registers `KernelGauges` in the registry of the kernel that runs; `replay.views.metrics` renders
`log_gauges` alone for a kernel that only reads a log. Collecting asks neither log nor venue and changes nothing: what
takes long, or has to be awaited (the tally of live intents, the health check), is found before and handed over. Every
series is always there, at zero where nothing is known.
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
from kernel.lifecycle import Record
from kernel.lifecycle.record import reconciliation_status
from kernel.metrics import QUEUE, EngineReading, LimitReading, Metrics, RateWindow, full_name
from kernel.models import AttemptOutcome, FindingKind, ReconciliationStatus
from kernel.plan import difference
from kernel.platform.version import kernel_version
from kernel.safety.readiness import CONDITIONS
from kernel.state import KernelState
from kernel.venues.base import RateLimitKind

SLICE = 25
"""Live intents looked at before the event loop has its turn."""
SERVED = (ReconciliationStatus.SYNCED, ReconciliationStatus.FAILED)
"""Nothing more is going to be done for these."""
NOT_RUNNING: Mapping[str, Any] = {"conditions": (), "ready": False, "leader": False, "lag_events": None}
"""The health of a kernel that has not recovered yet, or has stopped: nothing holds."""


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


# ---------------------------------------------------------------------------------------------------------- the collectors
def log_gauges(
    exchange_id: str, tally: Tally, health: Mapping[str, Any], *, position: int, epoch: int
) -> Iterator[Metric]:
    """What any kernel over a log can tell, also one that does not lead; `health` is what a health check found."""
    info = GaugeMetricFamily(full_name("info"), "Which kernel this is.", labels=("exchange_id", "version"))
    info.add_metric((exchange_id, kernel_version()), 1)
    yield info
    yield gauge("ready", "Whether all conditions hold (1) or not (0).", health["ready"])
    conditions = {item["type"]: item["status"] for item in health["conditions"]}
    yield gauges("condition", "Readiness: whether it holds (1) or not (0).", conditions, type=CONDITIONS)
    yield gauge("epoch", "Epoch of the newest leader.", epoch)
    yield gauge("projection_position", "Position of the last event folded.", position)
    text = "Intents that want something, or whose order may be live."
    yield gauges("live_intents", text, tally.statuses, status=ReconciliationStatus)
    text = "Live intents by what differs from the venue."
    yield gauges("intent_actual_diff", text, tally.differences, kind=ActionKind)
    text = "Age of the oldest wish that is not served yet; 0: none."
    yield gauge("oldest_unsynced_intent_seconds", text, age_s(tally.oldest_unsynced_ns, tally.at_ns))
    yield gauge("unknown_attempts", "Attempts that may have happened: unknown is not no.", tally.unknown)
    text = "Age of the oldest of them; 0: none."
    yield gauge("oldest_unknown_attempt_seconds", text, age_s(tally.oldest_unknown_ns, tally.at_ns))
    yield gauges("open_findings", "What should not be, and is.", tally.findings, kind=FindingKind)


class KernelGauges(Collector):
    """What a kernel that runs tells beside its counters; before it has recovered, and once it has stopped, zeros."""

    def __init__(self, metrics: Metrics, exchange_id: str, *, clock: Clock) -> None:
        self.kernel: EventSourcedKernel | None = None
        """The kernel while it runs."""
        self.tally = Tally()
        self.behind_s = 0.0
        """For how long the projections have been behind the log without a pause."""
        self.loop_lag_s = 0.0
        """How late the event loop was at the newest beat."""
        self._health = NOT_RUNNING
        self._lag_events = 0
        self._metrics = metrics
        self._exchange_id = exchange_id
        self._clock = clock

    def note_health(self, found: Mapping[str, Any] | None) -> None:
        """Take what a health check found; None: the log did not answer, and what else holds stays as it was seen last."""
        self._health = {**self._health, "ready": False, "lag_events": None} if found is None else found
        if self._health["lag_events"] is not None:
            self._lag_events = max(0, self._health["lag_events"])

    def collect(self) -> Iterator[Metric]:
        """Each gauge with all its series."""
        kernel, health = self.kernel, self._health
        position, epoch = (0, 0) if kernel is None else (kernel.state.position, kernel.state.epoch)
        yield from log_gauges(self._exchange_id, self.tally, health, position=position, epoch=epoch)
        yield named("leader_election_master_status", "Whether this process leads (1) or not (0).", health["leader"])
        reachable = health["lag_events"] is not None
        yield gauge("log_reachable", "Whether the log's head can be read (1) or not (0).", reachable)
        yield gauge("projection_lag_events", "Events in the log that are not folded yet.", self._lag_events)
        text = "For how long the projections have been behind the log without a pause."
        yield gauge("projection_lag_seconds", text, self.behind_s)
        yield gauge("event_loop_lag_seconds", "How late the event loop was at the newest beat.", self.loop_lag_s)
        now_ns = self._clock.now_ns()
        text = "Since the newest complete one, or since it leads; 0 while it does not lead."
        yield gauge("relist_age_seconds", text, age_s(self._metrics.relisted_ns, now_ns))
        text = "Since the stream's last report; 0 before the first."
        yield gauge("venue_stream_last_report_age_seconds", text, age_s(self._metrics.heard_ns, now_ns))
        engine = None if kernel is None else kernel.engine
        running = engine is not None and engine.running
        yield gauge("running", "Whether the reconciler's loop runs (1) or not (0).", running)
        yield from work_gauges(EngineReading() if engine is None else engine.reading())
        yield from limit_gauges({} if engine is None or engine.at_venue is None else engine.at_venue.limiter.readings())


def work_gauges(reading: EngineReading) -> Iterator[Metric]:
    """The reconciler's runs and its queue."""
    yield gauge("reconciliation_lag_ms", "How long the newest run took.", reading.lag_ms)
    yield gauge("pending_reconciliations", "Keys ready, delayed or worked on.", reading.pending)
    yield gauge("workers", "Keys that may be worked on at the same time.", reading.workers)
    yield gauge("active_workers", "Keys that are worked on.", len(reading.ages_s))
    yield named("workqueue_depth", "Keys that are ready.", reading.ready)
    yield named("workqueue_unfinished_work_seconds", "Age of all work in hand, summed.", sum(reading.ages_s))
    oldest_s = max(reading.ages_s, default=0.0)
    yield named("workqueue_longest_running_processor_seconds", "Age of the oldest work in hand.", oldest_s)


def limit_gauges(limits: Mapping[tuple[str, str], LimitReading]) -> Iterator[Metric]:
    """The rate limits, by kind and window."""
    for name, text, values in (
        ("used", "Weight spent in the window, as far as is known.", {key: item.used for key, item in limits.items()}),
        ("limit", "Weight that the venue takes; 0: no such limit.", {key: item.limit for key, item in limits.items()}),
        ("reserved", "Weight of it that is kept for cancels.", {key: item.reserved for key, item in limits.items()}),
    ):
        yield gauges(f"budget_{name}", text, values, limit=RateLimitKind, window=RateWindow)


def gauge(name: str, text: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(full_name(name), text, value=float(value))


def gauges(name: str, text: str, values: Mapping[Any, float], /, **labels: Iterable[str]) -> Metric:
    """A gauge with a series for each combination of its labels' values, at zero where nothing is given."""
    family = GaugeMetricFamily(full_name(name), text, labels=tuple(labels))
    for key in itertools.product(*labels.values()):
        family.add_metric(key, float(values.get(key if len(key) > 1 else key[0], 0)))
    return family


def named(name: str, text: str, value: float) -> Metric:
    """A gauge of client-go's convention, labelled with the work queue's name."""
    return gauges(name, text, {QUEUE: value}, name=(QUEUE,))
