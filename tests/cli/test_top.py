"""`orderctl top`: one frame for a pipe, a screen for a terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

from tests.cli.test_metrics import port_of
from tests.cli.world import World, clean_environment


def test_one_frame_of_a_log_that_is_led(live: World) -> None:
    """A frame of a led log has open orders, conditions, and a note on what the log does not contain."""
    live.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--id", "shown")
    text = live.ok("top", "--once")

    assert "Ready: yes" in text
    assert "Longest out of sync: desired and actual order agree" in text
    assert next(line.split() for line in text.splitlines() if line.startswith("BTCUSDT"))[3] == "1"
    assert text.rstrip().endswith("give --metrics URL")


def test_one_frame_of_a_log_that_nobody_leads(idle: World) -> None:
    """A pipe gets one frame, with waiting intents and the next action."""
    idle.ok("place", "BUY", "0.001", "BTCUSDT", "--limit", "50000", "--id", "waits", "--wait", "recorded")
    text = idle.ok("top")
    (row,) = [line for line in text.splitlines() if line.startswith("waits")]

    assert "Leader: none" in text
    assert "SUBMIT" in row
    assert "at once" in row
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_leaders_metrics_tell_what_no_log_does(idle: World) -> None:
    """The leader's queue is shown; if no kernel serves metrics, the frame says so."""
    with idle.child("run", "--speed", "max", "--metrics-port", "0") as leader:
        port = port_of(leader)
        leader.expect("ready: leads", err=True)
        text = idle.ok("top", "--metrics", f"http://127.0.0.1:{port}/metrics")
        assert 'workqueue_depth{name="reconciler"}' in text
        assert "give --metrics" not in text
    text = idle.ok("top", "--metrics", f"127.0.0.1:{port}")
    assert "no kernel serves metrics" in text
    assert "Conditions" in text


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (
            ("--metrics", "ftp://host:1/metrics"),
            5,
            "metrics URL `ftp://host:1/metrics`: must be http://HOST:PORT/metrics",
        ),
        (("--metrics", "http://host/metrics"), 5, "http://HOST:PORT/metrics"),
        (("--metrics", "http://host:99999/"), 5, "http://HOST:PORT/metrics"),
        (("--every", "0"), 2, "--every must be more than 0, not 0s"),
    ],
)
def test_what_cannot_be_is_refused(idle: World, words: tuple[str, ...], code: int, told: str) -> None:
    """Bad options are one error with nothing on stdout."""
    result = idle.call("top", *words)

    assert (result.exit_code, result.stdout) == (code, "")
    assert told in result.stderr


def test_a_terminal_gets_a_screen_that_is_given_back(live: World) -> None:
    """Frames use the alternate screen until Ctrl-C (130) restores the terminal."""
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "cli", "top", "--every", "100ms"]
    environment = clean_environment(**live.environment, TERM="xterm", COLUMNS="150", LINES="60")
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment) as process:
        os.close(theirs)
        seen = b""
        while seen.count(b"Conditions") < 2:
            seen += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        while b"\x1b[?1049l" not in seen:
            seen += os.read(ours, 65_536)
        assert process.wait(timeout=120) == 130
        assert process.stderr is not None
        assert process.stderr.read().strip() == b""
    os.close(ours)

    assert seen.index(b"\x1b[?1049h") < seen.index(b"Conditions")
