"""The budget's row about `orderctl get intent ID`, and what importing costs: CPU of child processes, interpreter included.

Called by `python -m tests.benchmarks`. Module files are compiled before: by whoever installs a package.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from kernel.log import open_log
from kernel.log.engine.recorded_log import RecordedLog
from tests.benchmarks.made_log import make_log
from tests.benchmarks.measure import Figure
from tests.benchmarks.rows import backend_of, fresh_url, new_exchange_id
from tests.forked import ROOT

PASS = ("-c", "pass")
HELP = ("cli.py", "--help")
FIRST = "o0000001"
"""The first intent of a made log."""


async def short_commands(url: str, directory: Path, *, events: int, rounds: int) -> list[Figure]:
    """`get intent ID` against `--help`, and `--help` and `import kernel` against an interpreter that does nothing."""
    log_url, exchange_id = fresh_url(url, directory), new_exchange_id()
    async with open_log(log_url, exchange_id=exchange_id) as log:
        assert isinstance(log, RecordedLog)
        await make_log(log, count=events)
    get = ("cli.py", "get", "intent", FIRST, "--log", log_url, "--exchange", exchange_id)
    cases = {"pass": PASS, "import": ("-c", "import kernel"), "help": HELP, "get": get}
    spent = await asyncio.to_thread(lambda: medians(cases, rounds, directory / "compiled"))
    detail = {f"{name}_ms": round(cpu_s * 1e3, 1) for name, cpu_s in spent.items()}
    backend = backend_of(url)
    return [
        Figure(
            f"orderctl get intent ID against --help, {backend}", spent["get"] / spent["help"], 2.5, 1.7, False, detail
        ),
        Figure(f"orderctl --help against `pass`, {backend}", spent["help"] / spent["pass"], 10, 5, False, detail),
        Figure(f"import kernel against `pass`, {backend}", spent["import"] / spent["pass"], 10, 2, False, detail),
    ]


def medians(cases: dict[str, tuple[str, ...]], rounds: int, compiled: Path) -> dict[str, float]:
    """Median CPU seconds of processes, in turns; the first turn compiles."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(compiled)
    turns = [{name: cpu_seconds(words, environment) for name, words in cases.items()} for _ in range(rounds + 1)]
    return {name: statistics.median(turn[name] for turn in turns[1:]) for name in cases}


def cpu_seconds(words: tuple[str, ...], environment: dict[str, str]) -> float:
    """CPU seconds of a child process, which must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
