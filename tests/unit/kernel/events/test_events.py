"""Every event round-trips through its stored form; a payload against its schema is refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

import kernel.models
import kernel.order_spec
import kernel.venues.base
from kernel.errors import SchemaError, ValidationError
from kernel.events import EVENT_TYPES, REGISTRY, BaseEvent, canonical_json, decode, encode
from kernel.events.base import Upcaster
from kernel.models import Evidence, OrderIntent
from kernel.values import Value, set_fields
from kernel.values.edge import adapter
from tests.envelopes import envelope_by, with_envelope
from tests.samples import AT, ORDER, SAMPLES
from tests.unhurried import unhurried

ENVELOPE = envelope_by(
    position=7, stream_id="intent:a", version=3, recorded_at_ns=AT, actor="strategy:x", evidence=Evidence.COMMAND
)


def values_of_modules() -> Iterator[type[Value]]:
    for module in (kernel.order_spec, kernel.models, kernel.venues.base):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Value) and kind is not Value:
                yield kind


def by_topic(event: BaseEvent) -> str:
    return event.topic


def test_samples_cover_every_topic_and_field() -> None:
    """The samples cover each topic, and each of its fields with a value other than the default."""
    assert SAMPLES.keys() == REGISTRY.keys()
    assert len(REGISTRY) == len(EVENT_TYPES)
    for topic, event in SAMPLES.items():
        unset = set(REGISTRY[topic].__struct_fields__) - set_fields(event).keys()
        assert not unset, f"{topic} has no sample of {unset}"


@pytest.mark.parametrize("event", SAMPLES.values(), ids=by_topic)
def test_every_event_round_trips(event: BaseEvent) -> None:
    """Decoding an encoded event gives an equal event, which encodes to the same bytes."""
    stored = encode(event)
    read = decode(event.topic, event.schema_version, stored, ENVELOPE)
    assert structs.asdict(read) == structs.asdict(event)
    assert type(read) is type(event)
    assert encode(read) == stored
    assert (read.position, read.version, read.stream_id) == (7, 3, "intent:a")


@unhurried
@given(st.data())
def test_events_without_optional_fields_round_trip(data: st.DataObject) -> None:
    """Any optional field may be absent; absent fields are not stored."""
    event = data.draw(st.sampled_from(sorted(SAMPLES.items())))[1]
    fields = structs.fields(event)
    kept = {item.name: getattr(event, item.name) for item in fields if item.required or data.draw(st.booleans())}
    fewer = type(event)(**kept)
    stored = encode(fewer)
    assert None not in json.loads(stored).values()
    assert structs.asdict(decode(event.topic, 1, stored)) == structs.asdict(fewer)


@unhurried
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_json_is_canonical(value: Any) -> None:
    """Equal values have equal texts, whatever the order of their keys."""
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


def test_canonical_json_sorts_keys_and_omits_white_space() -> None:
    """Keys are sorted, white space is absent, letters are not escaped."""
    assert canonical_json({"b": 1, "a": {"ü": [1, 2]}}) == '{"a":{"ü":[1,2]},"b":1}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_metadata_refuses_values_outside_json(value: Any) -> None:
    """An intent's metadata must be JSON: no NaN, no infinity, no object."""
    with pytest.raises(ValidationError) as raised:
        OrderIntent.checked(intent_id="a", exchange_id="paper", order=ORDER, metadata={"mine": [value]})
    assert {item.field for item in raised.value.violations} == {"metadata"}


def test_large_integers_are_exact() -> None:
    """Quantities up to 2^64−1 and notionals beyond them are stored digit for digit."""
    stored = encode(SAMPLES["OrderFilled"])
    assert b'"last_px":18446744073709551615' in stored
    assert f'"cum_notional":{2**70}'.encode() in encode(SAMPLES["OrderStateRecorded"])


# ------------------------------------------------------------------------------------------------------------ refusals
def changed(topic: str, **changes: Any) -> bytes:
    payload = json.loads(encode(SAMPLES[topic]))
    return canonical_json({**payload, **changes})


