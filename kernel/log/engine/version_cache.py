"""What a writer remembers between commits, so that most commits need no look-up.

Used by the SQLite and PostgreSQL recorders. Versions of streams are trusted only as long as the head is the one at which
they were learned: somebody else's commit moves the head, and all of them are forgotten. Where a command ended up never
changes, so those are kept, up to a bound. What is not remembered is presumed absent only where the database itself
refuses the opposite (unique command ids, unique versions): a presumption that fails costs one careful repetition.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel.errors import KernelError
from kernel.log.base import Appended, Head
from kernel.log.engine.batch import Batch
from kernel.log.engine.records import Command

STREAMS_MAX = 100_000
COMMANDS_MAX = 20_000


class VersionCache:
    """Streams and commands that a writer has dealt with. Not safe for threads: guarded by the writer's lock."""

    def __init__(self) -> None:
        self.head: Head | None = None
        """The head that the versions belong to."""
        self.versions: dict[str, int] = {}
        self.commands: dict[bytes, tuple[int, int]] = {}

    def at(self, head: Head) -> None:
        """The head is this: forget the versions unless they belong to it."""
        if self.head != head:
            self.versions.clear()
            self.head = head

    def forget(self) -> None:
        """Something went wrong: trust nothing that may have changed."""
        self.head = None
        self.versions.clear()

    def unknown_streams(self, commands: Iterable[Command]) -> list[str]:
        """Streams whose version has to be looked up. A stream that is expected to be new needs no look-up."""
        unknown = {
            write.stream_id
            for command in commands
            for write in command.writes
            if write.expected_version != 0 and write.stream_id not in self.versions
        }
        return list(unknown)

    def learn(self, commands: list[Command], batch: Batch) -> None:
        """A batch was committed."""
        self.head = batch.head
        self.versions.update(batch.versions)
        if len(self.versions) > STREAMS_MAX:
            self.versions.clear()
        for command, outcome in zip(commands, batch.outcomes, strict=True):
            if isinstance(outcome, Appended):
                self.commands[command.command_id] = (outcome.first_position, outcome.last_position)
        while len(self.commands) > COMMANDS_MAX:
            del self.commands[next(iter(self.commands))]


def streams_of(commands: Iterable[Command]) -> list[str]:
    """Every stream that commands write to, or make a condition on."""
    return list({write.stream_id for command in commands for write in command.writes})


def has_refusals(batch: Batch) -> bool:
    """Whether a command was refused: then its id has to be looked up, since it may be there already."""
    return any(isinstance(outcome, KernelError) for outcome in batch.outcomes)
