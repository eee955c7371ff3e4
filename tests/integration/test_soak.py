"""A minute of the soak: no resource of kernel or exchange grows with time. Long form: `python -m tests.soak`."""

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
    """After a warm-up tasks, threads, files, connections, queues and maps stay constant, and memory nearly so."""
    plan = Plan(url=f"sqlite:///{tmp_path / 'kernel.db'}", directory=tmp_path, warm_up_s=warm_up_s, load_s=load_s)
    assert await Soak(plan, say=print).run() == []


def test_a_resolved_key_is_dropped() -> None:
    """A key without any backoff left is dropped, as it may never return."""
    pacing = KeyBackoff(SystemClock(), SeededIds(), KernelSettings())
    pacing.begin("i", ActionKind.RESOLVE)
    pacing.record_failure("i")
    pacing.record_success("i")
    assert pacing._keys == {}
