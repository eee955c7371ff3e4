"""The README's table of verbs is the command line's."""

from __future__ import annotations

import re

from cli import cli
from tests.cli.world import PROJECT

ROW = re.compile(r"^\|\s*`(?:orderctl )?([a-z][a-z-]*)[^|]*\|", re.MULTILINE)


def test_the_readme_lists_exactly_the_verbs() -> None:
    """The table with a row for `place` has a row for each verb and for nothing else."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    tables = [set(ROW.findall(table)) for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)]

    listed = [table for table in tables if "place" in table]

    assert listed == [set(cli.commands)]
