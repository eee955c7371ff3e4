"""A wire between a kernel process and PostgreSQL that can be cut, also in the middle of a commit.

Used by the cluster, one for each kernel. It forwards bytes on a Unix socket of its own. A server that is away makes it end
the connection, as the server's own socket would; it outlives restarts of the server.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from psycopg.conninfo import conninfo_to_dict

WRITE_MARK = b'"evidence":'
"""Only an envelope has it, and only a writer sends one: rows are on their way to the server, the commit right behind."""
PIECE_BYTES = 1 << 16

Moment = Literal["before", "after"]
"""Before the server has the rows, or after it has, and before the kernel has the answer."""


@dataclass(eq=False)
class Link:
    """One connection through the wire."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    answer_is_lost: bool = False


class DatabaseWire:
    """A Unix socket in a directory, where PostgreSQL seems to listen."""

    def __init__(self, directory: Path, upstream_url: str) -> None:
        upstream = conninfo_to_dict(upstream_url)
        self._upstream = f"{upstream['host']}/.s.PGSQL.{upstream.get('port') or 5432}"
        self._socket = directory / ".s.PGSQL.5432"
        self.url = f"postgresql://{upstream.get('user', 'postgres')}@/{upstream['dbname']}?host={directory}"
        self._armed: Moment | None = None
        self._was_cut = asyncio.Event()
        self._links: set[Link] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, path=str(self._socket))

    async def close(self) -> None:
        """End every connection, take no new one."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """End every connection; the next ones are taken."""
        for link in list(self._links):
            _end(link.client, link.server)

    async def cut_commit(self, moment: Moment, *, timeout_s: float) -> bool:
        """Cut the connection that next writes to the log, in the middle of it. False when nothing was written in time."""
        self._armed = moment
        self._was_cut.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._was_cut.wait()
        self._armed = None
        return self._was_cut.is_set()

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            from_server, server = await asyncio.open_unix_connection(self._upstream)
        except OSError:
            _end(client)
            return
        link = Link(client, server)
        self._links.add(link)
        ways = [asyncio.create_task(self._upward(reader, link)), asyncio.create_task(self._downward(from_server, link))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.discard(link)
            _end(client, server)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _upward(self, reader: asyncio.StreamReader, link: Link) -> None:
        while data := await reader.read(PIECE_BYTES):
            if self._armed is not None and WRITE_MARK in data:
                moment, self._armed = self._armed, None
                if moment == "before":
                    self._was_cut.set()
                    return
                link.answer_is_lost = True
            link.server.write(data)
            await link.server.drain()

    async def _downward(self, reader: asyncio.StreamReader, link: Link) -> None:
        while data := await reader.read(PIECE_BYTES):
            if link.answer_is_lost:
                self._was_cut.set()
                return
            link.client.write(data)
            await link.client.drain()


def _end(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.transport.abort()
