"""Measures ratios: interleaved rounds, medians, no assertions.

Used by the benchmarks. Two contenders take turns, so that a disturbance affects both.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the budget."""

    name: str
    ratio: float
    """Ours over the floor, in the direction that `unit` tells."""
    to_have: float
    to_reach: float
    higher_is_better: bool
    detail: dict[str, Any]

    @property
    def met(self) -> bool:
        """Whether the budget is met in this run."""
        return self.ratio >= self.to_have if self.higher_is_better else self.ratio <= self.to_have

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON."""
        return {
            "name": self.name,
            "ratio": round(self.ratio, 3),
            "to_have": self.to_have,
            "to_reach": self.to_reach,
            "better": "higher" if self.higher_is_better else "lower",
            "met": self.met,
            **self.detail,
        }


async def interleaved(
    rounds: int, ours: Callable[[], Awaitable[float]], floor: Callable[[], Awaitable[float]]
) -> tuple[float, float]:
    """The medians of two contenders, measured in turns."""
    our_values, floor_values = [], []
    for _ in range(rounds):
        floor_values.append(await floor())
        our_values.append(await ours())
    return statistics.median(our_values), statistics.median(floor_values)


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def seconds(call: Callable[[], object]) -> float:
    """The duration of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def note(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)
