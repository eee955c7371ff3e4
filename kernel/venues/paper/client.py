"""The way to a paper exchange in another process: the client's end of the socket.

Made by `PaperVenue` when it is given an address. What was never written is `NotSent`; what was, and has no answer that can
be read, is `OutcomeUnknown`. It does not reconnect: that is the caller's decision, by `open`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import kernel.venues.paper.protocol as paper_wire
from kernel.clock import Clock
from kernel.errors import KernelError, NotSent, OutcomeUnknown, Rejected, VenueError
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.venues.base import RateUsage, VenueCapabilities
from kernel.venues.paper.exchange import Answer, Request
from kernel.venues.paper.faults import Fault, FaultOperation
from kernel.venues.paper.transport import ReportQueue, answer_in_time

logger = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 10.0
"""How long an exchange may take to say hello."""


class SocketTransport:
    """The way to an exchange over a socket."""

    def __init__(self, address: str, *, clock: Clock, faults: Iterable[Fault] = ()) -> None:
        self.reports = ReportQueue()
        self.reports.end()
        self._address = address
        self._where = paper_wire.parse_address(address)
        self._clock = clock
        self._faults = list(faults)
        self._capabilities: VenueCapabilities | None = None
        self._socket: _SocketConnection | None = None

    @property
    def capabilities(self) -> VenueCapabilities:
        if self._capabilities is None:
            raise NotSent("the exchange was not asked yet what it can: connect first")
        return self._capabilities

    @property
    def rate_usage(self) -> tuple[RateUsage, ...]:
        return self._socket.rate_usage if self._socket is not None else ()

    async def open(self) -> None:
        await self.close()
        reports = ReportQueue()
        try:
            wire = _SocketConnection(*await self._connection(), reports=reports, clock=self._clock)
        except OSError as error:
            raise NotSent(f"no exchange at {self._address}: {error}") from error
        try:
            hello = await wire.ask("hello", {}, timeout_s=OPEN_TIMEOUT_S)
            self._capabilities = VenueCapabilities.model_validate(hello["capabilities"])
            await wire.ask("subscribe", {}, timeout_s=OPEN_TIMEOUT_S)
            while self._faults:
                await wire.ask("fault", {"fault": self._faults[0].model_dump(mode="json")}, timeout_s=OPEN_TIMEOUT_S)
                self._faults.pop(0)
        except BaseException as error:  # who is cancelled here leaves no connection behind either
            await wire.close()
            if isinstance(error, (KernelError, ValueError, KeyError, TypeError)):
                raise NotSent(f"no paper exchange at {self._address}: {error}") from error
            raise
        self.reports, self._socket = reports, wire

    async def close(self) -> None:
        wire, self._socket = self._socket, None
        if wire is not None:
            await wire.close()

    async def call(self, operation: FaultOperation, request: Request, *, timeout_s: float) -> Answer:
        result = await self._ask(operation, paper_wire.params_of(operation, request), timeout_s=timeout_s)
        try:
            answer = paper_wire.answer_of(operation, result)
            paper_wire.check_concerns(request, answer)
        except ValueError as error:
            raise OutcomeUnknown(f"the answer cannot be read: {paper_wire.json_value(error)}") from error
        return answer

    async def symbols(self, *, timeout_s: float) -> list[SymbolMetadata]:
        result = await self._ask("symbols", {}, timeout_s=timeout_s)
        try:
            return [SymbolMetadata.model_validate(value) for value in result]
        except (ValueError, TypeError) as error:
            raise OutcomeUnknown(f"the answer cannot be read: {error}") from error

    async def assets(self, *, timeout_s: float) -> list[AssetMetadata]:
        result = await self._ask("assets", {}, timeout_s=timeout_s)
        try:
            return [AssetMetadata.model_validate(value) for value in result]
        except (ValueError, TypeError) as error:
            raise OutcomeUnknown(f"the answer cannot be read: {error}") from error

    async def admin(self, op: str, params: dict[str, Any], *, timeout_s: float) -> Any:
        return await self._connected().ask(op, params, timeout_s=timeout_s)

    async def _ask(self, op: str, params: dict[str, Any], *, timeout_s: float) -> Any:
        """An operation of the port: whatever is no venue error becomes one."""
        wire = self._connected()
        try:
            return await wire.ask(op, params, timeout_s=timeout_s)
        except VenueError:
            raise
        except KernelError as error:
            raise Rejected(str(error)) from error

    def _connected(self) -> _SocketConnection:
        if self._socket is None or not self._socket.alive:
            raise NotSent(f"not connected to the exchange at {self._address}")
        return self._socket

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        limit = paper_wire.ANSWER_BYTES_MAX
        if isinstance(self._where, str):
            return await asyncio.open_unix_connection(self._where, limit=limit)
        host, port = self._where
        return await asyncio.open_connection(host, port, limit=limit)


class _SocketConnection:
    """One connection: requests out, answers and reports in."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, reports: ReportQueue, clock: Clock
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._reports = reports
        self._clock = clock
        self._lost = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self.rate_usage: tuple[RateUsage, ...] = ()
        """What the exchange has counted, as its newest answer told."""
        self._task = asyncio.get_running_loop().create_task(self._receive())

    @property
    def alive(self) -> bool:
        """Whether something written now may arrive."""
        return not self._lost.is_set() and not self._writer.transport.is_closing()

    async def ask(self, op: str, params: dict[str, Any], *, timeout_s: float) -> Any:
        """Send a request and await its result; raises the error that the exchange answers."""
        if not self.alive:
            raise NotSent("the connection to the exchange is lost")
        self._last_id += 1
        request_id = self._last_id
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        try:
            self._writer.write(paper_wire.line({"id": request_id, "op": op, "params": params}))
            return await answer_in_time(answer, self._lost, clock=self._clock, timeout_s=timeout_s)
        finally:
            del self._waiting[request_id]

    async def close(self) -> None:
        """End the connection; whatever waits has no answer."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with suppress(OSError):
            self._writer.close()
            await self._writer.wait_closed()

    async def _receive(self) -> None:
        try:
            while (line := await self._reader.readline()).endswith(b"\n"):
                self._take(json.loads(line))
        except (OSError, ValueError, RecursionError) as error:
            logger.debug("the connection to the exchange is lost: %s", error)
        finally:
            self._lost.set()
            self._reports.end()
            self._writer.close()

    def _take(self, message: Any) -> None:
        """Hand a message to whoever waits for it. `ValueError` for what is none: who sends that is no exchange."""
        if not isinstance(message, dict):
            raise ValueError("a message is a JSON object")
        if "report" in message:
            self._reports.put(paper_wire.decode_report(message["report"]))
            return
        if "usage" in message:
            self.rate_usage = paper_wire.usage_of(message["usage"])
        request_id = message.get("id")
        answer = self._waiting.get(request_id) if type(request_id) is int else None
        if answer is None or answer.done():
            return  # its asker gave up
        if "error" in message:
            answer.set_exception(paper_wire.error_of(message["error"]))
        else:
            answer.set_result(message.get("result"))
