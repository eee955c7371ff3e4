"""The reconciliation engine, the public entry to the reconciler.

Created by the controller with its stores, log, venue and lease; or by anyone over two stores without a venue: then it
computes plans and never acts. `VenueReconciler` does everything that acts at a venue.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kernel import plan as planning
from kernel.clock import NS_PER_MS, Clock, IdFactory, SeededIds, SystemClock
from kernel.errors import NotFoundError, ValidationError
from kernel.lease import Lease
from kernel.log.base import EventLog
from kernel.metrics import EngineReading, Metrics, value_of
from kernel.models import OrderIntent, OrderState
from kernel.order_spec import OrderType, SymbolMetadata, TimeInForce
from kernel.settings import KernelSettings
from kernel.state import KernelState, symbol_id_of
from kernel.stores import ActualStateStore, IntentStateStore
from kernel.venues.base import Venue

if TYPE_CHECKING:
    from kernel.reconciler.venue_reconciler import VenueReconciler


class ReconciliationEngine:
    """Continuously makes the orders at a venue match the intents."""

    def __init__(
        self,
        intent_store: IntentStateStore,
        actual_store: ActualStateStore,
        *,
        log: EventLog | None = None,
        venue: Venue | None = None,
        lease: Lease | None = None,
        clock: Clock | None = None,
        settings: KernelSettings | None = None,
        ids: IdFactory | None = None,
        missing: Callable[[], tuple[str, ...]] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Create an engine.

        Args:
            intent_store: The intents.
            actual_store: The observed orders.
            log: The log from which both stores are folded; required with a venue.
            venue: The venue; without one the engine only computes plans.
            lease: The leader's lease; required with a venue.
            clock: The clock; the system clock by default.
            settings: The kernel's settings.
            ids: Source of ids and jitter.
            missing: Returns the unmet readiness conditions; while there are any, nothing is sent.
            metrics: The metrics to update.

        Raises:
            ValidationError: A venue without a log and a lease, or with stores that are not folded from that log.
        """
        self.intent_store = intent_store
        self.actual_store = actual_store
        self._clock = clock or SystemClock()
        self._settings = settings or KernelSettings()
        self._metrics = metrics or Metrics()
        self._running = False
        self.at_venue: VenueReconciler | None = None
        """The reconciler at the venue; None without a venue."""
        if venue is None:
            return
        from kernel.reconciler.venue_reconciler import VenueReconciler  # a kernel that only takes commands needs none
        from kernel.venues.guard import GuardedVenue

        state = folded_state(actual_store)
        if log is None or lease is None:
            raise ValidationError(
                "an engine with a venue needs a log and a lease: each attempt is recorded before it is sent"
            )
        if state is None or folded_state(intent_store) is not state:
            raise ValidationError("an engine with a venue needs two event-sourced stores of the same state")
        self.at_venue = VenueReconciler(
            intent_store,
            actual_store,
            state,
            log,
            GuardedVenue(venue),
            lease,
            clock=self._clock,
            ids=ids or SeededIds(),
            settings=self._settings,
            metrics=self._metrics,
            missing=missing or (lambda: ()),
        )

    @property
    def running(self) -> bool:
        return self._running

    async def start(self) -> None:
        """Start the workers. Idempotent; without a venue there are none."""
        self._running = True
        if self.at_venue is not None:
            await self.at_venue.start()

    async def stop(self) -> None:
        """Stop: hand out no more keys, wait for running calls, end the workers. Idempotent. Cancels no order."""
        self._running = False
        if self.at_venue is not None:
            await self.at_venue.stop()

    async def reconcile_intent(self, intent_id: str) -> planning.Action:
        """Return the plan of one intent and, with a venue, perform it now, ignoring the backoff.

        Args:
            intent_id: The intent.

        Returns:
            The plan.

        Raises:
            NotFoundError: The intent does not exist.
        """
        intent = await self.intent_store.get_intent(intent_id)
        if self.at_venue is None:
            return await self._plan(intent)
        action = await self.at_venue.plan(intent_id)
        if self._running:
            self.at_venue.reconcile_now(intent_id)
        return action

    async def _plan(self, intent: OrderIntent) -> planning.Action:
        """Return the plan over stores of any kind; event-sourced ones know the intent's group."""
        order: OrderState | None = None
        with suppress(NotFoundError):
            order = await self.actual_store.get_order_state(intent.intent_id)
        limited: OrderIntent | None = intent
        if (state := folded_state(self.intent_store)) is not None:
            limited = state.effective_intent(intent.intent_id)
        symbol = any_symbol(symbol_id_of(limited, order))
        return planning.plan(limited, order, symbol=symbol, now_ns=self._clock.now_ns())

    async def reconcile_all(self) -> dict[str, planning.Action]:
        """Reconcile every intent; return the plans by intent id."""
        intents = await self.intent_store.list_intents()
        return {intent.intent_id: await self.reconcile_intent(intent.intent_id) for intent in intents}

    def get_metrics(self) -> dict[str, Any]:
        """Return running, lag of the newest run in milliseconds, pending keys, error count and retry count."""
        return {
            "running": self._running,
            "reconciliation_lag_ms": self.at_venue.lag_ns // NS_PER_MS if self.at_venue is not None else 0,
            "pending_reconciliations": self.at_venue.pending if self.at_venue is not None else 0,
            "error_count": int(value_of(self._metrics.error_count)),
            "retry_count": int(value_of(self._metrics.retry_count)),
        }

    def reading(self) -> EngineReading:
        """Return the current load of the engine."""
        return self.at_venue.reading() if self.at_venue is not None else EngineReading(workers=self._settings.workers)


def folded_state(store: IntentStateStore | ActualStateStore) -> KernelState | None:
    """Return the state behind an event-sourced store; None for a plain store."""
    state: KernelState | None = getattr(store, "state", None)
    return state


def any_symbol(symbol_id: str) -> SymbolMetadata | None:
    """Return a symbol that takes every order: plain stores know no symbols."""
    if not symbol_id:
        return None
    return SymbolMetadata(
        symbol_id=symbol_id,
        base_asset="ANY",
        quote_asset="ANY",
        price_decimals=0,
        quantity_decimals=0,
        order_types=frozenset(OrderType),
        times_in_force=frozenset(TimeInForce),
        reduce_only=True,
        iceberg=True,
    )
