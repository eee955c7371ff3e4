"""The reconciliation engine: makes the orders at an exchange match the intents. The seed's `ReconciliationEngine`.

Built by the controller with its stores, log, venue and lease; or by anybody over any two stores, without a venue: then it
computes plans and never acts. With a venue, all that acts is one object, `VenueReconciler`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kernel import plan as planning
from kernel.clock import NS_PER_MS, Clock, IdFactory, SeededIds, SystemClock
from kernel.errors import NotFoundError, ValidationError
from kernel.lease import Lease
from kernel.log.base import EventLog
from kernel.metrics import EngineReading, Metrics, value_of
from kernel.models import OrderIntent, OrderState
from kernel.order_spec import OrderType, SymbolMetadata, TimeInForce
from kernel.reconciler.run_inputs import symbol_id_of
from kernel.reconciler.venue_reconciler import VenueReconciler
from kernel.settings import KernelSettings
from kernel.state import KernelState
from kernel.stores import ActualStateStore, IntentStateStore
from kernel.venues.base import Venue


class ReconciliationEngine:
    """Continuously makes actual state match intent."""

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
        """Build an engine.

        Args:
            intent_store: The intents.
            actual_store: The observed orders.
            log: The log from which both stores are folded; needed with a venue.
            venue: Where to act; without one the engine only computes plans.
            lease: The lease of the leader; needed with a venue.
            clock: The clock; the system's by default.
            settings: The kernel's settings.
            ids: The source of ids and jitter.
            missing: Names the readiness conditions that do not hold; while there are any, nothing is sent.
            metrics: Where to count.

        Raises:
            ValidationError: A venue without a log and a lease (law 2), or without stores that are folded from the log.
        """
        self.intent_store = intent_store
        self.actual_store = actual_store
        self._clock = clock or SystemClock()
        self._settings = settings or KernelSettings()
        self._metrics = metrics or Metrics()
        self._running = False
        self.at_venue: VenueReconciler | None = None
        """What acts at the venue; None without one."""
        if venue is None:
            return
        state = folded_state(actual_store)
        if log is None or lease is None:
            raise ValidationError(
                "an engine with a venue needs a log and a lease: an attempt is durable before the venue hears of it"
            )
        if state is None or folded_state(intent_store) is not state:
            raise ValidationError("an engine with a log needs the two event-sourced stores of one state")
        self.at_venue = VenueReconciler(
            intent_store,
            actual_store,
            state,
            log,
            venue,
            lease,
            clock=self._clock,
            ids=ids or SeededIds(),
            settings=self._settings,
            metrics=self._metrics,
            missing=missing or (lambda: ()),
        )

    @property
    def running(self) -> bool:
        """Whether the engine was started."""
        return self._running

    async def start(self) -> None:
        """Start the loop. Idempotent. Without a venue there is nothing to loop over."""
        self._running = True
        if self.at_venue is not None:
            await self.at_venue.start()

    async def stop(self) -> None:
        """Hand out no more keys, wait for the calls that are out, stop the loop. Idempotent. Cancels no order."""
        self._running = False
        if self.at_venue is not None:
            await self.at_venue.stop()

    async def reconcile_intent(self, intent_id: str) -> planning.Action:
        """Reconcile one intent: compute its plan and, with a venue, perform it now, past the engine's own backoff.

        Args:
            intent_id: The intent.

        Returns:
            The plan.

        Raises:
            NotFoundError: There is no such intent.
        """
        intent = await self.intent_store.get_intent(intent_id)
        if self.at_venue is None:
            return await self._plan(intent)
        action = await self.at_venue.plan(intent_id)
        if self._running:
            self.at_venue.reconcile_now(intent_id)
        return action

    async def _plan(self, intent: OrderIntent) -> planning.Action:
        """The plan over stores of any kind; event-sourced ones know the groups of an intent."""
        order: OrderState | None = None
        with suppress(NotFoundError):
            order = await self.actual_store.get_order_state(intent.intent_id)
        limited: OrderIntent | None = intent
        held = False
        if (state := folded_state(self.intent_store)) is not None:
            limited, held = state.effective_intent(intent.intent_id), state.awaits_parent(intent.intent_id)
        symbol = any_symbol(symbol_id_of(limited, order))
        return planning.plan(limited, order, symbol=symbol, now_ns=self._clock.now_ns(), held=held)

    async def reconcile_all(self) -> dict[str, planning.Action]:
        """Reconcile every intent; returns the plans by intent id."""
        intents = await self.intent_store.list_intents()
        return {intent.intent_id: await self.reconcile_intent(intent.intent_id) for intent in intents}

    def get_metrics(self) -> dict[str, Any]:
        """The seed's five: running, lag of the newest run in milliseconds, keys pending, errors and retries so far."""
        return {
            "running": self._running,
            "reconciliation_lag_ms": self.at_venue.lag_ns // NS_PER_MS if self.at_venue is not None else 0,
            "pending_reconciliations": self.at_venue.pending if self.at_venue is not None else 0,
            "error_count": int(value_of(self._metrics.error_count)),
            "retry_count": int(value_of(self._metrics.retry_count)),
        }

    def reading(self) -> EngineReading:
        """Its work as it stands now."""
        return self.at_venue.reading() if self.at_venue is not None else EngineReading(workers=self._settings.workers)


def folded_state(store: IntentStateStore | ActualStateStore) -> KernelState | None:
    """The state that an event-sourced store reads; None for a plain store."""
    state: KernelState | None = getattr(store, "state", None)
    return state


def any_symbol(symbol_id: str) -> SymbolMetadata | None:
    """A symbol that takes every order: plain stores know no symbols, so none limits a plan over them."""
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
