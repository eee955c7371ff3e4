"""The event-sourced kernel: commands in, queries out. Built by `replay.open_kernel`, called by strategies.

Data flows one way: a command becomes events, the log's tail applies them to the state, the state's change feed wakes the
engine, the engine calls the venue, and the venue's reports come back through the log.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Literal

from kernel import events
from kernel.api import EventCallback, ExchangeKernel
from kernel.clock import NS_PER_S, Clock, IdFactory, SeededIds, SystemClock
from kernel.commands import operator, waiters
from kernel.commands.limit_gate import ProposedOrder
from kernel.commands.place_group import PlaceGroup, check_changeable, new_members, symbols_of
from kernel.commands.validation import new_intent, symbol_named
from kernel.errors import ExchangeError, NotFoundError, Violation, WaitTimeoutError
from kernel.lease import Lease
from kernel.lifecycle.decide import CancelIntent, ModifyIntent, PlaceOrder
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
from kernel.values.edge import check_type, validated
from kernel.venues.base import Venue

logger = logging.getLogger(__name__)

WaitFor = Literal["ack", "recorded"]


class EventSourcedKernel(ExchangeKernel):
    """An exchange kernel on an event log.

    Attributes:
        log: The event log, the only source of truth.
        state: The state folded from the log.
        intent_store: The intents, as the engine reads them.
        actual_store: The observed orders, as the engine reads them.
        engine: The reconciliation engine.
        metrics: The metrics of this kernel.
    """

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
        """Compose a kernel over an open log, the state that it folds the log into, and the stores over that state.

        `replay.open_kernel` does so with defaults for every part, and describes the other arguments.
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

    async def start(self) -> None:
        """Fold the log to its head, then, with a venue, begin to campaign for leadership. Idempotent.

        Raises:
            IntegrityError: The log cannot be folded; nothing was started.
        """
        await self._runtime.start()

    async def stop(self) -> None:
        """Finish open calls, then release leadership; cancels no order. Idempotent."""
        await self._runtime.stop()

    async def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Return once the kernel acts on the venue.

        Raises:
            NotReadyError: It does not after `timeout_s`; `missing` names the conditions.
        """
        await self._runtime.wait_ready(timeout_s)

    async def health_check(self) -> dict[str, Any]:
        """Return whether the kernel acts, and otherwise which conditions are missing, why and since when.

        Returns:
            `exchange_id`, `ready`, `leader`, `conditions`, `position`, `lag_events` (None while the log cannot be read),
            `venue` and `error_count`.
        """
        return await self._runtime.health_check()

    async def force_reconciliation(self, intent_id: str | None = None) -> None:
        self._runtime.check()
        if intent_id is None:
            await self.engine.reconcile_all()
        else:
            await self.engine.reconcile_intent(intent_id)

    def get_reconciliation_metrics(self) -> dict[str, Any]:
        return self.engine.get_metrics()

    @property
    def now_ns(self) -> int:
        """The instant of this kernel's clock, in Unix nanoseconds."""
        return self._clock.now_ns()

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
        """Place an order.

        With `wait="ack"` it returns once the venue has answered, or after `ack_timeout_s`; the reconciler goes on in any
        case. With `wait="recorded"` it returns once the intent is durable.

        Args:
            order: The terms, at the symbol's scales.
            metadata: JSON data of the strategy; the kernel never reads it.
            intent_id: Id to use; repeating a call with the same id and order places nothing new.
            owner: The strategy that owns the order.
            on_unsolicited_cancel: What to do when the venue cancels the order by itself.
            wait: "ack" or "recorded".
            ack_timeout_s: Longest wait for the venue in seconds; `KernelSettings.ack_timeout_s` by default.

        Returns:
            The intent id.

        Raises:
            ValidationError: The order violates constraints of its symbol or pre-trade limits; lists all of them.
            AlreadyExistsError: The id belongs to another order.
            NotReadyError: No symbol is known yet.
            ExchangeError: The venue rejected the order for good.
        """
        self._runtime.check()
        waiters.check_wait(wait)
        check_type(order, StandardOrder)
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
        symbol = await self._symbol(intent.order.symbol_id)
        open_orders = self.state.open_orders(symbol.symbol_id)
        await self._commands.handle(
            intent.intent_id, PlaceOrder(intent, symbol, open_orders), actor=self._actor_of(owner)
        )
        if wait == "ack":
            await self._wait_answered(
                intent.intent_id,
                lambda: waiters.placement_answered(self.state.record(intent.intent_id)),
                ack_timeout_s,
                refusal=waiters.placement_refusal,
            )
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
        """Place contingent orders, whole or not at all.

        Two legs can both fill before the first report arrives; `kernel.groups.group_max_excess(group)` is the most that
        they can fill beyond the group. The other arguments are those of `place_order`, for each order.

        Args:
            group: The orders and how they depend on each other.
            group_id: Id to use; repeating a call with the same id and orders places nothing new.
            intent_ids: Ids of the intents; `<group_id>.1`, `<group_id>.2`, … by default.

        Returns:
            The intent ids, in the order of the group.

        Raises:
            ValidationError: The group, an order or a pre-trade limit is violated; lists all violations.
            AlreadyExistsError: An id belongs to another order or group.
            NotReadyError: No symbol is known yet.
            ExchangeError: The venue rejected the order that `intent_id` names; the others stay placed.
        """
        self._runtime.check()
        waiters.check_wait(wait)
        group = validated(group, StandardOrderGroup)
        now_ns = self._clock.now_ns()
        name = group_id if group_id is not None else self._ids.intent_id(now_ns)
        command = PlaceGroup(
            group_id=name,
            mode=group.mode,
            intents=new_members(
                group,
                group_id=name,
                intent_ids=intent_ids,
                exchange_id=self.exchange_id,
                owner=owner,
                on_unsolicited_cancel=on_unsolicited_cancel,
                metadata=metadata or {},
                now_ns=now_ns,
            ),
            symbols={symbol_id: await self._symbol(symbol_id) for symbol_id in symbols_of(group)},
            open_orders={symbol_id: self.state.open_orders(symbol_id) for symbol_id in symbols_of(group)},
        )
        await self._commands.place_group(command, actor=self._actor_of(owner))
        members = [intent.intent_id for intent in command.intents]
        if wait == "ack":
            await self._wait_all_placed(members, self._ack_timeout_s(ack_timeout_s))
        return members

    async def _wait_all_placed(self, intent_ids: Sequence[str], timeout_s: float) -> None:
        deadline_ns = self._clock.now_ns() + ns(timeout_s)
        for intent_id in intent_ids:
            await self._runtime.waiters.until(
                partial(self._member_answered, intent_id),
                intent_id=intent_id,
                timeout_s=max(0.0, (deadline_ns - self._clock.now_ns()) / NS_PER_S),
            )
        for intent_id in intent_ids:
            if (error := waiters.placement_refusal(self.state, intent_id)) is not None:
                raise error

    def _member_answered(self, intent_id: str) -> bool:
        return waiters.member_answered(self.state.record(intent_id), self.state.effective_intent(intent_id))

    async def _wait_answered(
        self,
        intent_id: str,
        answered: Callable[[], bool],
        ack_timeout_s: float | None,
        *,
        refusal: Callable[[KernelState, str], ExchangeError | None] = waiters.refusal,
    ) -> None:
        timeout_s = self._ack_timeout_s(ack_timeout_s)
        await self._runtime.waiters.until(answered, intent_id=intent_id, timeout_s=timeout_s)
        if (error := refusal(self.state, intent_id)) is not None:
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
        """Change the terms of an order.

        The kernel amends, replaces, or cancels and places again, as the venue allows. A total at or below the filled
        quantity cancels the rest; equal terms change nothing. A rejected change leaves the working order as it is. It waits
        like `place_order`.

        Args:
            intent_id: The intent of the order.
            new_order: All terms; symbol and side stay, `quantity` is the new total, filled part included.
            expected_generation: Change only this generation of the intent.

        Raises:
            NotFoundError: There is no such intent.
            ValidationError: The new terms violate constraints or limits, or change the symbol or the side.
            ConflictError: The intent is of another generation.
            ExchangeError: The order has ended, the venue manages its group, or the venue rejected the change.
        """
        self._runtime.check()
        waiters.check_wait(wait)
        order = validated(new_order, StandardOrder)
        known = await self.intent_store.get_intent(intent_id)
        check_changeable(self.state.group_of(intent_id), intent_id)
        symbol = await self._symbol(known.order.symbol_id)
        command = ModifyIntent(intent_id, order, symbol, self._clock.now_ns(), expected_generation)
        await self._commands.handle(intent_id, command, actor=self._actor_of(known.owner))
        if wait == "ack":
            await self._wait_answered(
                intent_id,
                lambda: waiters.modify_answered(self.state.record(intent_id), self.state.effective_intent(intent_id)),
                ack_timeout_s,
            )

    async def cancel_order(self, intent_id: str, *, wait: WaitFor = "ack", ack_timeout_s: float | None = None) -> None:
        """Cancel an order, waiting like `place_order`; canceling it again changes nothing.

        Raises:
            NotFoundError: There is no such intent.
            ExchangeError: The order was FILLED, EXPIRED or REJECTED before it could be canceled.
        """
        self._runtime.check()
        waiters.check_wait(wait)
        command = CancelIntent(intent_id, self._clock.now_ns(), is_exit=self.state.is_exit(intent_id))
        changed = await self._commands.handle(intent_id, command, actor=self._actor_of(""))
        if wait != "ack":
            return
        answered = await self._runtime.waiters.until(
            lambda: waiters.cancel_answered(self.state.record(intent_id)),
            intent_id=intent_id,
            timeout_s=self._ack_timeout_s(ack_timeout_s),
        )
        error = waiters.too_late(self.state.record(intent_id))
        if changed and answered and error is not None and not command.is_exit:
            raise error

    async def cancel_all_orders(self, symbol_id: str | None = None) -> int:
        """Cancel all live orders, or those of one symbol; returns once the cancels are durable.

        Returns:
            The number of intents that this canceled.

        Raises:
            KernelError: A cancel could not be recorded; every other one was tried.
        """
        self._runtime.check()
        return await self._cancel_all(symbol_id, self._actor)

    async def _cancel_all(self, symbol_id: str | None, actor: str) -> int:
        await self._writer.caught_up()  # includes orders that other kernels have just placed
        live = [
            intent_id
            for intent_id in self.state.live_intent_ids()
            if (intent := self.state.intent(intent_id)) is not None
            and intent.desired is Desired.WORKING
            and symbol_id in (None, intent.order.symbol_id)
        ]
        return len((await self._commands.cancel_all(live, actor=actor)).recorded)

    async def cancel_orders(self, intent_ids: Sequence[str]) -> dict[str, ExchangeError | NotFoundError]:
        """Cancel many orders; returns once the cancels are durable, with the error of each order that needs none.

        Raises:
            KernelError: A cancel could not be recorded; every other one was tried.
        """
        self._runtime.check()
        return (await self._commands.cancel_all(intent_ids, actor=self._actor)).refused

    async def pause(self, intent_id: str | None = None, *, reason: str = "", actor: str | None = None) -> bool:
        """Stop sending requests, cancels included, until `resume`. Commands are still recorded, reports still read.

        Args:
            intent_id: Pause one intent; all by default.
            reason: Text for the log.
            actor: Who pauses; the kernel's actor by default.

        Returns:
            Whether that changed anything.

        Raises:
            NotFoundError: There is no such intent.
        """
        self._runtime.check()
        command: Any = {"reason": reason, "actor": actor or self._actor}
        if intent_id is None:
            return await operator.pause_all(self._writer, self.state, **command)
        return await operator.pause_one(self._commands, intent_id, paused=True, **command)

    async def halt(self, symbol_id: str | None = None, *, reason: str = "", actor: str | None = None) -> int:
        """Cancel all live orders and send nothing but cancels until `resume`.

        Orders placed meanwhile are recorded, and sent on resume. Returns once halt and cancels are durable.

        Args:
            symbol_id: Halt one symbol; all by default.
            reason: Text for the log.
            actor: Who halts; the kernel's actor by default.

        Returns:
            The number of intents that this canceled.

        Raises:
            NotFoundError: There is no such symbol.
            KernelError: A cancel could not be recorded; every other one was tried.
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
        """End a pause or a halt.

        Args:
            intent_id: Resume a paused intent.
            symbol_id: Resume a halted symbol. Without either, end the pause and halt of all.
            actor: Who resumes; the kernel's actor by default.

        Returns:
            Whether that changed anything.

        Raises:
            NotFoundError: There is no such intent.
        """
        self._runtime.check()
        actor = actor or self._actor
        if intent_id is None:
            return await operator.resume_all(self._writer, self.state, symbol_id=symbol_id, actor=actor)
        return await operator.pause_one(self._commands, intent_id, paused=False, reason="", actor=actor)

    async def resolve_attempt(
        self,
        intent_id: str,
        outcome: AttemptOutcome | None = None,
        *,
        evidence: str,
        order: str | None = None,
        attempt_position: int | None = None,
        actor: str | None = None,
    ) -> None:
        """Resolve an attempt whose outcome no evidence can show, on the operator's word.

        A DEAD submit whose intent still works is sent again at once, under the same client order id. If its order turns up
        after all, it is live, raises a finding, and the surplus order is canceled. With `order` the attempt is accepted:
        that external order and its trades become the intent's. Without an unresolved attempt it is about an ended stop:
        `order` is the order that its trigger made, DEAD says that there is none.

        Args:
            intent_id: The intent of the attempt.
            outcome: DEAD (it never arrived) or REJECTED (the venue refused it, which ends the generation).
            evidence: How the operator knows; not empty.
            order: Instead of an outcome: the venue's id of the external order that is the attempt's order.
            attempt_position: Log position of the attempt; needed where several are unresolved.
            actor: Who resolves; the kernel's actor by default.

        Raises:
            NotFoundError: There is no such intent or external order.
            ValidationError: `evidence` is empty, or the outcome or order is not possible for this attempt.
            ConflictError: Nothing is unresolved, or evidence can still come.
        """
        self._runtime.check()
        now_ns = self._clock.now_ns()
        command = await operator.resolution(
            self._writer, self.state, intent_id, outcome, order, text=evidence, now_ns=now_ns, position=attempt_position
        )
        actor = actor or self._actor
        await self._commands.handle(intent_id, command, actor=actor, evidence=Evidence.OPERATOR)

    async def resolve_finding(
        self, finding_id: str, *, evidence: str, accept: bool = False, actor: str | None = None
    ) -> None:
        """Resolve a finding; if its condition still holds, the next event about it raises it again.

        A balance drift is booked as a transfer, a rejection storm's symbol trades again, a group's overfill is accepted.
        For VENUE_DISAGREES the requested terms are sent once more at once, or with `accept` those that work are kept.

        Args:
            finding_id: The finding.
            evidence: What was done about it; not empty.
            accept: Let the terms that the venue works count as those of the intent.
            actor: Who resolves; the kernel's actor by default.

        Raises:
            NotFoundError: There is no such finding.
            ValidationError: `evidence` is empty, or `accept` is given for another kind of finding.
            ConflictError: The finding is resolved already, or no order works other terms.
        """
        self._runtime.check()
        actor, target = actor or self._actor, (self._commands, self._writer, self.state, finding_id)
        await operator.resolve_finding(*target, text=evidence, actor=actor, accept=accept)

    async def heartbeat(self, owner: str, ttl_s: float) -> bool:
        """Send a heartbeat; if the next one is missing for `ttl_s`, the leader cancels all orders of the owner.

        The first call arms the dead-man switch for intents with this `owner`. Orders that a lapsed owner places are
        canceled too, until its next heartbeat.

        Args:
            owner: The strategy.
            ttl_s: Seconds that the heartbeat is good for, 1 to 86400. Call at least twice in that time.

        Returns:
            Whether the heartbeat was recorded; those in quick succession are not.

        Raises:
            ValidationError: The owner or the time is out of range.
        """
        self._runtime.check()
        return await self._heartbeats.record_heartbeat(owner, ttl_s, actor=self._actor_of(owner))

    async def disarm_heartbeat(self, owner: str, *, reason: str = "") -> bool:
        """Disarm an owner's dead-man switch; cancels no order.

        Returns:
            Whether that changed anything.

        Raises:
            ValidationError: The owner is out of range.
        """
        self._runtime.check()
        return await self._heartbeats.disarm(owner, reason=reason, actor=self._actor)

    def limits_exceeded(
        self, orders: Sequence[ProposedOrder], groups: Sequence[tuple[OcoMode, Sequence[ProposedOrder]]] = ()
    ) -> list[tuple[str, Violation]]:
        """Return the pre-trade limits that these orders and groups would exceed, taken together.

        Args:
            orders: Intent id, terms and symbol of each order.
            groups: Mode and orders of each group to be placed.

        Returns:
            Intent id and violation, one for each limit exceeded.
        """
        self._runtime.check()
        return self._commands.gate.exceeded(orders, groups)

    def _actor_of(self, owner: str) -> str:
        return f"strategy:{owner}" if owner else self._actor

    def _ack_timeout_s(self, given_s: float | None) -> float:
        return self._settings.ack_timeout_s if given_s is None else given_s

    async def _symbol(self, symbol_id: str) -> SymbolMetadata:
        """Return a symbol, waiting for the first reference data."""
        if (known := self.state.symbol(symbol_id)) is not None:
            return known
        timeout_s = self._settings.ack_timeout_s if self._runtime.leader is not None else 0
        missing = self._runtime.readiness.missing()
        await self._runtime.waiters.until(lambda: any(self.state.symbols()), intent_id=None, timeout_s=timeout_s)
        return symbol_named(self.state, symbol_id, missing=missing)

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
        """Return fills in the order of the log, each fill key once.

        Args:
            intent_id: Only those of an intent.
            symbol_id: Only those of a symbol.
            after: Only those after a log position.

        Returns:
            The `OrderFilled` events; price and quantity at the symbol's scales.

        Raises:
            NotFoundError: There is no such intent.
        """
        if intent_id is not None and self.state.record(intent_id).version == 0:
            raise NotFoundError(f"intent {intent_id} not found")
        return await fills(self.log, intent_id=intent_id, symbol_id=symbol_id, after=after)

    async def wait_until(self, intent_id: str, holds: Any, *, timeout_s: float) -> None:
        """Return once `holds(record)` is true of an intent's record.

        Args:
            intent_id: The intent.
            holds: Function of the intent's `Record`, called again after each of its events.
            timeout_s: Longest wait in seconds.

        Raises:
            WaitTimeoutError: The condition does not hold after `timeout_s`.
        """
        self._runtime.check()
        await ensure_loaded(self.log, self.state, intent_id)
        in_time = await self._runtime.waiters.until(
            lambda: bool(holds(self.state.record(intent_id))), intent_id=intent_id, timeout_s=timeout_s
        )
        if not in_time:
            raise WaitTimeoutError(f"intent {intent_id}: the condition does not hold after {timeout_s:g} s")

    def subscribe_events(
        self, callback: EventCallback, event_filter: dict[str, Any] | None = None, *, after: int | None = None
    ) -> str:
        """Call back for each event that matches a filter, in order.

        Args:
            callback: A function (called on a thread of the subscription) or an `async def`. If it raises, the error is
                logged and the next event follows.
            event_filter: Value or list of values by `event_type`, `symbol_id`, `intent_id`, `group_id` or `actor`.
            after: Log position after which to begin: 0 for all events, None for those from now on.

        Returns:
            The id of the subscription.

        Raises:
            ValidationError: The filter has an unknown key or event type.
        """
        self._runtime.check()
        return self._runtime.subscriptions.subscribe(callback, event_filter, after=self._after(after))

    def unsubscribe_events(self, subscription_id: str) -> None:
        self._runtime.subscriptions.unsubscribe(subscription_id)

    def events(
        self, event_filter: dict[str, Any] | None = None, *, after: int | None = None
    ) -> AsyncIterator[events.BaseEvent]:
        """Iterate over events that match a filter, as `subscribe_events`."""
        self._runtime.check()
        return self._runtime.subscriptions.events(event_filter, after=self._after(after))

    def _after(self, after: int | None) -> int:
        return self.state.position if after is None else after
