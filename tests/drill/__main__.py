"""`python -m tests.drill --minutes M [--seed N] [--log sqlite|postgresql]`: run a drill and print its result.

Prints a line for each thing that is done, then the counts and the problems. Exit code 0: no problem; 1: problems; 2: usage;
130: interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import math
import signal
import sys

from tests.drill.drill import Plan, drill
from tests.drill.report import Report


def plan_of(arguments: list[str] | None = None) -> Plan:
    """Return the plan of a command line; exits with code 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description="Real processes, under fire.")
    parser.add_argument("--minutes", type=minutes, required=True, help="how long faults happen, in minutes")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn when (default 1)")
    parser.add_argument("--log", choices=("postgresql", "sqlite"), default="postgresql")
    given = parser.parse_args(arguments)
    return Plan(seconds=given.minutes * 60, seed=given.seed, log=given.log)


def minutes(text: str) -> float:
    """Return a duration; `ArgumentTypeError` for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 24 * 60:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0 and up to 1440")
    return value


async def until_ended(plan: Plan) -> Report:
    """Run the drill; SIGTERM ends it like Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await drill(plan, say=functools.partial(print, flush=True))


def main(arguments: list[str] | None = None) -> int:
    """Run a drill; return the exit code."""
    plan = plan_of(arguments)
    try:
        report = asyncio.run(until_ended(plan))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted: everything is stopped", file=sys.stderr)
        return 130
    print("\n".join(report.lines()))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
