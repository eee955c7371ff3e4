"""Helpers for tests with a paper exchange: orders, a manual clock, an engine alone (`Bench`), and one exchange in process
or behind a socket (`PaperWorld`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from kernel.clock import NS_PER_S, Clock
from kernel.order_spec import OcoMode, OrderType, Side, StandardOrder
from kernel.venues import (
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    PaperVenue,
    SubmitGroupRequest,
    SubmitRequest,
)
from kernel.venues.paper.exchange import PaperExchange
from kernel.venues.paper.faults import FaultSource
from kernel.venues.paper.matching.config import PaperConfig, PaperExchangeOptions, TapeTrade
from kernel.venues.paper.matching.engine import PaperEngine
from kernel.venues.paper.matching.journal import Journal
from kernel.venues.paper.server import PaperServer

SYMBOL = "BTCUSDT"
LAST = 6_180_000
"""Last price before the tape moves, at the price scale."""
LOT = 1_000
COIN = 10**8
USDT = 10**8
BUY, SELL = Side.BUY, Side.SELL


class HandClock:
    """A clock that stands still until a test sets it forward."""

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
    """A request stamped now or some seconds ago."""
    stamp_ns = clock.now_ns() - round(age_s * NS_PER_S)
    return SubmitRequest(client_order_id=client_order_id, order=order, stamp_ns=stamp_ns)


def cancel(target: str, clock: Clock, *, request_id: str = "cancel-1", **fields: Any) -> CancelRequest:
    """A cancel of the order with a client order id."""
    return CancelRequest(
        client_order_id=request_id,
        symbol_id=SYMBOL,
        target_client_order_id=target,
        stamp_ns=clock.now_ns(),
        **fields,
    )


def modify(
    target: str, order: StandardOrder, clock: Clock, *, request_id: str = "amend-1", **fields: Any
) -> ModifyRequest:
    """An amend of the order with a client order id."""
    return ModifyRequest(
        client_order_id=request_id,
        symbol_id=SYMBOL,
        target_client_order_id=target,
        order=order,
        stamp_ns=clock.now_ns(),
        **fields,
    )


def group(mode: OcoMode, clock: Clock, **orders: StandardOrder) -> SubmitGroupRequest:
    """A group of orders, by client order id."""
    return SubmitGroupRequest(
        group_client_id="group",
        mode=mode,
        orders=tuple(submit(name, order, clock) for name, order in orders.items()),
        stamp_ns=clock.now_ns(),
    )


class Bench:
    """An engine on a manual clock, with all its reports."""

    def __init__(self, journal: Journal | None = None, clock: HandClock | None = None, **config: Any) -> None:
        self.clock = clock or HandClock()
        self.reports: list[ExecutionReport] = []
        self._seen = 0
        self.engine = PaperEngine(
            PaperConfig(**({"first_id": 1} | config)),
            clock=self.clock,
            journal=journal,
            on_report=self.reports.append,
        )

    def submit(self, client_order_id: str, order: StandardOrder, *, age_s: float = 0) -> ExecutionReport:
        return self.engine.submit(submit(client_order_id, order, self.clock, age_s=age_s))

    def cancel(self, target: str, **fields: Any) -> ExecutionReport:
        return self.engine.cancel(cancel(target, self.clock, **fields))

    def modify(self, target: str, order: StandardOrder, **fields: Any) -> ExecutionReport:
        return self.engine.modify(modify(target, order, self.clock, **fields))

    def group(self, mode: OcoMode, **orders: StandardOrder) -> tuple[ExecutionReport, ...]:
        return self.engine.submit_group(group(mode, self.clock, **orders))

    def status(self, client_order_id: str) -> ExecutionReport:
        found = self.engine.order(SYMBOL, client_order_id, None)
        assert found is not None
        return found

    def tape(self, price: int, quantity: int, *, at_s: float = 0) -> None:
        time_ns = self.clock.now_ns() + round(at_s * NS_PER_S)
        self.engine.tape_trade(SYMBOL, TapeTrade(1, price, quantity, time_ns, buyer_is_maker=True))

    def new_reports(self) -> list[tuple[str, str]]:
        """Return (client order id, exec type) of each report since the last call."""
        new, self._seen = self.reports[self._seen :], len(self.reports)
        return [(str(report.orig_client_order_id or report.client_order_id), str(report.exec_type)) for report in new]

    def kinds(self) -> list[str]:
        return [str(report.exec_type) for report in self.reports]

    def free(self, asset: str) -> int:
        return self.engine.balances()[asset].free


@contextmanager
def recorded(path: Path, **config: Any) -> Iterator[Bench]:
    """A bench with a journal, which is closed at the end as by a kill."""
    journal = Journal(path)
    try:
        yield Bench(journal, **config)
    finally:
        journal.close()


class PaperWorld:
    """One exchange with venues in process or over a socket. An async context manager."""

    def __init__(
        self, form: str, clock: Clock, *, config: PaperConfig, faults: FaultSource | None = None, **options: Any
    ) -> None:
        self.form = form
        self.clock = clock
        self.exchange = PaperExchange(
            PaperExchangeOptions(config=config, **{"speed": "step"} | options), clock=clock, faults=faults
        )
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
        """A venue with its own session, closed with the world."""
        shared = None if self.address is not None else self.exchange
        venue = PaperVenue(self.address, exchange=shared, clock=self.clock, timeout_s=timeout_s)
        if connect:
            await venue.connect()
        self._stack.push_async_callback(venue.close)
        return venue


WorldMaker = Callable[..., PaperWorld]
