"""Where checkpoints are, which of them can be used, and who writes them: so that no start folds the log from its beginning.

Used by `open_kernel`, and by whoever looks into the past. A kernel that runs writes one each so many events, beside its
work and in another thread; whatever is wrong with a file, or with the directory, costs time and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from kernel.errors import IntegrityError, LogUnavailableError, UnsafeFileError
from kernel.log import EventLog
from kernel.log.factory import sqlite_path
from projections import checkpoint
from projections.checkpoint import CheckpointError, CheckpointFiles
from projections.retention.policy import RetentionPolicy
from projections.state import State
from replay.log_access.log_reader import chain_at

logger = logging.getLogger(__name__)


def checkpoint_files(log: EventLog, directory: str | Path | None = None) -> CheckpointFiles | None:
    """The checkpoints of a log: in a directory, else beside a SQLite file (`kernel.db.checkpoints`), else in the user's
    cache. None for a log in memory."""
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
    """The state of the newest checkpoint at or before a position (default: the head) that can be used; a new state without
    one. What is left of the log is still to be folded."""
    fresh = State(retention)
    if files is None:
        return fresh
    end = (await log.head()).position if upto is None else upto
    for path, header in files.usable(upto=end):
        try:
            if (await chain_at(log, header.position)).hex() != header.chain_hash:
                raise CheckpointError("the log has another chain hash at its position")
            state = await asyncio.to_thread(checkpoint.read, path)
            if state.retention != fresh.retention:
                raise CheckpointError(f"it was folded with {state.retention}")
            return state
        except (CheckpointError, IntegrityError, UnsafeFileError, OSError) as problem:
            logger.warning("the checkpoint %s is passed over: %s", path, problem)
    return fresh


class CheckpointKeeper:
    """Writes a checkpoint of a state each so many events."""

    def __init__(self, log: EventLog, state: State, files: CheckpointFiles, *, every_events: int) -> None:
        self._log = log
        self._state = state
        self._files = files
        self._every_events = every_events
        self._written = state.position
        """Position of the newest one; that of the state where it was restored from one."""

    async def run(self) -> None:
        """Write whenever it is time, until cancelled, or until nothing is folded any more."""
        while True:
            await self._state.reached(self._written + self._every_events)
            await self.write()

    async def write_if_due(self) -> None:
        """Write one if it is time."""
        if self._state.position >= self._written + self._every_events:
            await self.write()

    async def write(self) -> None:
        """Write one now. That it can't be written is told, and tried again after as many events."""
        parts, records = self._state.snapshot(), self._state.records().as_now()
        try:
            taken = checkpoint.CheckpointImage(parts, records, await chain_at(self._log, parts.position))
            path = await asyncio.to_thread(self._files.write, taken)
            logger.info("checkpoint written: %s", path, extra={"position": parts.position})
        except (OSError, LogUnavailableError, UnsafeFileError) as problem:
            logger.warning("a checkpoint of position %d can't be written: %s", parts.position, problem)
        self._written = parts.position
