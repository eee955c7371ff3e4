"""`explain` shows the models' docstrings, and shell completion offers what the log knows."""

from __future__ import annotations

import functools
import socket
import subprocess
import sys
from enum import Enum
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from cli import cli
from kernel.errors import NotFoundError
from replay.cli.completion import paths
from replay.views.explain import below, explain, fields_of, is_model, roots
from tests.cli.world import World, clean_environment

MODELS = dict(roots())


def test_a_field_has_its_words_its_type_and_its_values(idle: World) -> None:
    """A field is shown with its docstring, its type and the values of its enum."""
    page = idle.ok("explain", "intent.order.time_in_force")

    assert page.startswith("FIELD:  intent.order.time_in_force <TimeInForce> (default GTC)\n")
    assert "How long the order works (FIX 59)." in page
    assert "    IOC\n      Immediate or cancel: the unfilled rest is canceled at once.\n" in page


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "IntentCreated"),
        ("intents", "KIND:   OrderIntent"),
        ("order_state.attempts.outcome", "It did not happen and can no longer happen."),
        ("order.attempts.outcome.DEAD", "VALUE:  DEAD of AttemptOutcome"),
        ("account.balances.total", "<integer>"),
        ("position", "realized_pnl <integer>"),
        ("group.mode", "ONE_TRIGGERS_OTHER"),
        ("group", "One of NONE, ONE_CANCELS_OTHER"),
        ("orderfilled.last_px", "OrderFilled.last_px <integer, from 0 to 2^64-1>"),
        ("IntentCreated.intent.order.side", "VALUES OF Side"),
        ("StandardOrder.price", "<integer, from 0 to 2^64-1 or none>"),
        ("settings.workers", "<integer, from 1 to 256> (default 8)"),
    ],
)
def test_paths_lead_through_everything(path: str, words: str) -> None:
    """Paths begin with types, plurals, topics and class names, and pass through lists and maps."""
    assert words.lower() in explain(path).lower()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("intnt", "did you mean intent"),
        ("intent.ordr", "intent has no field 'ordr': did you mean order?"),
        ("intent.order.price.x", "has no fields"),
        ("intent.order.side.BYU", "has no value 'BYU': did you mean BUY?"),
        ("intent.order.side.BUY.x", "has no fields"),
        ("intent..order", "has no field ''"),
        (".", "no type, event or model ''"),
        ("zzz", "one of intent, order_state"),
    ],
)
def test_what_is_not_there_is_told_with_what_is_near(path: str, words: str) -> None:
    """An unknown word is an error that suggests similar words."""
    with pytest.raises(NotFoundError) as caught:
        explain(path)

    assert words in str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_every_field_is_described(name: str) -> None:
    """Every field of every type has a description."""
    assert MODELS[name].__doc__
    missing = [field for field, info in fields_of(MODELS[name]).items() if not info.description]
    assert missing == []
    assert explain(name).startswith("KIND:")
    assert explain(name, recursive=True)


def test_every_path_can_be_explained() -> None:
    """`explain` accepts everything that completion offers, down to the last value."""
    for name in paths(""):
        for path in paths(f"{name}."):
            assert explain(path)
            inner = below(fields_of(MODELS[name])[path.rpartition(".")[2]].annotation)
            if inner is not None and (issubclass(inner, Enum) or is_model(inner)):
                assert all(explain(deeper) for deeper in paths(f"{path}."))


# ------------------------------------------------------------------------------------------------------------ completion
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(idle: World, shell: str) -> None:
    """Each shell's script calls the program by click's protocol."""
    text = idle.ok("completion", shell)

    assert f"_ORDERCTL_COMPLETE={shell}_complete" in text


def test_bash_takes_the_script(idle: World, tmp_path: Path) -> None:
    """A real bash reads the script without an error."""
    path = tmp_path / "orderctl.bash"
    path.write_text(idle.ok("completion", "bash"))

    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def completed(world: World, line: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The completions offered at the end of a line."""
    monkeypatch.setattr("replay.cli.completion.TIMEOUT_S", 60.0)  # a busy machine must not decide the test
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    *words, begun = line.split(" ")[1:]
    return [item.value for item in ShellComplete(cli, {}, "orderctl", "_C").get_completions(words, begun)]


def by_the_shell(world: World, line: str) -> list[str]:
    """The completions of the installed program, called as bash calls it."""
    environment = {
        **world.environment, "_ORDERCTL_COMPLETE": "bash_complete", "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "from cli import cli; cli(prog_name='orderctl')"],
        capture_output=True, text=True, check=True, env=clean_environment(**environment), timeout=240,
    )  # fmt: skip
    assert done.stderr == ""
    return [item.partition(",")[2] for item in done.stdout.splitlines() if item]


def test_what_the_log_knows_is_offered(idle: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands, options, types, intents and symbols are offered; without a log, nothing and no error."""
    placed = ("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--wait", "recorded")
    idle.ok(*placed, "--id", "bid-1", "--owner", "mm")
    offered = functools.partial(completed, idle, monkeypatch=monkeypatch)

    assert offered("orderctl cancel b") == ["bid-1"]
    assert offered("orderctl place BUY 1 E") == ["ETHUSDT"]
    assert offered("orderctl get int") == ["intents"]
    assert offered("orderctl get intents ") == ["bid-1"]
    assert offered("orderctl get intent/") == ["intent/bid-1"]
    assert offered("orderctl get unicorns ") == []
    assert offered("orderctl get intents --owner ") == ["mm"]
    assert offered("orderctl explain intent.order.ti") == ["intent.order.time_in_force"]
    assert offered("orderctl cancel --log sqlite:///no/such.db ") == []


def test_a_long_log_is_not_folded_for_names(idle: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log beyond the limit offers nothing: a prompt must not wait for a fold."""
    monkeypatch.setattr("replay.cli.completion.POSITIONS_MAX", 1)

    assert completed(idle, "orderctl place BUY 1 ", monkeypatch) == []


def test_the_program_answers_the_shell(idle: World) -> None:
    """The installed program answers click's protocol."""
    assert by_the_shell(idle, "orderctl can") == ["cancel", "cancel-all"]


def test_a_database_that_does_not_answer_offers_nothing() -> None:
    """A server that accepts the connection and never answers does not block the prompt."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = World(f"postgresql://127.0.0.1:{server.getsockname()[1]}/orders")

        assert by_the_shell(silent, "orderctl cancel ") == []
