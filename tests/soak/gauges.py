"""Read counts and memory of a kernel, its process and the exchange's process.

Private attributes are read on purpose: a map that is never emptied is visible nowhere else. A renamed attribute raises
`AttributeError`, so that no gauge disappears unnoticed.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped]

from kernel import EventSourcedKernel
from kernel.venues import PaperVenue
from kernel.venues.paper.client import SocketTransport

FAR_AHEAD = 1_000
"""Events. Waiters for a position further ahead, such as the checkpoint writer's, are not counted."""
EMPTY_AT_REST = (
    "queue_pending", "queue_again", "pacing_keys", "looked_attempts", "forced", "calls_out", "intent_waiters",
    "fold_waiters", "wire_waiting", "wire_reports", "writer_queue", "feed_batches",
)  # fmt: skip
"""Gauges that must be 0 once every order has ended and no caller waits."""
BOUNDED = (
    "tasks", "threads", "fds", "connections", "queue_heaps", "queues", "queued_items", "subscriptions", "feed_tails",
    "kernel_tasks", "exchange_threads", "exchange_fds", "exchange_connections",
)  # fmt: skip
"""Gauges that may be above 0 but must not grow under more of the same load."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The gauges at one time."""

    at_s: float
    """Seconds since the start."""
    position: int
    """Position of the folded state."""
    intents: int
    objects: int
    """Python objects tracked by the garbage collector of this process."""
    rss_bytes: int
    """Resident memory of this process."""
    exchange_rss_bytes: int
    """Resident memory of the exchange."""
    counts: dict[str, int]
    """`EMPTY_AT_REST` and `BOUNDED`, by name."""

    def line(self) -> str:
        """Format the sample in one line, without counts of 0."""
        shown = " ".join(f"{name}={value}" for name, value in self.counts.items() if value)
        return (
            f"{self.at_s:7.1f} s  rss={self.rss_bytes / 2**20:.1f}M exchange={self.exchange_rss_bytes / 2**20:.1f}M"
            f" objects={self.objects} intents={self.intents} position={self.position} {shown}"
        )


def sample(kernel: EventSourcedKernel, venue: PaperVenue, exchange_pid: int, *, at_s: float) -> Sample:
    """Read all gauges, after a garbage collection."""
    gc.collect()
    objects = gc.get_objects()
    queues = [item for item in objects if type(item) is asyncio.Queue]
    here, there = psutil.Process(), psutil.Process(exchange_pid)
    counts = {
        **_process("", here),
        **_process("exchange_", there),
        "tasks": len(asyncio.all_tasks()),
        "queues": len(queues),
        "queued_items": sum(item.qsize() for item in queues),
        **_kernel(kernel),
        **_wire(venue),
    }
    return Sample(
        at_s=at_s,
        position=kernel.state.position,
        intents=sum(1 for _ in kernel.state.intents()),
        objects=len(objects),
        rss_bytes=here.memory_info().rss,
        exchange_rss_bytes=there.memory_info().rss,
        counts=counts,
    )


def _process(prefix: str, process: psutil.Process) -> dict[str, int]:
    return {
        f"{prefix}threads": process.num_threads(),
        f"{prefix}fds": process.num_fds(),
        f"{prefix}connections": len(process.net_connections("all")),
    }


def _kernel(kernel: EventSourcedKernel) -> dict[str, int]:
    at_venue, log, state = _any(kernel.engine.at_venue), _any(kernel.log), _any(kernel.state)
    queue = at_venue._queue
    runtime, tails = kernel._runtime, log._tail_hub.subscriptions()
    waiters = runtime.waiters
    return {
        "queue_pending": queue.pending,
        "queue_again": len(queue._again),
        "queue_heaps": sum(map(len, queue._lanes.values())) + len(queue._delayed),
        "pacing_keys": len(at_venue._backoff._keys),
        "looked_attempts": len(at_venue._querier._last_queries),
        "forced": len(at_venue._forced),
        "calls_out": len(at_venue._sender.calls),
        "intent_waiters": sum(map(len, waiters._waiting.values())) + len(waiters._all),
        "fold_waiters": sum(at - state.position < FAR_AHEAD for at, _, _ in state._waiters.waiting),
        "subscriptions": len(runtime.subscriptions._tasks),
        "kernel_tasks": len(runtime.monitor.findings.tasks),
        "writer_queue": len(log._writer._queue),
        "feed_tails": len(tails),
        "feed_batches": sum(len(tail._batches) for tail in tails),
    }


def _wire(venue: PaperVenue) -> dict[str, int]:
    link = venue._transport
    assert isinstance(link, SocketTransport), "the exchange is another process"
    return {
        "wire_waiting": len(link._socket._waiting) if link._socket is not None else 0,
        "wire_reports": link.reports._queue.qsize(),
    }


def _any(part: Any) -> Any:
    """Drop the declared type, a protocol, to read private attributes."""
    return part
