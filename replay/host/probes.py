"""The pages /healthz (the kernel is alive), /readyz (it acts) and /metrics. Made and served by `replay.host.run`.

Alive: the event loop is on time and the fold advances. An unreachable log does not count: a restart would not help. Acts:
all readiness conditions hold. However many clients ask, the log is read once at a time, and counting takes at most a tenth
of the time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST

from kernel.clock import Clock
from kernel.metrics import Metrics
from kernel.safety.readiness import ADVISORY, CONDITIONS, PROJECTIONS_AT_HEAD
from replay.views.gauges import NOT_RUNNING, KernelGauges, tally_of
from replay.views.metrics import text_of

Found = TypeVar("Found")


class Reply(msgspec.Struct, frozen=True):
    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


Page = Callable[[], Awaitable[Reply]]

BEAT_S = 0.5
"""Seconds between measurements of the event loop's delay."""
LATE_S_MAX = 5.0
"""Delay from which the event loop counts as stalled."""
STUCK_S_MAX = 10.0
"""Seconds behind the log without advancing from which the projections count as stalled."""
LOG_S_MAX = 3.0
"""Seconds to wait for the log's answer."""
MEASURE_S_MAX = 8.0
"""Seconds that a scrape may take; Prometheus gives up after 10."""
COUNT_S_MAX = 1.0
"""Seconds to wait for the count of live intents; after that the newest finished count is used."""
FRESH_S = 0.25
"""Seconds for which an answer is reused."""
REST = 10
"""Counting pauses for this many times as long as it took."""


class CachedAnswer(Generic[Found]):
    """One answer for all concurrent callers, reused for a moment."""

    def __init__(self, find: Callable[[], Awaitable[Found]], *, rest: int = 1) -> None:
        """An answer is reused for at least `rest` times as long as it took."""
        self._find = find
        self._rest = rest
        self._task: asyncio.Task[Found] | None = None
        self._fresh_until_s = 0.0

    async def get(self, timeout_s: float) -> Found:
        """Return the answer. Raises `TimeoutError` if it takes too long; the work continues."""
        loop = asyncio.get_running_loop()
        if self._task is None or (self._task.done() and loop.time() >= self._fresh_until_s):
            self._task = loop.create_task(self._timed())
        async with asyncio.timeout(timeout_s):
            return await asyncio.shield(self._task)

    async def _timed(self) -> Found:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        found = await self._find()
        self._fresh_until_s = loop.time() + max(FRESH_S, self._rest * (loop.time() - began_s))
        return found

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class FoldProgress:
    """Tracks whether the fold advances."""

    def __init__(self) -> None:
        self._position = 0
        self._behind_since_s: float | None = None
        self._stuck_since_s: float | None = None

    def note(self, position: int, lag: int, now_s: float) -> None:
        if lag <= 0:
            self._behind_since_s = self._stuck_since_s = None
        else:
            self._behind_since_s = now_s if self._behind_since_s is None else self._behind_since_s
            if self._stuck_since_s is None or position != self._position:
                self._stuck_since_s = now_s
        self._position = position

    def behind_s(self, now_s: float) -> float:
        """Seconds behind the log without interruption."""
        return 0.0 if self._behind_since_s is None else now_s - self._behind_since_s

    def stuck_s(self, now_s: float) -> float:
        """Seconds behind the log without advancing."""
        return 0.0 if self._stuck_since_s is None else now_s - self._stuck_since_s


