"""One kernel's port to the scripted exchange: an implementation of `kernel.venues.Venue`, and what a test can do to it.

See `scripted_exchange` for the exchange itself. A port can be paused with its process, at any point, and be killed with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from kernel.clock import Clock
from kernel.errors import NotSent, OutcomeUnknown, Rejected, VenueError
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.venues.base import (
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    SubmitRequest,
    VenueCapabilities,
    VenueSnapshot,
)
from replay.testing.scripted_exchange import OPENING, Answer, Message, ScriptedExchange, terms_of
from replay.testing.virtual_clock import VirtualClock


class ScriptedVenue:
    """One kernel's port to the exchange; implements `kernel.venues.Venue`."""

    def __init__(
        self,
        exchange: ScriptedExchange | None = None,
        label: str = "",
        *,
        clock: Clock | None = None,
        capabilities: VenueCapabilities | None = None,
    ) -> None:
        """A port.

        Args:
            exchange: The exchange, where several kernels share one; by default a new one.
            label: The kernel's name in the exchange's trace.
            clock: The clock of a new exchange; by default a `VirtualClock`.
            capabilities: What a new exchange can do; by default what `VenueCapabilities()` says.
        """
        self.exchange = exchange or ScriptedExchange(clock or VirtualClock(), capabilities)
        self.label = label
        self.dead = False
        self.before_write: Callable[[str], None] = lambda operation: None
        """Called when a request is about to leave, after the kernel's last check."""
        self.may_run = asyncio.Event()
        """Cleared while the process that has this port is paused."""
        self.may_run.set()
        self.audit: Callable[[str], None] = lambda client_order_id: None
        """Called with the client order id of each request that leaves."""
        self._stream: asyncio.Queue[ExecutionReport | None] | None = None
        self._waiting: set[asyncio.Future[Answer]] = set()
        self._late_writes: set[asyncio.Task[None]] = set()

    @property
    def capabilities(self) -> VenueCapabilities:
        """See `Venue.capabilities`."""
        return self.exchange.capabilities

    rate_usage = ()
    """See `Venue.rate_usage`: it tells none."""

    async def connect(self) -> None:
        """See `Venue.connect`."""
        if self.dead or "connect" in self.exchange.script.failing:
            raise NotSent(self.exchange.script.failing.get("connect", "the process is gone"))
        self._stream = asyncio.Queue()
        if self not in self.exchange.venues:
            self.exchange.venues.append(self)

    async def close(self) -> None:
        """See `Venue.close`."""
        if self in self.exchange.venues:
            self.exchange.venues.remove(self)
        self.hear(None)
        self._stream = None

    def kill(self) -> None:
        """The process is gone: nothing leaves any more, nobody waits for an answer."""
        self.dead = True
        self.may_run.set()
        if self in self.exchange.venues:
            self.exchange.venues.remove(self)
        for future in self._waiting:
            future.cancel()

    def hear(self, report: ExecutionReport | None) -> None:
        """A report comes in; None: the stream is lost."""
        if self._stream is not None:
            self._stream.put_nowait(report)

    async def reports(self) -> AsyncIterator[ExecutionReport]:
        """See `Venue.reports`."""
        stream = self._stream
        while stream is not None:
            report = await stream.get()
            await self.may_run.wait()
            if report is None:
                return
            yield report

    async def _call(
        self,
        operation: str,
        subject: str,
        execute: Callable[[int | None], Answer],
        *,
        valid_until_ns: int | None = None,
    ) -> Answer:
        self.before_write(operation)
        script = self.exchange.script
        if self.dead or script.unsendable:
            raise NotSent("the connection is down")
        if operation in script.failing:
            raise OutcomeUnknown(script.failing[operation])
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            message = Message(self, operation, subject, execute, valid_until_ns, future)
            if self.may_run.is_set():
                self._write(message)
            else:
                self._write_on_waking(message)
            answer = await future
        finally:
            self._waiting.discard(future)
        await self.may_run.wait()
        if isinstance(answer, VenueError):
            raise answer
        return answer

    def _write(self, message: Message) -> None:
        message.valid_until_ns = self._valid_until_ns(message.valid_until_ns)
        self.exchange.send(message)

    def _write_on_waking(self, message: Message) -> None:
        """The process stands still between its last check and the write: the first thing it does is to write, whatever
        its timers say by then."""

        async def write() -> None:
            await self.may_run.wait()
            if not self.dead:
                self._write(message)

        task = asyncio.get_running_loop().create_task(write())
        self._late_writes.add(task)
        task.add_done_callback(self._late_writes.discard)

    def _valid_until_ns(self, given_ns: int | None) -> int | None:
        """The end of a request's validity: from the attempt's stamp, or from the write where the driver stamps."""
        window_ns = self.capabilities.validity_window_ns
        if self.capabilities.stamp_is_ours or window_ns is None:
            return given_ns
        return self.exchange.clock.now_ns() + window_ns

    async def submit(self, request: SubmitRequest) -> ExecutionReport:
        """See `Venue.submit`."""
        self.audit(request.client_order_id)
        exchange = self.exchange
        shown = f"{exchange.name(request.client_order_id)} {terms_of(request.order)}"
        report: ExecutionReport = await self._call(
            "submit",
            shown,
            lambda until_ns: exchange.do_submit(request, until_ns),
            valid_until_ns=request.valid_until_ns,
        )
        return report

    async def modify(self, request: ModifyRequest) -> ExecutionReport:
        """See `Venue.modify`."""
        raise Rejected("this venue changes no orders")

    async def cancel(self, request: CancelRequest) -> ExecutionReport:
        """See `Venue.cancel`."""
        self.audit(request.client_order_id)
        exchange = self.exchange
        target = request.target_exchange_order_id or exchange.name(request.target_client_order_id)
        report: ExecutionReport = await self._call(
            "cancel",
            f"{target} by {exchange.name(request.client_order_id)}",
            lambda until_ns: exchange.do_cancel(request, until_ns),
            valid_until_ns=request.valid_until_ns,
        )
        return report

    async def order(self, symbol_id: str, client_order_id: str) -> ExecutionReport | None:
        """See `Venue.order`."""
        if not self.capabilities.lookup:
            raise AssertionError("the kernel asked for an order at a venue without lookup")
        exchange = self.exchange
        report: ExecutionReport | None = await self._call(
            "order", exchange.name(client_order_id), lambda _: exchange.do_order(client_order_id, self.label)
        )
        return report

    async def snapshot(self, since_ns: int) -> VenueSnapshot:
        """See `Venue.snapshot`."""
        began_ns = self.exchange.clock.now_ns()
        open_orders, fills, balances = await self._call(
            "snapshot", "", lambda _: self.exchange.do_snapshot(since_ns, self.label)
        )
        partial = self.exchange.script.partial
        return VenueSnapshot(
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

    async def symbols(self) -> list[SymbolMetadata]:
        """See `Venue.symbols`."""
        return [self.exchange.symbol]

    async def assets(self) -> list[AssetMetadata]:
        """See `Venue.assets`."""
        return [AssetMetadata(asset_id=name, decimals=0) for name in OPENING]
