"""Between events and rows: an append made ready for the writer, and a row made an event again.

Called by the logs (before the lock and after a read) and by the recorders. Promises: what is stored is canonical JSON;
an event read back equals the one appended, envelope included. It decides nothing and touches no database.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from kernel.errors import IntegrityError, ValidationError, Violation
from kernel.events import REGISTRY, BaseEvent, Envelope, canonical_json, decode, encode
from kernel.events.codec import read_once
from kernel.log import hashing
from kernel.log.base import Append, StoredRow, Write
from kernel.models import Evidence

COMMAND_ID_BYTES = 16
STREAM_ID_BYTES_MAX = 256
"""Longest stream id: it is part of two indexes."""
MUST_BE_ABSENT = -1
"""Expected version of the library's originators that count from 0: the stream must not exist."""

Row = tuple[int, str, int, str, int, int, bytes, int, bytes, bytes, bytes, bytes]
"""A row in the order of `COLUMNS`."""
COLUMNS = (
    "position",
    "stream_id",
    "version",
    "topic",
    "schema_version",
    "recorded_at_ns",
    "command_id",
    "command_index",
    "meta",
    "state",
    "leaf_hash",
    "chain_hash",
)
columns_of: Callable[[StoredRow], Row] = attrgetter(*COLUMNS)
"""A stored row as a `Row`."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: goes into each event's meta."""

    os_user: str
    host: str
    pid: int
    session_user: str | None = None
    tail: str = field(init=False)
    """The end of each meta that it writes, already JSON: the writer's names sort after all others."""

    def __post_init__(self) -> None:
        names = {"host": self.host, "os_user": self.os_user, "pid": self.pid}
        if self.session_user is not None:
            names["session_user"] = self.session_user
        object.__setattr__(self, "tail", canonical_json(names).decode().removeprefix("{"))


def this_process(session_user: str | None = None) -> Writer:
    """The writer that this process is."""
    return Writer(os_user=_os_user(), host=socket.gethostname(), pid=os.getpid(), session_user=session_user)


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry in the password database, as in many containers
        return str(os.getuid())


@dataclass(slots=True)
class PreparedEvent:
    """An event encoded, with the parts of its leaf that don't depend on its place."""

    topic: str
    schema_version: int
    state: bytes
    middle: bytes
    suffix: bytes
    event: BaseEvent | None
    """The event itself, for readers in this process; None when only its bytes are known."""


@dataclass(slots=True)
class PreparedWrite:
    """A stream's part of a command."""

    stream_id: str
    expected_version: int | None
    prefix: bytes
    events: list[PreparedEvent]


@dataclass(slots=True)
class Command:
    """An append, ready for the transaction."""

    command_id: bytes
    writes: list[PreparedWrite]
    meta: bytes
    origin: dict[str, Any]
    """The envelope's fields that all its events share."""
    epoch: int | None
    elects: bool
    bytes_size: int


def prepare(append: Append, writer: Writer) -> Command:
    """An append made ready; `ValidationError` for one that can't be recorded at all."""
    _check(append)
    origin = _origin(append, writer)
    meta = meta_bytes(append, writer)
    command = Command(append.command_id, [], meta, origin, append.epoch, append.elects, 0)
    index = 0
    for write in append.writes:
        command.writes.append(_prepare_write(write, command, index))
        index += len(write.events)
    return command


def _check(append: Append) -> None:
    if len(append.command_id) != COMMAND_ID_BYTES:
        text, length = "command id of {value} bytes: must be of {limit}", str(len(append.command_id))
        limit = str(COMMAND_ID_BYTES)
        raise ValidationError(violations=[Violation("command_id", "length", limit, length, text)])
    if not any(write.events for write in append.writes):
        raise ValidationError("an append needs at least one event")
    if any((write.expected_version or 0) < 0 for write in append.writes):
        raise ValidationError("an expected version is 0 (the stream must not exist) or more, or None")
    if append.elects and append.epoch is None:
        raise ValidationError("an append that elects a leader needs the epoch")


