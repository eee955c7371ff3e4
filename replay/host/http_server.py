"""The HTTP server: Starlette and uvicorn on the kernel's event loop, so that a stalled loop does not answer.

Imported by `replay.host.run` when there is something to serve. It serves GET and HEAD of read-only pages. Each
connection has one request, bounded in time and memory; their number is bounded too. A failing page is a 500. It installs no
signal handlers and configures no logging.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from uvicorn.protocols.http.h11_impl import H11Protocol

from replay.host.probes import Page

HEAD_BYTES_MAX = 8_192
"""Request line and headers."""
READ_S_MAX = 3.0
"""Seconds from connecting until the head is read: silent connections must not keep the probes out for long."""
EXCHANGE_S_MAX = 20.0
"""Seconds from connecting until the answer is read."""
CONNECTIONS_MAX = 64
"""Further connections are closed at once."""
STOP_S_MAX = 1
"""Seconds that stopping waits for answers in progress."""
HEADERS = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), ("Connection", "close")]


class TimedConnection(H11Protocol):
    """A connection closed at its time limits, or at once if there are too many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
        else:
            self.loop.call_later(READ_S_MAX, self._abort_if_unread)
            self.loop.call_later(EXCHANGE_S_MAX, transport.abort)

    def _abort_if_unread(self) -> None:
        if not self.cycle:  # None until a whole head was read
            self.transport.abort()


class EmbeddedServer(uvicorn.Server):
    """A server in a process that handles its own signals."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@asynccontextmanager
async def served(bound: socket.socket, pages: Mapping[str, Page]) -> AsyncIterator[None]:
    """Serve pages, by path, at a bound socket while the block runs."""
    config = uvicorn.Config(
        Router([Route(path, endpoint_of(page)) for path, page in pages.items()], redirect_slashes=False),
        loop="none",
        http=TimedConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=HEADERS,
        timeout_graceful_shutdown=STOP_S_MAX,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
    )
    server = EmbeddedServer(config)
    task = asyncio.create_task(server.serve(sockets=[bound]), name="http-server")
    try:
        yield
    finally:
        server.should_exit = True
        await task


def endpoint_of(page: Page) -> Callable[[Request], Awaitable[Response]]:

    async def endpoint(_: Request) -> Response:
        reply = await page()
        return Response(reply.body, reply.status, headers={"Content-Type": reply.content_type})

    return endpoint
