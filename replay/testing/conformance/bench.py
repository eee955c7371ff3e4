"""The bench of a case: a connected adapter, orders of the configured size, a kernel, and the clean-up at the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from kernel import EventSourcedKernel
from kernel.clock import NS_PER_S, SystemClock
from kernel.errors import KernelError, OutcomeUnknown, VenueError
from kernel.models import OrdStatus
from kernel.order_spec import OrderType, Side, StandardOrder, SymbolMetadata, TimeInForce
from kernel.plan import Nothing
from kernel.settings import KernelSettings
from kernel.venues.base import CancelRequest, ExecutionReport, SubmitRequest, Venue, VenueCapabilities, VenueSnapshot
from replay.audit.verify import verify
from replay.host.bootstrap import open_kernel
from replay.testing.conformance.faulty_venue import FaultyVenue
from replay.testing.conformance.target import Target

POLL_S = 0.05
ENDED = {OrdStatus.CANCELED, OrdStatus.EXPIRED, OrdStatus.REJECTED, OrdStatus.FILLED}
TIMES = 10
"""How often each call that changes nothing is repeated."""
DAY_NS = 86_400 * NS_PER_S
CLOCK = SystemClock()
SETTINGS = KernelSettings(
    relist_interval_s=1,
    order_age_s_max=3,
    resync_interval_s=0.5,
    backoff_s_max=2,
    settle_backoff_s_max=1,
    reconnect_s_max=1,
)
OrderIds = tuple[str | None, str | None]
"""The client order id and the venue's id of an order."""


def shows(reports: Iterable[ExecutionReport], order: ExecutionReport) -> bool:
    return any(item.exchange_order_id == order.exchange_order_id for item in reports)


class NotObservable(Exception):
    """The account or the symbol gives a case nothing to observe, as where the symbol takes no market orders."""


