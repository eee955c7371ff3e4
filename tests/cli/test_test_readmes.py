"""The READMEs of the tests are true: what they name exists, and the programs that they show run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.documents import TESTS, shown
from tests.cli.world import PROJECT
from tests.simulation.mutants import MUTANTS
from tests.simulation.plan import from_seed

GUARANTEES, SIMULATION = TESTS["tests/README.md"], TESTS["tests/simulation/README.md"]
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted((PROJECT / "tests").rglob("*.py"))}
TIMEOUT_S = 500
QUICK = (
    "tests.simulation --seeds 2 --from 0 --commands 20",
    "tests.simulation --seeds 1 --from 0 --venue ghosts rounds --commands 20",
    "tests.simulation --seeds 1 --from 4711 --show --commands 20",
    "tests.simulation --seeds 1 --from 4711 --shrink --commands 20",
    "tests.simulation --play FILE",
    "tests.simulation --bug fills_count_each_time --seeds 3",
)
LONG = (
    "tests.drill --minutes 0.05 --log sqlite",
    "tests.soak --minutes 0.1",
    "tests.benchmarks.clear_all --orders 20",
    "tests.benchmarks --history 2000 --live 50 --only sqlite",
    "tests.scenarios.field.test_hour_of_disagreement",
)
ELSEWHERE = ("tests.benchmarks --json --quick",)
"""`tests/integration/test_benchmarks.py` runs this one."""
MAY_FIND_SOMETHING = ("tests.soak",)
"""What judges figures may find them bad in so short a time."""


def test_each_guarantee_names_tests_that_exist() -> None:
    """Each row of the table names tests, or files, that are there."""
    rows = re.findall(r"^\| ([^|]+) \| (`[^|]+) \| ([^|]*)\|$", GUARANTEES.partition("## What each")[2], re.M)

    assert len(rows) > 30
    for guarantee, tests, _ in rows:
        assert_written(guarantee, tests)


def assert_written(row: str, tests: str) -> None:
    written = set(re.findall(r"def (test_\w+)\(", "\n".join(SOURCES.values())))
    for name in re.findall(r"`([^`]+)`", tests):
        assert name in written or any(PROJECT.glob(name)), (row, name)


def test_each_kind_of_trouble_names_tests_that_exist() -> None:
    """Each of the 16 kinds that venues make, and of the 14 that the port could not express, names tests and transcripts."""
    table = GUARANTEES.partition("## Trouble")[2]
    rows = re.findall(r"^\| ([^|`]+) \| ([^|]+) \| ([^|]*)\|$", table.partition("|---")[2], re.M)

    numbers = {int(number) for kind, _, _ in rows for number in re.findall(r"\bA(\d+)\b", kind)}
    assert numbers == set(range(1, 15))
    assert sum(not re.match(r"A\d", kind) for kind, _, _ in rows) == 16
    for kind, tests, transcripts in rows:
        assert "`test_" in tests, kind
        assert_written(kind, tests)
        for pattern in re.findall(r"`([^`]+)`", transcripts):
            assert any((PROJECT / "tests/scenarios/transcripts").glob(pattern)), (kind, pattern)


def test_the_folders_and_variables_are_all_there() -> None:
    """Each folder of tests has its line, and each environment variable that a test reads."""
    folders = {path.parent.relative_to(PROJECT / "tests") for path in (PROJECT / "tests").glob("*/__init__.py")}
    table = GUARANTEES.partition("| folder |")[2].partition("\n\n")[0]
    named = {name for cell in re.findall(r"^\| ([^|]+) \|", table, re.M) for name in re.findall(r"`(\w+)`", cell)}
    read = re.findall(r'"(KERNEL_[A-Z_]+)"', "\n".join(SOURCES.values()))

    assert named == {str(folder) for folder in folders} | {"golden"}
    assert set(re.findall(r"`(KERNEL_[A-Z_]+)`", GUARANTEES)) == set(read)


def test_each_planted_bug_is_in_the_table() -> None:
    """Every bug with the seeds that it took, and nothing else."""
    rows = re.findall(r"^\| `(\w+)` \| \d+ \| invariant \d+ \|$", SIMULATION, re.M)

    assert sorted(rows) == sorted(MUTANTS)


def test_everything_that_was_found_has_its_script() -> None:
    """Each row names scripts or files that are there, and no script lacks a row."""
    table = SIMULATION.partition("## Found")[2].partition("## Planted")[0]
    named = {name for row in re.findall(r"\| (`[^|]+`) \|$", table, re.M) for name in re.findall(r"`([^`]+)`", row)}
    scripts = {path.stem for path in (PROJECT / "tests/scenarios/found").glob("*.txt")}

    assert scripts == {name for name in named if "/" not in name}
    assert [name for name in named if "/" in name and not (PROJECT / name).is_file()] == []


@pytest.mark.parametrize("command", [*QUICK, *(pytest.param(item, marks=pytest.mark.nightly) for item in LONG)])
def test_a_program_runs(command: str, tmp_path: Path) -> None:
    """With small numbers it ends with exit code 0."""
    plan = tmp_path / "FILE"
    plan.write_text("\n".join(from_seed(1, commands=20).lines()))
    words = command.replace("FILE", str(plan)).split()
    ran = subprocess.run(
        [sys.executable, "-m", *words], cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip

    assert "Traceback" not in ran.stderr
    assert ran.returncode in ({0, 1} if command.startswith(MAY_FIND_SOMETHING) else {0}), ran.stdout + ran.stderr


def test_every_program_that_is_shown_is_run() -> None:
    """Each `python -m tests.…` in a document is run with the same options."""
    run = [options_of(command) for command in (*QUICK, *LONG, *ELSEWHERE)]

    lines = [item.line.removeprefix("python -m ") for item in shown("python -m tests")]
    assert len(lines) > 5
    for line in lines:
        module, options = options_of(line)
        assert any(module == known and options <= given for known, given in run), line


def options_of(command: str) -> tuple[str, set[str]]:
    """A command's module and the options that it is given."""
    module, *words = command.split()
    return module, {word for word in words if word.startswith("--")}
