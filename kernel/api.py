"""The interface that strategies call: the seed's `ExchangeKernel`.

Implemented by `controller.EventSourcedKernel`. Commands return once they are durable; queries answer from memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

from kernel.events import BaseEvent
from kernel.models import AccountState, AssetMetadata, OrderIntent, OrderState, Position
from kernel.order_spec import StandardOrder, StandardOrderGroup, SymbolMetadata

EventCallback = Callable[[BaseEvent], None] | Callable[[BaseEvent], Awaitable[None]]
"""A plain function runs on a thread of its subscription, an `async def` in a task of its own."""


class ExchangeKernel(ABC):
    """Keeps the orders of one exchange account in agreement with the intents of strategies.

    Attributes:
        exchange_id: Id of the exchange account and of its log.
    """

    def __init__(self, exchange_id: str) -> None:
        self.exchange_id = exchange_id

    @abstractmethod
    async def place_order(self, order: StandardOrder, metadata: dict[str, Any] | None = None) -> str:
        """Place an order.

        Args:
            order: The terms, at the symbol's scales.
            metadata: JSON data of the strategy; the kernel never reads it.

        Returns:
            The intent id, once the intent is durable.

        Raises:
            ValidationError: The order violates constraints of its symbol.
            ExchangeError: The exchange rejected the order.
        """

    @abstractmethod
    async def place_order_group(self, group: StandardOrderGroup, metadata: dict[str, Any] | None = None) -> list[str]:
        """Place contingent orders, whole or not at all.

        Args:
            group: The orders and how they depend on each other.
            metadata: JSON data of the strategy, for each intent.

        Returns:
            An intent id for each order, in order, once they are durable.

        Raises:
            ValidationError: The group or one of its orders violates constraints.
            ExchangeError: The exchange rejected an order.
        """

    @abstractmethod
    async def cancel_order(self, intent_id: str) -> None:
        """Cancel an order.

        Args:
            intent_id: The intent of the order.

        Raises:
            NotFoundError: There is no such intent.
            ExchangeError: The order ended before it could be canceled.
        """

    @abstractmethod
    async def modify_order(self, intent_id: str, new_order: StandardOrder) -> None:
        """Change the terms of an order.

        Args:
            intent_id: The intent of the order.
            new_order: All terms; `quantity` is the new total, filled part included.

        Raises:
            NotFoundError: There is no such intent.
            ValidationError: The new terms violate constraints.
            ExchangeError: The exchange rejected the change, or the order has ended.
        """

    @abstractmethod
    async def cancel_all_orders(self, symbol_id: str | None = None) -> int:
        """Cancel all live orders, or those of one symbol.

        Returns:
            The number of intents that this canceled.
        """

    @abstractmethod
    async def get_order_intent(self, intent_id: str) -> OrderIntent:
        """Return an intent: the desired order.

        Raises:
            NotFoundError: There is no such intent.
        """

    @abstractmethod
    async def get_order_state(self, intent_id: str) -> OrderState:
        """Return the observed order of an intent.

        Raises:
            NotFoundError: There is no such intent, or nothing was sent for it yet.
        """

    @abstractmethod
    async def get_all_intents(self, symbol_id: str | None = None) -> list[OrderIntent]:
        """Return all intents, or those of one symbol, in order of creation."""

    @abstractmethod
    async def get_all_orders(self, symbol_id: str | None = None) -> list[OrderState]:
        """Return all observed orders, or those of one symbol, in order of creation."""

    @abstractmethod
    async def get_positions(self, symbol_id: str | None = None) -> list[Position]:
        """Return the positions that result from fills, or that of one symbol."""

    @abstractmethod
    async def get_account_state(self) -> AccountState:
        """Return the balances as last observed, and as expected now."""

    @abstractmethod
    async def get_symbol_metadata(self, symbol_id: str) -> SymbolMetadata:
        """Return the scales and constraints of a symbol.

        Raises:
            NotFoundError: The exchange has no such symbol.
        """

    @abstractmethod
    async def get_asset_metadata(self, asset_id: str) -> AssetMetadata:
        """Return the scale of an asset.

        Raises:
            NotFoundError: The exchange has no such asset.
        """

    @abstractmethod
    async def list_symbols(self) -> list[str]:
        """Return the ids of all symbols, sorted."""

    @abstractmethod
    def subscribe_events(self, callback: EventCallback, event_filter: dict[str, Any] | None = None) -> str:
        """Call back for each event that matches a filter.

        Args:
            callback: Receives the events in order, from now on.
            event_filter: Value or list of values by `event_type`, `symbol_id`, `intent_id`, `group_id` or `actor`.

        Returns:
            The id of the subscription.

        Raises:
            ValidationError: The filter has an unknown key or event type.
        """

    @abstractmethod
    def unsubscribe_events(self, subscription_id: str) -> None:
        """End a subscription.

        Raises:
            NotFoundError: There is no such subscription.
        """

    @abstractmethod
    async def start(self) -> None:
        """Recover the state and start. Idempotent."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop in an orderly way; cancels no order. Idempotent."""

    @abstractmethod
    async def health_check(self) -> dict[str, Any]:
        """Return readiness, leadership, lag, the venue's connection and error counts."""

    @abstractmethod
    async def force_reconciliation(self, intent_id: str | None = None) -> None:
        """Reconcile one intent, or all, now.

        It skips the backoff; lease, readiness, pause and unresolved attempts still hold.

        Raises:
            NotFoundError: There is no such intent.
        """

    @abstractmethod
    def get_reconciliation_metrics(self) -> dict[str, Any]:
        """Return lag, pending keys, error and retry counts."""
