"""PostgreSQL fails under a running kernel, for seconds and for longer than the timeouts, and comes back.

A server of its own that is really stopped and started. The same kernel objects go on by themselves afterwards: a leader on
a real log with a paper exchange in this process, a kernel of a strategy beside it, a subscription.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from kernel.clock import SeededIds, SystemClock
from kernel.controller import EventSourcedKernel
from kernel.errors import KernelError, LogUnavailableError
from kernel.events import BaseEvent
from kernel.log import EventLog, LogSettings, open_log
from kernel.metrics import Metrics
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.runtime.election import Leadership
from kernel.safety.readiness import LEASE_HELD, Readiness
from kernel.settings import KernelSettings
from kernel.streams.event_writer import EventWriter
from kernel.venues import CancelRequest, ExecutionReport, PaperVenue, SubmitRequest
from projections import State
from projections.stores import following
from replay import open_kernel
from replay.host.run import run_kernel
from tests.postgres import OwnPostgres, own_postgres

SETTINGS = KernelSettings(relist_interval_s=2, resync_interval_s=1, order_age_s_max=10, request_timeout_s=1)
LIMIT_S = 180
"""Timeout of every wait."""
RESTING = StandardOrder(
    symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=10_000, price=5_000_000
)


@pytest.fixture(scope="module")
def own_server() -> Iterator[OwnPostgres]:
    with own_postgres() as running:
        yield running


@pytest.fixture
def server(own_server: OwnPostgres) -> OwnPostgres:
    """A PostgreSQL that a test may stop; it runs when the test begins."""
    own_server.start()
    return own_server


class WatchedVenue(PaperVenue):
    """A paper exchange in this process that counts requests."""

    def __init__(self) -> None:
        super().__init__(seed=1)
        self.requests = 0

    async def submit(self, request: SubmitRequest) -> ExecutionReport:
        self.requests += 1
        return await super().submit(request)

    async def cancel(self, request: CancelRequest) -> ExecutionReport:
        self.requests += 1
        return await super().cancel(request)


@dataclass
class Desk:
    """A leader and a strategy on one log, each with its own connection, and a subscriber."""

    leader: EventSourcedKernel
    strategy: EventSourcedKernel
    venue: WatchedVenue
    heard: list[BaseEvent] = field(default_factory=list)

    async def agrees(self, *intent_ids: str) -> None:
        """Wait until each of these has its one order at the exchange, as the strategy sees it."""
        for intent_id in intent_ids:
            await self.strategy.wait_until(intent_id, lambda record: len(record.live_orders) == 1, timeout_s=LIMIT_S)

    async def everything_was_heard(self) -> None:
        """The subscription has each position of the log once, in order."""
        head = await self.strategy.log.head()
        async with asyncio.timeout(LIMIT_S):
            while not self.heard or self.heard[-1].position < head.position:
                await asyncio.sleep(0.02)
        assert [event.position for event in self.heard] == list(range(1, len(self.heard) + 1))


@asynccontextmanager
async def a_desk(server: OwnPostgres, exchange_id: str, *, reconnect_timeout_s: float) -> AsyncIterator[Desk]:
    """Start a desk whose kernels are ready."""
    settings = LogSettings(reconnect_timeout_s=reconnect_timeout_s)

    def a_log() -> EventLog:
        return open_log(server.url, exchange_id=exchange_id, settings=settings)

    venue = WatchedVenue()
    async with (
        a_log() as log,
        a_log() as other,
        open_kernel(log, venue=venue, settings=SETTINGS) as leader,
        open_kernel(other, settings=SETTINGS) as strategy,
    ):
        await leader.wait_ready(LIMIT_S)
        desk = Desk(leader, strategy, venue)

        async def hear(event: BaseEvent) -> None:
            desk.heard.append(event)

        strategy.subscribe_events(hear, after=0)
        await strategy.state.reached(leader.state.position)  # it knows the markets once it has read what the leader has
        await strategy.place_order(RESTING, intent_id="before", ack_timeout_s=LIMIT_S)
        await desk.agrees("before")
        yield desk


async def is_lost(leader: EventSourcedKernel) -> None:
    """Wait until a leader has lost leadership."""
    async with asyncio.timeout(LIMIT_S):
        while leader._runtime.readiness[LEASE_HELD].status:
            await asyncio.sleep(0.02)


async def outcome(command: Awaitable[Any]) -> Any:
    """Return what a command returns, or its `KernelError`."""
    try:
        return await command
    except KernelError as problem:
        return problem


async def check_queries(desk: Desk) -> None:
    """Every query of the seed's interface answers from memory, on the leader and beside it."""
    for kernel in (desk.leader, desk.strategy):
        assert (await kernel.get_order_intent("before")).intent_id == "before"
        assert (await kernel.get_order_state("before")).status.leaves_qty == RESTING.quantity
        assert [intent.intent_id for intent in await kernel.get_all_intents("BTCUSDT")] == ["before"]
        assert len(await kernel.get_all_orders()) == 1
        assert await kernel.get_positions() == []
        assert (await kernel.get_account_state()).balances
        assert await kernel.list_symbols()
        assert kernel.get_reconciliation_metrics()["running"] in (True, False)


