"""The parts that all events share: stream names, the envelope and the base model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import msgspec

from kernel.errors import IntegrityError
from kernel.models import Evidence
from kernel.values import Value

CONTROL_STREAM = "control"
VENUE_STREAM = "venue"
REFERENCE_STREAM = "reference"
INTENT_STREAM_PREFIX = "intent:"
GROUP_STREAM_PREFIX = "group:"
HEARTBEAT_STREAM_PREFIX = "heartbeat:"


def intent_stream(intent_id: str) -> str:
    return INTENT_STREAM_PREFIX + intent_id


def group_stream(group_id: str) -> str:
    return GROUP_STREAM_PREFIX + group_id


def heartbeat_stream(owner: str) -> str:
    return HEARTBEAT_STREAM_PREFIX + owner


class Origin(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """By whom, from what and for which command an event was recorded: an event's meta."""

    actor: str
    """`strategy:x`, `reconciler`, `venue:y`, `operator:z` or `kernel`."""
    evidence: Evidence
    """Source of the fact."""
    correlation_id: str | None = None
    """Id of the command that led to the event, in hex."""
    causation_position: int | None = None
    """Position of the event that caused this one."""
    os_user: str | None = None
    """Operating system user of the writer."""
    host: str | None = None
    """Host of the writer."""
    pid: int | None = None
    """Process id of the writer."""
    session_user: str | None = None
    """Database session user of the writer (PostgreSQL)."""


decode_origin = msgspec.json.Decoder(Origin).decode


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """Where, when and by whom an event was recorded. Written by the log."""

    position: int
    """Position in the log, 1 … N without gaps."""
    stream_id: str
    """The event's stream."""
    version: int
    """Position in the stream, 1 … n without gaps."""
    recorded_at_ns: int
    """When it was recorded, Unix nanoseconds; never decreases along the log."""
    meta: bytes
    """The stored `Origin`, which few readers need."""

    @property
    def origin(self) -> Origin:
        """The meta, decoded at each call; `IntegrityError` if it is malformed."""
        try:
            return decode_origin(self.meta)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise IntegrityError(f"the envelope is malformed: {problem}", position=self.position) from problem


ENVELOPE = "recorded_envelope"
"""Key of the envelope in an event's `__dict__`: outside the fields, so outside the payload and comparisons."""

AnyEvent = TypeVar("AnyEvent", bound="BaseEvent")
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class BaseEvent(Value, dict=True, gc=True):
    """Base of every event. The fields are the payload; the log adds the envelope."""

    topic: ClassVar[str]
    """Stable name under which the event is stored: that of its class, unless the class sets another."""
    schema_version: ClassVar[int] = 1
    """Version of the payload's schema."""
    recorded_envelope: ClassVar[Envelope | None] = None
    """The envelope of a recorded event: each has its own in its `__dict__`."""
    upcasters: ClassVar[Mapping[int, Upcaster]] = {}
    """By version n: a pure function from its payload to that of version n + 1."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "topic" not in cls.__dict__:
            cls.topic = cls.__name__

    @property
    def envelope(self) -> Envelope:
        """The envelope; `ValueError` if the event has not been recorded."""
        found = self.recorded_envelope
        if found is None:
            raise ValueError(f"{self.topic} is not recorded, so it has no envelope")
        return found

    @property
    def recorded(self) -> bool:
        """True if the event comes from a log."""
        return self.recorded_envelope is not None

    @property
    def position(self) -> int:
        return self.envelope.position

    @property
    def stream_id(self) -> str:
        return self.envelope.stream_id

    @property
    def version(self) -> int:
        return self.envelope.version

    @property
    def recorded_at_ns(self) -> int:
        return self.envelope.recorded_at_ns

    @property
    def actor(self) -> str:
        return self.envelope.origin.actor

    @property
    def evidence(self) -> Evidence:
        return self.envelope.origin.evidence

    @property
    def correlation_id(self) -> str | None:
        return self.envelope.origin.correlation_id

    @property
    def causation_position(self) -> int | None:
        return self.envelope.origin.causation_position


def enveloped(event: AnyEvent, envelope: Envelope) -> AnyEvent:
    """Give an envelope to an event that nobody else has yet; return the event."""
    event.__dict__[ENVELOPE] = envelope
    return event


def intent_id_of(event: BaseEvent) -> str | None:
    """Return the intent that an event is about: that of its stream, else the one that it names."""
    if event.recorded and event.stream_id.startswith(INTENT_STREAM_PREFIX):
        return event.stream_id.removeprefix(INTENT_STREAM_PREFIX)
    return getattr(event, "intent_id", None)
