"""Who is silent: what heartbeats in the log come to, and whether an owner was heard within its time. Pure.

Folded by the state (`apply_heartbeat_event`), judged by the leader (`observe`, `newly_silent`; see `heartbeats`). An
owner that has armed its heartbeat and is not heard of for its `ttl` has *lapsed*: every wish that it recorded before it
is heard again is withdrawn. The verdict is in the log, so what follows from it is a matter of the fold, not of a clock
(`is_revoked`).

Silence is judged only by what one leader could have heard, by that leader's own clock:
- it counts from when this leader first saw the newest beat in its fold, never from an instant that another host stamped:
  clocks that differ make no difference;
- a leader that starts has heard nobody yet, and waits a full `ttl`;
- while it is deaf (the log is away, the process or its host stands still) nobody can be heard: after a gap longer than a
  third of an owner's `ttl` that owner's silence counts from anew. So a leader that is deaf for a third of every `ttl` never
  finds anybody silent: it could not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kernel import events

OBSERVATION_GAP_NS_MIN = 1_000_000_000
"""A shorter gap between two looks is no deafness, however short the time that an owner has."""
HEARTBEAT_PARTS = 3
"""A beat is recorded at most so often in the time that it is good for; a gap of one part is deafness."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What the log tells of one owner."""

    owner: str
    ttl_ns: int | None
    """How long it may be silent; none while its silence means nothing."""
    version: int
    """Of its stream."""
    position: int
    """Of its newest beat."""
    recorded_at_ns: int
    """When that was recorded; for show, never for a verdict."""
    lapsed: bool = False
    """Whether it was found silent, and not heard of since."""
    lapsed_position: int = 0
    """Of the newest such verdict; 0 without one."""
    withdrawn_upto: int = 0
    """Wishes recorded before this position are withdrawn: where the newest silence ended."""


HeartbeatEvent = events.HeartbeatReceived | events.HeartbeatLapsed | events.HeartbeatDisarmed


def apply_heartbeat_event(known: Heartbeat | None, event: HeartbeatEvent) -> Heartbeat:
    """What is known of an owner after one more event of its stream."""
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
    """Whether a wish that its owner recorded there is not wanted any more, as the owner fell silent after it, or was."""
    if beat is None:
        return False
    return beat.lapsed or (intent_position or 0) < beat.withdrawn_upto


@dataclass(frozen=True, slots=True)
class Observation:
    """What a leader has heard of one owner."""

    beat_position: int
    """The newest beat that it has seen."""
    since_ns: int
    """Silence counts from here, by the leader's clock."""


def observe(
    observations: Mapping[str, Observation],
    beats: Mapping[str, Heartbeat],
    *,
    last_ns: int | None,
    began_ns: int,
    now_ns: int,
) -> dict[str, Observation]:
    """What a leader has heard after one more look at the whole log.

    The look began at `began_ns`: all that was recorded before is in `beats`. It ended at `now_ns`. The look before it
    began at `last_ns`; none before the first.
    """
    found = {}
    for owner, beat in beats.items():
        if beat.ttl_ns is None:
            continue
        observation = observations.get(owner)
        has_gap = last_ns is None or not 0 <= began_ns - last_ns <= max(
            beat.ttl_ns // HEARTBEAT_PARTS, OBSERVATION_GAP_NS_MIN
        )
        if observation is None or observation.beat_position != beat.position or has_gap:
            observation = Observation(beat.position, now_ns)
        found[owner] = observation
    return found


def newly_silent(
    observations: Mapping[str, Observation], beats: Mapping[str, Heartbeat], *, now_ns: int
) -> list[Heartbeat]:
    """Owners that are to be found silent now; those that were found so already are not among them."""
    return [
        beat
        for owner, beat in beats.items()
        if beat.ttl_ns is not None
        and not beat.lapsed
        and (observation := observations.get(owner)) is not None
        and observation.beat_position == beat.position
        and now_ns - observation.since_ns >= beat.ttl_ns
    ]


def is_renewed(known: Heartbeat | None, ttl_ns: int, *, sent_ns: int | None, now_ns: int) -> bool:
    """Whether a beat now would say nothing new: the same was recorded less than a part of its time ago.

    `sent_ns` is when this process recorded one, by its own clock. Without one the log's own stamp has to do: on a host
    whose clock is behind, more is recorded than need be.
    """
    if known is None or known.ttl_ns != ttl_ns or known.lapsed:
        return False
    last_ns = known.recorded_at_ns if sent_ns is None else sent_ns
    return 0 <= now_ns - last_ns < ttl_ns // HEARTBEAT_PARTS
