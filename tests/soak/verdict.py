"""Judges a soak: what grew with time, and not with what is live or with what the state keeps of each intent.

Called by the soak with its samples. Four judgements, each a line where it fails:

- At rest (every order has ended, nobody waits) all of `EMPTY_AT_REST` is 0: one entry left behind is a leak.
- At rest after the load, nothing in `BOUNDED` stands higher than at rest after the warm-up, but for `SLACK` (pools of
  threads fill one by one). Everything that comes and goes in the load does so more often than that.
- Under load, the median of the last third of the samples is not above that of the first third, but for `SLACK` and half.
- Memory: the state keeps every intent for now, so growth is expected. The same log folded into a state alone, in another
  process, says how much: the kernel may grow by that, and by `EXCESS_…` beyond it. The garbage collector's count of objects
  is exact and judged closely; resident bytes are not (what is freed stays with the process), and only a large excess
  counts. The exchange keeps every order too; for it there is a bound in bytes for each intent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tests.soak.gauges import BOUNDED, EMPTY_AT_REST, Sample

SLACK = 3
SAMPLES_OF_A_THIRD_MIN = 10
"""With fewer, what else the machine does would make a trend; the two rests are compared all the same."""
EXCESS_OBJECTS_SHARE = 0.05
EXCESS_OBJECTS_MAX = 1_500
EXCESS_RSS_SHARE = 0.5
EXCESS_RSS_BYTES_MAX = 24 * 2**20
EXCHANGE_BYTES_PER_INTENT_MAX = 24 * 2**10


@dataclass(frozen=True, slots=True)
class Growth:
    """What the state alone grew by between the two rests."""

    objects: int
    rss_bytes: int


def leaks(rests: tuple[Sample, Sample], under_load: Sequence[Sample], state: Growth) -> list[str]:
    """What grows with time, a line each; empty when nothing does."""
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
    third = len(under_load) // 3
    if third < SAMPLES_OF_A_THIRD_MIN:
        return []
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
    """The figures of the memory judgement, in one line."""
    intents = max(1, after.intents - before.intents)
    own = after.objects - before.objects
    rss_bytes = after.rss_bytes - before.rss_bytes
    return (
        f"between the rests: {intents} intents; objects +{own} (state alone +{state.objects}, beyond it"
        f" {(own - state.objects) / intents:+.2f} for each intent); memory {rss_bytes / 2**20:+.1f}"
        f" MiB (state alone {state.rss_bytes / 2**20:+.1f}); exchange"
        f" {(after.exchange_rss_bytes - before.exchange_rss_bytes) / intents / 1024:+.1f} KiB for each intent"
    )
