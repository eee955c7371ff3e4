"""The kernel's counters and histograms, in one prometheus-client registry for each kernel.

The composition root passes one `Metrics` to every part; `replay.views.metrics` renders the registry and
`replay.views.gauges` adds gauges. Every series exists from the start, at zero, so rates are right from the first event on.
Label values are closed sets, never ids or symbols, so the number of series is constant.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kernel.actions import Priority
from kernel.clock import NS_PER_S, Clock
from kernel.errors import ConflictError, FencedError, NotSent, OutcomeUnknown, Rejected, VenueError
from kernel.models import AttemptKind, AttemptOutcome, LookScope
from kernel.venues.base import Operation as Operation
from kernel.venues.base import RateLimitKind

BUCKETS_S = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0,
)  # fmt: skip
"""Upper bounds in seconds."""
QUEUE = "reconciler"
"""Name of the work queue in labels."""
PREFIX = "exchange_kernel_"
CONVENTIONS = ("workqueue_", "leader_election_")
"""Prefixes of client-go's names, which get no prefix of ours."""

Series = TypeVar("Series", Counter, Histogram)


class CallResult(StrEnum):
    """How a call to the venue ended."""

    ANSWERED = "ANSWERED"
    REJECTED = "REJECTED"
    NOT_SENT = "NOT_SENT"
    UNKNOWN = "UNKNOWN"
    FAILED = "FAILED"


class AppendResult(StrEnum):
    """How an append to the log ended."""

    RECORDED = "RECORDED"
    CONFLICT = "CONFLICT"
    FENCED = "FENCED"
    FAILED = "FAILED"


APPEND_RESULTS: dict[type, AppendResult] = {
    type(None): AppendResult.RECORDED, ConflictError: AppendResult.CONFLICT, FencedError: AppendResult.FENCED
}  # fmt: skip
"""By the problem that ended an append; any other is FAILED."""


class LookResult(StrEnum):
    """How a status query ended."""

    FOUND = "FOUND"
    NOT_FOUND = "NOT_FOUND"
    INCOMPLETE = "INCOMPLETE"
    FAILED = "FAILED"


class RunResult(StrEnum):
    """How a run of the reconciler ended."""

    DONE = "DONE"
    AFTER = "AFTER"
    FAILED = "FAILED"
    ERROR = "ERROR"
    BUG = "BUG"
    FENCED = "FENCED"


class NoteResult(StrEnum):
    """How writing a signed tree head ended."""

    WRITTEN = "WRITTEN"
    FAILED = "FAILED"


class RelistResult(StrEnum):
    """How a venue snapshot ended."""

    COMPLETE = "COMPLETE"
    INCOMPLETE = "INCOMPLETE"
    FAILED = "FAILED"


class RateWindow(StrEnum):
    """Length of a rate limit's window: seconds, minutes to hours, a day or more."""

    SECOND = "SECOND"
    MINUTE = "MINUTE"
    DAY = "DAY"


def window_label(window_ns: int) -> RateWindow:
    if window_ns < 60 * NS_PER_S:
        return RateWindow.SECOND
    return RateWindow.MINUTE if window_ns < 86_400 * NS_PER_S else RateWindow.DAY


class LimitReading(NamedTuple):
    """One rate limit of the venue at one instant, in its weights."""

    used: float
    limit: int
    reserved: float


class EngineReading(NamedTuple):
    """The reconciler's work at one instant: duration of the newest run, keys by place, ages of the running ones."""

    lag_ms: float = 0.0
    pending: int = 0
    workers: int = 0
    ready: int = 0
    ages_s: tuple[float, ...] = ()


