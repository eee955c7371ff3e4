"""Where two folds of one log part: the first position, and the first field there.

Used when a rebuild differs from what ran: with the code of then and the code of now, or with a fold under suspicion beside
the one that is trusted. Reads only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kernel.log.base import EventLog
from projections.state import State
from replay.log_access.log_reader import fold, open_for_reading

NewState = Callable[[], State]
"""Makes an empty state: a fold."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first event after which two folds differ."""

    position: int
    field: str
    """The way to the first field that differs, as in `records['bid-1'].failures`."""
    ours: str
    theirs: str


async def first_difference(
    log: EventLog | str, fold_a: NewState, fold_b: NewState, *, upto: int | None = None, exchange_id: str | None = None
) -> Divergence | None:
    """Fold a log twice, and find where the two part; None where they end equal.

    Found by folding on in steps that double until they differ, then by halves, from position 1 each time: memory holds two
    states, and the cost is that of some `log2(position)` folds up to there. Folds that part and come together again are
    told of only where a step sees it.
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
        return divergence(high, a, b)


async def divergence_interval(log: EventLog, fold_a: NewState, fold_b: NewState, end: int) -> tuple[int, int | None]:
    """A position where the two are equal, and a later one where they are not; None for that where there is none."""
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
    """Two folds up to a position."""
    return await fold(log, fold_a(), upto=upto), await fold(log, fold_b(), upto=upto)


def divergence(position: int, a: State, b: State) -> Divergence:
    """What differs between two states whose digests do."""
    found = a.first_difference(b)
    if found is None:  # in something that a digest covers and no field shows
        return Divergence(position, "digest", a.digest(), b.digest())
    return Divergence(position, found.field, found.ours, found.theirs)
