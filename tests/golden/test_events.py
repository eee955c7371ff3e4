"""Stored events of every topic and schema version, which every later version must read.

A file holds the bytes of one stored payload; its name is topic and schema version. `KERNEL_WRITE_GOLDEN=1 pytest
tests/golden/test_events.py` writes missing files (after a new topic or version) and never changes existing ones.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kernel.events import EVENT_TYPES, BaseEvent, decode, encode
from tests.samples import SAMPLES

FOLDER = Path(__file__).parent / "events"


def golden_files() -> list[Path]:
    return sorted(FOLDER.glob("*.json"))


def named(event_type: type[BaseEvent], version: int) -> Path:
    return FOLDER / f"{event_type.topic}.v{version}.json"


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda event_type: event_type.topic)
def test_every_topic_and_version_has_a_file(event_type: type[BaseEvent]) -> None:
    """Each topic and schema version has a stored event."""
    path = named(event_type, event_type.schema_version)
    if os.environ.get("KERNEL_WRITE_GOLDEN") and not path.exists():
        path.write_bytes(encode(SAMPLES[event_type.topic]))
    assert path.exists(), f"no {path.name}: write it with KERNEL_WRITE_GOLDEN=1"
    for version in range(1, event_type.schema_version):
        assert named(event_type, version).exists(), (
            f"no {named(event_type, version).name}: it can't be written any more"
        )


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: path.stem)
def test_stored_events_decode_for_ever(path: Path) -> None:
    """A stored event of any version decodes to its topic's event; one of the newest version keeps every value."""
    topic, version = path.stem.rsplit(".v", 1)
    stored = path.read_bytes()
    event = decode(topic, int(version), stored)
    assert event.topic == topic
    if int(version) == event.schema_version:
        payload = json.loads(stored)
        assert restricted(json.loads(encode(event)), payload) == payload


def restricted(value: object, like: object) -> object:
    """`value` with only the keys, at every depth, that `like` has."""
    if isinstance(value, dict) and isinstance(like, dict):
        return {key: restricted(value[key], like[key]) for key in value.keys() & like.keys()}
    if isinstance(value, list) and isinstance(like, list) and len(value) == len(like):
        return [restricted(item, other) for item, other in zip(value, like, strict=True)]
    return value
