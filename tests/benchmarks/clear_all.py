"""`python -m tests.benchmarks.clear_all [--orders N] [--log sqlite|postgresql]`: N open orders, and `orderctl cancel-all`.

A paper exchange, a kernel and the command line run as a process each. The exchange accepts a weight per ten seconds
(`--weight`), which the kernel observes. Prints how long each step took, the order of requests, the latency of `get orders`
meanwhile, and the leader's memory. Asserts no times: a benchmark informs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec import structs

from kernel import EventSourcedKernel, events
from kernel.clock import NS_PER_S
from kernel.models import AttemptKind, AttemptOutcome, OrdStatus
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.venues.base import Operation, RateLimit, RateLimitKind
from kernel.venues.paper.matching.config import PaperConfig, built_in_symbols
from replay import open_kernel
from tests.benchmarks.measure import note
from tests.forked import ROOT
from tests.integration.world import Process
from tests.postgres import running_postgres

EXCHANGE = "bench"
WINDOW_S = 10
AT_ONCE = 64
IN_BETWEEN = "in-between"
"""The order that is placed while all others are canceled."""


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.clear_all", description=__doc__)
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--weight", type=int, default=4_000, help=f"weight that the exchange takes in {WINDOW_S} s")
    parser.add_argument("--log", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kernel-bench-") as name:
        directory = Path(name)
        if options.log == "sqlite":
            figures = asyncio.run(
                measure(f"sqlite:///{directory}/kernel.db", directory, options.orders, options.weight)
            )
        else:
            with running_postgres() as url:
                figures = asyncio.run(measure(url, directory, options.orders, options.weight))
    print(json.dumps(figures, indent=2))


async def measure(url: str, directory: Path, orders: int, weight: int) -> dict[str, object]:
    """Open the orders, and cancel them all."""
    async with desk_of(url, directory, orders=orders, weight=weight) as (desk, leader):
        return await Run(desk, leader, ["--log", url, "--exchange", EXCHANGE], orders).all()


@asynccontextmanager
async def desk_of(
    url: str, directory: Path, *, orders: int, weight: int
) -> AsyncIterator[tuple[EventSourcedKernel, Process]]:
    """A paper exchange and a leading kernel as processes, and a kernel here to place orders."""
    (directory / "exchange.json").write_text(exchange_config(orders, weight).model_dump_json())
    address = str(directory / "exchange.sock")
    exchange = Process(
        "tests.paper_process",
        "--listen", address, "--config", str(directory / "exchange.json"),
        "--journal", str(directory / "exchange.journal"), "--speed", "step",
    )  # fmt: skip
    leader = Process("cli", "run", "--log", url, "--exchange", EXCHANGE, "--address", address)
    async with AsyncExitStack() as stack:
        for process in (exchange, leader):
            stack.push_async_callback(process.kill)
        await exchange.start()
        await leader.start(wait=False)
        desk = await stack.enter_async_context(open_kernel(url, exchange_id=EXCHANGE))
        await until(lambda: any(desk.state.symbols()))
        yield desk, leader


def exchange_config(orders: int, weight: int) -> PaperConfig:
    """An exchange with capacity and balances for the orders, and a weight limit per ten seconds."""
    weights = dict.fromkeys((Operation.SUBMIT, Operation.CANCEL, Operation.AMEND), 1)
    queries = {Operation.ORDER: 4, Operation.SNAPSHOT: 80}
    return PaperConfig(
        symbols=tuple(structs.replace(item, max_open_orders=2 * orders) for item in built_in_symbols()),
        balances={"USDT": 10**9 * 10**8},
        rate_limits=(
            RateLimit(
                kind=RateLimitKind.REQUEST_WEIGHT,
                window_ns=WINDOW_S * NS_PER_S,
                limit=weight,
                weights=weights | queries,
            ),
        ),
    )


class Run:
    """One run, step by step."""

    def __init__(self, desk: EventSourcedKernel, leader: Process, target: list[str], orders: int) -> None:
        self._desk = desk
        self._leader = leader
        self._target = target
        self._names = [f"o{number}" for number in range(orders)]
        self._figures: dict[str, object] = {"orders": orders}

    async def all(self) -> dict[str, object]:
        """Every figure."""
        self._figures["leader_rss_mb_before"] = rss_mb(self._leader.pid)
        await self.open(upto=len(self._names))
        self._figures["leader_rss_mb_with_all"] = rss_mb(self._leader.pid)
        await self._verb("get_orders_s", "get", "orders", "-o", "name")
        await self._verb("get_orders_table_s", "get", "orders")
        await self._verb("top_s", "top", "--once")
        await self._verb("describe_s", "describe", self._names[-1])
        position = self._desk.state.position
        began_s = time.perf_counter()
        clearing = asyncio.create_task(self._verb("cancel_all_recorded_s", "cancel-all", "--yes"))
        await until(lambda: self._canceled() > 0)
        await self._desk.place_order(bid(0), intent_id=IN_BETWEEN, wait="recorded")
        await clearing
        await self._verb("get_orders_meanwhile_s", "get", "orders", "-o", "name")
        note(f"{self._canceled()} of {len(self._names)} are canceled …")
        await until(lambda: self._canceled() == len(self._names))
        self._figures["cancel_all_to_last_confirmation_s"] = round(time.perf_counter() - began_s, 2)
        await until(lambda: bool(self._desk.state.record(IN_BETWEEN).live_orders))
        await self._order_of_sends(position)
        return self._figures

    async def open(self, *, upto: int) -> None:
        """Place orders up to a number, and wait until they are open and resolved."""
        wanted = self._names[self._desk.state.open_orders("BTCUSDT") : upto]
        note(f"wanting {len(wanted)} orders …")
        began_s = time.perf_counter()
        for begin in range(0, len(wanted), AT_ONCE):
            names = wanted[begin : begin + AT_ONCE]
            await asyncio.gather(
                *(self._desk.place_order(bid(int(name[1:])), intent_id=name, wait="recorded") for name in names)
            )
        self._figures["wanted_s"] = round(time.perf_counter() - began_s, 2)
        await until(lambda: self._desk.state.open_orders("BTCUSDT") >= upto)
        await until(lambda: not any(self._desk.state.record(name).unresolved for name in wanted))
        self._figures["open_s"] = round(time.perf_counter() - began_s, 2)

    async def _verb(self, figure: str, *words: str) -> None:
        """Run a command, and record how long it took."""
        began_s = time.perf_counter()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", *words, *self._target, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await child.communicate()
        self._figures[figure] = round(time.perf_counter() - began_s, 2)
        note(f"orderctl {' '.join(words)}: {len(out.splitlines())} lines in {self._figures[figure]} s")

    def _canceled(self) -> int:
        """How many cancels the venue has confirmed."""
        records = (self._desk.state.record(name) for name in self._names)
        return sum(any(facts.closed is OrdStatus.CANCELED for facts in record.orders) for record in records)

    async def _order_of_sends(self, after: int) -> None:
        """The order of requests after a position, and the outcomes of those that were not accepted."""
        kinds: list[AttemptKind] = []
        outcomes: Counter[str] = Counter()
        async for event in self._events(after):
            if isinstance(event, events.AttemptStarted):
                kinds.append(event.kind)
            elif isinstance(event, events.AttemptFailed):
                outcomes[event.outcome] += 1
            elif isinstance(event, events.AttemptUnknown):
                outcomes[AttemptOutcome.UNKNOWN] += 1
        self._figures["cancels_sent"] = kinds.count(AttemptKind.CANCEL)
        self._figures["cancels_before_the_order_in_between"] = kinds.index(AttemptKind.SUBMIT)
        self._figures["refused"] = outcomes[AttemptOutcome.REJECTED]
        self._figures["not_sent_or_not_answered_in_time"] = (
            outcomes[AttemptOutcome.DEAD] + outcomes[AttemptOutcome.UNKNOWN]
        )

    async def _events(self, after: int) -> AsyncIterator[events.BaseEvent]:
        head = (await self._desk.log.head()).position
        async for batch in self._desk.log.tail(after):
            for event in batch:
                yield event
            if batch[-1].position >= head:
                return


async def until(holds: Callable[[], bool]) -> None:
    """Return once a condition holds."""
    while not holds():
        await asyncio.sleep(0.5)


def bid(number: int) -> StandardOrder:
    """A resting buy order at a price of its own."""
    return StandardOrder(
        symbol_id="BTCUSDT", side=Side.BUY, order_type=OrderType.LIMIT, quantity=1_000_000, price=5_000_000 + number
    )


def rss_mb(pid: int | None) -> float | None:
    """The resident memory of a process in MB; None if it cannot be read."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith("VmRSS")), None)


if __name__ == "__main__":
    main()
