"""The reconciliation engine: the loop that makes the exchange agree with what is wanted. The seed's `ReconciliationEngine`.

Built by the controller with its stores, log, venue and lease; or by anybody over any two stores, without a venue: then it
computes plans and never acts. It reads through the two stores, writes through the log, and reaches the venue through
`attempts` and `looks` alone. Level-based: a run gets a key, reads both sides, has at most one side effect, and can be
repeated at any time. One function, `requeue`, turns what a run came to into what the queue does next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from kernel import plan as planning
from kernel.attempts import UNFIT
from kernel.budget import BudgetSpent, VenueBudget
from kernel.clock import NS_PER_MS, Clock, IdFactory, SeededIds, SystemClock
from kernel.errors import FencedError, KernelError, NotFoundError, ValidationError
from kernel.group_attempts import GroupAttemptSender
from kernel.groups import Group
from kernel.lease import Lease
from kernel.log.base import EventLog
from kernel.looks import Looked, VenueLooker
from kernel.metrics import EngineReading, Metrics, RunResult, observe_ns, value_of
from kernel.models import (
    UNSETTLED,
    Attempt,
    AttemptKind,
    AttemptOutcome,
    OrderIntent,
    OrderState,
    VenueOrder,
)
from kernel.order_spec import OrderType, SymbolMetadata, TimeInForce
from kernel.pacing import Pacing
from kernel.room import AGED, NoRoom, Room
from kernel.runs import After, Done, Failed, Outcome, Retry
from kernel.settings import KernelSettings, ns
from kernel.state import KernelState
from kernel.stores import ActualStateStore, IntentStateStore
from kernel.venues.base import AmendDialect, Venue
from kernel.workqueue import Priority, WorkQueue
from kernel.writer import EventWriter

logger = logging.getLogger(__name__)


RUN_RESULTS = {Done: RunResult.DONE, After: RunResult.AFTER, Failed: RunResult.FAILED, Retry: RunResult.ERROR}

PRIORITIES = {
    planning.DifferenceKind.CANCEL: Priority.CANCEL,
    planning.DifferenceKind.SETTLE: Priority.SETTLE,
    planning.DifferenceKind.ASK: Priority.SETTLE,
    planning.DifferenceKind.MODIFY: Priority.MODIFY,
    planning.DifferenceKind.SUBMIT: Priority.SUBMIT,
}

ATTEMPTS = {planning.Cancel: AttemptKind.CANCEL, planning.Amend: AttemptKind.AMEND}
"""What an action asks of the venue; whatever is not here places an order, or might."""


def symbol_id_of(intent: OrderIntent | None, order: OrderState | None) -> str:
    """The symbol of what is wanted, else of what is there."""
    return intent.order.symbol_id if intent else order.status.order.symbol_id if order else ""


def waiting_for(no_room: NoRoom) -> After:
    """A run without room in the rate budget, as an outcome."""
    return After(no_room.until_ns, no_room.reason, no_room.line)


def folded_state(store: IntentStateStore | ActualStateStore) -> KernelState | None:
    """The state that an event-sourced store reads; None for a plain store."""
    state: KernelState | None = getattr(store, "state", None)
    return state


def any_market(symbol_id: str) -> SymbolMetadata | None:
    """A market that takes every order: plain stores know of no markets, so none is held against a plan over them."""
    if not symbol_id:
        return None
    return SymbolMetadata(
        symbol_id=symbol_id,
        base_asset="ANY",
        quote_asset="ANY",
        price_decimals=0,
        quantity_decimals=0,
        order_types=frozenset(OrderType),
        times_in_force=frozenset(TimeInForce),
        reduce_only=True,
        iceberg=True,
    )


class ReconciliationEngine:
    """Continuously makes actual state match intent."""

    def __init__(
        self,
        intent_store: IntentStateStore,
        actual_store: ActualStateStore,
        *,
        log: EventLog | None = None,
        venue: Venue | None = None,
        lease: Lease | None = None,
        clock: Clock | None = None,
        settings: KernelSettings | None = None,
        ids: IdFactory | None = None,
        missing: Callable[[], tuple[str, ...]] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`missing` names the readiness conditions that do not hold; while there are any, nothing is sent.

        Raises `ValidationError` for a venue without a log and a lease (law 2), or a log without stores that are folded
        from it.
        """
        self.intent_store = intent_store
        self.actual_store = actual_store
        self._clock = clock or SystemClock()
        self._settings = settings or KernelSettings()
        self._ids = ids or SeededIds()
        self._missing = missing or (lambda: ())
        self._metrics = metrics or Metrics()
        self._queue = self._new_queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._pacing = Pacing(self._clock, self._ids, self._settings)
        self._doubted: set[str] = set()
        """Intents whose live order a list did not show, or that has not been confirmed for long."""
        self._forced: set[str] = set()
        """Intents to run once past any backoff."""
        self._lag_ns = 0
        self.running = False
        self.on_fenced: Callable[[], None] = lambda: None
        self._state: KernelState | None = None
        self._groups = folded_state(intent_store)
        """Who knows what groups let their members be; None over plain stores, which know of no groups' modes."""
        self._venue = venue
        self._sender: GroupAttemptSender | None = None
        self._looker: VenueLooker | None = None
        self.budget: VenueBudget | None = None
        """What may still be asked of the venue."""
        self._room: Room | None = None
        if venue is not None:
            self._wire(log, venue, lease)

    def _wire(self, log: EventLog | None, venue: Venue, lease: Lease | None) -> None:
        state = folded_state(self.actual_store)
        if log is None or lease is None:
            raise ValidationError(
                "an engine with a venue needs a log and a lease: an attempt is durable before the venue hears of it"
            )
        if state is None or folded_state(self.intent_store) is not state:
            raise ValidationError("an engine with a log needs the two event-sourced stores of one state")
        writer = EventWriter(log, state, clock=self._clock, ids=self._ids, metrics=self._metrics)
        self._state = state
        self.budget = VenueBudget(venue, clock=self._clock, settings=self._settings, metrics=self._metrics)
        self.budget.on_room = self._on_room
        self._room = Room(self.budget, venue, ids=self._ids, settings=self._settings)
        self._sender = GroupAttemptSender(
            state,
            writer,
            venue,
            lease=lease,
            clock=self._clock,
            ids=self._ids,
            settings=self._settings,
            metrics=self._metrics,
            budget=self.budget,
        )
        self._looker = VenueLooker(
            state,
            writer,
            venue,
            clock=self._clock,
            settings=self._settings,
            metrics=self._metrics,
            budget=self.budget,
        )

    def _new_queue(self) -> WorkQueue:
        return WorkQueue(self._clock, keys_max=self._settings.queue_keys_max, metrics=self._metrics)

    # ---------------------------------------------------------------------------------------------------- life
    def lead(self, epoch: int) -> None:
        """Act as the leader of an epoch from now on."""
        if self._sender is not None and self._looker is not None:
            self._sender.epoch = epoch
            self._looker.epoch = epoch

    async def start(self) -> None:
        """Start the loop. Idempotent. Without a venue there is nothing to loop over."""
        if self.running:
            return
        self.running = True
        if self._sender is None:
            return
        self._queue = self._new_queue()
        self._tasks = [
            asyncio.create_task(self._work(), name=f"reconciler-{number}") for number in range(self._settings.workers)
        ]
        self._tasks.append(asyncio.create_task(self._resync_forever(), name="reconciler-resync"))
        self.resync()

    async def stop(self) -> None:
        """Hand out no more keys, wait for the calls that are out, stop the loop. Idempotent. Cancels no order."""
        if not self.running:
            return
        self.running = False
        self._queue.close()
        try:
            async with asyncio.timeout(self._settings.stop_timeout_s):
                await self._queue.drained()
        except TimeoutError:
            logger.warning("calls were still out after %s s: they are unknown", self._settings.stop_timeout_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def feed(self, intent_ids: tuple[str, ...]) -> None:
        """Keys whose wanted and actual sides differ: the change feed."""
        if not self.running or self._state is None:
            return
        for intent_id in intent_ids:
            if self._queue.is_working(intent_id):
                # It runs once more anyhow, and finds out then: its worker may be about to send, and is not kept waiting.
                self._queue.add(intent_id, Priority.SETTLE)
                continue
            found = planning.difference(self._state.wish(intent_id), self._state.exposure(intent_id))
            if found is not None:
                self._queue.add(intent_id, PRIORITIES[found.kind])
            elif self._state.overfilled_group(intent_id) is not None:
                self._queue.add(intent_id, Priority.SETTLE)

    def resync(self) -> None:
        """Look at every live key again, and forget what was held of those that are over; costs nothing at the venue."""
        if self._state is None or self._looker is None or not self.running:
            return
        live = self._state.live_intent_ids()
        self._keep(frozenset(live), self._looker)
        for intent_id in live:
            self._queue.add(intent_id, Priority.RESYNC)

    def _keep(self, live: frozenset[str], looker: VenueLooker) -> None:
        """An intent can converge by a fact, without a run that would forget it."""
        self._doubted &= live
        self._forced &= live
        self._pacing.keep(live)
        if self._room is not None:
            self._room.keep(live)
        looker.keep(live)

    def _on_room(self) -> None:
        self._queue.release()

    def doubt(self, intent_id: str) -> None:
        """A look did not show this intent's order: ask for it by itself."""
        self._doubted.add(intent_id)
        self._queue.add(intent_id, Priority.SETTLE)

    async def _resync_forever(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.now_ns() + ns(self._settings.resync_interval_s))
            self.resync()

    # ---------------------------------------------------------------------------------------------------- the loop
    async def _work(self) -> None:
        while True:
            intent_id = await self._queue.get()
            try:
                self.requeue(intent_id, await self._run(intent_id))
            finally:
                self._queue.done(intent_id)

    async def _run(self, intent_id: str) -> Outcome:
        began_ns = self._clock.now_ns()
        outcome, result = await self._try(intent_id)
        took_ns = self._clock.now_ns() - began_ns
        self._metrics.reconciles.labels(result).inc()
        observe_ns(self._metrics.reconcile_duration, took_ns)
        if result in (RunResult.DONE, RunResult.AFTER, RunResult.FAILED):
            self._lag_ns = took_ns
        return outcome

    async def _try(self, intent_id: str) -> tuple[Outcome, RunResult]:
        try:
            outcome = await self.reconcile(intent_id)
        except FencedError as problem:
            logger.warning("%s", problem)
            self.on_fenced()
            return Done("fenced"), RunResult.FENCED
        except KernelError as problem:
            return Retry(problem), RunResult.ERROR
        except Exception as problem:
            logger.exception("reconciling %s went wrong", intent_id, extra={"intent_id": intent_id})
            return Retry(problem), RunResult.BUG
        return outcome, RUN_RESULTS[type(outcome)]

    def requeue(self, intent_id: str, outcome: Outcome) -> None:
        """The one place where the outcome of a run becomes what the queue does."""
        match outcome:
            case Done() | Failed():
                pass
            case After(instant_ns=instant_ns, line=Priority() as line):
                self._queue.hold(intent_id, line, instant_ns)
            case After(instant_ns=instant_ns):
                self._queue.add_at(intent_id, instant_ns)
            case Retry(error=error):
                self._metrics.error_count.inc()
                self._metrics.retry_count.inc()
                logger.info("%s: %s; again later", intent_id, error, extra={"intent_id": intent_id})
                self._queue.add_at(intent_id, self._pacing.slow_down(intent_id))

    # ---------------------------------------------------------------------------------------------------- one run
    async def reconcile(self, intent_id: str) -> Outcome:
        """One run for one intent: settle first, then plan, then at most one side effect at the venue."""
        intent, order = await self._read(intent_id)
        if intent is None and order is None:
            return Done("nothing is known of it")
        if self._looker is not None and await self._looker.tell_excess(intent_id):
            return After(self._clock.now_ns(), "what filled in its group had not been told")
        action = self._plan(intent_id, intent, order)
        if isinstance(action, planning.Nothing):
            self._pacing.forget(intent_id)
            return Done(action.reason)
        if isinstance(action, planning.Wait):
            return Done(action.reason) if action.until_ns is None else After(action.until_ns, action.reason)
        if self._sender is None or self._looker is None:
            return Done("there is no venue to act on")
        missing = self._blocking(intent_id, action, symbol_id_of(intent, order))
        if missing:
            return Done(f"not ready: {', '.join(missing)}")
        held_until_ns = self._pacing.begin(intent_id, type(action))
        if not isinstance(action, planning.Submit) and self._clock.now_ns() < held_until_ns:
            self._forced.discard(intent_id)
            return After(held_until_ns, "looked or canceled just now")
        assert self._room is not None
        if (no_room := self._room.missing(intent_id, action)) is not None:
            return waiting_for(no_room)
        self._forced.discard(intent_id)
        try:
            outcome = await self._act(intent_id, intent, order, action, self._sender, self._looker)
        except BudgetSpent as spent:
            return waiting_for(self._room.lacked(intent_id, spent))
        self._room.enough(intent_id)
        return outcome

    async def _read(self, intent_id: str) -> tuple[OrderIntent | None, OrderState | None]:
        """Both sides, through the stores; event-sourced ones answer without suspending, so they are of one moment."""
        intent: OrderIntent | None = None
        order: OrderState | None = None
        with suppress(NotFoundError):
            intent = await self.intent_store.get_intent(intent_id)
        if intent is not None and self._groups is not None:
            intent = self._groups.wish(intent_id)
        with suppress(NotFoundError):
            order = await self.actual_store.get_order_state(intent_id)
        if order is None and self._state is not None:
            # A store may forget an order; what works at the venue does not end by that, nor does what was filled.
            order = self._state.exposure(intent_id)
        return intent, order

    def _plan(self, intent_id: str, intent: OrderIntent | None, order: OrderState | None) -> planning.Action:
        symbol_id = symbol_id_of(intent, order)
        symbol = self._state.symbol(symbol_id) if self._state is not None else any_market(symbol_id)
        now_ns = self._clock.now_ns()
        if intent_id in self._forced and order is not None:
            now_ns = max(now_ns, order.not_before_ns)
        amend = planning.amend_dialect(self._venue.capabilities) if self._venue is not None else AmendDialect.NONE
        held = self._groups is not None and self._groups.is_held(intent_id)
        action = planning.plan(intent, order, symbol=symbol, now_ns=now_ns, amend=amend, held=held)
        if isinstance(action, planning.Nothing) and order is not None and (stale := self._stale(intent_id, order)):
            return planning.Ask(stale, "a list did not show it" if intent_id in self._doubted else AGED)
        return action

    def _stale(self, intent_id: str, order: OrderState) -> VenueOrder | None:
        """A live order that should be asked for by itself."""
        live = planning.live_orders(order)
        if not live or self._looker is None:
            return None
        doubted = intent_id in self._doubted
        age_ns = self._clock.now_ns() - int(order.last_sync_at * 1_000_000_000)
        return live[-1] if doubted or age_ns > ns(self._settings.order_age_s_max) else None

    def _blocking(self, intent_id: str, action: planning.Action, symbol_id: str) -> tuple[str, ...]:
        """The conditions that this action waits for: a question needs less than a request that changes something."""
        if isinstance(action, planning.Settle | planning.Ask):
            return tuple(name for name in self._missing() if name not in ("VENUE_SNAPSHOT_COMPLETE", "NOT_PAUSED"))
        return self._missing_for(intent_id, symbol_id, ATTEMPTS.get(type(action), AttemptKind.SUBMIT))

    def _missing_for(self, intent_id: str, symbol_id: str, kind: AttemptKind) -> tuple[str, ...]:
        """The conditions that a request about an intent waits for."""
        assert self._state is not None
        paused = self._state.record(intent_id).paused
        return self._state.gates.missing(self._missing(), symbol_id=symbol_id, kind=kind, intent_paused=paused)

    async def _act(
        self,
        intent_id: str,
        intent: OrderIntent | None,
        order: OrderState | None,
        action: planning.Action,
        sender: GroupAttemptSender,
        looker: VenueLooker,
    ) -> Outcome:
        assert self._state is not None
        version = self._state.record(intent_id).version
        generation = intent.generation if intent else 0
        reason = getattr(action, "reason", "")
        told = {"intent_id": intent_id, "position": self._state.position, "generation": generation}
        logger.info("decided: %s%s", type(action).__name__.lower(), f", {reason}" if reason else "", extra=told)
        match action:
            case planning.Settle(attempt=attempt):
                assert order is not None
                return await self._settle(intent, order, attempt, sender, looker)
            case planning.Ask(order=item):
                assert order is not None
                self._doubted.discard(intent_id)
                return self._after_look(intent_id, await looker.ask(order, item), always_back_off=True)
            case planning.Cancel(order=item):
                assert order is not None
                if len(planning.live_orders(order)) > 1 and await looker.tell_findings(intent_id):
                    return After(self._clock.now_ns(), "that several orders work had not been told")
                self._pacing.slow_down(intent_id)
                await sender.cancel(intent_id, generation, order.status.order, item, version=version)
                return Done("canceled, or somebody wrote in between")
            case planning.Amend(order=item, terms=terms):
                assert intent is not None
                self._pacing.slow_down(intent_id)
                await sender.amend(intent, terms, item, version=version)
                return Done("changed, or somebody wrote in between")
            case planning.Submit(order=rest):
                assert intent is not None
                if (outcome := await self._act_on_group(intent_id, sender)) is not None:
                    return outcome
                await sender.submit(intent, rest, version=version)
                return Done("submitted, or somebody wrote in between")
            case planning.Refuse(order=rest, violations=violations, working=working):
                assert intent is not None
                text = "; ".join(map(str, violations))
                await sender.refuse(intent, rest, f"{UNFIT}: {text}", working=working, version=version)
                return Failed(text)
        return Done()

    async def _act_on_group(self, intent_id: str, sender: GroupAttemptSender) -> Outcome | None:
        """What is done for a whole group in the place of a submit; None where the kernel works it, or there is none."""
        assert self._state is not None
        assert self._venue is not None
        group = self._state.group_of(intent_id)
        if group is None or group.native is False:
            return None
        steps = [self._group_step(name) for name in group.intent_ids]
        whole = not any(isinstance(step, planning.Nothing | planning.Refuse) for step in steps)
        if whole and not self._state.is_taken(group) and planning.works_group(self._venue.capabilities, group.mode):
            return await self._submit_group(intent_id, group, steps, sender)
        if group.native is None:
            return None
        if any(self._state.record(name).unsettled for name in group.intent_ids):
            return After(self._pacing.slow_down(intent_id), "an order of its group is not settled")
        await sender.take_over(group)
        return Done("it can't be sent with its group any more: the kernel works it")

    def _group_step(self, intent_id: str) -> planning.Action:
        """The step for an order of a group that the venue is to work: all that is wanted of it is sent, or nothing."""
        assert self._state is not None
        intent, order = self._state.intent(intent_id), self._state.exposure(intent_id)
        if intent is None or not planning.wanted(intent, order):
            return planning.Nothing("it is not wanted any more")
        held_back = self._missing_for(intent_id, intent.order.symbol_id, AttemptKind.SUBMIT)
        if held_back or self._state.record(intent_id).unsettled:
            return planning.Wait(None, "it is held back, or not settled")
        symbol = self._state.symbol(intent.order.symbol_id)
        return planning.plan_submit(intent, order, symbol=symbol, now_ns=self._clock.now_ns())

    async def _submit_group(
        self, intent_id: str, group: Group, steps: Sequence[planning.Action], sender: GroupAttemptSender
    ) -> Outcome:
        """Send the orders of a group as one, once each of them may be sent."""
        assert self._state is not None
        waits = [step for step in steps if isinstance(step, planning.Wait)]
        if any(step.until_ns is None for step in waits):
            return After(self._pacing.slow_down(intent_id), "another order of its group waits")
        if waits:
            return After(max(step.until_ns or 0 for step in waits), "another order of its group waits")
        intents = [intent for name in group.intent_ids if (intent := self._state.intent(name)) is not None]
        await sender.submit_group(group, intents)
        return Done("the group was submitted, or somebody wrote in between")

    async def _settle(
        self,
        intent: OrderIntent | None,
        order: OrderState,
        attempt: Attempt,
        sender: GroupAttemptSender,
        looker: VenueLooker,
    ) -> Outcome:
        if attempt.outcome is AttemptOutcome.PENDING and attempt.position in sender.calls:
            return Done("its own call will report")
        if attempt.kind is AttemptKind.CANCEL:
            return self._after_look(order.intent_id, await looker.settle_cancel(order, attempt))
        if attempt.kind is AttemptKind.AMEND:
            settle = looker.settle_replace if attempt.new_order else looker.settle_amend
            return self._after_look(order.intent_id, await settle(order, attempt))
        wanted = self._may_resend(intent, order)
        newest = next(
            item for item in reversed(order.attempts) if item.outcome in UNSETTLED and item.kind is attempt.kind
        )
        looked = await looker.settle_submit(order, newest, wanted=wanted)
        if looked.resend:
            return await self.resend(order.intent_id)
        return self._after_look(order.intent_id, looked)

    def _may_resend(self, intent: OrderIntent | None, order: OrderState) -> bool:
        """Whether a resend would be placed if it came to one. One that the market does not take, or that waits for the
        market to open, settles nothing: absence has to be proved then."""
        assert self._state is not None
        if intent is None or not planning.may_resend(intent, order):
            return False
        if (group := self._state.group_of(intent.intent_id)) is not None and group.native:
            return False  # an order by itself would not be the group's
        symbol = self._state.symbol(intent.order.symbol_id)
        action = planning.plan_submit(intent, order, symbol=symbol, now_ns=self._clock.now_ns())
        waits = isinstance(action, planning.Wait) and action.until_ns is not None
        return waits or isinstance(action, planning.Submit)

    async def resend(self, intent_id: str) -> Outcome:
        """The same id again, at a venue that never takes an id twice: it can only make the one order there is.

        Decided on what is folded now: the look took its time.
        """
        assert self._state is not None
        assert self._sender is not None
        intent, order = self._state.wish(intent_id), self._state.exposure(intent_id)
        held_until_ns = self._pacing.slow_down(intent_id)
        if intent is None or order is None or not planning.may_resend(intent, order):
            return After(held_until_ns, "the resend waits")
        if self._missing_for(intent_id, intent.order.symbol_id, AttemptKind.SUBMIT):
            return After(held_until_ns, "the resend waits")
        symbol = self._state.symbol(intent.order.symbol_id)
        action = planning.plan_submit(intent, order, symbol=symbol, now_ns=self._clock.now_ns())
        if not isinstance(action, planning.Submit):
            return After(held_until_ns, "the resend waits")
        version = self._state.record(intent_id).version
        await self._sender.submit(intent, action.order, version=version)
        return Done("sent again under the same id")

    def _after_look(self, intent_id: str, looked: Looked, *, always_back_off: bool = False) -> Outcome:
        if looked.settled and not always_back_off:
            self._pacing.settled(intent_id)
            return Done("settled")
        if looked.again_ns is not None and looked.again_ns > self._clock.now_ns():
            return After(looked.again_ns, "looking again then")
        return After(self._pacing.slow_down(intent_id), "nothing can be concluded yet")

    # ---------------------------------------------------------------------------------------------------- the seed's API
    async def reconcile_intent(self, intent_id: str) -> planning.Action:
        """Reconcile one intent: compute its plan and, with a venue, see to it now, past the engine's own backoff.

        Raises `NotFoundError` for an unknown id. Returns the plan that was found.
        """
        await self.intent_store.get_intent(intent_id)
        intent, order = await self._read(intent_id)
        action = self._plan(intent_id, intent, order)
        if self.running and self._sender is not None:
            self.force(intent_id)
            self._queue.add(intent_id, Priority.SETTLE)
        return action

    def force(self, intent_id: str) -> None:
        """Let the next run for an intent go past backoff and pacing."""
        self._pacing.forget(intent_id)
        self._forced.add(intent_id)

    async def reconcile_all(self) -> dict[str, planning.Action]:
        """Reconcile every intent: the plans by intent id."""
        intents = await self.intent_store.list_intents()
        return {intent.intent_id: await self.reconcile_intent(intent.intent_id) for intent in intents}

    def get_metrics(self) -> dict[str, Any]:
        """The seed's five: running, lag of the newest run in milliseconds, keys pending, errors and retries so far."""
        return {
            "running": self.running,
            "reconciliation_lag_ms": self._lag_ns // NS_PER_MS,
            "pending_reconciliations": self._queue.pending,
            "error_count": int(value_of(self._metrics.error_count)),
            "retry_count": int(value_of(self._metrics.retry_count)),
        }

    def reading(self) -> EngineReading:
        """What goes up and down in it, as it stands now."""
        return EngineReading(
            lag_ms=self._lag_ns / NS_PER_MS,
            pending=self._queue.pending,
            workers=self._settings.workers,
            ready=len(self._queue),
            ages_s=self._queue.ages_s(),
        )
