"""What the kernel counts: plain numbers, without a dependency, in one recorder that is passed to whoever counts.

Made by the composition root and handed to the queue, the engine, the sender, the looker, the session and the writer; read
by `kernel.gauges` (which sets what is measured when somebody asks) and by `replay.metrics` (which writes it down for
Prometheus). Promises: every series exists from the beginning, at zero, so that a rate is right from the first event on;
no series is named after an order, an intent or a symbol, so that their number never grows; counters never go back. It lives
on one event loop, knows no clock of its own and never fails a caller for what a label's value is: labels are closed sets.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

from kernel.actions import ActionKind, Priority
from kernel.clock import NS_PER_S, Clock
from kernel.errors import ConflictError, FencedError, NotSent, OutcomeUnknown, Rejected, VenueError
from kernel.models import AttemptKind, AttemptOutcome, FindingKind, LookScope, ReconciliationStatus
from kernel.readiness import CONDITIONS
from kernel.venues.base import Operation as Operation
from kernel.venues.base import RateLimitKind

BUCKETS_S = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0,
)  # fmt: skip
"""Upper bounds, in seconds: decades are too coarse for what an order waits."""
QUEUE = "reconciler"
"""The work queue's name."""
PREFIX = "exchange_kernel_"
"""Before every name that is not a convention of others (`workqueue_…` and `leader_election_…` are client-go's)."""

Labels = tuple[str, ...]


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


# ------------------------------------------------------------------------------------------------------------ the kinds
class Family:
    """One metric: its name, a sentence, the names of its labels, and every combination of their values."""

    def __init__(self, name: str, text: str, /, **labels: Iterable[str]) -> None:
        self.name = name
        self.text = text
        self.label_names = tuple(labels)
        self.combinations: tuple[Labels, ...] = tuple(itertools.product(*(map(str, item) for item in labels.values())))


class Counter(Family):
    """What only grows."""

    def __init__(self, name: str, text: str, /, **labels: Iterable[str]) -> None:
        super().__init__(name, text, **labels)
        self._values = dict.fromkeys(self.combinations, 0)

    def add(self, *labels: str, by: int = 1) -> None:
        """It happened, so many times."""
        assert by >= 0, "a counter never goes back"
        self._values[labels] += by

    def value(self, *labels: str) -> int:
        """How often it has happened."""
        return self._values[labels]


class Gauge(Family):
    """What goes up and down."""

    def __init__(self, name: str, text: str, /, **labels: Iterable[str]) -> None:
        super().__init__(name, text, **labels)
        self._values: dict[Labels, float] = dict.fromkeys(self.combinations, 0.0)

    def set(self, value: float, *labels: str) -> None:
        """It is so much now."""
        assert labels in self._values, "labels are closed sets"
        self._values[labels] = float(value)

    def set_all(self, values: Mapping[str, float]) -> None:
        """It is so much for these values of its only label, and zero for all others."""
        for labels in self._values:
            self._values[labels] = float(values.get(labels[0], 0))

    def value(self, *labels: str) -> float:
        """How much it was when it was last looked at."""
        return self._values[labels]


