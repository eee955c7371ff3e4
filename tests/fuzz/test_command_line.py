"""The command line accepts anything: it exits with one of its codes, prints lines for people, and a refusal
changes no log.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
import tomllib
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cli import cli
from kernel.errors import ValidationError
from kernel.order_spec import to_scaled
from kernel.settings import KernelSettings
from replay.host.config import RUN_KEYS, read_config, settings_over
from tests.cli.world import COMMANDS, World
from tests.fuzz.mutations import ODD_NUMBERS, ODD_TEXTS, damaged, fuzzed

pytestmark = pytest.mark.xdist_group("fuzzed command line")  # these share what is costly to make

EXIT_CODES = {0, 1, 2, 3, 4, 5, 6, 130}
SAID_NO = {2, 4, 5, 6}
"""Codes after which nothing may have been written; 1 and 3 may come after an order was recorded."""
VERBS = sorted(COMMANDS)
ENDLESS = {"--watch", "-w", "--timeout", "--help"}
"""Left out: they wait for as long as they are asked to; `--timeout` is always set, and short."""
PLAUSIBLE = (
    "BUY", "sell", "BTCUSDT", "0.001", "60000.00", "1e3", "1e-3", "0.0000000001", "1" * 40, "nan", "inf", "-1",
    "here", "intent/here", "order/here", "orders", "order", "fills", "pos", "account", "sym", "find", "intents/here",
    "OrderFilled", "json", "yaml", "name", "wide", "filled", "canceled,failed", "GTC", "ack", "recorded", "max",
    "step", "0", "7", "sqlite:///other.db", "sqlite://", "memory://", "ftp://x", "127.0.0.1:0", "localhost:x",
    "no/such/file", "./here.toml", "--", "-", "--log", "-o", "\udcff", "1h30m",
)  # fmt: skip


READING = {
    "get": ["orders"], "describe": ["a"], "events": [], "health": [], "place": ["BUY", "1", "BTCUSDT"], "cancel": ["a"],
    "wait": ["a", "--for", "filled"], "history": ["a"], "verify": [], "prove": ["1", "--notes", "."], "rebuild": [],
    "export": ["-"], "backup": ["copy.db"], "statement": [], "decisions": [],
    "tables": ["list"], "what-if": ["--at", "1"],
}  # fmt: skip
"""Verbs that need a log, with arguments that they take."""


def is_possible_argument(text: str) -> bool:
    """Return whether a text can be an argument: no NUL, and only surrogates that stand for a byte."""
    return "\0" not in text and not any(0xD800 <= ord(char) < 0xDC80 or 0xDCFF < ord(char) < 0xE000 for char in text)


WORDS = st.sampled_from([text for text in (*ODD_TEXTS, *PLAUSIBLE) if is_possible_argument(text)])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A log that had a kernel for a moment: it has symbols and one order."""
    directory = tmp_path_factory.mktemp("fuzz")
    before = Path.cwd()
    os.chdir(directory)
    world = World(f"sqlite:///{directory / 'kernel.db'}")
    with world.leader():
        world.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--id", "here")
    yield world.url
    os.chdir(before)


