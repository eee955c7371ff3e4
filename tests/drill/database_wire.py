"""A relay between a kernel process and PostgreSQL that can be cut, also during a commit.

Used by the cluster, one for each kernel.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

from psycopg.conninfo import conninfo_to_dict

from tests.drill.relay import Link, Relay

WRITE_MARK = b'"evidence":'
"""Only a writer sends an envelope: its rows are on their way, and the commit follows."""
PIECE_BYTES = 1 << 16

Moment = Literal["before", "after"]
"""Cut before the server has the rows, or after that and before the kernel has the answer."""


class DatabaseWire(Relay):
    """A Unix socket in a directory, in front of PostgreSQL."""

    def __init__(self, directory: Path, upstream_url: str) -> None:
        upstream = conninfo_to_dict(upstream_url)
        socket = f"{upstream['host']}/.s.PGSQL.{upstream.get('port') or 5432}"
        super().__init__(str(directory / ".s.PGSQL.5432"), socket)
        self.url = f"postgresql://{upstream.get('user', 'postgres')}@/{upstream['dbname']}?host={directory}"

    async def cut_commit(self, moment: Moment, *, timeout_s: float) -> bool:
        """Cut the connection that next writes to the log, in the middle of it. False when nothing was written in time."""
        return await self._cut_at(moment, timeout_s)

    async def _upward(self, reader: asyncio.StreamReader, link: Link) -> None:
        while data := await reader.read(PIECE_BYTES):
            if WRITE_MARK in data:
                if self._comes_to("before"):
                    self._was_cut.set()
                    return
                if self._comes_to("after"):
                    link.lost_answer = 0
            link.server.write(data)
            await link.server.drain()

    async def _downward(self, reader: asyncio.StreamReader, link: Link) -> None:
        while data := await reader.read(PIECE_BYTES):
            if link.lost_answer is not None:  # whatever it is: the server answers nothing else any more
                self._was_cut.set()
                return
            link.client.write(data)
            await link.client.drain()
