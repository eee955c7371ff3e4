"""The processes of the demonstration: a paper exchange and a kernel, started through the command line like anybody's.

Called by `demo`. Promises that no child outlives the stage, and that one that ends too early is told with its last words.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from types import TracebackType

from kernel.errors import KernelError, WaitTimeoutError

LOG_FILE = "kernel.db"
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
LAST_WORDS_CHARS = 500
REQUEST_TIMEOUT_S = 1
"""A shorter wait for answers than usual, so that a lost one does not make the demonstration long."""


class Stage:
    """A directory, and the children that work in it. Use as an async context manager."""

    def __init__(self, directory: Path, url: str | None = None) -> None:
        """`url`: of the log; a file in the directory where none is given."""
        self.directory = directory
        self.url = url or f"sqlite:///{directory.resolve() / LOG_FILE}"
        self.address = ""
        self._exchange: Process | None = None
        self._kernel: Process | None = None

    async def __aenter__(self) -> Stage:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (self._kernel, self._exchange):
            if process is not None and process.returncode is None:
                process.terminate()
                await self._ended(process)

    async def start_exchange(self, *, tape: str | None, symbol: str | None, seed: int) -> str:
        """Start the exchange, its tape to be played step by step; the address that it listens at."""
        words = ["--listen", "127.0.0.1:0", "--journal", str(self.directory / "exchange.journal")]
        words += ["--seed", str(seed), "--speed", "step", "--markets", "full"]
        words += ["--tape", tape] if tape else []
        words += ["--symbol", symbol] if symbol else []
        self._exchange = await self._start("exchange.err", "paper-exchange", *words)
        assert self._exchange.stdout is not None
        try:
            line = await asyncio.wait_for(self._exchange.stdout.readline(), START_TIMEOUT_S)
        except TimeoutError:
            raise WaitTimeoutError(f"the paper exchange did not start within {START_TIMEOUT_S:g} s") from None
        if not line:
            await self._ended(self._exchange)
            raise KernelError(f"the paper exchange did not start: {self.last_words('exchange.err')}")
        self.address = line.decode().strip()
        return self.address

    async def start_kernel(self) -> int:
        """Start a kernel on the log; its process id. It is ready when the log says so."""
        words = ("--log", self.url, "--address", self.address)
        self._kernel = await self._start("kernel.err", "run", *words)
        return self._kernel.pid

    async def kill_kernel(self) -> None:
        """SIGKILL: it gets no chance to do anything more."""
        assert self._kernel is not None
        os.kill(self._kernel.pid, signal.SIGKILL)
        await self._kernel.wait()

    async def kernel_ended(self) -> str:
        """Return once the kernel's process has ended: what it said last."""
        assert self._kernel is not None
        code = await self._kernel.wait()
        return self.last_words("kernel.err") or f"exit code {code}"

    def last_words(self, name: str) -> str:
        """The end of what a child said on stderr."""
        return (self.directory / name).read_text(errors="replace").strip()[-LAST_WORDS_CHARS:]

    async def _start(self, err: str, *words: str) -> Process:
        with (self.directory / err).open("ab") as talk:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "cli", *words, stdout=PIPE, stderr=talk, env=child_environment()
            )

    async def _ended(self, process: Process) -> None:
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def child_environment() -> dict[str, str]:
    """This environment without what would change the demonstration, and with this project on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORDERCTL_")}
    project = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (project, kept.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, "ORDERCTL_KERNEL_REQUEST_TIMEOUT_S": str(REQUEST_TIMEOUT_S)}
