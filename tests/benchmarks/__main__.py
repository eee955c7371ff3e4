"""`python -m tests.benchmarks [--json] [--quick]`: the budget's rows, each beside its floor, from one run.

Prints a table, or JSON with `--json`. Exits 0 whatever the figures are: a benchmark informs, it does not judge. Rows whose
part of the kernel does not exist yet are absent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
from pathlib import Path

from tests.benchmarks import history, memory, rows
from tests.benchmarks.measure import Figure, note
from tests.postgres import running_postgres


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and 20,000 instead of 1,000,000 live intents"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kernel-bench-") as directory, running_postgres() as postgres:
        urls = [f"sqlite:///{directory}", postgres]
        figures = asyncio.run(measure(urls, Path(directory), quick=options.quick))
    environment = {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
    if options.json:
        print(json.dumps({"environment": environment, "figures": [item.as_dict() for item in figures]}, indent=2))
        return
    print(f"{environment['cores']} cores, Python {environment['python']}, {environment['machine']}")
    for item in figures:
        print(line(item))


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
    note("wake-up …")
    figures.append(await rows.wake_up(live=20_000 if quick else 1_000_000, few=1_000, rounds=500))
    note("memory per live intent …")
    figures.extend(await memory.live_intents(directory, few=1_000, many=3_000 if quick else 10_000))
    return figures


def line(item: Figure) -> str:
    """A figure for people."""
    sign = "≥" if item.higher_is_better else "≤"
    details = ", ".join(f"{key} {value}" for key, value in item.detail.items())
    verdict = "met" if item.met else "NOT met"
    return f"{item.name:55} {item.ratio:8.2f} ×   to have {sign} {item.to_have:g}: {verdict}   ({details})"


if __name__ == "__main__":
    main()
