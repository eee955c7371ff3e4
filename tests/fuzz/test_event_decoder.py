"""The event decoder accepts any bytes: it returns an event with the same content, or raises `SchemaError` or
`IntegrityError`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernel.errors import IntegrityError, SchemaError
from kernel.events import REGISTRY, BaseEvent, canonical_json, decode, encode
from kernel.log.base import StoredRow
from kernel.log.engine.records import checked_envelope
from kernel.models import Evidence
from tests.fuzz.mutations import changed, damaged, deep, fuzzed, json_values, text_of
from tests.samples import SAMPLES

META = {
    "actor": "strategy:mm-1", "causation_position": 3, "correlation_id": "00" * 16, "evidence": "COMMAND", "host": "h",
    "os_user": "u", "pid": 7, "session_user": "s",
}  # fmt: skip
TOPICS = st.sampled_from(sorted(SAMPLES))
PAYLOADS = {topic: json.loads(encode(event)) for topic, event in SAMPLES.items()}
MANY_DIGITS = "9" * 5_000


def decoded(topic: str, state: bytes) -> BaseEvent | None:
    """The decoded event; None if it was refused with the right error."""
    try:
        return decode(topic, REGISTRY[topic].schema_version, state)
    except SchemaError:
        return None


def check(topic: str, state: bytes) -> None:
    """The event is refused, or nothing of its payload is lost or changed and it encodes to the same text."""
    event = decoded(topic, state)
    if event is None:
        return
    stored = encode(event)
    assert decoded(topic, stored) == event
    assert encode(decode(topic, REGISTRY[topic].schema_version, stored)) == stored
    said = without_nones(json.loads(state, object_pairs_hook=once))
    kept = json.loads(stored)
    assert has(kept, said), f"{topic}: {state!r} became {stored!r}"


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object without repeated keys."""
    assert len({key for key, _ in pairs}) == len(pairs), f"a key comes twice and was taken: {pairs}"
    return dict(pairs)


def without_nones(value: Any) -> Any:
    """Absent fields equal None; events are stored without them."""
    if isinstance(value, dict):
        return {key: without_nones(item) for key, item in value.items() if item is not None}
    return [without_nones(item) for item in value] if isinstance(value, list) else value


def has(kept: Any, said: Any) -> bool:
    """Return whether everything is kept with its value and type; defaults may be added."""
    if isinstance(said, dict):
        return isinstance(kept, dict) and all(key in kept and has(kept[key], item) for key, item in said.items())
    if isinstance(said, list):
        if not isinstance(kept, list):
            return False
        if len(kept) == len(said) and all(map(has, kept, said)):
            return True
        return sorted(map(str, kept)) == sorted(set(map(str, said)))  # a set, kept in its own order
    if isinstance(said, bool) or isinstance(kept, bool):
        return said is kept
    return bool(said == kept)


@fuzzed(75)
@given(TOPICS, st.binary(max_size=200))
@example("Paused", b"")
@example("Paused", deep(100_000).encode())
@example("Paused", deep(100_000, of="{}").encode())
@example("Paused", b'{"reason":' + MANY_DIGITS.encode() + b"}")
def test_any_bytes(topic: str, state: bytes) -> None:
    """Any bytes of a row are decoded completely or refused with `SchemaError`."""
    check(topic, state)


@fuzzed(100)
@given(TOPICS, json_values)
def test_any_json(topic: str, value: Any) -> None:
    """Any JSON of a row is decoded completely or refused."""
    check(topic, text_of(value).encode())


@fuzzed(500)
@given(st.data(), TOPICS)
def test_changed_events(data: st.DataObject, topic: str) -> None:
    """A stored event with changed fields keeps its content or is refused."""
    check(topic, text_of(data.draw(changed(PAYLOADS[topic]))).encode())


@fuzzed(200)
@given(st.data(), TOPICS)
def test_damaged_events(data: st.DataObject, topic: str) -> None:
    """A stored event with damaged bytes keeps its content or is refused."""
    check(topic, data.draw(damaged(encode(SAMPLES[topic]))))


@pytest.mark.parametrize(
    ("topic", "state"),
    [
        ("Paused", b'{"intent_id":"a","intent_id":"b","reason":"r"}'),
        ("IntentCreated", encode(SAMPLES["IntentCreated"]).replace(b'"side":"SELL"', b'"side":"BUY","side":"SELL"')),
        ("KernelStarted", encode(SAMPLES["KernelStarted"]).replace(b'"venue"', b'"ack_timeout_s":1,"venue"')),
        ("LeaderElected", b'{"epoch":1.0,"holder":"h"}'),
        ("CapabilitiesChanged", b'{"capabilities":{"a":1e999}}'),
        ("LeaderElected", b'{"epoch":true,"holder":"h"}'),
        ("LeaderElected", b'{"epoch":"1","holder":"h"}'),
        ("VenueSnapshotTaken", encode(SAMPLES["VenueSnapshotTaken"]).replace(b'"complete":false', b'"complete":"no"')),
    ],
)
def test_no_value_is_coerced(topic: str, state: bytes) -> None:
    """A repeated key, and a number or boolean written as another type, are refused."""
    with pytest.raises(SchemaError):
        decode(topic, REGISTRY[topic].schema_version, state)


@fuzzed(75)
@given(st.text(max_size=20) | TOPICS, st.integers())
def test_any_topic_and_version(topic: str, schema_version: int) -> None:
    """An unknown topic or version is a `SchemaError`."""
    known = REGISTRY.get(topic)
    if known is not None and 1 <= schema_version <= known.schema_version:
        return
    with pytest.raises(SchemaError):
        decode(topic, schema_version, b"{}")


@fuzzed(375)
@given(changed(META) | json_values)
def test_any_envelope(meta: Any) -> None:
    """An envelope is decoded with its types or refused with `IntegrityError`."""
    check_meta(text_of(meta).encode())


@fuzzed(75)
@given(damaged(canonical_json(META)) | st.binary(max_size=60))
@example(deep(100_000).encode())
@example(b'{"actor":"a","actor":"b","evidence":"COMMAND"}')
@example(b'{"actor":"a","evidence":"COMMAND","pid":' + MANY_DIGITS.encode() + b"}")
def test_any_bytes_of_an_envelope(meta: bytes) -> None:
    """The same for damaged bytes."""
    check_meta(meta)


def check_meta(meta: bytes) -> None:
    row = StoredRow(
        position=1, stream_id="control", version=1, topic="Paused", schema_version=1, recorded_at_ns=1,
        command_id=b"c" * 16, command_index=0, meta=meta, state=b"{}", leaf_hash=b"", chain_hash=b"",
    )  # fmt: skip
    try:
        origin = checked_envelope(row).origin
    except IntegrityError:
        return
    assert type(origin.actor) is str
    assert isinstance(origin.evidence, Evidence)
    for value in (origin.causation_position, origin.pid):
        assert value is None or type(value) is int
    for text in (origin.correlation_id, origin.os_user, origin.host, origin.session_user):
        assert text is None or type(text) is str
    said = without_nones(json.loads(meta, object_pairs_hook=once))
    kept = {
        "evidence": str(origin.evidence),
        **{name: getattr(origin, name) for name in META if name != "evidence"},
    }
    assert has(kept, said)
