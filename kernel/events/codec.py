"""Encoding of events as canonical JSON, and decoding with schema versions. Called by the logs and by import."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec

from kernel.errors import SchemaError
from kernel.events import attempts, control, heartbeats, intents, observations, reports
from kernel.events.base import BaseEvent, Envelope, enveloped
from kernel.order_spec import UINT64_MAX
from kernel.values import Value

AnyValue = TypeVar("AnyValue", bound=Value)

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


written: Callable[[Any], bytes] = msgspec.json.Encoder(order="sorted").encode
FLOAT = rb'("(?:[^"\\]|\\.)*")|(\de)(\d)'
"""A string, which stays as it is, or the exponent of a number from 1e16 on, which is stored with its sign."""
DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
WIDE = b"0" * 20
"""Twenty digits: more than msgspec can bound."""
LONG_NUMBER = rb"\d{20,}"
WIDEST = b"%d" % UINT64_MAX
EXPONENT = re.compile(rb"e\d\d+(?:[,}\]]|\Z)")
"""The end of such a number, which hardly any text has: most values are searched once, and fast."""


def encode(event: BaseEvent) -> bytes:
    """Return an event's payload as canonical UTF-8 JSON."""
    return canonical_json(event)


def canonical_json(value: Any) -> bytes:
    """Return a value as canonical JSON: sorted keys, no white space, UTF-8; equal values give equal bytes.

    Raises `ValueError` or `TypeError` if JSON cannot represent the value.
    """
    data = written(value)
    if EXPONENT.search(data):
        data = re.sub(FLOAT, lambda found: found[1] or found[2] + b"+" + found[3], data)
    return data


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
        if schema_version != event_type.schema_version:
            state = canonical_json(upcast(event_type, schema_version, read_once(state)))
        event = decoded(event_type, state)
    except UNREADABLE as problem:
        raise SchemaError(f"{topic} does not match its schema: {problem}", position=position) from problem
    return event if envelope is None else enveloped(event, envelope)


UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""Raised by msgspec, pydantic, JSON or an upcaster on a payload that does not match its schema."""


def decoded(kind: type[AnyValue], state: bytes, *, is_canonical: bool = False) -> AnyValue:
    """Return the value that a canonical text of the current version holds; one of UNREADABLE if it violates the schema.

    Canonical JSON round-trips unchanged, so it has no duplicate key, which parsers resolve differently. Other texts, and
    numbers that msgspec cannot bound, are rare: pydantic validates them.
    """
    value: AnyValue = decoder(kind)(state)
    is_canonical = is_canonical or written(value) == state or canonical_json(value) == state
    if not is_canonical or (WIDE in state.translate(DIGITS) and is_wide(state)):
        from kernel.values.edge import adapter

        read_once(state)
        value = adapter(kind).validate_json(state, strict=True)
    return value


def is_wide(state: bytes) -> bool:
    """Return whether a text may have a number above the bound of wide fields."""
    return any(len(digits) > len(WIDEST) or digits > WIDEST for digits in re.findall(LONG_NUMBER, state))


@cache
def decoder(kind: type[msgspec.Struct]) -> Callable[[bytes], Any]:
    """Return the decoder of a kind of value."""
    return msgspec.json.Decoder(kind).decode


def read_once(data: bytes) -> Any:
    """Parse JSON; `ValueError` if an object has a duplicate key, which parsers resolve differently."""
    import json  # what the kernel wrote is canonical

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
