"""The demo's child processes, a paper exchange and a kernel, started through the command line. None outlives the demo."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from types import TracebackType

from kernel.errors import KernelError, WaitTimeoutError
from kernel.platform.private_files import make_directory, open_private

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
LAST_WORDS_CHARS = 500
REQUEST_TIMEOUT_S = 1
"""Shorter than the default, so that a lost answer does not prolong the demo."""


class DemoProcesses:
    """A directory and the child processes that work in it, as an async context manager."""

    def __init__(self, directory: Path, url: str | None) -> None:
        """Initialize; `url` is that of the log, by default a file in the directory."""
        make_directory(directory)
        self.url = url or f"sqlite:///{directory.resolve() / 'kernel.db'}"
        self._directory = directory
        self._address = ""
        self._children: list[Process] = []

    async def __aenter__(self) -> DemoProcesses:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._children):
            if process.returncode is None:
                process.terminate()
                await self._ended(process)

    async def start_exchange(self, *, tape: str | None, symbol: str, seed: int) -> str:
        """Start the exchange, which plays its tape step by step; return its address."""
        words = ["--listen", "127.0.0.1:0", "--journal", str(self._directory / "exchange.journal")]
        words += ["--seed", str(seed), "--speed", "step", "--markets", "full", "--symbol", symbol]
        exchange = await self._start("paper-exchange", *words, *(["--tape", tape] if tape else []))
        assert exchange.stdout is not None
        try:
            line = await asyncio.wait_for(exchange.stdout.readline(), START_TIMEOUT_S)
        except TimeoutError:
            raise WaitTimeoutError(f"the paper exchange did not start within {START_TIMEOUT_S:g} s") from None
        if not line:
            await self._ended(exchange)
            raise KernelError(f"the paper exchange did not start: {self.last_words('paper-exchange')}")
        self._address = line.decode().strip()
        return self._address

    async def start_kernel(self) -> int:
        """Start a kernel on the log; return its process id. Its readiness shows in the log."""
        return (await self._start("run", "--log", self.url, "--address", self._address)).pid

    async def kill_kernel(self) -> None:
        """Send SIGKILL to the kernel, the process started last."""
        self._children[-1].send_signal(signal.SIGKILL)
        await self._children[-1].wait()

    def last_words(self, command: str) -> str:
        return (self._directory / f"{command}.err").read_text(errors="replace").strip()[-LAST_WORDS_CHARS:]

    async def _start(self, command: str, *words: str) -> Process:
        file = self._directory / f"{command}.err"
        with os.fdopen(open_private(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as errors:
            program = (sys.executable, "-P", "-m", "cli", command, *words)
            process = await asyncio.create_subprocess_exec(
                *program, stdout=PIPE, stderr=errors, env=child_environment()
            )
        self._children.append(process)
        return process

    async def _ended(self, process: Process) -> None:
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def child_environment() -> dict[str, str]:
    """Return this environment without settings of `orderctl`, with this project on the Python path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORDERCTL_")}
    project = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (project, kept.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, "ORDERCTL_KERNEL_REQUEST_TIMEOUT_S": str(REQUEST_TIMEOUT_S)}
