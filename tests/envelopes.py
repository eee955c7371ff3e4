"""Envelopes of events that no log has recorded."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from kernel.events import BaseEvent, Envelope, Origin, canonical_json
from kernel.events.base import enveloped
from kernel.models import Evidence

AnyEvent = TypeVar("AnyEvent", bound=BaseEvent)


def with_envelope(event: AnyEvent, envelope: Envelope) -> AnyEvent:
    """A copy of an event with an envelope."""
    return enveloped(msgspec.structs.replace(event), envelope)


def envelope_by(
    position: int, stream_id: str, version: int, recorded_at_ns: int, actor: str, evidence: Evidence, **others: Any
) -> Envelope:
    """An envelope as a log writes it."""
    meta = canonical_json(Origin(actor=actor, evidence=evidence, **others))
    return Envelope(position, stream_id, version, recorded_at_ns, meta)
