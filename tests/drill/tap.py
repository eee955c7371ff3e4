"""A tap between a kernel and the exchange: it shows each request to the witness before the exchange has it, and can cut.

Used by the cluster, one for each kernel. A request that changes something goes on only once the witness has read the log up
to now; while the log can't be read it is held back, and then lost with its connection, which is what networks do too.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any, Literal, Protocol

LINE_BYTES_MAX = 2**28
CHANGING = ("submit", "cancel", "modify")

Loss = Literal["request", "answer"]
"""What the next request that changes something loses, its connection with it: itself, or the exchange's answer."""


class Watcher(Protocol):
    """Who sees requests before the exchange does."""

    async def saw(self, op: str, params: dict[str, Any]) -> bool:
        """A request wants to leave. False: it can't be held against the log now, and must not go on."""


class Tap:
    """A Unix socket where the exchange seems to listen."""

    def __init__(self, address: str, upstream: str, watcher: Watcher) -> None:
        self.address = address
        self._upstream = upstream
        self._watcher = watcher
        self._armed: Loss | None = None
        self._was_cut = asyncio.Event()
        self._links: set[Link] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, path=self.address, limit=LINE_BYTES_MAX)

    async def close(self) -> None:
        """End every connection, take no new one."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> bool:
        """End every connection; the next ones are taken. Whether there was one."""
        for link in list(self._links):
            link.end()
        return bool(self._links)

    async def lose(self, loss: Loss, *, timeout_s: float) -> bool:
        """Lose the next request, or its answer, and the connection. False when nothing was asked in time."""
        self._armed = loss
        self._was_cut.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._was_cut.wait()
        self._armed = None
        return self._was_cut.is_set()

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            from_exchange, exchange = await asyncio.open_unix_connection(self._upstream, limit=LINE_BYTES_MAX)
        except OSError:
            client.transport.abort()
            return
        link = Link(client, exchange)
        self._links.add(link)
        ways = [
            asyncio.create_task(self._upward(reader, link)),
            asyncio.create_task(self._downward(from_exchange, link)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.discard(link)
            link.end()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _upward(self, reader: asyncio.StreamReader, link: Link) -> None:
        """Requests, in their order; ends when the connection is to be ended."""
        while (line := await reader.readline()).endswith(b"\n"):
            request = json.loads(line)
            if request["op"] in CHANGING:
                if not await self._watcher.saw(request["op"], request["params"]):
                    return
                if self._loses("request"):
                    self._was_cut.set()
                    return
                if self._loses("answer"):
                    link.lost_answer = request["id"]
            link.exchange.write(line)
            await link.exchange.drain()

    def _loses(self, loss: Loss) -> bool:
        if self._armed != loss:
            return False
        self._armed = None
        return True

    async def _downward(self, reader: asyncio.StreamReader, link: Link) -> None:
        """Answers and reports; ends when the connection is to be ended."""
        while (line := await reader.readline()).endswith(b"\n"):
            if link.lost_answer is not None and json.loads(line).get("id") == link.lost_answer:
                self._was_cut.set()
                return
            link.client.write(line)
            await link.client.drain()


class Link:
    """One connection through a tap."""

    def __init__(self, client: asyncio.StreamWriter, exchange: asyncio.StreamWriter) -> None:
        self.client = client
        self.exchange = exchange
        self.lost_answer: int | None = None
        """The request whose answer is not to arrive."""

    def end(self) -> None:
        """End both halves, what is under way in them lost."""
        self.client.transport.abort()
        self.exchange.transport.abort()
