"""The simulation itself: it finds nothing in the kernel, notices what is planted, repeats itself, and cuts failures short.

`python -m tests.simulation` runs many more seeds; `KERNEL_SIMULATION_FROM=N` begins these elsewhere.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernel.clock import SeededIds, SystemClock
from kernel.log import LogSettings
from kernel.log.factory import LogFactory
from replay import VerifyReport, verify
from tests.simulation import loop
from tests.simulation.hunt import plan_for, runs
from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.personality import PERSONALITIES
from tests.simulation.plan import Plan, from_seed
from tests.simulation.player import Outcome, play
from tests.simulation.shrink import shrunk, size
from tests.simulation.venue_mutants import BY_NAME

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FIRST = int(os.environ.get("KERNEL_SIMULATION_FROM", "0"))
QUICK = (
    "recorded_after_the_send",
    "silence_is_no",
    "fills_count_each_time",
    "unknown_is_no_obstacle",
    "a_told_end_is_final",
    "a_triggered_stop_is_a_duplicate",
    "a_transfer_is_ignored",
)
"""Planted bugs that few seeds find; `--bug all` hunts every one."""
NIGHTLY = [
    pytest.param(name, marks=pytest.mark.nightly) for name in ("grace_is_forgotten", *BY_NAME) if name not in QUICK
]
SEEDS_MAX = 40
QUICK_SEEDS = 8
"""How many seeds a developer's run plays; the others are for the night."""


SEEDS = [
    pytest.param(seed, marks=[pytest.mark.nightly] if seed >= FIRST + QUICK_SEEDS else [])
    for seed in range(FIRST, FIRST + 25)
]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_breaks_no_promise(seed: int) -> None:
    """Under any faults of kernels, venue and network every invariant holds, and `verify` raises no false alarm."""
    outcome = play(from_seed(seed))
    told = [*map(str, outcome.problems), *outcome.plan.lines(), *outcome.lines]
    assert not outcome.failed, "\n".join(told)
    report = asyncio.run(verified(outcome))
    assert report.ok, "\n".join([*map(str, report.problems), *told])


@pytest.mark.parametrize("name", sorted(PERSONALITIES))
def test_each_personality_of_the_venue_is_borne(name: str) -> None:
    """A short run at a venue with each personality breaks no invariant."""
    outcome = play(from_seed(FIRST, commands=20, venue=[name]))
    assert not outcome.failed, "\n".join([*map(str, outcome.problems), *outcome.plan.lines(), *outcome.lines])


async def verified(outcome: Outcome) -> VerifyReport:
    """The problems that `verify` finds in the log of a run."""
    assert outcome.recorder is not None, "a run has a log"
    opener = LogFactory("paper", SystemClock(), SeededIds(), LogSettings(), create=False)
    async with opener.memory(outcome.recorder) as log:
        return await verify(log)


@pytest.mark.parametrize("name", [*QUICK, *NIGHTLY])
def test_a_planted_bug_is_noticed(name: str) -> None:
    """A kernel that breaks a rule of the protocol is caught within a few seeds."""
    with planted(name):
        assert any(play(plan_for(name, seed), trace=False).failed for seed in range(SEEDS_MAX))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_takes_the_arguments_of_what_it_replaces(name: str) -> None:
    """A planted bug is called as the function that it replaces, else a crash would pass for a bug that is found."""
    for where, attribute, instead in MUTANTS[name]():
        honest = getattr(where, attribute)
        if callable(honest) and callable(instead):
            parameters = inspect.signature(honest).parameters.values()
            named = [item.name for item in parameters if item.kind is inspect.Parameter.KEYWORD_ONLY]
            placed = [item.name for item in parameters if item.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
            inspect.signature(instead).bind(*placed, **dict.fromkeys(named))


@pytest.mark.parametrize("name", ["missing_is_closed", "children_before_the_parent", "each_child_for_itself"])
def test_a_planted_bug_leaves_the_kernel_running(name: str) -> None:
    """The rule that a planted bug breaks is what fails, not the kernel."""
    with planted(name):
        outcome = play(from_seed(0), trace=False)
    assert outcome.failed
    assert "nobody leads" not in str(outcome.problems)


def test_what_repeats_itself_without_a_pause_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that never comes to rest ends with a problem instead of a hang."""
    monkeypatch.setattr(loop, "STEPS_MAX", 40_000)
    with planted("questions_without_a_pause"):
        found = [play(from_seed(seed), trace=False).problems for seed in (12, 17)]
    assert any("without a pause" in str(problem) for problems in found for problem in problems)


def test_what_was_planted_is_gone() -> None:
    """Planting and removing every bug leaves the kernel unchanged."""
    before = play(from_seed(1)).digest
    for name in MUTANTS:
        with planted(name):
            pass
    assert play(from_seed(1)).digest == before


def test_a_seed_gives_the_same_run_in_any_process() -> None:
    """Two processes, whose sets and dictionaries are ordered otherwise, play a seed byte for byte alike."""
    code = "from tests.simulation.player import play; from tests.simulation.plan import from_seed;"
    code += "print([play(from_seed(seed)).digest for seed in (3, 5, 8)])"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(printed) == 1


def test_many_seeds_are_played_on_several_cores() -> None:
    """Two processes play what one plays, in the order of the seeds."""
    alone, together = (list(runs(range(6), commands=10, jobs=jobs)) for jobs in (1, 2))
    assert [outcome.digest for outcome in together] == [outcome.digest for outcome in alone]


def test_the_auditor_knows_nothing_of_the_kernel() -> None:
    """It and its books import the standard library alone."""
    own = ("auditor", "bracket_audit", "bystander_audit", "log_audit", "account")
    names, books = set(), {f"tests.simulation.{name}" for name in own}
    for file in (f"{name}.py" for name in own):
        tree = ast.parse((HERE / file).read_text())
        names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names - books} <= sys.stdlib_module_names


def test_a_plan_is_what_its_text_says() -> None:
    """Written out and read again, a plan plays the same run, faults and all."""
    outcome = play(from_seed(4))
    written = Plan(outcome.plan.seed, outcome.plan.world, outcome.plan.ops, dict(outcome.faults))
    read = Plan.parse(written.lines())
    assert read == written
    assert play(read).digest == outcome.digest


def test_a_failing_run_is_cut_short() -> None:
    """The shrunk run still fails, and is a small part of the original."""
    with planted("recorded_after_the_send"):
        outcome = next(found for seed in range(9) if (found := play(from_seed(seed, commands=30))).failed)
        short = shrunk(outcome, tell=lambda text: None)
        assert short.failed
        assert size(short.plan) <= size(outcome.plan) // 4


@pytest.mark.parametrize(
    "arguments", [["--seeds", "0"], ["--from", "-1"], ["--bug", "nothing"], ["--play", "no-such-file"]]
)
def test_bad_arguments_are_usage_errors(arguments: list[str]) -> None:
    """Bad arguments give one line with the reason, and exit code 2."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, "Traceback" in ran.stderr) == (2, False)
