"""The kernel's runtime: one reader that applies the log, and, with a venue, the leader's work.

Part of `EventSourcedKernel` (`controller`), which has the commands and the queries. It folds the log, raises findings about
what it shows, campaigns for the lead and acts while it has it, and says how all that is.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
from dataclasses import replace
from typing import Any

from kernel import events
from kernel.clock import NS_PER_S, Clock
from kernel.commands.waiters import IntentWaiters
from kernel.errors import KernelError, LogUnavailableError, NotReadyError
from kernel.lifecycle import finding_id, raised
from kernel.log.base import EventLog
from kernel.models import Evidence, FindingKind
from kernel.reconciler.engine import ReconciliationEngine
from kernel.runtime.dead_man_switch import DeadManSwitch
from kernel.runtime.leader import Leader
from kernel.safety import readiness
from kernel.safety.readiness import Readiness
from kernel.safety.trading_halts import TradingStatus
from kernel.state import KernelState
from kernel.streams.event_writer import EventWriter, log_reports
from kernel.streams.rehydration import apply_batch
from kernel.subscriptions import Subscriptions

logger = logging.getLogger(__name__)

CLOCK_BEHIND_NS_MAX = NS_PER_S
"""How far a writer's clock may be behind the log's head before it is a finding."""


class LogMonitor:
    """Raises findings about what the log shows: a clock that is behind, rejections that keep coming back."""

    def __init__(self, *, state: KernelState, writer: EventWriter, clock: Clock, storm_rejections: int) -> None:
        self._state = state
        self._writer = writer
        self._clock = clock
        self._storm_rejections = storm_rejections
        self.tasks: list[asyncio.Task[None]] = []
        """Findings that are being recorded."""
        self._clock_reported = False
        self._telling: dict[str, asyncio.Task[None]] = {}
        """Symbols whose storm is being told."""
        self._clock_name = f"{socket.gethostname()}:{os.getpid()}"

    def watch_clock(self, recorded_at_ns: int) -> None:
        """A clock far behind the log's head is a finding: what this process stamps would be refused, or valid too long."""
        behind_ns = recorded_at_ns - self._clock.now_ns()
        if behind_ns <= CLOCK_BEHIND_NS_MAX or self._clock_reported:
            return
        self._clock_reported = True
        text = f"the clock of {self._clock_name} is {behind_ns / NS_PER_S:.3f} s behind the log's head"
        self._tell(FindingKind.CLOCK_SKEW, self._clock_name, text)

    def watch_storms(self) -> None:
        """Raise a finding for each storm, as soon as the log shows it; what failed is tried again with the next batch."""
        for symbol_id, reason in self._state.trading_status.storms.items():
            known = self._state.finding(finding_id(FindingKind.STORM, symbol_id))
            if (known is None or known.resolved_at_ns is not None) and symbol_id not in self._telling:
                text = f"different intents in {symbol_id} were refused alike, {self._storm_rejections} and more"
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
        task = asyncio.create_task(log_reports(raising, f"the finding {kind}"), name="kernel-finding")
        self.tasks.append(task)
        task.add_done_callback(self.tasks.remove)
        return task