async def test_seconds_without_the_database(server: OwnPostgres, exchange_id: str) -> None:
    """Commands given during a short outage succeed after it; meanwhile nothing is sent and queries answer."""
    async with a_desk(server, exchange_id, reconnect_timeout_s=LIMIT_S) as desk:
        asked = desk.venue.requests
        await asyncio.to_thread(server.stop)
        placing = [
            asyncio.create_task(kernel.place_order(RESTING, intent_id=f"during-{number}", ack_timeout_s=LIMIT_S))
            for number, kernel in enumerate([desk.leader, desk.strategy, desk.leader, desk.strategy])
        ]
        await is_lost(desk.leader)
        await check_queries(desk)
        assert not any(task.done() for task in placing)
        assert desk.venue.requests == asked

        await asyncio.to_thread(server.start)
        names = await asyncio.gather(*placing)
        assert names == [f"during-{number}" for number in range(4)]
        await desk.agrees("before", *names)
        await desk.leader.wait_ready(LIMIT_S)
        await desk.strategy.cancel_order("before", ack_timeout_s=LIMIT_S)
        await desk.everything_was_heard()
        orders = (await desk.venue.truth())["orders"]
        assert sorted(order["status"] for order in orders) == ["CANCELED", *["NEW"] * 4]


@pytest.mark.parametrize("away", ["stopped", "killed"])
async def test_an_outage_longer_than_the_timeouts(server: OwnPostgres, exchange_id: str, away: str) -> None:
    """Commands fail with `LogUnavailableError` during a long outage; afterwards the same kernels go on."""
    async with a_desk(server, exchange_id, reconnect_timeout_s=0.3) as desk:
        asked = desk.venue.requests
        await asyncio.to_thread(server.stop if away == "stopped" else server.kill)
        for number in range(3):
            for kernel in (desk.leader, desk.strategy):
                refused = await outcome(kernel.place_order(RESTING, intent_id=f"during-{number}"))
                assert isinstance(refused, LogUnavailableError), repr(refused)
                assert "database" in str(refused)
        assert isinstance(await outcome(desk.strategy.cancel_order("before")), LogUnavailableError)
        await is_lost(desk.leader)
        await check_queries(desk)
        assert desk.venue.requests == asked

        await asyncio.to_thread(server.start)
        await desk.leader.wait_ready(LIMIT_S)
        again = [await desk.strategy.place_order(RESTING, intent_id=f"during-{number}") for number in range(3)]
        after = await desk.leader.place_order(RESTING, intent_id="after", ack_timeout_s=LIMIT_S)
        await desk.agrees("before", *again, after)
        await desk.everything_was_heard()
        orders = (await desk.venue.truth())["orders"]
        assert [order["status"] for order in orders] == ["NEW"] * 5


async def test_repeated_outages(server: OwnPostgres, exchange_id: str) -> None:
    """After five outages under load, shorter and longer than the timeouts, each intent has one order."""
    async with a_desk(server, exchange_id, reconnect_timeout_s=0.5) as desk:
        names: list[str] = []
        for number, down_s in enumerate((0.0, 0.2, 1.0, 0.0, 1.5)):
            stop: Callable[[], None] = server.kill if number % 2 else server.stop
            trading = asyncio.create_task(insist(desk.strategy, [f"o{number}-{each}" for each in range(20)]))
            await asyncio.to_thread(stop)
            await asyncio.sleep(down_s)
            await asyncio.to_thread(server.start)
            names += await asyncio.wait_for(trading, LIMIT_S)
        await desk.agrees("before", *names)
        await desk.everything_was_heard()
        orders = (await desk.venue.truth())["orders"]
        assert [order["status"] for order in orders] == ["NEW"] * 101


