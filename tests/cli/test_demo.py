"""`orderctl demo`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from replay.demo import processes, scenario
from replay.demo.processes import child_environment
from tests.cli.world import World

UNHURRIED_S = 240.0
"""Deadlines on a busy machine; those of the demo suit a person who waits."""
PROMISED_S = 30.0


@pytest.mark.nightly
def test_the_demo_takes_less_than_half_a_minute() -> None:
    """`orderctl demo` as a process, with its own deadlines, succeeds within the promised 30 s."""
    began_s = time.perf_counter()
    command = [sys.executable, "-m", "cli", "demo"]
    done = subprocess.run(
        command, check=False, env=child_environment(), capture_output=True, text=True, timeout=2 * PROMISED_S
    )
    took_s = time.perf_counter() - began_s

    assert done.returncode == 0, done.stdout + done.stderr
    assert took_s < PROMISED_S


def test_the_demo_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo exits with 0, every claim holds, and the kept log can be inspected."""
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
    if tape is None:  # with the included tape the market reaches neither exit
        assert kept.ok("get", "orders", "take-profit", "stop-loss").count(" NEW ") == 2
    again = kept.call("demo", "--keep", str(tmp_path / "kept"))
    assert again.exit_code == 4


def test_a_missing_tape_is_one_line_of_error(tmp_path: Path) -> None:
    """A demo that cannot start prints the exchange's error, without a traceback."""
    result = World("memory://").call("demo", "--tape", str(tmp_path / "BTCUSDT-none.csv"))

    assert result.exit_code != 0
    assert "BTCUSDT-none.csv" in result.stderr
    assert "Traceback" not in result.stderr
