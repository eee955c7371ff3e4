"""The rows of the budget, each beside its floor.

Called by `python -m tests.benchmarks`. Every row is measured on a fresh log in a temporary directory or a fresh schema.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from kernel import EventSourcedKernel, events
from kernel.clock import SeededIds, SystemClock
from kernel.log import Append, EventLog, Write, hashing, open_log
from kernel.metrics import Metrics
from kernel.models import AttemptKind, Balance, Evidence, ExecType, OrderIntent, OrdStatus
from kernel.order_spec import AssetMetadata, OrderType, Side, StandardOrder, SymbolMetadata
from kernel.reconciler.venue_reconciler import VenueReconciler
from kernel.settings import KernelSettings
from kernel.venues.base import (
    CancelRequest,
    ExecutionReport,
    ModifyRequest,
    RateUsage,
    SubmitGroupRequest,
    SubmitRequest,
    Venue,
    VenueCapabilities,
    VenueSnapshot,
)
from projections import EventSourcedActualStore, EventSourcedIntentStore, State
from replay import open_kernel, verify
from tests.benchmarks.floors import PayloadAggregate, RawTable, hash_rows, library_application, raw_pages
from tests.benchmarks.measure import Figure, interleaved, percentile
from tests.envelopes import envelope_by, with_envelope
from tests.forked import ROOT

CLOCK = SystemClock()
IDS = SeededIds()
ORDER = StandardOrder(symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=150_000, price=6_170_000)
SYMBOL = SymbolMetadata(
    symbol_id="BTCUSDT", base_asset="BTC", quote_asset="USDT", price_decimals=2, quantity_decimals=8, lot_size=1_000
)
ASSETS = [AssetMetadata(asset_id="BTC", decimals=8), AssetMetadata(asset_id="USDT", decimals=8)]


def new_exchange_id() -> str:
    return f"b-{uuid.uuid4().hex[:12]}"


def fresh_url(url: str, directory: Path) -> str:
    """A log's URL: a new file for SQLite; PostgreSQL gets a new schema by its exchange id."""
    return f"sqlite:///{directory}/{uuid.uuid4().hex}.db" if url.startswith("sqlite") else url


def backend_of(url: str) -> str:
    return "SQLite" if url.startswith("sqlite") else "PostgreSQL"


class ListeningVenue:
    """A venue that accepts everything at once, and records when it was called."""

    def __init__(self) -> None:
        self.called_s: list[float] = []
        self.called = asyncio.Event()
        self._serial = 0

    @property
    def capabilities(self) -> VenueCapabilities:
        return VenueCapabilities(validity_window_ns=5_000_000_000)

    @property
    def rate_usage(self) -> tuple[RateUsage, ...]:
        return ()

    async def connect(self) -> None:
        return

    async def close(self) -> None:
        return

    async def submit(self, request: SubmitRequest) -> ExecutionReport:
        self.called_s.append(time.perf_counter())
        self.called.set()
        self._serial += 1
        return ExecutionReport(
            exec_type=ExecType.NEW, symbol_id=request.order.symbol_id, exec_id=f"e{self._serial}",
            client_order_id=request.client_order_id, exchange_order_id=f"o{self._serial}", ord_status=OrdStatus.NEW,
            order_qty=request.order.quantity, price=request.order.price, cum_qty=0, transact_time_ns=time.time_ns(),
        )  # fmt: skip

    async def submit_group(self, request: SubmitGroupRequest) -> list[ExecutionReport]:
        raise AssertionError("there are no groups here")

    async def modify(self, request: ModifyRequest) -> ExecutionReport:
        raise AssertionError("nothing is modified here")

    async def cancel(self, request: CancelRequest) -> ExecutionReport:
        raise AssertionError("nothing is canceled here")

    async def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> ExecutionReport | None:
        return None

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
        now_ns = CLOCK.now_ns()
        balances = {"USDT": Balance(asset_id="USDT", total=10**18, free=10**18)}
        return VenueSnapshot(balances=balances, complete=True, began_ns=now_ns, ended_ns=now_ns)

    async def symbols(self) -> list[SymbolMetadata]:
        return [SYMBOL]

    async def assets(self) -> list[AssetMetadata]:
        return ASSETS

    async def reports(self) -> AsyncIterator[ExecutionReport]:
        await asyncio.Event().wait()
        yield  # type: ignore[misc]  # never reached: the stream is quiet


