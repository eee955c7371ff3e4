"""How an event is stored and read again: topics, canonical JSON, schema versions."""

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
"""Every event that can be in a log."""

REGISTRY: Mapping[str, type[BaseEvent]] = {event_type.topic: event_type for event_type in EVENT_TYPES}
"""Topic → model."""


def encode(event: BaseEvent) -> bytes:
    """An event's payload as canonical UTF-8 JSON."""
    return canonical_json(event.model_dump(mode="json", exclude_none=True))


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no white space, UTF-8: one value, one text. `ValueError` for what JSON can't hold.

    Written by orjson, and by the standard library where an integer is wider than 64 bits (unbounded notionals); without
    floats the two write the same bytes. NaN never comes here: the models, and an intent's metadata, refuse it.
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
    """A stored payload as its event, brought up to this code's schema version.

    Raises `SchemaError` (with the position) for an unknown topic, a version newer than this code, or a payload that is
    not of its schema.
    """
    position = envelope.position if envelope else None
    event_type = registry.get(topic)
    if event_type is None:
        raise SchemaError(f"unknown topic {topic!r}: written by a newer version? upgrade to read it", position=position)
    if not 1 <= schema_version <= event_type.schema_version:
        raise SchemaError(
            f"{topic} has schema version {schema_version}, this code reads up to {event_type.schema_version}: upgrade",
            position=position,
        )
    try:
        read_once(state)
        if schema_version != event_type.schema_version:
            state = canonical_json(upcast(event_type, schema_version, state))
        event: BaseEvent = event_type.__pydantic_validator__.validate_json(state, strict=True)
    except UNREADABLE as problem:
        raise SchemaError(f"{topic} is not of its schema: {problem}", position=position) from problem
    if envelope is not None:
        event.__dict__[ENVELOPE] = envelope
    return event


UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading a payload that is not of its schema raises: pydantic, JSON, or an upcaster that misses a field."""


def read_once(data: bytes) -> Any:
    """A JSON text as a value; `ValueError` when an object has a key twice: its readers (this one, SQLite's, PostgreSQL's)
    would disagree.

    Canonical JSON, which is what is stored, reads and writes back as it is, and so has each key once.
    """
    try:
        value = orjson.loads(data)
        if orjson.dumps(value, option=orjson.OPT_SORT_KEYS) == data:
            return value
    except (ValueError, TypeError):  # of a number wider than 64 bits, or of no JSON at all
        pass
    return json.loads(data, object_pairs_hook=each_key_once)


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict; `ValueError` when a key comes twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found


def upcast(event_type: type[BaseEvent], schema_version: int, state: bytes) -> dict[str, Any]:
    """A payload of an older version as one of the current version, by the chain of upcasters."""
    payload: dict[str, Any] = json.loads(state)
    for version in range(schema_version, event_type.schema_version):
        payload = event_type.upcasters[version](payload)
    return payload
