"""The demonstration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from replay.demo import processes, scenario
from tests.cli.world import World

UNHURRIED_S = 240.0
"""The demonstration's own deadlines are for a person who waits, not for a busy machine."""


def test_the_demo_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo is exit code 0 with every check passed, and keeps its files with `--keep`."""
    for module, name in ((scenario, "DEADLINE_S"), (scenario, "STEP_TIMEOUT_S"), (processes, "START_TIMEOUT_S")):
        monkeypatch.setattr(module, name, UNHURRIED_S)
    words = ["demo", "--keep", str(tmp_path / "kept")]
    if (tape := os.environ.get("KERNEL_TAPE")) is not None:
        words += ["--tape", tape]

    done = World("memory://").call(*words)

    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    for words_shown in ("SIGKILL", "UNKNOWN", "Everything agreed.", "no order was sent twice", "take-profit"):
        assert words_shown in done.stdout
    kept = World(f"sqlite:///{tmp_path / 'kept' / 'kernel.db'}")
    assert "AttemptStarted" in kept.ok("events", "--for", "killed")
    if tape is None:  # in the market that is shipped neither exit is reached
        assert kept.ok("get", "orders", "take-profit", "stop-loss").count(" NEW ") == 2
    again = kept.call("demo", "--keep", str(tmp_path / "kept"))
    assert again.exit_code == 4


def test_a_tape_of_nowhere_is_told_in_one_line(tmp_path: Path) -> None:
    """A demo that cannot begin prints the exchange's error in one line."""
    result = World("memory://").call("demo", "--tape", str(tmp_path / "BTCUSDT-none.csv"))

    assert result.exit_code != 0
    assert "BTCUSDT-none.csv" in result.stderr
    assert "Traceback" not in result.stderr
