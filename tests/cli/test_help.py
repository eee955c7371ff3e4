"""The help of `orderctl`."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cli import SECTIONS, cli
from tests.cli.world import COMMANDS, World, clean_environment

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


NEVER = ("psycopg", "eventsourcing", "rich", "yaml", "replay.manifests", "replay.demo", "kernel.runtime.venue_session",
         "kernel.reconciler.venue_reconciler")  # fmt: skip
NOT_TO_READ = (*NEVER, "pydantic", "prometheus_client", "importlib.metadata", "kernel.controller", "kernel.reconciler",
               "kernel.subscriptions", "projections.checkpoint")  # fmt: skip
NEEDLESS = {
    "get intent a": NOT_TO_READ,
    "describe a": NOT_TO_READ,
    "history a": NOT_TO_READ,
    "modify a --limit 50001 --wait recorded": NEVER,
    "cancel a --wait recorded": NEVER,
    "place BUY 0.001 BTCUSDT --limit 50000 --wait recorded": NEVER,
}
"""What a command on one order must not import."""


def test_commands_on_one_order_import_only_what_they_need(idle: World) -> None:
    """A command on one order of a SQLite log imports no driver, formatter or part of the kernel that it does not use."""
    idle.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--id", "a", "--wait", "recorded")
    shown = "import atexit, sys, cli; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); cli.main()"
    environment = clean_environment(ORDERCTL_LOG=idle.url)
    for command, needless in NEEDLESS.items():
        words = [sys.executable, "-c", shown, *command.split()]
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        loaded = done.stderr.split()
        assert [name for name in needless if any(f"{module}.".startswith(f"{name}.") for module in loaded)] == []


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
