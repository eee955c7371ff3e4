"""The README tells the truth: its verbs are the command line's, its tests exist, its strategy runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from cli import cli
from replay.manifests import parse_manifests
from tests.cli.test_tour import TOUR
from tests.cli.world import PROJECT

ROW = re.compile(r"^\|\s*`(?:orderctl )?([a-z][a-z-]*)[^|]*\|", re.MULTILINE)
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_readme_lists_exactly_the_verbs() -> None:
    """The table with a row for `place` has a row for each verb and for nothing else."""
    tables = [set(ROW.findall(table)) for table in re.findall(r"(?:^\|.*\n?)+", README, re.MULTILINE)]

    listed = [table for table in tables if "place" in table]

    assert listed == [set(cli.commands)]


def test_each_guarantee_names_tests_that_exist() -> None:
    """Every test that the README names as holding a guarantee is there."""
    written = "\n".join(path.read_text(encoding="utf-8") for path in (PROJECT / "tests").rglob("test_*.py"))

    named = set(re.findall(r"`(test_\w+)`", README))

    assert len(named) > 15
    assert {name for name in named if f"def {name}(" not in written} == set()


def test_its_manifests_are_some() -> None:
    """The README's manifests are read as they stand."""
    texts = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)

    found = parse_manifests([("README.md", text.encode()) for text in texts])
    assert [item.name for item in found] == ["btc-bid-1", "trade-1"]


def test_what_it_shows_of_the_tour_is_in_the_tour() -> None:
    """The sessions in the README are parts of the one that a test runs."""
    sessions = re.findall(r"```console\n(.*?)```", README, re.DOTALL)

    assert len(sessions) == 2
    assert [text for text in sessions if text not in TOUR.read_text(encoding="utf-8")] == []


def test_the_strategies_run(tmp_path: Path) -> None:
    """The README's strategy runs as it stands, twice, and wants one order; its script runs beside what that left."""
    strategy, script = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for program, printed in (
        (strategy, "intent_id='first-bid'"),
        (strategy, "intent_id='first-bid'"),
        (script, "bought 100000 at"),
    ):
        ran = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={"PYTHONPATH": str(PROJECT), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert printed in ran.stdout
