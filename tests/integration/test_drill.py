"""The one-minute form of the drill (`python -m tests.drill`), its command line and its witness."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.drill.__main__ import main
from tests.drill.acts import kinds_for
from tests.drill.drill import Plan, drill
from tests.drill.report import Report
from tests.drill.rows import Rows
from tests.drill.witness import Witness
from tests.simulation.auditor import Auditor

pytestmark = pytest.mark.xdist_group("processes that are killed")


@pytest.mark.nightly
async def test_a_one_minute_drill() -> None:
    """On PostgreSQL every invariant holds under kills, freezes, cuts and outages, and each kind of act happened."""
    report = await drill(Plan(seconds=60, seed=7, freeze_s_max=6))
    print("\n".join(report.lines()))
    assert report.problems == []
    assert set(report.acts) == set(kinds_for("postgresql"))
    assert report.epochs > 2
    assert report.fills > 0
    assert report.converged_s is not None


async def test_a_short_drill_on_sqlite() -> None:
    """Every invariant holds with a log in a file, which has no outages."""
    report = await drill(Plan(seconds=6, seed=5, log="sqlite", freeze_s_max=2))
    print("\n".join(report.lines()))
    assert report.problems == []
    assert set(report.acts) == set(kinds_for("sqlite"))
    assert report.converged_s is not None


@pytest.mark.parametrize(
    "arguments", [(), ("--minutes", "0"), ("--minutes", "many"), ("--minutes", "1", "--log", "paper"), ("--hours", "1")]
)
def test_bad_arguments_are_errors(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Bad arguments end with code 2 and a sentence."""
    with pytest.raises(SystemExit, match="2"):
        main([*arguments])
    assert "error:" in capsys.readouterr().err


class NoRows(Rows):
    """A log without rows."""

    errors = sqlite3.Error

    def __init__(self) -> None:
        super().__init__("SELECT 1 WHERE ? > ? AND FALSE")

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(":memory:", check_same_thread=False)


async def test_a_request_that_was_not_logged_is_found(tmp_path: Path) -> None:
    """A request that reaches a tap and is not in the log breaks invariant 6."""
    auditor = Auditor(dedupe="WHILE_OPEN", window_ns=5_000_000_000, immediate=False)
    report = Report(1, say=lambda _: None)
    witness = Witness(NoRows(), auditor, report, exchange_address=str(tmp_path / "none.sock"))
    terms = {"symbol_id": "BTCUSDT", "side": "BUY", "quantity": 1, "price": 2}
    request = {"client_order_id": "x", "order": terms, "stamp_ns": 3, "valid_until_ns": 4}
    assert await witness.saw("submit", request, arrived_ns=5)
    assert [problem.invariant for problem in auditor.problems] == [6]
