"""Stores for tests: the plain ones, and those on a log with a reader, behind one face and one clock set by hand.

Used by the store suite. `a_store_world` gives the two stores for as long as a block runs; where they are on a log, `log`,
`state` and `hear` (what the venue says of an intent's order) come with them.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from kernel import events
from kernel.clock import NS_PER_S, SeededIds
from kernel.lifecycle.decide_report import decide_report
from kernel.log import Append, EventLog, Write
from kernel.metrics import Metrics
from kernel.models import (
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Evidence,
    OrderIntent,
    OrderState,
    OrderStatus,
    OrdStatus,
    ReconciliationStatus,
    VenueOrder,
)
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.stores import ActualStateStore, IntentStateStore
from kernel.venues.base import ExecutionReport
from projections import (
    EventSourcedActualStore,
    EventSourcedIntentStore,
    InMemoryActualStateStore,
    InMemoryIntentStore,
    State,
)
from projections.stores import following
from tests.paper_world import HandClock

EXCHANGE = "paper"


@dataclass
class StoreWorld:
    """Two stores under one clock."""

    intents: IntentStateStore
    actual: ActualStateStore
    clock: HandClock


@dataclass
class LogWorld(StoreWorld):
    """Two stores on a log whose state is fed."""

    log: EventLog
    state: State
    ids: SeededIds = field(default_factory=lambda: SeededIds(9))

    async def append(self, intent_id: str, *made: events.BaseEvent, evidence: Evidence = Evidence.STREAM) -> int:
        """Record events in an intent's stream as facts; their last position, once the state has it."""
        write = Write(events.intent_stream(intent_id), made)
        command_id = self.ids.command_id(self.clock.now_ns())
        appended = await self.log.append(Append(command_id, (write,), "venue:test", evidence, is_fact=True))
        await self.state.reached(appended.last_position)
        return appended.last_position

    async def hear(
        self, intent_id: str, report: ExecutionReport, *, began_ns: int | None = None
    ) -> list[events.BaseEvent]:
        """Record what a venue's report comes to; none when it was no news."""
        made = decide_report(self.state.record(intent_id), report, now_ns=self.clock.now_ns(), began_ns=began_ns)
        if made:
            await self.append(intent_id, *made)
        return made

    async def stream(self, intent_id: str) -> list[events.BaseEvent]:
        """Every event of an intent."""
        return await self.log.read_stream(events.intent_stream(intent_id))


@asynccontextmanager
async def a_log_world(log: EventLog, clock: HandClock) -> AsyncIterator[LogWorld]:
    """Event-sourced stores on a log."""
    state = State()
    async with following(log, state):
        intents = EventSourcedIntentStore(log, state, clock=clock, ids=SeededIds(), metrics=Metrics())
        actual = EventSourcedActualStore(log, state, clock=clock, ids=SeededIds(), metrics=Metrics())
        yield LogWorld(intents=intents, actual=actual, clock=clock, log=log, state=state)


def a_plain_world(clock: HandClock) -> StoreWorld:
    """The plain stores."""
    return StoreWorld(InMemoryIntentStore(clock=clock), InMemoryActualStateStore(clock=clock), clock)


def an_order(symbol_id: str = "BTCUSDT", *, quantity: int = 100, price: int = 10, **given: Any) -> StandardOrder:
    """A limit order to buy."""
    fields: dict[str, Any] = {"side": Side.BUY, "order_type": OrderType.LIMIT, "quantity": quantity, "price": price}
    return StandardOrder(symbol_id=symbol_id, **{**fields, **given})


def an_intent(intent_id: str = "i1", *, order: StandardOrder | None = None, **given: Any) -> OrderIntent:
    """An intent of the test's exchange."""
    return OrderIntent(intent_id=intent_id, exchange_id=EXCHANGE, order=order or an_order(), **given)


def a_state(intent_id: str = "i1", *, order: StandardOrder | None = None, **given: Any) -> OrderState:
    """An order state as a store's user writes it; a terminal one is given by `ord_status`."""
    ord_status = given.pop("ord_status", OrdStatus.NEW)
    cum_qty = given.pop("cum_qty", 0)
    status = OrderStatus(order=order or an_order(), ord_status=ord_status, cum_qty=cum_qty)
    return OrderState(intent_id=intent_id, status=status, **given)


def a_venue_order(exchange_order_id: str, client_order_id: str, **given: Any) -> VenueOrder:
    """A live venue order of a state."""
    fields: dict[str, Any] = {"quantity": 100, "price": 10, "live": True, "ord_status": OrdStatus.NEW, "cum_qty": 0}
    return VenueOrder(exchange_order_id=exchange_order_id, client_order_id=client_order_id, **{**fields, **given})


_seconds = itertools.count(1)


def a_report(
    exec_type: Any, *, order_id: str | None = "o1", client_id: str | None = "c1", **given: Any
) -> ExecutionReport:
    """A report about an order, each with a later venue time than the one before."""
    fields: dict[str, Any] = {
        "symbol_id": "BTCUSDT",
        "side": Side.BUY,
        "exchange_order_id": order_id,
        "client_order_id": client_id,
        "transact_time_ns": next(_seconds) * NS_PER_S,
    }
    return ExecutionReport(exec_type=exec_type, **{**fields, **given})


async def intent_ids(world: StoreWorld, *, symbol_id: str | None = None, group_id: str | None = None) -> list[str]:
    """What the intent store lists."""
    return [intent.intent_id for intent in await world.intents.list_intents(symbol_id, group_id)]


async def state_ids(
    world: StoreWorld, *, symbol_id: str | None = None, status: ReconciliationStatus | None = None
) -> list[str]:
    """What the store of order states lists."""
    return [state.intent_id for state in await world.actual.list_order_states(symbol_id, status)]


A_RICH_STATE = a_state(
    ord_status=OrdStatus.PARTIALLY_FILLED,
    cum_qty=40,
    exchange_order_id="o2",
    client_order_id="c2",
    reconciliation_status=ReconciliationStatus.BACKING_OFF,
    observed_generation=3,
    attempts=(
        Attempt(
            number=2,
            kind=AttemptKind.SUBMIT,
            position=4,
            outcome=AttemptOutcome.DEAD,
            client_order_id="c1",
            generation=2,
            list_look_ended_ns=4,
        ),
        Attempt(
            number=3,
            kind=AttemptKind.CANCEL,
            position=5,
            outcome=AttemptOutcome.UNKNOWN,
            client_order_id="c3",
            target_client_order_id="c2",
        ),
    ),
    venue_orders=(
        a_venue_order("o1", "c1", live=False, ord_status=OrdStatus.CANCELED, cum_qty=10, final_cum_qty=10),
        a_venue_order("o2", "c2", cum_qty=30, inferred_qty=5, first_seen_ns=8, last_seen_ns=9, solicited=True),
    ),
    failures=2,
    failed_generation=1,
    not_before_ns=77,
    last_sync_at=1_699_999_999.5,
)
"""A state with something in every field."""
