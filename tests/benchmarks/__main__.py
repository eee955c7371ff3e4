"""`python -m tests.benchmarks [--json] [--quick]`: the budget's rows, each beside its floor, from one run.

Prints a table, or JSON with `--json`. Exits 0 whatever the figures are: a benchmark informs, it does not judge. With
`--history 1000000` it measures instead what each operation on a log of so many events takes, on both databases.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks import history, long_log, memory, rows
from tests.benchmarks.measure import Figure, note
from tests.postgres import running_postgres


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and 20,000 instead of 1,000,000 live intents"
    )
    parser.add_argument("--history", type=int, metavar="N", help="measure what reads and copies a log of N events")
    parser.add_argument(
        "--live", type=int, default=10_000, help="orders on their way at a time, at most (default: %(default)s)"
    )
    parser.add_argument(
        "--only", choices=["sqlite", "postgresql"], help="of that history, the log in this database alone"
    )
    options = parser.parse_args()
    if options.history is not None:
        print_history(options)
        return
    with tempfile.TemporaryDirectory(prefix="kernel-bench-") as directory, running_postgres() as postgres:
        urls = [f"sqlite:///{directory}", postgres]
        figures = asyncio.run(measure(urls, Path(directory), quick=options.quick))
    if options.json:
        print(json.dumps({"environment": environment(), "figures": [item.as_dict() for item in figures]}, indent=2))
        return
    print(headline())
    for item in figures:
        print(line(item))


def print_history(options: argparse.Namespace) -> None:
    """Measure what reads and copies a long log, and print each row when it is there, or all as JSON."""
    found = []
    with tempfile.TemporaryDirectory(prefix="kernel-bench-") as name, running_postgres() as postgres:
        sqlite = f"sqlite:///{name}/{rows.new_exchange_id()}.db"
        if not options.json:
            print(f"{options.history:,} events, up to {options.live:,} orders live; {headline()}", flush=True)
        for url, other in ((sqlite, postgres), (postgres, sqlite)):
            if not url.startswith(options.only or ""):
                continue
            log = long_log.LongLog(url, other, Path(name), options.history, options.live)
            for row in long_log.rows_of(log):
                found.append(row)
                if not options.json:
                    print(row.line, flush=True)
    if options.json:
        print(json.dumps({"environment": environment(), "rows": [asdict(row) for row in found]}, indent=2))


def environment() -> dict[str, object]:
    """What it was measured on."""
    return {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}


def headline() -> str:
    """The same, for people."""
    known = environment()
    return f"{known['cores']} cores, Python {known['python']}, {known['machine']}"


async def measure(urls: list[str], directory: Path, *, quick: bool) -> list[Figure]:
    """Every row, with progress on stderr."""
    rounds, commands, batches, orders = (3, 640, 5, 100) if quick else (5, 3_200, 20, 500)
    figures: list[Figure] = []
    for url in urls:
        note(f"durable commands, {rows.backend_of(url)} …")
        figures.append(await rows.durable_commands(url, directory, rounds=rounds, commands=commands))
        note(f"append at batch 100, {rows.backend_of(url)} …")
        figures.append(await rows.batch_append(url, directory, rounds=rounds, batches=batches))
        note(f"hashing, {rows.backend_of(url)} …")
        figures.append(await rows.hashing_cost(url, directory, rounds=rounds, batches=batches))
        note(f"verify: hashes alone, {rows.backend_of(url)} …")
        figures.append(await rows.verify_hashes(url, directory, rounds=rounds, count=10_000 if quick else 100_000))
        note(f"intent to venue, {rows.backend_of(url)} …")
        figures.extend(await rows.intent_to_venue(url, directory, orders=orders))
        note(f"rebuild, {rows.backend_of(url)} …")
        figures.extend(await history.refold(url, directory, events=20_000 if quick else 200_000, rounds=min(rounds, 3)))
        note(f"start, and memory of a rebuild, {rows.backend_of(url)} …")
        events, live = (20_000, 1_000) if quick else (200_000, 10_000)
        sized = functools.partial(long_log.budget_rows, url, directory, events=events, live=live)
        figures.extend(await asyncio.to_thread(sized))
    note("wake-up …")
    figures.append(await rows.wake_up(live=20_000 if quick else 1_000_000, few=1_000, rounds=500))
    note("memory per live intent …")
    figures.extend(await memory.live_intents(directory, leader=not quick))
    return figures


def line(item: Figure) -> str:
    """A figure for people."""
    sign = "≥" if item.higher_is_better else "≤"
    details = ", ".join(f"{key} {value}" for key, value in item.detail.items())
    verdict = "met" if item.met else "NOT met"
    return f"{item.name:55} {item.ratio:8.2f} ×   to have {sign} {item.to_have:g}: {verdict}   ({details})"


if __name__ == "__main__":
    main()
