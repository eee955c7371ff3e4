"""The kernel's counters and histograms: metrics of prometheus-client in one registry for each kernel, never the global
one.

The composition root makes one `Metrics` and passes it to the queue, the engine, the sender, the looker, the session and
the writer. `replay.views.metrics` renders the registry; `replay.views.gauges` adds what is read when the registry is
collected. Promises: every series exists from the beginning, at zero, so that a rate is right from the first event on;
label values are closed sets, never the name of an order, an intent or a symbol, so that the number of series never
grows.
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
"""Upper bounds, in seconds: decades are too coarse for what an order waits."""
QUEUE = "reconciler"
"""The work queue's name."""
PREFIX = "exchange_kernel_"
"""Before every name that is not a convention of others."""
CONVENTIONS = ("workqueue_", "leader_election_")
"""How names begin that are client-go's."""


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


class LookResult(StrEnum):
    """What a look at the venue showed."""

    FOUND = "FOUND"
    NOT_FOUND = "NOT_FOUND"
    INCOMPLETE = "INCOMPLETE"
    FAILED = "FAILED"


class RunResult(StrEnum):
    """How one run of the reconciler ended."""

    DONE = "DONE"
    AFTER = "AFTER"
    FAILED = "FAILED"
    ERROR = "ERROR"
    BUG = "BUG"
    FENCED = "FENCED"


class NoteResult(StrEnum):
    """How writing a signed note of the log ended."""

    WRITTEN = "WRITTEN"
    FAILED = "FAILED"


class RelistResult(StrEnum):
    """How asking the venue for everything ended."""

    COMPLETE = "COMPLETE"
    INCOMPLETE = "INCOMPLETE"
    FAILED = "FAILED"


class RateWindow(StrEnum):
    """How long the window of a rate limit is: seconds, minutes (or hours), a day (or more)."""

    SECOND = "SECOND"
    MINUTE = "MINUTE"
    DAY = "DAY"


def window_label(window_ns: int) -> RateWindow:
    """Under which label a window is told."""
    if window_ns < 60 * NS_PER_S:
        return RateWindow.SECOND
    return RateWindow.MINUTE if window_ns < 86_400 * NS_PER_S else RateWindow.DAY


# ------------------------------------------------------------------------------------------------------------- readings
class LimitReading(NamedTuple):
    """One rate limit of the venue at one instant, in the limit's weight."""

    used: float
    limit: int
    reserved: float


class EngineReading(NamedTuple):
    """The reconciler's work at one instant: keys by where they are, the newest run's duration, ages of the keys in hand."""

    lag_ms: float = 0.0
    pending: int = 0
    workers: int = 0
    ready: int = 0
    ages_s: tuple[float, ...] = ()


