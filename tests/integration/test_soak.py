"""Short forms of the soak: neither the kernel nor the exchange grows with time. The long form: `python -m tests.soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.actions import ActionKind
from kernel.clock import SeededIds, SystemClock
from kernel.reconciler.requeue_backoff import KeyBackoff
from kernel.settings import KernelSettings
from tests.soak.soak import Plan, Soak
from tests.soak.verdict import TREND_SAMPLES_MIN


def plan(directory: Path, *, warm_up_s: float, load_s: float, sample_s: float) -> Plan:
    url = f"sqlite:///{directory / 'kernel.db'}"
    return Plan(url=url, directory=directory, warm_up_s=warm_up_s, load_s=load_s, sample_s=sample_s)


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """After a load, tasks, threads, files, connections, queues and maps are back to their numbers, and memory has grown as
    the state has."""
    assert await Soak(plan(tmp_path, warm_up_s=3, load_s=4, sample_s=3), say=print).run() == []


@pytest.mark.nightly
async def test_nothing_grows_with_time(tmp_path: Path) -> None:
    """The same over a minute, with enough samples to judge trends under load."""
    soak = Soak(plan(tmp_path, warm_up_s=12, load_s=28, sample_s=0.4), say=print)
    assert await soak.run() == []
    assert len(soak.under_load) >= TREND_SAMPLES_MIN


def test_a_resolved_key_is_dropped() -> None:
    """A key without any backoff left is dropped, as it may never return."""
    pacing = KeyBackoff(SystemClock(), SeededIds(), KernelSettings())
    pacing.begin("i", ActionKind.RESOLVE)
    pacing.record_failure("i")
    pacing.record_success("i")
    assert pacing._keys == {}
