"""Finds usable checkpoints and writes new ones, so that no start folds the log from its first event.

Used by `open_kernel` and by readers of history. A running kernel writes one every so many events, in a thread. Anything
wrong with a file or the directory costs time and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kernel.errors import IntegrityError, LogUnavailableError, UnsafeFileError
from kernel.log import EventLog
from kernel.log.factory import sqlite_path
from projections import checkpoint
from projections.checkpoint import CheckpointError, CheckpointFiles
from projections.retention.policy import RetentionPolicy
from projections.state import State
from replay.log_access.log_reader import chain_at, gc_relaxed

logger = logging.getLogger(__name__)

T = TypeVar("T")


def checkpoint_files(log: EventLog, directory: str | Path | None = None) -> CheckpointFiles | None:
    """The checkpoints of a log: in `directory`, else beside its SQLite file (`kernel.db.checkpoints`), else in the user's
    cache; None for a log in memory."""
    if directory is not None:
        return CheckpointFiles(Path(directory), log.log_id)
    if log.url.startswith("sqlite://"):
        path = sqlite_path(log.url)
        return CheckpointFiles(path.with_name(f"{path.name}.checkpoints"), log.log_id)
    if log.url.startswith("memory://"):
        return None
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return CheckpointFiles(Path(cache).expanduser() / "exchange-kernel", log.log_id)


async def restored_state(
    log: EventLog, files: CheckpointFiles | None, *, upto: int | None = None, retention: RetentionPolicy | None = None
) -> State:
    """The state of the newest usable checkpoint at or before a position (default: the head), else a new state. Fold the
    rest of the log after that."""
    fresh = State(retention)

    def read(path: Path) -> State:
        state = checkpoint.read(path)
        if state.retention != fresh.retention:
            raise CheckpointError(f"it was folded with the retention policy {state.retention}")
        return state

    end = (await log.head()).position if upto is None else upto
    return await newest_read(log, files, read, upto=end) or fresh


async def newest_read(
    log: EventLog, files: CheckpointFiles | None, read: Callable[[Path], T], *, upto: int
) -> T | None:
    """Return the result of `read` for the newest usable checkpoint at or before a position; None without one."""
    for path, header in files.usable(upto=upto) if files is not None else ():
        try:
            if (await chain_at(log, header.position)).hex() != header.chain_hash:
                raise CheckpointError("the log has another chain hash at its position")
            with gc_relaxed():
                return await asyncio.to_thread(read, path)
        except (CheckpointError, IntegrityError, UnsafeFileError, OSError) as problem:
            logger.warning("the checkpoint %s is skipped: %s", path, problem)
    return None


class CheckpointKeeper:
    """Writes a checkpoint of a state every `every_events` events."""

    def __init__(self, log: EventLog, state: State, files: CheckpointFiles, *, every_events: int) -> None:
        self._log = log
        self._state = state
        self._files = files
        self._every_events = every_events
        self._written = state.position
        """Position of the newest checkpoint; at first that of the state."""

    async def run(self) -> None:
        """Write checkpoints until cancelled or until the state fails."""
        while True:
            await self._state.reached(self._written + self._every_events)
            await self.write()

    async def write_if_due(self) -> None:
        """Write a checkpoint if enough events were folded since the last one."""
        if self._state.position >= self._written + self._every_events:
            await self.write()

    async def write(self) -> None:
        """Write a checkpoint now. A failure is logged, and the next attempt follows after `every_events`."""
        snapshot, records = self._state.snapshot(), [*self._state.records().values()]
        try:
            taken = checkpoint.CheckpointImage(snapshot, records, await chain_at(self._log, snapshot.position))
            path = await asyncio.to_thread(self._files.write, taken)
            logger.info("checkpoint written: %s", path, extra={"position": snapshot.position})
        except (OSError, LogUnavailableError, UnsafeFileError) as problem:
            logger.warning("cannot write the checkpoint of position %d: %s", snapshot.position, problem)
        self._written = snapshot.position
