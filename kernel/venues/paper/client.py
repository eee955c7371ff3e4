"""The connection of a `PaperVenue` to a paper exchange in another process.

A request that was never written raises `NotSent`; a written request without a readable answer raises `OutcomeUnknown`. It
does not reconnect: the caller does, by `open`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TypeVar

from kernel.clock import Clock
from kernel.errors import KernelError, NotSent, OutcomeUnknown, Rejected, VenueError
from kernel.order_spec import AssetMetadata, SymbolMetadata
from kernel.values import as_json
from kernel.values.edge import validated
from kernel.venues.base import RateUsage, VenueCapabilities
from kernel.venues.paper import protocol
from kernel.venues.paper.exchange import Answer, Request
from kernel.venues.paper.faults import Fault, FaultOperation
from kernel.venues.paper.transport import ReportQueue, answer_in_time

logger = logging.getLogger(__name__)
M = TypeVar("M", SymbolMetadata, AssetMetadata)

OPEN_TIMEOUT_S = 10.0
"""Timeout of each request of the handshake."""


class SocketTransport:
    """A client's connection to an exchange over a socket."""

    def __init__(self, address: str, *, clock: Clock, faults: Iterable[Fault] = ()) -> None:
        self.reports = ReportQueue()
        self.reports.end()
        self._address = address
        self._where = protocol.parse_address(address)
        self._clock = clock
        self._faults = list(faults)
        self._capabilities: VenueCapabilities | None = None
        self._socket: _SocketConnection | None = None

    @property
    def capabilities(self) -> VenueCapabilities:
        if self._capabilities is None:
            raise NotSent("the exchange's capabilities are not known yet: connect first")
        return self._capabilities

    @property
    def rate_usage(self) -> tuple[RateUsage, ...]:
        return self._socket.rate_usage if self._socket is not None else ()

    async def open(self) -> None:
        await self.close()
        reports = ReportQueue()
        try:
            connection = _SocketConnection(*await self._open_socket(), reports=reports, clock=self._clock)
        except OSError as error:
            raise NotSent(f"cannot reach an exchange at {self._address}: {error}") from error
        try:
            hello = await connection.ask("hello", {}, timeout_s=OPEN_TIMEOUT_S)
            self._capabilities = validated(hello["capabilities"], VenueCapabilities)
            await connection.ask("subscribe", {}, timeout_s=OPEN_TIMEOUT_S)
            while self._faults:
                await connection.ask("fault", {"fault": as_json(self._faults[0])}, timeout_s=OPEN_TIMEOUT_S)
                self._faults.pop(0)
        except BaseException as error:  # a cancellation must not leave the socket open either
            await connection.close()
            if isinstance(error, (KernelError, ValueError, KeyError, TypeError)):
                raise NotSent(f"{self._address} does not answer as a paper exchange: {error}") from error
            raise
        self.reports, self._socket = reports, connection

    async def close(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            await connection.close()

    async def call(self, operation: FaultOperation, request: Request, *, timeout_s: float) -> Answer:
        result = await self._ask(operation, protocol.params_of(operation, request), timeout_s=timeout_s)
        try:
            answer = protocol.answer_of(operation, result)
            protocol.check_concerns(request, answer)
        except ValueError as error:
            raise OutcomeUnknown(f"cannot read the exchange's answer: {protocol.json_value(error)}") from error
        return answer

    async def symbols(self, *, timeout_s: float) -> list[SymbolMetadata]:
        return await self._list("symbols", SymbolMetadata, timeout_s=timeout_s)

    async def assets(self, *, timeout_s: float) -> list[AssetMetadata]:
        return await self._list("assets", AssetMetadata, timeout_s=timeout_s)

    async def time_ns(self, *, timeout_s: float) -> int:
        result = await self._ask("time", {}, timeout_s=timeout_s)
        if type(result) is not int:
            raise OutcomeUnknown("cannot read the exchange's answer: the time is not an integer")
        return result

    async def _list(self, op: str, model: type[M], *, timeout_s: float) -> list[M]:
        result = await self._ask(op, {}, timeout_s=timeout_s)
        try:
            return [validated(value, model) for value in result]
        except (ValueError, TypeError) as error:
            raise OutcomeUnknown(f"cannot read the exchange's answer: {error}") from error

    async def admin(self, op: str, params: dict[str, Any], *, timeout_s: float) -> Any:
        return await self._connected().ask(op, params, timeout_s=timeout_s)

    async def _ask(self, op: str, params: dict[str, Any], *, timeout_s: float) -> Any:
        """Send a request of the port; an error that is not a venue error becomes `Rejected`."""
        connection = self._connected()
        try:
            return await connection.ask(op, params, timeout_s=timeout_s)
        except VenueError:
            raise
        except KernelError as error:
            raise Rejected(str(error)) from error

    def _connected(self) -> _SocketConnection:
        if self._socket is None or not self._socket.alive:
            raise NotSent(f"not connected to the exchange at {self._address}")
        return self._socket

    async def _open_socket(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        limit = protocol.ANSWER_BYTES_MAX
        if isinstance(self._where, str):
            return await asyncio.open_unix_connection(self._where, limit=limit)
        host, port = self._where
        return await asyncio.open_connection(host, port, limit=limit)


class _SocketConnection:
    """One socket: requests out, answers and reports in."""

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
        """Rate-limit counters in the newest answer."""
        self._task = asyncio.get_running_loop().create_task(self._receive())

    @property
    def alive(self) -> bool:
        """Return whether a line written now may arrive."""
        return not self._lost.is_set() and not self._writer.transport.is_closing()

    async def ask(self, op: str, params: dict[str, Any], *, timeout_s: float) -> Any:
        """Send a request and return its result; raises the error that the exchange answers."""
        if not self.alive:
            raise NotSent("the connection to the exchange was lost")
        self._last_id += 1
        request_id = self._last_id
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        try:
            self._writer.write(protocol.line({"id": request_id, "op": op, "params": params}))
            return await answer_in_time(answer, self._lost, clock=self._clock, timeout_s=timeout_s)
        finally:
            del self._waiting[request_id]

    async def close(self) -> None:
        """Close the socket; pending requests get no answer."""
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
            logger.debug("lost the connection to the exchange: %s", error)
        finally:
            self._lost.set()
            self._reports.end()
            self._writer.close()

    def _take(self, message: Any) -> None:
        """Dispatch a message; raises `ValueError` if it is malformed, which ends the connection."""
        if not isinstance(message, dict):
            raise ValueError("a message must be a JSON object")
        if "report" in message:
            self._reports.put(protocol.decode_report(message["report"]))
            return
        if "usage" in message:
            self.rate_usage = protocol.usage_of(message["usage"])
        request_id = message.get("id")
        answer = self._waiting.get(request_id) if type(request_id) is int else None
        if answer is None or answer.done():
            return  # its caller timed out
        if "error" in message:
            answer.set_exception(protocol.error_of(message["error"]))
        else:
            answer.set_result(message.get("result"))
