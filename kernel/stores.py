"""The two stores that the reconciliation engine reads: intents and observed orders. The seed's contracts.

Implemented in memory by `projections.memory` and on the log by `projections.stores`. Writes check existence and types, not
symbol constraints. Lists are in order of creation; an unknown symbol or group gives `[]`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from kernel.models import OrderIntent, OrderState, ReconciliationStatus


class IntentStateStore(ABC):
    """Stores intents: the desired state."""

    @abstractmethod
    async def create_intent(self, intent: OrderIntent) -> None:
        """Store a new intent.

        Raises:
            AlreadyExistsError: The store has an intent with this id.
        """

    @abstractmethod
    async def get_intent(self, intent_id: str) -> OrderIntent:
        """Return an intent.

        Raises:
            NotFoundError: There is no such intent.
        """

    @abstractmethod
    async def update_intent(self, intent: OrderIntent) -> None:
        """Replace an intent; the store sets `generation` (+1 if `order` or `desired` changed) and `updated_at_ns`.

        Raises:
            NotFoundError: There is no such intent.
            ConflictError: The given generation is lower than the stored one.
        """

    @abstractmethod
    async def delete_intent(self, intent_id: str) -> None:
        """Remove an intent.

        Raises:
            NotFoundError: There is no such intent.
            ConflictError: Its order may be live at the venue; cancel it first.
        """

    @abstractmethod
    async def list_intents(self, symbol_id: str | None = None, group_id: str | None = None) -> list[OrderIntent]:
        """Return all intents, or those of a symbol, a group, or both."""

    @abstractmethod
    async def get_intents_by_group(self, group_id: str) -> list[OrderIntent]:
        """Return the intents of a group."""


class ActualStateStore(ABC):
    """Stores observed orders: the actual state."""

    @abstractmethod
    async def create_order_state(self, state: OrderState) -> None:
        """Store a new order state.

        Raises:
            AlreadyExistsError: The intent has an order state.
        """

    @abstractmethod
    async def get_order_state(self, intent_id: str) -> OrderState:
        """Return the order state of an intent.

        Raises:
            NotFoundError: The intent has none.
        """

    @abstractmethod
    async def get_order_state_by_exchange_id(self, exchange_order_id: str) -> OrderState:
        """Return the order state with a venue order id.

        Raises:
            NotFoundError: There is none.
        """

    @abstractmethod
    async def update_order_state(self, state: OrderState) -> None:
        """Replace an order state.

        Raises:
            NotFoundError: The intent has none.
        """

    @abstractmethod
    async def delete_order_state(self, intent_id: str) -> None:
        """Remove an order state.

        Raises:
            NotFoundError: The intent has none.
        """

    @abstractmethod
    async def list_order_states(
        self, symbol_id: str | None = None, reconciliation_status: ReconciliationStatus | None = None
    ) -> list[OrderState]:
        """Return all order states, or those of a symbol, a reconciliation status, or both."""

    @abstractmethod
    async def get_stale_orders(self, max_age_seconds: int) -> list[OrderState]:
        """Return the order states last confirmed (`last_sync_at`) more than `max_age_seconds` ago."""
