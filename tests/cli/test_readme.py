"""README.md is short and true: its commands are those of the command line, its strategies run, its manifests parse."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from cli import SECTIONS
from replay.manifests.schema import parse_manifests
from tests.cli.documents import README, fenced
from tests.cli.world import PROJECT

SIZE_MAX = 15 * 1024


def test_it_is_short() -> None:
    """The README has at most 15 KB; the rest is in the help topics and in the READMEs of the tests."""
    assert len(README.encode()) <= SIZE_MAX


def test_its_tables_have_exactly_the_commands() -> None:
    """A table for each section of the help, with the commands in the same order and with the same short help."""
    tables = dict(re.findall(r"^\| (\w+) \| \|\n\|---\|---\|\n((?:\|.*\n)+)", README, re.M))

    listed = {title: re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", rows, re.M) for title, rows in tables.items()}
    assert listed == {title: [(name, text) for name, _, text in rows] for title, rows in SECTIONS.items()}


def test_its_tree_is_the_tree_of_the_packages() -> None:
    """Every package is in the tree, under the package that contains it, and nothing else is."""
    (tree,) = (block for block in fenced(README, "") if block.startswith("cli.py"))
    shown, top = set(), ""
    for indent, name in re.findall(r"^( *)([\w./]+)", tree, re.M):
        top = "" if not indent else top
        shown.add(f"{top}{name}")
        top = name if not indent else top

    packages = {path.parent.relative_to(PROJECT) for top in ("kernel", "projections", "replay")
                for path in (PROJECT / top).rglob("__init__.py")}  # fmt: skip
    assert {name.rstrip("/") for name in shown if name.endswith("/")} == {
        str(path) for path in packages if len(path.parts) <= 2
    }
    assert all((PROJECT / name).is_file() for name in shown if name.endswith(".py"))


def test_its_manifest_is_one() -> None:
    """The manifest is read as it stands."""
    (text,) = fenced(README, "yaml")

    assert [item.name for item in parse_manifests([("README.md", text.encode())])] == ["btc-bid-1"]


def test_the_strategies_run(tmp_path: Path) -> None:
    """The strategy runs twice and places one order; the script runs on what that left."""
    strategy, script = fenced(README, "python")
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
