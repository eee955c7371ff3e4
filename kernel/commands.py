"""How a command becomes events, and how its answer is waited for.

Used by the controller, and by the event-sourced stores for their writes. A command is decided on what is folded, appended
under the version that it was decided on, and decided again when somebody wrote in between. An answer is what the venue's
facts say, never what a timer says.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable

from kernel import events
from kernel.clock import Clock, IdFactory
from kernel.errors import ConflictError, ExchangeError, FencedError, ValidationError, Violation
from kernel.given import symbol_named
from kernel.grouping import PlaceGroup, decide_group
from kernel.lifecycle import Command, PlaceOrder, Record, decide, order_state
from kernel.lifecycle.record import primary_order
from kernel.limit_gate import LimitGate
from kernel.limits import LimitSettings
from kernel.log.base import Append, EventLog, Write
from kernel.metrics import Metrics
from kernel.models import AttemptOutcome, Desired, Evidence, OrderIntent, OrderState, OrdStatus, ReconciliationStatus
from kernel.order_spec import SymbolMetadata
from kernel.plan import difference
from kernel.recalling import ensure
from kernel.state import KernelState
from kernel.writer import group_writes

TRIES_MAX = 100
"""How often a command is decided again because somebody wrote in between."""


class Waiters:
    """Who waits for news of an intent."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[asyncio.Event, None]] = defaultdict(dict)
        """By intent, in the order in which they began to wait: who waits first is woken first."""
        self._all: dict[asyncio.Event, None] = {}
        self._problem: BaseException | None = None

    def notify(self, intent_ids: Iterable[str]) -> None:
        """These intents have news."""
        for intent_id in intent_ids:
            for waiter in self._waiting.get(intent_id, ()):
                waiter.set()
        for waiter in self._all:
            waiter.set()

    def fail(self, problem: BaseException) -> None:
        """There will be no more news."""
        self._problem = problem
        for waiter in (*self._all, *(item for waiting in self._waiting.values() for item in waiting)):
            waiter.set()

    async def until(self, holds: Callable[[], bool], *, intent_id: str | None, timeout_s: float) -> bool:
        """Whether a condition came to hold in time; looked at again at each news of the intent (or of anything)."""
        waiter = asyncio.Event()
        waiting = self._all if intent_id is None else self._waiting[intent_id]
        waiting[waiter] = None
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    if self._problem is not None:
                        raise self._problem
                    await waiter.wait()
                    waiter.clear()
        except TimeoutError:
            return False
        finally:
            waiting.pop(waiter, None)
            if intent_id is not None and not self._waiting[intent_id]:
                del self._waiting[intent_id]
        return True


