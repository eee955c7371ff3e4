"""Creates a kernel's parts and connects them to their ports.

Called by `EventSourcedKernel`. A kernel without a venue has no leader: it takes commands and answers queries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel.clock import Clock, IdFactory
from kernel.commands.handler import CommandHandler
from kernel.commands.waiters import IntentWaiters
from kernel.errors import ValidationError
from kernel.lease import Lease
from kernel.log.base import EventLog
from kernel.metrics import Metrics
from kernel.reconciler.engine import ReconciliationEngine
from kernel.runtime.dead_man_switch import DeadManSwitch, Heartbeats
from kernel.runtime.finding_writer import FindingWriter
from kernel.runtime.kernel_runtime import KernelRuntime
from kernel.runtime.log_monitor import LogMonitor
from kernel.safety.readiness import Readiness
from kernel.settings import KernelSettings
from kernel.state import KernelState
from kernel.stores import ActualStateStore, IntentStateStore
from kernel.streams.event_writer import EventWriter
from kernel.subscriptions import Subscriptions
from kernel.venues.base import Venue

if TYPE_CHECKING:
    from kernel.runtime.leader import Leader


class KernelParts(msgspec.Struct, frozen=True):
    """The parts of a kernel."""

    engine: ReconciliationEngine
    writer: EventWriter
    commands: CommandHandler
    heartbeats: Heartbeats
    runtime: KernelRuntime


def compose(
    log: EventLog,
    state: KernelState,
    intent_store: IntentStateStore,
    actual_store: ActualStateStore,
    *,
    venue: Venue | None,
    lease: Lease | None,
    clock: Clock,
    ids: IdFactory,
    settings: KernelSettings,
    metrics: Metrics,
) -> KernelParts:
    """Return the parts of a kernel, not started. Raises `ValidationError` for a venue without a lease."""
    if venue is not None and lease is None:
        raise ValidationError("a kernel with a venue needs a lease: two leaders would place every order twice")
    readiness = Readiness(clock)
    engine = ReconciliationEngine(
        intent_store,
        actual_store,
        log=log,
        venue=venue,
        lease=lease,
        clock=clock,
        settings=settings,
        ids=ids,
        missing=readiness.missing,
        metrics=metrics,
    )
    writer = EventWriter(log, state, clock=clock, ids=ids, metrics=metrics)
    findings = FindingWriter(state, writer, clock)
    monitor = LogMonitor(state=state, findings=findings, clock=clock, storm_rejections=settings.storm_rejections)
    dead_man_switch = DeadManSwitch(log, state, writer, clock=clock)
    leader: Leader | None = None
    if venue is not None and lease is not None and (reconciler := engine.at_venue) is not None:
        from kernel.runtime.election import Leadership  # a kernel that only takes commands needs no leader
        from kernel.runtime.leader import Leader
        from kernel.runtime.venue_session import VenueSession

        leadership = Leadership(log, state, writer, lease, readiness, clock=clock, settings=settings)
        readiness.on_able, reconciler.on_fenced = reconciler.resync, leadership.lose
        session = VenueSession(
            state, writer, findings, reconciler, readiness, clock=clock, ids=ids, settings=settings, metrics=metrics
        )
        monitor.is_confirmed = lambda: session.venue_clock.agrees
        leader = Leader(
            leadership=leadership,
            session=session,
            engine=engine,
            reconciler=reconciler,
            dead_man_switch=dead_man_switch,
            writer=writer,
            settings=settings,
        )
    runtime = KernelRuntime(
        log=log,
        state=state,
        engine=engine,
        readiness=readiness,
        waiters=IntentWaiters(),
        subscriptions=Subscriptions(log),
        dead_man_switch=dead_man_switch,
        monitor=monitor,
        leader=leader,
    )
    commands = CommandHandler(log, state, clock=clock, ids=ids, limits=settings.limits, metrics=metrics)
    return KernelParts(engine, writer, commands, Heartbeats(state, writer, clock=clock), runtime)
