"""A kernel's metrics as Prometheus text, table or JSON; from a running kernel or from a log.

Called by `replay.host.probes` (to serve them) and by the CLI's `metrics`. Durations, retries and calls are counted by a
running process only and are in no log.
"""

from __future__ import annotations

import http.client
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from kernel import EventSourcedKernel
from kernel.clock import SystemClock
from kernel.errors import KernelError, NotReadyError
from replay.formatting.output import aligned, escaped, json_text
from replay.views import health
from replay.views.gauges import log_gauges, tally_of

FETCH_S_MAX = 10.0
"""Seconds to wait for a kernel's answer."""
FETCH_BYTES_MAX = 16_000_000


class MetricsFormat(StrEnum):
    """Values of `orderctl metrics -o`."""

    TABLE = "table"
    JSON = "json"
    PROMETHEUS = "prometheus"


@dataclass(frozen=True, slots=True)
class WithoutCreated(Collector):
    """Metrics without the creation times that prometheus-client adds to counters and histograms."""

    families: Iterable[Metric]

    def collect(self) -> Iterator[Metric]:
        for family in self.families:
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


def text_of(families: Iterable[Metric]) -> str:
    return generate_latest(WithoutCreated(families)).decode()


def fetched(host: str, port: int) -> str:
    """Fetch the metrics that a running kernel serves. Raises `NotReadyError` if none serves there."""
    connection = http.client.HTTPConnection(host, port, timeout=FETCH_S_MAX)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        text = response.read(FETCH_BYTES_MAX).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, UnicodeError) as problem:
        raise NotReadyError(_unavailable(host, port, str(problem))) from problem
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise NotReadyError(_unavailable(host, port, f"status {response.status}"))
    return text


def _unavailable(host: str, port: int, reason: str) -> str:
    return (
        f"no kernel serves metrics at {host}:{port} ({reason}): start one with `orderctl run --metrics-port {port}`,"
        " or leave the option out to use the log alone"
    )


async def from_log(kernel: EventSourcedKernel) -> str:
    """Compute the metrics that a log shows: intents, attempts, findings, conditions."""
    state = kernel.state
    tally = await tally_of(state, now_ns=SystemClock().now_ns())
    found = await health.health(kernel)
    return text_of(log_gauges(kernel.exchange_id, tally, found, position=state.position, epoch=state.epoch))


def metrics_as(text: str, form: MetricsFormat) -> str:
    """Convert metrics in Prometheus's text format. Raises `KernelError` if the text is not in that format."""
    if form is MetricsFormat.PROMETHEUS:
        return "\n".join(map(escaped, text.split("\n")))
    found = list(parsed(text))
    return json_text(found) if form is MetricsFormat.JSON else metrics_table(found)


def parsed(text: str) -> Iterator[dict[str, Any]]:
    """Yield each metric with name, type, help and series."""
    try:
        for family in text_string_to_metric_families(text):
            series = [
                {"name": item.name, "labels": item.labels, "value": finite(item.value)} for item in family.samples
            ]
            yield {"name": family.name, "type": family.type, "help": family.documentation, "series": series}
    except ValueError as problem:
        raise KernelError(f"the answer is not in Prometheus's text format: {problem}") from problem


def finite(value: float) -> float | str:
    """JSON has no infinities."""
    return value if math.isfinite(value) else str(value)


def metrics_table(found: list[dict[str, Any]]) -> str:
    """Histograms as count and sum; of labelled metrics only the series that are not zero."""
    lines = [
        (
            item["name"],
            ",".join(f"{name}={value}" for name, value in item["labels"].items()),
            item["value"] if isinstance(item["value"], str) else f"{item['value']:.6g}",
        )
        for family in found
        for item in family["series"]
        if not item["name"].endswith("_bucket") and (item["value"] or not item["labels"])
    ]
    return aligned([("NAME", "LABELS", "VALUE"), *lines])
