"""`replay_decisions`: recorded decisions made again by the installed code, with and without bugs."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import cli
from kernel import events
from kernel import plan as planning
from kernel.errors import ExchangeError, Violation
from kernel.log import Append, Write, open_log
from kernel.log.engine.records import event_of
from kernel.models import Evidence, OrderIntent, OrderState
from kernel.reconciler import attempt_resolution
from kernel.settings import KernelSettings
from kernel.values import as_json
from kernel.values.edge import validated
from kernel.venues.base import Dedupe, VenueCapabilities
from kernel.venues.paper.faults import fault
from replay import replay_decisions
from replay.decisions import decision_replay
from replay.decisions.decision_replay import DecisionReport
from replay.decisions.recorded_leader import recorded_settings
from replay.transfer.exporter import export_log
from replay.transfer.importer import import_log
from tests.commands import fresh_command_id
from tests.contract.bench import a_bench, bid, virtual_time
from tests.nightly import after_the_first
from tests.recorded import log_of, played, simulated_whole
from tests.simulation.mutants import planted
from tests.simulation.plan import from_seed

pytestmark = pytest.mark.xdist_group("decisions")  # these share costly runs

SEEDS = after_the_first(6, range(20))


def replayed(seed: int, bug: str | None = None) -> DecisionReport:
    """The report on a simulated run, by the installed code or with a bug planted in it."""
    recorder = simulated_whole(seed)
    with planted(bug) if bug is not None else nullcontext():
        return asyncio.run(replay_decisions(log_of(recorder)))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_code_decides_the_same(seed: int) -> None:
    """Whatever the faults of a simulated run, each attempt and verdict is decided again."""
    report = replayed(seed)
    assert report.first is None
    assert (report.unchecked, report.attempts > 10) == (0, True)


@pytest.mark.parametrize(
    ("bug", "seed", "recorded", "today"),
    [
        ("grace_is_forgotten", 0, "absent_after_ns", "absent_after_ns"),
        ("number_goes_on_after_absence", 0, "SUBMIT 1", "settle"),
        ("busts_are_forgotten", 1, "CANCEL 2", "nothing"),
        ("the_other_leg_stays", 1, "CANCEL 2", "nothing"),
        ("siblings_do_not_shrink", 1, "order.quantity 1", "order.quantity 7"),
        ("own_cancels_are_a_surprise", 7, "SUBMIT 3", "nothing"),
    ],
)
def test_the_first_decision_that_differs_is_named(bug: str, seed: int, recorded: str, today: str) -> None:
    """A bug in the plan, the groups, the attempts or the fold shows in the first decision that it changes."""
    found = replayed(seed, bug).first
    assert found is not None
    assert recorded in found.recorded
    assert today in found.today
    assert 0 < found.state_position < found.position


@virtual_time
async def test_a_local_rejection_and_a_send_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sent attempt that would be rejected locally today differs, and the other way round."""

    def refuses(intent: OrderIntent, order: OrderState | None, **given: Any) -> planning.Action:
        return planning.RejectLocally(intent.order, (Violation("price", "tick_size", "a multiple of 7", "1"),))

    async with a_bench() as bench:
        await bench.kernel.place_order(bid(1), intent_id="sent")
        with monkeypatch.context() as otherwise:
            otherwise.setattr(planning, "plan_submit", refuses)
            strict = await replay_decisions(bench.log)
            with pytest.raises(ExchangeError):
                await bench.kernel.place_order(bid(1), intent_id="refused")
        found = (await replay_decisions(bench.log)).differences
    assert [(item.intent_id, item.recorded) for item in strict.differences] == [("sent", "sent")]
    assert [(item.intent_id, item.today) for item in found] == [("refused", "sent")]


@virtual_time
async def test_a_forced_run_is_no_difference() -> None:
    """An attempt that an operator forced during its backoff is counted, and no difference."""
    async with a_bench(settings=KernelSettings(backoff_s_min=20, backoff_s_max=20)) as bench:
        bench.faults.add(fault("not_sent", operation="submit"))
        await bench.kernel.place_order(bid(1), intent_id="mine", wait="recorded")
        await asyncio.sleep(1)
        await bench.kernel.force_reconciliation("mine")
        await asyncio.sleep(1)
        report = await replay_decisions(bench.log)
    assert (report.same, report.attempts, report.past_backoff) == (True, 2, 1)


