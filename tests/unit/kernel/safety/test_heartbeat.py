"""Who is silent: judged by what one leader could have heard, whatever other clocks say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import events
from kernel.clock import NS_PER_S
from kernel.events import Envelope
from kernel.models import Evidence
from kernel.safety import heartbeat
from kernel.safety.heartbeat import HEARTBEAT_PARTS, OBSERVATION_GAP_NS_MIN, Heartbeat, HeartbeatEvent, Observation

TTL_NS = 9 * NS_PER_S
LIMIT_NS = max(TTL_NS // HEARTBEAT_PARTS, OBSERVATION_GAP_NS_MIN)
"""A longer gap between two looks is deafness."""
BEAT = Heartbeat("mm-1", TTL_NS, version=1, position=1, recorded_at_ns=0)
GAPS_NS = st.integers(0, 2 * LIMIT_NS)
LOOKS = st.lists(st.tuples(GAPS_NS, st.booleans()), min_size=1, max_size=30)
"""How long after the look before it each look begins, and whether a beat was recorded in between."""


def heard(looks: list[tuple[int, bool]]) -> list[tuple[int, bool, bool, bool]]:
    """Of each look: its instant, whether it followed a deafness, whether it showed a beat, whether it found silence."""
    ears: dict[str, Observation] = {}
    now_ns, last_ns, beat, found = 10**18, None, BEAT, []
    for gap_ns, renewed in looks:
        now_ns += gap_ns
        beat = replace(beat, position=beat.position + renewed)
        ears = heartbeat.observe(ears, {"mm-1": beat}, last_ns=last_ns, began_ns=now_ns, now_ns=now_ns)
        is_silent = bool(heartbeat.newly_silent(ears, {"mm-1": beat}, now_ns=now_ns))
        found.append((now_ns, last_ns is None or gap_ns > LIMIT_NS, renewed, is_silent))
        last_ns = now_ns
    return found


@given(LOOKS)
def test_silent_is_who_was_listened_to_for_the_whole_time(looks: list[tuple[int, bool]]) -> None:
    """A verdict falls exactly when the leader has listened for the whole time, without a deafness and without a beat."""
    since_ns = 0
    for now_ns, deaf, renewed, is_silent in heard(looks):
        since_ns = now_ns if deaf or renewed else since_ns
        assert is_silent == (now_ns - since_ns >= TTL_NS)


@given(LOOKS, st.integers(-(10**18), 10**18))
def test_other_clocks_make_no_difference(looks: list[tuple[int, bool]], skew_ns: int) -> None:
    """Whatever instant a beat was stamped with, the verdict is the same."""
    ears = heartbeat.observe({}, {"mm-1": BEAT}, last_ns=None, began_ns=10**18, now_ns=10**18)
    skewed = {"mm-1": replace(BEAT, recorded_at_ns=10**18 + skew_ns)}
    for now_ns, *_ in heard(looks):
        told = heartbeat.newly_silent(ears, skewed, now_ns=now_ns)
        assert bool(told) == bool(heartbeat.newly_silent(ears, {"mm-1": BEAT}, now_ns=now_ns))


@given(st.integers(1, 3600), st.integers(0, 4000))
def test_a_short_gap_deafens_only_those_with_little_time(ttl_s: int, gap_s: int) -> None:
    """Each owner's silence begins anew only after a gap that is long for it: a hiccup never saves the silent for good."""
    beats = {"mm-1": replace(BEAT, ttl_ns=ttl_s * NS_PER_S)}
    began_ns = gap_s * NS_PER_S
    ears = heartbeat.observe({"mm-1": Observation(1, 0)}, beats, last_ns=0, began_ns=began_ns, now_ns=began_ns)

    assert (ears["mm-1"].since_ns == 0) == (gap_s <= max(ttl_s / HEARTBEAT_PARTS, 1))


def test_a_clock_that_is_set_back_is_a_deafness() -> None:
    """What it said before can't be held against what it says now."""
    ears = heartbeat.observe(
        {"mm-1": Observation(1, 0)}, {"mm-1": BEAT}, last_ns=TTL_NS, began_ns=TTL_NS - 1, now_ns=TTL_NS
    )

    assert ears["mm-1"].since_ns == TTL_NS


STEPS = st.lists(st.sampled_from(["beat", "lapse", "disarm", "wish"]), max_size=20)


def event_of(step: str, position: int) -> HeartbeatEvent:
    made: HeartbeatEvent = events.HeartbeatReceived(owner="mm-1", ttl_ns=TTL_NS)
    if step == "lapse":
        made = events.HeartbeatLapsed(owner="mm-1", beat_position=1, silent_ns=TTL_NS)
    elif step == "disarm":
        made = events.HeartbeatDisarmed(owner="mm-1")
    envelope = Envelope(position, "heartbeat:mm-1", position, 0, "kernel", Evidence.COMMAND)
    recorded = made.with_envelope(envelope)
    assert isinstance(recorded, HeartbeatEvent)
    return recorded


@given(STEPS)
def test_a_silence_withdraws_all_that_was_wanted_before_it_ended(steps: list[str]) -> None:
    """A wish is withdrawn if its owner was found silent after it, or before it and not heard until it; else it is not."""
    beat, wishes = None, []
    for position, step in enumerate(steps, start=1):
        if step == "wish":
            wishes.append(position)
        else:
            beat = heartbeat.apply_heartbeat_event(beat, event_of(step, position))
    for wish in wishes:
        before = [step for step in steps[: wish - 1] if step != "wish"]
        expected = "lapse" in steps[wish:] or before[-1:] == ["lapse"]
        assert heartbeat.is_revoked(beat, wish) == expected


@given(STEPS)
def test_disarmed_is_who_said_so_last(steps: list[str]) -> None:
    """A beat arms and a disarming disarms, whatever verdicts fell in between."""
    beat = None
    for position, step in enumerate(steps, start=1):
        beat = beat if step == "wish" else heartbeat.apply_heartbeat_event(beat, event_of(step, position))
    said = [step for step in steps if step in ("beat", "disarm")]

    assert (beat is not None and beat.ttl_ns is not None) == (said[-1:] == ["beat"])


@pytest.mark.parametrize(
    ("known", "sent_ns", "now_ns", "renewed"),
    [
        (None, None, 0, False),
        (BEAT, 0, TTL_NS // HEARTBEAT_PARTS - 1, True),
        (BEAT, 0, TTL_NS // HEARTBEAT_PARTS, False),
        (BEAT, 5, 4, False),
        (BEAT, None, TTL_NS // HEARTBEAT_PARTS - 1, True),
        (replace(BEAT, recorded_at_ns=9), None, 8, False),
        (replace(BEAT, ttl_ns=TTL_NS + 1), 0, 0, False),
        (replace(BEAT, ttl_ns=None), 0, 0, False),
        (replace(BEAT, lapsed=True), 0, 0, False),
    ],
)
def test_a_beat_is_recorded_where_it_says_something(
    known: Heartbeat | None, sent_ns: int | None, now_ns: int, renewed: bool
) -> None:
    """Within a third of its time it says nothing; unless its time changed, it had lapsed, or the clock is in doubt."""
    assert heartbeat.is_renewed(known, TTL_NS, sent_ns=sent_ns, now_ns=now_ns) is renewed
