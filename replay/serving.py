"""A tiny HTTP server for what a process says of itself: GET and HEAD, one request for a connection, nothing else.

Used by `replay.run` with a socket that is bound before anything else begins. It runs on the kernel's own event loop, so
it never answers for one that stands still. Promises: a request takes a bounded time and memory, and there are only so many
at once; what does not look like a request gets 400 or nothing; no header and no body is looked at; nothing can be changed.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus

from kernel.errors import KernelError

logger = logging.getLogger(__name__)

HEAD_BYTES_MAX = 8_192
"""Request line and headers together."""
READ_S_MAX = 3.0
"""How long the request may take to come."""
EXCHANGE_S_MAX = 20.0
"""How long the whole of it may take, until the answer is taken."""
CONNECTIONS_MAX = 64
"""More at once are closed unheard."""
REQUEST_LINE = re.compile(rb"([A-Z]{1,10}) (/[!-~]{0,1000}) HTTP/1\.[01]")
PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    status: int
    body: str
    content_type: str = PLAIN


Answer = Callable[[str], Awaitable[Reply | None]]
"""What is said at a path; None where there is nothing."""


@contextmanager
def listening(host: str, port: int | None) -> Iterator[socket.socket | None]:
    """A socket bound to an address, port 0 being any; none without a port. `KernelError` when it can't be bound."""
    if port is None:
        yield None
        return
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.create_server(address, family=family)
    except (OSError, UnicodeError) as problem:
        reason = str(getattr(problem, "strerror", None) or problem).partition(" (")[0]
        text = f"metrics can't be served at {shown(host, port)}: {reason} (--metrics-port names another)"
        raise KernelError(text) from problem
    with bound:
        yield bound


def address_of(bound: socket.socket) -> str:
    """Where a socket listens, as in a URL."""
    host, port = bound.getsockname()[:2]
    return shown(host, port)


def shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@asynccontextmanager
async def serving(bound: socket.socket, answer: Answer) -> AsyncIterator[None]:
    """Answer at a socket for as long as the block runs."""
    server = Server(answer)
    listener = await asyncio.start_server(server.exchange, sock=bound, limit=HEAD_BYTES_MAX)
    try:
        yield
    finally:
        listener.close()
        await server.close()


class Server:
    """The exchanges that are under way."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._exchanges: set[asyncio.Task[None]] = set()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, one answer."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._exchanges) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._exchanges.add(task)
        try:
            async with asyncio.timeout(EXCHANGE_S_MAX):
                writer.transport.set_write_buffer_limits(0)
                writer.write(await self._reply(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError) as problem:
            logger.debug("a request was not answered: %r", problem)
        except asyncio.CancelledError:
            logger.debug("a request was not answered: the server stops")
        finally:
            self._exchanges.discard(task)
            writer.transport.abort()

    async def close(self) -> None:
        """End what is under way."""
        tasks = [*self._exchanges]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _reply(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(READ_S_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return written(Reply(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long\n"))
        found = REQUEST_LINE.fullmatch(head.partition(b"\r\n")[0])
        if found is None:
            return written(Reply(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request\n"))
        method, target = found[1].decode(), found[2].decode()
        if method not in ("GET", "HEAD"):
            return written(Reply(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD\n"))
        return written(await self._said(target.partition("?")[0]), body=method == "GET")

    async def _said(self, path: str) -> Reply:
        try:
            reply = await self._answer(path)
        except Exception:
            logger.exception("%s could not be answered", path)
            return Reply(HTTPStatus.INTERNAL_SERVER_ERROR, "this went wrong; the process's log says how\n")
        return reply or Reply(HTTPStatus.NOT_FOUND, "not found: /metrics, /healthz and /readyz are here\n")


def written(reply: Reply, *, body: bool = True) -> bytes:
    """A reply as it goes over the wire."""
    content = reply.body.encode()
    status = HTTPStatus(reply.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(content)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (content if body else b"")
