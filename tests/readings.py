"""Reads metrics in tests: the value of a series, and what a running kernel's gauges show."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.registry import Collector

from kernel import EventSourcedKernel
from kernel.clock import Clock
from kernel.metrics import PREFIX, value_of
from replay.views.gauges import KernelGauges, tally_of

Samples = dict[tuple[str, ...], float]
"""By name, without the kernel's prefix, and label values."""


def value(metric: Counter | Gauge, *labels: str) -> float:
    """The value of one series."""
    return value_of(metric.labels(*labels) if labels else metric)


def count(histogram: Histogram, *labels: str) -> float:
    """How many durations one series has seen."""
    return samples_of(histogram, suffix="_count")[labels]


def total_s(histogram: Histogram, *labels: str) -> float:
    """The sum of the durations that one series has seen."""
    return samples_of(histogram, suffix="_sum")[labels]


def samples_of(metric: Collector, *, suffix: str) -> Samples:
    """The series of one metric with a suffix, by label values."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in metric.collect()
        for sample in family.samples
        if sample.name == family.name + suffix
    }


def samples(source: Collector) -> Samples:
    """Every series of a registry or a collector."""
    return {
        (sample.name.removeprefix(PREFIX), *sample.labels.values()): sample.value
        for family in source.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


async def gauges_of(kernel: EventSourcedKernel, clock: Clock) -> Samples:
    """What the gauges of a kernel show now."""
    gauges = KernelGauges(kernel.metrics, kernel.exchange_id, clock=clock)
    gauges.kernel = kernel
    gauges.tally = await tally_of(kernel.state, now_ns=clock.now_ns())
    gauges.note_health(await kernel.health_check())
    return samples(gauges)
