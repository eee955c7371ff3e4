"""Runs a kernel: applies the log, runs the leader, and reports readiness.

Part of `EventSourcedKernel`, which has the commands and queries.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict, replace

from kernel.commands.waiters import IntentWaiters
from kernel.errors import KernelError, LogUnavailableError, NotReadyError
from kernel.log.base import EventLog
from kernel.reconciler.engine import ReconciliationEngine
from kernel.runtime.dead_man_switch import DeadManSwitch
from kernel.runtime.log_monitor import LogMonitor
from kernel.safety import readiness
from kernel.safety.readiness import Readiness
from kernel.safety.trading_halts import NOT_PAUSED, TradingStatus
from kernel.state import KernelState
from kernel.streams.rehydration import apply_batch
from kernel.subscriptions import Subscriptions

if TYPE_CHECKING:
    from kernel.runtime.leader import Leader

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class KernelRuntime:
    """Starts, runs and stops a kernel."""

    log: EventLog
    state: KernelState
    engine: ReconciliationEngine
    readiness: Readiness
    waiters: IntentWaiters
    subscriptions: Subscriptions
    dead_man_switch: DeadManSwitch
    monitor: LogMonitor
    leader: Leader | None
    """None for a kernel without a venue."""
    problem: BaseException | None = field(default=None, init=False)
    """The error that ended the reader."""

    def __post_init__(self) -> None:
        self._trading_status = self.state.trading_status
        self._started = False
        self._reader: asyncio.Task[None] | None = None
        self._leading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._started:
            return
        self._started = True
        self._reader = asyncio.create_task(self._read_log(), name="kernel-reader")
        head = await self.log.head()
        try:
            await self.state.reached(head.position)
        except Exception:
            await self.stop()
            self.check()
            raise
        self.readiness.set(readiness.PROJECTIONS_AT_HEAD, True, "Folded", f"position {head.position}")
        self._note_epoch_and_status()
        self._report_status(self.state.trading_status)
        if self.leader is not None:
            self._leading = asyncio.create_task(self._lead(self.leader), name="kernel-leadership")

    async def stop(self) -> None:
        if not self._started:
            return
        self._started = False
        tasks = [task for task in (self._leading, *self.monitor.findings.tasks.values()) if task is not None]
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
        """Apply each batch of the log, and inform the engine, the dead-man switch and the waiters."""
        try:
            async for batch in self.log.tail(self.state.position):
                applied = await apply_batch(self.log, self.state, batch)
                self._note_epoch_and_status()
                self.monitor.watch_clock(batch[-1])
                if self.engine.running:
                    self.monitor.watch_storms()
                if self.leader is not None:
                    self.leader.reconciler.on_diff(applied.differing)
                self.dead_man_switch.note(applied.touched)
                self.waiters.notify(applied.touched)
            self.fail(LogUnavailableError(f"the log {self.log.url} was closed"))
        except Exception as problem:
            logger.exception("reading the log failed")
            self.fail(problem)
            raise

    def fail(self, problem: BaseException) -> None:
        """Stop acting after an error of the reader or the leader, and raise it in every waiter."""
        self.problem = problem
        self.readiness.set(readiness.PROJECTIONS_AT_HEAD, False, "ReaderFailed", str(problem))
        self.state.fail(problem)
        self.waiters.fail(problem)
        if self.leader is not None:
            self.leader.leadership.lose()

    def _note_epoch_and_status(self) -> None:
        """Inform the leader of a new epoch or trading status in the log."""
        if self.leader is not None:
            self.leader.leadership.note_epoch(self.state.epoch)
        status = self.state.trading_status
        if status is self._trading_status:
            return
        self._trading_status = status
        self._report_status(status)
        if self.leader is not None:
            self.leader.reconciler.resync()

    def _report_status(self, status: TradingStatus) -> None:
        halt = status.every
        self.readiness.set(NOT_PAUSED, halt is None, status.status, halt.by if halt else "")

    def check(self) -> None:
        """Raise the error that ended the reader, as the state of a kernel that no longer reads is out of date."""
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

    async def health_check(self) -> dict[str, Any]:
        conditions = self.readiness.conditions()
        lag: int | None = None
        try:
            lag = (await self.log.head()).position - self.state.position
        except LogUnavailableError as problem:
            at_head = self.readiness[readiness.PROJECTIONS_AT_HEAD]
            unknown = replace(at_head, status=False, reason="LogUnavailable", message=str(problem))
            conditions = [unknown if item is at_head else item for item in conditions]
        advisory = readiness.advisory_conditions(self.state.findings(), created_at_ns=self.state.created_at_ns)
        connected = self.readiness[readiness.VENUE_CONNECTED].status
        session = self.leader.session if self.leader is not None else None
        metrics = self.engine.get_metrics()
        return {
            "exchange_id": self.log.exchange_id,
            "ready": readiness.all_hold(conditions),
            "leader": self.readiness[readiness.LEASE_HELD].status,
            "conditions": [asdict(item) for item in (*conditions, *advisory)],
            "position": self.state.position,
            "lag_events": lag,
            "venue": {"connected": connected, "latency_ms": session.latency_ms if session else None},
            "error_count": metrics["error_count"] + (session.error_count if session else 0),
        }
