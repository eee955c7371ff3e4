"""The budget's row about memory: the cost of one live intent, in a fold and in a leading kernel.

Called by `python -m tests.benchmarks`. The budget is about the fold, which every process that reads the log holds. The
leader's figure is beside it: a process of its own, with resting orders at a paper exchange in a third process, after it has
queried all of them. Both are the resident memory of a process at two numbers of intents: the difference, divided.

    python -m tests.benchmarks.memory [--traced] FEW MANY     the fold alone; with `--traced`, by line of code
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from kernel import EventSourcedKernel, events
from kernel.clock import SeededIds
from kernel.lifecycle.record import client_order_id
from kernel.models import AttemptKind, Evidence, ExecType, OrderIntent, OrdStatus
from kernel.order_spec import StandardOrder
from projections import State
from tests.benchmarks import clear_all
from tests.benchmarks.measure import Figure
from tests.envelopes import envelope_by, with_envelope
from tests.forked import ROOT

TO_HAVE_KB, TO_REACH_KB = 3.0, 2.3
RELISTS = 2
"""Lists of all open orders before the leader's memory is measured."""
RELIST_INTERVAL_S = 10
BEGAN_NS = 1_790_000_000_000_000_000

FOLDED, LED = (12_000, 22_000), (1_000, 3_000)
"""Numbers of intents between which is measured; of the fold, where the tables that hold it have just doubled, so that it
counts for the most it can."""

Step = tuple[str, Evidence, events.BaseEvent]
"""Actor, evidence and event."""


async def live_intents(directory: Path, *, folded: tuple[int, int], leader: bool) -> list[Figure]:
    """The row; with `leader`, which takes minutes, also that of a leader."""
    sizes = [("the fold", folded, await bytes_of_fold(*folded))]
    if leader:
        sizes.append(("a leader", LED, await bytes_of_leader(directory, *LED)))
    return [
        Figure(
            f"memory per live intent, {name} (kB)", size / 1_000, TO_HAVE_KB, TO_REACH_KB, False,
            {"few": few, "many": many},
        )
        for name, (few, many), size in sizes
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------------- the fold
async def bytes_of_fold(few: int, many: int) -> float:
    """The bytes of one intent, measured in a child process."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.memory", str(few), str(many), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await child.communicate()
    return float(out)


def main() -> None:
    """Measure the fold in this process, and print the bytes of one intent."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.memory", description=__doc__)
    parser.add_argument("few", type=int)
    parser.add_argument("many", type=int)
    parser.add_argument(
        "--traced", action="store_true", help="what was allocated where, instead of what the system says"
    )
    options = parser.parse_args()
    measured = traced_bytes if options.traced else resident_bytes
    print(round(measured(State(), options.few, options.many), 1))


def resident_bytes(state: State, few: int, many: int) -> float:
    """Bytes of one intent in resident memory."""
    fold_live(state, 0, few)
    before = resident()
    fold_live(state, few, many)
    return (resident() - before) / (many - few)


def resident() -> float:
    """The resident memory of this process."""
    gc.collect()
    found = clear_all.rss_mb(os.getpid())
    assert found is not None, "the operating system does not say what a process holds"
    return found * 2**20


def traced_bytes(state: State, few: int, many: int) -> float:
    """Bytes of one intent as Python allocates them; prints where on stderr."""
    tracemalloc.start(1)
    fold_live(state, 0, few)
    gc.collect()
    before = tracemalloc.take_snapshot()
    fold_live(state, few, many)
    gc.collect()
    found = tracemalloc.take_snapshot().compare_to(before, "lineno")
    for item in found[:40]:
        print(f"{item.size_diff / (many - few):8.1f}  {item.traceback[0]}", file=sys.stderr)
    return sum(item.size_diff for item in found) / (many - few)


def fold_live(state: State, begin: int, end: int) -> None:
    """Fold more working orders, each event decoded like one from a log: no two share a value."""
    for number in range(begin, end):
        intent_id = f"{SeededIds(number).intent_id(BEGAN_NS)}-{number}"
        for version, (actor, evidence, event) in enumerate(life(intent_id, number), 1):
            stored = events.decode(event.topic, event.schema_version, events.encode(event))
            position = state.position + 1
            envelope = envelope_by(
                position=position, stream_id=events.intent_stream(intent_id), version=version,
                recorded_at_ns=BEGAN_NS + position * 1_000, actor=actor, evidence=evidence,
                correlation_id=os.urandom(16).hex(), os_user="desk", host="host", pid=12_345,
            )  # fmt: skip
            state.apply([with_envelope(stored, envelope)])


def life(intent_id: str, number: int) -> Iterator[Step]:
    """Created, sent, accepted."""
    began_ns = BEGAN_NS + number * 1_000_000
    order: StandardOrder = clear_all.bid(number)
    order_id = client_order_id("00" * 8, intent_id, 1)
    intent = OrderIntent(
        intent_id=intent_id, exchange_id="bench", order=order, owner="mm-1", created_at_ns=began_ns,
        updated_at_ns=began_ns,
    )  # fmt: skip
    yield "strategy:mm-1", Evidence.COMMAND, events.IntentCreated(intent=intent)
    yield "reconciler", Evidence.COMMAND, events.AttemptStarted(
        intent_id=intent_id, number=1, kind=AttemptKind.SUBMIT, client_order_id=order_id, order=order, generation=1,
        epoch=1, stamp_ns=began_ns + 1, send_by_ns=began_ns + 2, valid_until_ns=began_ns + 3,
        absent_after_ns=began_ns + 4, state_position=number, decided_at_ns=began_ns,
    )  # fmt: skip
    yield "venue:bench", Evidence.STREAM, events.OrderAccepted(
        intent_id=intent_id, symbol_id=order.symbol_id, client_order_id=order_id, exchange_order_id=f"{number + 10**9}",
        exec_type=ExecType.NEW, ord_status=OrdStatus.NEW, order_qty=order.quantity, price=order.price, cum_qty=0,
        leaves_qty=order.quantity, exec_id=f"e{number}", transact_time_ns=began_ns + 5, raw='{"e":"executionReport"}',
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------- the leader
async def bytes_of_leader(directory: Path, few: int, many: int) -> float:
    """The bytes of one more open order in the leading kernel's process."""
    url = f"sqlite:///{directory}/memory.db"
    with mock.patch.dict(os.environ, ORDERCTL_KERNEL_RELIST_INTERVAL_S=str(RELIST_INTERVAL_S)):
        async with clear_all.desk_of(url, directory, orders=many, weight=10**9) as (desk, leader):
            run = clear_all.Run(desk, leader, [], many)
            sizes = []
            for end in (few, many):
                await run.open(upto=end)
                await relisted(desk)
                sizes.append(clear_all.rss_mb(leader.pid) or 0.0)
    return (sizes[1] - sizes[0]) * 2**20 / (many - few)


async def relisted(desk: EventSourcedKernel) -> None:
    """Return once the leader has listed all open orders often enough for its memory to settle."""
    for _ in range(RELISTS):
        known_ns = desk.state.trades_cursor_ns or 0
        await clear_all.until(lambda known_ns=known_ns: (desk.state.trades_cursor_ns or 0) > known_ns)


if __name__ == "__main__":
    main()
