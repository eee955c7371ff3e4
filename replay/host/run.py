"""The process of `run`: a kernel that leads or stands by, until a signal ends it in order.

Called by the CLI. A process reports its state through a function, one line at a time.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from prometheus_client import ProcessCollector

from kernel import EventSourcedKernel
from kernel.clock import SystemClock
from kernel.errors import LogUnavailableError, NotReadyError
from kernel.metrics import Metrics
from kernel.safety.readiness import LEASE_HELD
from kernel.settings import KernelSettings
from kernel.venues.base import Venue
from replay.host.bootstrap import open_kernel
from replay.host.probes import Probes
from replay.host.serving import address_of
from replay.transparency.tree_head_signer import TreeHeadOptions
from replay.views.health import leader_of

Say = Callable[[str], None]
POLL_INTERVAL_S = 0.5
"""Seconds between two checks of the kernel's readiness."""


async def until_signal(work: Coroutine[Any, Any, None]) -> signal.Signals | None:
    """Run a coroutine until it ends, or SIGTERM or SIGINT cancels it; returns the signal, if any."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    received: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, end, number)
    try:
        await asyncio.wait({task})
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
    with suppress(asyncio.CancelledError):
        task.result()
    return received[0] if received else None


async def run_kernel(
    url: str,
    exchange_id: str,
    venue: Venue,
    *,
    settings: KernelSettings | None = None,
    bound: socket.socket | None = None,
    checkpoint_dir: str | None = None,
    notes: TreeHeadOptions | None = None,
    say: Say,
) -> None:
    """Lead, or stand by to lead, until canceled; `say` is called with each line to report.

    `bound` is a socket to serve metrics and probes at, from before the log is folded until the kernel has stopped.
    Raises the `KernelError` that ends a kernel, as for an unreadable log or a full disk.
    """
    metrics = Metrics()
    async with (
        serving_probes(bound, metrics, exchange_id, say) as probes,
        open_kernel(
            url,
            exchange_id=exchange_id,
            venue=venue,
            settings=settings,
            actor="kernel",
            metrics=metrics,
            checkpoint_dir=checkpoint_dir,
            notes=notes,
        ) as kernel,
    ):
        probes.gauges.kernel = kernel
        try:
            await report_readiness(kernel, say)
        finally:
            probes.gauges.kernel = None


@asynccontextmanager
async def serving_probes(
    bound: socket.socket | None, metrics: Metrics, exchange_id: str, say: Say
) -> AsyncIterator[Probes]:
    """Serve the process's probes at a socket; without one they are only computed."""
    probes = Probes(metrics, exchange_id, clock=SystemClock())
    if bound is None:
        yield probes
        return
    from replay.host.http_server import served  # of the extra `server`

    ProcessCollector(registry=metrics.registry)
    beating = asyncio.create_task(probes.beat(), name="probes-beat")
    try:
        async with served(bound, probes.pages()):
            say(f"metrics: http://{address_of(bound)}/metrics")
            yield probes
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await probes.close()


async def report_readiness(kernel: EventSourcedKernel, say: Say) -> None:
    """Report whenever the kernel becomes ready, not ready, or stands by; without end."""
    last_text = ""
    while True:
        try:
            await kernel.wait_ready(POLL_INTERVAL_S)
        except NotReadyError as problem:
            news = await standby_reason(kernel, problem)
        else:
            news = f"ready: leads {kernel.exchange_id}, epoch {kernel.state.epoch}"
            await asyncio.sleep(POLL_INTERVAL_S if news == last_text else 0)
        if news != last_text:
            last_text = news
            say(news)


async def standby_reason(kernel: EventSourcedKernel, problem: NotReadyError) -> str:
    try:
        if LEASE_HELD in problem.missing and await kernel.log.lease_is_held():
            leader = await leader_of(kernel.log)
            return f"standing by: {leader.holder or 'another kernel'} leads {kernel.exchange_id}"
    except LogUnavailableError as unavailable:
        return f"not ready: {unavailable}"
    missing = [item for item in (await kernel.health_check())["conditions"] if item["type"] in problem.missing]
    return "not ready: " + ", ".join(f"{item['type']} ({item['reason']}) {item['message']}".strip() for item in missing)
