"""A minute of the soak: nothing of the kernel or of the exchange grows with time. The long form: `python -m tests.soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.actions import ActionKind
from kernel.clock import SeededIds, SystemClock
from kernel.reconciler.requeue_backoff import KeyBackoff
from kernel.settings import KernelSettings
from tests.soak.soak import Plan, Soak


@pytest.mark.parametrize(
    ("warm_up_s", "load_s"),
    [pytest.param(5, 8, id="short"), pytest.param(12, 28, id="a minute", marks=pytest.mark.nightly)],
)
async def test_nothing_grows_with_time(warm_up_s: float, load_s: float, tmp_path: Path) -> None:
    """After a warm-up, tasks, threads, files, connections, queues and maps stay where they are, and memory grows as the
    state does."""
    plan = Plan(url=f"sqlite:///{tmp_path / 'kernel.db'}", directory=tmp_path, warm_up_s=warm_up_s, load_s=load_s)
    assert await Soak(plan, say=print).run() == []


def test_a_settled_key_is_forgotten() -> None:
    """A key whose only pace is settled is held no longer: nobody may come back to it."""
    pacing = KeyBackoff(SystemClock(), SeededIds(), KernelSettings())
    pacing.begin("i", ActionKind.RESOLVE)
    pacing.record_failure("i")
    pacing.record_success("i")
    assert pacing._keys == {}
