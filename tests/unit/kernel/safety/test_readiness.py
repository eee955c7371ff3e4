"""The conditions under which the kernel acts."""

from __future__ import annotations

import asyncio

import pytest

from kernel.safety.readiness import CONDITIONS, LEASE_HELD, NOT_PAUSED, Readiness
from tests.paper_world import HandClock


@pytest.fixture
def clock() -> HandClock:
    """A clock set by hand."""
    return HandClock()


@pytest.fixture
def readiness(clock: HandClock) -> Readiness:
    """Nothing holds yet."""
    return Readiness(clock)


def hold_all(readiness: Readiness) -> None:
    """Let every condition hold."""
    for name in CONDITIONS:
        readiness.set(name, True, "Fine")


def is_ready(readiness: Readiness) -> bool:
    """Asked anew each time."""
    return readiness.ready


def test_in_the_beginning_everything_is_missing(readiness: Readiness) -> None:
    """Fail closed: nothing holds before somebody says so."""
    assert readiness.missing() == CONDITIONS
    assert not readiness.ready


def test_it_is_ready_when_all_hold_and_not_before(readiness: Readiness) -> None:
    """Each condition alone keeps it from being ready."""
    for name in CONDITIONS:
        hold_all(readiness)
        assert is_ready(readiness)
        readiness.set(name, False, "Broken")
        assert not is_ready(readiness)
        assert readiness.missing() == (name,)


def test_ready_is_told_once_each_time(readiness: Readiness) -> None:
    """`on_able` is called when everything but a pause comes to hold, and again only after something of that was lost."""
    calls: list[None] = []
    readiness.on_able = lambda: calls.append(None)
    hold_all(readiness)
    readiness.set(LEASE_HELD, True, "Still fine")
    assert len(calls) == 1
    readiness.set(LEASE_HELD, False, "Lost")
    readiness.set(LEASE_HELD, True, "Back")
    assert len(calls) == 2


def test_since_moves_with_the_status_alone(readiness: Readiness, clock: HandClock) -> None:
    """A new reason for the same status keeps the time since when it holds."""
    readiness.set(NOT_PAUSED, True, "Running")
    since_ns = clock.now_ns()
    clock.forward(5)
    readiness.set(NOT_PAUSED, True, "Resumed", "by an operator")
    assert readiness[NOT_PAUSED].since_ns == since_ns
    assert readiness[NOT_PAUSED].reason == "Resumed"
    readiness.set(NOT_PAUSED, False, "Paused")
    assert readiness[NOT_PAUSED].since_ns == clock.now_ns()


def test_conditions_are_shown_in_full(readiness: Readiness) -> None:
    """Each has type, status, reason, message and since when."""
    shown = readiness.conditions()[0].as_dict()
    assert set(shown) == {"type", "status", "reason", "message", "since_ns"}
    assert [item.type for item in readiness.conditions()] == list(CONDITIONS)


async def test_wait_returns_once_ready(readiness: Readiness) -> None:
    """Who waits is woken when the last condition holds."""
    waiting = asyncio.create_task(readiness.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    hold_all(readiness)
    await waiting
