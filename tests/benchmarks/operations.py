"""One operation on a long log, in a process of its own, so that its peak memory is its own.

Started by `long_log` as `python -m tests.benchmarks.operations NAME JSON`. Prints one line of JSON: the operation's seconds
and CPU seconds, its memory in bytes, and other results.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import io
import json
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, closing, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from msgspec import structs
from pydantic import TypeAdapter

from kernel.clock import SystemClock
from kernel.errors import NotSent
from kernel.lifecycle.record import Record
from kernel.log import open_log
from kernel.log.engine.recorded_log import RecordedLog
from kernel.models import ExecType
from kernel.venues.base import ExecutionReport, VenueSnapshot
from projections import checkpoint
from projections.snapshot import StateSnapshot
from projections.state import State
from replay import open_kernel, rebuild, verify
from replay.cli.group import Session
from replay.log_access.as_of import state_at
from replay.log_access.checkpoints import checkpoint_files
from replay.log_access.log_reader import chain_at
from replay.transfer.exporter import export_log
from replay.transfer.importer import import_log
from tests.benchmarks import floors, made_log
from tests.benchmarks.history import decoded
from tests.benchmarks.measure import seconds
from tests.benchmarks.rows import ListeningVenue

READY_TIMEOUT_S = 600
SHOWN = TypeAdapter(tuple[ExecutionReport, ...])


@dataclass(frozen=True, slots=True)
class Place:
    """A log, and the directory of its checkpoints."""

    url: str
    exchange_id: str
    checkpoints: str

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[RecordedLog]:
        """Open the log while the block runs."""
        async with open_log(self.url, exchange_id=self.exchange_id) as log:
            assert isinstance(log, RecordedLog)
            yield log


class Meter:
    """Seconds, CPU seconds and memory from its creation on: imports and opening the log are not included."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()
        self._began_cpu_s = time.process_time()
        self.begin_bytes = psutil.Process().memory_info().rss

    def taken(self, **results: Any) -> dict[str, Any]:
        """All measurements, and other results."""
        return {
            "seconds": time.perf_counter() - self._began_s,
            "cpu_s": time.process_time() - self._began_cpu_s,
            "begin_bytes": self.begin_bytes,
            "peak_bytes": peak_bytes(),
            **results,
        }


def peak_bytes() -> int:
    """The peak memory of this program; where the system has no such figure, `getrusage`, which includes the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def held_bytes() -> int:
    """The memory that this process holds, after returning free memory to the system."""
    gc.collect()
    with suppress(OSError, AttributeError):  # a C library without it keeps what it has
        ctypes.CDLL(None).malloc_trim(0)
    held: int = psutil.Process().memory_info().rss
    return held


# --------------------------------------------------------------------------------------------------------------- writing
async def make(place: Place, events: int, live: int) -> dict[str, Any]:
    """Generate a log."""
    async with place.opened() as log:
        meter = Meter()
        await made_log.make_log(log, count=events, live=live)
        return meter.taken()


async def copy_in(place: Place, url: str, directory: str) -> dict[str, Any]:
    """The floor of an import: rows from one driver inserted with the other, in one transaction."""
    name = f"copied_{place.exchange_id}"
    with closing(floors.RawTable(url, Path(directory), name)) as table:
        meter = Meter()
        table.put_all(floors.raw_pages(place.url, f"log_{place.exchange_id}"))
        return meter.taken()


async def take_in(place: Place, path: str, url: str) -> dict[str, Any]:
    """An import of an export."""
    meter = Meter()
    head = await import_log(path, url, exchange_id=place.exchange_id)
    return meter.taken(chain_hash=head.chain_hash.hex())


# --------------------------------------------------------------------------------------------------------------- reading
async def nothing(place: Place) -> dict[str, Any]:
    """A process with everything imported and the log open."""
    async with place.opened() as log:
        meter = Meter()
        head = await log.head()
        return meter.taken(chain_hash=head.chain_hash.hex(), position=head.position)


async def decode(place: Place) -> dict[str, Any]:
    """The floor of a fold: every row fetched, its payload and envelope decoded."""
    async with place.opened() as log:
        meter = Meter()
        await decoded(log)
        return meter.taken()


async def hash_all(place: Place) -> dict[str, Any]:
    """The floor of a verification: leaf and chain of raw rows."""
    meter = Meter()
    floors.hash_rows(floors.raw_pages(place.url, f"log_{place.exchange_id}"))
    return meter.taken()


async def copy_out(place: Place, path: str) -> dict[str, Any]:
    """The floor of an export: the driver's rows written to a file."""
    meter = Meter()
    await asyncio.to_thread(floors.write_rows, floors.raw_pages(place.url, f"log_{place.exchange_id}"), Path(path))
    return meter.taken()


async def refold(place: Place) -> dict[str, Any]:
    """A rebuild from position 1."""
    async with place.opened() as log:
        meter = Meter()
        report = await rebuild(log)
        assert report.ok
        return meter.taken()


async def check(place: Place, content: bool) -> dict[str, Any]:
    """A verification; with `content`, also of what the events say."""
    async with place.opened() as log:
        meter = Meter()
        report = await verify(log, content=content)
        assert report.ok, report.problems
        return meter.taken()


