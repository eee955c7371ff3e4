"""Regressions: bugs that the simulation found (`found`), as the shortest script that showed each, and races (`races`).

A file has a plan (see `tests.simulation.plan`), then `----`, then the expected lines. `python -m tests.simulation --play
FILE` plays one; `KERNEL_REWRITE_TRANSCRIPTS=1 pytest tests/scenarios/test_found.py` rewrites all, to be read as a diff.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.test_transcripts import REWRITE
from tests.simulation.plan import Plan
from tests.simulation.player import play

HERE = Path(__file__).parent
FOUND = sorted([*(HERE / "found").glob("*.txt"), *(HERE / "races").glob("*.txt")])
EVERY_TIME = ("BalancesObserved", " venue VenueSnapshotTaken", "AssetObserved", "SymbolObserved")
"""Events of every run, left out."""


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in FOUND])
def test_found_bugs_stay_fixed(path: Path) -> None:
    """The script breaks no invariant, and its lines are as written."""
    script = path.read_text().split("----\n")[0]
    lines = [line for line in script.splitlines() if line.strip() and not line.startswith("#")]
    outcome = play(Plan.parse(lines))
    told = [line for line in outcome.lines if not any(word in line for word in EVERY_TIME)]
    assert not outcome.failed, "\n".join([*map(str, outcome.problems), *told])
    played = "\n".join([script.rstrip("\n"), "----", *told]) + "\n"
    if REWRITE:
        path.write_text(played)
    assert path.read_text() == played
