"""The paper exchange as a process of its own: JSON lines over a socket.

`serve_paper_exchange` is called by `orderctl paper-exchange`, and by `python -m kernel.venues.paper.server` where only the
exchange is wanted. One bad line gets an error answer; a connection that misbehaves is closed; neither harms the others.
A client that does not read what it is sent is cut off. Every change is in the journal before its answer is on the wire.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import kernel.venues.paper.protocol as paper_wire
from kernel.clock import Clock, SystemClock
from kernel.errors import KernelError, LogUnavailableError, OutcomeUnknown, ValidationError, Violation
from kernel.venues.base import ExecutionReport
from kernel.venues.paper.admin import administer
from kernel.venues.paper.exchange import ClientSession, NoAnswer, PaperExchange, Request
from kernel.venues.paper.faults import Fault, FaultOperation, FaultSource
from kernel.venues.paper.matching.config import PaperConfig, PaperExchangeOptions, Speed

logger = logging.getLogger(__name__)

UNSENT_BYTES_MAX = 64 * 2**20
"""What may wait for a client that does not read; more, and it is cut off."""
UNDER_WAY_MAX = 1_000
"""Requests of one connection that are being carried out; more wait in its socket."""


async def serve_paper_exchange(
    listen: str,
    *,
    options: PaperExchangeOptions | None = None,
    clock: Clock | None = None,
    faults: FaultSource | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Run an exchange at an address (`host:port`, port 0 for any, or the path of a socket) until it is canceled.

    `announce` is called once with the address that it is bound to. `ValidationError` for bad options,
    `LogUnavailableError` for an address or a journal that is taken, `IntegrityError` for a journal that cannot be read.
    """
    exchange = PaperExchange(options or PaperExchangeOptions(), clock=clock or SystemClock(), faults=faults)
    server = PaperServer(exchange)
    address = await server.start(listen)
    try:
        if announce is not None:
            announce(address)
        await asyncio.get_running_loop().create_future()
    finally:
        await server.stop()


class PaperServer:
    """An exchange and its listening socket."""

    def __init__(self, exchange: PaperExchange) -> None:
        self.exchange = exchange
        self._server: asyncio.Server | None = None
        self._socket_path: Path | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, listen: str) -> str:
        """Start the exchange and listen; the address that it is bound to."""
        where = paper_wire.parse_address(listen)
        await self.exchange.start()
        try:
            return await self._listen(where)
        except OSError as error:
            await self.exchange.stop()
            raise LogUnavailableError(f"cannot listen at {listen}: {error}") from error

    async def stop(self) -> None:
        """Close every connection and the exchange. Cancels no order."""
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
        limit = paper_wire.REQUEST_BYTES_MAX
        if isinstance(where, str):
            await _refuse_if_taken(where)
            self._server = await asyncio.start_unix_server(self._accept, path=where, limit=limit)
            self._socket_path = Path(where)
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
            logger.debug("connection closed: the exchange stops")  # swallowed, else asyncio logs it as an error
        finally:
            self._connections.discard(task)


