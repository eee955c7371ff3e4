"""A relay between two processes on a Unix socket, whose connections can be cut.

Base of the tap (kernel to exchange) and of the database's wire (kernel to PostgreSQL). It outlives restarts of both ends:
while nobody listens upstream it ends each connection, as the upstream's own socket would.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass

LIMIT_BYTES = 2**28


@dataclass(eq=False)
class Link:
    """One connection through a relay."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    lost_answer: int | None = None
    """The answer to drop; each relay defines its numbers."""

    def end(self) -> None:
        """End both halves, what is under way in them lost."""
        self.client.transport.abort()
        self.server.transport.abort()


class Relay(ABC):
    """Listens at one address and forwards to another."""

    def __init__(self, address: str, upstream: str) -> None:
        self.address = address
        self._upstream = upstream
        self._armed: str | None = None
        """What is to be cut next."""
        self._was_cut = asyncio.Event()
        self._links: set[Link] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, path=self.address, limit=LIMIT_BYTES)

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

    async def _cut_at(self, moment: str, timeout_s: float) -> bool:
        """Cut the next connection that comes to a moment. False when none did in time."""
        self._armed = moment
        self._was_cut.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._was_cut.wait()
        self._armed = None
        return self._was_cut.is_set()

    def _comes_to(self, moment: str) -> bool:
        """Whether a connection that comes to this moment is to be cut; only the first one is."""
        if self._armed != moment:
            return False
        self._armed = None
        return True

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            from_server, server = await asyncio.open_unix_connection(self._upstream, limit=LIMIT_BYTES)
        except OSError:
            client.transport.abort()
            return
        link = Link(client, server)
        self._links.add(link)
        ways = [asyncio.create_task(self._upward(reader, link)), asyncio.create_task(self._downward(from_server, link))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.discard(link)
            link.end()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    @abstractmethod
    async def _upward(self, reader: asyncio.StreamReader, link: Link) -> None:
        """Pass on what the client sends; ends when the connection is to be ended."""

    @abstractmethod
    async def _downward(self, reader: asyncio.StreamReader, link: Link) -> None:
        """Pass on what the server sends; ends when the connection is to be ended."""
