"""The reconciler at a venue: the work queue, its workers, and the run that performs a decision.

Created by `ReconciliationEngine` with a venue. Level-based: a run takes a key, gathers the inputs, decides
(`decide_run`), waits for backoff and rate limits, and performs the decision: at most one side effect, and safe to repeat.
Only `requeue` turns the result of a run into the next step of the queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from kernel import plan as planning
from kernel.actions import ACTION_RULES, ActionKind, Priority
from kernel.clock import NS_PER_MS, Clock, IdFactory
from kernel.errors import FencedError, KernelError, NotFoundError
from kernel.lease import Lease
from kernel.log.base import EventLog
from kernel.metrics import EngineReading, Metrics, RunResult, observe_ns
from kernel.models import Evidence, OrderIntent, OrderState
from kernel.reconciler.admission import RateLimitAdmission
from kernel.reconciler.decide_run import decide_resend, decide_run, next_action
from kernel.reconciler.decision import (
    AttemptResolution,
    BackOff,
    LocalRejection,
    ReportFindings,
    SendGroup,
    SendOrder,
    TakeOverGroup,
    VenueStep,
)
from kernel.reconciler.group_sender import GroupSender
from kernel.reconciler.order_sender import OrderSender
from kernel.reconciler.rate_limiter import RateLimitExceeded, VenueRateLimiter
from kernel.reconciler.requeue_backoff import KeyBackoff
from kernel.reconciler.result import Done, ReconcileResult, RequeueAfter, RequeueWithBackoff, Terminal
from kernel.reconciler.run_inputs import DecisionContext, RunInputs, RunMemory, gather_inputs
from kernel.reconciler.status_query import QueryOutcome, StatusQuerier
from kernel.reconciler.suspect_query import Ingest, SuspectQuerier
from kernel.settings import KernelSettings, ns
from kernel.state import KernelState
from kernel.stores import ActualStateStore, IntentStateStore
from kernel.streams.event_writer import EventWriter
from kernel.venues.guard import GuardedVenue
from kernel.workqueue import WorkQueue

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class VenueReconciler:
    """Makes the orders at one venue match the intents while its kernel leads."""

    intent_store: IntentStateStore
    actual_store: ActualStateStore
    state: KernelState
    log: EventLog
    venue: GuardedVenue
    lease: Lease
    clock: Clock
    ids: IdFactory
    settings: KernelSettings
    metrics: Metrics
    missing: Callable[[], tuple[str, ...]]
    """Returns the unmet readiness conditions; while there are any, nothing is sent."""
    epoch: int = field(default=0, init=False)
    running: bool = field(default=False, init=False)
    lag_ns: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        writer = self._writer = EventWriter(self.log, self.state, clock=self.clock, ids=self.ids, metrics=self.metrics)
        self.limiter = limiter = VenueRateLimiter(
            self.venue, clock=self.clock, settings=self.settings, metrics=self.metrics
        )
        limiter.on_capacity = self._on_capacity
        self._admission = RateLimitAdmission(limiter, self.venue, self.ids, self.settings)
        self._sender = OrderSender(
            self.state, writer, self.venue, self.lease, self.clock, self.ids, self.settings, self.metrics, limiter
        )
        self._group_sender = GroupSender(self._sender)
        self._querier = StatusQuerier(self.state, writer, self.venue, self.clock, self.settings, self.metrics, limiter)
        self._backoff = KeyBackoff(self.clock, self.ids, self.settings)
        self._forced: set[str] = set()
        """Intents to run once without backoff."""
        self._queue = self._new_queue()
        self._tasks: list[asyncio.Task[None]] = []
        self.on_fenced: Callable[[], None] = lambda: None

    def _new_queue(self) -> WorkQueue:
        return WorkQueue(self.clock, keys_max=self.settings.queue_keys_max, metrics=self.metrics)

    @property
    def pending(self) -> int:
        """Keys that are ready, parked, delayed or in work."""
        return self._queue.pending

    @property
    def suspects(self) -> SuspectQuerier:
        return self._querier.suspects

    def record_with(self, ingest: Ingest) -> None:
        """Record through `ingest` what answers show besides the order in question."""
        self._querier.suspects.ingest = self._sender.ingest = ingest

    def lead(self, epoch: int) -> None:
        self.epoch = self._sender.epoch = self._querier.epoch = epoch

    async def start(self) -> None:
        """Start the workers. Idempotent."""
        if self.running:
            return
        self.running = True
        self._queue = self._new_queue()
        self._tasks = [
            asyncio.create_task(self._work(), name=f"reconciler-{number}") for number in range(self.settings.workers)
        ]
        self._tasks.append(asyncio.create_task(self._resync_forever(), name="reconciler-resync"))
        self.resync()

    async def stop(self) -> None:
        """Hand out no more keys, wait for running calls, end the workers. Idempotent. Cancels no order."""
        if not self.running:
            return
        self.running = False
        self._queue.close()
        try:
            async with asyncio.timeout(self.settings.stop_timeout_s):
                await self._queue.drained()
        except TimeoutError:
            logger.warning("calls still running after %s s: their outcome is unknown", self.settings.stop_timeout_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def on_diff(self, intent_ids: tuple[str, ...]) -> None:
        """Queue intents that differ from their orders."""
        if not self.running:
            return
        for intent_id in intent_ids:
            if self._queue.is_working(intent_id):
                # It runs again anyway; its worker may be about to send and must not wait for the diff.
                self._queue.add(intent_id, Priority.RESOLVE)
                continue
            found = planning.difference(self.state.effective_intent(intent_id), self.state.observed_order(intent_id))
            if found is not None:
                self._queue.add(intent_id, ACTION_RULES[found.kind].priority)
            elif self.state.is_report_due(intent_id):
                self._queue.add(intent_id, Priority.RESOLVE)

    def resync(self) -> None:
        """Queue every live intent and forget the others; makes no venue call by itself."""
        if not self.running:
            return
        live = self.state.live_intent_ids()
        self._retain_only(frozenset(live))
        for intent_id in live:
            self._queue.add(intent_id, Priority.RESYNC)

    def _retain_only(self, live: frozenset[str]) -> None:
        """Forget intents that converged by a fact, without a run."""
        self._forced &= live
        self._backoff.retain_only(live)
        self._admission.retain_only(live)
        self._querier.retain_only(live)

    def _on_capacity(self) -> None:
        self._queue.release()

    def query_soon(self, intent_id: str) -> None:
        """Queue an intent whose order a list did not show."""
        self._queue.add(intent_id, Priority.RESOLVE)

    def reconcile_now(self, intent_id: str) -> None:
        """Queue an intent for one run without backoff."""
        self._backoff.forget(intent_id)
        self._forced.add(intent_id)
        self._queue.add(intent_id, Priority.RESOLVE)

    async def _resync_forever(self) -> None:
        while True:
            await self.clock.sleep_until(self.clock.now_ns() + ns(self.settings.resync_interval_s))
            self.resync()

    def reading(self) -> EngineReading:
        """Return the current load."""
        return EngineReading(
            lag_ms=self.lag_ns / NS_PER_MS,
            pending=self.pending,
            workers=self.settings.workers,
            ready=len(self._queue),
            ages_s=self._queue.ages_s(),
        )

    async def _work(self) -> None:
        while True:
            intent_id = await self._queue.get()
            try:
                self.requeue(intent_id, await self._run(intent_id))
            finally:
                self._queue.done(intent_id)

    async def _run(self, intent_id: str) -> ReconcileResult:
        began_ns = self.clock.now_ns()
        result, metric = await self._try(intent_id)
        took_ns = self.clock.now_ns() - began_ns
        self.metrics.reconciles.labels(metric).inc()
        observe_ns(self.metrics.reconcile_duration, took_ns)
        if metric in (RunResult.DONE, RunResult.AFTER, RunResult.FAILED):
            self.lag_ns = took_ns
        return result

    async def _try(self, intent_id: str) -> tuple[ReconcileResult, RunResult]:
        try:
            result = await self.reconcile(intent_id)
        except FencedError as problem:
            logger.warning("%s", problem)
            self.on_fenced()
            return Done("fenced"), RunResult.FENCED
        except KernelError as problem:
            return RequeueWithBackoff(problem), RunResult.ERROR
        except Exception as problem:
            logger.exception("reconciling %s failed unexpectedly", intent_id, extra={"intent_id": intent_id})
            return RequeueWithBackoff(problem), RunResult.BUG
        return result, result.metric

    def requeue(self, intent_id: str, result: ReconcileResult) -> None:
        """Turn the result of a run into the next step of the queue."""
        match result:
            case Done() | Terminal():
                pass
            case RequeueAfter(instant_ns=instant_ns, lane=Priority() as lane):
                self._queue.park(intent_id, lane, instant_ns)
            case RequeueAfter(instant_ns=instant_ns):
                self._queue.add_at(intent_id, instant_ns)
            case RequeueWithBackoff(error=error):
                self.metrics.error_count.inc()
                self.metrics.retry_count.inc()
                logger.info("%s: %s; retrying later", intent_id, error, extra={"intent_id": intent_id})
                self._queue.add_at(intent_id, self._backoff.record_failure(intent_id))

    async def reconcile(self, intent_id: str) -> ReconcileResult:
        """Run once for one intent: decide, wait for backoff and rate limits, perform."""
        inputs = self._gather(intent_id, *await self._read(intent_id))
        match decide_run(inputs):
            case planning.Nothing(reason=reason):
                self._backoff.forget(intent_id)
                return Done(reason)
            case planning.WaitUntil(until_ns=until_ns, reason=reason):
                return Done(reason) if until_ns is None else RequeueAfter(until_ns, reason)
            case BackOff(kind=kind, reason=reason):
                held_until_ns = self._backoff.begin(intent_id, kind)
                if inputs.now_ns < held_until_ns:  # a run during the backoff does not lengthen it
                    return RequeueAfter(held_until_ns, reason)
                return RequeueAfter(self._backoff.record_failure(intent_id), reason)
            case ReportFindings() as report:
                await self._append_findings(report)
                return RequeueAfter(self.clock.now_ns(), report.reason)
            case TakeOverGroup(group=group, reason=reason):
                await self._group_sender.take_over(group)
                return Done(reason)
            case step:
                return self._held(inputs, step) or await self._perform(inputs, step)

    async def _read(self, intent_id: str) -> tuple[OrderIntent | None, OrderState | None]:
        """Return the effective intent and the observed order, of one moment: the stores answer without suspending."""
        intent: OrderIntent | None = None
        order: OrderState | None = None
        with suppress(NotFoundError):
            await self.intent_store.get_intent(intent_id)
            intent = self.state.effective_intent(intent_id)
        with suppress(NotFoundError):
            order = await self.actual_store.get_order_state(intent_id)
        # Deleting an order state in the store does not end the order at the venue.
        return intent, order or self.state.observed_order(intent_id)

    def _gather(self, intent_id: str, intent: OrderIntent | None, order: OrderState | None) -> RunInputs:
        context = DecisionContext(
            self.settings, self.venue.capabilities, self.epoch, self.clock.now_ns(), self.missing()
        )
        memory = RunMemory(
            forced=intent_id in self._forced,
            running_calls=frozenset(self._sender.calls),
            last_queries=self._querier.last_queries(intent_id),
        )
        return gather_inputs(self.state, intent_id, intent, order, context=context, memory=memory)

    async def plan(self, intent_id: str) -> planning.Action:
        return next_action(self._gather(intent_id, *await self._read(intent_id)))

    def _held(self, inputs: RunInputs, step: VenueStep) -> ReconcileResult | None:
        """Return the wait for backoff or the rate limit; None if the step may be performed now."""
        intent_id = inputs.intent_id
        resends = isinstance(step, SendOrder) and step.resend
        kind = ActionKind.RESOLVE if resends else step.kind
        held_until_ns = self._backoff.begin(intent_id, kind)
        if isinstance(step, LocalRejection):  # it makes no venue call
            self._forced.discard(intent_id)
            return None
        if kind is not ActionKind.SUBMIT and inputs.now_ns < held_until_ns:
            self._forced.discard(intent_id)
            return RequeueAfter(held_until_ns, "backing off")
        stale = isinstance(step, planning.Ask) and step.stale
        not_admitted = (self._admission.admit_stale() if stale else None) or self._admission.admit(intent_id, step.kind)
        if not_admitted is not None:
            return not_admitted
        self._forced.discard(intent_id)
        return None

    async def _perform(self, inputs: RunInputs, step: VenueStep) -> ReconcileResult:
        generation = inputs.intent.generation if inputs.intent else 0
        extra = {"intent_id": inputs.intent_id, "position": inputs.state_position, "generation": generation}
        logger.info("decided: %s%s", step.label, f", {step.reason}" if step.reason else "", extra=extra)
        try:
            result = await self._perform_step(inputs, step)
        except RateLimitExceeded as exceeded:
            return self._admission.note_shortfall(inputs.intent_id, exceeded)
        self._admission.clear_shortfall(inputs.intent_id)
        return result

    async def _perform_step(self, inputs: RunInputs, step: VenueStep) -> ReconcileResult:
        intent_id = inputs.intent_id
        match step:
            case AttemptResolution():
                return await self._resolve(intent_id, step)
            case planning.Ask(order=item):
                return self._after_query(intent_id, await self._querier.ask(intent_id, item), confirm=True)
            case SendOrder():
                if step.resend or step.kind is not ActionKind.SUBMIT:
                    self._backoff.record_failure(intent_id)  # until it is confirmed
                await self._sender.send(step)
                return Done("sent, or superseded by another append")
            case SendGroup():
                await self._group_sender.send(step)
                return Done("the group was sent, or superseded by another append")
            case LocalRejection():
                await self._sender.reject_locally(step)
                return Terminal(step.text)

    async def _resolve(self, intent_id: str, step: AttemptResolution) -> ReconcileResult:
        outcome = await self._querier.resolve(step)
        if not outcome.resend:
            return self._after_query(intent_id, outcome)
        # Decide on the state of now: the query took time.
        inputs = self._gather(intent_id, self.state.effective_intent(intent_id), self.state.observed_order(intent_id))
        resend = decide_resend(inputs)
        if isinstance(resend, SendOrder):
            return await self._perform_step(inputs, resend)
        return RequeueAfter(self._backoff.record_failure(intent_id), resend.reason)

    def _after_query(self, intent_id: str, outcome: QueryOutcome, *, confirm: bool = False) -> ReconcileResult:
        """Return the result of a query; with `confirm`, the next query is spaced even if it resolved."""
        if outcome.resolved and not confirm:
            self._backoff.record_success(intent_id)
            return Done("resolved")
        if outcome.again_ns is not None and outcome.again_ns > self.clock.now_ns():
            return RequeueAfter(outcome.again_ns, "the next status query is not due")
        return RequeueAfter(self._backoff.record_failure(intent_id), "nothing can be concluded yet")

    async def _append_findings(self, report: ReportFindings) -> None:
        await self._writer.append_unless_changed(
            report.stream_id,
            report.events,
            evidence=Evidence.INFERRED,
            expected_version=report.expected_version,
            epoch=self.epoch,
        )
