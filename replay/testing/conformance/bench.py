"""What a case works with: a connected adapter, orders of the configured size, a kernel, and the clean-up at the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from kernel import EventSourcedKernel
from kernel.clock import NS_PER_S, SystemClock
from kernel.errors import KernelError, OutcomeUnknown, Rejected, VenueError
from kernel.order_spec import OrderType, Side, StandardOrder, SymbolMetadata
from kernel.plan import Nothing
from kernel.settings import KernelSettings
from kernel.venues.base import CancelRequest, ExecutionReport, SubmitRequest, Venue, VenueCapabilities, VenueSnapshot
from replay.host.bootstrap import open_kernel
from replay.testing.conformance.faulty_venue import FaultyVenue
from replay.testing.conformance.target import Target

POLL_S = 0.05
CLOCK = SystemClock()
SETTINGS = KernelSettings(
    relist_interval_s=1,
    order_age_s_max=3,
    resync_interval_s=0.5,
    backoff_s_max=2,
    settle_backoff_s_max=1,
    reconnect_s_max=1,
)


class NotObservable(Exception):
    """The account or the symbol gives a case nothing to observe, as where the symbol takes no market orders."""


class Bench:
    """A connected adapter, for one case."""

    def __init__(self, target: Target, scratch: Path) -> None:
        self.target = target
        self.config = target.config
        self.scratch = scratch
        self.venue = FaultyVenue(target.venue())
        self.reports: list[ExecutionReport] = []
        """What the stream brought, in order."""
        self.symbol: SymbolMetadata
        self._names = itertools.count(1)
        self._prefix = f"k{CLOCK.now_ns() // 1_000_000 % 2**32:x}"
        self._submitted: list[SubmitRequest] = []
        self.open_before: set[str | None] = set()
        """Venue ids of the orders that were open when the case began."""
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        symbols = {item.symbol_id: item for item in await self.venue.symbols()}
        if self.config.symbol not in symbols:
            raise KernelError(f"the venue has no symbol {self.config.symbol}: set `symbol` in the configuration")
        self.symbol = symbols[self.config.symbol]
        self.open_before = {report.exchange_order_id for report in (await self.snapshot()).open_orders}
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._cancel_what_is_open()
        finally:
            await self.close()

    @property
    def polled(self) -> bool:
        """True if the adapter has no stream, so that an end is known from lists only."""
        return "stream" in self.config.remove

    @property
    def capabilities(self) -> VenueCapabilities:
        return self.venue.capabilities

    # the session

    async def connect(self) -> None:
        """Open a session and read its stream."""
        await self.venue.connect()
        self._listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        await self.venue.close()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        async for report in self.venue.reports():
            if report is not None:
                self.reports.append(report)
                self.venue.recorded(report)

    async def snapshot(self, *, since_ns: int | None = None) -> VenueSnapshot:
        return await self.venue.snapshot(
            CLOCK.now_ns() - 60 * NS_PER_S if since_ns is None else since_ns, [self.config.symbol]
        )

    async def plain_snapshot(self) -> VenueSnapshot:
        """Return what the adapter lists when no ability is taken away."""
        full = replace(self.target, config=self.config.model_copy(update={"remove": frozenset()})).venue()
        await full.connect()
        try:
            return await full.snapshot(CLOCK.now_ns() - 60 * NS_PER_S, [self.config.symbol])
        finally:
            await full.close()

    def deadly(self) -> FaultyVenue:
        """Return an adapter that kills this process when the venue has executed a submit."""
        venue = FaultyVenue(self.target.venue())

        def kill(name: str) -> None:
            if name == "submit":
                os.kill(os.getpid(), signal.SIGKILL)

        venue.after = kill
        return venue

    async def eventually(self, what: str, holds: Callable[[], Awaitable[bool]] | Callable[[], bool]) -> None:
        """Wait until something holds; `AssertionError` after the configured timeout."""
        try:
            async with asyncio.timeout(self.config.timeout_s):
                while True:
                    found = holds()
                    if found if isinstance(found, bool) else await found:
                        return
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise AssertionError(f"{what}: not within {self.config.timeout_s:g} s") from None

    # orders

    def new_id(self) -> str:
        """Return a client order id that no case used before."""
        return f"{self._prefix}x{next(self._names)}"

    def price(self, price: Decimal) -> int:
        ticks = max(1, self.symbol.tick_size)
        return self.symbol.price_from_decimal(price) // ticks * ticks

    def order(self, order_type: OrderType = OrderType.LIMIT, side: Side = Side.BUY, **terms: Any) -> StandardOrder:
        """Return an order of the configured quantity; a limit order to buy rests."""
        given: dict[str, Any] = {"quantity": self.symbol.quantity_from_decimal(self.config.quantity)}
        if order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT):
            given["price"] = self.price(self.config.rest_price)
        return StandardOrder(symbol_id=self.symbol.symbol_id, side=side, order_type=order_type, **(given | terms))

    def largest_order(self) -> StandardOrder:
        """Return the largest order to buy that the symbol takes; no account of a test can pay for it."""
        order, lot = self.order(), max(1, self.symbol.lot_size)
        most = self.symbol.max_quantity
        if self.symbol.max_notional is not None and order.price:
            most = min(most, self.symbol.max_notional // order.price)
        return self.order(quantity=most // lot * lot)

    async def submit(
        self, order: StandardOrder | None = None, *, client_order_id: str | None = None, stamp_ns: int | None = None
    ) -> ExecutionReport:
        """Place an order; by default one that rests."""
        stamp_ns = CLOCK.now_ns() if stamp_ns is None else stamp_ns
        window_ns = self.capabilities.validity_window_ns
        request = SubmitRequest(
            client_order_id=client_order_id or self.new_id(),
            order=order or self.order(),
            stamp_ns=stamp_ns,
            valid_until_ns=None if window_ns is None else stamp_ns + window_ns,
        )
        self._submitted.append(request)
        return await self.venue.submit(request)

    def cancel_request(self, client_order_id: str | None, exchange_order_id: str | None) -> CancelRequest:
        now_ns, window_ns = CLOCK.now_ns(), self.capabilities.validity_window_ns
        return CancelRequest(
            client_order_id=self.new_id(),
            symbol_id=self.config.symbol,
            target_client_order_id=client_order_id or "",
            target_exchange_order_id=exchange_order_id,
            stamp_ns=now_ns,
            valid_until_ns=None if window_ns is None else now_ns + window_ns,
        )

    async def cancel(self, report: ExecutionReport) -> ExecutionReport:
        return await self.venue.cancel(self.cancel_request(report.client_order_id, report.exchange_order_id))

    async def is_listed(self, report: ExecutionReport) -> bool:
        listed = (await self.snapshot()).open_orders
        return any(item.exchange_order_id == report.exchange_order_id for item in listed)

    async def trade(self) -> ExecutionReport:
        """Buy the configured quantity at the market; returns the report of the first trade."""
        if OrderType.MARKET not in self.symbol.order_types:
            raise NotObservable("the symbol takes no market orders")
        answer = await self.submit(self.order(OrderType.MARKET))
        trades: list[ExecutionReport] = []

        async def traded() -> bool:
            known = [*self.reports, answer, *(await self.snapshot()).fills]
            trades[:] = [
                item
                for item in known
                if item.fill_key is not None and item.exchange_order_id == answer.exchange_order_id
            ]
            return bool(trades)

        await self.eventually("a market order trades", traded)
        return trades[0]

    async def _cancel_what_is_open(self) -> None:
        """Cancel every order of this case that is open: none is ever left behind."""
        venue = self.target.venue()
        await venue.connect()
        try:
            for request in [*self._submitted] if not self.capabilities.lists_open_orders else []:
                with contextlib.suppress(VenueError):
                    await venue.cancel(self.cancel_request(request.client_order_id, None))
            await self.eventually("every order of the case is canceled", lambda: self._none_is_open(venue))
        finally:
            await venue.close()

    async def _none_is_open(self, venue: Venue) -> bool:
        listed = (await venue.snapshot(CLOCK.now_ns(), [self.config.symbol])).open_orders
        ours = [item for item in listed if item.exchange_order_id not in self.open_before]
        for item in ours:
            with contextlib.suppress(OutcomeUnknown, Rejected):
                await venue.cancel(self.cancel_request(item.client_order_id, item.exchange_order_id))
        return not ours

    # a kernel

    @asynccontextmanager
    async def kernel(self, venue: FaultyVenue | None = None, **settings: Any) -> AsyncIterator[EventSourcedKernel]:
        """Run a kernel at the venue until the block ends; its log is the case's, so that a second one continues it."""
        async with open_kernel(
            f"sqlite:///{self.scratch}/kernel.db",
            exchange_id="conformance",
            venue=venue or FaultyVenue(self.target.venue()),
            settings=SETTINGS.model_copy(update=settings),
        ) as kernel:
            await kernel.wait_ready(self.config.timeout_s)
            yield kernel

    async def converged(self, kernel: EventSourcedKernel) -> None:
        """Wait until no intent has anything left to do."""
        assert kernel.engine.at_venue is not None, "a kernel of a case has a venue"
        plan = kernel.engine.at_venue.plan

        async def nothing_planned() -> bool:
            intents = await kernel.get_all_intents()
            return all([isinstance(await plan(intent.intent_id), Nothing) for intent in intents])

        await self.eventually("the plan of every intent is empty", nothing_planned)

    async def orders_at_venue(self, kernel: EventSourcedKernel, intent_id: str) -> int:
        """Return the number of venue orders that the log shows for an intent."""
        return len((await kernel.get_order_state(intent_id)).venue_orders)
