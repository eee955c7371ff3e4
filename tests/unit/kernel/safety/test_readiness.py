"""The conditions under which the kernel acts."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from kernel.lifecycle.findings import raised
from kernel.models import FindingKind
from kernel.safety.readiness import (
    ADVISORY,
    CONDITIONS,
    HOLD_AT_FIRST,
    LEASE_HELD,
    Readiness,
    clock_condition,
)
from kernel.safety.trading_halts import NOT_PAUSED
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


def test_at_first_every_condition_is_missing(readiness: Readiness) -> None:
    """No condition holds before it was set, but for those that hold until the opposite is found."""
    assert readiness.missing() == tuple(name for name in CONDITIONS if name not in HOLD_AT_FIRST)
    assert not readiness.ready


def test_it_is_ready_only_if_all_conditions_hold(readiness: Readiness) -> None:
    """Each missing condition alone keeps it from being ready, except those that only inform."""
    for name in CONDITIONS:
        hold_all(readiness)
        assert is_ready(readiness)
        readiness.set(name, False, "Broken")
        if name in ADVISORY:
            assert is_ready(readiness)
            continue
        assert not is_ready(readiness)
        assert readiness.missing() == (name,)


def test_on_able_is_called_once_each_time(readiness: Readiness) -> None:
    """`on_able` is called when all conditions but a pause hold, and again only after one of them was lost."""
    calls: list[None] = []
    readiness.on_able = lambda: calls.append(None)
    hold_all(readiness)
    readiness.set(LEASE_HELD, True, "Still fine")
    assert len(calls) == 1
    readiness.set(LEASE_HELD, False, "Lost")
    readiness.set(LEASE_HELD, True, "Back")
    assert len(calls) == 2


def test_since_changes_only_with_the_status(readiness: Readiness, clock: HandClock) -> None:
    """A new reason for the same status keeps `since_ns`."""
    readiness.set(NOT_PAUSED, True, "Running")
    since_ns = clock.now_ns()
    clock.forward(5)
    readiness.set(NOT_PAUSED, True, "Resumed", "by an operator")
    assert readiness[NOT_PAUSED].since_ns == since_ns
    assert readiness[NOT_PAUSED].reason == "Resumed"
    readiness.set(NOT_PAUSED, False, "Paused")
    assert readiness[NOT_PAUSED].since_ns == clock.now_ns()


def test_conditions_are_shown_in_full(readiness: Readiness) -> None:
    """Each condition has type, status, reason, message and `since_ns`."""
    shown = structs.asdict(readiness.conditions()[0])
    assert set(shown) == {"type", "status", "reason", "message", "since_ns"}
    assert [item.type for item in readiness.conditions()] == list(CONDITIONS)


async def test_wait_returns_once_ready(readiness: Readiness) -> None:
    """`wait` returns when the last condition holds."""
    waiting = asyncio.create_task(readiness.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    hold_all(readiness)
    await waiting


@pytest.mark.parametrize(("blocks", "reason"), [(True, "Refused"), (None, "Differs")])
def test_the_condition_of_the_clock_follows_from_the_findings_field(blocks: bool | None, reason: str) -> None:
    """VENUE_CLOCK is missing while a finding about the host's clock blocks requests, whatever its text says."""
    event = raised("CLOCK_SKEW:h", FindingKind.CLOCK_SKEW, "refused or not", blocks_sending=blocks, now_ns=5)
    shown = clock_condition([event.finding], "h", created_at_ns=1)
    assert (shown.status, shown.reason, shown.since_ns) == (not blocks, reason, 5 if blocks else 1)
    resolved = structs.replace(event.finding, resolved_at_ns=9)
    assert clock_condition([resolved], "h", created_at_ns=1).status
    assert clock_condition([event.finding], "another", created_at_ns=1).status
