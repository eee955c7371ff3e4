"""Caches stream versions and command positions between a writer's commits, so that most commits need no look-up.

Used by the SQLite and PostgreSQL recorders. Versions are valid for one head only: another writer's commit drops them all.
Command positions never change. A stream or command not in the cache is presumed absent only where a unique index refuses
the contrary; a wrong presumption costs one careful retry.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from kernel.errors import KernelError
from kernel.log.base import Appended, Head
from kernel.log.engine.batch import Batch
from kernel.log.engine.records import Command

STREAMS_MAX = 100_000
COMMANDS_MAX = 20_000


class VersionCache:
    """The cache of one writer. Not thread-safe: guarded by the writer's lock."""

    def __init__(self) -> None:
        self.head: Head | None = None
        """The head at which `versions` are valid."""
        self.versions: dict[str, int] = {}
        self.commands: dict[bytes, tuple[int, int]] = {}

    def at(self, head: Head) -> None:
        """Drop the versions unless they are valid at this head."""
        if self.head != head:
            self.versions.clear()
            self.head = head

    def forget(self) -> None:
        """Drop all versions, after an error."""
        self.head = None
        self.versions.clear()

    def unknown_streams(self, commands: Iterable[Command]) -> list[str]:
        """Return the streams to look up. A stream that is expected to be new needs no look-up."""
        unknown = {
            write.stream_id
            for command in commands
            for write in command.writes
            if write.expected_version != 0 and write.stream_id not in self.versions
        }
        return list(unknown)

    def learn(self, commands: list[Command], batch: Batch) -> None:
        self.head = batch.head
        self.versions.update(batch.versions)
        if len(self.versions) > STREAMS_MAX:
            self.versions.clear()
        for command, outcome in zip(commands, batch.outcomes, strict=True):
            if isinstance(outcome, Appended):
                self.commands[command.command_id] = (outcome.first_position, outcome.last_position)
        if len(self.commands) > COMMANDS_MAX:  # half at once: the first key of a dict is behind every deleted one
            for command_id in [*islice(self.commands, len(self.commands) - COMMANDS_MAX // 2)]:
                del self.commands[command_id]


def streams_of(commands: Iterable[Command]) -> list[str]:
    """Return every stream that commands write to or have an expected version for."""
    return list({write.stream_id for command in commands for write in command.writes})


def has_refusals(batch: Batch) -> bool:
    """Return whether a command was refused: its id must then be looked up, as it may be a duplicate."""
    return any(isinstance(outcome, KernelError) for outcome in batch.outcomes)
