"""The seed's stores as two dictionaries, for tests and prototypes: nothing is durable, nothing is logged.

One contract suite holds them and the stores on the log to the same behaviour.
"""

from __future__ import annotations

from kernel.clock import NS_PER_S, Clock, SystemClock
from kernel.errors import AlreadyExistsError, NotFoundError
from kernel.lifecycle.decide import next_intent
from kernel.models import OrderIntent, OrderState, ReconciliationStatus
from kernel.stores import ActualStateStore, IntentStateStore
from kernel.values.edge import validated


class InMemoryIntentStore(IntentStateStore):
    """Order intents in a dictionary, in order of creation."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._intents: dict[str, OrderIntent] = {}

    async def create_intent(self, intent: OrderIntent) -> None:
        intent = validated(intent, OrderIntent)
        if intent.intent_id in self._intents:
            raise AlreadyExistsError(f"intent {intent.intent_id} already exists")
        self._intents[intent.intent_id] = intent

    async def get_intent(self, intent_id: str) -> OrderIntent:
        if intent_id not in self._intents:
            raise NotFoundError(f"intent {intent_id} not found")
        return self._intents[intent_id]

    async def update_intent(self, intent: OrderIntent) -> None:
        intent = validated(intent, OrderIntent)
        known = await self.get_intent(intent.intent_id)
        self._intents[intent.intent_id] = next_intent(known, intent, now_ns=self._clock.now_ns())

    async def delete_intent(self, intent_id: str) -> None:
        await self.get_intent(intent_id)
        del self._intents[intent_id]

    async def list_intents(self, symbol_id: str | None = None, group_id: str | None = None) -> list[OrderIntent]:
        return [
            intent
            for intent in self._intents.values()
            if symbol_id in (None, intent.order.symbol_id) and group_id in (None, intent.group_id)
        ]

    async def get_intents_by_group(self, group_id: str) -> list[OrderIntent]:
        return await self.list_intents(group_id=group_id)


class InMemoryActualStateStore(ActualStateStore):
    """Order states in a dictionary, in order of creation."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._states: dict[str, OrderState] = {}

    async def create_order_state(self, state: OrderState) -> None:
        state = validated(state, OrderState)
        if state.intent_id in self._states:
            raise AlreadyExistsError(f"order state for intent {state.intent_id} already exists")
        self._states[state.intent_id] = state

    async def get_order_state(self, intent_id: str) -> OrderState:
        if intent_id not in self._states:
            raise NotFoundError(f"order state for intent {intent_id} not found")
        return self._states[intent_id]

    async def get_order_state_by_exchange_id(self, exchange_order_id: str) -> OrderState:
        for state in self._states.values():
            ids = {state.exchange_order_id, *(item.exchange_order_id for item in state.venue_orders)}
            if exchange_order_id in ids:
                return state
        raise NotFoundError(f"order state for exchange order {exchange_order_id} not found")

    async def update_order_state(self, state: OrderState) -> None:
        state = validated(state, OrderState)
        await self.get_order_state(state.intent_id)
        self._states[state.intent_id] = state

    async def delete_order_state(self, intent_id: str) -> None:
        await self.get_order_state(intent_id)
        del self._states[intent_id]

    async def list_order_states(
        self, symbol_id: str | None = None, reconciliation_status: ReconciliationStatus | None = None
    ) -> list[OrderState]:
        return [
            state
            for state in self._states.values()
            if symbol_id in (None, state.status.order.symbol_id)
            and reconciliation_status in (None, state.reconciliation_status)
        ]

    async def get_stale_orders(self, max_age_seconds: int) -> list[OrderState]:
        oldest = self._clock.now_ns() / NS_PER_S - max_age_seconds
        return [state for state in self._states.values() if state.last_sync_at < oldest]
