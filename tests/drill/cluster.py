"""The processes of a drill: two kernels, an exchange, a PostgreSQL server, and the relays between them.

Used by the drill and its acts. A kernel that ends is started again, by whoever keeps processes alive in real life; it ends
by itself when it starts while the database is away. Everything is stopped and removed on leaving, frozen or not.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import IO, Literal, Self

from tests.drill.database_wire import DatabaseWire
from tests.drill.report import Report
from tests.drill.rows import PostgresRows, Rows, SQLiteRows
from tests.drill.tap import Tap, Watcher
from tests.drill.witness import Witness
from tests.integration.world import Process
from tests.postgres import OwnPostgres, own_postgres
from tests.simulation.auditor import Auditor

LogKind = Literal["postgresql", "sqlite"]
EXCHANGE_ID = "drill"
RESTART_PAUSE_S = 0.3
"""Pause between a kernel's end and its next start."""
WINDOW_NS = 5_000_000_000
"""The validity window of requests at the paper exchange."""


class Kernel:
    """A kernel process that is restarted when it ends, with its own relays to database and exchange."""

    def __init__(self, name: str, *, url: str, wire: DatabaseWire | None, tap: Tap, report: Report) -> None:
        self.name = name
        self.wire = wire
        self.tap = tap
        self.busy = asyncio.Lock()
        """Held by the act that is about this kernel."""
        self._report = report
        self._process = Process("tests.integration.kernel_process", url, EXCHANGE_ID, tap.address)
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._down = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id; None while it is down."""
        return self._process.pid

    def start(self, talk: IO[bytes]) -> None:
        """Keep it alive from now on."""
        self._keeping = asyncio.create_task(self._keep(talk), name=f"keep-{self.name}")

    async def _keep(self, talk: IO[bytes]) -> None:
        while True:
            await self._may_run.wait()
            await self._process.start(wait=False, talk=talk)
            self._down.clear()
            code = await self._process.ended()
            self._down.set()
            if code != -signal.SIGKILL:
                self._report.exits[f"code {code}"] += 1
            await asyncio.sleep(RESTART_PAUSE_S)

    async def kill(self) -> None:
        """SIGKILL. It stays down until `release`."""
        self._may_run.clear()
        if self._process.signal(signal.SIGKILL):
            await self._down.wait()

    def release(self) -> None:
        """It may run (again)."""
        self._may_run.set()
        self._process.signal(signal.SIGCONT)

    def freeze(self) -> bool:
        """SIGSTOP, until `release`. Whether it was there."""
        return self._process.signal(signal.SIGSTOP)

    async def stop(self) -> None:
        """End it for good."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        await self._process.kill()


class Cluster:
    """All processes, running inside `async with`."""

    def __init__(self, kind: LogKind, report: Report, *, seed: int) -> None:
        self.kind: LogKind = kind
        self.report = report
        self.kernels: list[Kernel] = []
        self.database: OwnPostgres | None = None
        self.database_busy = asyncio.Lock()
        self.exchange_busy = asyncio.Lock()
        self.auditor = Auditor(dedupe="WHILE_OPEN", window_ns=WINDOW_NS, immediate=False)
        self.url = ""
        """The log's, on the direct way."""
        self.exchange: Process
        self.witness: Witness
        self._seed = seed
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start(Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="drill-"))))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self._stack.aclose()

    async def _start(self, directory: Path) -> None:
        rows = await self._start_database(directory)
        self._stack.callback(rows.close)
        address = str(directory / "exchange.sock")
        self.witness = Witness(rows, self.auditor, self.report, exchange_address=address)
        self.exchange = Process(
            "tests.paper_process",
            "--listen", address, "--journal", str(directory / "exchange.journal"), "--seed", str(self._seed),
        )  # fmt: skip
        self._stack.push_async_callback(self.exchange.kill)
        await self.exchange.start()
        talk = self._stack.enter_context((directory / "kernels.log").open("wb"))
        self.talk = directory / "kernels.log"
        for name in ("a", "b"):
            self.kernels.append(await self._start_kernel(name, directory, address, talk, self.witness))

    async def _start_database(self, directory: Path) -> Rows:
        if self.kind == "sqlite":
            self.url = f"sqlite:///{directory}/kernel.db"
            return SQLiteRows(directory / "kernel.db")
        # Removed on this thread, at the very end: nothing else is left to run.
        self.database = self._stack.enter_context(own_postgres())
        self.url = self.database.url
        return PostgresRows(self.url, EXCHANGE_ID)

    async def _start_kernel(
        self, name: str, directory: Path, address: str, talk: IO[bytes], watcher: Watcher
    ) -> Kernel:
        tap = Tap(str(directory / f"tap-{name}.sock"), address, watcher)
        await tap.start()
        self._stack.push_async_callback(tap.close)
        wire: DatabaseWire | None = None
        if self.kind == "postgresql":
            (directory / name).mkdir()
            wire = DatabaseWire(directory / name, self.url)
            await wire.start()
            self._stack.push_async_callback(wire.close)
        url = self.url if wire is None else wire.url
        kernel = Kernel(name, url=url, wire=wire, tap=tap, report=self.report)
        self._stack.push_async_callback(kernel.stop)
        kernel.start(talk)
        return kernel

    @property
    def leader(self) -> Kernel | None:
        """The kernel that was elected last, if it still runs."""
        return next((kernel for kernel in self.kernels if kernel.pid == self.witness.leader_pid), None)

    async def all_up(self) -> None:
        """Everything runs, nothing is frozen."""
        if self.database is not None:
            await asyncio.to_thread(self.database.start)
        if self.exchange.pid is None:
            await self.exchange.kill()
            await self.exchange.start()
        for kernel in self.kernels:
            kernel.release()

    async def stop_kernels(self) -> None:
        """From here on nobody writes but the crew."""
        for kernel in self.kernels:
            await kernel.stop()


def last_words(path: Path, lines: int = 40) -> str:
    """Return the last lines of the kernels' logs."""
    with suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return ""
