"""The composition root: a log, its state, and the kernel over them. There is one way to start, and it is to recover.

Used by strategies, the CLI and the tests. Everything that the kernel needs is made here and can be given instead: the log,
the venue, the clock, the ids, the lease, the settings. Nothing is global.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kernel.clock import Clock, IdFactory, SeededIds, SystemClock
from kernel.controller import EventSourcedKernel
from kernel.errors import ValidationError
from kernel.lease import Lease, lease_for
from kernel.log import EventLog, open_log
from kernel.metrics import Metrics
from kernel.settings import KernelSettings
from kernel.venues.base import Venue
from projections.state import State
from projections.stores import EventSourcedActualStore, EventSourcedIntentStore
from replay.noting import NoteOptions, noted


@asynccontextmanager
async def open_kernel(
    log: EventLog | str,
    *,
    exchange_id: str | None = None,
    venue: Venue | None = None,
    lease: Lease | None = None,
    clock: Clock | None = None,
    ids: IdFactory | None = None,
    settings: KernelSettings | None = None,
    actor: str = "strategy:default",
    metrics: Metrics | None = None,
    notes: NoteOptions | None = None,
) -> AsyncIterator[EventSourcedKernel]:
    """A kernel over a log: entering opens the log, folds it, and starts; leaving stops.

    `log` is a URL (`sqlite:///kernel.db`, `postgresql://…`, `memory://`), opened here and closed on leaving, or an open
    log, which stays open. It does not wait until the kernel acts: `await kernel.wait_ready()`. Without a venue the kernel
    takes commands and answers queries, and never leads. With `notes`, signed notes of the log are written while it leads.

    Raises what `open_log` raises, and `IntegrityError` or `SchemaError` with the first bad position when the log can't be
    folded.
    """
    clock = clock or SystemClock()
    ids = ids or SeededIds()
    opened = opened_log(log, exchange_id, clock=clock, ids=ids)
    try:
        kernel = build_kernel(
            opened,
            venue=venue,
            lease=lease,
            clock=clock,
            ids=ids,
            settings=settings or KernelSettings(),
            actor=actor,
            metrics=metrics,
        )
        try:
            async with noted(kernel, notes, clock=clock):
                await kernel.start()
                yield kernel
        finally:
            await kernel.stop()
    finally:
        if isinstance(log, str):
            await opened.close()


def opened_log(log: EventLog | str, exchange_id: str | None, *, clock: Clock, ids: IdFactory) -> EventLog:
    if isinstance(log, str):
        if exchange_id is None:
            raise ValidationError("exchange_id is needed to open a log by its URL")
        return open_log(log, exchange_id=exchange_id, clock=clock, ids=ids)
    if exchange_id not in (None, log.exchange_id):
        raise ValidationError(f"the log is that of exchange {log.exchange_id!r}, not of {exchange_id!r}")
    return log


def build_kernel(
    log: EventLog,
    *,
    venue: Venue | None,
    lease: Lease | None,
    clock: Clock,
    ids: IdFactory,
    settings: KernelSettings,
    actor: str,
    metrics: Metrics | None = None,
) -> EventSourcedKernel:
    """The kernel and its parts, not started."""
    state = State()
    if venue is not None and lease is None:
        lease = lease_for(log, clock=clock)
    return EventSourcedKernel(
        log,
        state,
        EventSourcedIntentStore(log, state, clock=clock, ids=ids, actor=actor),
        EventSourcedActualStore(log, state, clock=clock, ids=ids, actor=actor),
        venue=venue,
        lease=lease,
        clock=clock,
        ids=ids,
        settings=settings,
        actor=actor,
        metrics=metrics,
    )