class KernelRuntime:
    """How a kernel recovers, leads and ends, and how it is."""

    def __init__(
        self,
        *,
        log: EventLog,
        state: KernelState,
        engine: ReconciliationEngine,
        readiness: Readiness,
        waiters: IntentWaiters,
        subscriptions: Subscriptions,
        silence: DeadManSwitch,
        monitor: LogMonitor,
        leader: Leader | None,
    ) -> None:
        """Without a `leader` the kernel never leads: it has no venue."""
        self._log = log
        self._state = state
        self._engine = engine
        self.readiness = readiness
        self.waiters = waiters
        self.subscriptions = subscriptions
        self._dead_man_switch = silence
        self._monitor = monitor
        self.leader = leader
        self.problem: BaseException | None = None
        """What ended the reader."""
        self._trading_status = state.trading_status
        self._started = False
        self._reader: asyncio.Task[None] | None = None
        self._leading: asyncio.Task[None] | None = None

    # ---------------------------------------------------------------------------------------------------- life
    async def start(self) -> None:
        """See `EventSourcedKernel.start`."""
        if self._started:
            return
        self._started = True
        self._reader = asyncio.create_task(self._read_log(), name="kernel-reader")
        head = await self._log.head()
        try:
            await self._state.reached(head.position)
        except Exception:
            await self.stop()
            self.check()
            raise
        self.readiness.set(readiness.PROJECTIONS_AT_HEAD, True, "Folded", f"position {head.position}")
        self._note_control()
        self._note_gates(self._state.trading_status)
        if self.leader is not None:
            self._leading = asyncio.create_task(self._lead(self.leader), name="kernel-leadership")

    async def stop(self) -> None:
        """See `EventSourcedKernel.stop`."""
        if not self._started:
            return
        self._started = False
        tasks = [task for task in (self._leading, *self._monitor.tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._leading = None
        await self.subscriptions.close()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self.readiness.set(readiness.PROJECTIONS_AT_HEAD, False, "Stopped")

    async def _read_log(self) -> None:
        """The one reader: it applies each batch, feeds the engine, and wakes who waits."""
        try:
            async for batch in self._log.tail(self._state.position):
                applied = await apply_batch(self._log, self._state, batch)
                self._note_control()
                self._monitor.watch_clock(batch[-1].recorded_at_ns)
                if self._engine.running:
                    self._monitor.watch_storms()
                if self.leader is not None:
                    self.leader.reconciler.on_diff(applied.differing)
                self._dead_man_switch.note(applied.touched)
                self.waiters.notify(applied.touched)
            self.fail(LogUnavailableError(f"the log {self._log.url} was closed"))
        except Exception as problem:
            logger.exception("the log could not be read further")
            self.fail(problem)
            raise

    def fail(self, problem: BaseException) -> None:
        """The log can't be read further: nothing more is done, and whoever waits is told why."""
        self.problem = problem
        self.readiness.set(readiness.PROJECTIONS_AT_HEAD, False, "ReaderFailed", str(problem))
        self._state.fail(problem)
        self.waiters.fail(problem)
        if self.leader is not None:
            self.leader.leadership.lose()

    def _note_control(self) -> None:
        """What the log says of pauses and leaders."""
        if self.leader is not None:
            self.leader.leadership.note_epoch(self._state.epoch)
        gates = self._state.trading_status
        if gates is self._trading_status:
            return
        self._trading_status = gates
        self._note_gates(gates)
        if self.leader is not None:
            self.leader.reconciler.resync()

    def _note_gates(self, gates: TradingStatus) -> None:
        held = gates.every
        self.readiness.set(readiness.NOT_PAUSED, held is None, gates.status, held.by if held else "")

    def check(self) -> None:
        """Raise what ended the reader, if anything did: a kernel that no longer reads must not pretend to know."""
        if self.problem is None:
            return
        if isinstance(self.problem, KernelError):
            raise self.problem
        raise KernelError(f"the kernel stopped reading the log: {self.problem!r}") from self.problem

    async def _lead(self, leader: Leader) -> None:
        try:
            await leader.run()
        except asyncio.CancelledError:
            raise
        except Exception as problem:
            logger.exception("the leader failed")
            self.fail(problem)

    async def wait_ready(self, timeout_s: float) -> None:
        """See `EventSourcedKernel.wait_ready`."""
        waiting = asyncio.create_task(self.readiness.wait())
        watched = {waiting, self._reader} if self._reader is not None else {waiting}
        try:
            await asyncio.wait(watched, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        self.check()
        if not self.readiness.ready:
            details = "; ".join(
                f"{item.type}: {item.reason} {item.message}".strip()
                for item in self.readiness.conditions()
                if not item.status
            )
            raise NotReadyError(f"not ready after {timeout_s:g} s: {details}", missing=self.readiness.missing())

    # ---------------------------------------------------------------------------------------------------- health
    async def health_check(self) -> dict[str, Any]:
        """See `EventSourcedKernel.health_check`."""
        conditions = self.readiness.conditions()
        lag: int | None = None
        try:
            lag = (await self._log.head()).position - self._state.position
        except LogUnavailableError as problem:
            at_head = self.readiness[readiness.PROJECTIONS_AT_HEAD]
            unseen = replace(at_head, status=False, reason="LogUnavailable", message=str(problem))
            conditions = [unseen if item is at_head else item for item in conditions]
        connected = self.readiness[readiness.VENUE_CONNECTED].status
        session = self.leader.session if self.leader is not None else None
        metrics = self._engine.get_metrics()
        return {
            "exchange_id": self._log.exchange_id,
            "ready": all(item.status for item in conditions),
            "leader": self.readiness[readiness.LEASE_HELD].status,
            "conditions": [item.as_dict() for item in conditions],
            "position": self._state.position,
            "lag_events": lag,
            "venue": {"connected": connected, "latency_ms": session.latency_ms if session else None},
            "error_count": metrics["error_count"] + (session.error_count if session else 0),
        }
