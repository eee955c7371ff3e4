"""A socket for HTTP pages, bound early. The CLI binds it, `replay.host.run` serves pages at it.

The server comes with the extra `server` and is imported only when there is something to serve.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from kernel.errors import KernelError

SERVER = "replay.host.http_server"
"""The server's module."""


@contextmanager
def listening(host: str, port: int | None) -> Iterator[socket.socket | None]:
    """Bind a socket to serve at: port 0 takes any free one (see `address_of`), None binds nothing.

    Raises `KernelError` if the extra `server` is not installed, or the address cannot be bound.
    """
    if port is None:
        yield None
        return
    try:
        importlib.import_module(SERVER)
    except ImportError as problem:
        text = "serving metrics needs Starlette and uvicorn: pip install 'exchange-kernel[server]'"
        raise KernelError(text) from problem
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.create_server(address, family=family)
    except (OSError, UnicodeError) as problem:
        reason = str(getattr(problem, "strerror", None) or problem).partition(" (")[0]
        text = f"metrics cannot be served at {address_text(host, port)}: {reason} (choose another --metrics-port)"
        raise KernelError(text) from problem
    with bound:
        yield bound


def address_of(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return address_text(host, port)


def address_text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