class Probes:
    """The pages of a kernel process."""

    def __init__(self, metrics: Metrics, exchange_id: str, *, clock: Clock) -> None:
        self.gauges = KernelGauges(metrics, exchange_id, clock=clock)
        """Gauges read at collection; their `kernel` is the one probed."""
        self._registry = metrics.registry
        self._registry.register(self.gauges)
        self._clock = clock
        self._progress = FoldProgress()
        self._beat_s: float | None = None
        self._health = CachedAnswer(self._sample)
        self._count = CachedAnswer(self._count_intents, rest=REST)
        self._text = CachedAnswer(self._measure)

    async def beat(self) -> None:
        """Measure the event loop's delay, without end."""
        loop = asyncio.get_running_loop()
        while True:
            self._beat_s = loop.time()
            await asyncio.sleep(BEAT_S)
            self.gauges.loop_lag_s = self._late_s()

    def _late_s(self) -> float:
        now_s = asyncio.get_running_loop().time()
        return 0.0 if self._beat_s is None else max(0.0, now_s - self._beat_s - BEAT_S)

    async def _sample(self) -> dict[str, Any] | None:
        if self.gauges.kernel is None:
            return None
        found = await self.gauges.kernel.health_check()
        if found["lag_events"] is not None:
            self._progress.note(found["position"], found["lag_events"], asyncio.get_running_loop().time())
        return found

    async def _count_intents(self) -> None:
        if self.gauges.kernel is not None:
            self.gauges.tally = await tally_of(self.gauges.kernel.state, now_ns=self._clock.now_ns())

    async def _measure(self) -> str:
        gauges = self.gauges
        with suppress(TimeoutError):
            await self._count.get(COUNT_S_MAX)
        try:
            gauges.note_health(await self._health.get(LOG_S_MAX) or NOT_RUNNING)
        except TimeoutError:
            gauges.note_health(None)
        gauges.behind_s = self._progress.behind_s(asyncio.get_running_loop().time())
        return text_of(self._registry.collect())

    def pages(self) -> dict[str, Page]:
        return {"/metrics": self.metrics, "/healthz": self.live, "/readyz": self.ready}

    async def metrics(self) -> Reply:
        """200 with all metrics as Prometheus text, 503 if they take too long."""
        try:
            return Reply(200, await self._text.get(MEASURE_S_MAX), CONTENT_TYPE_LATEST)
        except TimeoutError:
            return Reply(503, "the metrics could not be measured in time\n")

    async def live(self) -> Reply:
        """200 while the event loop and the projections advance, else 503 with the reason."""
        if (late_s := self._late_s()) > LATE_S_MAX:
            return Reply(503, f"the event loop is {late_s:.1f} s late\n")
        try:
            found = await self._health.get(LOG_S_MAX)
        except TimeoutError:
            return Reply(200, f"ok; the log did not answer within {LOG_S_MAX:g} s\n")
        if found is None:
            return Reply(200, "ok; no kernel is running: it is recovering or stopping\n")
        stuck_s = self._progress.stuck_s(asyncio.get_running_loop().time())
        at_head = next(item for item in found["conditions"] if item["type"] == PROJECTIONS_AT_HEAD)
        if at_head["reason"] in ("ReaderFailed", "Stopped"):
            return Reply(503, f"the projections do not advance: {at_head['reason']}\n")
        if found["lag_events"] is not None and stuck_s > STUCK_S_MAX:
            text = f"the projections do not advance: {found['lag_events']} events behind for {stuck_s:.0f} s\n"
            return Reply(503, text)
        return Reply(200, "ok\n")

    async def ready(self) -> Reply:
        """200 if all conditions hold, else 503 with the missing ones and their reasons."""
        reasons: dict[str, str]
        try:
            found = await self._health.get(LOG_S_MAX)
        except TimeoutError:
            reasons = {PROJECTIONS_AT_HEAD: "LogUnavailable"}
        else:
            conditions = found["conditions"] if found is not None else []
            reasons = {item["type"]: item["reason"] for item in conditions if not item["status"]}
            reasons = {name: reason for name, reason in reasons.items() if name not in ADVISORY}
            reasons = dict.fromkeys(CONDITIONS, "NotRunning") if found is None else reasons
        answer = {"ready": not reasons, "missing": list(reasons), "reasons": reasons}
        return Reply(503 if reasons else 200, json.dumps(answer) + "\n", "application/json")

    async def close(self) -> None:
        for answer in (self._text, self._count, self._health):
            await answer.close()
