"""What the kernel counts: every series there from the beginning, none named after an order, sums exact."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.clock import NS_PER_S
from kernel.errors import ConflictError, FencedError, LogUnavailableError, NotSent, OutcomeUnknown, Rejected, VenueError
from kernel.metrics import (
    BUCKETS_S,
    QUEUE,
    AppendResult,
    CallResult,
    Counter,
    Gauge,
    Histogram,
    LookResult,
    Metrics,
    Operation,
)
from kernel.models import AttemptKind, AttemptOutcome, FindingKind, LookScope, ReconciliationStatus
from kernel.readiness import CONDITIONS
from kernel.workqueue import Priority, WorkQueue
from tests.paper_world import HandClock

LABELS = {
    "name", "kind", "outcome", "scope", "result", "operation", "type", "status", "limit", "window", "priority",
}  # fmt: skip
"""Closed sets, all of them: neither an order nor an intent nor a symbol is among them."""


def test_every_series_is_there_from_the_beginning() -> None:
    """Each value that a label can have makes a series, and it is zero."""
    metrics = Metrics()
    for family in metrics.families():
        assert family.combinations
        for labels in family.combinations:
            match family:
                case Counter() | Gauge():
                    assert family.value(*labels) == 0
                case Histogram():
                    assert (family.series(*labels).count, family.series(*labels).sum) == (0, 0)
    assert set(metrics.attempts.combinations) == {(kind, item) for kind in AttemptKind for item in AttemptOutcome}
    assert {labels[0] for labels in metrics.findings.combinations} == set(FindingKind)
    assert {labels[0] for labels in metrics.live_intents.combinations} == set(ReconciliationStatus)
    assert {labels[0] for labels in metrics.conditions.combinations} == set(CONDITIONS)
    assert {labels[2] for labels in metrics.budget_waits.combinations} == {priority.name for priority in Priority}
    assert len(metrics.looks.combinations) == len(LookScope) * len(LookResult)


def test_no_series_is_named_after_an_order() -> None:
    """Labels are of closed sets, and an unknown value is refused rather than made a new series."""
    metrics = Metrics()
    assert {name for family in metrics.families() for name in family.label_names} <= LABELS
    assert sum(len(family.combinations) for family in metrics.families()) < 300
    with pytest.raises(KeyError):
        metrics.attempts.add("btc-bid-1", AttemptOutcome.ACCEPTED)
    with pytest.raises(AssertionError):
        metrics.findings.set(1, "btc-bid-1")


def test_names_are_prometheus_names_and_each_is_there_once() -> None:
    """Counters end in `_total`, nothing else does, and what is a convention of others bears its name."""
    families = list(Metrics().families())
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert {f.name.endswith("_total") for f in families if isinstance(f, Counter)} == {True}
    assert {f.name.endswith("_total") for f in families if not isinstance(f, Counter)} == {False}
    assert {name for name in names if name.startswith("workqueue_")} == {
        "workqueue_depth",
        "workqueue_adds_total",
        "workqueue_queue_duration_seconds",
        "workqueue_work_duration_seconds",
        "workqueue_unfinished_work_seconds",
        "workqueue_longest_running_processor_seconds",
        "workqueue_retries_total",
    }


def test_a_counter_never_goes_back() -> None:
    """It takes no negative step."""
    counter = Metrics().fills
    counter.add(by=3)
    with pytest.raises(AssertionError):
        counter.add(by=-1)
    assert counter.value() == 3


@given(st.lists(st.integers(-NS_PER_S, 100 * NS_PER_S), max_size=50))
def test_a_histogram_adds_up(durations_ns: list[int]) -> None:
    """Count and sum are those of what was seen; each bucket holds what is not above its bound and above the one below."""
    histogram = Metrics().reconcile_duration
    for duration_ns in durations_ns:
        histogram.observe_ns(duration_ns)
    seen = [max(0, duration_ns) / NS_PER_S for duration_ns in durations_ns]
    series = histogram.series()

    assert series.count == len(seen)
    assert series.sum == pytest.approx(sum(seen))
    for number, bound in enumerate(BUCKETS_S):
        assert sum(series.counts[: number + 1]) == sum(item <= bound for item in seen)


async def test_the_queue_is_measured_exactly() -> None:
    """On a clock set by hand: a key waits 2 s, is worked on 3 s, is added twice meanwhile and waits again till done."""
    clock, metrics = HandClock(), Metrics()
    queue = WorkQueue(clock, metrics=metrics)
    for _ in range(3):
        queue.add("a")
    clock.forward(2)
    assert await queue.get() == "a"
    clock.forward(1)
    queue.add("a")
    queue.add("a")
    clock.forward(2)
    queue.observe()
    assert (metrics.depth.value(QUEUE), metrics.active_workers.value()) == (0, 1)
    assert metrics.unfinished_work.value(QUEUE) == metrics.longest_running.value(QUEUE) == 3
    queue.done("a")
    queue.observe()
    assert (metrics.depth.value(QUEUE), metrics.unfinished_work.value(QUEUE)) == (1, 0)
    await queue.get()

    waited, worked = metrics.queue_duration.series(QUEUE), metrics.work_duration.series(QUEUE)
    assert (waited.count, waited.sum) == (2, 2 + 2)
    assert (worked.count, worked.sum) == (1, 3)
    assert metrics.adds.value(QUEUE) == 2


async def test_the_longest_is_the_oldest_in_hand() -> None:
    """Two keys in hand, 5 s and 1 s old: 6 s of work unfinished, the longest 5."""
    clock, metrics = HandClock(), Metrics()
    queue = WorkQueue(clock, metrics=metrics)
    queue.add("a")
    await queue.get()
    clock.forward(4)
    queue.add("b")
    await queue.get()
    clock.forward(1)
    queue.observe()

    assert metrics.unfinished_work.value(QUEUE) == 6
    assert metrics.longest_running.value(QUEUE) == 5


async def test_a_delay_is_a_retry_and_an_add_once_it_is_over() -> None:
    """A key put off counts as put off at once, and as added when it becomes ready; a closed queue counts nothing."""
    clock, metrics = HandClock(), Metrics()
    queue = WorkQueue(clock, metrics=metrics)
    queue.add_at("a", clock.now_ns() + NS_PER_S // 100)
    assert (metrics.retries.value(QUEUE), metrics.adds.value(QUEUE)) == (1, 0)
    clock.forward(1)
    assert await asyncio.wait_for(queue.get(), 60) == "a"
    assert (metrics.retries.value(QUEUE), metrics.adds.value(QUEUE)) == (1, 1)
    queue.done("a")
    queue.close()
    queue.add("b")
    queue.add_at("b", clock.now_ns())

    assert (metrics.retries.value(QUEUE), metrics.adds.value(QUEUE)) == (1, 1)


def fail_after(seconds: float, clock: HandClock, problem: BaseException) -> None:
    clock.forward(seconds)
    raise problem


@pytest.mark.parametrize(
    ("problem", "result"),
    [
        (Rejected("no"), CallResult.REJECTED),
        (NotSent("no line"), CallResult.NOT_SENT),
        (OutcomeUnknown("silence"), CallResult.UNKNOWN),
        (VenueError("what"), CallResult.FAILED),
        (TimeoutError(), CallResult.UNKNOWN),
        (asyncio.CancelledError(), CallResult.UNKNOWN),
    ],
)
def test_a_call_that_fails_is_counted_and_raises_what_it_raised(problem: BaseException, result: CallResult) -> None:
    """Each way that a call can end is one result, with its duration; silence is not no."""
    clock, metrics = HandClock(), Metrics()
    with pytest.raises(type(problem)), metrics.calling(Operation.SUBMIT, clock):
        fail_after(0.5, clock, problem)

    assert metrics.venue_requests.value(Operation.SUBMIT, result) == 1
    assert metrics.venue_duration.series(Operation.SUBMIT).sum == 0.5


@pytest.mark.parametrize(
    ("problem", "result"),
    [
        (ConflictError("moved"), AppendResult.CONFLICT),
        (FencedError(epoch=1, head_epoch=2), AppendResult.FENCED),
        (LogUnavailableError("away"), AppendResult.FAILED),
    ],
)
def test_an_append_that_fails_is_counted(problem: Exception, result: AppendResult) -> None:
    """A conflict, a fence and a log that is away are told apart."""
    metrics = Metrics()
    with pytest.raises(type(problem)), metrics.appending(HandClock()):
        raise problem

    assert metrics.appends.value(result) == 1
    assert metrics.append_duration.series().count == 1
