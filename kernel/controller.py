"""The kernel itself: commands in, queries out; `life` has the reader that applies the log, `leader` the leader's work.

Built by `replay.open_kernel` (or by anybody who has its parts: log, state, stores, venue, clock, lease). Used by strategies
through the seed's `ExchangeKernel`. Data goes forward: a command becomes events, the tail brings them to the state, the
state's change feed wakes the engine, the engine asks the venue, and what the venue says comes back through the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Literal

from kernel import events
from kernel.api import EventCallback, ExchangeKernel
from kernel.clock import NS_PER_S, Clock, IdFactory, SeededIds, SystemClock
from kernel.commands import operator
from kernel.commands.limit_gate import ProposedOrder
from kernel.commands.place_group import PlaceGroup, check_changeable, new_members, symbols_of
from kernel.commands.validation import check_type, new_intent, validated
from kernel.commands.waiters import (
    awaited_symbol,
    cancel_answered,
    check_wait,
    member_answered,
    modify_answered,
    placement_answered,
    refusal,
    too_late,
)
from kernel.errors import ExchangeError, NotFoundError, Violation, WaitTimeoutError
from kernel.lease import Lease
from kernel.lifecycle import CancelIntent, ModifyIntent, PlaceOrder, ResolveAttempt
from kernel.log.base import EventLog
from kernel.metrics import Metrics
from kernel.models import (
    AccountState,
    AssetMetadata,
    AttemptOutcome,
    Desired,
    Evidence,
    OrderIntent,
    OrderState,
    Position,
    UnsolicitedCancelPolicy,
)
from kernel.order_spec import OcoMode, StandardOrder, StandardOrderGroup, SymbolMetadata
from kernel.runtime.composition import compose
from kernel.settings import KernelSettings, ns
from kernel.state import KernelState
from kernel.stores import ActualStateStore, IntentStateStore
from kernel.streams.fills import fills
from kernel.streams.rehydration import ensure_loaded
from kernel.venues.base import Venue

logger = logging.getLogger(__name__)

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
        self.log = log
        self.state = state
        self.intent_store = intent_store
        self.actual_store = actual_store
        self.metrics = metrics or Metrics()
        self._clock = clock or SystemClock()
        self._ids = ids or SeededIds()
        self._settings = settings or KernelSettings()
        self._actor = actor
        parts = compose(
            log,
            state,
            intent_store,
            actual_store,
            venue=venue,
            lease=lease,
            clock=self._clock,
            ids=self._ids,
            settings=self._settings,
            metrics=self.metrics,
        )
        self.engine = parts.engine
        self._writer = parts.writer
        self._commands = parts.commands
        self._heartbeats = parts.heartbeats
        self._runtime = parts.runtime

    # ---------------------------------------------------------------------------------------------------- life
    async def start(self) -> None:
        """Recover: fold the log to its head. Then, with a venue, begin to campaign for the lead. Idempotent.

        Raises `IntegrityError` or `SchemaError` when the log can't be folded; nothing is started then.
        """
        await self._runtime.start()

    async def stop(self) -> None:
        """End in order: finish what is out, let go of the lead. Cancels no order. Idempotent."""
        await self._runtime.stop()

    async def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Return once the kernel acts. Raises `NotReadyError` naming the missing conditions when the time is over."""
        await self._runtime.wait_ready(timeout_s)

    async def health_check(self) -> dict[str, Any]:
        """Whether the kernel acts, and if not, which condition is missing, why, and since when.

        While the log can't be seen it is not known how far behind the projections are: `lag_events` is None then.
        """
        return await self._runtime.health_check()

    async def force_reconciliation(self, intent_id: str | None = None) -> None:
        """Reconcile one intent, or all, once, past backoff; never past lease, readiness, pause or what is unknown.

        Raises `NotFoundError` for an unknown intent.
        """
        self._runtime.check()
        if intent_id is None:
            await self.engine.reconcile_all()
        else:
            await self.engine.reconcile_intent(intent_id)

    def get_reconciliation_metrics(self) -> dict[str, Any]:
        return self.engine.get_metrics()

    @property
    def now_ns(self) -> int:
        """The instant by this kernel's clock, in Unix nanoseconds."""
        return self._clock.now_ns()

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
        self._runtime.check()
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

    async def place_order_group(
        self,
        group: StandardOrderGroup,
        metadata: dict[str, Any] | None = None,
        *,
        group_id: str | None = None,
        intent_ids: Sequence[str] | None = None,
        owner: str = "",
        on_unsolicited_cancel: UnsolicitedCancelPolicy = UnsolicitedCancelPolicy.STOP,
        wait: WaitFor = "ack",
        ack_timeout_s: float | None = None,
    ) -> list[str]:
        """Want orders that depend on each other, recorded whole or not at all. Returns an intent id for each, in order.

        Waits like `place_order`, for each order that its group lets work; what a leader has yet to release has nothing to
        be answered. The intents are named `intent_ids`, else `<group_id>.1`, `<group_id>.2`, …; `group_id` may be given:
        again with equal orders it returns the ids and their outcome. What two legs may come to beyond what is wanted, as
        both can fill before the first report is here, is `kernel.groups.group_max_excess(group)`.

        Raises `ValidationError` (all violated constraints and limits, of the group and of each order),
        `AlreadyExistsError`, `NotReadyError`, and `ExchangeError` with the intent id of an order that was refused; the
        others go on: cancel them if they are not wanted without it.
        """
        self._runtime.check()
        check_wait(wait)
        check_type(group, StandardOrderGroup)
        given = validated(group, StandardOrderGroup)
        now_ns = self._clock.now_ns()
        name = group_id if group_id is not None else self._ids.intent_id(now_ns)
        command = PlaceGroup(
            group_id=name,
            mode=given.mode,
            intents=new_members(
                given,
                group_id=name,
                intent_ids=intent_ids,
                exchange_id=self.exchange_id,
                owner=owner,
                on_unsolicited_cancel=on_unsolicited_cancel,
                metadata=metadata or {},
                now_ns=now_ns,
            ),
            symbols={symbol_id: await self._symbol(symbol_id) for symbol_id in symbols_of(given)},
            open_orders={symbol_id: self.state.open_orders(symbol_id) for symbol_id in symbols_of(given)},
        )
        await self._commands.place_group(command, actor=self._actor_of(owner))
        members = [intent.intent_id for intent in command.intents]
        if wait == "ack":
            await self._wait_all_placed(members, self._ack_timeout_s(ack_timeout_s))
        return members

    async def _wait_all_placed(self, intent_ids: Sequence[str], timeout_s: float) -> None:
        """Until each was answered, or has nothing to be answered."""
        deadline_ns = self._clock.now_ns() + ns(timeout_s)
        for intent_id in intent_ids:
            await self._runtime.waiters.until(
                partial(self._member_answered, intent_id),
                intent_id=intent_id,
                timeout_s=max(0.0, (deadline_ns - self._clock.now_ns()) / NS_PER_S),
            )
        for intent_id in intent_ids:
            if (error := refusal(self.state.record(intent_id))) is not None:
                raise error

    def _member_answered(self, intent_id: str) -> bool:
        return member_answered(self.state.record(intent_id), self.state.effective_intent(intent_id))

    async def _wait_placed(self, intent_id: str, timeout_s: float) -> None:
        await self._runtime.waiters.until(
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
        `ExchangeError`: too late (FILLED, EXPIRED or canceled), of a group that the venue works, or refused; an order that
        works then keeps its old terms.
        What was refused may be mended: other terms are another generation.
        """
        self._runtime.check()
        check_wait(wait)
        check_type(new_order, StandardOrder)
        order = validated(new_order, StandardOrder)
        known = await self.intent_store.get_intent(intent_id)
        check_changeable(self.state.group_of(intent_id), intent_id)
        symbol = await self._symbol(known.order.symbol_id)
        command = ModifyIntent(intent_id, order, symbol, self._clock.now_ns(), expected_generation)
        await self._commands.handle(intent_id, command, actor=self._actor_of(known.owner))
        if wait != "ack":
            return
        await self._runtime.waiters.until(
            lambda: modify_answered(self.state.record(intent_id), self.state.effective_intent(intent_id)),
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
        self._runtime.check()
        check_wait(wait)
        now_ns = self._clock.now_ns()
        changed = await self._commands.handle(intent_id, CancelIntent(intent_id, now_ns), actor=self._actor_of(""))
        if wait != "ack":
            return
        answered = await self._runtime.waiters.until(
            lambda: cancel_answered(self.state.record(intent_id)),
            intent_id=intent_id,
            timeout_s=self._ack_timeout_s(ack_timeout_s),
        )
        if changed and answered and (error := too_late(self.state.record(intent_id))) is not None:
            raise error

    async def cancel_all_orders(self, symbol_id: str | None = None) -> int:
        """Not want any live order (of a symbol) any more. Returns on the commit, with the number that this changed.

        Raises what recording the first of them failed with, once each was tried: then some may still be wanted.
        """
        self._runtime.check()
        return await self._cancel_all(symbol_id, self._actor)

    async def _cancel_all(self, symbol_id: str | None, actor: str) -> int:
        await self._writer.caught_up()  # what another kernel has just been told to place is meant as well
        live = [
            intent_id
            for intent_id in self.state.live_intent_ids()
            if (intent := self.state.intent(intent_id)) is not None
            and intent.desired is Desired.WORKING
            and symbol_id in (None, intent.order.symbol_id)
        ]
        canceling = (self._cancel_live(intent_id, actor) for intent_id in live)
        changed = await asyncio.gather(*canceling, return_exceptions=True)  # each is tried, whatever becomes of another
        for problem in changed:
            if isinstance(problem, BaseException):
                raise problem
        return changed.count(True)

    async def _cancel_live(self, intent_id: str, actor: str) -> bool:
        now_ns = self._clock.now_ns()
        try:
            return await self._commands.handle(intent_id, CancelIntent(intent_id, now_ns), actor=actor)
        except (ExchangeError, NotFoundError) as problem:
            logger.info("%s needs no cancel: %s", intent_id, problem)
            return False

    async def pause(self, intent_id: str | None = None, *, reason: str = "", actor: str | None = None) -> bool:
        """Send nothing (for an intent) until `resume`, not even cancels; whether that changed anything.

        See `operator_commands`. Commands are recorded, the venue is asked and heard. Raises `NotFoundError` for an unknown
        intent.
        """
        self._runtime.check()
        command: Any = {"reason": reason, "actor": actor or self._actor}
        if intent_id is None:
            return await operator.pause_all(self._writer, self.state, **command)
        return await operator.pause_one(self._commands, intent_id, paused=True, **command)

    async def halt(self, symbol_id: str | None = None, *, reason: str = "", actor: str | None = None) -> int:
        """Let nothing but cancels out until `resume`, and cancel all (of a symbol); see `operator_commands`.

        First the halt is recorded, then each live intent is turned to CANCELED; returns on the commits, with the number of
        those. What is wanted afterwards is recorded, and sent on resume. Raises `NotFoundError` for an unknown symbol, and
        as `cancel_all_orders` does.
        """
        self._runtime.check()
        if symbol_id is not None:
            await self.get_symbol_metadata(symbol_id)
        actor = actor or self._actor
        await operator.halt(self._writer, self.state, symbol_id=symbol_id, reason=reason, actor=actor)
        return await self._cancel_all(symbol_id, actor)

    async def resume(
        self, intent_id: str | None = None, *, symbol_id: str | None = None, actor: str | None = None
    ) -> bool:
        """Go on (with an intent, or with a symbol that was halted); whether that changed anything.

        Raises `NotFoundError` for an unknown intent.
        """
        self._runtime.check()
        actor = actor or self._actor
        if intent_id is None:
            return await operator.resume_all(self._writer, self.state, symbol_id=symbol_id, actor=actor)
        return await operator.pause_one(self._commands, intent_id, paused=False, reason="", actor=actor)

    async def resolve_attempt(
        self,
        intent_id: str,
        outcome: AttemptOutcome,
        *,
        evidence: str,
        attempt_position: int | None = None,
        actor: str | None = None,
    ) -> None:
        """Settle an attempt that nothing can prove: DEAD (it never arrived) or REJECTED (refused, its generation is over).

        The operator vouches for it. What is DEAD and still wanted is sent again at once, under the same id. If that was
        wrong, the order that turns up is live at once and told as a finding, and at most one is kept; what the others
        filled until then has happened.

        Raises `NotFoundError`, `ValidationError` (no evidence, another outcome), `ConflictError`: nothing is unknown, or
        evidence is still to come (its call has not reported, or it may still arrive and a look will tell).
        """
        self._runtime.check()
        now_ns = self._clock.now_ns()
        command = ResolveAttempt(intent_id, outcome, evidence, now_ns, attempt_position)
        actor = actor or self._actor
        await self._commands.handle(intent_id, command, actor=actor, evidence=Evidence.OPERATOR)

    async def resolve_finding(self, finding_id: str, *, evidence: str, actor: str | None = None) -> None:
        """Say that a finding was dealt with, and how. A condition that still holds is raised again with its next news.

        A balance's drift is from then on explained by a transfer of as much; a storm's symbol is traded again; what filled
        beyond what a group allows is not told again.
        Raises `NotFoundError`, `ValidationError` (no evidence), `ConflictError` (it does not stand).
        """
        self._runtime.check()
        actor = actor or self._actor
        await operator.resolve_finding(self._commands, self._writer, self.state, finding_id, text=evidence, actor=actor)

    async def heartbeat(self, owner: str, ttl_s: float) -> bool:
        """Say that a strategy is alive. Once nothing was heard of it for `ttl_s`, whoever leads cancels all that it wants.

        The first call arms that, for the intents with this `owner`; call it at least every half `ttl_s`. Whether it was
        recorded: beats in between are free. While it is silent, what it wants is canceled too; its next heartbeat ends
        that. See `heartbeats`. Raises `ValidationError`.
        """
        self._runtime.check()
        return await self._heartbeats.record_heartbeat(owner, ttl_s, actor=self._actor_of(owner))

    async def disarm_heartbeat(self, owner: str, *, reason: str = "") -> bool:
        """Silence of a strategy means nothing from now on; whether that changed anything. Cancels no order.

        Raises `ValidationError`.
        """
        self._runtime.check()
        return await self._heartbeats.disarm(owner, reason=reason, actor=self._actor)

    def limits_exceeded(
        self, orders: Sequence[ProposedOrder], groups: Sequence[tuple[OcoMode, Sequence[ProposedOrder]]] = ()
    ) -> list[tuple[str, Violation]]:
        """Which intents would be refused if these orders were wanted, one after the other, then these groups whole, and by
        which limit."""
        self._runtime.check()
        return self._commands.gate.exceeded(orders, groups)

    def _actor_of(self, owner: str) -> str:
        return f"strategy:{owner}" if owner else self._actor

    def _ack_timeout_s(self, given_s: float | None) -> float:
        return self._settings.ack_timeout_s if given_s is None else given_s

    async def _symbol(self, symbol_id: str) -> SymbolMetadata:
        """The market of an order; before the first reference data came, it is waited for like an answer."""
        timeout_s = self._settings.ack_timeout_s if self._runtime.leader is not None else 0
        missing = self._runtime.readiness.missing()
        return await awaited_symbol(symbol_id, self.state, self._runtime.waiters, timeout_s=timeout_s, missing=missing)

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

    async def wait_until(self, intent_id: str, holds: Any, *, timeout_s: float) -> None:
        """Return once `holds(record)` is true of an intent's record. Raises `WaitTimeoutError`."""
        self._runtime.check()
        await ensure_loaded(self.log, self.state, intent_id)
        in_time = await self._runtime.waiters.until(
            lambda: bool(holds(self.state.record(intent_id))), intent_id=intent_id, timeout_s=timeout_s
        )
        if not in_time:
            raise WaitTimeoutError(f"intent {intent_id}: not so after {timeout_s:g} s")

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
        self._runtime.check()
        return self._runtime.subscriptions.subscribe(callback, event_filter, after=self._after(after))

    def unsubscribe_events(self, subscription_id: str) -> None:
        self._runtime.subscriptions.unsubscribe(subscription_id)

    def events(
        self, event_filter: dict[str, Any] | None = None, *, after: int | None = None
    ) -> AsyncIterator[events.BaseEvent]:
        """The same as an async iterator."""
        self._runtime.check()
        return self._runtime.subscriptions.events(event_filter, after=self._after(after))

    def _after(self, after: int | None) -> int:
        return self.state.position if after is None else after
