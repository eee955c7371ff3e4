"""Whether a running kernel lives and acts, and its metrics as text: what `/healthz`, `/readyz` and `/metrics` say.

`replay.running` makes it and has its `pages` served. Lives means: the event loop turns in time and the fold advances. A log
that is away is no reason to be ended: starting again would not bring it back. Acts means: all readiness conditions hold.
Promises: however often it is asked, the log is looked at once at a time, and counting takes a tenth of the time at most.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST

from kernel.clock import Clock
from kernel.metrics import Metrics
from kernel.safety.readiness import CONDITIONS, PROJECTIONS_AT_HEAD
from replay.views.gauges import NOT_RUNNING, KernelGauges, tally_of
from replay.views.metrics import text_of

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer of a page."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


Page = Callable[[], Awaitable[Reply]]

BEAT_S = 0.5
"""How often the event loop is asked whether it is late."""
LATE_S_MAX = 5.0
"""The event loop does not advance when it is later than this."""
STUCK_S_MAX = 10.0
"""The projections do not advance when they are behind the log and have not moved for this long."""
LOG_S_MAX = 3.0
"""How long the log's answer is waited for."""
MEASURE_S_MAX = 8.0
"""How long a scrape may take: whoever scrapes gives up after 10 s."""
COUNT_S_MAX = 1.0
"""How long the count of live intents is waited for; where there are very many, the newest finished one is told."""
FRESH_S = 0.25
"""What was found this long ago is told again."""
REST = 10
"""Counting rests for so many times as long as it took."""


class CachedAnswer(Generic[Found]):
    """One answer for all who ask at the same time, and for a moment after."""

    def __init__(self, find: Callable[[], Awaitable[Found]], *, rest: int = 1) -> None:
        """What took long to find is told again for `rest` times as long."""
        self._find = find
        self._rest = rest
        self._task: asyncio.Task[Found] | None = None
        self._fresh_until_s = 0.0

    async def get(self, timeout_s: float) -> Found:
        """The answer. Raises `TimeoutError` when there is none in time; it is still looked for then."""
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
        """Look no further."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class FoldProgress:
    """Whether the fold advances, from looks at how far it is and how far behind."""

    def __init__(self) -> None:
        self._position = 0
        self._behind_since_s: float | None = None
        self._stuck_since_s: float | None = None

    def note(self, position: int, lag: int, now_s: float) -> None:
        """The fold is at a position, so many events behind."""
        if lag <= 0:
            self._behind_since_s = self._stuck_since_s = None
        else:
            self._behind_since_s = now_s if self._behind_since_s is None else self._behind_since_s
            if self._stuck_since_s is None or position != self._position:
                self._stuck_since_s = now_s
        self._position = position

    def behind_s(self, now_s: float) -> float:
        """For how long it has been behind without a pause."""
        return 0.0 if self._behind_since_s is None else now_s - self._behind_since_s

    def stuck_s(self, now_s: float) -> float:
        """For how long it has been behind and has not moved."""
        return 0.0 if self._stuck_since_s is None else now_s - self._stuck_since_s


class Probes:
    """What a process that runs a kernel says of itself."""

    def __init__(self, metrics: Metrics, exchange_id: str, *, clock: Clock) -> None:
        self.gauges = KernelGauges(metrics, exchange_id, clock=clock)
        """What is read when metrics are collected; its `kernel` is the one that all of this is about."""
        self._registry = metrics.registry
        self._registry.register(self.gauges)
        self._clock = clock
        self._progress = FoldProgress()
        self._beat_s: float | None = None
        self._health = CachedAnswer(self._sample)
        self._count = CachedAnswer(self._count_intents, rest=REST)
        self._text = CachedAnswer(self._measure)

    # ------------------------------------------------------------------------------------------------------- looking
    async def beat(self) -> None:
        """Notice when the event loop is late, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._beat_s = loop.time()
            await asyncio.sleep(BEAT_S)
            self.gauges.loop_lag_s = self._late_s()

    def _late_s(self) -> float:
        now_s = asyncio.get_running_loop().time()
        return 0.0 if self._beat_s is None else max(0.0, now_s - self._beat_s - BEAT_S)

    async def _sample(self) -> dict[str, Any] | None:
        """A health check; None when there is no kernel to check."""
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

    # ------------------------------------------------------------------------------------------------------- answering
    def pages(self) -> dict[str, Page]:
        """What is served at which path."""
        return {"/metrics": self.metrics, "/healthz": self.live, "/readyz": self.ready}

    async def metrics(self) -> Reply:
        """200 with all metrics in Prometheus's text format, or 503 where they can't be had in time."""
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
            return Reply(200, "ok; no kernel runs: it recovers, or it stops\n")
        stuck_s = self._progress.stuck_s(asyncio.get_running_loop().time())
        at_head = next(item for item in found["conditions"] if item["type"] == PROJECTIONS_AT_HEAD)
        if at_head["reason"] in ("ReaderFailed", "Stopped"):
            return Reply(503, f"the projections do not advance: {at_head['reason']}\n")
        if found["lag_events"] is not None and stuck_s > STUCK_S_MAX:
            text = f"the projections do not advance: {found['lag_events']} events behind for {stuck_s:.0f} s\n"
            return Reply(503, text)
        return Reply(200, "ok\n")

    async def ready(self) -> Reply:
        """200 when all conditions hold, else 503 naming those that are missing; reasons, but no texts of others."""
        reasons: dict[str, str]
        try:
            found = await self._health.get(LOG_S_MAX)
        except TimeoutError:
            reasons = {PROJECTIONS_AT_HEAD: "LogUnavailable"}
        else:
            conditions = found["conditions"] if found is not None else []
            reasons = {item["type"]: item["reason"] for item in conditions if not item["status"]}
            reasons = dict.fromkeys(CONDITIONS, "NotRunning") if found is None else reasons
        answer = {"ready": not reasons, "missing": list(reasons), "reasons": reasons}
        return Reply(503 if reasons else 200, json.dumps(answer) + "\n", "application/json")

    async def close(self) -> None:
        """Look no further."""
        for shared in (self._text, self._count, self._health):
            await shared.close()