async def look_back(place: Place, position: int, with_checkpoint: bool) -> dict[str, Any]:
    """The state at a position, and its memory. Without a checkpoint, one is written afterwards."""
    async with place.opened() as log:
        meter = Meter()
        state = await state_at(
            log, position, checkpoint_dir=place.checkpoints if with_checkpoint else f"{place.checkpoints}-none"
        )
        taken = meter.taken()
        taken["held_bytes"] = held_bytes()
        if not with_checkpoint:
            files = checkpoint_files(log, place.checkpoints)
            assert files is not None
            files.write(checkpoint.image(state, await chain_at(log, position)))
        return taken


async def export(place: Place, path: str) -> dict[str, Any]:
    """An export as JSONL."""
    async with place.opened() as log:
        meter = Meter()
        exported = await export_log(log, path)
        return meter.taken(chain_hash=exported.chain_hash.hex())


async def get(place: Place, name: str) -> dict[str, Any]:
    """`orderctl get intent NAME`, including the imports of the command line."""
    meter = Meter()
    from cli import cli

    words = ["get", "intent", name, "--log", place.url, "--exchange", place.exchange_id]
    words += ["--checkpoint-dir", place.checkpoints]
    with redirect_stdout(io.StringIO()) as out:
        await asyncio.to_thread(cli.main, words, standalone_mode=False, obj=Session())
    assert name in out.getvalue(), out.getvalue()
    return meter.taken()


# --------------------------------------------------------------------------------------------------------------- starting
class FullVenue(ListeningVenue):
    """A venue that reports the log's open orders, and does nothing else."""

    def __init__(self, open_orders: tuple[ExecutionReport, ...]) -> None:
        super().__init__()
        self._open_orders = open_orders

    async def submit(self, request: Any) -> ExecutionReport:
        raise NotSent("only the start is measured")

    modify = cancel = submit

    async def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> ExecutionReport | None:
        raise NotSent("only the start is measured")

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
        seen = await super().snapshot(since_ns, symbols)
        return structs.replace(seen, open_orders=self._open_orders)


def open_orders(state: State) -> tuple[ExecutionReport, ...]:
    """The open orders of a state, as a venue reports them."""
    now_ns = SystemClock().now_ns()
    return tuple(
        ExecutionReport(
            exec_type=ExecType.ORDER_STATUS, symbol_id=facts.order.symbol_id, side=facts.order.side,
            client_order_id=facts.client_order_id, exchange_order_id=facts.exchange_order_id,
            order_qty=facts.quantity, price=facts.price, cum_qty=facts.cum_qty, transact_time_ns=now_ns,
        )
        for record in state.records().values() for facts in record.live_orders
    )  # fmt: skip


async def show_open(place: Place, path: str) -> dict[str, Any]:
    """Store what the venue reports when a kernel starts on this log."""
    async with place.opened() as log:
        meter = Meter()
        state = await state_at(log, (await log.head()).position, checkpoint_dir=place.checkpoints)
        shown = open_orders(state)
        await asyncio.to_thread(Path(path).write_bytes, SHOWN.dump_json(shown))
        return meter.taken(open_orders=len(shown), newest=[*state.records()][-1])


async def start(place: Place, path: str, rounds: int) -> dict[str, Any]:
    """`open_kernel` until READY; with several rounds, in turns with decoding the checkpoint that it reads."""
    venue = FullVenue(SHOWN.validate_json(await asyncio.to_thread(Path(path).read_bytes)))
    async with place.opened() as log:
        files = checkpoint_files(log, place.checkpoints)
        assert files is not None
        newest = files.paths()[0]
        folded = (await log.head()).position - checkpoint.read_header(newest).position
        begun_with = await asyncio.to_thread(newest.read_bytes)  # a leading kernel may remove the file
    meter = Meter()
    ours_s, floor_s = [], []
    for _ in range(rounds):
        if rounds > 1:
            floor_s.append(seconds(lambda: decode_checkpoint(begun_with)))
        began = time.perf_counter()
        async with open_kernel(
            place.url, exchange_id=place.exchange_id, venue=venue, checkpoint_dir=place.checkpoints
        ) as kernel:
            await kernel.wait_ready(READY_TIMEOUT_S)
            ours_s.append(time.perf_counter() - began)
    results = {"checkpoint_mb": len(begun_with) / 1e6, "folded": folded}
    return meter.taken(ours_s=statistics.median(ours_s), floor_s=statistics.median(floor_s or [0.0]), **results)


def decode_checkpoint(content: bytes) -> None:
    """The floor of a start: the file's lines decoded into values."""
    _, parts, *records, _, _ = content.split(b"\n")
    checkpoint.decoder(StateSnapshot)(parts)
    assert [checkpoint.decoder(Record)(line) for line in records]


OPERATIONS: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
    "make": make,
    "copy_in": copy_in,
    "take_in": take_in,
    "nothing": nothing,
    "decode": decode,
    "hash_all": hash_all,
    "copy_out": copy_out,
    "refold": refold,
    "check": check,
    "look_back": look_back,
    "export": export,
    "get": get,
    "show_open": show_open,
    "start": start,
}


def main() -> None:
    """Run one operation, and print its results."""
    name, given = sys.argv[1], json.loads(sys.argv[2])
    place = Place(**given.pop("place"))
    print(json.dumps(asyncio.run(OPERATIONS[name](place, **given))))


if __name__ == "__main__":
    main()
