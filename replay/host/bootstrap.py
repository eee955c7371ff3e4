"""The composition root: a log, its state, and a kernel over them. Used by strategies, the CLI and tests.

Every start is a recovery. Every dependency is made here and can be passed instead; nothing is global.
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
from replay.log_access.command_state import CommandScope, command_state
from replay.log_access.log_reader import existing_log
from replay.transparency.tree_head_signer import TreeHeadOptions, signing_tree_heads

CHECKPOINT_EVERY_EVENTS = 10_000
"""Events that a start folds again, at most: a fraction of a second."""


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
    state: State | None = None,
    retention: RetentionPolicy | None = None,
    notes: TreeHeadOptions | None = None,
) -> AsyncIterator[EventSourcedKernel]:
    """Open a kernel over a log: entering folds the log and starts the kernel, leaving stops it.

    It does not wait until the kernel acts: `await kernel.wait_ready()`.

    Args:
        log: An open log, or a URL (`sqlite:///kernel.db`, `postgresql://…`, `memory://`) to open and close here.
        exchange_id: The exchange account; required with a URL.
        venue: The venue to trade at. Without one the kernel takes commands and answers queries, and never leads.
        lease: Decides who leads; by default the log's own.
        clock: The source of time.
        ids: The source of ids and randomness.
        settings: By default from `ORDERCTL_KERNEL_…` variables.
        actor: Recorded as the author of commands, as in `strategy:x`.
        metrics: The registry that counts are kept in.
        checkpoint_dir: Where state checkpoints are; by default beside the log.
        checkpoint_every_events: Events between two checkpoints; 0 reads and writes none.
        state: The state to begin with, which may be partial; then no checkpoint is read or written.
        retention: How many terminal intents stay in memory; others are read from the log when named.
        notes: Where and how often the leader writes signed tree heads; None writes none.

    Raises:
        IntegrityError, SchemaError: The log cannot be folded; names the first bad position.
        KernelError: As `open_log`.
    """
    clock = clock or SystemClock()
    ids = ids or SeededIds()
    opened = opened_log(log, exchange_id, clock=clock, ids=ids)
    try:
        files = checkpoint_files(opened, checkpoint_dir) if checkpoint_every_events and state is None else None
        state = state or await restored_state(opened, files, retention=retention)
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
        every = checkpoint_every_events
        keeper = None if files is None else CheckpointKeeper(opened, state, files, every_events=every)
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
    url: str,
    exchange_id: str,
    *,
    actor: str | None = None,
    checkpoint_dir: str | None = None,
    scope: CommandScope | None = None,
) -> AsyncIterator[EventSourcedKernel]:
    """Open a kernel without a venue on an existing log, to command and query; it never leads.

    With `scope` it is for one intent only, and starts at once where that depends on no other. Raises `NotFoundError` if
    there is no log; none is created.
    """
    async with existing_log(url, exchange_id) as log:
        state: State | None = None
        if scope is not None:
            state = await command_state(log, checkpoint_files(log, checkpoint_dir), scope)
        async with open_kernel(log, actor=actor or operator(), checkpoint_dir=checkpoint_dir, state=state) as kernel:
            yield kernel


def operator() -> str:
    try:
        return f"operator:{getpass.getuser()}"
    except (KeyError, OSError):  # a user without a name, as in many containers
        return "operator"


@asynccontextmanager
async def checkpointing(keeper: CheckpointKeeper | None) -> AsyncIterator[None]:
    """Write checkpoints while the block runs, and one at its end if due."""
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
            raise ValidationError("opening a log by its URL needs an exchange_id")
        return open_log(log, exchange_id=exchange_id, clock=clock, ids=ids)
    if exchange_id not in (None, log.exchange_id):
        raise ValidationError(f"the log belongs to exchange {log.exchange_id!r}, not to {exchange_id!r}")
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
    """Build a kernel, not started, on a restored state or an empty one."""
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