class Buckets:
    """One series of a histogram."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        """Of each bucket by itself; the last one has no upper bound."""
        self.sum = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)


class Histogram(Family):
    """How long something takes, in seconds, in fixed buckets."""

    def __init__(self, name: str, text: str, /, **labels: Iterable[str]) -> None:
        super().__init__(name, text, **labels)
        self._series = {combination: Buckets() for combination in self.combinations}

    def observe_ns(self, nanoseconds: int, *labels: str) -> None:
        """It took so long. A clock that was set back meanwhile makes it no time, never less."""
        seconds = max(0, nanoseconds) / NS_PER_S
        series = self._series[labels]
        series.counts[bisect_left(BUCKETS_S, seconds)] += 1
        series.sum += seconds

    def series(self, *labels: str) -> Buckets:
        """What was seen so far."""
        return self._series[labels]


# --------------------------------------------------------------------------------------------------------- the recorder
class Metrics:
    """Every metric of one kernel."""

    def __init__(self) -> None:
        self.relisted_ns: int | None = None
        """When the newest complete relist ended."""
        self.heard_ns: int | None = None
        """When the venue's stream brought something last."""
        self._seed()
        self._workqueue()
        self._attempts()
        self._venue()
        self._rate_budget()
        self._log()
        self._standing()

    def _seed(self) -> None:
        """The seed's five keys."""
        self.running = Gauge(f"{PREFIX}running", "Whether the reconciler's loop runs (1) or not (0).")
        self.reconciliation_lag_ms = Gauge(f"{PREFIX}reconciliation_lag_ms", "How long the newest run took.")
        self.pending_reconciliations = Gauge(f"{PREFIX}pending_reconciliations", "Keys ready, delayed or worked on.")
        self.error_count = Counter(f"{PREFIX}error_count_total", "Runs that ended in an error.")
        self.retry_count = Counter(f"{PREFIX}retry_count_total", "Runs that were put off because of an error.")

    def _workqueue(self) -> None:
        name = (QUEUE,)
        self.depth = Gauge("workqueue_depth", "Keys that are ready.", name=name)
        self.adds = Counter(
            "workqueue_adds_total", "Keys that became ready; one that is ready already adds none.", name=name
        )
        self.queue_duration = Histogram(
            "workqueue_queue_duration_seconds", "From ready to a worker, its own earlier run included.", name=name
        )
        self.work_duration = Histogram("workqueue_work_duration_seconds", "From a worker to done.", name=name)
        self.unfinished_work = Gauge("workqueue_unfinished_work_seconds", "Age of all work in hand, summed.", name=name)
        self.longest_running = Gauge(
            "workqueue_longest_running_processor_seconds", "Age of the oldest work in hand.", name=name
        )
        self.retries = Counter("workqueue_retries_total", "Keys put off to an instant, for whatever reason.", name=name)
        self.workers = Gauge(f"{PREFIX}workers", "Keys that may be worked on at the same time.")
        self.active_workers = Gauge(f"{PREFIX}active_workers", "Keys that are worked on.")
        self.reconciles = Counter(
            f"{PREFIX}reconcile_total", "Runs of the reconciler by how they ended.", result=RunResult
        )
        self.reconcile_duration = Histogram(f"{PREFIX}reconcile_duration_seconds", "One run of the reconciler.")

    def _attempts(self) -> None:
        self.attempts_started = Counter(
            f"{PREFIX}attempts_started_total", "Attempts recorded before the venue heard of them.", kind=AttemptKind
        )
        self.attempts = Counter(
            f"{PREFIX}attempts_total", "Attempts by what was known when their call ended.",
            kind=AttemptKind, outcome=AttemptOutcome,
        )  # fmt: skip
        self.intent_to_venue = Histogram(
            f"{PREFIX}intent_to_venue_seconds",
            "From the instant of a wish, taken as it was committed, to the first call for it.",
            kind=AttemptKind,
        )
        self.looks = Counter(f"{PREFIX}looks_total", "Looks for one order.", scope=LookScope, result=LookResult)
        self.unknown_attempts = Gauge(
            f"{PREFIX}unknown_attempts", "Attempts that may have happened: unknown is not no."
        )
        self.oldest_unknown = Gauge(f"{PREFIX}oldest_unknown_attempt_seconds", "Age of the oldest of them; 0: none.")

    def _venue(self) -> None:
        self.venue_requests = Counter(
            f"{PREFIX}venue_requests_total", "Calls of the venue.", operation=Operation, result=CallResult
        )
        self.venue_duration = Histogram(
            f"{PREFIX}venue_request_duration_seconds",
            "One call of the venue, whatever came of it.",
            operation=Operation,
        )
        self.connects = Counter(f"{PREFIX}venue_connects_total", "Connects that succeeded.")
        self.reconnects = Counter(f"{PREFIX}venue_stream_reconnects_total", "Of them, all but the first.")
        self.reports = Counter(f"{PREFIX}venue_reports_total", "Reports that the venue's stream brought.")
        self.heard_age = Gauge(
            f"{PREFIX}venue_stream_last_report_age_seconds", "Since the stream's last report; 0 before the first."
        )
        self.fills = Counter(f"{PREFIX}fills_recorded_total", "Fills that this process recorded, each once.")
        self.relists = Counter(
            f"{PREFIX}relists_total", "Times the venue was asked for everything.", result=RelistResult
        )
        self.relist_age = Gauge(
            f"{PREFIX}relist_age_seconds", "Since the newest complete one, or since it leads; 0 while it does not lead."
        )

    def _rate_budget(self) -> None:
        limit = {"limit": RateLimitKind, "window": RateWindow}
        self.budget_used = Gauge(f"{PREFIX}budget_used", "Weight spent in the window, as far as is known.", **limit)
        self.budget_limit = Gauge(f"{PREFIX}budget_limit", "Weight that the venue takes; 0: no such limit.", **limit)
        self.budget_reserved = Gauge(f"{PREFIX}budget_reserved", "Weight of it that is kept for cancels.", **limit)
        self.budget_waits = Counter(
            f"{PREFIX}budget_waits_total",
            "Times that there was no room, by what was to be done; those in line behind it are not counted.",
            **limit,
            priority=[item.label for item in reversed(Priority)],
        )

    def _log(self) -> None:
        self.appends = Counter(
            f"{PREFIX}log_appends_total", "Appends to the log by how they ended.", result=AppendResult
        )
        self.append_duration = Histogram(f"{PREFIX}log_append_duration_seconds", "One append, durable when it returns.")
        self.position = Gauge(f"{PREFIX}projection_position", "Position of the last event folded.")
        self.lag_events = Gauge(f"{PREFIX}projection_lag_events", "Events in the log that are not folded yet.")
        self.lag_seconds = Gauge(
            f"{PREFIX}projection_lag_seconds", "For how long the projections have been behind the log without a pause."
        )
        self.log_reachable = Gauge(f"{PREFIX}log_reachable", "Whether the log's head can be read (1) or not (0).")
        self.notes = Counter(
            f"{PREFIX}notes_total", "Signed notes of the log, as far as this kernel leads it.", result=NoteResult
        )
        self.note_position = Gauge(f"{PREFIX}note_position", "Position up to which this kernel's newest note goes.")

    def _standing(self) -> None:
        self.epoch = Gauge(f"{PREFIX}epoch", "Epoch of the newest leader.")
        self.leader = Gauge(
            "leader_election_master_status", "Whether this process leads (1) or not (0).", name=(QUEUE,)
        )
        self.conditions = Gauge(f"{PREFIX}condition", "Readiness: whether it holds (1) or not (0).", type=CONDITIONS)
        self.ready = Gauge(f"{PREFIX}ready", "Whether all conditions hold (1) or not (0).")
        self.findings = Gauge(f"{PREFIX}open_findings", "What should not be, and is.", kind=FindingKind)
        self.live_intents = Gauge(
            f"{PREFIX}live_intents",
            "Intents that want something, or whose order may be live.",
            status=ReconciliationStatus,
        )
        self.differences = Gauge(
            f"{PREFIX}intent_actual_diff", "Live intents by what differs from the venue.", kind=ActionKind
        )
        self.oldest_unsynced = Gauge(
            f"{PREFIX}oldest_unsynced_intent_seconds", "Age of the oldest wish that is not served yet; 0: none."
        )
        self.loop_lag = Gauge(f"{PREFIX}event_loop_lag_seconds", "How late the event loop was at the newest beat.")

    def families(self) -> Iterator[Family]:
        """Every metric, in the order of this file."""
        return (item for item in vars(self).values() if isinstance(item, Family))

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
            self.venue_requests.add(operation, result)
            self.venue_duration.observe_ns(clock.now_ns() - began_ns, operation)

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
            self.appends.add(result)
            self.append_duration.observe_ns(clock.now_ns() - began_ns)

    def looked(self, scopes: Iterable[LookScope], result: LookResult) -> None:
        """A look for one order ended."""
        for scope in scopes:
            self.looks.add(scope, result)


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
        self._metrics = metrics
        self._clock = clock
        self._added_ns: dict[str, int] = {}
        self._taken_ns: dict[str, int] = {}

    def added(self, key: str, now_ns: int) -> None:
        """A key is to be worked on; one that waits already counts once."""
        if key not in self._added_ns:
            self._added_ns[key] = now_ns
            self._metrics.adds.add(QUEUE)

    def taken(self, key: str) -> None:
        """A worker has it."""
        now_ns = self._taken_ns[key] = self._clock.now_ns()
        self._metrics.queue_duration.observe_ns(now_ns - self._added_ns.pop(key, now_ns), QUEUE)

    def done(self, key: str) -> None:
        """The worker is through with it."""
        if (taken_ns := self._taken_ns.pop(key, None)) is not None:
            self._metrics.work_duration.observe_ns(self._clock.now_ns() - taken_ns, QUEUE)

    def put_off(self) -> None:
        """A key is to be worked on later."""
        self._metrics.retries.add(QUEUE)

    def closed(self) -> None:
        """Nothing waits any more."""
        self._added_ns.clear()

    def observe(self, ready: int) -> None:
        """Set what is measured when somebody asks."""
        now_ns = self._clock.now_ns()
        ages_s = [max(0, now_ns - taken_ns) / NS_PER_S for taken_ns in self._taken_ns.values()]
        self._metrics.depth.set(ready, QUEUE)
        self._metrics.unfinished_work.set(sum(ages_s), QUEUE)
        self._metrics.longest_running.set(max(ages_s, default=0.0), QUEUE)
        self._metrics.active_workers.set(len(ages_s))