class CommandHandler:
    """Decides and records commands about intents."""

    def __init__(
        self,
        log: EventLog,
        state: KernelState,
        *,
        clock: Clock,
        ids: IdFactory,
        limits: LimitSettings | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.gate = LimitGate(state, clock=clock, own=limits)
        self._log = log
        self._state = state
        self._clock = clock
        self._ids = ids
        self._metrics = metrics or Metrics()

    async def handle(
        self, intent_id: str, command: Command, *, actor: str, evidence: Evidence = Evidence.COMMAND
    ) -> bool:
        """Decide a command on what is folded, and record what it comes to; whether it came to anything.

        Raises what `decide`, the pre-trade limits and `log.append` raise.
        """
        command_id = self._ids.command_id(self._clock.now_ns())
        if not isinstance(command, PlaceOrder):  # a new one is in no log, and the append finds out where that is not so
            await ensure(self._log, self._state, intent_id)
        for _ in range(TRIES_MAX):
            record = self._state.record(intent_id)
            made = decide(record, command)
            if not made:
                return False
            try:
                with self.gate.admitted(record, command):
                    await self._append(self._writes(record, made), command_id, actor=actor, evidence=evidence)
            except FencedError:
                raise
            except ConflictError:
                await self._catch_up([intent_id])
                continue
            return True
        raise ConflictError(f"intent {intent_id} changed {TRIES_MAX} times while a command about it was decided")

    async def _catch_up(self, intent_ids: Iterable[str]) -> None:
        """Somebody wrote in between, or wrote something that was let go: what is decided on next has it."""
        head = await self._log.head()
        await self._state.reached(head.position)
        await ensure(self._log, self._state, *intent_ids, anew=True)

    def _writes(self, record: Record, made: list[events.BaseEvent]) -> tuple[Write, ...]:
        stream_id = events.intent_stream(record.intent_id)
        return (Write(stream_id, tuple(made), record.version), *group_writes(self._state, stream_id, made))

    async def place_group(self, command: PlaceGroup, *, actor: str) -> None:
        """Decide a group on what is folded, and record it whole, or nothing of it.

        Raises what `decide_group`, the pre-trade limits and `log.append` raise.
        """
        command_id = self._ids.command_id(self._clock.now_ns())
        for _ in range(TRIES_MAX):
            records = {intent.intent_id: self._state.record(intent.intent_id) for intent in command.intents}
            writes = decide_group(self._state.group(command.group_id), records, command)
            if not writes:
                return
            try:
                with self.gate.admitted_group(command):
                    await self._append(writes, command_id, actor=actor, evidence=Evidence.COMMAND)
            except FencedError:
                raise
            except ConflictError:
                await self._catch_up(records)
                continue
            return
        raise ConflictError(f"group {command.group_id} changed {TRIES_MAX} times while it was decided")

    async def _append(self, writes: tuple[Write, ...], command_id: bytes, *, actor: str, evidence: Evidence) -> None:
        command = Append(
            command_id=command_id, writes=writes, actor=actor, evidence=evidence, correlation_id=command_id.hex()
        )
        with self._metrics.appending(self._clock):
            appended = await self._log.append(command)
        await self._state.reached(appended.last_position)


def placement_answered(record: Record) -> bool:
    """Whether the venue has answered: an order was seen there, or refused for good, or is not wanted any more."""
    if record.unsettled:
        return False
    if any(facts.accepted or facts.closed is not None for facts in record.current_orders):
        return True
    return is_failed(order_state(record)) or record.intent is None or record.intent.desired is Desired.CANCELED


def is_failed(state: OrderState | None) -> bool:
    return state is not None and state.reconciliation_status is ReconciliationStatus.FAILED


def refusal(record: Record) -> ExchangeError | None:
    """The venue's definitive no to what is wanted now, an order or a change of one, as an error; None without one."""
    state = order_state(record)
    if state is None or not is_failed(state):
        return None
    refused = [item for item in record.attempts if item.outcome is AttemptOutcome.REJECTED and item.text]
    if refused:
        return ExchangeError(refused[-1].text, code=refused[-1].code, intent_id=record.intent_id)
    orders = [facts for facts in record.orders if facts.closed is OrdStatus.REJECTED]
    named = f" order {orders[-1].exchange_order_id or orders[-1].client_order_id}" if orders else " the order"
    return ExchangeError(f"the venue rejected{named}", intent_id=record.intent_id)


def modify_answered(record: Record, wish: OrderIntent | None) -> bool:
    """Whether the venue has answered a change: what works has the terms wanted, or it was refused, or it is over."""
    if record.unsettled or wish is None:
        return wish is None
    state = order_state(record)
    if is_failed(state) or wish.desired is Desired.CANCELED:
        return True
    return difference(wish, state) is None


def member_answered(record: Record, wish: OrderIntent | None) -> bool:
    """Whether there is nothing more to wait for of an order that its group may hold back."""
    held_back = wish is not None and wish.order.quantity <= record.cum_qty and not record.may_be_live
    waits_there = bool(record.live_orders) and not record.unsettled  # for the one that releases it, at the venue
    return held_back or waits_there or placement_answered(record)


def cancel_answered(record: Record) -> bool:
    """Whether nothing of an intent works at the venue any more, nor may."""
    return not record.may_be_live


def too_late(record: Record) -> ExchangeError | None:
    """Why a cancel came too late, when the order ended in another way; None when it did not. What ended before the wish
    that was canceled is no answer to it."""
    state, last = order_state(record), primary_order(record)
    if state is None or state.status.ord_status not in (OrdStatus.FILLED, OrdStatus.EXPIRED):
        return None
    if last is not None and record.intent is not None and 0 < last.generation < record.intent.generation - 1:
        return None
    return ExchangeError(f"too late to cancel: the order is {state.status.ord_status}", intent_id=record.intent_id)


async def awaited_symbol(
    symbol_id: str, state: KernelState, waiters: Waiters, *, timeout_s: float, missing: tuple[str, ...]
) -> SymbolMetadata:
    """A market, as last observed; the first reference data is waited for.

    Raises `NotReadyError` when none came in time, `ValidationError` for a market that is not among them.
    """
    known = state.symbol(symbol_id)
    if known is not None:
        return known
    await waiters.until(lambda: any(state.symbols()), intent_id=None, timeout_s=timeout_s)
    return symbol_named(state, symbol_id, missing=missing)


def check_wait(wait: str) -> None:
    """`ValidationError` for what a command cannot wait for."""
    if wait not in ("ack", "recorded"):
        raise ValidationError("unknown wait", [Violation("wait", "wait", "'ack' or 'recorded'", repr(wait))])
