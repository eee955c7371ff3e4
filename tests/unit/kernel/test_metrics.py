"""What the kernel counts: every series there from the beginning, none named after an order, sums exact."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from kernel.actions import Priority
from kernel.clock import NS_PER_S
from kernel.errors import ConflictError, FencedError, LogUnavailableError, NotSent, OutcomeUnknown, Rejected, VenueError
from kernel.metrics import (
    BUCKETS_S,
    PREFIX,
    QUEUE,
    AppendResult,
    CallResult,
    EngineReading,
    LookResult,
    Metrics,
    Operation,
    observe_ns,
)
from kernel.models import AttemptKind, AttemptOutcome, FindingKind, LookScope, ReconciliationStatus
from kernel.platform.version import kernel_version
from kernel.safety.readiness import REMEDIES
from kernel.workqueue import WorkQueue
from replay.views.gauges import KernelGauges, work_gauges
from tests.paper_world import HandClock
from tests.readings import count, samples, samples_of, total_s, value

LABELS = {"name", "kind", "outcome", "scope", "result", "operation", "limit", "window", "priority", "le"}
"""Closed sets, all of them: neither an order nor an intent nor a symbol is among them."""


def test_every_series_exists_from_the_start() -> None:
    """Every combination of label values has a series, at zero."""
    metrics = Metrics()
    assert set(samples(metrics.registry).values()) == {0}
    assert samples_of(metrics.attempts, suffix="_total").keys() == {
        (kind, item) for kind in AttemptKind for item in AttemptOutcome
    }
    assert {labels[2] for labels in samples_of(metrics.budget_waits, suffix="_total")} == {
        priority.label for priority in Priority
    }
    assert len(samples_of(metrics.looks, suffix="_total")) == len(LookScope) * len(LookResult)
    gauges = samples(KernelGauges(metrics, "paper", clock=HandClock()))
    assert gauges.pop(("info", "paper", kernel_version())) == 1
    assert set(gauges.values()) == {0}
    assert {labels[0] for name, *labels in gauges if name == "open_findings"} == set(FindingKind)
    assert {labels[0] for name, *labels in gauges if name == "live_intents"} == set(ReconciliationStatus)
    assert {labels[0] for name, *labels in gauges if name == "condition"} == set(REMEDIES)


def test_label_values_are_closed_sets() -> None:
    """No label holds an id, and each kernel has its own registry."""
    found = [sample for family in Metrics().registry.collect() for sample in family.samples]
    assert {name for sample in found for name in sample.labels} == LABELS
    assert len([sample for sample in found if "le" not in sample.labels]) < 400
    assert not [family for family in REGISTRY.collect() if family.name.startswith(PREFIX)]


def test_work_queue_metrics_have_client_gos_names() -> None:
    """The work queue's metrics have the names that client-go's dashboards expect."""
    metrics = Metrics()
    metrics.registry.register(KernelGauges(metrics, "paper", clock=HandClock()))
    assert {family.name for family in metrics.registry.collect() if family.name.startswith("workqueue_")} == {
        "workqueue_depth",
        "workqueue_adds",
        "workqueue_queue_duration_seconds",
        "workqueue_work_duration_seconds",
        "workqueue_unfinished_work_seconds",
        "workqueue_longest_running_processor_seconds",
        "workqueue_retries",
    }


def test_a_negative_duration_counts_as_zero() -> None:
    """After the clock was set back, a duration counts as zero; the buckets are fixed."""
    metrics = Metrics()
    observe_ns(metrics.reconcile_duration, -NS_PER_S)
    observe_ns(metrics.reconcile_duration, NS_PER_S // 5)

    assert total_s(metrics.reconcile_duration) == 0.2
    buckets = samples_of(metrics.reconcile_duration, suffix="_bucket")
    assert {labels[0]: times for labels, times in buckets.items()} == {
        **{str(bound): 1 if bound < 0.2 else 2 for bound in BUCKETS_S},
        "+Inf": 2,
    }


async def test_the_queue_is_measured_exactly() -> None:
    """A key that waits 2 s and works 3 s is measured so, with two adds meanwhile counted once."""
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
    assert (len(queue), queue.ages_s()) == (0, (3,))
    queue.done("a")
    assert (len(queue), queue.ages_s()) == (1, ())
    await queue.get()

    waited, worked = metrics.queue_duration, metrics.work_duration
    assert (count(waited, QUEUE), total_s(waited, QUEUE)) == (2, 2 + 2)
    assert (count(worked, QUEUE), total_s(worked, QUEUE)) == (1, 3)
    assert value(metrics.adds, QUEUE) == 2


async def test_unfinished_work_is_measured() -> None:
    """Two running keys, 5 s and 1 s old, are 6 s of unfinished work, the longest 5 s."""
    clock, metrics = HandClock(), Metrics()
    queue = WorkQueue(clock, metrics=metrics)
    queue.add("a")
    await queue.get()
    clock.forward(4)
    queue.add("b")
    await queue.get()
    clock.forward(1)
    reading = EngineReading(lag_ms=0, pending=2, workers=2, ready=len(queue), ages_s=queue.ages_s())
    gauges = {(family.name, family.samples[0].value) for family in work_gauges(reading)}

    assert {("workqueue_unfinished_work_seconds", 6), ("workqueue_longest_running_processor_seconds", 5)} < gauges


async def test_a_delay_counts_as_a_retry() -> None:
    """A delayed key counts as a retry at once and as added when it becomes ready; a closed queue counts nothing."""
    clock, metrics = HandClock(), Metrics()
    queue = WorkQueue(clock, metrics=metrics)
    queue.add_at("a", clock.now_ns() + NS_PER_S // 100)
    assert (value(metrics.retries, QUEUE), value(metrics.adds, QUEUE)) == (1, 0)
    clock.forward(1)
    assert await asyncio.wait_for(queue.get(), 60) == "a"
    assert (value(metrics.retries, QUEUE), value(metrics.adds, QUEUE)) == (1, 1)
    queue.done("a")
    queue.close()
    queue.add("b")
    queue.add_at("b", clock.now_ns())

    assert (value(metrics.retries, QUEUE), value(metrics.adds, QUEUE)) == (1, 1)


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
def test_a_failed_call_is_counted_and_raised(problem: BaseException, result: CallResult) -> None:
    """Each way in which a call ends has one result and a duration."""
    clock, metrics = HandClock(), Metrics()
    with pytest.raises(type(problem)), metrics.calling(Operation.SUBMIT, clock):
        fail_after(0.5, clock, problem)

    assert value(metrics.venue_requests, Operation.SUBMIT, result) == 1
    assert total_s(metrics.venue_duration, Operation.SUBMIT) == 0.5


@pytest.mark.parametrize(
    ("problem", "result"),
    [
        (ConflictError("moved"), AppendResult.CONFLICT),
        (FencedError(epoch=1, head_epoch=2), AppendResult.FENCED),
        (LogUnavailableError("away"), AppendResult.FAILED),
    ],
)
def test_a_failed_append_is_counted(problem: Exception, result: AppendResult) -> None:
    """Conflict, fencing and an unavailable log have results of their own."""
    metrics = Metrics()
    metrics.appended(1, problem)

    assert value(metrics.appends, result) == 1
    assert count(metrics.append_duration) == 1
