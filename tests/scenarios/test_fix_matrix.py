"""The FIX order state matrix is derived: no report's own status or total is used.

`KERNEL_FIX_MATRIX=FILE pytest tests/scenarios/test_fix_matrix.py` runs another file of the same form.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from kernel.events import BaseEvent, OrderReport
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.orders.order_facts import CumEvidence, OrderFacts, with_rare
from kernel.lifecycle.orders.trades import NO_TRADES
from kernel.lifecycle.record import Record
from tests.scenarios import fix_matrix
from tests.scenarios.fix_matrix import Options, Scenario

SHIPPED = ("fix_order_state_matrix.yaml", "more_order_states.yaml")
VARIANTS = {
    "as it is": Options(),
    "doubled": Options(doubled=True),
    "with order ids": Options(named=True),
    "doubled, with order ids": Options(doubled=True, named=True),
    "with true totals": Options(totals=True),
    "doubled, with true totals": Options(doubled=True, named=True, totals=True),
}


def scenarios() -> list[Scenario]:
    given = os.environ.get("KERNEL_FIX_MATRIX")
    here = Path(__file__).parent
    paths = [Path(given)] if given else [here / name for name in SHIPPED]
    return [scenario for path in paths for scenario in fix_matrix.load(path)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "scenario" in metafunc.fixturenames:
        found = scenarios()
        metafunc.parametrize("scenario", found, ids=[scenario.name for scenario in found])


def test_states_are_derived(scenario: Scenario) -> None:
    """After each row OrdStatus, CumQty, LeavesQty and AvgPx equal the row's, in every way of feeding its reports."""
    for name, options in VARIANTS.items():
        assert fix_matrix.check(scenario, options) == [], name


def test_neighbours_may_change_places(scenario: Scenario) -> None:
    """Two reports that cross, or two of trades and acceptances in the other order, end in the same state."""
    for place in scenario.swaps:
        for name, options in VARIANTS.items():
            assert fix_matrix.check(scenario.swapped(place), options, moved=place) == [], (place, name)


def test_delayed_repeats_change_nothing(scenario: Scenario) -> None:
    """Repeating every report, totals included and the oldest last, leaves each order unchanged."""
    assert fix_matrix.delayed_repeats(scenario) == []


def test_trusting_totals_fails() -> None:
    """A fold that takes the newest report's total for the truth is caught wherever the first report's total is passed."""
    moved = [scenario for scenario in scenarios() if total_moves(scenario)]
    missed = [scenario.name for scenario in moved if not fix_matrix.delayed_repeats(scenario, trusting)]
    assert moved
    assert missed == []


def total_moves(scenario: Scenario) -> bool:
    """Whether the scenario's one order ends with another total than its first report has."""
    orders = [row for _, row in scenario.rows if row["msg"] == "NewOrderSingle"]
    totals = [row["cum_qty"] for _, row in scenario.rows if row["sender"] == "sell" and row.get("cum_qty") is not None]
    return len(orders) == 1 and bool(totals) and totals[0] != totals[-1]


def trusting(record: Record, event: BaseEvent) -> Record:
    """`evolve`, but the total of the last received report replaces the trades."""
    after = evolve(record, event)
    if not isinstance(event, OrderReport) or event.cum_qty is None:
        return after
    total = CumEvidence(2**62, event.cum_qty)
    return replace(after, orders=tuple(overwritten(facts, total) for facts in after.orders))


def overwritten(facts: OrderFacts, total: CumEvidence) -> OrderFacts:
    return with_rare(replace(facts, trades=NO_TRADES, evidence=(total,)), busts=())
