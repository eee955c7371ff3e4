"""Who is silent: judged by what one leader could have heard, whatever other clocks say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kernel import events
from kernel.clock import NS_PER_S
from kernel.models import Evidence
from kernel.safety import heartbeat
from kernel.safety.heartbeat import HEARTBEAT_PARTS, OBSERVATION_GAP_NS_MIN, Heartbeat, HeartbeatEvent, Observation
from tests.envelopes import envelope_by, with_envelope

TTL_NS = 9 * NS_PER_S
LIMIT_NS = max(TTL_NS // HEARTBEAT_PARTS, OBSERVATION_GAP_NS_MIN)
"""A longer time between two observations is a gap."""
BEAT = Heartbeat("mm-1", TTL_NS, version=1, position=1, recorded_at_ns=0)
GAPS_NS = st.integers(0, 2 * LIMIT_NS)
LOOKS = st.lists(st.tuples(GAPS_NS, st.booleans()), min_size=1, max_size=30)
"""For each observation: the time since the previous one, and whether a heartbeat was recorded in between."""


def verdicts(looks: list[tuple[int, bool]]) -> list[tuple[int, bool, bool, bool]]:
    """Return for each observation its instant, whether it followed a gap, showed a heartbeat and found a lapse."""
    observations: dict[str, Observation] = {}
    now_ns, last_ns, beat, found = 10**18, None, BEAT, []
    for gap_ns, renewed in looks:
        now_ns += gap_ns
        beat = replace(beat, position=beat.position + renewed)
        observations = heartbeat.observe(observations, {"mm-1": beat}, last_ns=last_ns, began_ns=now_ns, now_ns=now_ns)
        lapses = bool(heartbeat.newly_silent(observations, {"mm-1": beat}, now_ns=now_ns))
        found.append((now_ns, last_ns is None or gap_ns > LIMIT_NS, renewed, lapses))
        last_ns = now_ns
    return found


@given(LOOKS)
def test_an_owner_lapses_after_a_full_observed_ttl(looks: list[tuple[int, bool]]) -> None:
    """An owner lapses exactly if the leader observed its whole `ttl` without a gap and without a heartbeat."""
    since_ns = 0
    for now_ns, gap, renewed, lapses in verdicts(looks):
        since_ns = now_ns if gap or renewed else since_ns
        assert lapses == (now_ns - since_ns >= TTL_NS)


@given(LOOKS, st.integers(-(10**18), 10**18))
def test_other_clocks_make_no_difference(looks: list[tuple[int, bool]], skew_ns: int) -> None:
    """The verdict does not depend on the instant stamped on a heartbeat."""
    observations = heartbeat.observe({}, {"mm-1": BEAT}, last_ns=None, began_ns=10**18, now_ns=10**18)
    skewed = {"mm-1": replace(BEAT, recorded_at_ns=10**18 + skew_ns)}
    for now_ns, *_ in verdicts(looks):
        lapsed = heartbeat.newly_silent(observations, skewed, now_ns=now_ns)
        assert bool(lapsed) == bool(heartbeat.newly_silent(observations, {"mm-1": BEAT}, now_ns=now_ns))


@given(st.integers(1, 3600), st.integers(0, 4000))
def test_a_gap_restarts_only_short_ttls(ttl_s: int, gap_s: int) -> None:
    """An owner's time starts anew only after a gap that is long for its `ttl`."""
    beats = {"mm-1": replace(BEAT, ttl_ns=ttl_s * NS_PER_S)}
    began_ns = gap_s * NS_PER_S
    observations = heartbeat.observe({"mm-1": Observation(1, 0)}, beats, last_ns=0, began_ns=began_ns, now_ns=began_ns)

    assert (observations["mm-1"].since_ns == 0) == (gap_s <= max(ttl_s / HEARTBEAT_PARTS, 1))


STEPS = st.lists(st.sampled_from(["beat", "lapse", "disarm", "intent"]), max_size=20)


def event_of(step: str, position: int) -> HeartbeatEvent:
    made: HeartbeatEvent = events.HeartbeatReceived(owner="mm-1", ttl_ns=TTL_NS)
    if step == "lapse":
        made = events.HeartbeatLapsed(owner="mm-1", beat_position=1, silent_ns=TTL_NS)
    elif step == "disarm":
        made = events.HeartbeatDisarmed(owner="mm-1")
    envelope = envelope_by(position, "heartbeat:mm-1", position, 0, "kernel", Evidence.COMMAND)
    recorded = with_envelope(made, envelope)
    assert isinstance(recorded, HeartbeatEvent)
    return recorded


@given(STEPS)
def test_a_lapse_revokes_intents_recorded_before_its_end(steps: list[str]) -> None:
    """An intent is revoked if its owner lapsed after it, or before it without a heartbeat in between."""
    beat, intents = None, []
    for position, step in enumerate(steps, start=1):
        if step == "intent":
            intents.append(position)
        else:
            beat = heartbeat.apply_heartbeat_event(beat, event_of(step, position))
    for intent in intents:
        before = [step for step in steps[: intent - 1] if step != "intent"]
        expected = "lapse" in steps[intent:] or before[-1:] == ["lapse"]
        assert heartbeat.is_revoked(beat, intent) == expected


@given(STEPS)
def test_the_last_heartbeat_or_disarm_counts(steps: list[str]) -> None:
    """A heartbeat arms and a disarm disarms, whatever lapses came between."""
    beat = None
    for position, step in enumerate(steps, start=1):
        beat = beat if step == "intent" else heartbeat.apply_heartbeat_event(beat, event_of(step, position))
    switches = [step for step in steps if step in ("beat", "disarm")]

    assert (beat is not None and beat.ttl_ns is not None) == (switches[-1:] == ["beat"])


@pytest.mark.parametrize(
    ("known", "since_ns", "renewed"),
    [
        (None, 0, False),
        (BEAT, TTL_NS // HEARTBEAT_PARTS - 1, True),
        (BEAT, TTL_NS // HEARTBEAT_PARTS, False),
        (BEAT, -1, False),
        (replace(BEAT, ttl_ns=TTL_NS + 1), 0, False),
        (replace(BEAT, ttl_ns=None), 0, False),
        (replace(BEAT, lapsed=True), 0, False),
    ],
)
def test_a_heartbeat_is_recorded_only_if_it_is_news(known: Heartbeat | None, since_ns: int, renewed: bool) -> None:
    """A heartbeat is recorded again after a third of its `ttl`, or if it changes something or the clock is in doubt."""
    assert heartbeat.is_renewed(known, TTL_NS, since_ns=since_ns) is renewed
