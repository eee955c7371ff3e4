"""A leading kernel and its exchange for contract tests of commands: memory log, virtual time, paper exchange in process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec import structs

from kernel import EventSourcedKernel, events
from kernel.clock import LoopClock, SeededIds
from kernel.log import EventLog, open_log
from kernel.models import AttemptKind
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.settings import KernelSettings
from kernel.venues import PaperVenue
from kernel.venues.base import AmendDialect, AmendQuantity
from kernel.venues.paper.faults import FaultPlan
from kernel.venues.paper.matching.config import PaperConfig
from projections.retention.policy import RetentionPolicy
from replay import open_kernel

LOT = 10_000
LAST = 6_180_000
DIALECTS: dict[str, dict[str, Any]] = {
    "none": {},
    "in place": {"amend": AmendDialect.IN_PLACE},
    "in place, remaining": {"amend": AmendDialect.IN_PLACE, "amend_quantity": AmendQuantity.REMAINING},
    "replace": {"amend": AmendDialect.CANCEL_REPLACE},
    "replace, not atomic": {"amend": AmendDialect.CANCEL_REPLACE, "amend_atomic": False},
}
virtual_time = pytest.mark.looptime
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def ask(lots: int = 10, price: int = LAST + 100_000) -> StandardOrder:
    """Return a sell order behind the market."""
    return structs.replace(bid(lots, price), side=Side.SELL)


def bid(lots: int = 10, price: int = LAST - 100_000) -> StandardOrder:
    """Return a buy order behind the market."""
    return StandardOrder(
        symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=lots * LOT, price=price
    )


@dataclass
class Bench:
    """A leading kernel and its exchange."""

    kernel: EventSourcedKernel
    log: EventLog
    venue: PaperVenue
    faults: FaultPlan

    async def works(self) -> list[tuple[int, int, int]]:
        """Return quantity, filled quantity and price of each open order at the exchange."""
        orders = (await self.venue.truth())["orders"]
        return [
            (order["quantity"], order["cum_qty"], order["price"])
            for order in orders
            if order["status"] in ("NEW", "PARTIALLY_FILLED")
        ]

    async def sends(self) -> list[tuple[AttemptKind, int]]:
        """Return kind and quantity of each attempt of the intent `mine`."""
        found = await self.log.read_stream(events.intent_stream("mine"))
        return [(event.kind, event.order.quantity) for event in found if isinstance(event, events.AttemptStarted)]


@asynccontextmanager
async def a_bench(
    dialect: str = "in place",
    *,
    settings: KernelSettings | None = None,
    keeping: RetentionPolicy | None = None,
    **config: Any,
) -> AsyncIterator[Bench]:
    """Yield a ready kernel at an exchange with this dialect."""
    clock, faults = LoopClock(), FaultPlan()
    paper = {"ladder_levels": 0, "first_id": 1} | DIALECTS[dialect] | config
    venue = PaperVenue(tape=(), speed="step", symbol="BTCUSDT", config=PaperConfig(**paper), clock=clock, faults=faults)
    async with (
        open_log("memory://", exchange_id="paper", clock=clock, ids=SeededIds(1)) as log,
        open_kernel(log, venue=venue, clock=clock, ids=SeededIds(2), settings=settings, retention=keeping) as kernel,
    ):
        await kernel.wait_ready(10)
        yield Bench(kernel, log, venue, faults)
