"""The benchmarks run from a clean checkout and print rows that programs can read. No figure is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS_OF_A_BACKEND, ROWS_OF_NONE = 17, 2


@pytest.mark.parametrize(
    ("words", "backends"),
    [
        pytest.param(["--only", "sqlite"], 1, id="sqlite"),
        pytest.param([], 2, id="all", marks=pytest.mark.nightly),
    ],
)
def test_every_row_is_measured(words: list[str], backends: int) -> None:
    """The first line of JSON has the environment, every other one is a row."""
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--json", *words]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    first, *rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {"cores", "python"} <= first["environment"].keys()
    assert len({row["name"] for row in rows}) == len(rows) == ROWS_OF_A_BACKEND * backends + ROWS_OF_NONE
    assert all(row.keys() >= {"ratio", "to_have", "to_reach", "better", "met"} for row in rows)
