"""Helpers for contract tests of venues: the paper exchange in the form under test, its reports, and waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from kernel.clock import SystemClock
from kernel.venues import ExecutionReport, PaperVenue
from tests.paper_world import PaperWorld

CLOCK = SystemClock()
SHORT_S = 0.3
"""Timeout of calls that never get an answer."""
MakeWorld = Callable[..., Awaitable[PaperWorld]]


async def take(venue: PaperVenue, count: int) -> list[ExecutionReport]:
    """Return the next reports of a venue's current session."""
    stream = venue.reports()
    return [await asyncio.wait_for(anext(stream), 60) for _ in range(count)]


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.005)


def orders_of(truth: dict[str, Any], client_order_id: str) -> list[dict[str, Any]]:
    """Return the exchange's orders with a client order id."""
    return [order for order in truth["orders"] if order["client_order_id"] == client_order_id]
