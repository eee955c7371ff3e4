"""Many runs, on every core: over seeds, and over seeds with a bug planted.

Called by the command line. Only what was found crosses from process to process.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.simulation import venue_mutants
from tests.simulation.mutants import planted
from tests.simulation.plan import NOBODY, Op, Plan, from_seed
from tests.simulation.player import Outcome, play


def runs(seeds: range, *, commands: int, jobs: int, venue: Sequence[str] = ()) -> Iterator[Outcome]:
    """The outcomes in order of seed."""
    run = functools.partial(quietly, commands=commands, venue=venue)
    if jobs == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(run, seeds, chunksize=4)


def quietly(seed: int, *, commands: int, venue: Sequence[str] = ()) -> Outcome:
    """One run without its trace, and without its log, which cannot cross."""
    return replace(play(from_seed(seed, commands=commands, venue=venue), trace=False), recorder=None)


def hunted(name: str, *, first: int, seeds: int) -> tuple[str, str | None]:
    """The number of seeds until a bug was noticed, and by which invariant.

    A seed that also fails without the bug counts, and does not notice it.
    """
    for seed in range(first, first + seeds):
        plan = plan_for(name, seed)
        with planted(name):
            outcome = play(plan, trace=False)
        if outcome.failed and not play(plan, trace=False).failed:
            return name, f"{seed - first + 1} | {outcome.problems[0]}"
    return name, None


def plan_for(name: str, seed: int) -> Plan:
    """The plan of a seed, at the venue where a bug shows."""
    setting = venue_mutants.BY_NAME.get(name)
    if setting is None:
        return from_seed(seed)
    plan = from_seed(seed, venue=setting.venue)
    begin = (Op(0.0, NOBODY, setting.event),) if setting.event else ()
    return replace(plan, world={**plan.world, **setting.world}, ops=(*begin, *plan.ops))
