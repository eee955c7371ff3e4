"""The kernel's face: what strategies call. The seed's `ExchangeKernel`.

Implemented by `controller.EventSourcedKernel`. Commands return once what they record is durable; queries answer from
memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

from kernel.events import BaseEvent
from kernel.models import AccountState, AssetMetadata, OrderIntent, OrderState, Position
from kernel.order_spec import StandardOrder, StandardOrderGroup, SymbolMetadata

EventCallback = Callable[[BaseEvent], None] | Callable[[BaseEvent], Awaitable[None]]
"""A plain function runs on its subscription's own thread, an `async def` as its own task."""


class ExchangeKernel(ABC):
    """Keeps the orders of one exchange account in agreement with what is wanted."""

    def __init__(self, exchange_id: str) -> None:
        """`exchange_id` names the exchange account, and so its log."""
        self.exchange_id = exchange_id

    # ------------------------------------------------------------------------------------------------------ commands
    @abstractmethod
    async def place_order(self, order: StandardOrder, metadata: dict[str, Any] | None = None) -> str:
        """Want an order. Returns its intent id once the intent is durable.

        Raises `ValidationError` if the order violates market constraints, `ExchangeError` if the exchange rejects it.
        """

    @abstractmethod
    async def place_order_group(self, group: StandardOrderGroup, metadata: dict[str, Any] | None = None) -> list[str]:
        """Want orders that depend on each other. Returns an intent id for each once they are durable.

        Raises `ValidationError` if any order violates market constraints, `ExchangeError` if the exchange rejects one.
        """

    @abstractmethod
    async def cancel_order(self, intent_id: str) -> None:
        """Not want an order any more.

        Raises `NotFoundError` for an unknown intent, `ExchangeError` if it is too late.
        """

    @abstractmethod
    async def modify_order(self, intent_id: str, new_order: StandardOrder) -> None:
        """Want other terms for an order.

        Raises `NotFoundError` for an unknown intent, `ValidationError` if the new order violates market constraints,
        `ExchangeError` if the exchange refuses it or it is too late.
        """

    @abstractmethod
    async def cancel_all_orders(self, symbol_id: str | None = None) -> int:
        """Not want any order (of a symbol) any more. Returns how many live intents that changed."""

    # ------------------------------------------------------------------------------------------------------- queries
    @abstractmethod
    async def get_order_intent(self, intent_id: str) -> OrderIntent:
        """What is wanted. Raises `NotFoundError`."""

    @abstractmethod
    async def get_order_state(self, intent_id: str) -> OrderState:
        """What is there. Raises `NotFoundError` for an unknown intent, and before anything was sent for it."""

    @abstractmethod
    async def get_all_intents(self, symbol_id: str | None = None) -> list[OrderIntent]:
        """All intents (of a symbol), in order of creation."""

    @abstractmethod
    async def get_all_orders(self, symbol_id: str | None = None) -> list[OrderState]:
        """All order states (of a symbol), in order of creation."""

    @abstractmethod
    async def get_positions(self, symbol_id: str | None = None) -> list[Position]:
        """Positions (of a symbol) that fills come to."""

    @abstractmethod
    async def get_account_state(self) -> AccountState:
        """Balances as last observed."""

    @abstractmethod
    async def get_symbol_metadata(self, symbol_id: str) -> SymbolMetadata:
        """Scales and constraints of a symbol. Raises `NotFoundError`."""

    @abstractmethod
    async def get_asset_metadata(self, asset_id: str) -> AssetMetadata:
        """Scale of an asset. Raises `NotFoundError`."""

    @abstractmethod
    async def list_symbols(self) -> list[str]:
        """Ids of all symbols, sorted."""

    # ------------------------------------------------------------------------------------------------------- events
    @abstractmethod
    def subscribe_events(self, callback: EventCallback, event_filter: dict[str, Any] | None = None) -> str:
        """Call back for each event that fits a filter. Returns the subscription's id."""

    @abstractmethod
    def unsubscribe_events(self, subscription_id: str) -> None:
        """End a subscription. Raises `NotFoundError` for an unknown id."""

    # ------------------------------------------------------------------------------------------------------- life
    @abstractmethod
    async def start(self) -> None:
        """Recover and begin. Idempotent."""

    @abstractmethod
    async def stop(self) -> None:
        """End in order. Cancels no order. Idempotent."""

    @abstractmethod
    async def health_check(self) -> dict[str, Any]:
        """Readiness, leadership, lag, the venue's connection, error counts."""

    # ------------------------------------------------------------------------------------------------------- control
    @abstractmethod
    async def force_reconciliation(self, intent_id: str | None = None) -> None:
        """Reconcile one intent, or all, now: past backoff, never past lease, readiness, pause or what is unknown."""

    @abstractmethod
    def get_reconciliation_metrics(self) -> dict[str, Any]:
        """Lag, pending keys, error and retry counts."""
