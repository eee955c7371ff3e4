"""The spacing of runs that make no progress."""

from __future__ import annotations

import pytest

from kernel.actions import ActionKind
from kernel.clock import NS_PER_S, SeededIds
from kernel.reconciler.requeue_backoff import KeyBackoff
from kernel.settings import KernelSettings
from tests.paper_world import HandClock


class HalfIds(SeededIds):
    """Jitter that is always one half."""

    def fraction(self) -> float:
        return 0.5


@pytest.fixture
def clock() -> HandClock:
    """A clock set by hand."""
    return HandClock()


@pytest.fixture
def pacing(clock: HandClock) -> KeyBackoff:
    """Paces from 0.1 s to 5 s."""
    return KeyBackoff(clock, HalfIds(1), KernelSettings())


def delay_s(pacing: KeyBackoff, clock: HandClock) -> float:
    """How long the key has to wait from now."""
    return (pacing.record_failure("a") - clock.now_ns()) / NS_PER_S


def test_backoff_doubles_up_to_a_bound(pacing: KeyBackoff, clock: HandClock) -> None:
    """0.1 s, then twice as long each time, half of it random; never above the bound."""
    pacing.begin("a", ActionKind.ASK)
    delays = [delay_s(pacing, clock) for _ in range(9)]
    assert delays[:4] == [0.1, 0.15, 0.25, 0.45]
    assert max(delays) == delays[-1] == 2.55


def test_a_question_that_stays_open_is_asked_rarely(pacing: KeyBackoff, clock: HandClock) -> None:
    """After a dozen queries the longest backoff bounds the delay; other kinds keep the shorter bound."""
    for kind, longest in ((ActionKind.ASK, 15.05), (ActionKind.RESOLVE, 2.55)):
        pacing.begin("a", kind)
        assert [delay_s(pacing, clock) for _ in range(20)][-1] == longest


def test_each_kind_of_action_has_its_own_backoff(pacing: KeyBackoff) -> None:
    """A recent query does not delay a cancel."""
    pacing.begin("a", ActionKind.ASK)
    held_ns = pacing.record_failure("a")
    assert pacing.begin("a", ActionKind.CANCEL) == 0
    assert pacing.begin("a", ActionKind.ASK) == held_ns


def test_success_resets_the_kind_that_ran(pacing: KeyBackoff, clock: HandClock) -> None:
    """After progress, the kind that ran starts again at the minimum; other kinds keep their backoff."""
    pacing.begin("a", ActionKind.CANCEL)
    canceled_ns = pacing.record_failure("a")
    pacing.begin("a", ActionKind.ASK)
    pacing.record_failure("a")
    pacing.record_success("a")
    assert pacing.begin("a", ActionKind.ASK) == 0
    assert delay_s(pacing, clock) == 0.1
    assert pacing.begin("a", ActionKind.CANCEL) == canceled_ns


def test_a_key_that_converged_is_forgotten(pacing: KeyBackoff) -> None:
    """A converged key is no longer stored."""
    pacing.begin("a", ActionKind.ASK)
    pacing.record_failure("a")
    pacing.forget("a")
    pacing.forget("a")
    assert pacing.begin("a", ActionKind.ASK) == 0


def test_keys_are_independent(pacing: KeyBackoff) -> None:
    """The backoff of one key does not delay another."""
    pacing.begin("a", ActionKind.ASK)
    pacing.record_failure("a")
    assert pacing.begin("b", ActionKind.ASK) == 0


def test_retain_only_forgets_other_keys(pacing: KeyBackoff, clock: HandClock) -> None:
    """A key that converged without a run is forgotten with the others that are not named."""
    for key in ("a", "b"):
        pacing.begin(key, ActionKind.ASK)
        pacing.record_failure(key)
    pacing.retain_only(frozenset({"b"}))
    assert (pacing.begin("a", ActionKind.ASK), pacing.begin("b", ActionKind.ASK) > clock.now_ns()) == (0, True)
