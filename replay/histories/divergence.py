"""Find the first event at which two folds of a log differ, such as the folds of two versions of the code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kernel.log.base import EventLog
from projections.state import State
from replay.log_access.log_reader import fold, open_for_reading

NewState = Callable[[], State]
"""Creates an empty state of one fold."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first event after which two folds differ."""

    position: int
    field: str
    """Path of the first field that differs, as in `records['bid-1'].failures`."""
    ours: str
    theirs: str


async def first_difference(
    log: EventLog | str, fold_a: NewState, fold_b: NewState, *, upto: int | None = None, exchange_id: str | None = None
) -> Divergence | None:
    """Find where two folds of a log diverge: in doubling steps, then by bisection, each from position 1.

    Memory holds two states; the cost is about `log2(position)` folds. Folds that diverge and become equal again between two
    steps are not noticed.

    Args:
        log: An open log or its URL.
        fold_a: Creates an empty state.
        fold_b: Creates an empty state of the other fold.
        upto: The last position; default: the head.
        exchange_id: Expected owner of the log.

    Returns:
        None if the folds are equal at the end.
    """
    async with open_for_reading(log, exchange_id) as found:
        end = (await found.head()).position if upto is None else upto
        low, high = await divergence_interval(found, fold_a, fold_b, end)
        if high is None:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            a, b = await fold_both(found, fold_a, fold_b, middle)
            low, high = (middle, high) if a.digest() == b.digest() else (low, middle)
        a, b = await fold_both(found, fold_a, fold_b, high)
        difference = a.first_difference(b)
        if difference is None:  # in a value that the digest covers and no field shows
            return Divergence(high, "digest", a.digest(), b.digest())
        return Divergence(high, difference.field, difference.ours, difference.theirs)


async def divergence_interval(log: EventLog, fold_a: NewState, fold_b: NewState, end: int) -> tuple[int, int | None]:
    """Return a position where the folds are equal, and a later one where they differ, if any."""
    a, b = fold_a(), fold_b()
    low, step = 0, 1
    while low < end:
        high = min(end, step)
        await fold(log, a, upto=high)
        await fold(log, b, upto=high)
        if a.digest() != b.digest():
            return low, high
        low, step = high, step * 2
    return low, None


async def fold_both(log: EventLog, fold_a: NewState, fold_b: NewState, upto: int) -> tuple[State, State]:
    return await fold(log, fold_a(), upto=upto), await fold(log, fold_b(), upto=upto)
