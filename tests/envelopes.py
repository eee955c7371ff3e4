"""Envelopes of events that no log has recorded."""

from __future__ import annotations

from typing import Any

from kernel.events import Envelope, Origin, canonical_json
from kernel.models import Evidence


def envelope_by(
    position: int, stream_id: str, version: int, recorded_at_ns: int, actor: str, evidence: Evidence, **others: Any
) -> Envelope:
    """An envelope as a log writes it."""
    meta = canonical_json(Origin(actor=actor, evidence=evidence, **others))
    return Envelope(position, stream_id, version, recorded_at_ns, meta)
