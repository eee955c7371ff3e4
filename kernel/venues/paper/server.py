"""The paper exchange as a process of its own: JSON lines over a socket (see `protocol`).

`orderctl paper-exchange` calls `serve_paper_exchange`. A malformed line gets an error answer; a connection that misbehaves
is closed without harm to the others. Every change is in the journal before its answer is written.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from kernel.clock import SystemClock
from kernel.errors import KernelError, LogUnavailableError, OutcomeUnknown, ValidationError
from kernel.platform.private_files import FILE_MODE, check_directory
from kernel.values import as_json
from kernel.venues.paper import protocol
from kernel.venues.paper.admin import administer
from kernel.venues.paper.exchange import ClientSession, NoAnswer, PaperExchange, Request
from kernel.venues.paper.faults import Fault, FaultOperation
from kernel.venues.paper.matching.config import PaperExchangeOptions, Speed

logger = logging.getLogger(__name__)

UNSENT_BYTES_MAX = 64 * 2**20
"""Bytes that may wait for a client that does not read; its connection is closed beyond this."""
IN_FLIGHT_MAX = 1_000
"""Concurrent requests of one connection; the server stops reading the socket beyond this."""


async def serve_paper_exchange(listen: str, *, options: PaperExchangeOptions, announce: Callable[[str], None]) -> None:
    """Serve a paper exchange until the task is canceled; `announce` is called once with the bound address.

    `listen` is `host:port` (port 0: any free port) or the path of a Unix socket. Raises `ValidationError` for an
    invalid address or option, `LogUnavailableError` if the address or the journal is in use, `UnsafeFileError` if
    another user could write the journal or replace the socket, `IntegrityError` for a damaged journal.
    """
    server = PaperServer(PaperExchange(options, clock=SystemClock()))
    address = await server.start(listen)
    try:
        announce(address)
        await asyncio.get_running_loop().create_future()
    finally:
        await server.stop()


class PaperServer:
    """A paper exchange with its listening socket."""

    def __init__(self, exchange: PaperExchange) -> None:
        self.exchange = exchange
        self._server: asyncio.Server | None = None
        self._socket_path: Path | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, listen: str) -> str:
        """Start the exchange and listen; returns the bound address."""
        where = protocol.parse_address(listen)
        await self.exchange.start()
        try:
            return await self._listen(where)
        except BaseException as error:
            await self.stop()
            if isinstance(error, OSError):
                raise LogUnavailableError(f"cannot listen at {listen}: {error}") from error
            raise

    async def stop(self) -> None:
        """Close every connection and stop the exchange. Cancels no orders."""
        if self._server is not None:
            self._server.close()
        tasks = [*self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.exchange.stop()
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)

    async def _listen(self, where: tuple[str, int] | str) -> str:
        limit = protocol.REQUEST_BYTES_MAX
        if isinstance(where, str):
            await _refuse_if_taken(where)
            check_directory(Path(where).parent)
            self._server = await asyncio.start_unix_server(self._accept, path=where, limit=limit, start_serving=False)
            self._socket_path = Path(where)
            self._socket_path.chmod(FILE_MODE)  # before it listens: connecting needs write permission
            await self._server.start_serving()
            return where
        self._server = await asyncio.start_server(self._accept, *where, limit=limit)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs each connection as a task"
        self._connections.add(task)
        try:
            await Connection(self.exchange, reader, writer).serve()
        except asyncio.CancelledError:
            logger.debug("connection closed: the exchange stops")  # not re-raised: asyncio would log it
        finally:
            self._connections.discard(task)


async def _refuse_if_taken(path: str) -> None:
    """Raise `OSError` if a server listens there; asyncio would unlink the socket of a live server."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return
    writer.close()
    raise OSError(errno.EADDRINUSE, "another exchange listens at this socket")


