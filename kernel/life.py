"""The kernel's life: one reader that applies the log, and, with a venue, the leader's work.

The half of `EventSourcedKernel` (`controller`) that has no commands and no queries. It puts the parts together, folds the
log, campaigns for the lead and acts while it has it, and says how all that is.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
from contextlib import suppress
from dataclasses import replace
from typing import Any

from kernel import events, readiness
from kernel.api import ExchangeKernel
from kernel.clock import NS_PER_S, Clock, IdFactory, SeededIds, SystemClock
from kernel.code_hash import code_hash, kernel_version
from kernel.commands import CommandHandler
from kernel.errors import KernelError, LogUnavailableError, NotReadyError, ValidationError
from kernel.gates import Gates
from kernel.heartbeats import Heartbeats, SilenceWatch
from kernel.leadership import Leadership
from kernel.lease import Lease
from kernel.lifecycle import finding_id, raised
from kernel.log.base import EventLog
from kernel.metrics import Metrics
from kernel.models import Evidence, FindingKind
from kernel.recalling import fold_on
from kernel.reconciler import ReconciliationEngine
from kernel.session import VenueSession
from kernel.settings import KernelSettings
from kernel.state import KernelState
from kernel.stores import ActualStateStore, IntentStateStore
from kernel.subscriptions import Subscriptions
from kernel.venues.base import Venue
from kernel.waiters import IntentWaiters
from kernel.writer import EventWriter, logged

logger = logging.getLogger(__name__)

CLOCK_BEHIND_NS_MAX = NS_PER_S
"""How far a writer's clock may be behind the log's head before it is a finding."""


class KernelLife(ExchangeKernel):
    """How a kernel is built, recovers, leads and ends, and how it is."""

    def __init__(
        self,
        log: EventLog,
        state: KernelState,
        intent_store: IntentStateStore,
        actual_store: ActualStateStore,
        *,
        venue: Venue | None = None,
        lease: Lease | None = None,
        clock: Clock | None = None,
        ids: IdFactory | None = None,
        settings: KernelSettings | None = None,
        actor: str = "strategy:default",
        metrics: Metrics | None = None,
    ) -> None:
        """Without a venue the kernel takes commands and answers queries, and never leads.

        `actor` is who this kernel's commands come from, unless a command names an owner.
        """
        super().__init__(log.exchange_id)
        if venue is not None and lease is None:
            raise ValidationError("a kernel with a venue needs a lease: two leaders would place two orders")
        self.log = log
        self.state = state
        self.intent_store = intent_store
        self.actual_store = actual_store
        self._venue = venue
        self._clock = clock or SystemClock()
        self._ids = ids or SeededIds()
        self._settings = settings or KernelSettings()
        self._actor = actor
        self._readiness = readiness.Readiness(self._clock)
        self._waiters = IntentWaiters()
        self.metrics = metrics or Metrics()
        limits = self._settings.limits
        self._writer = EventWriter(log, state, clock=self._clock, ids=self._ids, metrics=self.metrics)
        self._commands = CommandHandler(
            log, state, clock=self._clock, ids=self._ids, limits=limits, metrics=self.metrics
        )
        self._heartbeats = Heartbeats(state, self._writer, clock=self._clock)
        self._silence = SilenceWatch(log, state, self._writer, clock=self._clock)
        self._subscriptions = Subscriptions(log)
        self._tasks: list[asyncio.Task[None]] = []
        self._reader: asyncio.Task[None] | None = None
        self._problem: BaseException | None = None
        self._started = False
        self._clock_told = False
        self._telling: dict[str, asyncio.Task[None]] = {}
        """Symbols whose storm is being told."""
        self._clock_name = f"{socket.gethostname()}:{os.getpid()}"
        self.engine = ReconciliationEngine(
            intent_store,
            actual_store,
            log=log,
            venue=venue,
            lease=lease,
            clock=self._clock,
            settings=self._settings,
            ids=self._ids,
            missing=self._readiness.missing,
            metrics=self.metrics,
        )
        self._gates = state.gates
        self._leadership: Leadership | None = None
        self._session: VenueSession | None = None
        self._at_venue = self.engine.at_venue
        if venue is not None and lease is not None and self._at_venue is not None:
            self._readiness.on_able = self._at_venue.resync
            self._leadership = Leadership(
                log, state, self._writer, lease, self._readiness, clock=self._clock, settings=self._settings
            )
            self._at_venue.on_fenced = self._leadership.lose
            self._session = VenueSession(
                state,
                self._writer,
                venue,
                self._at_venue,
                self._readiness,
                clock=self._clock,
                ids=self._ids,
                settings=self._settings,
                metrics=self.metrics,
            )

    # ---------------------------------------------------------------------------------------------------- life
    async def start(self) -> None:
        """Recover: fold the log to its head. Then, with a venue, begin to campaign for the lead. Idempotent.

        Raises `IntegrityError` or `SchemaError` when the log can't be folded; nothing is started then.
        """
        if self._started:
            return
        self._started = True
        self._reader = asyncio.create_task(self._read_log(), name="kernel-reader")
        head = await self.log.head()
        try:
            await self.state.reached(head.position)
        except Exception:
            await self.stop()
            self._check()
            raise
        self._readiness.set(readiness.PROJECTIONS_AT_HEAD, True, "Folded", f"position {head.position}")
        self._note_control()
        self._note_gates(self.state.gates)
        if self._leadership is not None:
            self._tasks.append(asyncio.create_task(self._lead(self._leadership), name="kernel-leadership"))

    async def stop(self) -> None:
        """End in order: finish what is out, let go of the lead. Cancels no order. Idempotent."""
        if not self._started:
            return
        self._started = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._subscriptions.close()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self._readiness.set(readiness.PROJECTIONS_AT_HEAD, False, "Stopped")

    async def _read_log(self) -> None:
        """The one reader: it applies each batch, feeds the engine, and wakes who waits."""
        try:
            async for batch in self.log.tail(self.state.position):
                applied = await fold_on(self.log, self.state, batch)
                self._note_control()
                self._watch_clock(batch[-1].recorded_at_ns)
                self._watch_storms()
                if self._at_venue is not None:
                    self._at_venue.on_diff(applied.differing)
                self._silence.note(applied.touched)
                self._waiters.notify(applied.touched)
            self._fail(LogUnavailableError(f"the log {self.log.url} was closed"))
        except Exception as problem:
            logger.exception("the log could not be read further")
            self._fail(problem)
            raise

    def _fail(self, problem: BaseException) -> None:
        self._problem = problem
        self._readiness.set(readiness.PROJECTIONS_AT_HEAD, False, "ReaderFailed", str(problem))
        self.state.fail(problem)
        self._waiters.fail(problem)
        if self._leadership is not None:
            self._leadership.lose()

    def _note_control(self) -> None:
        """What the log says of pauses and leaders."""
        if self._leadership is not None:
            self._leadership.note_epoch(self.state.epoch)
        gates = self.state.gates
        if gates is self._gates:
            return
        self._gates = gates
        self._note_gates(gates)
        if self._at_venue is not None:
            self._at_venue.resync()

    def _note_gates(self, gates: Gates) -> None:
        held = gates.every
        self._readiness.set(readiness.NOT_PAUSED, held is None, gates.status, held.by if held else "")

    def _watch_clock(self, recorded_at_ns: int) -> None:
        """A clock far behind the log's head is a finding: what this process stamps would be refused, or valid too long."""
        behind_ns = recorded_at_ns - self._clock.now_ns()
        if behind_ns <= CLOCK_BEHIND_NS_MAX or self._clock_told:
            return
        self._clock_told = True
        text = f"the clock of {self._clock_name} is {behind_ns / NS_PER_S:.3f} s behind the log's head"
        self._tell(FindingKind.CLOCK_SKEW, self._clock_name, text)

    def _watch_storms(self) -> None:
        """Who leads tells of each storm, as soon as the log shows it; what failed is tried again with the next batch."""
        if not self.engine.running:
            return
        for symbol_id, reason in self.state.gates.storms.items():
            known = self.state.finding(finding_id(FindingKind.STORM, symbol_id))
            if (known is None or known.resolved_at_ns is not None) and symbol_id not in self._telling:
                text = (
                    f"different intents in {symbol_id} were refused alike, {self._settings.storm_rejections} and more"
                )
                self._telling[symbol_id] = self._tell(FindingKind.STORM, symbol_id, f"{text}: {reason}", symbol_id)
                self._telling[symbol_id].add_done_callback(functools.partial(self._told, symbol_id))

    def _told(self, symbol_id: str, task: asyncio.Task[None]) -> None:
        del self._telling[symbol_id]

    def _tell(self, kind: FindingKind, name: str, text: str, symbol_id: str | None = None) -> asyncio.Task[None]:
        """Raise a finding beside the reader, which must not wait for its own append."""
        finding = raised(finding_id(kind, name), kind, text, symbol_id=symbol_id, now_ns=self._clock.now_ns())
        raising = self._writer.append(
            events.CONTROL_STREAM, [finding], actor="kernel", evidence=Evidence.INFERRED, is_fact=True
        )
        task = asyncio.create_task(logged(raising, f"the finding {kind}"), name="kernel-finding")
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)
        return task

    def _check(self) -> None:
        """Raise what ended the reader, if anything did: a kernel that no longer reads must not pretend to know."""
        if self._problem is None:
            return
        if isinstance(self._problem, KernelError):
            raise self._problem
        raise KernelError(f"the kernel stopped reading the log: {self._problem!r}") from self._problem

    async def _lead(self, leadership: Leadership) -> None:
        try:
            await leadership.run(self._act)
        except asyncio.CancelledError:
            raise
        except Exception as problem:
            logger.exception("the leader failed")
            self._fail(problem)

    async def _act(self, epoch: int) -> None:
        """What a leader does until it is cancelled."""
        if self._session is None or self._at_venue is None:
            return
        self._at_venue.lead(epoch)
        started = events.KernelStarted(
            kernel_version=kernel_version(),
            code_hash=code_hash(),
            epoch=epoch,
            settings=self._settings.model_dump(mode="json"),
            capabilities=self._session.known_capabilities(),
        )
        await self._control(started, epoch)
        await self.engine.start()
        try:
            async with self._silence.watching(epoch):
                await self._session.run(epoch)
        finally:
            await self.engine.stop()
            with suppress(KernelError, TimeoutError):
                # A log that is away must not hold up the end.
                async with asyncio.timeout(self._settings.stop_timeout_s):
                    await self._control(events.KernelStopped(epoch=epoch, reason="stopped in order"), epoch)

    async def _control(self, event: events.BaseEvent, epoch: int) -> None:
        await self._writer.append(
            events.CONTROL_STREAM, [event], actor="kernel", evidence=Evidence.COMMAND, epoch=epoch
        )

    async def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Return once the kernel acts. Raises `NotReadyError` naming the missing conditions when the time is over."""
        waiting = asyncio.create_task(self._readiness.wait())
        watched = {waiting, self._reader} if self._reader is not None else {waiting}
        try:
            await asyncio.wait(watched, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        self._check()
        if not self._readiness.ready:
            details = "; ".join(
                f"{item.type}: {item.reason} {item.message}".strip()
                for item in self._readiness.conditions()
                if not item.status
            )
            raise NotReadyError(f"not ready after {timeout_s:g} s: {details}", missing=self._readiness.missing())

    # ---------------------------------------------------------------------------------------------------- health
    async def health_check(self) -> dict[str, Any]:
        """Whether the kernel acts, and if not, which condition is missing, why, and since when.

        While the log can't be seen it is not known how far behind the projections are: `lag_events` is None then.
        """
        conditions = self._readiness.conditions()
        lag: int | None = None
        try:
            lag = (await self.log.head()).position - self.state.position
        except LogUnavailableError as problem:
            at_head = self._readiness[readiness.PROJECTIONS_AT_HEAD]
            unseen = replace(at_head, status=False, reason="LogUnavailable", message=str(problem))
            conditions = [unseen if item is at_head else item for item in conditions]
        connected = self._readiness[readiness.VENUE_CONNECTED].status
        metrics = self.engine.get_metrics()
        return {
            "exchange_id": self.exchange_id,
            "ready": all(item.status for item in conditions),
            "leader": self._readiness[readiness.LEASE_HELD].status,
            "conditions": [item.as_dict() for item in conditions],
            "position": self.state.position,
            "lag_events": lag,
            "venue": {"connected": connected, "latency_ms": self._session.latency_ms if self._session else None},
            "error_count": metrics["error_count"] + (self._session.error_count if self._session else 0),
        }

    async def force_reconciliation(self, intent_id: str | None = None) -> None:
        """Reconcile one intent, or all, once, past backoff; never past lease, readiness, pause or what is unknown.

        Raises `NotFoundError` for an unknown intent.
        """
        self._check()
        if intent_id is None:
            await self.engine.reconcile_all()
        else:
            await self.engine.reconcile_intent(intent_id)

    def get_reconciliation_metrics(self) -> dict[str, Any]:
        return self.engine.get_metrics()
