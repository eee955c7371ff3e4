"""`python -m tests.simulation`: hunt for violations, seed by seed, on every core.

    python -m tests.simulation --seeds 1000 --from 0        print the seed, the instant and the invariant of each failure
    python -m tests.simulation --seeds 1 --from 4711 --show    show everything that happened in a run
    python -m tests.simulation --seeds 1 --from 4711 --shrink  cut a failing run to the shortest that still fails
    python -m tests.simulation --play FILE                  play a plan that was kept (`-`: from standard input)
    python -m tests.simulation --bug NAME --seeds 2000      how many seeds it takes to notice a planted bug (`all`: each)

Exit code 0: nothing found (with --bug: each was caught); 1: something was; 2: usage.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.simulation.hunt import hunted, runs
from tests.simulation.mutants import MUTANTS
from tests.simulation.personality import PERSONALITIES
from tests.simulation.plan import COMMANDS, Plan, from_seed
from tests.simulation.player import Outcome, play
from tests.simulation.shrink import shrunk

PROBLEMS_SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, run, and return the exit code."""
    options = parsed(arguments)
    if options.play is not None:
        outcome = play(options.play)
        print("\n".join(outcome.lines))
        return told(outcome)
    if options.bug is not None:
        names = list(MUTANTS) if options.bug == "all" else [options.bug]
        return hunt(names, first=options.first, seeds=options.seeds)
    if options.show or options.shrink:
        return one(
            options.first, show=options.show, shrink=options.shrink, commands=options.commands, venue=options.venue
        )
    seeds = range(options.first, options.first + options.seeds)
    return search(seeds, commands=options.commands, jobs=options.jobs, venue=options.venue)


def plan_of(path: str) -> Plan:
    """Return the plan of a file, up to the line that begins its expected outcome."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
        lines = text.split("\n----")[0].splitlines()
        return Plan.parse(line for line in lines if line.strip() and not line.startswith("#"))
    except OSError as problem:
        raise argparse.ArgumentTypeError(f"{path}: {problem.strerror}") from problem
    except (ValueError, KeyError) as problem:
        raise argparse.ArgumentTypeError(f"{path} is no plan: {problem}") from problem


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds (default 100)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--commands", type=int, default=COMMANDS, help=f"commands a run (default {COMMANDS})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--show", action="store_true", help="show everything that happened")
    parser.add_argument("--shrink", action="store_true", help="cut a failing run short")
    parser.add_argument("--play", metavar="FILE", type=plan_of, help="play a plan from a file (-: standard input)")
    parser.add_argument("--venue", nargs="+", choices=sorted(PERSONALITIES), default=[], metavar="NAME",
                        help="the venue's personalities (default: drawn): " + ", ".join(sorted(PERSONALITIES)))  # fmt: skip
    parser.add_argument(
        "--bug", choices=["all", *MUTANTS], metavar="NAME", help="plant a bug: all, " + ", ".join(MUTANTS)
    )
    options = parser.parse_args(arguments)
    for name in ("seeds", "commands", "jobs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is 1 or more, not {getattr(options, name)}")
    if options.first < 0:
        parser.error(f"--from is 0 or more, not {options.first}")
    return options


def told(outcome: Outcome) -> int:
    """Say what was found in one run."""
    for problem in outcome.problems[:PROBLEMS_SHOWN]:
        print(f"seed {outcome.plan.seed}, at {(problem.at_ns % 10**13) / 1e9:.3f} s: {problem}")
    return 1 if outcome.failed else 0


def one(seed: int, *, show: bool, shrink: bool, commands: int, venue: Sequence[str]) -> int:
    """One run, shown or cut short."""
    outcome = play(from_seed(seed, commands=commands, venue=venue))
    if show:
        print("\n".join([*outcome.plan.lines(), "----", *outcome.lines]))
    if shrink and outcome.failed:
        outcome = shrunk(outcome, tell=lambda text: print(text, file=sys.stderr))
        print("\n".join([*outcome.plan.lines(), "----", *outcome.lines]))
    return told(outcome)


def search(seeds: range, *, commands: int, jobs: int, venue: Sequence[str]) -> int:
    """Many runs; only what they found crosses from process to process."""
    began_s = time.monotonic()
    failed = commanded = 0
    with contextlib.closing(runs(seeds, commands=commands, jobs=jobs, venue=venue)) as outcomes:
        for done, outcome in enumerate(outcomes, start=1):
            failed += told(outcome)
            commanded += outcome.counts["commands"]
            if done % 100 == 0:
                rate = done / (time.monotonic() - began_s) * 60
                print(f"{done} of {len(seeds)} runs, {failed} failed, {rate:.0f} a minute", file=sys.stderr)
    took_s = time.monotonic() - began_s
    print(
        f"{len(seeds)} runs, {commanded} commands, {failed} failed, {took_s:.0f} s, {len(seeds) / took_s * 60:.0f} a minute"
    )
    return 1 if failed else 0


def hunt(names: Sequence[str], *, first: int, seeds: int) -> int:
    """Plant each bug, and count the seeds until it is noticed."""
    missed = 0
    with multiprocessing.get_context("spawn").Pool(os.cpu_count() or 1) as pool:
        for name, found in pool.imap(functools.partial(hunted, first=first, seeds=seeds), names):
            missed += found is None
            print(f"| {name} | {found or f'not within {seeds} seeds'} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
