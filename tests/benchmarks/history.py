"""The budget's rows about reading history: the speed of folding a log.

Called by `python -m tests.benchmarks`. All contenders read the same rows of one generated log; each is measured in CPU
seconds of this process, threads included.
"""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from kernel.log import EventLog, open_log
from kernel.log.engine.recorded_log import RecordedLog
from kernel.log.engine.records import event_of
from replay import verify
from replay.readmodel.rebuild import rebuild
from tests.benchmarks.floors import library_application
from tests.benchmarks.made_log import make_log
from tests.benchmarks.measure import Figure, interleaved
from tests.benchmarks.rows import backend_of, fresh_url, new_exchange_id

LIBRARY_ORDERS = 300
LIBRARY_EVENTS = 8
"""Events of one order, as many as in the generated log."""


class LibraryOrder(Aggregate):
    """An order as an aggregate of the library: as many events as ours, with less in them."""

    @event("Wanted")
    def __init__(self, symbol_id: str, quantity: int, price: int) -> None:
        self.symbol_id = symbol_id
        self.quantity = quantity
        self.price = price
        self.cum_qty = 0

    @event("Filled")
    def fill(self, fill_key: str, quantity: int, price: int, fee: int) -> None:
        self.cum_qty += quantity


async def refold(url: str, directory: Path, *, events: int, rounds: int) -> list[Figure]:
    """A rebuild from position 1 against decoding the same rows, and against the library's own replay."""
    async with open_log(fresh_url(url, directory), exchange_id=new_exchange_id()) as log:
        assert isinstance(log, RecordedLog)
        count = await make_log(log, count=events)
        ours_s, floor_s = await interleaved(rounds, in_cpu_s(lambda: rebuild(log)), in_cpu_s(lambda: decoded(log)))
    library = library_application(url, directory, f"library-{uuid.uuid4().hex[:8]}")
    ids = [saved(library, number) for number in range(LIBRARY_ORDERS)]
    began = time.process_time()
    for aggregate_id in ids:
        library.repository.get(aggregate_id)
    library_per_s = LIBRARY_ORDERS * LIBRARY_EVENTS / (time.process_time() - began)
    library.close()
    detail = {"events": count, "ours_per_s": round(count / ours_s)}
    backend = backend_of(url)
    return [
        Figure(
            f"rebuild from 1 against decoding, {backend}", ours_s / floor_s, 5, 3.8, False,
            {**detail, "decode_per_s": round(count / floor_s)},
        ),
        Figure(
            f"rebuild from 1 against the library, {backend}", count / ours_s / library_per_s, 2.5, 3, True,
            {**detail, "library_get_per_s": round(library_per_s)},
        ),
    ]  # fmt: skip


async def with_many_live(url: str, directory: Path, *, events: int, live: int, rounds: int) -> list[Figure]:
    """With many orders live: an event of a rebuild against one with few, and verifying against rebuilding."""
    async with (
        open_log(fresh_url(url, directory), exchange_id=new_exchange_id()) as few,
        open_log(fresh_url(url, directory), exchange_id=new_exchange_id()) as many,
    ):
        assert isinstance(few, RecordedLog)
        assert isinstance(many, RecordedLog)
        few_events, many_events = await make_log(few, count=events), await make_log(many, count=events, live=live)
        turns = [
            [await in_cpu_s(work)() for work in (lambda: rebuild(few), lambda: rebuild(many), lambda: verify(many))]
            for _ in range(rounds)
        ]
    few_s, many_s, verify_s = (statistics.median(times) for times in zip(*turns, strict=True))
    backend = backend_of(url)
    detail = {"events": many_events, "live": live, "rebuild_us_per_event": round(many_s / many_events * 1e6, 1)}
    return [
        Figure(
            f"rebuild, an event with {live:,} live against 300, {backend}",
            many_s / many_events / (few_s / few_events), 1.7, 1.4, False, detail,
        ),
        Figure(f"verify against a rebuild, {live:,} live, {backend}", verify_s / many_s, 1.6, 1.35, False, detail),
    ]  # fmt: skip


def in_cpu_s(work: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[float]]:
    """The CPU seconds of a call."""

    async def measured() -> float:
        began = time.process_time()
        await work()
        return time.process_time() - began

    return measured


async def decoded(log: EventLog) -> None:
    """The floor: every row fetched, its payload and envelope decoded."""
    async for rows in log.read():
        for row in rows:
            event_of(row)


def saved(library: Application[Any], number: int) -> Any:
    """The id of an order that the library has recorded."""
    order = LibraryOrder("BTCUSDT", 150_000, 6_170_000)
    for fill in range(LIBRARY_EVENTS - 1):
        order.fill(f"made/{number}/{fill}", 1_000, 6_170_000, 1)
    library.save(order)
    return order.id
