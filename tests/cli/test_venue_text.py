"""Text of venues and others in the log never reaches the terminal unescaped."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from kernel import events, open_log
from kernel.clock import SeededIds
from kernel.log import Append, Write
from kernel.models import Evidence, Finding, FindingKind
from replay.formatting.output import UNSAFE
from tests.cli.world import World

HOSTILE = "\x1b]0;owned\x07\x1b[2Jre\u202everse\r\x9b31m"


@pytest.fixture
def hostile(idle: World) -> World:
    """A log with escape sequences in a finding and in an intent's events."""
    placed = ("place", "BUY", "0.001", "BTCUSDT", "--limit", "60000", "--wait", "recorded", "--id", "a", "--owner")
    idle.ok(*placed, HOSTILE)
    asyncio.run(raise_finding(idle.url))
    return idle


async def raise_finding(url: str) -> None:
    """Record a finding with a hostile text."""
    finding = Finding(finding_id="f", kind=FindingKind.STORM, text=HOSTILE, intent_id="a", symbol_id="BTCUSDT")
    async with open_log(url, exchange_id="paper") as log:
        write = Write(events.intent_stream("a"), (events.FindingRaised(finding=finding),))
        await log.append(Append(SeededIds().command_id(1), (write,), "venue:paper", Evidence.QUERY, is_fact=True))


@pytest.mark.parametrize(
    "words",
    [
        *(("get", kind, "-o", form) for kind in ("findings", "intents") for form in ("table", "wide", "json", "yaml")),
        *(("events", "-o", form) for form in ("wide", "jsonl", "json", "yaml")),
        ("describe", "a"),
        *(("history", "a", "-o", form) for form in ("table", "wide", "jsonl", "json", "yaml")),
    ],
    ids=" ".join,
)
def test_hostile_text_is_written_out(hostile: World, words: tuple[str, ...]) -> None:
    """No command prints a control character but the line break, in any format."""
    text = hostile.ok(*words)

    assert not re.search(UNSAFE, text.replace("\n", ""))
    assert "verse" in text or words == ("get", "intents", "-o", "table")


def test_programs_get_the_text_itself(hostile: World) -> None:
    """JSON is safe to print and loses nothing."""
    assert json.loads(hostile.ok("get", "finding", "f", "-o", "json"))["text"] == HOSTILE
    assert json.loads(hostile.ok("get", "intent", "a", "-o", "json"))["owner"] == HOSTILE
