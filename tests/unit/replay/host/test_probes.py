"""The probes: event loop, fold, conditions, and how often the log is read."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from kernel.clock import SystemClock
from kernel.errors import KernelError
from kernel.metrics import EngineReading, Metrics, observe_ns
from kernel.safety.readiness import CONDITIONS, PROJECTIONS_AT_HEAD
from replay.host import probes as module
from replay.host.probes import CachedAnswer, FoldProgress, Probes, Reply
from replay.views.gauges import KernelGauges, Tally
from replay.views.metrics import MetricsFormat, metrics_as, text_of

pytestmark = pytest.mark.looptime


class KernelStub:
    """A kernel with the health that the test sets."""

    def __init__(self) -> None:
        self.position = 10
        self.lag: int | None = 0
        self.away = False
        self.missing: dict[str, str] = {}
        self.looks = 0
        self.state = SimpleNamespace(position=10, epoch=1)
        self.engine = SimpleNamespace(running=True, reading=EngineReading, at_venue=None)

    async def health_check(self) -> dict[str, Any]:
        self.looks += 1
        if self.away:
            await asyncio.Event().wait()
        conditions = [
            {
                "type": name,
                "status": name not in self.missing,
                "reason": self.missing.get(name, "So"),
                "message": "secret",
            }
            for name in CONDITIONS
        ]
        return {
            "conditions": conditions,
            "position": self.position,
            "lag_events": self.lag,
            "ready": True,
            "leader": True,
        }


def probes_of(kernel: KernelStub | None) -> Probes:
    made = Probes(Metrics(), "paper", clock=SystemClock())
    made.gauges.kernel = kernel  # type: ignore[assignment]
    return made


async def test_it_lives_before_there_is_a_kernel() -> None:
    """During recovery the process is alive and not ready."""
    probes = probes_of(None)

    assert (await probes.live()).status == 200
    reply = await probes.ready()
    assert (reply.status, json.loads(reply.body)["missing"]) == (503, list(CONDITIONS))
    assert probes.pages().keys() == {"/metrics", "/healthz", "/readyz"}


async def test_a_fold_that_does_not_move_is_no_life() -> None:
    """A fold that is behind and advances is alive; behind at one position beyond the limit is 503."""
    kernel = KernelStub()
    probes = probes_of(kernel)
    assert (await probes.live()).status == 200
    await asyncio.sleep(100)
    kernel.lag = 5
    assert (await probes.live()).status == 200, "the position is old, being behind is not"
    for _ in range(3):
        await asyncio.sleep(8)
        kernel.position += 1
        assert (await probes.live()).status == 200
    await asyncio.sleep(module.STUCK_S_MAX + 1)
    reply = await probes.live()
    assert (reply.status, "5 events behind" in reply.body) == (503, True)
    kernel.position += 1
    await asyncio.sleep(1)
    assert (await probes.live()).status == 200


async def test_a_reader_that_failed_is_no_life() -> None:
    """A failed reader is 503 at once."""
    kernel = KernelStub()
    kernel.missing = {PROJECTIONS_AT_HEAD: "ReaderFailed"}

    assert (await probes_of(kernel).live()).status == 503


async def test_a_log_that_is_away_is_no_death() -> None:
    """With an unavailable log the process is alive and not ready, and concurrent requests share one check."""
    kernel = KernelStub()
    kernel.away = True
    probes = probes_of(kernel)

    assert (await probes.live()).status == 200
    reply = await probes.ready()
    assert (reply.status, json.loads(reply.body)["missing"]) == (503, [PROJECTIONS_AT_HEAD])
    assert kernel.looks == 1
    await probes.close()


async def test_what_is_missing_is_named_without_texts() -> None:
    """/readyz has types and reasons, which are closed sets, and no messages."""
    kernel = KernelStub()
    kernel.missing = {"NOT_PAUSED": "Paused"}
    reply = await probes_of(kernel).ready()

    assert (reply.status, reply.content_type) == (503, "application/json")
    assert json.loads(reply.body) == {"ready": False, "missing": ["NOT_PAUSED"], "reasons": {"NOT_PAUSED": "Paused"}}
    assert (await probes_of(KernelStub()).ready()) == Reply(
        200, '{"ready": true, "missing": [], "reasons": {}}\n', "application/json"
    )


async def test_a_late_loop_is_no_life() -> None:
    """A late event loop is 503 with the seconds."""
    probes = probes_of(KernelStub())
    beating = asyncio.create_task(probes.beat())
    await asyncio.sleep(3)
    assert (await probes.live()).status == 200
    assert probes.gauges.loop_lag_s < 0.1
    beating.cancel()
    await asyncio.sleep(module.LATE_S_MAX + 2)

    reply = await probes.live()
    assert (reply.status, "late" in reply.body) == (503, True)


async def test_many_who_ask_share_one_look() -> None:
    """Concurrent and immediately following callers share one answer; a slow one is reused for longer."""
    looks = []

    async def find() -> int:
        looks.append(1)
        await asyncio.sleep(2)
        return len(looks)

    shared = CachedAnswer(find, rest=10)
    assert await asyncio.gather(*(shared.get(5) for _ in range(100))) == [1] * 100
    await asyncio.sleep(15)
    assert await shared.get(5) == 1
    await asyncio.sleep(10)
    assert await shared.get(5) == 2


async def test_a_look_that_takes_too_long_goes_on_for_the_next() -> None:
    """After a timeout the work continues for the next caller; a failure is retried."""
    looks = []

    async def find() -> int:
        looks.append(1)
        await asyncio.sleep(3)
        if len(looks) == 2:
            raise KernelError("away")
        return len(looks)

    shared = CachedAnswer(find)
    with pytest.raises(TimeoutError):
        await shared.get(1)
    assert await shared.get(5) == 1
    await asyncio.sleep(60)
    with pytest.raises(KernelError):
        await shared.get(5)
    assert await shared.get(5) == 3


async def test_without_a_kernel_nothing_holds() -> None:
    """Without a kernel the gauges show neither leader nor ready, whatever was recorded before."""
    probes = probes_of(None)
    probes.gauges.note_health(await KernelStub().health_check())
    reply = await probes.metrics()

    assert 'leader_election_master_status{name="reconciler"} 0.0' in reply.body
    assert 'condition{type="LEASE_HELD"} 0.0' in reply.body


async def test_a_count_that_takes_long_holds_up_no_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """While counting takes long, a scrape uses the newest finished count after a second."""

    async def count(*given: Any, **more: Any) -> Tally:
        await asyncio.sleep(30)
        return Tally(unknown=3)

    monkeypatch.setattr(module, "tally_of", count)
    metrics = Metrics()
    probes = Probes(metrics, "paper", clock=SystemClock())
    probes.gauges.kernel = KernelStub()  # type: ignore[assignment]
    began_s = asyncio.get_running_loop().time()
    for counter, unknown in ((1, 0), (2, 0)):
        metrics.fills.inc()
        reply = await probes.metrics()
        assert f"fills_recorded_total {counter}.0" in reply.body
        assert f"unknown_attempts {unknown}.0" in reply.body
        await asyncio.sleep(2)
    assert asyncio.get_running_loop().time() - began_s < 8
    await asyncio.sleep(30)
    reply = await probes.metrics()
    assert "unknown_attempts 3.0" in reply.body
    await probes.close()


def test_progress_is_counted_from_being_behind() -> None:
    """Lag counts from falling behind to the head, being stuck from the last advance."""
    progress = FoldProgress()
    progress.note(5, 0, 0)
    progress.note(5, 3, 100)
    assert (progress.behind_s(104), progress.stuck_s(104)) == (4, 4)
    progress.note(6, 3, 104)
    assert (progress.behind_s(110), progress.stuck_s(110)) == (10, 6)
    progress.note(9, 0, 110)

    assert (progress.behind_s(120), progress.stuck_s(120)) == (0, 0)


def test_the_text_is_what_was_counted() -> None:
    """Counts, sums and cumulative buckets are rendered as recorded; unsafe text is escaped."""
    metrics = Metrics()
    metrics.fills.inc(7)
    for milliseconds in (1, 1, 30, 90_000):
        observe_ns(metrics.append_duration, milliseconds * 1_000_000)
    metrics.registry.register(KernelGauges(metrics, "pa\x1bper", clock=SystemClock()))
    text = text_of(metrics.registry.collect())
    found = {
        (item["name"], tuple(item["labels"].values())): item["value"]
        for family in json.loads(metrics_as(text, MetricsFormat.JSON))
        for item in family["series"]
    }

    assert found["exchange_kernel_fills_recorded_total", ()] == 7
    name = "exchange_kernel_log_append_duration_seconds"
    assert [found[f"{name}_bucket", (le,)] for le in ("0.0005", "0.001", "0.05", "60.0", "+Inf")] == [0, 2, 3, 3, 4]
    assert found[f"{name}_sum", ()] == pytest.approx(90.032)
    assert "_created" not in text
    assert "\x1b" not in metrics_as(text, MetricsFormat.PROMETHEUS) + metrics_as(text, MetricsFormat.TABLE)
    with pytest.raises(KernelError, match="not in Prometheus's text format"):
        metrics_as("<html>\n", MetricsFormat.JSON)