class Metrics:
    """The counters and histograms of one kernel, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.relisted_ns: int | None = None
        """When the newest complete venue snapshot ended."""
        self.heard_ns: int | None = None
        """When the venue's stream last brought a report."""
        self._reconciler()
        self._attempts()
        self._venue()
        self._log()

    def _counter(self, name: str, text: str, /, **labels: Iterable[str]) -> Counter:
        return seeded(Counter(full_name(name), text, tuple(labels), registry=self.registry), labels.values())

    def _histogram(self, name: str, text: str, /, **labels: Iterable[str]) -> Histogram:
        made = Histogram(full_name(name), text, tuple(labels), registry=self.registry, buckets=BUCKETS_S)
        return seeded(made, labels.values())

    def _reconciler(self) -> None:
        name = (QUEUE,)
        self.error_count = self._counter("error_count_total", "Runs that ended in an error.")
        self.retry_count = self._counter("retry_count_total", "Runs that were put off after an error.")
        text = "Keys that became ready; keys that are ready already are not counted."
        self.adds = self._counter("workqueue_adds_total", text, name=name)
        text = "Time from ready to the start of work, an earlier run of the key included."
        self.queue_duration = self._histogram("workqueue_queue_duration_seconds", text, name=name)
        self.work_duration = self._histogram(
            "workqueue_work_duration_seconds", "Time from the start of work to its end.", name=name
        )
        text = "Keys put off to a later instant."
        self.retries = self._counter("workqueue_retries_total", text, name=name)
        self.reconciles = self._counter(
            "reconcile_total", "Runs of the reconciler by how they ended.", result=RunResult
        )
        self.reconcile_duration = self._histogram("reconcile_duration_seconds", "Duration of a run of the reconciler.")

    def _attempts(self) -> None:
        text = "Attempts recorded, each before its request was sent."
        self.attempts_started = self._counter("attempts_started_total", text, kind=AttemptKind)
        text = "Attempts by their outcome when the call ended."
        self.attempts = self._counter("attempts_total", text, kind=AttemptKind, outcome=AttemptOutcome)
        text = "Time from the commit of an intent's change to the first venue call for it."
        self.intent_to_venue = self._histogram("intent_to_venue_seconds", text, kind=AttemptKind)
        self.looks = self._counter("looks_total", "Status queries for one order.", scope=LookScope, result=LookResult)

    def _venue(self) -> None:
        text = "Venue calls."
        self.venue_requests = self._counter("venue_requests_total", text, operation=Operation, result=CallResult)
        text = "Duration of a venue call, however it ended."
        self.venue_duration = self._histogram("venue_request_duration_seconds", text, operation=Operation)
        self.connects = self._counter("venue_connects_total", "Successful connects to the venue.")
        self.reconnects = self._counter("venue_stream_reconnects_total", "Successful connects after the first.")
        self.reports = self._counter("venue_reports_total", "Reports on the venue's stream.")
        self.fills = self._counter("fills_recorded_total", "Fills recorded by this process.")
        self.relists = self._counter("relists_total", "Venue snapshots.", result=RelistResult)
        text = "Times that an action lacked rate-limit capacity; keys queued behind it are not counted."
        priorities = [item.label for item in reversed(Priority)]
        self.budget_waits = self._counter(
            "budget_waits_total", text, limit=RateLimitKind, window=RateWindow, priority=priorities
        )

    def _log(self) -> None:
        self.appends = self._counter("log_appends_total", "Appends to the log by how they ended.", result=AppendResult)
        self._appended = {result: self.appends.labels(result) for result in AppendResult}
        self.append_duration = self._histogram(
            "log_append_duration_seconds", "Duration of an append until it is durable."
        )
        text = "Signed tree heads written while this kernel leads."
        self.notes = self._counter("notes_total", text, result=NoteResult)
        text = "Log position of this kernel's newest signed tree head."
        self.note_position = Gauge(full_name("note_position"), text, registry=self.registry)

    @contextmanager
    def calling(self, operation: str, clock: Clock) -> Iterator[None]:
        """Measure one venue call: its duration and how it ended."""
        began_ns = clock.now_ns()
        result = CallResult.UNKNOWN
        try:
            yield
            result = CallResult.ANSWERED
        except VenueError as problem:
            result = call_result(problem)
            raise
        finally:
            self.venue_requests.labels(operation, result).inc()
            observe_ns(self.venue_duration.labels(operation), clock.now_ns() - began_ns)

    def appended(self, took_ns: int, problem: BaseException | None = None) -> None:
        """Count one append to the log."""
        self._appended[APPEND_RESULTS.get(type(problem), AppendResult.FAILED)].inc()
        observe_ns(self.append_duration, took_ns)

    def looked(self, scopes: Iterable[LookScope], result: LookResult) -> None:
        """Count a status query for one order."""
        for scope in scopes:
            self.looks.labels(scope, result).inc()


def full_name(name: str) -> str:
    """Return a metric's name as exposed."""
    return name if name.startswith(CONVENTIONS) else PREFIX + name


def seeded(metric: Series, values: Iterable[Iterable[str]]) -> Series:
    """Return the metric with a series at zero for each combination of label values."""
    for combination in itertools.product(*values):
        if combination:
            metric.labels(*combination)
    return metric


def observe_ns(histogram: Histogram, nanoseconds: int) -> None:
    """Observe a duration, at least 0 even if the clock was set back."""
    histogram.observe(max(0, nanoseconds) / NS_PER_S)


def value_of(series: Counter | Gauge) -> float:
    [family] = series.collect()
    return family.samples[0].value


def call_result(problem: VenueError) -> CallResult:
    match problem:
        case Rejected():
            return CallResult.REJECTED
        case NotSent():
            return CallResult.NOT_SENT
        case OutcomeUnknown():
            return CallResult.UNKNOWN
    return CallResult.FAILED


class QueueMetrics:
    """The measurements of one work queue."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._adds = metrics.adds.labels(QUEUE)
        self._retries = metrics.retries.labels(QUEUE)
        self._queue_duration = metrics.queue_duration.labels(QUEUE)
        self._work_duration = metrics.work_duration.labels(QUEUE)
        self._clock = clock
        self._added_ns: dict[str, int] = {}
        self._taken_ns: dict[str, int] = {}

    def added(self, key: str, now_ns: int) -> None:
        """Count a key that became ready, once while it waits."""
        if key not in self._added_ns:
            self._added_ns[key] = now_ns
            self._adds.inc()

    def taken(self, key: str) -> None:
        """Observe the time that a key waited."""
        now_ns = self._taken_ns[key] = self._clock.now_ns()
        observe_ns(self._queue_duration, now_ns - self._added_ns.pop(key, now_ns))

    def done(self, key: str) -> None:
        """Observe the time that a worker had a key."""
        if (taken_ns := self._taken_ns.pop(key, None)) is not None:
            observe_ns(self._work_duration, self._clock.now_ns() - taken_ns)

    def put_off(self) -> None:
        """Count a key that was put off."""
        self._retries.inc()

    def closed(self) -> None:
        """Forget the waiting keys."""
        self._added_ns.clear()

    def ages_s(self) -> tuple[float, ...]:
        """Return the seconds since each running key was taken."""
        now_ns = self._clock.now_ns()
        return tuple(max(0, now_ns - taken_ns) / NS_PER_S for taken_ns in self._taken_ns.values())