async def insist(strategy: EventSourcedKernel, names: list[str]) -> list[str]:
    """Place an order with each id, and retry those refused because the log was unavailable."""
    for name in names:
        while isinstance(await outcome(strategy.place_order(RESTING, intent_id=name, wait="recorded")), KernelError):
            await asyncio.sleep(0.05)
    return names


async def test_health_reports_the_outage(server: OwnPostgres, exchange_id: str) -> None:
    """During an outage health answers with not ready and the reason; afterwards it is ready again."""
    async with a_desk(server, exchange_id, reconnect_timeout_s=0.3) as desk:
        await asyncio.to_thread(server.stop)
        health = await desk.leader.health_check()
        conditions = {item["type"]: item for item in health["conditions"]}
        assert not health["ready"]
        assert not conditions["PROJECTIONS_AT_HEAD"]["status"]
        assert "database" in conditions["PROJECTIONS_AT_HEAD"]["message"]
        assert health["lag_events"] is None
        await asyncio.to_thread(server.start)
        await is_lost(desk.leader)
        await desk.leader.wait_ready(LIMIT_S)
        health = await desk.leader.health_check()
        assert health["ready"]
        assert health["lag_events"] == 0


async def test_stopping_during_an_outage(server: OwnPostgres, exchange_id: str) -> None:
    """A leader stops in time during an outage, although commands wait for the database."""
    settings = SETTINGS.model_copy(update={"stop_timeout_s": 0.5})
    async with (
        open_log(server.url, exchange_id=exchange_id, settings=LogSettings(reconnect_timeout_s=3600)) as log,
        open_kernel(log, venue=WatchedVenue(), settings=settings) as leader,
    ):
        await leader.wait_ready(LIMIT_S)
        await asyncio.to_thread(server.stop)
        placing = asyncio.create_task(outcome(leader.place_order(RESTING, intent_id="during")))
        async with asyncio.timeout(LIMIT_S):
            await leader.stop()
    assert isinstance(await placing, LogUnavailableError)


async def test_a_running_kernel_survives_an_outage(server: OwnPostgres, exchange_id: str) -> None:
    """`orderctl run` goes on during an outage, and reports leadership afterwards."""
    lines: list[str] = []
    venue = PaperVenue(seed=1)
    running = asyncio.create_task(run_kernel(server.url, exchange_id, venue, settings=SETTINGS, say=lines.append))
    try:
        await wait_for_lines(lines, running, "ready: leads", times=1)
        await asyncio.to_thread(server.stop)
        await wait_for_lines(lines, running, "not ready", times=1)
        await asyncio.to_thread(server.start)
        await wait_for_lines(lines, running, "ready: leads", times=2)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def wait_for_lines(lines: list[str], running: asyncio.Task[None], text: str, *, times: int) -> None:
    """Wait until a number of lines begin with a text; raises what ends the kernel."""
    async with asyncio.timeout(LIMIT_S):
        while sum(line.startswith(text) for line in lines) < times:
            if running.done():
                running.result()
            await asyncio.sleep(0.05)


class BusyLog:
    """A log in which others write during an election: each read of its head folds their events."""

    def __init__(self, log: EventLog, news: Callable[[], None]) -> None:
        self._log = log
        self._news = news

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def head(self) -> Any:
        self._news()
        return await self._log.head()


async def test_events_of_an_older_epoch_end_no_term(exchange_id: str) -> None:
    """A leader elected while the fold shows its predecessor's epoch keeps leading."""
    async with open_log("memory://", exchange_id=exchange_id) as log:
        state = State()
        async with following(log, state):
            clock = SystemClock()
            writer = EventWriter(log, state, clock=clock, ids=SeededIds(1), metrics=Metrics())
            readiness = Readiness(clock)
            lease = log.lease(clock=clock)
            first = Leadership(log, state, writer, lease, readiness, clock=clock, settings=SETTINGS)
            await led_once(first, clock)
            busy: Any = BusyLog(log, lambda: second.note_epoch(state.epoch))
            second = Leadership(busy, state, writer, lease, readiness, clock=clock, settings=SETTINGS)
            await led_once(second, clock)
            assert (first.epoch, second.epoch, state.epoch) == (1, 2, 2)


async def led_once(leadership: Leadership, clock: SystemClock) -> None:
    """Lead for a while, then stop; a term that ends by itself is an error."""
    lasted = asyncio.Event()

    async def act(epoch: int) -> None:
        await clock.sleep_until(clock.now_ns() + 50_000_000)
        lasted.set()
        await asyncio.Event().wait()

    leading = asyncio.create_task(leadership.run(act))
    await asyncio.wait_for(lasted.wait(), LIMIT_S)
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