def check_stream_id(stream_id: str) -> None:
    """`ValidationError` unless it can name a stream on every backend."""
    if not stream_id or "\0" in stream_id or len(stream_id.encode(errors="replace")) > STREAM_ID_BYTES_MAX:
        limit = f"1 to {STREAM_ID_BYTES_MAX} bytes without NUL"
        raise ValidationError(violations=[Violation("stream id", "length", limit, stream_id[:80])])


def _origin(append: Append, writer: Writer) -> dict[str, Any]:
    return {
        "actor": append.actor,
        "evidence": append.evidence,
        "correlation_id": append.correlation_id,
        "causation_position": append.causation_position,
        "os_user": writer.os_user,
        "host": writer.host,
        "pid": writer.pid,
        "session_user": writer.session_user,
    }


def meta_bytes(append: Append, writer: Writer) -> bytes:
    """The envelope's shared fields as canonical JSON, put together by hand: this runs for every command."""
    causation = append.causation_position
    correlation = append.correlation_id
    text = '{"actor":' + _quoted(append.actor)
    if causation is not None:
        text += f',"causation_position":{causation:d}'
    if correlation is not None:
        text += ',"correlation_id":' + _quoted(correlation)
    text += ',"evidence":' + _quoted(append.evidence) + "," + writer.tail
    try:
        return text.encode()
    except UnicodeEncodeError as problem:
        raise ValidationError(f"the envelope can't be written as UTF-8: {problem}") from problem


_quoted = json.JSONEncoder(ensure_ascii=False).encode
"""A text as JSON."""


def _prepare_write(write: Write, command: Command, index: int) -> PreparedWrite:
    check_stream_id(write.stream_id)
    prepared = PreparedWrite(write.stream_id, write.expected_version, hashing.leaf_prefix(write.stream_id), [])
    for event in write.events:
        prepared.events.append(_prepare_event(event, command, index))
        index += 1
    return prepared


def _prepare_event(event: BaseEvent, command: Command, index: int) -> PreparedEvent:
    if REGISTRY.get(event.topic) is not type(event):
        raise ValidationError(f"{type(event).__name__} is not a registered event: it could never be read again")
    try:
        state = encode(event)
    except ValueError as problem:
        raise ValidationError(f"{event.topic} can't be written as JSON: {problem}") from problem
    return prepare_state(event.topic, event.schema_version, state, command, index, event)


def prepare_state(
    topic: str, schema_version: int, state: bytes, command: Command, index: int, event: BaseEvent | None = None
) -> PreparedEvent:
    """An encoded event made ready as the `index`-th of a command, whose size it adds to."""
    command.bytes_size += len(state) + len(command.meta)
    middle = hashing.leaf_middle(topic, schema_version)
    suffix = hashing.leaf_suffix(command.command_id, index, command.meta, state)
    return PreparedEvent(topic, schema_version, state, middle, suffix, event)


ORIGIN_TYPES = {
    "actor": str,
    "causation_position": int,
    "correlation_id": str,
    "evidence": str,
    "host": str,
    "os_user": str,
    "pid": int,
    "session_user": str,
}
"""What a row's meta holds; what is absent is not written."""
EVIDENCE = {item.value: item for item in Evidence}


def envelope_of(row: StoredRow) -> Envelope:
    """A row's envelope; `IntegrityError` when its meta can't be read."""
    try:
        origin = read_once(row.meta)
        for name, value in origin.items():
            if type(value) is not ORIGIN_TYPES[name]:
                raise TypeError(f"{name} is {value!r}")
        origin["evidence"] = EVIDENCE[origin["evidence"]]
        return Envelope(row.position, row.stream_id, row.version, row.recorded_at_ns, **origin)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise IntegrityError(f"the envelope can't be read: {problem!r}", position=row.position) from problem


def event_of(row: StoredRow) -> BaseEvent:
    """A row as its event; `SchemaError` when this code can't read it."""
    return decode(row.topic, row.schema_version, row.state, envelope_of(row))
