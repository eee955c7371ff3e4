"""The kernel itself: commands in, queries out, one reader that applies the log, and, with a venue, the leader's work.

Built by `replay.open_kernel` (or by anybody who has its parts: log, state, stores, venue, clock, lease). Used by strategies
through the seed's `ExchangeKernel`. Data goes forward: a command becomes events, the tail brings them to the state, the
state's change feed wakes the engine, the engine asks the venue, and what the venue says comes back through the log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

from kernel import events, pausing, readiness
from kernel.api import EventCallback, ExchangeKernel
from kernel.clock import NS_PER_S, Clock, IdFactory, SeededIds, SystemClock
from kernel.code_hash import code_hash, kernel_version
from kernel.commands import (
    CommandHandler,
    Waiters,
    awaited_symbol,
    cancel_answered,
    check_wait,
    modify_answered,
    placement_answered,
    refusal,
    too_late,
)
from kernel.errors import (
    KernelError,
    LogUnavailableError,
    NotFoundError,
    NotReadyError,
    ValidationError,
    Violation,
    WaitTimeoutError,
)
from kernel.fills import fills
from kernel.given import check_type, checked, new_intent
from kernel.leadership import Leadership
from kernel.lease import Lease
from kernel.lifecycle import CancelIntent, ModifyIntent, PlaceOrder, finding_id
from kernel.log.base import EventLog
from kernel.metrics import Metrics
from kernel.models import (
    AccountState,
    AssetMetadata,
    Desired,
    Evidence,
    Finding,
    FindingKind,
    OrderIntent,
    OrderState,
    Position,
    UnsolicitedCancelPolicy,
)
from kernel.order_spec import StandardOrder, SymbolMetadata
from kernel.reconciler import ReconciliationEngine
from kernel.session import VenueSession
from kernel.settings import KernelSettings
from kernel.state import KernelState
from kernel.stores import ActualStateStore, IntentStateStore
from kernel.subscriptions import Subscriptions
from kernel.venues.base import Venue
from kernel.writer import EventWriter, logged

logger = logging.getLogger(__name__)

CLOCK_BEHIND_NS_MAX = NS_PER_S
"""How far a writer's clock may be behind the log's head before it is a finding."""

WaitFor = Literal["ack", "recorded"]


class EventSourcedKernel(ExchangeKernel):
    """An exchange kernel whose only truth is its log."""

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
        self._waiters = Waiters()
        self.metrics = metrics or Metrics()
        limits = self._settings.limits
        self._writer = EventWriter(log, state, clock=self._clock, ids=self._ids, metrics=self.metrics)
        self._commands = CommandHandler(
            log, state, clock=self._clock, ids=self._ids, limits=limits, metrics=self.metrics
        )
        self._subscriptions = Subscriptions(log)
        self._tasks: list[asyncio.Task[None]] = []
        self._reader: asyncio.Task[None] | None = None
        self._problem: BaseException | None = None
        self._started = False
        self._clock_told = False
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
        self._readiness.on_ready = self.engine.resync
        self._leadership: Leadership | None = None
        self._session: VenueSession | None = None
        if venue is not None and lease is not None:
            self._leadership = Leadership(
                log, state, self._writer, lease, self._readiness, clock=self._clock, settings=self._settings
            )
            self.engine.on_fenced = self._leadership.lose
            self._session = VenueSession(
                state,
                self._writer,
                venue,
                self.engine,
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
                applied = self.state.apply(batch)
                self._note_control()
                self._watch_clock(batch[-1].recorded_at_ns)
                self.engine.feed(applied.differing)
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
        paused = self.state.paused
        self._readiness.set(readiness.NOT_PAUSED, not paused, "Paused" if paused else "Running", self.state.paused_by)

    def _watch_clock(self, recorded_at_ns: int) -> None:
        """A clock far behind the log's head is a finding: what this process stamps would be refused, or valid too long."""
        behind_ns = recorded_at_ns - self._clock.now_ns()
        if behind_ns <= CLOCK_BEHIND_NS_MAX or self._clock_told:
            return
        self._clock_told = True
        finding = Finding(
            finding_id=finding_id(FindingKind.CLOCK_SKEW, self._clock_name),
            kind=FindingKind.CLOCK_SKEW,
            text=f"the clock of {self._clock_name} is {behind_ns / NS_PER_S:.3f} s behind the log's head",
            raised_at_ns=max(0, self._clock.now_ns()),
        )
        raising = self._writer.append(
            events.CONTROL_STREAM,
            [events.FindingRaised(finding=finding)],
            actor="kernel",
            evidence=Evidence.INFERRED,
            is_fact=True,
        )
        self._tasks.append(asyncio.create_task(logged(raising, "the clock's finding"), name="kernel-clock-finding"))

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
        assert self._session is not None
        self.engine.lead(epoch)
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

    # ---------------------------------------------------------------------------------------------------- commands
    async def place_order(
        self,
        order: StandardOrder,
        metadata: dict[str, Any] | None = None,
        *,
        intent_id: str | None = None,
        owner: str = "",
        on_unsolicited_cancel: UnsolicitedCancelPolicy = UnsolicitedCancelPolicy.STOP,
        wait: WaitFor = "ack",
        ack_timeout_s: float | None = None,
    ) -> str:
        """Want an order. Returns its intent id once the intent is durable and (`wait="ack"`) the venue has answered.

        A definitive rejection raises `ExchangeError` with the intent id. What may be tried again raises nothing: the
        reconciler goes on, and after `ack_timeout_s` the id is returned. `wait="recorded"` returns on the commit.
        `intent_id` may be given: again with an equal order it returns the id and its outcome.

        Raises `ValidationError` (all violated constraints and limits), `AlreadyExistsError` (the id has another
        order), `NotReadyError` (the market is not known yet), `ExchangeError`.
        """
        self._check()
        check_wait(wait)
        check_type(order, StandardOrder)
        symbol = await self._symbol(order.symbol_id)
        now_ns = self._clock.now_ns()
        intent = new_intent(
            order,
            intent_id=intent_id if intent_id is not None else self._ids.intent_id(now_ns),
            exchange_id=self.exchange_id,
            owner=owner,
            on_unsolicited_cancel=on_unsolicited_cancel,
            metadata=metadata or {},
            now_ns=now_ns,
        )
        open_orders = self.state.open_orders(order.symbol_id)
        await self._commands.handle(
            intent.intent_id, PlaceOrder(intent, symbol, open_orders), actor=self._actor_of(owner)
        )
        if wait == "ack":
            await self._wait_placed(intent.intent_id, self._ack_timeout_s(ack_timeout_s))
        return intent.intent_id

    async def _wait_placed(self, intent_id: str, timeout_s: float) -> None:
        await self._waiters.until(
            lambda: placement_answered(self.state.record(intent_id)), intent_id=intent_id, timeout_s=timeout_s
        )
        if (error := refusal(self.state.record(intent_id))) is not None:
            raise error

    async def modify_order(
        self,
        intent_id: str,
        new_order: StandardOrder,
        *,
        expected_generation: int | None = None,
        wait: WaitFor = "ack",
        ack_timeout_s: float | None = None,
    ) -> None:
        """Want other terms: `new_order` has them all, its quantity the total, filled part included. Symbol and side stay.

        The venue's way of changing an order is the kernel's business: amended in place, replaced, or canceled and placed
        anew. A total at or below what has filled cancels the rest. The same terms again are no error and no event. Waits
        for the venue's answer like `place_order`. With `expected_generation`, only from that generation.

        Raises `NotFoundError`, `ValidationError` (market, symbol, side, limits), `ConflictError` (another generation),
        `ExchangeError`: too late (FILLED, EXPIRED or canceled), or refused; an order that works then keeps its old terms.
        What was refused may be mended: other terms are another generation.
        """
        self._check()
        check_wait(wait)
        check_type(new_order, StandardOrder)
        order = checked(new_order, StandardOrder)
        known = await self.intent_store.get_intent(intent_id)
        symbol = await self._symbol(known.order.symbol_id)
        command = ModifyIntent(intent_id, order, symbol, self._clock.now_ns(), expected_generation)
        await self._commands.handle(intent_id, command, actor=self._actor_of(known.owner))
        if wait != "ack":
            return
        await self._waiters.until(
            lambda: modify_answered(self.state.record(intent_id)),
            intent_id=intent_id,
            timeout_s=self._ack_timeout_s(ack_timeout_s),
        )
        if (error := refusal(self.state.record(intent_id))) is not None:
            raise error

    async def cancel_order(self, intent_id: str, *, wait: WaitFor = "ack", ack_timeout_s: float | None = None) -> None:
        """Not want an order any more. Waits for the venue's answer like `place_order`.

        Canceling what is canceled, or on its way, is no error and no event. Raises `NotFoundError` for an unknown intent,
        `ExchangeError` when it is too late: FILLED, EXPIRED or REJECTED, before or while it was asked for.
        """
        self._check()
        check_wait(wait)
        now_ns = self._clock.now_ns()
        changed = await self._commands.handle(intent_id, CancelIntent(intent_id, now_ns), actor=self._actor_of(""))
        if wait != "ack":
            return
        answered = await self._waiters.until(
            lambda: cancel_answered(self.state.record(intent_id)),
            intent_id=intent_id,
            timeout_s=self._ack_timeout_s(ack_timeout_s),
        )
        if changed and answered and (error := too_late(self.state.record(intent_id))) is not None:
            raise error

    async def cancel_all_orders(self, symbol_id: str | None = None) -> int:
        """Not want any live order (of a symbol) any more. Returns on the commit, with the number that this changed."""
        self._check()
        live = [
            intent_id
            for intent_id in self.state.live_intent_ids()
            if (intent := self.state.intent(intent_id)) is not None
            and intent.desired is Desired.WORKING
            and symbol_id in (None, intent.order.symbol_id)
        ]
        changed = await asyncio.gather(*(self._cancel_live(intent_id) for intent_id in live))
        return sum(changed)

    async def _cancel_live(self, intent_id: str) -> bool:
        now_ns = self._clock.now_ns()
        try:
            return await self._commands.handle(intent_id, CancelIntent(intent_id, now_ns), actor=self._actor_of(""))
        except KernelError as problem:
            logger.info("%s was not canceled: %s", intent_id, problem)
            return False

    async def pause(self, intent_id: str | None = None, *, reason: str = "", actor: str | None = None) -> bool:
        """Send nothing (for an intent) until `resume`, not even cancels; whether that changed anything. See `pausing`.

        Commands are recorded, the venue is asked and heard. Raises `NotFoundError` for an unknown intent.
        """
        return await self._pause(intent_id, True, reason, actor)

    async def resume(self, intent_id: str | None = None, *, actor: str | None = None) -> bool:
        """Go on (with an intent); whether that changed anything. Raises `NotFoundError` for an unknown intent."""
        return await self._pause(intent_id, False, "", actor)

    async def _pause(self, intent_id: str | None, paused: bool, reason: str, actor: str | None) -> bool:
        self._check()
        told: Any = {"paused": paused, "reason": reason, "actor": actor or self._actor}
        if intent_id is None:
            return await pausing.pause_all(self._writer, self.state, **told)
        return await pausing.pause_one(self._commands, intent_id, **told)

    def limits_exceeded(
        self, orders: Sequence[tuple[str, StandardOrder, SymbolMetadata]]
    ) -> list[tuple[str, Violation]]:
        """Which intents would be refused if these orders were wanted, one after the other, and by which limit."""
        self._check()
        return self._commands.gate.exceeded(orders)

    def _actor_of(self, owner: str) -> str:
        return f"strategy:{owner}" if owner else self._actor

    def _ack_timeout_s(self, given_s: float | None) -> float:
        return self._settings.ack_timeout_s if given_s is None else given_s

    async def _symbol(self, symbol_id: str) -> SymbolMetadata:
        """The market of an order; before the first reference data came, it is waited for like an answer."""
        timeout_s = self._settings.ack_timeout_s if self._venue is not None else 0
        missing = self._readiness.missing()
        return await awaited_symbol(symbol_id, self.state, self._waiters, timeout_s=timeout_s, missing=missing)

    # ---------------------------------------------------------------------------------------------------- queries
    async def get_order_intent(self, intent_id: str) -> OrderIntent:
        return await self.intent_store.get_intent(intent_id)

    async def get_order_state(self, intent_id: str) -> OrderState:
        return await self.actual_store.get_order_state(intent_id)

    async def get_all_intents(self, symbol_id: str | None = None) -> list[OrderIntent]:
        return await self.intent_store.list_intents(symbol_id=symbol_id)

    async def get_all_orders(self, symbol_id: str | None = None) -> list[OrderState]:
        return await self.actual_store.list_order_states(symbol_id=symbol_id)

    async def get_positions(self, symbol_id: str | None = None) -> list[Position]:
        return [item for item in self.state.positions() if symbol_id in (None, item.symbol_id)]

    async def get_account_state(self) -> AccountState:
        return self.state.account()

    async def get_symbol_metadata(self, symbol_id: str) -> SymbolMetadata:
        if (symbol := self.state.symbol(symbol_id)) is None:
            raise NotFoundError(f"symbol {symbol_id} not found on {self.exchange_id}")
        return symbol

    async def get_asset_metadata(self, asset_id: str) -> AssetMetadata:
        if (asset := self.state.asset(asset_id)) is None:
            raise NotFoundError(f"asset {asset_id} not found on {self.exchange_id}")
        return asset

    async def list_symbols(self) -> list[str]:
        return sorted(symbol.symbol_id for symbol in self.state.symbols())

    async def get_fills(
        self, intent_id: str | None = None, symbol_id: str | None = None, after: int | None = None
    ) -> list[events.OrderFilled]:
        """Trades in the order of the log (of an intent, of a symbol, after a position), each fill key once.

        Raises `NotFoundError` for an unknown intent.
        """
        if intent_id is not None and self.state.record(intent_id).version == 0:
            raise NotFoundError(f"intent {intent_id} not found")
        return await fills(self.log, intent_id=intent_id, symbol_id=symbol_id, after=after)

    # ---------------------------------------------------------------------------------------------------- events
    def subscribe_events(
        self,
        callback: EventCallback,
        event_filter: dict[str, Any] | None = None,
        *,
        after: int | None = None,
    ) -> str:
        """Call back for each event that fits, in order. `after=None` is from now on, `0` from the beginning.

        Filter keys: `event_type`, `symbol_id`, `intent_id`, `group_id`, `actor`; a value or a list. An unknown key is a
        `ValidationError`.
        """
        self._check()
        return self._subscriptions.subscribe(callback, event_filter, after=self._after(after))

    def unsubscribe_events(self, subscription_id: str) -> None:
        self._subscriptions.unsubscribe(subscription_id)

    def events(
        self, event_filter: dict[str, Any] | None = None, *, after: int | None = None
    ) -> AsyncIterator[events.BaseEvent]:
        """The same as an async iterator."""
        self._check()
        return self._subscriptions.events(event_filter, after=self._after(after))

    def _after(self, after: int | None) -> int:
        return self.state.position if after is None else after

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

    async def wait_until(self, intent_id: str, holds: Any, *, timeout_s: float) -> None:
        """Return once `holds(record)` is true of an intent's record. Raises `WaitTimeoutError`."""
        self._check()
        in_time = await self._waiters.until(
            lambda: bool(holds(self.state.record(intent_id))), intent_id=intent_id, timeout_s=timeout_s
        )
        if not in_time:
            raise WaitTimeoutError(f"intent {intent_id}: not so after {timeout_s:g} s")
