"""Every `orderctl` command that the documents and `--help` show is one, and those on a line of their own run.

They run in the order in which they are shown, in one directory, beside a kernel and an exchange in processes of their own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
import pytest
from click.testing import CliRunner

from cli import cli
from replay.cli.group import INTERRUPTED, Session
from tests.cli.documents import OPERATORS, README, Form, Shown, calls, fenced, shown
from tests.cli.test_metrics import port_of
from tests.cli.world import COMMANDS, Child, Desk, World, clean_environment

PLACEHOLDERS = {"COMMAND": "get", "TOPIC": "api", "POLICY": "adopt"}
"""Words that stand for others where only some words are permitted."""
ELSEWHERE = ("orderctl demo",)
"""What other tests run: it takes long."""
HERE = {
    "$(date +%F)": "2026-01-31",
    "/mnt/elsewhere/notes": "notes",
    "postgresql://localhost/orders": "sqlite:///orders.db",
    "postgresql://db/kernel --exchange binance-1": "sqlite:///kernel.db",
    "restore paper-2026-01-31.db --log sqlite:///kernel.db": "restore paper-2026-01-31.db --log sqlite:///again.db",
    "import paper.jsonl.gz --log sqlite:///orders.db": "import paper.jsonl.gz --log sqlite:///imported.db",
    "- --log sqlite:///copy.db": "- --log sqlite:///piped.db",
    "run --metrics-port 9464": "run --metrics-port 0",
    "keys create note.key": "keys create other.key",
    "--listen 127.0.0.1:7000 --journal exchange.journal": "--listen 127.0.0.1:0 --journal other.journal",
}
"""Texts of the examples, and what stands for them in the test's directory; the world adds its own."""
CODES = {
    "orderctl resolve btc-bid-1 --as dead": 4,  # nothing is unknown
    "orderctl resolve btc-bid-1 --order 88123": 2,  # there is no such order
    "orderctl resolve --finding ": 2,  # there is no such finding
}
"""How commands begin that end otherwise than with 0."""
DIFFERENT = {"diff": {0, 1}}
"""Commands that say by their exit code whether there is a difference."""
ENDLESS = re.compile(r"orderctl (run|paper-exchange)\b|orderctl .*(-w\b|--every\b)")
"""Commands that run until they are stopped."""
LADDER = """
apiVersion: exchange-kernel/v1
kind: Order
metadata: {name: ladder-1, owner: mm-1}
spec: {symbol_id: BTCUSDT, side: BUY, order_type: LIMIT, quantity: "0.0015", price: "50000.00"}
"""
PAIR = """
apiVersion: exchange-kernel/v1
kind: OrderGroup
metadata: {name: exit-1}
spec:
  mode: ONE_CANCELS_OTHER
  orders:
    - {name: low, symbol_id: BTCUSDT, side: BUY, order_type: LIMIT, quantity: "0.002", price: "50000.00"}
    - {name: high, symbol_id: BTCUSDT, side: SELL, order_type: LIMIT, quantity: "0.002", price: "90000.00"}
"""
NOTES = ("--notes", "notes", "--note-key", "note.key", "--note-events", "5", "--note-every", "100ms")
ANSWER_S = 120
T = TypeVar("T")


@pytest.mark.parametrize("item", shown("orderctl"), ids=lambda item: f"{item.source}: {item.line}")
def test_what_is_shown_is_a_command(item: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command exists and takes its options and arguments."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE.toml").touch()
    found = calls(item.line)
    assert found
    for words in found:
        name, *rest = (PLACEHOLDERS.get(word, word) for word in words)
        parent = click.Context(cli, info_name="orderctl", obj=Session())
        with suppress(click.exceptions.Exit):  # --help
            COMMANDS[name].make_context(name, rest, parent=parent)


