"""The session of `orderctl help audit`, as it stands: from the demonstration's log to a proof that a third party checks."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import cli
from replay.cli.help import topic_text
from tests.cli.documents import fenced
from tests.cli.world import Child

ELLIPSIS = "…"
"""Stands for omitted output: a part of a line, or lines where it stands alone."""
NUMBER = re.compile(r"(?<![\w.-])\d+(?![\w.])")
VENUE_SAID = re.compile(r"\b(STREAM|RESPONSE|QUERY)\b")
EXIT_CODE = re.compile(r"\(exit code (\d+)\)")
UNHURRIED_S = 120.0
"""The demonstration's own deadlines are for a person who waits, not for a busy machine."""
TIMEOUT_S = 240


class Walk:
    """Runs the commands that are shown, and compares their output with what is shown.

    Positions of the log differ from run to run: each stands for the one that was printed where the session first has it at
    the beginning of a line.
    """

    def __init__(self) -> None:
        self._positions: dict[str, str] = {}
        self._environment: dict[str, str] = {}
        self._children: list[Child] = []

    def goes(self, command: str, shown: list[str]) -> None:
        """One command, with the lines that are shown of what it prints."""
        match shlex.split(self._as_here(command)):
            case ["export", setting]:
                name, _, value = setting.partition("=")
                self._environment[name] = value
            case ["kill", "%1"]:
                assert self._children.pop().end() == 0
            case ["orderctl", *words, "&"]:
                child = Child(*words, **self._environment)
                self._children.append(child)
                (line,) = shown
                child.expect(line.replace(ELLIPSIS, "").strip(), err=True)
            case ["orderctl", *words, ">", file]:
                Path(file).write_text(CliRunner().invoke(cli, words, prog_name="orderctl").stdout, encoding="utf-8")
            case ["orderctl", *words]:
                result = CliRunner().invoke(cli, words, env=self._environment, prog_name="orderctl")
                codes = [int(found[1]) for line in shown if (found := EXIT_CODE.fullmatch(line))]
                assert [result.exit_code] == (codes or [0]), (command, result.output)
                self._compare(command, [line for line in shown if not EXIT_CODE.fullmatch(line)], result.output)
            case ["python", "check_proof.py", proof, key]:
                assert key == "$(cat trusted.keys)"
                words = [sys.executable, "-I", "check_proof.py", proof, Path("trusted.keys").read_text()]
                done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
                assert done.returncode == 0, done.stderr
                self._compare(command, shown, done.stdout)
            case other:
                raise AssertionError(f"the test cannot run {other}")

    def close(self) -> None:
        """End what was not ended."""
        for child in self._children:
            child.close()

    def _compare(self, command: str, shown: list[str], output: str) -> None:
        """Each line shown comes, in this order."""
        lines = iter(output.splitlines())
        for line in shown:
            if line == ELLIPSIS:
                continue
            pattern = self._pattern(line)
            came = next((item for item in lines if re.fullmatch(pattern, plain(item))), None)
            assert came is not None, f"`{command}` has no line {line!r} where it is shown:\n{output}"
            self._learn(line, came)

    def _pattern(self, line: str) -> str:
        pattern = re.escape(self._as_here(plain(line))).replace(ELLIPSIS, ".*")
        position = re.match(r"\d+(?= )", plain(line))
        return pattern if position is None else re.sub(r"^\d+", r"\\d+", pattern)

    def _learn(self, line: str, came: str) -> None:
        ours, theirs = re.match(r"\d+(?= )", line), re.match(r"\d+(?= )", came)
        if ours is not None and theirs is not None:
            self._positions.setdefault(ours[0], theirs[0])

    def _as_here(self, text: str) -> str:
        return NUMBER.sub(lambda found: self._positions.get(found[0], found[0]), text)


def plain(line: str) -> str:
    """A line without what is of no account: how wide its columns are, and which of the venue's two ways was the quicker
    one (only an answer has its attempt recorded as the cause)."""
    line = VENUE_SAID.sub("VENUE", re.sub(r"\((\d+)\)", r"\1", line))
    return re.sub(r" +", " ", line).strip()


def steps() -> Iterator[tuple[str, list[str]]]:
    """The session's commands, each with what is shown of its output."""
    for session in fenced(topic_text("audit"), "console"):
        for step in session.removeprefix("$ ").split("\n\n$ "):
            command, *shown = step.strip().split("\n")
            yield command, shown


def test_the_walk_is_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command prints what the topic shows, on a log that the demonstration has just made."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "replay.demo.scenario.DEADLINE_S",
        "replay.demo.scenario.STEP_TIMEOUT_S",
        "replay.demo.processes.START_TIMEOUT_S",
    ):
        monkeypatch.setattr(name, UNHURRIED_S)
    walk = Walk()
    commands = []
    try:
        for command, shown in steps():
            walk.goes(command, shown)
            commands.append(command.split()[:2])
    finally:
        walk.close()

    verbs = [words[1] for words in commands if words[0] == "orderctl"]
    assert verbs == ["demo", "history", "describe", "diff", "keys", "run", "verify", "prove", "help"]
