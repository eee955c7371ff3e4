"""The README tells the truth: its verbs are the command line's, its tests exist, its strategy runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import click
import pytest

from cli import SECTIONS
from kernel.models import FindingKind
from kernel.safety.readiness import CONDITIONS
from replay.formatting.problems import ProblemKind
from replay.manifests.schema import parse_manifests
from tests.cli.test_tour import TOUR
from tests.cli.world import COMMANDS, PROJECT

ROW = re.compile(r"^\|\s*`(?:orderctl )?([a-z][a-z-]*)[^|]*\|", re.MULTILINE)
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_readme_lists_exactly_the_verbs() -> None:
    """The table with a row for `place` has a row for each verb and for nothing else, in the order of the help."""
    tables = [ROW.findall(table) for table in re.findall(r"(?:^\|.*\n?)+", README, re.MULTILINE)]

    listed = [table for table in tables if "place" in table]

    assert listed == [[row[0] for rows in SECTIONS.values() for row in rows]]
    assert set(listed[0]) == set(COMMANDS)


def test_what_it_says_of_commands_is_so() -> None:
    """Each verb that the README names is one, and has the options that it is shown with."""
    shown = re.findall(r"orderctl ([a-z][a-z-]*)([^`\n#$]*)", README)

    assert {verb for verb, _ in shown} <= set(COMMANDS)
    for verb, words in shown:
        assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", words)) <= options(COMMANDS[verb]), (verb, words)


def options(command: click.Command) -> set[str]:
    """All options of a verb, or of the verbs under it."""
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return {
        name for item in (command, *below) for param in item.params for name in (*param.opts, *param.secondary_opts)
    }


@pytest.mark.parametrize(
    ("heading", "names"), [("Conditions", CONDITIONS), ("Findings", FindingKind), ("What verify found", ProblemKind)]
)
def test_whoever_is_on_call_finds_each_name(heading: str, names: Iterable[str]) -> None:
    """The runbook has an entry for each condition and each kind, and for nothing else; each says where to look, what to do
    and what not."""
    _, _, section = README.partition(f"\n### {heading}\n")
    section = re.split(r"\n##", section)[0]

    entries = dict(re.findall(r"^- `([A-Z_]+)`: (.*(?:\n  .*)*)", section, re.MULTILINE))

    assert list(entries) == [str(name) for name in names]
    for name, text in entries.items():
        assert [*re.findall(r"(?<=\s)(Look|Do|Not):\s", text)] == ["Look", "Do", "Not"], name


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
    """The sessions in the README, but for the walk of an audit, are parts of the one that a test runs."""
    sessions = re.findall(r"```console\n(.*?)```", README.partition("\n## Auditing\n")[0], re.DOTALL)

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
            timeout=240,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert printed in ran.stdout