# ---------------------------------------------------------------------------------------------------------- the metrics
class Metrics:
    """The counters and histograms of one kernel, and the registry that holds them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.relisted_ns: int | None = None
        """When the newest complete relist ended."""
        self.heard_ns: int | None = None
        """When the venue's stream brought something last."""
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
        self.retry_count = self._counter("retry_count_total", "Runs that were put off because of an error.")
        text = "Keys that became ready; one that is ready already adds none."
        self.adds = self._counter("workqueue_adds_total", text, name=name)
        text = "From ready to a worker, its own earlier run included."
        self.queue_duration = self._histogram("workqueue_queue_duration_seconds", text, name=name)
        self.work_duration = self._histogram("workqueue_work_duration_seconds", "From a worker to done.", name=name)
        text = "Keys put off to an instant, for whatever reason."
        self.retries = self._counter("workqueue_retries_total", text, name=name)
        self.reconciles = self._counter(
            "reconcile_total", "Runs of the reconciler by how they ended.", result=RunResult
        )
        self.reconcile_duration = self._histogram("reconcile_duration_seconds", "One run of the reconciler.")

    def _attempts(self) -> None:
        text = "Attempts recorded before the venue heard of them."
        self.attempts_started = self._counter("attempts_started_total", text, kind=AttemptKind)
        text = "Attempts by what was known when their call ended."
        self.attempts = self._counter("attempts_total", text, kind=AttemptKind, outcome=AttemptOutcome)
        text = "From the instant of a wish, taken as it was committed, to the first call for it."
        self.intent_to_venue = self._histogram("intent_to_venue_seconds", text, kind=AttemptKind)
        self.looks = self._counter("looks_total", "Looks for one order.", scope=LookScope, result=LookResult)

    def _venue(self) -> None:
        text = "Calls of the venue."
        self.venue_requests = self._counter("venue_requests_total", text, operation=Operation, result=CallResult)
        text = "One call of the venue, whatever came of it."
        self.venue_duration = self._histogram("venue_request_duration_seconds", text, operation=Operation)
        self.connects = self._counter("venue_connects_total", "Connects that succeeded.")
        self.reconnects = self._counter("venue_stream_reconnects_total", "Of them, all but the first.")
        self.reports = self._counter("venue_reports_total", "Reports that the venue's stream brought.")
        self.fills = self._counter("fills_recorded_total", "Fills that this process recorded, each once.")
        self.relists = self._counter("relists_total", "Times the venue was asked for everything.", result=RelistResult)
        text = "Times that there was no room, by what was to be done; those in line behind it are not counted."
        priorities = [item.label for item in reversed(Priority)]
        self.budget_waits = self._counter(
            "budget_waits_total", text, limit=RateLimitKind, window=RateWindow, priority=priorities
        )

    def _log(self) -> None:
        self.appends = self._counter("log_appends_total", "Appends to the log by how they ended.", result=AppendResult)
        self.append_duration = self._histogram("log_append_duration_seconds", "One append, durable when it returns.")
        text = "Signed notes of the log, as far as this kernel leads it."
        self.notes = self._counter("notes_total", text, result=NoteResult)
        text = "Position up to which this kernel's newest note goes."
        self.note_position = Gauge(full_name("note_position"), text, registry=self.registry)

    # ------------------------------------------------------------------------------------------------------- measuring
    @contextmanager
    def calling(self, operation: str, clock: Clock) -> Iterator[None]:
        """Around one call of the venue: how long it took and how it ended. Changes nothing of what it raises."""
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

    @contextmanager
    def appending(self, clock: Clock) -> Iterator[None]:
        """Around one append to the log."""
        began_ns = clock.now_ns()
        result = AppendResult.FAILED
        try:
            yield
            result = AppendResult.RECORDED
        except FencedError:
            result = AppendResult.FENCED
            raise
        except ConflictError:
            result = AppendResult.CONFLICT
            raise
        finally:
            self.appends.labels(result).inc()
            observe_ns(self.append_duration, clock.now_ns() - began_ns)

    def looked(self, scopes: Iterable[LookScope], result: LookResult) -> None:
        """A look for one order ended."""
        for scope in scopes:
            self.looks.labels(scope, result).inc()


def full_name(name: str) -> str:
    """A metric's name as it is exposed."""
    return name if name.startswith(CONVENTIONS) else PREFIX + name


def seeded(metric: Series, values: Iterable[Iterable[str]]) -> Series:
    """The metric, with a series at zero for each combination of its labels' values."""
    for combination in itertools.product(*values):
        if combination:
            metric.labels(*combination)
    return metric


def observe_ns(histogram: Histogram, nanoseconds: int) -> None:
    """Count a duration. A clock that was set back meanwhile makes it 0, never less."""
    histogram.observe(max(0, nanoseconds) / NS_PER_S)


def value_of(series: Counter | Gauge) -> float:
    """The present value of one series."""
    [family] = series.collect()
    return family.samples[0].value


def call_result(problem: VenueError) -> CallResult:
    """What one of the venue's errors says of a call."""
    match problem:
        case Rejected():
            return CallResult.REJECTED
        case NotSent():
            return CallResult.NOT_SENT
        case OutcomeUnknown():
            return CallResult.UNKNOWN
    return CallResult.FAILED


class QueueMetrics:
    """What one work queue counts. Keys are remembered while they wait or are worked on, and named nowhere."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._adds = metrics.adds.labels(QUEUE)
        self._retries = metrics.retries.labels(QUEUE)
        self._queue_duration = metrics.queue_duration.labels(QUEUE)
        self._work_duration = metrics.work_duration.labels(QUEUE)
        self._clock = clock
        self._added_ns: dict[str, int] = {}
        self._taken_ns: dict[str, int] = {}

    def added(self, key: str, now_ns: int) -> None:
        """A key is to be worked on; one that waits already counts once."""
        if key not in self._added_ns:
            self._added_ns[key] = now_ns
            self._adds.inc()

    def taken(self, key: str) -> None:
        """A worker has it."""
        now_ns = self._taken_ns[key] = self._clock.now_ns()
        observe_ns(self._queue_duration, now_ns - self._added_ns.pop(key, now_ns))

    def done(self, key: str) -> None:
        """The worker is through with it."""
        if (taken_ns := self._taken_ns.pop(key, None)) is not None:
            observe_ns(self._work_duration, self._clock.now_ns() - taken_ns)

    def put_off(self) -> None:
        """A key is to be worked on later."""
        self._retries.inc()

    def closed(self) -> None:
        """Nothing waits any more."""
        self._added_ns.clear()

    def ages_s(self) -> tuple[float, ...]:
        """For each key that a worker has, since when."""
        now_ns = self._clock.now_ns()
        return tuple(max(0, now_ns - taken_ns) / NS_PER_S for taken_ns in self._taken_ns.values())
