"""The help of `orderctl`."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cli import SECTIONS, cli
from tests.cli.world import COMMANDS, clean_environment

VERBS = sorted(COMMANDS)


def test_every_verb_is_in_one_section() -> None:
    """The help lists each command once, under one of the section titles."""
    listed = [row[0] for rows in SECTIONS.values() for row in rows]

    assert sorted(listed) == VERBS


@pytest.mark.parametrize("row", [row for rows in SECTIONS.values() for row in rows], ids=lambda row: row[0])
def test_the_short_help_is_the_first_sentence_of_the_help(row: tuple[str, str, str]) -> None:
    """The short help of `orderctl --help` is the first sentence of the command's own help."""
    name, _, text = row

    assert COMMANDS[name].get_short_help_str(200) == text


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself(verb: str) -> None:
    """A command's help has a sentence and an example that begins with the command's name."""
    result = CliRunner().invoke(cli, [verb, "--help"], prog_name="orderctl")

    assert result.exit_code == 0
    assert "Example:" in result.output
    assert f"orderctl {verb}" in result.output


@pytest.mark.parametrize("verb", VERBS)
def test_each_option_has_an_environment_variable(verb: str) -> None:
    """Every option of every command can be set by an environment variable that the help names."""
    command = COMMANDS[verb]
    options = [item for item in command.params if isinstance(item, click.Option)]

    assert options or verb == "help"
    assert all(item.show_envvar for item in options)
    help_text = CliRunner().invoke(cli, [verb, "--help"], prog_name="orderctl").output
    assert help_text.count("ORDERCTL_") >= len(options)


def test_every_verb_on_a_log_takes_log_and_exchange() -> None:
    """Every command that works on the caller's log takes `--log` and `--exchange`."""
    without = {
        name for name, command in COMMANDS.items() if not {"log_url", "exchange"} <= {p.name for p in command.params}
    }

    assert without == {"paper-exchange", "demo", "explain", "completion", "keys", "help"}


def test_help_loads_nothing_heavy() -> None:
    """`import cli` loads no kernel module but the one for lazy exports, no driver, no rich, no pydantic."""
    heavy = ("kernel", "projections", "replay", "psycopg", "eventsourcing", "rich", "yaml", "pydantic")
    code = f"import sys, cli; print(*(name for name in sys.modules if name.split('.')[0] in {heavy!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean_environment()
    )

    light = {"kernel", "kernel.platform", "kernel.platform.lazy_exports", "replay", "replay.cli", "replay.cli.group"}
    assert set(done.stdout.split()) == light


@pytest.mark.parametrize("words", [["nonsense"], ["place"], ["get"], ["wait", "x"], ["place", "HOLD", "1", "BTCUSDT"]])
def test_wrong_usage_is_code_2(words: list[str]) -> None:
    """An unknown command, a missing argument and an impossible choice are exit code 2 and a message on stderr."""
    result = CliRunner().invoke(cli, words, prog_name="orderctl")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "orderctl" in result.stderr


def test_version_is_one_line() -> None:
    """`--version` prints the program and its version."""
    result = CliRunner().invoke(cli, ["--version"], prog_name="orderctl")

    assert result.exit_code == 0
    assert result.output.startswith("orderctl ")
