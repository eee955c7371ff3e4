"""`ScriptedVenue`: one kernel's connection to a `ScriptedExchange`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from kernel.clock import Clock
from kernel.errors import NotSent, OutcomeUnknown, Rejected, VenueError
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.venues import base
from replay.testing.scripted_exchange import OPENING_BALANCES, Answer, Message, ScriptedExchange, terms_of
from replay.testing.virtual_clock import VirtualClock


class ScriptedVenue(base.Venue):
    """The scripted exchange as a `Venue`. It does not modify orders or manage groups."""

    def __init__(
        self,
        exchange: ScriptedExchange | None = None,
        label: str = "",
        *,
        clock: Clock | None = None,
        capabilities: base.VenueCapabilities | None = None,
    ) -> None:
        """Create an unconnected venue.

        Args:
            exchange: The exchange, if several kernels share one; by default a new one.
            label: The kernel's name in the exchange's trace.
            clock: The clock of a new exchange; by default a `VirtualClock`.
            capabilities: The capabilities of a new exchange; by default `VenueCapabilities()`.
        """
        self.exchange = exchange or ScriptedExchange(clock or VirtualClock(), capabilities)
        self.label = label
        self.dead = False
        self._stream: asyncio.Queue[base.ExecutionReport | None] | None = None
        self._waiting: set[asyncio.Future[Answer]] = set()

    @property
    def capabilities(self) -> base.VenueCapabilities:
        return self.exchange.capabilities

    rate_usage = ()

    async def connect(self) -> None:
        if self.dead or "connect" in self.exchange.script.failing:
            raise NotSent(self.exchange.script.failing.get("connect", "the process was killed"))
        self._stream = asyncio.Queue()
        if self not in self.exchange.venues:
            self.exchange.venues.append(self)

    async def close(self) -> None:
        if self in self.exchange.venues:
            self.exchange.venues.remove(self)
        self.receive(None)
        self._stream = None

    def kill(self) -> None:
        """Simulate the death of the kernel's process: nothing leaves any more, and pending calls get no answer."""
        self.dead = True
        if self in self.exchange.venues:
            self.exchange.venues.remove(self)
        for future in self._waiting:
            if not future.done():
                future.set_exception(OutcomeUnknown("the process was killed"))

    def receive(self, report: base.ExecutionReport | None) -> None:
        """Add a report to the stream; None ends the stream."""
        if self._stream is not None:
            self._stream.put_nowait(report)

    async def reports(self) -> AsyncIterator[base.ExecutionReport]:
        stream = self._stream
        while stream is not None and (report := await stream.get()) is not None:
            yield report

    async def _call(
        self,
        operation: str,
        subject: str,
        execute: Callable[[int | None], Answer],
        *,
        valid_until_ns: int | None = None,
    ) -> Answer:
        script = self.exchange.script
        if self.dead or script.unsendable:
            raise NotSent("the connection is down")
        if operation in script.failing:
            raise OutcomeUnknown(script.failing[operation])
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            self._write(Message(self, operation, subject, execute, valid_until_ns, future))
            answer = await future
        finally:
            self._waiting.discard(future)
        if isinstance(answer, VenueError):
            raise answer
        return answer

    def _write(self, message: Message) -> None:
        message.valid_until_ns = self._valid_until_ns(message.valid_until_ns)
        self.exchange.send(message)

    def _valid_until_ns(self, requested_ns: int | None) -> int | None:
        """Return the end of a request's validity: from the attempt's stamp, or from the write where the driver stamps."""
        window_ns = self.capabilities.validity_window_ns
        if self.capabilities.stamp_is_ours or window_ns is None:
            return requested_ns
        return self.exchange.clock.now_ns() + window_ns

    async def submit(self, request: base.SubmitRequest) -> base.ExecutionReport:
        exchange = self.exchange
        shown = f"{exchange.name(request.client_order_id)} {terms_of(request.order)}"
        report: base.ExecutionReport = await self._call(
            "submit",
            shown,
            lambda until_ns: exchange.do_submit(request, until_ns),
            valid_until_ns=request.valid_until_ns,
        )
        return report

    async def submit_group(self, request: base.SubmitGroupRequest) -> list[base.ExecutionReport]:
        raise Rejected("this venue does not manage groups")

    async def modify(self, request: base.ModifyRequest) -> base.ExecutionReport:
        raise Rejected("this venue does not modify orders")

    async def cancel(self, request: base.CancelRequest) -> base.ExecutionReport:
        exchange = self.exchange
        target = request.target_exchange_order_id or exchange.name(request.target_client_order_id)
        report: base.ExecutionReport = await self._call(
            "cancel",
            f"{target} by {exchange.name(request.client_order_id)}",
            lambda until_ns: exchange.do_cancel(request, until_ns),
            valid_until_ns=request.valid_until_ns,
        )
        return report

    async def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> base.ExecutionReport | None:
        if client_order_id and not self.capabilities.lookup:
            raise AssertionError("the kernel queried a client order id although the venue declares `lookup=False`")
        exchange = self.exchange
        report: base.ExecutionReport | None = await self._call(
            "order",
            exchange.name(client_order_id or "") or str(exchange_order_id),
            lambda _: exchange.do_order(client_order_id, exchange_order_id, self.label),
        )
        return report

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> base.VenueSnapshot:
        began_ns = self.exchange.clock.now_ns()
        open_orders, fills, balances = await self._call(
            "snapshot", "", lambda _: self.exchange.do_snapshot(since_ns, self.label)
        )
        partial = self.exchange.script.partial
        return base.VenueSnapshot(
            open_orders=() if partial else open_orders,
            fills=() if partial else fills,
            balances=None if partial else balances,
            complete=not partial,
            open_orders_complete=not partial,
            fills_complete=not partial,
            began_ns=began_ns,
            ended_ns=self.exchange.clock.now_ns(),
            text="a page is missing" if partial else "",
        )

    async def time_ns(self) -> int:
        return self.exchange.clock.now_ns()

    async def symbols(self) -> list[SymbolMetadata]:
        return [self.exchange.symbol]

    async def assets(self) -> list[AssetMetadata]:
        return [AssetMetadata(asset_id=name, decimals=0) for name in OPENING_BALANCES]
