"""Opens a log for reading, checks its rows, folds it, and finds positions and instants. Used by every reader of history.

It reads in pages beside a running kernel, and blocks nobody. No row is folded whose hashes do not follow from the row
before. Memory does not grow with the log.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime

import msgspec

from kernel.errors import IntegrityError, NotFoundError, ValidationError, Violation
from kernel.events import BaseEvent
from kernel.log import hashing, open_log
from kernel.log.base import EventLog, StoredRow
from kernel.log.engine.records import event_of
from kernel.log.factory import exchange_at
from kernel.state import Applied
from kernel.streams.rehydration import apply_batch
from projections.state import State
from replay.formatting.progress_bar import Progress

DIGITS_MAX = 20
"""More digits than a position has: a longer number is cut, and is past the head either way."""


def existing_log(url: str, exchange_id: str, *, check_end: bool = True) -> EventLog:
    """Open the log at a URL. Raises `NotFoundError` if there is none, and what `open_log` raises."""
    try:
        return open_log(url, exchange_id=exchange_id, create=False, check_end=check_end)
    except NotFoundError as problem:
        raise NotFoundError(f"{problem}: `orderctl run` creates one, --log and --exchange choose another") from problem


@asynccontextmanager
async def open_for_reading(
    log: EventLog | str, exchange_id: str | None = None, *, check_end: bool = True
) -> AsyncIterator[EventLog]:
    """Yield a log to read: an open one, which stays open, or the existing one at a URL.

    `exchange_id` is not needed for a URL with one log; `check_end` refuses a log whose end does not match its head.
    Raises what `open_log` and `exchange_at` raise.
    """
    if not isinstance(log, str):
        yield log
        return
    if log == "memory://":
        raise NotFoundError("memory:// has no stored log: pass the open log")
    async with existing_log(log, exchange_id or exchange_at(log), check_end=check_end) as found:
        yield found


async def checked_pages(
    log: EventLog, *, after: int = 0, upto: int | None = None, progress: Progress | None = None
) -> AsyncIterator[list[StoredRow]]:
    """Pages of rows from `after` + 1 up to `upto` (default: the head now), with their hashes checked.

    The first row must follow from the stored chain hash at `after`. Raises `IntegrityError` with the first bad position,
    also if the log ends before `upto`.
    """
    end = (await log.head()).position if upto is None else upto
    begin = after
    chain = await chain_at(log, after)
    async for rows in log.read(after, end):
        chain = hashing.verify_rows(rows, after=after, chain=chain)
        after = rows[-1].position
        yield rows
        if progress is not None:
            progress(after - begin, end - begin)
    if after < end:
        raise IntegrityError(f"the log ends at {after} instead of {end}: it was truncated", position=after + 1)


async def row_at(log: EventLog, position: int) -> StoredRow:
    """The row at a position. Raises `IntegrityError` if there is none."""
    async for rows in log.read(position - 1, position):
        return rows[0]
    raise IntegrityError("this event is missing", position=position)


async def chain_at(log: EventLog, position: int) -> bytes:
    """The stored chain hash at a position. Raises `IntegrityError` if there is no such row."""
    return (await row_at(log, position)).chain_hash if position else hashing.GENESIS


async def recorded_at(log: EventLog, position: int) -> int:
    """When an event was recorded, in Unix nanoseconds. Raises `IntegrityError` if there is no such row."""
    return (await row_at(log, position)).recorded_at_ns


async def fold(log: EventLog, state: State, *, upto: int | None = None, progress: Progress | None = None) -> State:
    """Fold a log into a state from its position up to `upto` (default: the head now); returns the same state.

    Raises `IntegrityError` and `SchemaError` with the first position that cannot be folded.
    """
    async for _ in folded_pages(log, state, upto=upto, progress=progress):
        pass
    return state


@contextmanager
def gc_relaxed() -> Iterator[None]:
    """Collect cyclic garbage less often while the block runs: a fold makes many objects that stay, and no cycles, so
    collections would take a third of its time. For a process that does little else meanwhile."""
    known = gc.get_threshold()
    gc.set_threshold(*COLLECTION_THRESHOLDS)
    try:
        yield
    finally:
        if known != COLLECTION_THRESHOLDS:  # else another block restores them
            gc.set_threshold(*known)


COLLECTION_THRESHOLDS = (100_000, 20, 50)


class FoldedPage(msgspec.Struct, frozen=True):
    """A page of events that a state has just applied."""

    events: list[BaseEvent]
    applied: Applied
    chain_hash: bytes
    """The log's chain hash after the last event."""


async def folded_pages(
    log: EventLog, state: State, *, upto: int | None = None, progress: Progress | None = None
) -> AsyncIterator[FoldedPage]:
    """`fold`, page by page, with what each page changed. Raises what `fold` raises."""
    async for rows in checked_pages(log, after=state.position, upto=upto, progress=progress):
        done = 0
        for part in state.parts_of([event_of(row) for row in rows]):  # what a part changed is not yet evicted after it
            done += len(part)
            yield FoldedPage([*part], await apply_batch(log, state, part), rows[done - 1].chain_hash)


async def position_at(log: EventLog, time_ns: int) -> int:
    """The position of the last event recorded at or before an instant (Unix nanoseconds); 0 before the first.

    A binary search: times of recording never decrease.
    """
    low, high = 0, (await log.head()).position
    while low < high:
        middle = (low + high + 1) // 2
        if await recorded_at(log, middle) <= time_ns:
            low = middle
        else:
            high = middle - 1
    return low


async def point(log: EventLog, *, position: int | None = None, time_ns: int | None = None) -> int:
    """The given position, or that of the given instant, or the head.

    Raises `ValidationError` for both, and for a position past the head.
    """
    if position is not None and time_ns is not None:
        raise ValidationError("give a position or an instant, not both")
    if time_ns is not None:
        return await position_at(log, time_ns)
    head = (await log.head()).position
    if position is None:
        return head
    if not 0 <= position <= head:
        limit = f"between 0 and {head}, the head of the log"
        raise ValidationError(violations=[Violation("position", "range", limit, str(position))])
    return position


def instant_ns(text: str) -> int:
    """An ISO 8601 instant with a zone as Unix nanoseconds, to the microsecond. Raises `ValidationError`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        form = "a date and time with its zone, e.g. `2026-01-31T12:00:00Z`"
        raise ValidationError(violations=[Violation("instant", "form", form, text)]) from None
    if found.tzinfo is None:
        zone = "`{value}`: add {limit}, e.g. `2026-01-31T12:00:00Z`"
        raise ValidationError(violations=[Violation("instant", "zone", "a time zone", text, zone)])
    since = found - datetime.fromisoformat("1970-01-01T00:00:00Z")
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000


def is_position(text: str) -> bool:
    """Return whether a person typed a position, not an instant."""
    return text.isdecimal() and text.isascii()


async def point_of(log: EventLog, text: str) -> int:
    """The position that a person typed, as a number or as an instant. Raises `ValidationError`."""
    if is_position(text):
        return await point(log, position=int((text.lstrip("0") or "0")[:DIGITS_MAX]))
    return await point(log, time_ns=instant_ns(text))
