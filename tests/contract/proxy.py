"""A proxy in front of PostgreSQL that drops connections on demand.

Used by test_postgres_outcome.py. It can drop a connection after the server answered a COMMIT and before the client receives
the answer, or refuse all connections.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

COMMITTED = b"COMMIT\0"
"""The server's word for a transaction that is done: the tag of CommandComplete."""


class Proxy:
    """A server on a Unix socket, with a thread per connection."""

    def __init__(self, directory: Path, upstream_url: str) -> None:
        self._upstream = conninfo_to_dict(upstream_url)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / ".s.PGSQL.5432"))
        self._listener.listen()
        self.url = f"postgresql://{self._upstream.get('user', 'postgres')}@/{self._upstream['dbname']}?host={directory}"
        self.cut_after_commit = 0
        """How many of the next commits are cut off from their answer."""
        self.cuts = 0
        """How many were."""
        self.refusing = False
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def refuse(self) -> None:
        """Drop every connection and refuse new ones."""
        self.refusing = True
        for each in self._sockets:
            _end(each)

    def close(self) -> None:
        """Stop the proxy."""
        self.refuse()
        _end(self._listener)
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        for each in (*self._sockets, self._listener):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{self._upstream['host']}/.s.PGSQL.{self._upstream.get('port') or 5432}")
            self._sockets += [client, server]
            thread = threading.Thread(target=self._forward, args=(client, server), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                readable, _, _ = select.select([client, server], [], [])
                for source, target in ((client, server), (server, client)):
                    if source not in readable:
                        continue
                    data = source.recv(1 << 16)
                    if not data or (source is server and self._cuts(data)):
                        _end(client, server)
                        return
                    target.sendall(data)
        _end(client, server)

    def _cuts(self, data: bytes) -> bool:
        if self.cut_after_commit == 0 or COMMITTED not in data:
            return False
        self.cut_after_commit -= 1
        self.cuts += 1
        return True


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
