"""Encoding of events as canonical JSON, and decoding with schema versions. Called by the logs and by import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from kernel.errors import SchemaError
from kernel.events import attempts, control, heartbeats, intents, observations, reports
from kernel.events.base import ENVELOPE, BaseEvent, Envelope

EVENT_TYPES: tuple[type[BaseEvent], ...] = (
    intents.IntentCreated, intents.IntentModified, intents.IntentCancelRequested, intents.IntentDeleted,
    intents.TermsAccepted,
    intents.GroupCreated, intents.GroupWorked, intents.GroupUpdated, attempts.AttemptStarted, attempts.AttemptFailed,
    attempts.AttemptUnknown, attempts.AttemptResolved, reports.OrderAccepted, reports.OrderRejected,
    reports.OrderTriggered, reports.OrderFilled, reports.FillInferred, reports.FillCorrected, reports.FillBusted,
    reports.OrderModified, reports.ModifyRejected, reports.OrderCanceled, reports.CancelRejected,
    reports.OrderExpired, reports.OrderStateObserved, observations.OrderStateRecorded,
    observations.OrderStateForgotten, observations.VenueSnapshotTaken, observations.BalancesObserved,
    observations.PositionObserved, observations.TransferObserved, observations.ExternalOrderObserved,
    observations.SymbolObserved, observations.AssetObserved, control.LogCreated, control.LeaderElected,
    control.KernelStarted, control.CapabilitiesChanged, control.KernelStopped, control.Paused, control.Resumed,
    control.FindingRaised, control.FindingResolved, heartbeats.HeartbeatReceived, heartbeats.HeartbeatLapsed,
    heartbeats.HeartbeatDisarmed,
)  # fmt: skip
"""Every event type."""

REGISTRY: Mapping[str, type[BaseEvent]] = {event_type.topic: event_type for event_type in EVENT_TYPES}
"""Event types by topic."""


def encode(event: BaseEvent) -> bytes:
    """Return an event's payload as canonical UTF-8 JSON."""
    return canonical_json(event.model_dump(mode="json", exclude_none=True))


def canonical_json(value: Any) -> bytes:
    """Return a value as canonical JSON: sorted keys, no white space, UTF-8; equal values give equal bytes.

    orjson writes it; the standard library does where an integer is wider than 64 bits (unbounded notionals). Without
    floats both write the same bytes; models and metadata refuse NaN. Raises `ValueError` if JSON cannot represent the
    value.
    """
    try:
        data: bytes = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        return data
    except TypeError:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()


def decode(
    topic: str,
    schema_version: int,
    state: bytes,
    envelope: Envelope | None = None,
    *,
    registry: Mapping[str, type[BaseEvent]] = REGISTRY,
) -> BaseEvent:
    """Return the event of a stored payload, upcast to the current schema version, with its envelope.

    Raises `SchemaError` for an unknown topic, a version newer than this code, or a payload that violates its schema.
    """
    position = envelope.position if envelope else None
    event_type = registry.get(topic)
    if event_type is None:
        raise SchemaError(f"unknown topic {topic!r}: upgrade to a version that reads it", position=position)
    if not 1 <= schema_version <= event_type.schema_version:
        raise SchemaError(
            f"{topic} has schema version {schema_version}, the newest known is {event_type.schema_version}: upgrade",
            position=position,
        )
    try:
        payload = read_once(state)
        if schema_version != event_type.schema_version:
            state = canonical_json(upcast(event_type, schema_version, payload))
        event: BaseEvent = event_type.__pydantic_validator__.validate_json(state, strict=True)
    except UNREADABLE as problem:
        raise SchemaError(f"{topic} does not match its schema: {problem}", position=position) from problem
    if envelope is not None:
        event.__dict__[ENVELOPE] = envelope
    return event


UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""Raised by pydantic, JSON or an upcaster on a payload that does not match its schema."""


def read_once(data: bytes) -> Any:
    """Parse JSON; `ValueError` if an object has a duplicate key, which parsers resolve differently.

    Canonical JSON round-trips unchanged, so it has no duplicate key; only other texts are parsed again.
    """
    try:
        value = orjson.loads(data)
        if orjson.dumps(value, option=orjson.OPT_SORT_KEYS) == data:
            return value
    except (ValueError, TypeError):  # a number wider than 64 bits, or no JSON
        pass
    return json.loads(data, object_pairs_hook=each_key_once)


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict; `ValueError` on a duplicate key."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key in a JSON object")
    return found


def upcast(event_type: type[BaseEvent], schema_version: int, payload: dict[str, Any]) -> dict[str, Any]:
    """Return a payload of an older schema version in the current one."""
    for version in range(schema_version, event_type.schema_version):
        payload = event_type.upcasters[version](payload)
    return payload
