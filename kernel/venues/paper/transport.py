"""The connection of a `PaperVenue` to a paper exchange in the same process, and what it shares with `client`.

A transport raises only `VenueError`s, and its stream of reports ends with its session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from kernel.clock import NS_PER_S, Clock
from kernel.errors import NotSent, OutcomeUnknown
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.venues.base import ExecutionReport, RateUsage, VenueCapabilities
from kernel.venues.paper.admin import administer
from kernel.venues.paper.exchange import Answer, ClientSession, NoAnswer, PaperExchange, Request
from kernel.venues.paper.faults import Fault, FaultOperation

T = TypeVar("T")
REPORTS_MAX = 100_000
"""Reports that may wait for a reader; the stream counts as lost beyond this."""


class ReportQueue:
    """The stream of reports of one session; its end means that the stream is lost."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[ExecutionReport | None] = asyncio.Queue()
        self._ended = False

    def put(self, report: ExecutionReport) -> None:
        """Add a report; a reader that is too far behind loses the stream."""
        if self._queue.qsize() >= REPORTS_MAX:
            self.end()
        if not self._ended:
            self._queue.put_nowait(report)

    def end(self) -> None:
        """End the stream. Idempotent."""
        if not self._ended:
            self._ended = True
            self._queue.put_nowait(None)

    async def stream(self) -> AsyncIterator[ExecutionReport]:
        while (report := await self._queue.get()) is not None:
            yield report
        self._queue.put_nowait(None)  # a second reader finds the end again


class LocalTransport:
    """A client's connection to an exchange in the same process."""

    def __init__(self, exchange: PaperExchange, *, owned: bool) -> None:
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

    async def time_ns(self, *, timeout_s: float) -> int:
        self._connected()
        return self.exchange.clock.now_ns()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Update the rate-limit counters after an answer, refusals included."""
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
            self.exchange.end(session)

    async def _carry(
        self,
        session: ClientSession,
        operation: FaultOperation,
        request: Request,
        fault: Fault | None,
        answer: asyncio.Future[Answer],
    ) -> None:
        """Complete a call even if its caller is canceled, and publish its answer."""
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
    """Return the answer; raises `OutcomeUnknown` if the session breaks or the timeout passes first."""
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