@pytest.mark.parametrize(
    ("topic", "version", "state", "words"),
    [
        ("OrderTeleported", 1, b"{}", "unknown topic 'OrderTeleported'"),
        ("Paused", 2, b"{}", "schema version 2, the newest known is 1"),
        ("Paused", 0, b"{}", "schema version 0"),
        ("OrderFilled", 1, changed("OrderFilled", colour="red"), "colour"),
        ("OrderFilled", 1, changed("OrderFilled", last_qty=1.0), "last_qty"),
        ("OrderFilled", 1, changed("OrderFilled", last_qty="1"), "last_qty"),
        ("OrderFilled", 1, changed("OrderFilled", last_qty=True), "last_qty"),
        ("OrderFilled", 1, changed("OrderFilled", last_qty=-1), "last_qty"),
        ("OrderFilled", 1, changed("OrderFilled", last_qty=2**64), "last_qty"),
        ("OrderFilled", 1, changed("OrderFilled", intent_id="no spaces"), "intent_id"),
        ("OrderFilled", 1, changed("OrderFilled", exec_type="TELEPORTED"), "exec_type"),
        ("LogCreated", 1, changed("LogCreated", log_id="xyz"), "log_id"),
        ("LogCreated", 1, b"{}", "log_id"),
        ("LogCreated", 1, b"{", "LogCreated does not match its schema"),
        ("LogCreated", 1, b"\xff", "LogCreated does not match its schema"),
    ],
)
def test_payload_against_its_schema_is_a_schema_error(topic: str, version: int, state: bytes, words: str) -> None:
    """A payload that does not match its schema raises `SchemaError` with the position."""
    with pytest.raises(SchemaError, match=words) as raised:
        decode(topic, version, state, ENVELOPE)
    assert raised.value.position == 7


@pytest.mark.parametrize("value", [1.0, True, "1", None])
@pytest.mark.parametrize("field", ["last_qty", "last_px"])
def test_numbers_refuse_floats_booleans_and_strings(field: str, value: Any) -> None:
    """Integer fields refuse floats, booleans and strings."""
    with pytest.raises(ValidationError):
        type(SAMPLES["OrderFilled"]).checked(**{**structs.asdict(SAMPLES["OrderFilled"]), field: value})


def test_events_are_frozen() -> None:
    """An event cannot be changed."""
    with pytest.raises(AttributeError, match="immutable"):
        SAMPLES["Paused"].reason = "other"  # type: ignore[attr-defined] # the refusal is what is tested


def test_an_event_has_no_envelope_before_it_is_recorded() -> None:
    """Reading the position of an unrecorded event raises an error."""
    event = SAMPLES["Paused"]
    assert not event.recorded
    with pytest.raises(ValueError, match="is not recorded"):
        _ = event.position
    recorded = with_envelope(event, ENVELOPE)
    assert (recorded.position, recorded.actor, recorded.evidence) == (7, "strategy:x", Evidence.COMMAND)
    assert not event.recorded


# ------------------------------------------------------------------------------------------------------------ versions
def with_price_in_ticks(payload: dict[str, Any]) -> dict[str, Any]:
    return {"ticks": payload["price"] * 100}


def with_currency(payload: dict[str, Any]) -> dict[str, Any]:
    return {**payload, "currency": "USDT"}


class Quoted(BaseEvent):
    """An event in its third version."""

    topic = "Quoted"
    schema_version = 3
    upcasters: ClassVar[dict[int, Upcaster]] = {1: with_price_in_ticks, 2: with_currency}
    ticks: int
    """The price."""
    currency: str
    """Its currency."""


@pytest.mark.parametrize(
    ("version", "state"),
    [(1, b'{"price":7}'), (2, b'{"ticks":700}'), (3, b'{"currency":"USDT","ticks":700}')],
)
def test_older_versions_are_upcast(version: int, state: bytes) -> None:
    """Every older version decodes as the newest one, through the whole chain of upcasters."""
    event = decode("Quoted", version, state, registry={"Quoted": Quoted})
    assert structs.asdict(event) == {"ticks": 700, "currency": "USDT"}


@pytest.mark.parametrize("state", [b'{"cost":7}', b'{"price":"x"}', b"[]", b"7"])
def test_an_upcaster_failure_is_a_schema_error(state: bytes) -> None:
    """A payload that an upcaster cannot read raises `SchemaError`."""
    with pytest.raises(SchemaError, match="Quoted does not match its schema"):
        decode("Quoted", 1, state, registry={"Quoted": Quoted})


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda event_type: event_type.topic)
def test_upcasters_cover_every_older_version(event_type: type[BaseEvent]) -> None:
    """A topic is its class's name, and every version below the newest has an upcaster."""
    assert event_type.topic == event_type.__name__
    assert set(event_type.upcasters) == set(range(1, event_type.schema_version))


# -------------------------------------------------------------------------------------------------------------- schema
@pytest.mark.parametrize("kind", [*EVENT_TYPES, *values_of_modules()], ids=lambda kind: kind.__name__)
def test_schemas_describe_every_field(kind: type[Value]) -> None:
    """The JSON schema has the docstring of the class and of each field."""
    schema = adapter(kind).json_schema()
    assert schema.get("description")
    bare = [name for name, field in schema.get("properties", {}).items() if not field.get("description")]
    assert bare == []


class Renamed(BaseEvent):
    """An event whose class has another name than the one it is stored under."""

    topic = "Original"


def test_the_topic_is_the_class_name_unless_it_is_set() -> None:
    """Every recorded event type is stored under the name of its class; a class can keep an older topic."""
    assert [event_type for event_type in EVENT_TYPES if event_type.topic != event_type.__name__] == []
    assert Renamed.topic == "Original"
