"""Calls back when any process writes to a file. Used by `SQLiteLog`, to notice commits of other processes at once.

Where the system has no inotify, or no watch is left, nothing is watched: it is a hint, and the caller polls as well.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path

IN_MODIFY = 0x2
IN_ONESHOT = 0x80000000
EVENTS_BYTES = 4_096


class FileWatch:
    """A watch of one file, by a thread."""

    def __init__(self, path: Path, on_write: Callable[[], None]) -> None:
        self._path = os.fsencode(path)
        self._on_write = on_write
        self._libc = ctypes.CDLL(None)
        self._inotify = self._libc.inotify_init1(os.O_CLOEXEC) if sys.platform == "linux" else -1
        if self._inotify >= 0:
            self._stop = os.eventfd(0)
            self._thread = threading.Thread(target=self._run, name="file-watch", daemon=True)
            self._thread.start()

    def arm(self) -> None:
        """Call back at the next write, once."""
        if self._inotify >= 0:
            self._libc.inotify_add_watch(self._inotify, self._path, IN_MODIFY | IN_ONESHOT)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._inotify, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while all(descriptor != self._stop for descriptor, _ in poll.poll()):
            os.read(self._inotify, EVENTS_BYTES)
            self._on_write()

    def close(self) -> None:
        """End the watch. Blocks until the last call back has returned."""
        if self._inotify >= 0:
            os.eventfd_write(self._stop, 1)
            self._thread.join()
            os.close(self._inotify)
            os.close(self._stop)
