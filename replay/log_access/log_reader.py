"""A log for reading: opened, checked row by row, and folded from one position to another.

Used by everything that reads history. It works beside a running kernel: it only reads, in pages, and holds nobody back.
Promises that no row is folded whose hashes do not follow from the row before, and memory that does not grow with the log.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime

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
"""More than any position has: of a longer number so many say as well that it is past the head."""


def existing_log(url: str, exchange_id: str, *, check_end: bool = True) -> EventLog:
    """The log at a URL; `NotFoundError` when there is none. Raises what `open_log` raises."""
    try:
        return open_log(url, exchange_id=exchange_id, create=False, check_end=check_end)
    except NotFoundError as problem:
        raise NotFoundError(f"{problem}: `orderctl run` begins one, --log and --exchange name another") from problem


@asynccontextmanager
async def open_for_reading(
    log: EventLog | str, exchange_id: str | None = None, *, check_end: bool = True
) -> AsyncIterator[EventLog]:
    """A log to read: an open one, which stays open, or the one at a URL, which must exist already.

    With `check_end` off, also one whose end is not what its head says.

    A URL needs no exchange id where it has one log only. Raises what `open_log` and `exchange_at` raise.
    """
    if not isinstance(log, str):
        yield log
        return
    if log == "memory://":
        raise NotFoundError("memory:// is a new, empty log each time: give the open log")
    async with existing_log(log, exchange_id or exchange_at(log), check_end=check_end) as found:
        yield found


async def checked_pages(
    log: EventLog, *, after: int = 0, upto: int | None = None, progress: Progress | None = None
) -> AsyncIterator[list[StoredRow]]:
    """Pages of rows whose hashes follow from each other, from `after` + 1 up to `upto` (default: the head now).

    The first must follow from the stored chain hash at `after`. Raises `IntegrityError` with the first bad position, also
    where the log ends before `upto`.
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
        raise IntegrityError(f"the log should go on to {end}, and ends at {after}: it was cut off", position=after + 1)


async def chain_at(log: EventLog, position: int) -> bytes:
    """The stored chain hash of a position; `IntegrityError` where there is no such row."""
    if position == 0:
        return hashing.GENESIS
    async for rows in log.read(position - 1, position):
        return rows[0].chain_hash
    raise IntegrityError("this event is missing", position=position)


async def fold(log: EventLog, state: State, *, upto: int | None = None, progress: Progress | None = None) -> State:
    """The state, folded on from where it is up to a position (default: the head now). It is changed in place.

    Raises `IntegrityError` and `SchemaError` with the first position that can't be folded.
    """
    async for _ in folded_pages(log, state, upto=upto, progress=progress):
        pass
    return state


@contextmanager
def gc_relaxed() -> Iterator[None]:
    """For as long as the block runs, look for cycles of garbage more seldom: a fold makes many objects that stay, and no
    cycles, and the search costs a third of it. For a process that does little else meanwhile."""
    known = gc.get_threshold()
    gc.set_threshold(*COLLECTION_THRESHOLDS)
    try:
        yield
    finally:
        if known != COLLECTION_THRESHOLDS:  # else somebody around us, or beside us, puts them back
            gc.set_threshold(*known)


COLLECTION_THRESHOLDS = (100_000, 20, 50)


@dataclass(frozen=True, slots=True)
class FoldedPage:
    """A page of events that a state has just applied."""

    events: list[BaseEvent]
    applied: Applied
    chain_hash: bytes
    """The log's chain hash after the last of them."""


async def folded_pages(
    log: EventLog, state: State, *, upto: int | None = None, progress: Progress | None = None
) -> AsyncIterator[FoldedPage]:
    """`fold`, page by page: for who wants to see what each page changed. Raises what `fold` raises."""
    async for rows in checked_pages(log, after=state.position, upto=upto, progress=progress):
        done = 0
        for part in state.parts_of([event_of(row) for row in rows]):  # what it changed is still held after each part
            done += len(part)
            yield FoldedPage([*part], await apply_batch(log, state, part), rows[done - 1].chain_hash)


async def position_at(log: EventLog, time_ns: int) -> int:
    """The position of the last event recorded at or before an instant (Unix nanoseconds); 0 before the first.

    Instants of recording never go back, so a search by halves finds it.
    """
    low, high = 0, (await log.head()).position
    while low < high:
        middle = (low + high + 1) // 2
        if await recorded_at(log, middle) <= time_ns:
            low = middle
        else:
            high = middle - 1
    return low


async def recorded_at(log: EventLog, position: int) -> int:
    """When an event was recorded, in Unix nanoseconds; `IntegrityError` where there is no such row."""
    async for rows in log.read(position - 1, position):
        return rows[0].recorded_at_ns
    raise IntegrityError("this event is missing", position=position)


async def point(log: EventLog, *, position: int | None = None, time_ns: int | None = None) -> int:
    """The position that is meant by one of both; the head where neither is given.

    Raises `ValidationError` for both, and for a position that the log has not reached.
    """
    if position is not None and time_ns is not None:
        raise ValidationError("a position or an instant is needed, not both")
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
    """An ISO 8601 instant with a zone as Unix nanoseconds, to the microsecond; `ValidationError` for anything else."""
    form = "a date and time with its zone, e.g. `2026-01-31T12:00:00Z`"
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValidationError(violations=[Violation("instant", "form", form, text)]) from None
    if found.tzinfo is None:
        zone = "`{value}`: add a time zone, e.g. `2026-01-31T12:00:00Z`"
        raise ValidationError(violations=[Violation("instant", "zone", form, text, zone)])
    since = found - datetime.fromisoformat("1970-01-01T00:00:00Z")
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000


def is_position(text: str) -> bool:
    """Whether a person means a position."""
    return text.isdecimal() and text.isascii()


async def point_of(log: EventLog, text: str) -> int:
    """The position that a person means: a number, or an instant. Raises `ValidationError`."""
    if is_position(text):
        return await point(log, position=int((text.lstrip("0") or "0")[:DIGITS_MAX]))
    return await point(log, time_ns=instant_ns(text))