class Bench:
    """A connected adapter, for one case."""

    def __init__(self, target: Target, scratch: Path) -> None:
        self.target = target
        self.config = target.config
        self.scratch = scratch
        self.venue = self.new_venue()
        self.capabilities = VenueCapabilities()
        self.reports: list[ExecutionReport] = []
        """Reports of the stream, in order."""
        self.symbol: SymbolMetadata
        self._names = itertools.count(1)
        self._prefix = f"k{CLOCK.now_ns() // 1_000_000 % 2**32:x}"
        self._open_before: set[str | None] = set()
        """Venue ids of the orders that were open when the case began."""
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        symbols = {item.symbol_id: item for item in await self.venue.symbols()}
        if self.config.symbol not in symbols:
            raise KernelError(f"the venue has no symbol {self.config.symbol}: set `symbol` in the configuration")
        self.symbol = symbols[self.config.symbol]
        async with self._whole_venue() as venue:
            listed = (await self.snapshot(venue=venue)).open_orders
        self._open_before = {report.exchange_order_id for report in listed}
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            async with self._whole_venue() as venue:
                await self._clean_up(venue)
        finally:
            await self.close()

    def new_venue(self) -> FaultyVenue:
        """Return another adapter, whose orders are cleaned up too."""
        return FaultyVenue(self.target.venue(), self.scratch / "sent")

    @asynccontextmanager
    async def _whole_venue(self) -> AsyncIterator[Venue]:
        """Connect an adapter that has all its abilities."""
        venue = self.target.whole().venue()
        await venue.connect()
        try:
            yield venue
        finally:
            await venue.close()

    @property
    def polled(self) -> bool:
        """True if the adapter has no stream, so that an end is known from lists only."""
        return "stream" in self.config.remove

    @property
    def settles(self) -> bool:
        """True if an order whose request or answer was lost is found, or proven absent, without an operator."""
        has = self.capabilities
        return has.validity_window_ns is not None and has.proves_absence and not has.hides_client_ids

    # the session

    async def connect(self) -> None:
        """Open a session and read its stream."""
        await self.venue.connect()
        self.capabilities = self.venue.capabilities
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

    async def snapshot(self, *, venue: Venue | None = None) -> VenueSnapshot:
        """Query the lists, with the trades of the last minute."""
        return await (venue or self.venue).snapshot(CLOCK.now_ns() - 60 * NS_PER_S, [self.config.symbol])

    async def orders_open(self) -> int:
        """Return how many orders of the kit are open at the venue."""
        async with self._whole_venue() as venue:
            return len(await self._open_at(venue))

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

    def price_above(self, trade: ExecutionReport) -> int:
        """Return a price that the market does not reach during a case."""
        ticks, last = max(1, self.symbol.tick_size), trade.last_px or 0
        return min(last * 3 // 2, self.symbol.max_price) // ticks * ticks

    def order(self, order_type: OrderType = OrderType.LIMIT, side: Side = Side.BUY, **terms: Any) -> StandardOrder:
        """Return an order of the configured quantity; a limit order to buy rests."""
        given: dict[str, Any] = {"quantity": self.symbol.quantity_from_decimal(self.config.quantity)}
        if order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT):
            given["price"] = self.price(self.config.rest_price)
        if order_type in (OrderType.STOP, OrderType.STOP_LIMIT):
            given["stop_price"] = self.price(self.config.rest_price)
        if terms.get("time_in_force") is TimeInForce.GTD:
            given["expire_at_ns"] = CLOCK.now_ns() + DAY_NS
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
        return shows((await self.snapshot()).open_orders, report)

    def is_reported(self, report: ExecutionReport) -> bool:
        return shows(self.reports, report)

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

    # the clean-up

    async def _clean_up(self, venue: Venue) -> None:
        """Cancel every order of this case that is open, the kernels' too: none is left behind."""
        if not venue.capabilities.lists_open_orders:
            await self._cancel_all(venue, self._sent())
        await asyncio.sleep(venue.capabilities.read_lag.longest_ns / NS_PER_S)

        async def none_is_open() -> bool:
            with contextlib.suppress(VenueError):
                found = await self._open_at(venue)
                await self._cancel_all(venue, found)
                return not found
            return False

        await self.eventually("every order of the case is canceled", none_is_open)

    async def _cancel_all(self, venue: Venue, orders: list[OrderIds]) -> None:
        for ids in orders:
            with contextlib.suppress(VenueError):
                await venue.cancel(self.cancel_request(*ids))

    def _sent(self) -> list[OrderIds]:
        path = self.scratch / "sent"
        return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []

    async def _open_at(self, venue: Venue) -> list[OrderIds]:
        """Return the orders of this case that may be open; other orders of the account are not the kit's."""
        sent = self._sent()
        listed = await self.snapshot(venue=venue)
        if not venue.capabilities.lists_open_orders or not listed.open_orders_complete:
            return [ids for ids in sent if await self._may_be_open(venue, *ids)]
        names = {name for ids in sent for name in ids if name is not None}
        return [
            (item.client_order_id, item.exchange_order_id)
            for item in listed.open_orders
            if item.exchange_order_id not in self._open_before
            and item.symbol_id == self.config.symbol
            and (item.client_order_id is None or {item.client_order_id, item.exchange_order_id} & names)
        ]

    async def _may_be_open(self, venue: Venue, client_order_id: str | None, exchange_order_id: str | None) -> bool:
        try:
            found = await venue.order(self.config.symbol, client_order_id or None, exchange_order_id)
        except OutcomeUnknown:
            return venue.capabilities.lookup
        return found is not None and found.ord_status not in ENDED

    # a kernel

    @asynccontextmanager
    async def kernel(self, venue: FaultyVenue | None = None) -> AsyncIterator[EventSourcedKernel]:
        """Run a kernel at the venue; its log is the case's, so that a second one continues it.

        At the end of the block its orders are canceled; then nothing may be left to do, and its log is verified.
        """
        async with open_kernel(
            f"sqlite:///{self.scratch}/kernel.db",
            exchange_id="conformance",
            venue=venue or self.new_venue(),
            settings=SETTINGS,
        ) as kernel:
            await kernel.wait_ready(self.config.timeout_s)
            yield kernel
            await kernel.cancel_all_orders()
            await self.converged(kernel)
            for intent in await kernel.get_all_intents():
                orders = (await kernel.get_order_state(intent.intent_id)).venue_orders
                assert not any(item.live for item in orders), f"{intent.intent_id} has a live order"
            report = await verify(kernel.log)
            assert report.ok, "; ".join(map(str, report.problems))

    async def converged(self, kernel: EventSourcedKernel) -> None:
        """Wait until no intent has anything left to do, or only an operator can tell what became of its order."""
        assert kernel.engine.at_venue is not None, "a kernel of a case has a venue"
        plan = kernel.engine.at_venue.plan

        async def left() -> dict[str, str]:
            plans = [(item.intent_id, await plan(item.intent_id)) for item in await kernel.get_all_intents()]
            known = {name for name, step in plans if isinstance(step, Nothing) or self._is_unknown(kernel, name)}
            return {name: step.label for name, step in plans if name not in known}

        async def nothing_planned() -> bool:
            return not await left()

        try:
            await self.eventually("the plan of every intent is empty", nothing_planned)
        except AssertionError as problem:
            found = "; ".join(item.text for item in kernel.state.findings() if item.resolved_at_ns is None)
            raise AssertionError(f"{problem}: left {await left()}, findings: {found or 'none'}") from None

    def _is_unknown(self, kernel: EventSourcedKernel, intent_id: str) -> bool:
        """Return whether an operator must tell the outcome of the intent's order, as no query can."""
        state = kernel.state.observed_order(intent_id)
        if self.settles or state is None or any(item.live for item in state.venue_orders):
            return False
        return state.reconciliation_status == "UNKNOWN"

    async def works(self, kernel: EventSourcedKernel, *intent_ids: str) -> None:
        """Wait until nothing is left to do; each intent has one order then, or none where its outcome is unknown."""
        await self.converged(kernel)
        for intent_id in intent_ids:
            found = len((await kernel.get_order_state(intent_id)).venue_orders)
            assert found == 1 or self._is_unknown(kernel, intent_id), f"{intent_id} has {found} orders"
        assert await self.orders_open() <= len(intent_ids)