async def durable_commands(url: str, directory: Path, *, rounds: int, commands: int) -> Figure:
    """`place_order(wait="recorded")` from 32 tasks against `Application.save`, one by one, of the same payload."""
    payload = events.encode(events.IntentCreated(intent=intent("payload"))).decode()
    library = library_application(url, directory, f"library-{uuid.uuid4().hex[:8]}")
    exchange_id = new_exchange_id()
    log_url = fresh_url(url, directory)
    async with open_log(log_url, exchange_id=exchange_id) as log:
        await record_reference(log)
        async with open_kernel(log) as kernel:

            async def ours() -> float:
                return commands / await placing_seconds(kernel, commands)

            async def floor() -> float:
                count = max(32, commands // 8)
                began = time.perf_counter()
                for _ in range(count):
                    library.save(PayloadAggregate(payload))
                return count / (time.perf_counter() - began)

            ours_per_s, floor_per_s = await interleaved(rounds, ours, floor)
    library.close()
    to_have, to_reach = (3.5, 5) if url.startswith("sqlite") else (11, 14)
    return Figure(
        f"durable commands, 32 tasks, {backend_of(url)}", ours_per_s / floor_per_s, to_have, to_reach, True,
        {"ours_per_s": round(ours_per_s), "library_save_per_s": round(floor_per_s)},
    )  # fmt: skip


async def commands_beside(url: str, directory: Path, *, rounds: int, commands: int) -> Figure:
    """The same from a process beside the leader, which sends each order, against the process alone."""
    exchange_id, log_url = new_exchange_id(), fresh_url(url, directory)
    async with open_log(fresh_url(url, directory), exchange_id=new_exchange_id()) as log:
        await record_reference(log)
        async with (
            open_kernel(log) as alone,
            leading(log_url, exchange_id),
            open_kernel(log_url, exchange_id=exchange_id) as beside,
        ):

            async def ours() -> float:
                return commands / await placing_seconds(beside, commands)

            async def floor() -> float:
                while not all(beside.state.record(name).live_orders for name in beside.state.live_intent_ids()):
                    await asyncio.sleep(0.1)  # the leader has rest
                return commands / await placing_seconds(alone, commands)

            ours_per_s, floor_per_s = await interleaved(rounds, ours, floor)
    return Figure(
        f"durable commands beside the leader, {backend_of(url)}", ours_per_s / floor_per_s, 0.5, 1.0, True,
        {"beside_per_s": round(ours_per_s), "alone_per_s": round(floor_per_s)},
    )  # fmt: skip


@asynccontextmanager
async def leading(url: str, exchange_id: str) -> AsyncIterator[None]:
    """Run a leader in a process of its own while the block runs."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.leader", url, exchange_id,
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    assert await child.stdout.readline(), "the leader did not start"
    try:
        yield
    finally:
        child.stdin.close()
        await child.wait()


async def placing_seconds(kernel: EventSourcedKernel, count: int) -> float:
    """Seconds of `place_order(wait="recorded")`, a number of times from 32 tasks."""

    async def place(times: int) -> None:
        for _ in range(times):
            await kernel.place_order(ORDER, wait="recorded")

    began = time.perf_counter()
    await asyncio.gather(*(place(len(range(task, count, 32))) for task in range(32)))
    return time.perf_counter() - began


async def cancel_all(url: str, directory: Path, *, rounds: int, orders: int) -> Figure:
    """`cancel_all_orders`, until recorded, against placing the same orders."""
    async with open_log(fresh_url(url, directory), exchange_id=new_exchange_id()) as log:
        await record_reference(log)
        async with open_kernel(log) as kernel:

            async def ours() -> float:
                began = time.perf_counter()
                assert await kernel.cancel_all_orders() == orders
                return time.perf_counter() - began

            ours_s, floor_s = await interleaved(rounds, ours, lambda: placing_seconds(kernel, orders))
    return Figure(
        f"cancel_all_orders, {orders:,} live, {backend_of(url)}", ours_s / floor_s, 0.3, 0.15, False,
        {"ours_s": round(ours_s, 2), "placing_s": round(floor_s, 2)},
    )  # fmt: skip


def intent(name: str) -> OrderIntent:
    return OrderIntent(intent_id=name, exchange_id="paper", order=ORDER, created_at_ns=1, updated_at_ns=1)


async def record_reference(log: EventLog) -> None:
    """Record assets and a symbol, as a venue reports them."""
    made = (*(events.AssetObserved(asset=asset) for asset in ASSETS), events.SymbolObserved(symbol=SYMBOL))
    await log.append(
        Append(uuid.uuid4().bytes, (Write(events.REFERENCE_STREAM, made),), "venue:bench", Evidence.QUERY, is_fact=True)
    )


async def batch_append(url: str, directory: Path, *, rounds: int, batches: int) -> Figure:
    """One append of 100 events against one raw insert of 100 rows of the same bytes, both durable."""
    raw = RawTable(url, directory, f"raw_{uuid.uuid4().hex[:8]}")
    state = events.encode(events.IntentCreated(intent=intent("x" * 32))).decode()
    async with open_log(fresh_url(url, directory), exchange_id=new_exchange_id()) as log:

        async def ours() -> float:
            prepared = [batch_of(100) for _ in range(batches)]
            began = time.perf_counter()
            for append in prepared:
                await log.append(append)
            return 100 * batches / (time.perf_counter() - began)

        async def floor() -> float:
            return 100 * batches / sum(raw.insert(100, state, META) for _ in range(batches))

        ours_per_s, floor_per_s = await interleaved(rounds, ours, floor)
    raw.close()
    return Figure(
        f"append at batch 100, {backend_of(url)}", ours_per_s / floor_per_s, 0.5, 0.7, True,
        {"ours_events_per_s": round(ours_per_s), "raw_insert_rows_per_s": round(floor_per_s)},
    )  # fmt: skip


META = '{"actor":"strategy:default","evidence":"COMMAND","host":"host","os_user":"user","pid":12345}'


def batch_of(count: int) -> Append:
    """Intents with ids like the kernel's: ordered by time, which suits indexes."""
    writes = []
    for _ in range(count):
        name = IDS.intent_id(CLOCK.now_ns())
        writes.append(Write(events.intent_stream(name), (events.IntentCreated(intent=intent(name)),), 0))
    return Append(IDS.command_id(CLOCK.now_ns()), tuple(writes), "strategy:default", Evidence.COMMAND)


async def intent_to_venue(url: str, directory: Path, *, orders: int) -> list[Figure]:
    """From the commit of an intent to the call of the venue, one order at a time, against one bare commit."""
    raw = RawTable(url, directory, f"raw_{uuid.uuid4().hex[:8]}")
    state = events.encode(events.IntentCreated(intent=intent("x" * 32))).decode()
    venue = ListeningVenue()
    typed: Venue = venue
    ours_s: list[float] = []
    floor_s: list[float] = []
    async with (
        open_log(fresh_url(url, directory), exchange_id=new_exchange_id()) as log,
        open_kernel(log, venue=typed, settings=KernelSettings(ack_timeout_s=30)) as kernel,
    ):
        await kernel.wait_ready(30)
        for _ in range(orders):
            floor_s.append(raw.insert(1, state, META))
            venue.called.clear()
            await kernel.place_order(ORDER, wait="recorded")
            committed_s = time.perf_counter()
            await venue.called.wait()
            ours_s.append(max(0.0, venue.called_s[-1] - committed_s))
            await recorded_all(kernel.get_reconciliation_metrics)
    raw.close()
    detail = {
        "bare_commit_p50_ms": round(percentile(floor_s, 0.5) * 1e3, 3),
        "bare_commit_p99_ms": round(percentile(floor_s, 0.99) * 1e3, 3),
    }
    return [
        Figure(
            f"intent committed → venue called, p{round(share * 100)}, {backend_of(url)}",
            percentile(ours_s, share) / percentile(floor_s, share), to_have, to_reach, False,
            {"ours_ms": round(percentile(ours_s, share) * 1e3, 3), **detail},
        )
        for share, to_have, to_reach in ((0.5, 2.5, 2), (0.99, 3, 3))
    ]  # fmt: skip


async def recorded_all(metrics: Callable[[], dict[str, int]]) -> None:
    """Wait until the answer of the last order is recorded."""
    while metrics()["pending_reconciliations"]:
        await asyncio.sleep(0.0005)


async def wake_up(*, live: int, few: int, rounds: int) -> Figure:
    """From a committed event to its key at a worker, with many live intents against few."""
    many_s = await wake_up_seconds(live, rounds)
    few_s = await wake_up_seconds(few, rounds)
    return Figure(
        f"wake-up, {live:,} live intents against {few:,}", many_s / few_s, 1.2, 1.1, False,
        {"many_us": round(many_s * 1e6, 1), "few_us": round(few_s * 1e6, 1)},
    )  # fmt: skip


async def wake_up_seconds(live: int, rounds: int) -> float:
    """Median seconds of one wake-up over a state with a number of live intents."""
    async with open_log("memory://", exchange_id="bench") as log:
        state = State()
        ids = SeededIds(1)
        unused: Any = None  # only the feed is measured: no venue, no workers
        reconciler = VenueReconciler(
            EventSourcedIntentStore(log, state, clock=CLOCK, ids=ids, metrics=Metrics()),
            EventSourcedActualStore(log, state, clock=CLOCK, ids=ids, metrics=Metrics()),
            state, log, unused, unused,
            clock=CLOCK, ids=ids, settings=KernelSettings(), metrics=Metrics(), missing=tuple,
        )  # fmt: skip
        reconciler.running = True
        fill_state(state, live)
        taken = []
        for number in range(rounds):
            batch = [recorded(state, events.IntentCreated(intent=intent(f"wake-{number}")), f"wake-{number}")]
            began = time.perf_counter()
            applied = state.apply(batch)
            reconciler.on_diff(applied.differing)
            key = await reconciler._queue.get()
            taken.append(time.perf_counter() - began)
            reconciler._queue.done(key)
    return percentile(taken, 0.5)


def fill_state(state: State, live: int) -> None:
    """Fold live intents, each with an accepted order."""
    for number in range(live):
        name = f"live-{number}"
        order_id = f"k{number:025d}"
        started = events.AttemptStarted(
            intent_id=name, number=1, kind=AttemptKind.SUBMIT, client_order_id=order_id, order=ORDER, generation=1,
            epoch=1, stamp_ns=1, send_by_ns=2, valid_until_ns=3, absent_after_ns=4, state_position=0, decided_at_ns=1,
        )  # fmt: skip
        accepted = events.OrderAccepted(
            intent_id=name, symbol_id="BTCUSDT", client_order_id=order_id, exchange_order_id=str(number),
            exec_type=ExecType.NEW, order_qty=ORDER.quantity, price=ORDER.price, transact_time_ns=1,
        )  # fmt: skip
        for event in (events.IntentCreated(intent=intent(name)), started, accepted):
            state.apply([recorded(state, event, name)])


def recorded(state: State, event: events.BaseEvent, intent_id: str) -> events.BaseEvent:
    """An event as read from a log."""
    envelope = envelope_by(
        position=state.position + 1,
        stream_id=events.intent_stream(intent_id),
        version=state.record(intent_id).version + 1,
        recorded_at_ns=1,
        actor="bench",
        evidence=Evidence.COMMAND,
    )
    return with_envelope(event, envelope)


async def hashing_cost(url: str, directory: Path, *, rounds: int, batches: int) -> Figure:
    """Appends of 100 events with hashes, against the same without."""
    async with (
        open_log(fresh_url(url, directory), exchange_id=new_exchange_id()) as hashed,
        open_log(fresh_url(url, directory), exchange_id=new_exchange_id()) as bare,
    ):

        async def measure(log: EventLog) -> float:
            prepared = [batch_of(100) for _ in range(batches)]
            began = time.perf_counter()
            for append in prepared:
                await log.append(append)
            return 100 * batches / (time.perf_counter() - began)

        async def without() -> float:
            with (
                mock.patch.object(hashing, "leaf_hash", no_hash),
                mock.patch.object(hashing, "chain_hash", no_hash),
            ):
                return await measure(bare)

        with_per_s, without_per_s = await interleaved(rounds, lambda: measure(hashed), without)
    return Figure(
        f"append with hashing, {backend_of(url)}", with_per_s / without_per_s, 0.85, 0.95, True,
        {"with_events_per_s": round(with_per_s), "without_events_per_s": round(without_per_s)},
    )  # fmt: skip


async def verify_hashes(url: str, directory: Path, *, rounds: int, count: int) -> Figure:
    """Verifying a log's rows and hashes, against reading the same rows and computing leaf and chain of each."""
    log_url, exchange_id = fresh_url(url, directory), new_exchange_id()
    async with open_log(log_url, exchange_id=exchange_id) as log:
        for _ in range(count // 100):
            await log.append(batch_of(100))
        total = (await log.head()).position

        async def ours() -> float:
            began = time.perf_counter()
            report = await verify(log, content=False)
            took_s = time.perf_counter() - began
            assert report.ok, report.problems
            return total / took_s

        async def floor() -> float:
            began = time.perf_counter()
            chain = hash_rows(raw_pages(log_url, f"log_{exchange_id}"))
            took_s = time.perf_counter() - began
            assert chain == (await log.head()).chain_hash
            return total / took_s

        ours_per_s, floor_per_s = await interleaved(rounds, ours, floor)
    return Figure(
        f"verify: hashes alone, {backend_of(url)}", ours_per_s / floor_per_s, 0.8, 0.9, True,
        {"ours_events_per_s": round(ours_per_s), "raw_events_per_s": round(floor_per_s), "events": total},
    )  # fmt: skip


def no_hash(*parts: object) -> bytes:
    """Replaces a hash function."""
    return bytes(32)
