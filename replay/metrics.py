"""A kernel's metrics for others to read: Prometheus's text format, tables and JSON; from a kernel that runs, or from a log.

Called by `replay.vitals` (to serve them) and by the CLI's `metrics`. The text is written by prometheus-client (the extra
`metrics`), from a registry of its own that holds one kernel's recorder; that library is imported when it is needed. What
only a running process can count (durations, retries, calls) is not in its log, so a log tells of less.
"""

from __future__ import annotations

import http.client
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kernel import EventSourcedKernel
from kernel.clock import Clock, SystemClock
from kernel.errors import KernelError, NotReadyError
from kernel.gauges import observe_intents, observe_position
from kernel.metrics import BUCKETS_S, PREFIX, Counter, Family, Gauge, Histogram, Labels, Metrics
from kernel.version import kernel_version
from replay import health
from replay.output import aligned, escaped, json_text

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

FETCH_S_MAX = 10.0
"""How long a kernel's answer is waited for."""
FETCH_BYTES_MAX = 16_000_000
NEEDED = "metrics need prometheus-client, which is not installed: pip install 'exchange-kernel[metrics]'"


class MetricsFormat(StrEnum):
    """What `orderctl metrics -o` takes."""

    TABLE = "table"
    JSON = "json"
    PROMETHEUS = "prometheus"


# ----------------------------------------------------------------------------------------------------------- exposition
@dataclass(frozen=True, slots=True)
class Exposition:
    """One kernel's registry."""

    registry: CollectorRegistry
    content_type: str

    def text(self) -> str:
        """All of it, in Prometheus's text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry).decode()


def exposition(families: Iterable[Family], exchange_id: str, *, of_process: bool = False) -> Exposition:
    """What is to be written of a kernel, with `of_process` also of the process: its memory, time and files.

    Raises `KernelError` where prometheus-client is not installed.
    """
    try:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector
    except ImportError as problem:
        raise KernelError(NEEDED) from problem
    registry = CollectorRegistry()
    registry.register(KernelCollector(tuple(families), exchange_id))
    if of_process:
        ProcessCollector(registry=registry)
    return Exposition(registry, CONTENT_TYPE_LATEST)


class KernelCollector:
    """Hands a recorder's numbers to prometheus-client, as they are when it asks."""

    def __init__(self, families: tuple[Family, ...], exchange_id: str) -> None:
        self._families = families
        self._exchange_id = exchange_id

    def describe(self) -> list[Metric]:
        """Nothing: names are unique by construction, and there is nothing to collect before it is asked for."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric, and one that says which kernel they are of."""
        from prometheus_client.core import GaugeMetricFamily

        info = GaugeMetricFamily(f"{PREFIX}info", "Which kernel this is.", labels=("exchange_id", "version"))
        info.add_metric((self._exchange_id, kernel_version()), 1)
        yield info
        for family in self._families:
            yield metric_of(family)


def metric_of(family: Family) -> Metric:
    """A metric as prometheus-client has it."""
    match family:
        case Counter():
            return counter_of(family)
        case Histogram():
            return histogram_of(family)
    assert isinstance(family, Gauge)
    return gauge_of(family)


def counter_of(family: Counter) -> CounterMetricFamily:
    from prometheus_client.core import CounterMetricFamily

    made = CounterMetricFamily(family.name, family.text, labels=family.label_names)
    for labels in family.combinations:
        made.add_metric(labels, family.value(*labels))
    return made


def gauge_of(family: Gauge) -> GaugeMetricFamily:
    from prometheus_client.core import GaugeMetricFamily

    made = GaugeMetricFamily(family.name, family.text, labels=family.label_names)
    for labels in family.combinations:
        made.add_metric(labels, family.value(*labels))
    return made


def histogram_of(family: Histogram) -> HistogramMetricFamily:
    from prometheus_client.core import HistogramMetricFamily

    made = HistogramMetricFamily(family.name, family.text, labels=family.label_names)
    for labels in family.combinations:
        series = family.series(*labels)
        made.add_metric(labels, list(cumulative(family, labels)), series.sum)
    return made


def cumulative(family: Histogram, labels: Labels) -> Iterator[tuple[str, float]]:
    """Upper bounds, and how many were not above each."""
    total = 0
    for bound, count in zip((*BUCKETS_S, float("inf")), family.series(*labels).counts, strict=True):
        total += count
        yield "+Inf" if bound == float("inf") else repr(bound), total


# ------------------------------------------------------------------------------------------------------------- sources
def fetched(host: str, port: int) -> str:
    """The metrics that a running kernel serves. `NotReadyError` when none does there."""
    connection = http.client.HTTPConnection(host, port, timeout=FETCH_S_MAX)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        text = response.read(FETCH_BYTES_MAX).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, UnicodeError) as problem:
        raise NotReadyError(nobody(host, port, str(problem))) from problem
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise NotReadyError(nobody(host, port, f"status {response.status}"))
    return text


def nobody(host: str, port: int, reason: str) -> str:
    return (
        f"no kernel serves metrics at {host}:{port} ({reason}): `orderctl run --metrics-port {port}` does;"
        " without --metrics-port you get what the log tells"
    )


async def from_log(kernel: EventSourcedKernel, *, clock: Clock | None = None) -> str:
    """What a log alone tells, seen by a kernel beside the one that leads: intents, attempts, findings, conditions."""
    metrics, now_ns = Metrics(), (clock or SystemClock()).now_ns()
    await observe_intents(metrics, kernel.state, now_ns=now_ns)
    observe_position(metrics, kernel.state)
    found = await health.health(kernel)
    metrics.conditions.set_all({item["type"]: item["status"] for item in found["conditions"]})
    metrics.ready.set(found["ready"])
    told = (
        metrics.ready, metrics.conditions, metrics.epoch, metrics.position, metrics.live_intents, metrics.differences,
        metrics.oldest_unsynced, metrics.unknown_attempts, metrics.oldest_unknown, metrics.findings,
    )  # fmt: skip
    return exposition(told, kernel.exchange_id).text()


# ------------------------------------------------------------------------------------------------------------- printing
def metrics_as(text: str, form: MetricsFormat) -> str:
    """Metrics in Prometheus's text format, in any format. `KernelError` for a text that is none."""
    if form is MetricsFormat.PROMETHEUS:
        return "\n".join(map(escaped, text.split("\n")))
    found = list(parsed(text))
    return json_text(found) if form is MetricsFormat.JSON else metrics_table(found)


def parsed(text: str) -> Iterator[dict[str, Any]]:
    """Every metric: its name, its type, what it means, its series."""
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError as problem:
        raise KernelError(NEEDED) from problem
    try:
        for family in text_string_to_metric_families(text):
            series = [
                {"name": item.name, "labels": item.labels, "value": finite(item.value)} for item in family.samples
            ]
            yield {"name": family.name, "type": family.type, "help": family.documentation, "series": series}
    except ValueError as problem:
        raise KernelError(f"these are no metrics in Prometheus's text format: {problem}") from problem


def finite(value: float) -> float | str:
    """A value as JSON can have it."""
    return value if math.isfinite(value) else str(value)


def metrics_table(found: list[dict[str, Any]]) -> str:
    """For people: histograms as count and sum, and of what has labels only the series that are not zero."""
    lines = [
        (item["name"], ",".join(f"{name}={value}" for name, value in item["labels"].items()), shown(item["value"]))
        for family in found
        for item in family["series"]
        if not item["name"].endswith("_bucket") and (item["value"] or not item["labels"])
    ]
    return aligned([("NAME", "LABELS", "VALUE"), *lines])


def shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