@pytest.fixture(scope="module")
def unstarted() -> Iterator[None]:
    """Long-running commands end before they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("replay.host.run.until_signal", ended_by_signal)
        patch.setattr("replay.demo.scenario.demo", no_demo)
        yield


async def ended_by_signal(work: Coroutine[Any, Any, None]) -> signal.Signals:
    """Stand in for a long-running command: end as by a signal."""
    work.close()
    return signal.SIGTERM


async def no_demo(options: Any) -> bool:
    """Stand in for the demo."""
    return True


def call(url: str, words: list[str]) -> Result:
    """Run a command in this process with a short timeout and check what holds for every call."""
    short = ["--timeout", "1ms"] if words and words[0] in ("place", "apply", "cancel", "wait") else []
    environment = {"ORDERCTL_LOG": url, "ORDERCTL_EXCHANGE": "paper", "ORDERCTL_DEBUG": None}
    result = CliRunner().invoke(cli, [*words[:1], *short, *words[1:]], env=environment, prog_name="orderctl")
    assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
    assert result.exit_code in EXIT_CODES, words
    assert "Traceback" not in result.stderr, (words, result.stderr)
    assert "error: unexpected" not in result.stderr, (words, result.stderr)
    assert result.exit_code == 0 or result.stderr or result.exit_code in (1, 6), (words, "an error without a word")
    return result


def rows(url: str) -> tuple[Any, ...]:
    """The rows of the log."""
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        found: tuple[Any, ...] = database.execute("select count(*), max(position), max(chain_hash) from log").fetchone()
    database.close()
    return found


@st.composite
def calls(draw: st.DrawFn) -> list[str]:
    """A command with arguments and some of its options, with any values."""
    verb = draw(st.sampled_from(VERBS))
    words = [draw(WORDS) for _ in range(draw(st.integers(0, 4)))]
    choice = next((param for param in COMMANDS[verb].params if is_choice(param, click.Argument)), None)
    if choice is not None and draw(st.booleans()):
        words = [draw(value_of(choice)), *words[1:]]
    for option in (param for param in COMMANDS[verb].params if isinstance(param, click.Option)):
        name = option.opts[-1]
        if name in ENDLESS or draw(st.integers(0, 3)) != 0:
            continue
        words += [name] if option.is_flag else [name, *(draw(WORDS | value_of(option)) for _ in range(option.nargs))]
    return [verb, *words]


def is_choice(param: click.Parameter, kind: type[click.Parameter]) -> bool:
    """Return whether a parameter has a fixed set of values."""
    return isinstance(param, kind) and isinstance(param.type, click.Choice)


def value_of(param: click.Parameter) -> st.SearchStrategy[str]:
    """A value for a parameter: one of its choices, otherwise anything."""
    return (
        st.sampled_from([str(word) for word in param.type.choices]) if isinstance(param.type, click.Choice) else WORDS
    )


@fuzzed(87)
@given(calls())
@example(["place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--owner", "\udcff"])
@example(["get", "orders", "--owner", "\udcff"])
@example(["describe", "here", "--events", "9" * 5_000])
@example(["events", "--after", "9" * 30])
@example(["events", "--for", "x" * 300])
@example(["run", "--speed", "nan"])
@example(["run", "--speed", "inf"])
@example(["run", "--seed", "9" * 5_000])
@example(["run", "--tape", "\udcff-x.csv"])
@example(["wait", "here", "--for", "filled", "--or-fail-on", ",,"])
@example(["apply", "-f", "\udcff"])
@example(["diff", "-f", "x" * 5_000])
@example(["diff", "--from", "9" * 5_000])
@example(["get", "orders", "--as-of", "9" * 5_000])
@example(["get", "orders", "--as-of", "0001-01-01T00:00:00+23:59"])
@example(["get", "account", "--as-of", "9999-12-31T23:59:59-23:59"])
@example(["history", "x" * 300])
@example(["history", "here", "--picture", ""])
@example(["history", "here", "--picture", "\udcff.html"])
@example(["prove", "9" * 5_000, "--notes", "."])
@example(["prove", "--from", "0", "--to", "0", "--notes", "."])
@example(["verify", "--notes", ".", "--key", "\udcff"])
@example(["verify", "--from", "."])
@example(["export", "-", "--upto", "9" * 5_000])
@example(["export", "."])
@example(["import", "\udcff", "--log", "sqlite:///other.db"])
@example(["backup", "kernel.db"])
@example(["restore", "kernel.db", "--log", "sqlite:///here/other.db"])
@example(["statement", "--day", "\u0661" * 4 + "-01-01"])
@example(["tables", "list", "--to", "sqlite:///kernel.db"])
@example(["tables", "sync", "--to", "sqlite:///kernel.db"])
@example(["rebuild", "--to", "sqlite:///kernel.db"])
@example(["what-if", "--at", "9" * 5_000])
@example(["keys", "show", "kernel.db"])
@pytest.mark.usefixtures("unstarted")
def test_any_call_of_a_command(url: str, words: list[str]) -> None:
    """Any arguments end with one of the exit codes, and a refusal leaves the log unchanged."""
    before = rows(url)
    result = call(url, words)
    if result.exit_code in SAID_NO:
        assert rows(url) == before, (words, "said no, and wrote")


@fuzzed(50)
@given(st.lists(WORDS, max_size=5))
@pytest.mark.usefixtures("unstarted")
def test_any_words(url: str, words: list[str]) -> None:
    """Any words after `orderctl`."""
    call(url, words)


@fuzzed(50)
@given(calls())
@pytest.mark.usefixtures("unstarted")
def test_a_missing_log(url: str, words: list[str]) -> None:
    """A refused command does not create the log."""
    assume("--log" not in words)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "none.db"
        result = call(f"sqlite:///{path}", words)
        if result.exit_code in SAID_NO:
            assert not path.exists(), words


@fuzzed(50)
@given(
    st.binary(min_size=2, max_size=200),
    st.sampled_from(sorted(READING)),
)
def test_a_file_that_is_no_log(content: bytes, verb: str) -> None:
    """Any other file given as the log is refused and unchanged."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "kernel.db"
        path.write_bytes(content)
        result = call(f"sqlite:///{path}", [verb, *READING[verb]])
        assert result.exit_code in {1, 2, 6}
        assert path.read_bytes() == content


