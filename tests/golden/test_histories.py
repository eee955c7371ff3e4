"""Whole logs that every later version must read, verify, fold and decide the same.

A history is two files: `NAME.jsonl`, an export of the log with every stored column, and `NAME.json`, its effects: the
intents, orders, positions, balances, groups, findings and external orders as they are shown, and the numbers of attempts
and verdicts that are decided in it. Effects are stored instead of a digest, so that models may gain fields; a stored value
must stay the same. Neither file ever changes: a code change that needs it reads old logs differently.

`KERNEL_WRITE_GOLDEN=1 pytest tests/golden/test_histories.py` writes those of `SOURCES` that are missing, from simulated
runs, and never changes existing ones.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from kernel.log.backends.memory import MemoryRecorder
from kernel.log.engine.jsonl_file import reading
from kernel.log.engine.recorder import LAYOUT_VERSION, Identity
from kernel.values import as_json
from projections import State
from replay import export_log, replay_decisions
from replay.log_access.log_reader import fold
from tests.golden.test_events import restricted
from tests.recorded import log_of, played
from tests.simulation.plan import Plan, from_seed

FOLDER = Path(__file__).parent / "histories"
SCENARIOS = Path(__file__).parents[1] / "scenarios"
BYTES_MAX = 200_000


def scenario(name: str) -> Plan:
    """The plan in a scenario's file."""
    script = (SCENARIOS / f"{name}.txt").read_text().split("----\n")[0]
    return Plan.parse(line for line in script.splitlines() if line.strip() and not line.startswith("#"))


TAKEOVER = """
world seed=1 dedupe=WHILE_OPEN dedupe-for=0 window=2 lookup=closed lag=0.3 lagging=all amend=IN_PLACE skew=0 cancel-total=yes latency=0.02 rate=none funds=plenty commit=0.002 lease=session workers=2 kernels=2 timeout=0.5 faults=0 accidents=0
at 0.000 A start
at 0.500 B start
at 1.000 A place i1 S BUY 6 @9990
at 2.000 A pause 15 wire
at 2.100 A place i2 S SELL 4 @10020
at 3.000 - lease
at 4.000 B modify i1 8 @9985
at 5.000 - trade S 9980 3
at 12.000 B cancel i1
"""  # noqa: E501  # a plan's world is one line

SOURCES = {
    "a_bracket_in_a_race": lambda: scenario("races/group_both_legs_fill"),
    "a_lost_answer": lambda: scenario("races/a_replace_whose_answer_is_lost"),
    "a_crash_in_the_middle": lambda: scenario("races/group_killed_between_parent_and_child"),
    "a_bust": lambda: scenario("races/group_a_bust_gives_back"),
    "a_change_off_the_tick": lambda: scenario("races/a_change_that_is_refused"),
    "a_takeover": lambda: Plan.parse(TAKEOVER.strip().splitlines()),
    "seed_7": lambda: from_seed(7, commands=20),
    "seed_112": lambda: from_seed(112, commands=40),  # dedupe for ever, no validity window, replaces that leave nothing
    "seed_115": lambda: from_seed(115, commands=40),  # venue-managed groups, a second leader
}
"""The source of each history."""
INTENDED_DIFFERENCES = {"a_crash_in_the_middle": 3}
"""Decisions that today's rules make otherwise: exits are smaller by the entry's fee in the base asset."""


def named(suffix: str) -> list[Path]:
    return sorted(FOLDER.glob(f"*{suffix}"))


def restored(path: Path) -> MemoryRecorder:
    """The rows of a file, with their hashes checked."""
    with reading(str(path)) as file:
        recorder = MemoryRecorder()
        recorder.restore(Identity(file.header.exchange_id, file.header.log_id, LAYOUT_VERSION), file.pages())
    return recorder


async def effects(recorder: MemoryRecorder) -> dict[str, Any]:
    """Everything that a log's state shows, and the decisions in it."""
    log = log_of(recorder)
    state = await fold(log, State())
    report = await replay_decisions(log)
    shown = {
        "intents": state.intents(),
        "orders": state.order_states(),
        "positions": state.positions(),
        "findings": state.findings(),
        "external_orders": state.external_orders(),
    }
    models = {name: [as_json(item) for item in items] for name, items in shown.items()}
    groups = [
        {"group_id": item.group_id, "native": item.native, "filled": dict(item.filled), "first": item.first}
        for item in state.groups()
    ]
    return {
        "position": state.position,
        "epoch": state.epoch,
        **models,
        "groups": groups,
        "account": as_json(state.account()),
        "decided": {"attempts": report.attempts, "verdicts": report.verdicts, "differences": report.difference_count},
    }


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_has_a_history(name: str) -> None:
    """Each history has both files, and is small."""
    path = FOLDER / f"{name}.jsonl"
    if os.environ.get("KERNEL_WRITE_GOLDEN") and not path.exists():
        recorder = played(SOURCES[name]())
        asyncio.run(export_log(log_of(recorder), path))
        path.with_suffix(".json").write_text(json.dumps(asyncio.run(effects(recorder)), indent=1, sort_keys=True))
    assert path.exists(), f"no {path.name}: write it with KERNEL_WRITE_GOLDEN=1"
    assert path.stat().st_size <= BYTES_MAX


@pytest.mark.parametrize("path", named(".jsonl"), ids=lambda path: path.stem)
def test_a_history_keeps_its_effects(path: Path) -> None:
    """Its hashes verify, its events fold to the stored effects, and today's code makes its decisions again."""
    expected = json.loads(path.with_suffix(".json").read_text())
    found = json.loads(json.dumps(asyncio.run(effects(restored(path)))))
    assert found["decided"]["differences"] == INTENDED_DIFFERENCES.get(path.stem, 0)
    found["decided"]["differences"] = 0
    assert restricted(found, expected) == expected


def test_the_histories_cover_the_failures() -> None:
    """Together they have each kind of attempt, a verdict, an unknown outcome, a bust, a finding, a group, a takeover."""
    topics = {json.loads(line).get("topic") for path in named(".jsonl") for line in path.read_text().splitlines()}
    wanted = {
        "AttemptStarted", "AttemptUnknown", "AttemptResolved", "AttemptFailed", "OrderModified", "OrderCanceled",
        "FillBusted", "FindingRaised", "FindingResolved", "GroupCreated", "GroupUpdated", "IntentModified",
    }  # fmt: skip
    assert wanted <= topics
    kinds = {
        json.loads(row["state"])["kind"]
        for path in named(".jsonl")
        for row in map(json.loads, path.read_text().splitlines())
        if row.get("topic") == "AttemptStarted"
    }
    assert kinds == {"SUBMIT", "AMEND", "CANCEL"}
    assert any(json.loads(path.read_text())["epoch"] > 1 for path in named(".json"))
