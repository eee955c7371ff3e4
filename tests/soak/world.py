"""The soak's exchange process and its load: strategies, subscribers and faults.

Strategies place, read and cancel orders at a steady rate, so that the number of live orders stays bounded. Meanwhile
subscriptions start and end, the exchange loses answers and reports, and all sessions break now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec import structs

from kernel import EventSourcedKernel, events
from kernel.clock import NS_PER_MS
from kernel.errors import KernelError, VenueError
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.settings import KernelSettings
from kernel.venues import PaperVenue
from kernel.venues.paper.faults import Fault, FaultKind, FaultOperation

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 180
DRAIN_TIMEOUT_S = 180
STRATEGIES = 10
SUBSCRIPTION_PERIOD_S = 0.5
FAULT_PERIOD_S = 1.0
SETTINGS = KernelSettings(relist_interval_s=2, resync_interval_s=1, order_age_s_max=10, request_timeout_s=1)
"""Relists and status queries are frequent, so that a minute has many of them."""
RESTING = StandardOrder(
    symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=10_000, price=5_000_000
)
TAKING = (
    structs.replace(RESTING, price=7_500_000),
    structs.replace(RESTING, side=Side.SELL),
)
"""Orders that trade at once; alternating, they keep the position bounded."""
FAULTS: tuple[Fault | None, ...] = (
    Fault(kind=FaultKind.ANSWER_LOST, operation=FaultOperation.SUBMIT),
    Fault(kind=FaultKind.REPORT_LOST, operation=FaultOperation.REPORT),
    Fault(kind=FaultKind.ANSWER_LOST, operation=FaultOperation.CANCEL),
    Fault(kind=FaultKind.REQUEST_LOST, operation=FaultOperation.SUBMIT),
    Fault(kind=FaultKind.DISCONNECT_AFTER, operation=FaultOperation.SUBMIT),
    Fault(kind=FaultKind.ANSWER_LATE, operation=FaultOperation.SUBMIT, delay_ns=1_500 * NS_PER_MS),
    Fault(kind=FaultKind.SNAPSHOT_PARTIAL, operation=FaultOperation.SNAPSHOT),
    None,
)
"""Injected in turn; None breaks every session."""


@contextlib.asynccontextmanager
async def exchange_process(directory: Path) -> AsyncIterator[tuple[str, int]]:
    """Run a paper exchange with a journal and the included tape; yield its address and process id."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.paper_process",
        "--listen", str(directory / "exchange.sock"), "--journal", str(directory / "exchange.journal"),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        line = await asyncio.wait_for(child.stdout.readline(), START_TIMEOUT_S)
        yield line.decode().strip(), child.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


class Load:
    """The load on a kernel, as an async context manager."""

    def __init__(self, kernel: EventSourcedKernel, address: str, *, rate: float) -> None:
        """Initialize the load; `rate` is in commands per second, over all strategies."""
        self._kernel = kernel
        self._address = address
        self._period_s = STRATEGIES / rate
        self._tasks: list[asyncio.Task[None]] = []
        self._sides = itertools.cycle(TAKING)
        self.commands = 0
        self.refused = 0
        """Commands that ended in an error."""
        self.faults = 0
        self.delivered = 0
        """Events delivered to subscribers."""

    async def __aenter__(self) -> Load:
        work = [self._trade(number) for number in range(STRATEGIES)]
        self._tasks = [asyncio.create_task(item) for item in (*work, self._subscribe(), self._inject_faults())]
        return self

    async def __aexit__(self, *problem: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self) -> None:
        """Raise the error that ended a task of the load, if any."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def _trade(self, number: int) -> None:
        await asyncio.sleep(number * self._period_s / STRATEGIES)  # one after the other, not all at once
        due_s = asyncio.get_running_loop().time()
        for turn in itertools.count():
            with contextlib.suppress(KernelError):
                intent_id = await self._place(TAKING[turn // 5 % 2] if turn % 5 == 4 else RESTING)
                await self._read(intent_id)
                due_s = await self._next(due_s)
                await self._cancel(intent_id)
            due_s = await self._next(due_s)

    async def _next(self, due_s: float) -> float:
        """Wait until the next command is due; missed commands are skipped."""
        now_s = asyncio.get_running_loop().time()
        due_s = max(due_s + self._period_s, now_s)
        await asyncio.sleep(due_s - now_s)
        return due_s

    async def _place(self, order: StandardOrder) -> str:
        self.commands += 1
        return await self._kernel.place_order(order, owner="soak", ack_timeout_s=0.3)

    async def _read(self, intent_id: str) -> None:
        await self._kernel.get_order_state(intent_id)
        await self._kernel.get_positions()
        await self._kernel.health_check()

    async def _cancel(self, intent_id: str) -> None:
        self.commands += 1
        try:
            await self._kernel.cancel_order(intent_id, ack_timeout_s=0.3)
        except KernelError:
            self.refused += 1

    async def _subscribe(self) -> None:
        """Keep two subscriptions and start short ones: a function, a coroutine, an iterator, and one without matches."""
        staying = [self._kernel.subscribe_events(self._receive), self._kernel.subscribe_events(self._receive_async)]
        try:
            while True:
                await self._subscribe_briefly()
        finally:
            for name in staying:
                self._kernel.unsubscribe_events(name)

    async def _subscribe_briefly(self) -> None:
        names = [
            self._kernel.subscribe_events(self._receive, {"event_type": "OrderAccepted"}),
            self._kernel.subscribe_events(self._receive_async, {"intent_id": "nobody's"}),
        ]
        stream = self._kernel.events({"event_type": events.AttemptStarted})
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(anext(stream), SUBSCRIPTION_PERIOD_S)
            await asyncio.sleep(SUBSCRIPTION_PERIOD_S)
        finally:
            await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
            for name in names:
                self._kernel.unsubscribe_events(name)

    def _receive(self, event: events.BaseEvent) -> None:
        self.delivered += 1

    async def _receive_async(self, event: events.BaseEvent) -> None:
        self.delivered += 1

    async def _inject_faults(self) -> None:
        for fault in itertools.cycle(FAULTS):
            await asyncio.sleep(FAULT_PERIOD_S)
            operator = PaperVenue(self._address, timeout_s=5)
            try:
                with contextlib.suppress(VenueError):  # a broken session breaks the operator's too
                    await operator.connect()
                    self.faults += 1
                    if fault is None:
                        await operator.admin("disconnect")
                    else:
                        await operator.inject(fault)
            finally:
                await operator.close()


async def at_rest(kernel: EventSourcedKernel) -> None:
    """Cancel all orders; return once every order has ended and no reconciliation is pending."""
    async with asyncio.timeout(DRAIN_TIMEOUT_S):
        while kernel.state.live_intent_ids() or kernel.get_reconciliation_metrics()["pending_reconciliations"]:
            await kernel.cancel_all_orders()
            await asyncio.sleep(0.2)
