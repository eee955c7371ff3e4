"""A tap between kernel and exchange that shows each request to the witness first, and can cut the connection.

Used by the cluster, one for each kernel. A request that changes something goes on only once the witness has read the log up
to now; while the log can't be read it is held back, and then lost with its connection, which is what networks do too.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Literal, Protocol

from tests.drill.relay import Link, Relay

CHANGING = ("submit", "cancel", "modify")

Loss = Literal["request", "answer"]
"""What the next request loses with its connection: the request itself, or the answer."""


class Watcher(Protocol):
    """Sees requests before the exchange does."""

    async def saw(self, op: str, params: dict[str, Any], *, arrived_ns: int) -> bool:
        """See a request that arrived at this time. False if it can't be compared with the log now, and must not go on."""


class Tap(Relay):
    """A Unix socket in front of the exchange."""

    def __init__(self, address: str, upstream: str, watcher: Watcher) -> None:
        super().__init__(address, upstream)
        self._watcher = watcher

    async def lose(self, loss: Loss, *, timeout_s: float) -> bool:
        """Lose the next request, or its answer, and the connection. False when nothing was asked in time."""
        return await self._cut_at(loss, timeout_s)

    async def _upward(self, reader: asyncio.StreamReader, link: Link) -> None:
        """Requests, in their order; each with the time of its arrival, as it may wait for the one before."""
        arrivals: asyncio.Queue[tuple[bytes, int]] = asyncio.Queue()
        reading = asyncio.create_task(read_lines(reader, arrivals))
        try:
            await self._pass_on(arrivals, link)
        finally:
            reading.cancel()

    async def _pass_on(self, arrivals: asyncio.Queue[tuple[bytes, int]], link: Link) -> None:
        while True:
            line, arrived_ns = await arrivals.get()
            if not line.endswith(b"\n"):
                return
            request = json.loads(line)
            if request["op"] in CHANGING:
                if not await self._watcher.saw(request["op"], request["params"], arrived_ns=arrived_ns):
                    return
                if self._comes_to("request"):
                    self._was_cut.set()
                    return
                if self._comes_to("answer"):
                    link.lost_answer = request["id"]
            link.server.write(line)
            await link.server.drain()

    async def _downward(self, reader: asyncio.StreamReader, link: Link) -> None:
        """Answers and reports."""
        while (line := await reader.readline()).endswith(b"\n"):
            if link.lost_answer is not None and json.loads(line).get("id") == link.lost_answer:
                self._was_cut.set()
                return
            link.client.write(line)
            await link.client.drain()


async def read_lines(reader: asyncio.StreamReader, arrivals: asyncio.Queue[tuple[bytes, int]]) -> None:
    """Put each line with the time of its arrival into the queue; an incomplete line ends it, as does a lost connection."""
    line = b"\n"
    while line.endswith(b"\n"):
        try:
            line = await reader.readline()
        except (OSError, ValueError):
            line = b""
        arrivals.put_nowait((line, time.time_ns()))
