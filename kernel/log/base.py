"""The log's contract: what can be asked of it, what is promised, and the records that pass through.

Implemented by `memory`, `sqlite` and `postgres` beside this file; used by the machine, the stores and the replay tools
through `EventLog` alone. Positions count 1 … N without gaps. An append returns after the commit. See the table of
promises in the package's docstring.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

from kernel.clock import Clock, IdFactory
from kernel.events import BaseEvent
from kernel.lease import Lease
from kernel.models import Evidence

ANY_VERSION = None
"""Expected version of a write that may land on whatever is there (facts)."""


@dataclass(frozen=True, slots=True)
class Write:
    """Events for one stream."""

    stream_id: str
    events: tuple[BaseEvent, ...]
    expected_version: int | None = ANY_VERSION
    """Version that the stream must have (0: it must not exist yet); None for facts, which land on whatever is there."""


@dataclass(frozen=True, slots=True)
class Append:
    """A command's writes: all of them are recorded, next to each other, or none is."""

    command_id: bytes
    """16 bytes. Appended twice, the second gets the first one's positions and writes nothing."""
    writes: tuple[Write, ...]
    actor: str
    """`strategy:x`, `reconciler`, `venue:y`, `operator:z`, `kernel`."""
    evidence: Evidence
    correlation_id: str | None = None
    causation_position: int | None = None
    epoch: int | None = None
    """The leader's epoch for attempts, verdicts and control events: an epoch other than the head's is a `FencedError`.
    None for commands and facts, which are always taken."""
    elects: bool = False
    """This append carries `LeaderElected(epoch)`: `epoch` must be the head's + 1, and becomes the head's."""
    is_fact: bool = False
    """Facts are taken even when the queue is full; commands are then refused with `BusyError`."""


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a command's events are."""

    first_position: int
    last_position: int
    duplicate: bool = False
    """The command id was known: these are the positions of the first time."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log."""

    position: int
    """Position of the last event; 0 when the log is empty."""
    chain_hash: bytes
    """32 bytes; zeros when the log is empty."""
    epoch: int
    """Epoch of the newest leader; 0 before the first election."""
    recorded_at_ns: int
    """When the last event was recorded."""


class StoredRow(NamedTuple):
    """One row as it is stored: what an auditor sees, and what the hashes cover. A tuple: readers make many."""

    position: int
    stream_id: str
    version: int
    topic: str
    schema_version: int
    recorded_at_ns: int
    command_id: bytes
    command_index: int
    meta: bytes
    """Canonical JSON of the envelope's actor, evidence, ids and writer."""
    state: bytes
    """Canonical JSON of the event's payload."""
    leaf_hash: bytes
    chain_hash: bytes


@dataclass(frozen=True, slots=True)
class StreamHead:
    """Where a stream is: as its events have it, and as the table of streams has it, which writers go by."""

    stream_id: str
    version: int | None
    """Version of its newest event; None when it has none."""
    listed_version: int | None
    """What the table of streams says; None when it does not list it."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Bounds of a log. Times in seconds, sizes in what their name says."""

    queue_commands_max: int = 10_000
    """Commands that may wait for the writer; more are refused."""
    batch_commands_max: int = 512
    """Commands that one commit takes at most."""
    batch_bytes_max: int = 1 << 20
    """Bytes of payload that one commit takes at most, save that one command always fits."""
    page_rows: int = 1_000
    """Rows that one read fetches."""
    poll_interval_s_min: float = 0.001
    """SQLite: how often another process's commits are looked for, at first …"""
    poll_interval_s_max: float = 0.05
    """… and at most, after nothing came for a while."""
    listen_fallback_s: float = 1.0
    """PostgreSQL: a pull is made at least this often, whatever notifications do."""
    reconnect_timeout_s: float = 30.0
    """How long a lost database is waited for before appends are refused."""


class EventLog(ABC):
    """An append-only log of one exchange account."""

    exchange_id: str
    """The account whose log this is."""
    log_id: str
    """64 random bits in hex, from the log's first event."""
    url: str
    """Where it is; without a password."""

    @abstractmethod
    async def append(self, append: Append) -> Appended:
        """Record a command's events; returns after the commit.

        Raises `ConflictError` (an expected version does not hold), `FencedError`, `BusyError`, `LogUnavailableError`
        (nothing is known to be recorded), `IntegrityError`.
        """

    @abstractmethod
    def tail(self, after: int) -> AsyncIterator[list[BaseEvent]]:
        """Batches of decoded events from `after` + 1 on, first what is there, then what comes. Ends with `close`.

        Asserts that positions follow each other, and that hashes chain; raises `IntegrityError` with the first bad
        position, `SchemaError` for an event that this code can't read.
        """

    @abstractmethod
    def read(self, after: int = 0, upto: int | None = None) -> AsyncIterator[list[StoredRow]]:
        """Pages of raw rows after a position, up to another (default: the head at the time of the call)."""

    @abstractmethod
    async def read_stream(self, stream_id: str, after_version: int = 0) -> list[BaseEvent]:
        """The decoded events of one stream after a version."""

    @abstractmethod
    async def intent_id_of(
        self, *, client_order_id: str | None = None, exchange_order_id: str | None = None, upto: int
    ) -> str | None:
        """The intent that was recorded with one of these ids up to a position: the client order id of something that was
        sent for it, or the venue's id of one of its orders. The venue's id decides where both are known."""

    @abstractmethod
    async def stream_rows(self, stream_id: str, *, after_version: int = -1, upto_version: int) -> list[StoredRow]:
        """The raw rows of one stream after a version, up to another, by version."""

    @abstractmethod
    async def stream_heads(self, after: str = "") -> list[StreamHead]:
        """The next streams after a name, in order; none after the last. What is said of one was so in one instant."""

    @abstractmethod
    async def repeated_commands(self, after: int, upto: int) -> list[tuple[int, int]]:
        """Commands that begin after a position, up to another, under an id that began a command before: both positions."""

    @abstractmethod
    def lease(self, *, clock: Clock, ids: IdFactory | None = None) -> Lease:
        """A lease of this log, not held yet: the right to act on its venue."""

    @abstractmethod
    async def lease_is_held(self) -> bool:
        """Whether anybody holds a lease of this log now: a look that takes nothing.

        The answer may be over at once: it is for people and for monitoring, never a reason to act at a venue. Raises
        `LogUnavailableError` when it can't be seen.
        """

    @abstractmethod
    async def head(self) -> Head:
        """The end of the log now."""

    @abstractmethod
    async def close(self) -> None:
        """Write what was taken, then let go of threads, files and connections. Idempotent."""

    def __await__(self) -> Generator[Any, Any, Self]:
        """`await open_log(...)` gives the log itself, which is open already."""
        yield from ()
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
