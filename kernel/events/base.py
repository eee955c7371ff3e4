"""What all events have in common: streams, the envelope, and the base model. See the package for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from kernel.models import Evidence
from kernel.order_spec import Model

CONTROL_STREAM = "control"
VENUE_STREAM = "venue"
REFERENCE_STREAM = "reference"
INTENT_STREAM_PREFIX = "intent:"
GROUP_STREAM_PREFIX = "group:"
HEARTBEAT_STREAM_PREFIX = "heartbeat:"


def intent_stream(intent_id: str) -> str:
    """The stream that holds everything about one intent."""
    return INTENT_STREAM_PREFIX + intent_id


def group_stream(group_id: str) -> str:
    """The stream that holds what is shared by the members of a group."""
    return GROUP_STREAM_PREFIX + group_id


def heartbeat_stream(owner: str) -> str:
    """The stream that says whether one owner is alive."""
    return HEARTBEAT_STREAM_PREFIX + owner


class Envelope(NamedTuple):
    """Where, when and why an event was recorded. Written by the log, never by the event's author."""

    position: int
    """Its place in the log, 1 … N without gaps."""
    stream_id: str
    """The stream it belongs to."""
    version: int
    """Its place in the stream, 1 … n without gaps."""
    recorded_at_ns: int
    """When it was recorded, Unix nanoseconds, never decreasing along the log."""
    actor: str
    """`strategy:x`, `reconciler`, `venue:y`, `operator:z`, `kernel`."""
    evidence: Evidence
    """Where the fact comes from."""
    correlation_id: str | None = None
    """The command that began it: its id in hex."""
    causation_position: int | None = None
    """Position of the event that caused it."""
    os_user: str | None = None
    """User of the operating system who wrote it."""
    host: str | None = None
    """Host that wrote it."""
    pid: int | None = None
    """Process that wrote it."""
    session_user: str | None = None
    """The database's session user (PostgreSQL)."""


ENVELOPE = "recorded_envelope"
"""Where an event keeps its envelope: beside its fields, so that it is neither payload nor part of what is compared."""

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class BaseEvent(Model):
    """Base of every event: its payload is the model's fields, its envelope is added by the log."""

    topic: ClassVar[str]
    """Stable name under which it is stored."""
    schema_version: ClassVar[int] = 1
    """Version of the payload's schema."""
    upcasters: ClassVar[Mapping[int, Upcaster]] = {}
    """From version n, a pure function to the payload of version n + 1."""

    @property
    def envelope(self) -> Envelope:
        """Where, when and why it was recorded; `ValueError` before it was."""
        found: Envelope | None = self.__dict__.get(ENVELOPE)
        if found is None:
            raise ValueError(f"{self.topic} was not recorded yet, so it has no envelope")
        return found

    @property
    def recorded(self) -> bool:
        """Whether it comes from a log."""
        return ENVELOPE in self.__dict__

    @property
    def position(self) -> int:
        """Its place in the log."""
        return self.envelope.position

    @property
    def stream_id(self) -> str:
        """The stream it belongs to."""
        return self.envelope.stream_id

    @property
    def version(self) -> int:
        """Its place in the stream."""
        return self.envelope.version

    @property
    def recorded_at_ns(self) -> int:
        """When it was recorded, Unix nanoseconds."""
        return self.envelope.recorded_at_ns

    @property
    def actor(self) -> str:
        """Who wrote it."""
        return self.envelope.actor

    @property
    def evidence(self) -> Evidence:
        """Where the fact comes from."""
        return self.envelope.evidence

    @property
    def correlation_id(self) -> str | None:
        """The command that began it."""
        return self.envelope.correlation_id

    @property
    def causation_position(self) -> int | None:
        """Position of the event that caused it."""
        return self.envelope.causation_position

    def with_envelope(self, envelope: Envelope) -> BaseEvent:
        """The same event as recorded there."""
        copy = self.model_copy()
        copy.__dict__[ENVELOPE] = envelope
        return copy
