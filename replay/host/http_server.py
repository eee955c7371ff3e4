"""The HTTP server: Starlette and uvicorn on the kernel's own event loop, which does not answer when it stands still.

`replay.host.serving` imports it where there is something to serve. Promises: it reads pages and changes nothing (GET
and HEAD); a connection has one request, a bounded time and a bounded memory, and there are only so many at once; a page
that fails is a 500 and no more; it installs no signal handlers and configures no logging.
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
"""Request line and headers together."""
EXCHANGE_S_MAX = 20.0
"""How long a connection lasts, until its answer is taken."""
CONNECTIONS_MAX = 64
"""More at once are closed unheard."""
STOP_S_MAX = 1
"""How long the end waits for answers that are under way."""
HEADERS = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), ("Connection", "close")]


class TimedConnection(H11Protocol):
    """A connection that is closed when its time is over, whatever has come by then, or at once where there are too many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
        else:
            self.loop.call_later(EXCHANGE_S_MAX, transport.abort)


class EmbeddedServer(uvicorn.Server):
    """A server inside a process that handles its signals itself."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the process's signal handlers as they are."""
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
    """A page as Starlette calls it."""

    async def endpoint(_: Request) -> Response:
        reply = await page()
        return Response(reply.body, reply.status, headers={"Content-Type": reply.content_type})

    return endpoint
