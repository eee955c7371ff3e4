"""The seed's two stores on the log: reads are answered from the state, a write is one event.

Made by the composition root, and by callers that keep records through the stores. A reader must feed the state: the
kernel's, or `following`. A write returns once the state has it, so that a store reads its own writes. Nothing in `kernel`
writes through a store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kernel.clock import NS_PER_S, Clock, IdFactory
from kernel.commands.handler import CommandHandler
from kernel.errors import LogUnavailableError, NotFoundError, ValidationError, Violation
from kernel.lifecycle import decide
from kernel.lifecycle.record import Record
from kernel.log import EventLog
from kernel.metrics import Metrics
from kernel.models import Evidence, OrderIntent, OrderState, ReconciliationStatus
from kernel.stores import ActualStateStore, IntentStateStore
from kernel.streams.rehydration import apply_batch, ensure_loaded, owner
from kernel.values.edge import validated
from projections.state import State


@dataclass(eq=False)
class LoggedStore:
    """A log, the state folded from it, and writes that are decided like any other command."""

    log: EventLog
    state: State
    clock: Clock
    ids: IdFactory
    metrics: Metrics
    actor: str = "operator:store"

    def __post_init__(self) -> None:
        self._commands = CommandHandler(self.log, self.state, clock=self.clock, ids=self.ids, metrics=self.metrics)

    async def _write(self, intent_id: str, command: decide.IntentCommand) -> None:
        await self._commands.handle(intent_id, command, actor=self.actor, evidence=Evidence.OPERATOR)


class EventSourcedIntentStore(LoggedStore, IntentStateStore):
    """Order intents on the log."""

    async def create_intent(self, intent: OrderIntent) -> None:
        intent = validated(intent, OrderIntent)
        check_exchange(intent, self.log.exchange_id)
        await self._write(intent.intent_id, decide.CreateIntent(intent))

    async def get_intent(self, intent_id: str) -> OrderIntent:
        await ensure_loaded(self.log, self.state, intent_id)
        if (intent := self.state.intent(intent_id)) is None:
            raise NotFoundError(f"intent {intent_id} not found")
        return intent

    async def update_intent(self, intent: OrderIntent) -> None:
        intent = validated(intent, OrderIntent)
        check_exchange(intent, self.log.exchange_id)
        await self._write(intent.intent_id, decide.UpdateIntent(intent, self.clock.now_ns()))

    async def delete_intent(self, intent_id: str) -> None:
        await self._write(intent_id, decide.DeleteIntent(intent_id))

    async def list_intents(self, symbol_id: str | None = None, group_id: str | None = None) -> list[OrderIntent]:
        if symbol_id is not None:
            found = self.state.intents_of_symbol(symbol_id)
            return [intent for intent in found if group_id in (None, intent.group_id)]
        return list(self.state.intents() if group_id is None else self.state.intents_of_group(group_id))

    async def get_intents_by_group(self, group_id: str) -> list[OrderIntent]:
        return list(self.state.intents_of_group(group_id))


class EventSourcedActualStore(LoggedStore, ActualStateStore):
    """Order states on the log."""

    async def create_order_state(self, state: OrderState) -> None:
        state = validated(state, OrderState)
        await self._write(state.intent_id, decide.CreateState(state, self.clock.now_ns()))

    async def get_order_state(self, intent_id: str) -> OrderState:
        await ensure_loaded(self.log, self.state, intent_id)
        if (found := self.state.order_state(intent_id)) is None:
            raise NotFoundError(f"order state for intent {intent_id} not found")
        return found

    async def get_order_state_by_exchange_id(self, exchange_order_id: str) -> OrderState:
        intent_id = await owner(self.log, self.state, exchange_order_id=exchange_order_id)
        if intent_id is not None:
            await ensure_loaded(self.log, self.state, intent_id)
        found = self.state.order_state(intent_id) if intent_id is not None else None
        if found is None or not has_exchange_id(found, self.state.record(found.intent_id), exchange_order_id):
            raise NotFoundError(f"order state for exchange order {exchange_order_id} not found")
        return found

    async def update_order_state(self, state: OrderState) -> None:
        state = validated(state, OrderState)
        await self._write(state.intent_id, decide.UpdateState(state, self.clock.now_ns()))

    async def delete_order_state(self, intent_id: str) -> None:
        await self._write(intent_id, decide.ForgetState(intent_id))

    async def list_order_states(
        self, symbol_id: str | None = None, reconciliation_status: ReconciliationStatus | None = None
    ) -> list[OrderState]:
        return [
            state
            for state in self.state.order_states()
            if symbol_id in (None, state.status.order.symbol_id)
            and reconciliation_status in (None, state.reconciliation_status)
        ]

    async def get_stale_orders(self, max_age_seconds: int) -> list[OrderState]:
        oldest = self.clock.now_ns() / NS_PER_S - max_age_seconds
        return [state for state in self.state.order_states() if state.last_sync_at < oldest]


def has_exchange_id(state: OrderState, record: Record, exchange_order_id: str) -> bool:
    """Return whether one of an order state's venue orders has this id, also of those that it has as a sum only."""
    ids = {state.exchange_order_id, *(item.exchange_order_id for item in state.venue_orders)}
    ids.update(facts.exchange_order_id for facts in record.settled.under(exchange_order_id) if not facts.rare.retired)
    return exchange_order_id in ids


def check_exchange(intent: OrderIntent, exchange_id: str) -> None:
    if intent.exchange_id != exchange_id:
        text = "exchange id {value} is not that of this log, {limit}"
        raise ValidationError(violations=[Violation("exchange_id", "exchange", exchange_id, intent.exchange_id, text)])


@asynccontextmanager
async def following(log: EventLog, state: State, on_batch: Callable[[], None] | None = None) -> AsyncIterator[None]:
    """Feed a state from a log while the block runs, calling `on_batch`; it is at the head when the block begins.

    If reading fails later, tasks that wait for the state get the error (`State.fail`), so that no write hangs. Raises
    `IntegrityError` if the log cannot be folded, `SchemaError` if this version cannot read an event.
    """

    async def read() -> None:
        try:
            async for batch in log.tail(state.position):
                await apply_batch(log, state, batch)
                if on_batch is not None:
                    on_batch()
        except Exception as problem:
            state.fail(problem)
            raise
        state.fail(LogUnavailableError(f"the log {log.url} was closed"))

    reader = asyncio.create_task(read(), name="state-reader")
    try:
        head = await log.head()
        await state.reached(head.position)
        yield
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
