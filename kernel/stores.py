"""The two stores: what is wanted, and what is there. The seed's contracts.

Implemented plainly in `projections.memory` and on the log in `projections.stores`; read by the reconciliation engine.
Writes check existence and types, not markets. Lists are in order of creation; an unknown symbol or group gives `[]`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from kernel.models import OrderIntent, OrderState, ReconciliationStatus


class IntentStateStore(ABC):
    """Storage for order intents: the desired state, durable across restarts."""

    @abstractmethod
    async def create_intent(self, intent: OrderIntent) -> None:
        """Store a new intent. Raises `AlreadyExistsError` if its id exists."""

    @abstractmethod
    async def get_intent(self, intent_id: str) -> OrderIntent:
        """The intent. Raises `NotFoundError` if there is none."""

    @abstractmethod
    async def update_intent(self, intent: OrderIntent) -> None:
        """Replace an intent's record. The store sets `generation` (+1 when `order` or `desired` changed) and
        `updated_at_ns`.

        Raises `NotFoundError` if there is none, `ConflictError` if the given generation is lower than the stored one.
        """

    @abstractmethod
    async def delete_intent(self, intent_id: str) -> None:
        """Remove an intent. Raises `NotFoundError` if there is none, `ConflictError` if its order may be live."""

    @abstractmethod
    async def list_intents(self, symbol_id: str | None = None, group_id: str | None = None) -> list[OrderIntent]:
        """All intents, or those of a symbol, of a group, or of both."""

    @abstractmethod
    async def get_intents_by_group(self, group_id: str) -> list[OrderIntent]:
        """The intents of a group."""


class ActualStateStore(ABC):
    """Storage for order states: what is at the venue."""

    @abstractmethod
    async def create_order_state(self, state: OrderState) -> None:
        """Store a new order state. Raises `AlreadyExistsError` if the intent has one."""

    @abstractmethod
    async def get_order_state(self, intent_id: str) -> OrderState:
        """The order state of an intent. Raises `NotFoundError` if there is none."""

    @abstractmethod
    async def get_order_state_by_exchange_id(self, exchange_order_id: str) -> OrderState:
        """The order state that has this venue order id. Raises `NotFoundError` if there is none."""

    @abstractmethod
    async def update_order_state(self, state: OrderState) -> None:
        """Replace an order state. Raises `NotFoundError` if there is none."""

    @abstractmethod
    async def delete_order_state(self, intent_id: str) -> None:
        """Remove an order state. Raises `NotFoundError` if there is none."""

    @abstractmethod
    async def list_order_states(
        self, symbol_id: str | None = None, reconciliation_status: ReconciliationStatus | None = None
    ) -> list[OrderState]:
        """All order states, or those of a symbol, of a reconciliation status, or of both."""

    @abstractmethod
    async def get_stale_orders(self, max_age_seconds: int) -> list[OrderState]:
        """Order states last confirmed longer ago than this: `last_sync_at` before now − `max_age_seconds`."""
