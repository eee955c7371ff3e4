"""The soak's exchange process, and the load on a kernel: strategies, subscribers, and what goes wrong.

Used by the soak alone. Strategies place, read and cancel at a steady rate, so that what is live stays bounded; beside them
subscriptions come and go, the exchange loses answers and reports, and every session is broken now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import AsyncIterator
from pathlib import Path

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
"""Relists and looks come often, so that a minute has many of them."""
RESTING = StandardOrder(
    symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=10_000, price=5_000_000
)
TAKING = (
    RESTING.model_copy(update={"price": 7_500_000}),
    RESTING.model_copy(update={"side": Side.SELL}),
)
"""They trade at once, in turn, so that the position stays where it is."""
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
"""What goes wrong, in turn; None breaks every session."""


@contextlib.asynccontextmanager
async def exchange_process(directory: Path) -> AsyncIterator[tuple[str, int]]:
    """A paper exchange with a journal, playing the project's tape: its address and its process id."""
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
    """Everything that a kernel is put to, from entering to leaving; then whatever was begun is over."""

    def __init__(self, kernel: EventSourcedKernel, address: str, *, rate: float) -> None:
        """`rate` is in commands per second, over all strategies."""
        self._kernel = kernel
        self._address = address
        self._period_s = STRATEGIES / rate
        self._tasks: list[asyncio.Task[None]] = []
        self._sides = itertools.cycle(TAKING)
        self.commands = 0
        self.refused = 0
        """Commands that ended in an error: too late, or refused."""
        self.faults = 0
        self.delivered = 0
        """Events that subscribers were called for."""

    async def __aenter__(self) -> Load:
        work = [self._trade(number) for number in range(STRATEGIES)]
        self._tasks = [asyncio.create_task(item) for item in (*work, self._subscribe(), self._go_wrong())]
        return self

    async def __aexit__(self, *problem: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self) -> None:
        """Raise what ended a part of the load before its time, if anything did."""
        for task in self._tasks:
            if task.done():
                task.result()

    # --------------------------------------------------------------------------------------------------- strategies
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
        """Until the next command is due; what was missed is not made up for."""
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

    # -------------------------------------------------------------------------------------------------- subscribers
    async def _subscribe(self) -> None:
        """Two that stay, and ever new ones: on a thread, as a task, as an iterator, and one that wants nothing."""
        staying = [self._kernel.subscribe_events(self._hear), self._kernel.subscribe_events(self._hear_async)]
        try:
            while True:
                await self._come_and_go()
        finally:
            for name in staying:
                self._kernel.unsubscribe_events(name)

    async def _come_and_go(self) -> None:
        names = [
            self._kernel.subscribe_events(self._hear, {"event_type": "OrderAccepted"}),
            self._kernel.subscribe_events(self._hear_async, {"intent_id": "nobody's"}),
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

    def _hear(self, event: events.BaseEvent) -> None:
        self.delivered += 1

    async def _hear_async(self, event: events.BaseEvent) -> None:
        self.delivered += 1

    # ------------------------------------------------------------------------------------------------ what goes wrong
    async def _go_wrong(self) -> None:
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
    """Cancel what is live and return once every order has ended and the engine has nothing to do."""
    async with asyncio.timeout(DRAIN_TIMEOUT_S):
        while kernel.state.live_intent_ids() or kernel.get_reconciliation_metrics()["pending_reconciliations"]:
            await kernel.cancel_all_orders()
            await asyncio.sleep(0.2)
