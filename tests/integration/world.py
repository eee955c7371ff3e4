"""Real processes for the integration tests: a paper exchange with a journal, a kernel, a strategy; and their deaths.

A process is started with `Process.start`, which returns once it has printed the line that says it is up, and killed with
SIGKILL. Nothing here sleeps for a state that can be awaited.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, Any, Self

from kernel.venues import PaperVenue
from tests.forked import Forked

START_TIMEOUT_S = 180


class Process:
    """A child process that prints a line when it is up."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = ("-m", module, *arguments)
        self._child: Forked | None = None

    @property
    def pid(self) -> int | None:
        """Its process id; None when it is not there."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def signal(self, number: signal.Signals) -> bool:
        """Send it a signal. Whether it was there."""
        if self._child is None or self._child.poll() is not None:
            return False
        self._child.send_signal(number)
        return True

    async def start(self, *, wait: bool = True, talk: IO[bytes] | None = None) -> str:
        """Start it; with `wait`, return the first line that it prints. What it says on stderr goes to `talk`, if given."""
        with Path(os.devnull).open("wb") as nowhere:  # noqa: ASYNC230 it never blocks
            stdout, stderr = None if wait else nowhere, nowhere if talk is None else talk
            self._child = await asyncio.to_thread(Forked, *self._command, stdout=stdout, stderr=stderr)
        if self._child.stdout is None:
            return ""
        line = await asyncio.wait_for(asyncio.to_thread(self._child.stdout.readline), START_TIMEOUT_S)
        return line.decode().strip()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Nothing happens when it is not there."""
        if self._child is None:
            return
        await asyncio.to_thread(self._child.close)
        self._child = None

    async def ended(self) -> int:
        """Its exit code, once it ended by itself."""
        assert self._child is not None
        code = await asyncio.to_thread(self._child.wait)
        self._child.close()
        self._child = None
        return code


class World:
    """A paper exchange with a journal, and a leading kernel."""

    def __init__(self, url: str, exchange_id: str, directory: Path, *, speed: str = "1", **config: Any) -> None:
        """`speed` is how the exchange plays its tape; at `step` the market stands still. `config` is its `PaperConfig`."""
        self.url = url
        self.exchange_id = exchange_id
        self.address = str(directory / "exchange.sock")
        (settings := directory / "exchange.json").write_text(json.dumps(config))
        self.exchange = Process(
            "tests.paper_process", "--config", str(settings),
            "--listen", self.address, "--journal", str(directory / "exchange.journal"), "--seed", "3", "--speed", speed,
        )  # fmt: skip
        self.kernel = Process("tests.integration.kernel_process", url, exchange_id, self.address)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self.exchange.kill)
        self._stack.push_async_callback(self.kernel.kill)
        try:
            await self.exchange.start()
            await self.kernel.start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self._stack.aclose()

    async def truth(self) -> dict[str, Any]:
        """What is so at the exchange."""
        return await truth_at(self.address)

    async def traded(self, price: int, quantity: int) -> None:
        """The market makes one trade."""
        await administer(self.address, "trade", symbol_id="BTCUSDT", price=price, quantity=quantity)


async def truth_at(address: str) -> dict[str, Any]:
    """Return the oracle state of the exchange at an address; `KernelError` if it is down."""
    found: dict[str, Any] = await administer(address, "truth")
    return found


async def administer(address: str, op: str, **params: Any) -> Any:
    """Perform an admin operation at the exchange at an address; `KernelError` if it is down."""
    venue = PaperVenue(address, timeout_s=10)
    await venue.connect()
    try:
        return await venue.admin(op, **params)
    finally:
        await venue.close()
