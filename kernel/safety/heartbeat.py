"""The dead-man switch: folds heartbeats, and finds the owners whose heartbeat is missing. Pure.

An owner that armed its heartbeat and sends none for its `ttl` has *lapsed*: the intents that it recorded before its next
heartbeat are revoked. The verdict is in the log, so `is_revoked` depends on the fold, not on a clock.

A leader judges only by what it could have observed, by a clock that nobody sets:
- time counts from when it first saw the newest heartbeat in its fold, so differing clocks do not matter;
- after its start it waits a full `ttl`;
- after an observation gap (no log, a suspended process) longer than a third of an owner's `ttl`, time starts anew.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from kernel import events

OBSERVATION_GAP_NS_MIN = 1_000_000_000
"""Shortest observation gap that counts, whatever the `ttl`."""
HEARTBEAT_PARTS = 3
"""Most heartbeats recorded within a `ttl`; a longer gap than one part restarts the time."""


class Heartbeat(msgspec.Struct, frozen=True):
    """The heartbeat of one owner, as folded from the log."""

    owner: str
    ttl_ns: int | None
    """Time that a heartbeat is good for; None while disarmed."""
    version: int
    """Version of its stream."""
    position: int
    """Position of the newest heartbeat."""
    recorded_at_ns: int
    """When that was recorded; not used for verdicts."""
    lapsed: bool = False
    """True if it lapsed and sent no heartbeat since."""
    lapsed_position: int = 0
    """Position of the newest lapse; 0 without one."""
    withdrawn_upto: int = 0
    """Intents recorded before this position are revoked: the end of the newest lapse."""


HeartbeatEvent = events.HeartbeatReceived | events.HeartbeatLapsed | events.HeartbeatDisarmed


def apply_heartbeat_event(known: Heartbeat | None, event: HeartbeatEvent) -> Heartbeat:
    """Return the heartbeat of an owner after an event of its stream."""
    position, version = event.position, event.version
    known = known or Heartbeat(event.owner, None, version, position, event.recorded_at_ns)
    if isinstance(event, events.HeartbeatLapsed):
        return replace(known, version=version, lapsed=True, lapsed_position=position)
    upto = position if known.lapsed else known.withdrawn_upto
    renewed = replace(known, version=version, lapsed=False, withdrawn_upto=upto)
    if isinstance(event, events.HeartbeatDisarmed):
        return replace(renewed, ttl_ns=None)
    return replace(renewed, ttl_ns=event.ttl_ns, position=position, recorded_at_ns=event.recorded_at_ns)


def is_revoked(beat: Heartbeat | None, intent_position: int | None) -> bool:
    """Return whether an intent recorded at a position is revoked by a lapse of its owner."""
    if beat is None:
        return False
    return beat.lapsed or (intent_position or 0) < beat.withdrawn_upto


class Observation(msgspec.Struct, frozen=True):
    """A leader's observation of one owner."""

    beat_position: int
    """Position of the newest heartbeat seen."""
    since_ns: int
    """Start of the time without heartbeat."""


def observe(
    observations: Mapping[str, Observation],
    beats: Mapping[str, Heartbeat],
    *,
    last_ns: int | None,
    began_ns: int,
    now_ns: int,
) -> dict[str, Observation]:
    """Return the observations of each owner after another read of the whole log, from `began_ns` to `now_ns`.

    `beats` were recorded before `began_ns`; `last_ns` is when the previous read began, None for the first.
    """
    found = {}
    for owner, beat in beats.items():
        if beat.ttl_ns is None:
            continue
        observation = observations.get(owner)
        has_gap = last_ns is None or began_ns - last_ns > max(beat.ttl_ns // HEARTBEAT_PARTS, OBSERVATION_GAP_NS_MIN)
        if observation is None or observation.beat_position != beat.position or has_gap:
            observation = Observation(beat.position, now_ns)
        found[owner] = observation
    return found


def newly_silent(
    observations: Mapping[str, Observation], beats: Mapping[str, Heartbeat], *, now_ns: int
) -> list[Heartbeat]:
    return [
        beat
        for owner, beat in beats.items()
        if beat.ttl_ns is not None
        and not beat.lapsed
        and (observation := observations.get(owner)) is not None
        and observation.beat_position == beat.position
        and now_ns - observation.since_ns >= beat.ttl_ns
    ]


def is_renewed(known: Heartbeat | None, ttl_ns: int, *, since_ns: int) -> bool:
    """Return whether a heartbeat need not be recorded: the same one was, `since_ns` ago, less than a third of its `ttl`."""
    if known is None or known.ttl_ns != ttl_ns or known.lapsed:
        return False
    return 0 <= since_ns < ttl_ns // HEARTBEAT_PARTS
