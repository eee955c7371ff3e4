"""`python -m tests.benchmarks`: the rows of the performance budget, each beside its floor, from one run.

Prints each row as soon as it is measured: as a line of a table, or with `--json` as one JSON object per line (JSON Lines),
the first of which describes the environment. Exits 0 whatever the figures: a benchmark informs, it does not judge. With
`--history 1000000` it measures each operation on a log of that many events instead, on both databases.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import os
import platform
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks import command_line, history, long_log, memory, rows
from tests.benchmarks.measure import Figure, note
from tests.postgres import running_postgres


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of the measurements."""

    rounds: int
    commands: int
    canceled: int
    """Live intents that are canceled together."""
    batches: int
    orders: int
    """Orders that go from intent to venue one by one."""
    hashed: int
    """Events that are verified by their hashes alone."""
    refolded: int
    """Events that are rebuilt and decoded."""
    many: int
    """Orders open at a time in the log that is verified."""
    made: int
    """Events of the log on which a kernel starts."""
    made_live: int
    live: int
    """Live intents while a wake-up is timed."""
    folded: tuple[int, int]
    """Numbers of live intents between which memory is measured."""
    leader: bool
    """Whether a leading process is measured too, which takes minutes."""


FULL = Sizes(
    5, 3_200, 10_000, 20, 500, 100_000, 200_000, 13_000, 200_000, 10_000, 1_000_000, memory.FOLDED, leader=True
)
QUICK = Sizes(1, 320, 320, 2, 30, 2_000, 3_000, 300, 4_000, 200, 3_000, (500, 1_500), leader=False)


def main() -> None:
    """Measure and print."""
    options = parser().parse_args()
    if options.history is not None:
        print_history(options)
        return
    print_environment(as_json=options.json)
    with tempfile.TemporaryDirectory(prefix="kernel-bench-") as directory, contextlib.ExitStack() as stack:
        urls = [] if options.only == "postgresql" else [f"sqlite:///{directory}"]
        if options.only != "sqlite":
            urls.append(stack.enter_context(running_postgres()))
        asyncio.run(print_figures(urls, Path(directory), QUICK if options.quick else FULL, as_json=options.json))


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--json", action="store_true", help="print JSON Lines: the environment, then one object per row, when measured"
    )
    made.add_argument(
        "--quick", action="store_true", help="small sizes: half a minute that shows that all of it works, no figures"
    )
    made.add_argument("--history", type=int, metavar="N", help="measure what reads and copies a log of N events")
    made.add_argument(
        "--live", type=int, default=10_000, help="with --history: orders open at a time, at most (default: %(default)s)"
    )
    made.add_argument("--only", choices=["sqlite", "postgresql"], help="measure the log in this database alone")
    return made


def print_environment(*, as_json: bool) -> None:
    """Print the environment of the rows that follow."""
    text = headline() if not as_json else json.dumps({"environment": environment()})
    print(text, flush=True)


async def print_figures(urls: list[str], directory: Path, sizes: Sizes, *, as_json: bool) -> None:
    """Measure, and print each row as soon as it is measured."""
    async for item in measured(urls, directory, sizes):
        print(json.dumps(item.as_dict()) if as_json else line(item), flush=True)


def print_history(options: argparse.Namespace) -> None:
    """Measure operations on a long log, and print each row as soon as it is measured."""
    print_environment(as_json=options.json)
    if not options.json:
        print(f"{options.history:,} events, up to {options.live:,} orders live", flush=True)
    with tempfile.TemporaryDirectory(prefix="kernel-bench-") as name, running_postgres() as postgres:
        sqlite = f"sqlite:///{name}/{rows.new_exchange_id()}.db"
        for url, other in ((sqlite, postgres), (postgres, sqlite)):
            if not url.startswith(options.only or ""):
                continue
            log = long_log.LongLog(url, other, Path(name), options.history, options.live)
            for row in long_log.rows_of(log):
                print(json.dumps(asdict(row)) if options.json else row.line, flush=True)


def environment() -> dict[str, object]:
    """Host, software and commit."""
    return {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}


def headline() -> str:
    """The environment, for people."""
    known = environment()
    return f"{known['cores']} cores, Python {known['python']}, {known['machine']}"


async def measured(urls: list[str], directory: Path, sizes: Sizes) -> AsyncIterator[Figure]:
    """Every row as soon as it is measured, with progress on stderr."""
    for url in urls:
        async for item in measured_on(url, directory, sizes):
            yield item
    note("wake-up …")
    yield await rows.wake_up(live=sizes.live, few=1_000, rounds=500)
    note("memory per live intent …")
    for item in await memory.live_intents(directory, folded=sizes.folded, leader=sizes.leader):
        yield item


async def measured_on(url: str, directory: Path, sizes: Sizes) -> AsyncIterator[Figure]:
    """The rows of one database."""
    backend, rounds = rows.backend_of(url), sizes.rounds
    note(f"durable commands, {backend} …")
    yield await rows.durable_commands(url, directory, rounds=rounds, commands=sizes.commands)
    note(f"commands beside the leader, {backend} …")
    yield await rows.commands_beside(url, directory, rounds=min(rounds, 3), commands=sizes.commands)
    note(f"cancel_all_orders, {backend} …")
    yield await rows.cancel_all(url, directory, rounds=min(rounds, 3), orders=sizes.canceled)
    note(f"append at batch 100, {backend} …")
    yield await rows.batch_append(url, directory, rounds=rounds, batches=sizes.batches)
    note(f"hashing, {backend} …")
    yield await rows.hashing_cost(url, directory, rounds=rounds, batches=sizes.batches)
    note(f"verify: hashes alone, {backend} …")
    yield await rows.verify_hashes(url, directory, rounds=rounds, count=sizes.hashed)
    note(f"intent to venue, {backend} …")
    for item in await rows.intent_to_venue(url, directory, orders=sizes.orders):
        yield item
    note(f"rebuild, {backend} …")
    for item in await history.refold(url, directory, events=sizes.refolded, rounds=min(rounds, 3)):
        yield item
    note(f"rebuild and verify with many live, {backend} …")
    for item in await history.with_many_live(
        url, directory, events=sizes.refolded // 2, live=sizes.many, rounds=min(rounds, 3)
    ):
        yield item
    note(f"command line, {backend} …")
    for item in await command_line.short_commands(url, directory, events=sizes.made // 8, rounds=2 * rounds):
        yield item
    note(f"start, and memory of a rebuild, {backend} …")
    sized = functools.partial(long_log.budget_rows, url, directory, events=sizes.made, live=sizes.made_live)
    for item in await asyncio.to_thread(sized):
        yield item


def line(item: Figure) -> str:
    """A figure, for people."""
    sign = "≥" if item.higher_is_better else "≤"
    details = ", ".join(f"{key} {value}" for key, value in item.detail.items())
    verdict = "met" if item.met else "NOT met"
    return f"{item.name:55} {item.ratio:8.2f} ×   to have {sign} {item.to_have:g}: {verdict}   ({details})"


if __name__ == "__main__":
    main()
