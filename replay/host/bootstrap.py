"""The composition root: a log, its state, and the kernel over them. There is one way to start, and it is to recover.

Used by strategies, the CLI and the tests. Everything that the kernel needs is made here and can be given instead: the log,
the venue, the clock, the ids, the lease, the settings. Nothing is global.
"""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kernel.clock import Clock, IdFactory, SeededIds, SystemClock
from kernel.controller import EventSourcedKernel
from kernel.errors import ValidationError
from kernel.lease import Lease
from kernel.log import EventLog, open_log
from kernel.metrics import Metrics
from kernel.settings import KernelSettings
from kernel.venues.base import Venue
from projections.retention.policy import RetentionPolicy
from projections.state import State
from projections.stores import EventSourcedActualStore, EventSourcedIntentStore
from replay.log_access.checkpoints import CheckpointKeeper, checkpoint_files, restored_state
from replay.log_access.log_reader import existing_log
from replay.transparency.tree_head_signer import TreeHeadOptions, signing_tree_heads

CHECKPOINT_EVERY_EVENTS = 10_000
"""How much is folded again at a start, at most: a fraction of a second."""


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
    checkpoint_dir: str | Path | None = None,
    checkpoint_every_events: int = CHECKPOINT_EVERY_EVENTS,
    retention: RetentionPolicy | None = None,
    notes: TreeHeadOptions | None = None,
) -> AsyncIterator[EventSourcedKernel]:
    """A kernel over a log: entering opens the log, folds it, and starts; leaving stops.

    What is folded begins with the newest checkpoint that can be used (see `checkpoint_files` for where they are), and one
    is written each `checkpoint_every_events`; 0: none is read or written. `keeping` says how much of what is over stays in
    memory; the rest is read back from the log when it is named.

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
        files = checkpoint_files(opened, checkpoint_dir) if checkpoint_every_events else None
        state = await restored_state(opened, files, retention=retention)
        kernel = build_kernel(
            opened,
            state=state,
            venue=venue,
            lease=lease,
            clock=clock,
            ids=ids,
            settings=settings or KernelSettings(),
            actor=actor,
            metrics=metrics,
        )
        keeper: CheckpointKeeper | None = None
        if files is not None:
            keeper = CheckpointKeeper(opened, state, files, every_events=checkpoint_every_events)
        try:
            async with signing_tree_heads(kernel, notes, clock=clock):
                await kernel.start()
                async with checkpointing(keeper):
                    yield kernel
        finally:
            await kernel.stop()
    finally:
        if isinstance(log, str):
            await opened.close()


@asynccontextmanager
async def open_client(
    url: str, exchange_id: str, *, actor: str | None = None, checkpoint_dir: str | None = None
) -> AsyncIterator[EventSourcedKernel]:
    """A kernel without a venue on a log that exists, to command and to query: it never leads.

    A wrong URL makes no new, empty log: `NotFoundError`. Commands are recorded as those of `operator:USER` by default.
    """
    async with (
        existing_log(url, exchange_id) as log,
        open_kernel(log, actor=actor or operator(), checkpoint_dir=checkpoint_dir) as kernel,
    ):
        yield kernel


def operator() -> str:
    """The user of this process, as an actor."""
    try:
        return f"operator:{getpass.getuser()}"
    except (KeyError, OSError):  # a user without a name, as in many containers
        return "operator"


@asynccontextmanager
async def checkpointing(keeper: CheckpointKeeper | None) -> AsyncIterator[None]:
    """Write checkpoints for as long as the block runs, and at its end if one is due."""
    if keeper is None:
        yield
        return
    task = asyncio.create_task(keeper.run(), name="checkpoints")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await keeper.write_if_due()


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
    state: State | None = None,
) -> EventSourcedKernel:
    """The kernel and its parts, not started. It folds on from a state that was restored, else from the beginning."""
    state = state or State()
    metrics = metrics or Metrics()
    if venue is not None and lease is None:
        lease = log.lease(clock=clock)
    return EventSourcedKernel(
        log,
        state,
        EventSourcedIntentStore(log, state, clock=clock, ids=ids, metrics=metrics, actor=actor),
        EventSourcedActualStore(log, state, clock=clock, ids=ids, metrics=metrics, actor=actor),
        venue=venue,
        lease=lease,
        clock=clock,
        ids=ids,
        settings=settings,
        actor=actor,
        metrics=metrics,
    )
