"""Help for tests with a paper exchange: orders in few words, a clock set by hand, and one exchange in both its forms."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from kernel.clock import NS_PER_S, Clock
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.venues import CancelRequest, PaperVenue, SubmitRequest
from kernel.venues.paper_config import PaperConfig, PaperExchangeOptions
from kernel.venues.paper_exchange import PaperExchange
from kernel.venues.paper_faults import FaultSource
from kernel.venues.paper_server import PaperServer

SYMBOL = "BTCUSDT"
LAST = 6_180_000
"""Last price before the tape moves, at the price scale."""
LOT = 1_000
COIN = 10**8
BUY, SELL = Side.BUY, Side.SELL


class HandClock:
    """A clock that stands still until it is set forward."""

    def __init__(self, now_ns: int = 1_700_000_000 * NS_PER_S) -> None:
        self.ns = now_ns

    def now_ns(self) -> int:
        return self.ns

    async def sleep_until(self, instant_ns: int) -> None:
        self.ns = max(self.ns, instant_ns)

    def forward(self, seconds: float) -> None:
        self.ns += round(seconds * NS_PER_S)


def limit(side: Side = BUY, quantity: int = COIN, price: int = LAST - 100_000, **terms: Any) -> StandardOrder:
    """A LIMIT order in BTCUSDT; by default one that rests far below the market."""
    terms = {"symbol_id": SYMBOL, "order_type": OrderType.LIMIT} | terms
    return StandardOrder(side=side, quantity=quantity, price=price, **terms)


def market(side: Side = BUY, quantity: int = COIN, **terms: Any) -> StandardOrder:
    """A MARKET order in BTCUSDT."""
    return StandardOrder(symbol_id=SYMBOL, side=side, order_type=OrderType.MARKET, quantity=quantity, **terms)


def submit(client_order_id: str, order: StandardOrder, clock: Clock, *, age_s: float = 0) -> SubmitRequest:
    """A request stamped now, or some seconds ago."""
    stamp_ns = clock.now_ns() - round(age_s * NS_PER_S)
    return SubmitRequest(client_order_id=client_order_id, order=order, stamp_ns=stamp_ns)


def cancel(target: str, clock: Clock, *, request_id: str = "cancel-1", **fields: Any) -> CancelRequest:
    """A cancel of the order under a client order id."""
    return CancelRequest(
        client_order_id=request_id,
        symbol_id=SYMBOL,
        target_client_order_id=target,
        stamp_ns=clock.now_ns(),
        **fields,
    )


class PaperWorld:
    """One exchange, and venues to it in one of the two forms. Use as an async context manager."""

    def __init__(
        self, form: str, clock: Clock, *, config: PaperConfig, faults: FaultSource | None = None, **options: Any
    ) -> None:
        given = {"speed": "step"} | options
        self.form = form
        self.clock = clock
        self.exchange = PaperExchange(PaperExchangeOptions(config=config, **given), clock=clock, faults=faults)
        self.address: str | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> PaperWorld:
        if self.form == "wire":
            server = PaperServer(self.exchange)
            self.address = await server.start("127.0.0.1:0")
            self._stack.push_async_callback(server.stop)
        else:
            await self.exchange.start()
            self._stack.push_async_callback(self.exchange.stop)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def venue(self, *, timeout_s: float = 20.0, connect: bool = True) -> PaperVenue:
        """A venue of its own session, connected; it is closed with the world."""
        shared = None if self.address is not None else self.exchange
        venue = PaperVenue(self.address, exchange=shared, clock=self.clock, timeout_s=timeout_s)
        if connect:
            await venue.connect()
        self._stack.push_async_callback(venue.close)
        return venue


WorldMaker = Callable[..., PaperWorld]
