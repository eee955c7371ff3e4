"""Judge a soak: find growth with time that neither live orders nor the state's records explain.

- At rest (every order has ended, no caller waits) each gauge of `EMPTY_AT_REST` is 0.
- At rest after the load, each gauge of `BOUNDED` is at most `SLACK` above its value at rest after the warm-up (thread pools
  fill one by one).
- Under load, the median of a gauge in the last third of the samples exceeds that of the first third by at most half and
  10 × `SLACK`. This needs `TREND_SAMPLES_MIN` samples.
- Memory grows at most `EXCESS_…` more than a state alone, folded from the same log in another process. The count of objects
  is exact and judged closely; resident memory is not (a process keeps freed memory), so only a large excess counts. The
  exchange keeps every order; its memory has a limit per intent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tests.soak.gauges import BOUNDED, EMPTY_AT_REST, Sample

SLACK = 3
TREND_SAMPLES_MIN = 30
"""With fewer samples under load, other work of the machine would look like a trend."""
EXCESS_OBJECTS_SHARE = 0.05
EXCESS_OBJECTS_MAX = 1_500
EXCESS_RSS_SHARE = 0.5
EXCESS_RSS_BYTES_MAX = 24 * 2**20
EXCHANGE_BYTES_PER_INTENT_MAX = 24 * 2**10


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth of the state alone between the two rests."""

    objects: int
    rss_bytes: int


def leaks(rests: tuple[Sample, Sample], under_load: Sequence[Sample], state: Growth) -> list[str]:
    """Return a line for each leak."""
    return [*_left_behind(rests), *_higher(rests), *_climbing(under_load), *_memory(*rests, state)]


def _left_behind(rests: tuple[Sample, Sample]) -> list[str]:
    return [
        f"at rest after {rest.at_s:.0f} s: {name} is {rest.counts[name]}, not 0"
        for rest in rests
        for name in EMPTY_AT_REST
        if rest.counts[name]
    ]


def _higher(rests: tuple[Sample, Sample]) -> list[str]:
    before, after = rests
    return [
        f"at rest: {name} went from {before.counts[name]} to {after.counts[name]}"
        for name in BOUNDED
        if after.counts[name] > before.counts[name] + SLACK
    ]


def _climbing(under_load: Sequence[Sample]) -> list[str]:
    if len(under_load) < TREND_SAMPLES_MIN:
        return []
    third = len(under_load) // 3
    found = []
    for name in (*EMPTY_AT_REST, *BOUNDED):
        first = median(item.counts[name] for item in under_load[:third])
        last = median(item.counts[name] for item in under_load[-third:])
        if last > 1.5 * first + 10 * SLACK:
            found.append(f"under load: {name} climbs, median {first:g} in the first third, {last:g} in the last")
    return found


def _memory(before: Sample, after: Sample, state: Growth) -> list[str]:
    found = []
    objects = after.objects - before.objects - state.objects
    if objects > EXCESS_OBJECTS_SHARE * state.objects + EXCESS_OBJECTS_MAX:
        found.append(f"{objects} objects more than the state's own {state.objects}")
    rss_bytes = after.rss_bytes - before.rss_bytes - state.rss_bytes
    if rss_bytes > EXCESS_RSS_SHARE * state.rss_bytes + EXCESS_RSS_BYTES_MAX:
        found.append(f"{rss_bytes / 2**20:.1f} MiB more than the state's own {state.rss_bytes / 2**20:.1f} MiB")
    exchange = after.exchange_rss_bytes - before.exchange_rss_bytes
    if exchange > EXCHANGE_BYTES_PER_INTENT_MAX * (after.intents - before.intents) + EXCESS_RSS_BYTES_MAX:
        found.append(f"the exchange grew by {exchange / 2**20:.1f} MiB over {after.intents - before.intents} intents")
    return found


def summary(before: Sample, after: Sample, state: Growth) -> str:
    """Format the figures of the memory judgement in one line."""
    intents = max(1, after.intents - before.intents)
    own = after.objects - before.objects
    rss_bytes = after.rss_bytes - before.rss_bytes
    return (
        f"between the rests: {intents} intents; objects +{own} (state alone +{state.objects}, excess"
        f" {(own - state.objects) / intents:+.2f} per intent); memory {rss_bytes / 2**20:+.1f}"
        f" MiB (state alone {state.rss_bytes / 2**20:+.1f}); exchange"
        f" {(after.exchange_rss_bytes - before.exchange_rss_bytes) / intents / 1024:+.1f} KiB per intent"
    )