def test_a_number_of_thousands_of_digits(url: str) -> None:
    """A quantity of any length is refused as too large."""
    assert call(url, ["place", "BUY", "1" * 5_000, "BTCUSDT"]).exit_code == 5


def test_a_number_with_hundreds_of_zeros() -> None:
    """1.000…0 is 1, however many zeros it has."""
    assert to_scaled("1." + "0" * 415, decimals=2, field="price") == 100


# --------------------------------------------------------------------------------------------------- configuration files
CONFIG = b"""log = "sqlite:///kernel.db"
exchange = "paper"
speed = "max"
seed = 7
[kernel]
workers = 3
ack_timeout_s = 0.5
"""
KEYS = (
    *RUN_KEYS,
    "kernel",
    *(f"kernel.{name}" for name in KernelSettings.model_fields),
    "kernel.none",
    "none",
    "a.b.c",
)
VALUES = st.sampled_from((
    *(repr(number) for number in ODD_NUMBERS), '""', '"x"', '"BTCUSDT"', '"\\u0000"', "true", "[]", "[[1],{a=1}]", "{}",
    '{workers=1}', "1979-05-27", "1979-05-27T07:32:00Z", "07:32:00", "9" * 5_000, "[" * 2_000 + "]" * 2_000,
))  # fmt: skip


@fuzzed(62)
@given(
    st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=3).map(
        lambda items: "\n".join(f"{key} = {value}" for key, value in items).encode()
    )
    | damaged(CONFIG)
    | st.binary(max_size=60)
)
@example(("seed = " + "[" * 50_000).encode())
@pytest.mark.usefixtures("unstarted")
def test_any_configuration(url: str, content: bytes) -> None:
    """Any configuration file is read, or refused with its name; nothing runs and nothing is written."""
    before = rows(url)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "orderctl.toml"
        path.write_bytes(content)
        call(url, ["run", "--config", str(path)])
        try:
            found = read_config(path)
        except ValidationError as problem:
            assert path.name in str(problem)  # noqa: PT017 both ends are fine
        else:
            assert repr(found) == repr(tomllib.loads(content.decode()))  # NaN is not equal to itself
            take_settings(found)
    assert rows(url) == before


def take_settings(found: dict[str, Any]) -> None:
    """The settings of a file, or a refusal that names them."""
    try:
        settings_over(found.get("kernel", {}), {})
    except ValueError as problem:
        assert "KernelSettings" in str(problem)  # noqa: PT017 both ends are fine
