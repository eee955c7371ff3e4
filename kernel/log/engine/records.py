"""Converts appends to commands for the writer, and rows to events.

Called by the logs before the lock and after a read, and by the recorders. Stored payloads are canonical JSON; an event
read back equals the one appended, envelope included.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import msgspec

from kernel.errors import IntegrityError, ValidationError
from kernel.events import REGISTRY, BaseEvent, Envelope, Origin, canonical_json, decode, encode
from kernel.events.codec import decoded, read_once, written
from kernel.log.base import Append, StoredRow, Write
from kernel.models import Evidence

COMMAND_ID_BYTES = 16
STREAM_ID_BYTES_MAX = 256
"""Longest stream id: it is part of two indexes."""
MUST_BE_ABSENT = -1
"""Expected version for library originators that count from 0: the stream must not exist."""

Row = tuple[int, str, int, str, int, int, bytes, int, bytes, bytes, bytes, bytes]
"""A row in the order of `COLUMNS`."""
COLUMNS = StoredRow._fields


class Writer(msgspec.Struct, frozen=True):
    """The process that writes: recorded in each event's meta."""

    os_user: str
    host: str
    pid: int
    session_user: str | None = None

    def meta(
        self, actor: str, evidence: Evidence, correlation_id: str | None = None, causation_position: int | None = None
    ) -> bytes:
        """Return the meta of an append by this process."""
        process = (self.os_user, self.host, self.pid, self.session_user)
        return canonical_json(Origin(actor, evidence, correlation_id, causation_position, *process))


def this_process(session_user: str | None = None) -> Writer:
    return Writer(os_user=_os_user(), host=socket.gethostname(), pid=os.getpid(), session_user=session_user)


def _os_user() -> str:
    import getpass  # for a process that writes

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry in the password database, as in many containers
        return str(os.getuid())


class PreparedEvent(msgspec.Struct, frozen=True, gc=False):
    """An encoded event."""

    topic: str
    schema_version: int
    state: bytes
    event: BaseEvent | None
    """The event as it will be read, for readers in this process; None if only its bytes are known."""


class PreparedWrite(msgspec.Struct, frozen=True, gc=False):
    """A command's events for one stream."""

    stream_id: str
    expected_version: int | None
    events: Sequence[PreparedEvent]


class Command(msgspec.Struct, frozen=True, gc=False):
    """An append, ready for the transaction."""

    command_id: bytes
    writes: Sequence[PreparedWrite]
    meta: bytes
    """The part of the envelope that its events share."""
    epoch: int | None
    elects: bool

    @property
    def bytes_size(self) -> int:
        """The bytes of its events."""
        return sum(len(event.state) + len(self.meta) for write in self.writes for event in write.events)


def prepare(append: Append, writer: Writer) -> Command:
    """Convert an append to a command; raises `ValidationError` if it cannot be recorded."""
    if len(append.command_id) != COMMAND_ID_BYTES:
        raise ValidationError(f"command id has {len(append.command_id)} bytes: it must have {COMMAND_ID_BYTES}")
    if not any(write.events for write in append.writes):
        raise ValidationError("an append needs at least one event")
    if append.elects and append.epoch is None:
        raise ValidationError("an append that elects a leader needs an epoch")
    writes = [_prepare_write(write) for write in append.writes]
    return Command(append.command_id, writes, meta_bytes(append, writer), append.epoch, append.elects)


def check_stream_id(stream_id: str) -> None:
    """Raise `ValidationError` unless every backend accepts the stream id."""
    if not stream_id or "\0" in stream_id or len(stream_id.encode(errors="replace")) > STREAM_ID_BYTES_MAX:
        raise ValidationError(
            f"stream id {stream_id[:80]!r}: it must have 1 to {STREAM_ID_BYTES_MAX} bytes of UTF-8 without NUL"
        )


def meta_bytes(append: Append, writer: Writer) -> bytes:
    """Return the part of the envelope that an append's events share, as canonical JSON."""
    try:
        return writer.meta(append.actor, append.evidence, append.correlation_id, append.causation_position)
    except UnicodeEncodeError as problem:
        raise ValidationError(f"the envelope cannot be encoded as UTF-8: {problem}") from problem


def _prepare_write(write: Write) -> PreparedWrite:
    check_stream_id(write.stream_id)
    if write.expected_version is not None and write.expected_version < 0:
        raise ValidationError("an expected version must be None, 0 (the stream must not exist) or positive")
    return PreparedWrite(write.stream_id, write.expected_version, [_prepare_event(event) for event in write.events])


def _prepare_event(event: BaseEvent) -> PreparedEvent:
    if REGISTRY.get(event.topic) is not type(event):
        raise ValidationError(f"{type(event).__name__} is not a registered event: no reader could decode it")
    try:
        state = encode(event)
        recorded = decoded(type(event), state, is_canonical=True)
    except (ValueError, TypeError, RecursionError) as problem:
        raise ValidationError(f"{event.topic} cannot be recorded: {problem}") from problem
    if recorded != event:
        raise ValidationError(f"{event.topic} cannot be recorded: it would be read as {recorded}")
    return PreparedEvent(event.topic, event.schema_version, state, recorded)


def envelope_of(row: StoredRow) -> Envelope:
    """Return a row's envelope; its meta is decoded where it is read."""
    return Envelope(row.position, row.stream_id, row.version, row.recorded_at_ns, row.meta)


def checked_envelope(row: StoredRow) -> Envelope:
    """Return a row's envelope; raises `IntegrityError` if its meta is malformed or not as a log writes it."""
    envelope = envelope_of(row)
    if written(envelope.origin) != row.meta:
        try:
            read_once(row.meta)
        except (ValueError, RecursionError) as problem:
            raise IntegrityError(f"the envelope is malformed: {problem}", position=row.position) from problem
    return envelope


def event_of(row: StoredRow) -> BaseEvent:
    """Decode a row's event; raises `SchemaError` if this code cannot read it."""
    return decode(row.topic, row.schema_version, row.state, envelope_of(row))