async def _refuse_if_taken(path: str) -> None:
    """`OSError` when somebody answers there: asyncio would take the socket's file away from a living server."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return
    writer.close()
    raise OSError(errno.EADDRINUSE, "another exchange listens there")


class Connection:
    """One client."""

    def __init__(self, exchange: PaperExchange, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._exchange = exchange
        self._reader = reader
        self._writer = writer
        self._session = ClientSession(self._push, writer.transport.abort)
        self._under_way: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answer its lines until it goes away."""
        try:
            while await self._next():
                await self._make_room()
        except OSError as error:
            logger.debug("connection lost: %s", error)
        finally:
            self._exchange.detach(self._session)
            self._session.drop()
            with suppress(OSError):
                self._writer.close()
                await self._writer.wait_closed()

    async def _next(self) -> bool:
        """Take one line; False when there will be no more."""
        try:
            line = await self._reader.readline()
        except ValueError:
            self._refuse(None, f"a line is longer than {paper_wire.REQUEST_BYTES_MAX} bytes")
            await self._writer.drain()
            return False
        if not line.endswith(b"\n"):
            return False  # a torn last line was never sent whole
        if line.strip():
            self._take(line)
        return self._session.alive

    def _take(self, line: bytes) -> None:
        """Answer one line now, or begin to."""
        request_id: Any = None
        try:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ValueError("a request is a JSON object")
            request_id = _id(message)
            self._dispatch(request_id, str(message.get("op")), _params(message))
        except NoAnswer:
            return
        except KernelError as error:
            self._send({"id": request_id, "error": paper_wire.error_value(error)})
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            self._refuse(request_id, str(error))

    def _dispatch(self, request_id: Any, op: str, params: dict[str, Any]) -> None:
        if op in paper_wire.REQUESTS:
            self._request(request_id, FaultOperation(op), paper_wire.request_of(FaultOperation(op), params))
        else:
            self._send({"id": request_id, "result": self._plain(op, params)})

    def _plain(self, op: str, params: dict[str, Any]) -> Any:
        """An operation that no fault hits."""
        match op:
            case "hello":
                return paper_wire.hello(self._exchange.capabilities)
            case "subscribe":
                self._exchange.detach(self._session)
                self._exchange.attach(self._session)
                return True
            case "symbols":
                return [symbol.model_dump(mode="json") for symbol in self._exchange.symbols()]
            case "assets":
                return [asset.model_dump(mode="json") for asset in self._exchange.assets()]
            case _:
                return administer(self._exchange, op, params)

    def _request(self, request_id: Any, operation: FaultOperation, request: Request) -> None:
        fault = self._exchange.draw(operation, request)
        if fault is None and self._exchange.immediate:
            answer = self._exchange.carry_out(operation, request)
            self._send({"id": request_id, "result": paper_wire.result_of(answer)})
            return
        task = self._exchange.spawn(self._carry(request_id, operation, request, fault))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _carry(self, request_id: Any, operation: FaultOperation, request: Request, fault: Fault | None) -> None:
        """Carry a request out, whatever becomes of the connection meanwhile."""
        try:
            answer = await self._exchange.call(self._session, operation, request, fault)
        except NoAnswer:
            return
        except KernelError as error:
            self._send({"id": request_id, "error": paper_wire.error_value(error)})
        else:
            self._send({"id": request_id, "result": paper_wire.result_of(answer)})

    async def _make_room(self) -> None:
        while len(self._under_way) >= UNDER_WAY_MAX:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)

    def _push(self, report: ExecutionReport) -> None:
        self._write(paper_wire.report_line(report))

    def _refuse(self, request_id: Any, text: str) -> None:
        """A line that is no request. It was not carried out, but who sends such lines cannot rely on that."""
        error = OutcomeUnknown(f"cannot be read: {text}", code="-1102")
        self._send({"id": request_id, "error": paper_wire.error_value(error)})

    def _send(self, message: dict[str, Any]) -> None:
        if self._exchange.running and (usage := self._exchange.rate_usage):
            message["usage"] = paper_wire.usage_value(usage)
        self._write(paper_wire.line(message))

    def _write(self, line: bytes) -> None:
        transport = self._writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            logger.warning("a client does not read what it is sent: cut off")
            transport.abort()
            return
        self._writer.write(line)


def _id(message: dict[str, Any]) -> int | str | None:
    """The name of a request, which its answer repeats."""
    request_id = message.get("id")
    if request_id is not None and not isinstance(request_id, int | str):
        raise ValueError("id is a whole number or a text")
    return request_id


def _params(message: dict[str, Any]) -> dict[str, Any]:
    beside = {name: value for name, value in message.items() if name not in ("id", "op", "params")}
    given = message.get("params") or {}
    if not isinstance(given, dict):
        raise ValueError("params is a JSON object")
    return beside | given


def speed_of(text: str) -> Speed:
    """A speed as it is written on a command line: a number, `max` or `step`."""
    if text in ("max", "step"):
        return "max" if text == "max" else "step"
    try:
        return float(text)
    except ValueError:
        raise ValidationError(violations=[Violation("speed", "value", "a number, max or step", text)]) from None


async def _run(arguments: argparse.Namespace) -> None:
    config = PaperConfig()
    if arguments.config is not None:
        config = PaperConfig.model_validate_json(Path(arguments.config).read_bytes())  # noqa: ASYNC240 nothing runs yet
    options = PaperExchangeOptions(
        tape=arguments.tape,
        symbol=arguments.symbol,
        seed=arguments.seed,
        speed=speed_of(arguments.speed),
        journal=arguments.journal,
        config=config,
    )
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await serve_paper_exchange(arguments.listen, options=options, clock=SystemClock(), announce=_announce)


def _announce(address: str) -> None:
    sys.stdout.write(address + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run an exchange until SIGTERM or SIGINT; prints the address that it is bound to. The exit code."""
    parser = argparse.ArgumentParser(prog="paper-exchange", description="A paper exchange over a socket.")
    parser.add_argument("--listen", required=True, help="host:port (port 0: any), or the path of a socket")
    parser.add_argument("--tape", help="file of trades; default: the tape that comes with the project")
    parser.add_argument("--symbol", help="the tape's symbol; default: from its file name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", default="1", help="1, N, max or step")
    parser.add_argument("--journal", help="file that outlives the process")
    parser.add_argument("--config", help="JSON file of a PaperConfig")
    try:
        asyncio.run(_run(parser.parse_args(arguments)))
    except KernelError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
