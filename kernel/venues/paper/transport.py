"""How a `PaperVenue` reaches its exchange, and the way within one process.

`Transport` is what `paper` needs of a way; `LocalTransport` is the way to an exchange in the same process,
`paper_client` has the way over a socket. Made and called by `PaperVenue` alone. Every way raises `VenueError`s only,
and ends its stream of reports when its session ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from kernel.clock import NS_PER_S, Clock
from kernel.errors import NotSent, OutcomeUnknown
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.venues.base import ExecutionReport, RateUsage, VenueCapabilities
from kernel.venues.paper.admin import administer
from kernel.venues.paper.exchange import Answer, ClientSession, NoAnswer, PaperExchange, Request
from kernel.venues.paper.faults import Fault, FaultOperation

T = TypeVar("T")
REPORTS_MAX = 100_000
"""Reports that wait for a reader; one more, and the stream is given up as lost."""


class ReportQueue:
    """Reports on their way to their reader; its end means that the stream is lost."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[ExecutionReport | None] = asyncio.Queue()
        self._ended = False

    def put(self, report: ExecutionReport) -> None:
        """Add one; a reader that is too far behind loses the stream."""
        if self._queue.qsize() >= REPORTS_MAX:
            self.end()
        if not self._ended:
            self._queue.put_nowait(report)

    def end(self) -> None:
        """Nothing more will come. Idempotent."""
        if not self._ended:
            self._ended = True
            self._queue.put_nowait(None)

    async def stream(self) -> AsyncIterator[ExecutionReport]:
        """The reports as they come, until the end."""
        while (report := await self._queue.get()) is not None:
            yield report
        self._queue.put_nowait(None)  # whoever asks again finds the end again


class Transport(Protocol):
    """How a `PaperVenue` reaches its exchange. Raises only `VenueError`s."""

    @property
    def capabilities(self) -> VenueCapabilities:
        """What the exchange can; `NotSent` before that is known."""

    @property
    def rate_usage(self) -> tuple[RateUsage, ...]:
        """The exchange's counters of its rate limits, as the newest answer told them."""

    @property
    def reports(self) -> ReportQueue:
        """The reports of the present session."""

    async def open(self) -> None:
        """Make a session, and end the one before."""

    async def close(self) -> None:
        """End the session."""

    async def call(self, operation: FaultOperation, request: Request, *, timeout_s: float) -> Answer:
        """Ask for an operation and await its answer."""

    async def symbols(self, *, timeout_s: float) -> list[SymbolMetadata]:
        """The symbols."""

    async def assets(self, *, timeout_s: float) -> list[AssetMetadata]:
        """The assets."""

    async def admin(self, op: str, params: dict[str, Any], *, timeout_s: float) -> Any:
        """An operator's act on the exchange itself."""


class LocalTransport:
    """The way to an exchange in the same process."""

    def __init__(self, exchange: PaperExchange | None, *, owned: bool) -> None:
        assert exchange is not None, "there is an exchange, its own or another's"
        self.exchange = exchange
        self.reports = ReportQueue()
        self.reports.end()
        self._owned = owned
        self._session: ClientSession | None = None
        self._lost: asyncio.Event = asyncio.Event()
        self.rate_usage: tuple[RateUsage, ...] = ()

    @property
    def capabilities(self) -> VenueCapabilities:
        return self.exchange.capabilities

    async def open(self) -> None:
        self._drop()
        if self._owned:
            await self.exchange.start()
        if not self.exchange.running:
            raise NotSent("the exchange is not running")
        self.reports, self._lost = ReportQueue(), asyncio.Event()
        queue, lost = self.reports, self._lost

        def ended() -> None:
            queue.end()
            lost.set()

        self._session = ClientSession(queue.put, ended)
        self.exchange.attach(self._session)

    async def close(self) -> None:
        self._drop()
        if self._owned:
            await self.exchange.stop()

    async def call(self, operation: FaultOperation, request: Request, *, timeout_s: float) -> Answer:
        session = self._connected()
        fault = self.exchange.draw(operation, request)
        if fault is None and self.exchange.immediate:
            with self._answering():
                return self.exchange.carry_out(operation, request)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.exchange.spawn(self._carry(session, operation, request, fault, answer))
        return await answer_in_time(answer, self._lost, clock=self.exchange.clock, timeout_s=timeout_s)

    async def symbols(self, *, timeout_s: float) -> list[SymbolMetadata]:
        self._connected()
        with self._answering():
            return self.exchange.symbols()

    async def assets(self, *, timeout_s: float) -> list[AssetMetadata]:
        self._connected()
        with self._answering():
            return self.exchange.assets()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """An answer, a refusal too, tells what the exchange has counted."""
        try:
            yield
        finally:
            self._note_usage()

    def _note_usage(self) -> None:
        if self.exchange.running:
            self.rate_usage = self.exchange.rate_usage

    async def admin(self, op: str, params: dict[str, Any], *, timeout_s: float) -> Any:
        return administer(self.exchange, op, params)

    def _connected(self) -> ClientSession:
        if self._session is None or not self._session.alive:
            raise NotSent("not connected to the exchange")
        return self._session

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self.exchange.detach(session)
            session.drop()

    async def _carry(
        self,
        session: ClientSession,
        operation: FaultOperation,
        request: Request,
        fault: Fault | None,
        answer: asyncio.Future[Answer],
    ) -> None:
        """Run a call to its end whatever becomes of its caller, and put its answer where it may be waited for."""
        try:
            result = await self.exchange.call(session, operation, request, fault)
        except NoAnswer:
            return
        except Exception as error:
            if not answer.done():
                self._note_usage()
                answer.set_exception(error)
            return
        if not answer.done():
            self._note_usage()
            answer.set_result(result)


async def answer_in_time(answer: asyncio.Future[T], lost: asyncio.Event, *, clock: Clock, timeout_s: float) -> T:
    """The answer; `OutcomeUnknown` when the session breaks or the time is over before it comes."""
    broken = asyncio.ensure_future(lost.wait())
    timer = asyncio.ensure_future(clock.sleep_until(clock.now_ns() + round(timeout_s * NS_PER_S)))
    try:
        await asyncio.wait((answer, broken, timer), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        text = "the connection was lost" if broken.done() else f"no answer within {timeout_s} s"
    finally:
        answer.cancel()
        for task in (broken, timer):
            task.cancel()
        await asyncio.gather(broken, timer, return_exceptions=True)
    raise OutcomeUnknown(text)
