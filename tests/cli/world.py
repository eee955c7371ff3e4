"""Helpers of the CLI tests: commands called in this process, and commands run as processes."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click
from click.testing import CliRunner, Result

from cli import cli
from kernel.clock import SystemClock
from kernel.venues import PaperVenue
from tests.forked import Forked
from tests.paper_world import limit, submit

PROJECT = Path(__file__).resolve().parents[2]
LINE_TIMEOUT_S = 120.0
PATIENT = {
    f"ORDERCTL_{verb}_TIMEOUT": "2m" for verb in ("PLACE", "APPLY", "CANCEL", "MODIFY", "WAIT", "HALT", "CANCEL_ALL")
}
"""Where a kernel answers, its answer is waited for: a busy machine must not decide a test."""
COMMANDS = {name: cli.get_command(click.Context(cli), name) for name in cli.list_commands(click.Context(cli))}
"""Every command, imported."""


def clean_environment(**given: str) -> dict[str, str]:
    """The environment without `ORDERCTL_…` variables, plus those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORDERCTL_")}
    return {**kept, "PYTHONPATH": str(PROJECT), **given}


class Child:
    """A command as a process: its lines as they come, and its exit code."""

    def __init__(self, *words: str, **environment: str) -> None:
        self.process = Forked("-m", "cli", *words, environment=clean_environment(**environment))
        self.out: queue.Queue[str | None] = queue.Queue()
        self.err: queue.Queue[str | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=pump, args=(stream, lines))
            for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self._threads:
            thread.start()

    def expect(self, text: str, *, err: bool = False) -> str:
        """The next line that has a text in it. Fails at once when the process ends without it."""
        lines = self.err if err else self.out
        seen: list[str] = []
        while True:
            try:
                line = lines.get(timeout=LINE_TIMEOUT_S)
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"no line with {text!r}, only {seen} and {[*self.err.queue]}")
            if text in line:
                return line
            seen.append(line)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """The exit code, once it has ended by itself."""
        code = self.process.wait(timeout=LINE_TIMEOUT_S)
        self.close()
        return code

    @property
    def talk(self) -> list[str]:
        """What is left of what it said on stderr, once it has ended."""
        return [line for line in self.err.queue if line is not None]

    def close(self) -> None:
        """Let go of it, killed if need be."""
        self.process.kill()
        for thread in self._threads:
            thread.join()
        self.process.close()


def pump(stream: IO[bytes] | None, lines: queue.Queue[str | None]) -> None:
    """Put every line of a stream into a queue, then None."""
    assert stream is not None
    for line in stream:
        lines.put(line.decode().rstrip("\n"))
    lines.put(None)


class World:
    """One log, and commands on it."""

    def __init__(self, url: str, exchange_id: str = "paper", **environment: str) -> None:
        self.url = url
        self.environment = {"ORDERCTL_LOG": url, "ORDERCTL_EXCHANGE": exchange_id, **environment}

    def call(self, *words: str) -> Result:
        """A verb in this process."""
        return CliRunner().invoke(cli, list(words), env=self.environment, prog_name="orderctl")

    def ok(self, *words: str) -> str:
        """What a verb that succeeds prints."""
        result = self.call(*words)
        assert result.exit_code == 0, (words, result.exit_code, result.output)
        return result.stdout

    @contextmanager
    def child(self, *words: str) -> Iterator[Child]:
        """A verb as a process, ended with the block."""
        process = Child(*words, **self.environment)
        try:
            yield process
        finally:
            process.close()

    @contextmanager
    def leader(self, *words: str) -> Iterator[Child]:
        """A kernel that is ready. Its market stands still at the end of the tape."""
        with self.child("run", "--speed", "max", *words) as process:
            process.expect("ready: leads", err=True)
            self.environment |= PATIENT
            try:
                yield process
            finally:
                self.environment = {name: value for name, value in self.environment.items() if name not in PATIENT}


@dataclass
class Desk:
    """A kernel and a paper exchange, each in its own process."""

    world: World
    kernel: Child
    address: str

    def open_orders(self) -> list[str]:
        """Client ids of what is open at the exchange."""

        async def ask() -> list[str]:
            venue = PaperVenue(self.address)
            await venue.connect()
            orders = (await venue.truth())["orders"]
            await venue.close()
            return [item["client_order_id"] for item in orders if item["status"] == "NEW"]

        return asyncio.run(ask())

    def place_by_hand(self, name: str) -> None:
        """Somebody else's order on the account."""

        async def ask() -> None:
            venue = PaperVenue(self.address)
            await venue.connect()
            await venue.submit(submit(name, limit(quantity=1_000_000, price=4_000_000), SystemClock()))
            await venue.close()

        asyncio.run(ask())
