"""`pause` and `resume` report what they did, and `health` shows who paused and why."""

from __future__ import annotations

import json

from tests.cli.world import World


def test_all_are_paused_and_resumed(idle: World) -> None:
    """Repeating a pause or a resume changes nothing and says so."""
    assert idle.ok("pause", "--reason", "venue maintenance") == "exchange/paper paused\n"
    assert idle.ok("pause") == "exchange/paper was paused already\n"
    health = json.loads(idle.call("health", "-o", "json").stdout)
    (condition,) = [item for item in health["conditions"] if item["type"] == "NOT_PAUSED"]
    assert (condition["status"], health["paused"]) == (False, True)
    assert condition["message"].endswith(": venue maintenance")
    assert idle.ok("resume") == "exchange/paper resumed\n"
    assert idle.ok("resume") == "exchange/paper was neither paused nor halted\n"


def test_one_is_paused(idle: World) -> None:
    """One intent is paused by its id as `get -o name` prints it; an unknown one is exit code 2."""
    idle.ok("place", "BUY", "0.01", "BTCUSDT", "--limit", "500", "--id", "a", "--wait", "recorded")

    assert idle.ok("pause", "intent/a") == "intent/a paused\n"
    assert idle.ok("resume", "a") == "intent/a resumed\n"
    assert idle.call("pause", "b").exit_code == 2


def test_a_change_without_an_answer_is_reported(idle: World) -> None:
    """`modify` says on stderr that the venue has not answered in time, as `place` and `cancel` do; the exit code is 0."""
    idle.ok("place", "BUY", "0.01", "BTCUSDT", "--limit", "500", "--id", "c", "--wait", "recorded")

    late = idle.call("modify", "c", "--limit", "501", "--timeout", "100ms")

    assert (late.exit_code, late.stdout) == (0, "intent/c modified\n")
    assert late.stderr == "c: no answer after 0.1 s, nothing sent yet; no kernel leads: start `orderctl run`\n"
    assert idle.call("modify", "c", "--limit", "502", "--wait", "recorded").stderr == ""
