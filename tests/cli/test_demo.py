"""The demonstration, as its first user sees it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.cli.world import World, clean_environment


def test_the_demo_agrees_and_is_quick(tmp_path: Path) -> None:
    """Exit code 0 within 30 s, every claim with a yes; what it keeps can be looked at."""
    words = ["demo", "--keep", str(tmp_path / "kept")]
    if (tape := os.environ.get("KERNEL_TAPE")) is not None:
        words += ["--tape", tape]
    began_s = time.monotonic()

    done = subprocess.run(
        [sys.executable, "-m", "cli", *words],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began_s < 30
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
    """A demo that cannot begin says why, with the exchange's own words."""
    result = World("memory://").call("demo", "--tape", str(tmp_path / "BTCUSDT-none.csv"))

    assert result.exit_code != 0
    assert "BTCUSDT-none.csv" in result.stderr
    assert "Traceback" not in result.stderr
