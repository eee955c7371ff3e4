"""The HTTP server: Starlette and uvicorn on the kernel's own event loop, which does not answer when it stands still.

`replay.serving` imports it where there is something to serve. Promises: it reads pages and changes nothing (GET and HEAD);
a connection has one request, a bounded time and a bounded memory, and there are only so many at once; a page that fails is
a 500 and no more; it installs no signal handlers and configures no logging.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from uvicorn.protocols.http.h11_impl import H11Protocol

from replay.vitals import Page, Reply

logger = logging.getLogger(__name__)

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

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
            return
        self._deadline = self.loop.call_later(EXCHANGE_S_MAX, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()


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
        Router([Route(path, endpoint_of(path, page)) for path, page in pages.items()], redirect_slashes=False),
        loop="none",
        http=TimedConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.CRITICAL,
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


def endpoint_of(path: str, page: Page) -> Callable[[Request], Awaitable[Response]]:
    """A page as Starlette calls it."""

    async def endpoint(request: Request) -> Response:
        reply = await answer_of(path, page)
        return Response(reply.body, reply.status, headers={"Content-Type": reply.content_type})

    return endpoint


async def answer_of(path: str, page: Page) -> Reply:
    """What a page answers; 500 where it fails."""
    try:
        return await page()
    except Exception:
        logger.exception("%s could not be answered", path)
        return Reply(500, "internal error; see the process log\n")
