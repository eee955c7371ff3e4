"""The interface that strategies call: the seed's `ExchangeKernel`.

Implemented by `controller.EventSourcedKernel`, which describes arguments and errors. Commands return once they are durable;
queries answer from memory.
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
        """Place an order; return its intent id once the intent is durable. The kernel never reads `metadata` (JSON)."""

    @abstractmethod
    async def place_order_group(self, group: StandardOrderGroup, metadata: dict[str, Any] | None = None) -> list[str]:
        """Place contingent orders, whole or not at all; return an intent id for each, in order, once they are durable."""

    @abstractmethod
    async def cancel_order(self, intent_id: str) -> None:
        """Cancel an order. Raises `ExchangeError` if it ended before it could be canceled."""

    @abstractmethod
    async def modify_order(self, intent_id: str, new_order: StandardOrder) -> None:
        """Change the terms of an order to `new_order`, whose `quantity` is the new total, filled part included."""

    @abstractmethod
    async def cancel_all_orders(self, symbol_id: str | None = None) -> int:
        """Cancel all live orders, or those of one symbol; return the number of intents that this canceled."""

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
        """Call back, in order and from now on, for each event that matches a filter; return the id of the subscription."""

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
