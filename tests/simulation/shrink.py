"""Cuts a failing run to the shortest script that still breaks the same invariant.

Called by the command line. First the run's faults are written out one by one, so that it no longer needs its seed's chance;
then ever smaller parts of the script are left out, as long as the invariant is still broken (Zeller's delta debugging), and
what the world promises is made as plain as may be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.simulation.account import Problem
from tests.simulation.plan import BYSTANDERS, WORLD, Plan
from tests.simulation.player import Outcome, play

T = TypeVar("T")
Tell = Callable[[str], None]


def shrunk(outcome: Outcome, *, tell: Tell) -> Outcome:
    """The shortest run found that breaks the first of the invariants that this one broke."""
    broken = kind_of(outcome.problems[0])

    def fails(plan: Plan) -> bool:
        return any(kind_of(problem) == broken for problem in play(plan, trace=False).problems)

    plan = replace(outcome.plan, faults=dict(outcome.faults))
    if not fails(plan):
        tell("the run no longer fails with its faults written out: it is shown whole")
        return outcome
    before = -1
    while before != size(plan):
        before = size(plan)
        tell(f"{len(plan.ops)} things happen, {len(plan.faults or {})} faults")
        plan = fewer_ops(plan, fails)
        plan = fewer_faults(plan, fails)
        plan = plainer(plan, fails)
    return play(plan)


def kind_of(problem: Problem) -> tuple[int, str]:
    """The broken invariant, without intents, orders and numbers."""
    return problem.invariant, re.sub(r"\b[a-z2-7]{26}\b|\d+", "…", problem.text)


def size(plan: Plan) -> int:
    return len(plan.ops) + len(plan.faults or {})


def fewer_ops(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Leave out what happens without consequence."""
    starts = tuple(op for op in plan.ops if op.words == ("start",) and op.at_s == 0)
    rest = [op for op in plan.ops if op not in starts]
    kept = minimal(rest, lambda ops: fails(replace(plan, ops=(*starts, *ops))))
    return replace(plan, ops=(*starts, *kept))


def fewer_faults(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Leave out faults without consequence."""
    kept = minimal(list((plan.faults or {}).items()), lambda items: fails(replace(plan, faults=dict(items))))
    return replace(plan, faults=dict(kept))


def plainer(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Make of the world what is plainest and still fails."""
    for key, values in (WORLD | BYSTANDERS).items():
        if plan.world.get(key, values[0]) == values[0] or key in ("faults", "accidents", "kernels"):
            continue
        candidate = replace(plan, world={**plan.world, key: values[0]})
        plan = candidate if fails(candidate) else plan
    return plan


def minimal(items: Sequence[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """The items without those parts that may be left out, tried in halves, quarters and so on, down to single ones."""
    kept = list(items)
    part = max(1, len(kept) // 2)
    while kept:
        start = 0
        while start < len(kept):
            without = kept[:start] + kept[start + part :]
            if fails(without):
                kept = without
            else:
                start += part
        if part == 1:
            return kept
        part = max(1, part // 2)
    return kept
