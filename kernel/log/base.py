"""The interface of an event log and its records.

Implemented by the backends; the kernel, the projections and the replay tools use `EventLog` alone. Positions are 1 to N
without gaps. An append returns after the commit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from kernel.clock import Clock
from kernel.events import BaseEvent
from kernel.lease import Lease
from kernel.models import Evidence

ANY_VERSION = None
"""Expected version of a write that accepts any version of its stream, as facts do."""


class Write(msgspec.Struct, frozen=True):
    """Events for one stream."""

    stream_id: str
    events: tuple[BaseEvent, ...]
    expected_version: int | None = ANY_VERSION
    """Version that the stream must have (0: it must not exist); None accepts any version."""


class Append(msgspec.Struct, frozen=True):
    """The writes of one command: recorded next to each other, all or none."""

    command_id: bytes
    """16 bytes. A second append with the same id writes nothing and returns the positions of the first."""
    writes: tuple[Write, ...]
    actor: str
    """`strategy:x`, `reconciler`, `venue:y`, `operator:z`, `kernel`."""
    evidence: Evidence
    correlation_id: str | None = None
    causation_position: int | None = None
    epoch: int | None = None
    """The leader's epoch, for events that only the leader may append: raises `FencedError` unless it is the head's epoch.
    None for commands and facts, which are not fenced."""
    elects: bool = False
    """The append contains `LeaderElected(epoch)`: `epoch` must be the head's plus 1, and becomes the head's."""
    is_fact: bool = False
    """Facts are accepted when the queue is full; commands are refused with `BusyError`."""


class Appended(msgspec.Struct, frozen=True):
    """The positions of a command's events."""

    first_position: int
    last_position: int
    duplicate: bool = False
    """The command id was recorded before: the positions are those of the first append."""


class Head(msgspec.Struct, frozen=True):
    """The end of the log."""

    position: int
    """Position of the last event; 0 in an empty log."""
    chain_hash: bytes
    """32 bytes; zeros in an empty log."""
    epoch: int
    """Epoch of the newest leader; 0 before the first election."""
    recorded_at_ns: int
    """When the last event was recorded, in ns since the Unix epoch."""


class StoredRow(NamedTuple):
    """One row of the log as it is stored, and as the hashes cover it. A tuple, because readers create many."""

    position: int
    stream_id: str
    version: int
    topic: str
    schema_version: int
    recorded_at_ns: int
    command_id: bytes
    command_index: int
    meta: bytes
    """Canonical JSON of the envelope: actor, evidence, ids, writer."""
    state: bytes
    """Canonical JSON of the payload."""
    leaf_hash: bytes
    chain_hash: bytes


class StreamHead(msgspec.Struct, frozen=True):
    """A stream's version, by its events and by the table of streams that writers use."""

    stream_id: str
    version: int | None
    """Version of its newest event; None without events."""
    listed_version: int | None
    """Version in the table of streams; None when the stream is not listed."""


class LogSettings(msgspec.Struct, frozen=True):
    """Bounds of a log."""

    queue_commands_max: int = 10_000
    """Commands that may wait for the writer; further ones are refused."""
    batch_bytes_max: int = 1 << 20
    """Bytes of payload per commit; a single larger command is committed alone."""
    page_rows: int = 1_000
    """Rows per read."""
    listen_fallback_s: float = 1.0
    """PostgreSQL: the longest time between reads, should a notification be lost."""
    reconnect_timeout_s: float = 30.0
    """How long a lost database is retried before appends are refused."""


class EventLog(ABC):
    """An append-only log of one exchange account."""

    exchange_id: str
    """The log's exchange account."""
    log_id: str
    """64 random bits in hex, from the log's first event."""
    url: str
    """The log's URL without a password."""

    @abstractmethod
    async def append(self, append: Append) -> Appended:
        """Record a command's events, and return after the commit.

        Raises:
            ConflictError: A stream does not have its expected version.
            FencedError: `append.epoch` is not the head's epoch.
            BusyError: The queue is full, and the append is not a fact.
            LogUnavailableError: The database cannot be used; whether the events are recorded is unknown.
            IntegrityError: The log is damaged.
        """

    @abstractmethod
    def tail(self, after: int) -> AsyncIterator[list[BaseEvent]]:
        """Return batches of events from position `after` + 1: the recorded ones, then new ones, until `close`.

        Raises:
            IntegrityError: Positions have a gap or hashes do not chain; names the first bad position.
            SchemaError: This code cannot read an event.
        """

    @abstractmethod
    def read(self, after: int = 0, upto: int | None = None) -> AsyncIterator[list[StoredRow]]:
        """Return pages of unchecked rows after one position up to another (default: the head at the time of the call)."""

    @abstractmethod
    async def read_stream(self, stream_id: str, after_version: int = 0) -> list[BaseEvent]:
        """Return the events of one stream after a version; checks each row's leaf hash."""

    @abstractmethod
    async def newest(self, stream_id: str, topic: str, *, upto: int, limit: int) -> list[BaseEvent]:
        """Return the newest events of one topic in a stream up to a position, in order; checks each row's leaf hash."""

    @abstractmethod
    async def intent_ids_of(
        self, *, client_order_id: str | None = None, exchange_order_id: str | None = None, upto: int
    ) -> list[str]:
        """Return the intents recorded with one of these ids up to a position: those of the venue's id first, newest first.

        `client_order_id` is a request's (FIX 11), `exchange_order_id` the venue's (FIX 37), which it may give again.
        """

    @abstractmethod
    async def stream_rows(self, stream_id: str, *, after_version: int = -1, upto_version: int) -> list[StoredRow]:
        """Return the rows of one stream after one version up to another, by version."""

    @abstractmethod
    async def stream_heads(self, after: str = "") -> list[StreamHead]:
        """Return the next page of streams after a name, in order; each head is consistent in itself."""

    @abstractmethod
    async def repeated_commands(self, after: int, upto: int) -> list[tuple[int, int]]:
        """Return the commands in a range of positions whose id an earlier command has, as pairs of first positions."""

    @abstractmethod
    def lease(self, *, clock: Clock) -> Lease:
        """Return a lease of this log, not yet acquired: the right to send orders to its venue."""

    @abstractmethod
    async def lease_is_held(self) -> bool:
        """Return whether a process holds a lease of this log, without taking it.

        For people and monitoring: the answer may be out of date, so it never permits sending orders.

        Raises:
            LogUnavailableError: The lease cannot be checked.
        """

    @abstractmethod
    async def head(self) -> Head:
        """Return the current end of the log."""

    @abstractmethod
    async def close(self) -> None:
        """Write the queued commands, then release threads, files and connections. Idempotent."""

    def __await__(self) -> Generator[Any, Any, Self]:
        """Return the log itself: `log = await open_log(...)` works, too."""
        yield from ()
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