def test_a_verdict_without_proof_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict of absence on a query that proves nothing is a difference."""
    with monkeypatch.context() as otherwise:
        otherwise.setattr(
            attempt_resolution, "conclude", lambda *given, **more: attempt_resolution.ProvenAbsent("it was not found")
        )
        recorder = played(from_seed(4))
    report = asyncio.run(replay_decisions(log_of(recorder)))
    assert any("is DEAD: it was not found" in item.recorded for item in report.differences)


def test_an_exception_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that raises decides nothing, and the reason is reported."""

    def broken(*given: Any, **more: Any) -> planning.Action:
        raise IndexError("no such order")

    recorder = simulated_whole(0)
    monkeypatch.setattr(planning, "plan", broken)
    found = asyncio.run(replay_decisions(log_of(recorder))).first
    assert found is not None
    assert "no such order" in found.why


def test_recorded_settings_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded settings are used; missing ones have their defaults, whatever the environment says."""
    monkeypatch.setenv("ORDERCTL_KERNEL_WORKERS", "3")
    monkeypatch.setenv("ORDERCTL_KERNEL_SEND_BUDGET_S", "9")
    settings = recorded_settings({"send_budget_s": 0.25, "a_setting_of_the_past": 1})
    assert (settings.send_budget_s, settings.workers) == (0.25, 8)


def test_unreadable_capabilities_are_counted() -> None:
    """Attempts under capabilities that this code cannot read are not decided again, and counted."""
    recorder = simulated_whole(11)
    log = log_of(recorder)
    with pytest.MonkeyPatch.context() as otherwise:
        otherwise.setattr(decision_replay, "recorded_capabilities", unreadable)
        report = asyncio.run(replay_decisions(log))
    assert (report.same, report.attempts) == (True, 0)
    assert report.unchecked > 0


def unreadable(recorded: Any) -> VenueCapabilities:
    return validated({"amend": "BY_LETTER"}, VenueCapabilities)


async def test_changed_capabilities_apply() -> None:
    """After a leader recorded other capabilities of its venue, decisions use them."""
    async with open_log("memory://", exchange_id="x") as log:
        trial = decision_replay.DecisionReplayer(log)
        known = as_json(VenueCapabilities())
        told = [
            events.KernelStarted(kernel_version="1", code_hash="0", epoch=0, settings={}, capabilities=known),
            events.CapabilitiesChanged(capabilities=known | {"dedupe": "FOR_EVER"}),
        ]
        await log.append(Append(fresh_command_id(), (Write("control", tuple(told)),), "kernel", Evidence.COMMAND))
        found = []
        async for rows in log.read():
            for row in rows:
                await trial.apply(event_of(row))
                found.append(trial._context.capabilities.dedupe if trial._context is not None else None)
    assert found == [None, VenueCapabilities().dedupe, Dedupe.FOR_EVER]


def test_an_attempt_known_too_late_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that is read after its state has passed is not decided on another state, and counted."""
    recorder = simulated_whole(3)
    monkeypatch.setattr(decision_replay, "ROWS_AHEAD", 0)
    report = asyncio.run(replay_decisions(log_of(recorder, page_rows=1)))
    assert report.same
    assert report.unchecked > 0


def test_the_command_reports_differences(tmp_path: Path) -> None:
    """Exit code 0 and one line without differences; 1 and a row with one; the report as JSON."""
    recorder, file, url = simulated_whole(1), tmp_path / "log.jsonl", f"sqlite:///{tmp_path}/kernel.db"
    asyncio.run(export_log(log_of(recorder), file))
    asyncio.run(import_log(file, url, exchange_id="paper"))
    same = CliRunner().invoke(cli, ["decisions", "--log", url])
    with planted("the_other_leg_stays"):
        other = CliRunner().invoke(cli, ["decisions", "--log", url])
        told = CliRunner().invoke(cli, ["decisions", "--log", url, "-o", "json"])
    assert (same.exit_code, same.stdout, "none differs" in same.stderr) == (0, "", True)
    assert (other.exit_code, "CANCEL 2" in other.stdout) == (1, True)
    assert json.loads(told.stdout)["same"] is False


def test_a_missing_log_is_an_error(tmp_path: Path) -> None:
    """A missing log is an error, and is not created."""
    ran = CliRunner().invoke(cli, ["decisions", "--log", f"sqlite:///{tmp_path}/none.db"])
    assert (ran.exit_code, [*tmp_path.iterdir()]) == (2, [])