class Connection:
    """One client's connection."""

    def __init__(self, exchange: PaperExchange, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._exchange = exchange
        self._reader = reader
        self._writer = writer
        self._session = ClientSession(lambda report: self._write(protocol.report_line(report)), writer.transport.abort)
        self._in_flight: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answer the client's requests until it disconnects."""
        try:
            while await self._next():
                while len(self._in_flight) >= IN_FLIGHT_MAX:
                    await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
        except OSError as error:
            logger.debug("connection lost: %s", error)
        finally:
            self._exchange.end(self._session)
            with suppress(OSError):
                self._writer.close()
                await self._writer.wait_closed()

    async def _next(self) -> bool:
        """Handle one line; returns False at the end of the connection."""
        try:
            line = await self._reader.readline()
        except ValueError:
            self._refuse(None, f"a line is longer than {protocol.REQUEST_BYTES_MAX} bytes")
            await self._writer.drain()
            return False
        if not line.endswith(b"\n"):
            return False  # the connection ended within a line
        if line.strip():
            self._take(line)
        return self._session.alive

    def _take(self, line: bytes) -> None:
        """Answer one line, or start to."""
        request_id: Any = None
        try:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ValueError("a request must be a JSON object")
            request_id = _id(message)
            self._dispatch(request_id, str(message.get("op")), _params(message))
        except NoAnswer:
            return
        except KernelError as error:
            self._send({"id": request_id, "error": protocol.error_value(error)})
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            self._refuse(request_id, str(error))

    def _dispatch(self, request_id: Any, op: str, params: dict[str, Any]) -> None:
        if op in protocol.REQUESTS:
            self._request(request_id, FaultOperation(op), protocol.request_of(FaultOperation(op), params))
        else:
            self._send({"id": request_id, "result": self._plain(op, params)})

    def _plain(self, op: str, params: dict[str, Any]) -> Any:
        """Run an operation that no fault affects."""
        match op:
            case "hello":
                return protocol.hello(self._exchange.capabilities)
            case "subscribe":
                self._exchange.attach(self._session)
                return True
            case "symbols":
                return [as_json(symbol) for symbol in self._exchange.symbols()]
            case "time":
                return self._exchange.clock.now_ns()
            case "assets":
                return [as_json(asset) for asset in self._exchange.assets()]
            case _:
                return administer(self._exchange, op, params)

    def _request(self, request_id: Any, operation: FaultOperation, request: Request) -> None:
        fault = self._exchange.draw(operation, request)
        if fault is None and self._exchange.immediate:
            answer = self._exchange.carry_out(operation, request)
            self._send({"id": request_id, "result": protocol.result_of(answer)})
            return
        task = self._exchange.spawn(self._carry(request_id, operation, request, fault))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _carry(self, request_id: Any, operation: FaultOperation, request: Request, fault: Fault | None) -> None:
        """Complete a request even if the client disconnects."""
        try:
            answer = await self._exchange.call(self._session, operation, request, fault)
        except NoAnswer:
            return
        except KernelError as error:
            self._send({"id": request_id, "error": protocol.error_value(error)})
        else:
            self._send({"id": request_id, "result": protocol.result_of(answer)})

    def _refuse(self, request_id: Any, text: str) -> None:
        """Answer a malformed line. It was not executed, but a client that sends such lines cannot rely on that."""
        error = OutcomeUnknown(f"cannot read the request: {text}", code="-1102")
        self._send({"id": request_id, "error": protocol.error_value(error)})

    def _send(self, message: dict[str, Any]) -> None:
        if self._exchange.running and (usage := self._exchange.rate_usage):
            message["usage"] = [as_json(item) for item in usage]
        self._write(protocol.line(message))

    def _write(self, line: bytes) -> None:
        transport = self._writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            logger.warning("closed a client's connection: it does not read its messages")
            transport.abort()
            return
        self._writer.write(line)


def _id(message: dict[str, Any]) -> int | str | None:
    """Return the request's id, which its answer repeats."""
    request_id = message.get("id")
    if request_id is not None and not isinstance(request_id, int | str):
        raise ValueError("`id` must be an integer or a string")
    return request_id


def _params(message: dict[str, Any]) -> dict[str, Any]:
    beside = {name: value for name, value in message.items() if name not in ("id", "op", "params")}
    params = message.get("params") or {}
    if not isinstance(params, dict):
        raise ValueError("`params` must be a JSON object")
    return beside | params


def speed_of(text: str) -> Speed:
    """Parse a tape speed: a number, `max` or `step`. Raises `ValidationError` for any other text."""
    if text in ("max", "step"):
        return "max" if text == "max" else "step"
    try:
        return float(text)
    except ValueError:
        raise ValidationError(f"speed {text!r} is not a number, `max` or `step`") from None