# ------------------------------------------------------------------------------------------------------ what can be run
class Examples:
    """A directory with a log, a kernel that leads it, and everything that the examples name."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.failures: list[str] = []
        self._directory = directory
        self._world = World("sqlite:///kernel.db")
        self._stack = stack
        self._here = dict(HERE)
        shim = directory / "bin" / "orderctl"
        shim.parent.mkdir()
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli "$@"\n')
        shim.chmod(0o700)
        (directory / ".config/fish/completions").mkdir(parents=True)

    def prepare(self) -> None:
        """Start both processes, and make what is named."""
        self._world.ok("keys", "create", "note.key", "--trust", "trusted.keys")
        exchange = self._child("paper-exchange", "--speed", "max", "--markets", "full", "--journal", "exchange.journal")
        address = exchange.expect(":")
        kernel = self._child("run", "--address", address, "--metrics-port", "0", *NOTES)
        port = port_of(kernel)
        kernel.expect("ready: leads", err=True)
        before, then = self._head(), datetime.now(UTC)
        (self._directory / "orders.yaml").write_text(fenced(README, "yaml")[0])
        (self._directory / "ladder.yaml").write_text(LADDER)
        (self._directory / "pair.yaml").write_text(PAIR)
        self._world.ok("apply", "-f", "pair.yaml")
        for name in ("btc-bid-1", "0190c3a1e2b47c9a8d3e5f60718293a4"):
            self._world.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--id", name)
        self._world.ok("place", "BUY", "0.001", "BTCUSDT", "--id", "bought", "--owner", "mm-2", "--wait", "filled")
        Desk(self._world, kernel, address).place_by_hand("by-hand")
        external = eventually(lambda: self._world.ok("get", "external", "-o", "name").splitlines())[0]
        after = self._head()
        heads = eventually(lambda: sorted(Path("notes").glob("*.note"))[1:])
        self._here |= {
            "$ID --as-of 1200": f"bought --as-of {after}",
            "$ID": "bought",
            "--set bid-1": "--set btc-bid-1",
            "external/1042": external,
            "--from 1000 --to 2000": f"--from {int(heads[0].stem)} --to {int(heads[-1].stem)}",
            "notes/00000000000000012000.note": str(heads[0]),
            "1200": str(before),
            "1300": str(after),
            "127.0.0.1:7000": address,
            "9464": str(port),
            "2026-01-31T12:00:00Z": then.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }

    def run(self, line: str) -> None:
        """Run one line as it is here, and note a failure."""
        here = line
        for text, instead in self._here.items():
            here = here.replace(text, instead)
        if ENDLESS.match(line):
            code, output = self._run_until_stopped(here)
        elif OPERATORS.search(here):
            code, output = self._run_in_shell(here)
        else:
            code, output = self._run_in_process(here)
        if code not in expected_codes(line):
            self.failures.append(f"{line}\n  as {here}\n  exit code {code}\n{output}")

    def _run_in_process(self, line: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, shlex.split(line)[1:], input="y\n", prog_name="orderctl")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            return -1, repr(result.exception)
        return result.exit_code, result.output

    def _run_in_shell(self, line: str) -> tuple[int, str]:
        environment = clean_environment(
            PATH=f"{self._directory / 'bin'}{os.pathsep}{os.environ['PATH']}", HOME=str(self._directory)
        )
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], env=environment, capture_output=True, text=True, check=False,
            timeout=ANSWER_S,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def _run_until_stopped(self, line: str) -> tuple[int, str]:
        """Run what does not end by itself until it prints something, then stop it as Ctrl-C does."""
        child = self._child(*shlex.split(line)[1:])
        told = eventually(lambda: [item for item in (*child.out.queue, *child.err.queue) if item is not None])
        code = child.end(signal.SIGINT)
        return (0 if code == INTERRUPTED else code), "\n".join([*told, *child.talk])

    def _head(self) -> int:
        position: int = json.loads(self._world.ok("events", "-o", "jsonl").splitlines()[-1])["position"]
        return position

    def _child(self, *words: str) -> Child:
        child = Child(*words)
        self._stack.callback(child.close)
        return child


def eventually(found: Callable[[], list[T]]) -> list[T]:
    """What is found once there is anything."""
    deadline_s = time.monotonic() + ANSWER_S
    while not (items := found()):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    return items


def expected_codes(line: str) -> set[int]:
    """The exit codes that a line may have."""
    known = next((code for beginning, code in CODES.items() if line.startswith(beginning)), 0)
    return DIFFERENT.get(line.split()[1], {known})


def test_every_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command that stands on a line of its own ends with the exit code that it should have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("replay.cli.base.is_asked", lambda: True)
    lines = [item.line for item in shown("orderctl") if item.form is Form.LINE]
    with ExitStack() as stack:
        examples = Examples(tmp_path, stack)
        examples.prepare()
        for line in lines:
            if not line.startswith(ELSEWHERE):
                examples.run(line)

        queries = [item.line for item in shown("sqlite3") if item.form is Form.LINE]
        for query in queries:
            _, file, statement = shlex.split(query)
            with closing(sqlite3.connect(file)) as connection:
                assert connection.execute(statement).fetchall() != []

    assert len(lines) > 80
    assert len(queries) > 1
    assert examples.failures == [], "\n\n".join(examples.failures)
