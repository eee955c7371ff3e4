"""What the simulation found in the kernel (`found`), each cut to the shortest script that showed it: it stays mended; and
what comes of each race that a command can be in (`races`).

A file has a plan (see `tests.simulation.plan`), then `----`, then what came of it. `python -m tests.simulation --play FILE`
plays one; `KERNEL_REWRITE_TRANSCRIPTS=1 pytest tests/scenarios/test_found.py` writes them anew, to be read as a diff.
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
"""What every run has again and again, and that tells nothing."""


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in FOUND])
def test_what_was_found_stays_mended(path: Path) -> None:
    """The script breaks no promise any more, and comes out as it is written."""
    script = path.read_text().split("----\n")[0]
    lines = [line for line in script.splitlines() if line.strip() and not line.startswith("#")]
    outcome = play(Plan.parse(lines))
    told = [line for line in outcome.lines if not any(word in line for word in EVERY_TIME)]
    assert not outcome.failed, "\n".join([*map(str, outcome.problems), *told])
    played = "\n".join([script.rstrip("\n"), "----", *told]) + "\n"
    if REWRITE:
        path.write_text(played)
    assert path.read_text() == played
