"""`what_if`: a log forked, played on in memory with changes, and compared with what was and with the same unchanged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import cli
from kernel.clock import NS_PER_S
from kernel.errors import NotFoundError, ValidationError
from kernel.events import KernelStarted
from kernel.log.backends.memory import MemoryRecorder
from kernel.log.base import StoredRow
from kernel.log.engine.records import event_of
from kernel.settings import KernelSettings
from kernel.venues.paper.faults import fault
from kernel.venues.paper.matching.config import PaperExchangeOptions, TapeTrade
from projections import State
from replay import import_log, what_if
from replay.decisions.decision_replay import recorded_settings
from replay.log_access.log_reader import fold
from replay.whatif.command_replay import AddCommand, AlterTerms, CancelCommand, CommandChange, DropCommands
from replay.whatif.outcomes import WhatIf
from replay.whatif.simulation import SimulationRun, forked
from tests.golden.test_histories import FOLDER, restored
from tests.recorded import log_of, played
from tests.simulation.plan import Plan, from_seed

pytestmark = pytest.mark.xdist_group("what if")  # these share what is costly to make

WORLD = (
    "world seed=1 dedupe=WHILE_OPEN dedupe-for=0 window=2 lookup=closed lag=0 lagging=all amend=IN_PLACE skew=0"
    " cancel-total=yes latency=0 rate=none funds=plenty commit=0 lease=lock workers=2 kernels=1 timeout=0.5 faults=0"
    " accidents=0"
)
SCRIPT = """
at 0.000 A start
at 1.000 A place bid S BUY 6 @9990
at 2.000 A place ask S SELL 4 @10010
at 3.000 - trade S 9980 2
at 10.000 A place more S BUY 5 @9970
at 12.000 A modify bid 8 @9985
at 14.000 - trade S 9980 30
at 16.000 A cancel ask
at 18.000 A group pair OCO S one:BUY:3@9950 two:SELL:3@10050
"""


@pytest.fixture(scope="module")
def recorder() -> MemoryRecorder:
    """A quiet run: two orders, fills, a change, a cancel, a pair."""
    return played(Plan.parse([WORLD, *SCRIPT.strip().splitlines()]))


def at_second(recorder: MemoryRecorder, second: float) -> int:
    """The last position recorded by a second of the run."""
    limit_ns = recorder.rows[0][5] + round(second * NS_PER_S)
    return max(row[0] for row in recorder.rows if row[5] <= limit_ns)


def supposed(recorder: MemoryRecorder, second: float, *changes: CommandChange, **more: Any) -> WhatIf:
    more = {"run_for_s": 16.0} | more
    return asyncio.run(what_if(log_of(recorder), position=at_second(recorder, second), changes=changes, **more))


def test_unchanged_it_comes_to_what_was_recorded(recorder: MemoryRecorder) -> None:
    """At a venue like the recorded one, with the fills of the log as the market, the same orders fill alike."""
    found = supposed(recorder, 5)
    assert found.unchanged == found.changed
    assert found.unchanged.orders == found.recorded.orders
    assert found.unchanged.positions["S"].quantity == found.recorded.positions["S"].quantity
    assert (found.unchanged.fills, found.unchanged.findings, found.unchanged.refused) == (found.recorded.fills, {}, ())


def test_what_was_filled_before_the_fork_stays_filled(recorder: MemoryRecorder) -> None:
    """An order that works at the fork keeps its id, its fills and its place; balances show no drift."""
    found = supposed(recorder, 5, run_for_s=4.0)
    (bid, ask) = (found.changed.orders[name] for name in ("bid", "ask"))
    assert (bid.cum_qty, bid.quantity, bid.ord_status, bid.reconciliation_status) == (
        2,
        6,
        "PARTIALLY_FILLED",
        "SYNCED",
    )
    assert (ask.ord_status, found.changed.fills, found.changed.findings) == ("NEW", 0, {})


def test_an_order_is_never_placed(recorder: MemoryRecorder) -> None:
    """Without it there is neither the order nor its fills; the others are as they were."""
    found = supposed(recorder, 5, DropCommands("more"))
    assert "more" in found.unchanged.orders
    assert "more" not in found.changed.orders
    assert found.changed.orders["ask"] == found.unchanged.orders["ask"]


def test_a_group_is_dropped_whole(recorder: MemoryRecorder) -> None:
    """By its own id all its orders go; by the id of one of them nothing can be dropped."""
    found = supposed(recorder, 5, DropCommands("pair"))
    assert {"one", "two"} <= found.unchanged.orders.keys()
    assert found.changed.orders.keys().isdisjoint({"one", "two"})
    with pytest.raises(ValidationError, match="dropped whole"):
        supposed(recorder, 5, DropCommands("one"))


@pytest.mark.parametrize("price", [9_960, "99.60"], ids=["integer", "decimal"])
def test_an_order_has_another_price(recorder: MemoryRecorder, price: int | str) -> None:
    """Placed elsewhere, it is not filled by the trades that filled it; a price may be a decimal in text."""
    found = supposed(recorder, 9, AlterTerms("more", {"price": price}))
    assert found.changed.orders["more"].price == 9_960
    assert found.changed.orders["more"].ord_status == "NEW"


def test_an_order_from_before_the_fork_is_changed_there(recorder: MemoryRecorder) -> None:
    """What works already gets its other terms at the fork."""
    found = supposed(recorder, 5, AlterTerms("ask", {"quantity": 1}), run_for_s=4.0)
    assert (found.unchanged.orders["ask"].quantity, found.changed.orders["ask"].quantity) == (4, 1)


def test_an_order_of_a_group_is_altered(recorder: MemoryRecorder) -> None:
    """Its siblings stay as they were."""
    orders = supposed(recorder, 17, AlterTerms("two", {"price": 10_080})).changed.orders
    assert (orders["one"].price, orders["two"].price) == (9_950, 10_080)


def test_an_order_is_canceled_earlier(recorder: MemoryRecorder) -> None:
    """A command that the original did not have is given at its instant; what follows finds it canceled."""
    fork_ns = recorder.rows[at_second(recorder, 5) - 1][5]
    found = supposed(recorder, 5, AddCommand(fork_ns + NS_PER_S, CancelCommand("bid")))
    assert (found.changed.orders["bid"].ord_status, found.changed.orders["bid"].cum_qty) == ("CANCELED", 2)
    assert any("modify bid" in text for text in found.changed.refused)


def test_a_fault_befalls_the_changed_run_alone(recorder: MemoryRecorder) -> None:
    """A request that did not leave is sent again: the same order in the end, with one attempt more."""
    found = supposed(recorder, 9, faults=[fault("not_sent", "submit")], run_for_s=8.0)
    assert found.changed.orders["more"].ord_status == found.unchanged.orders["more"].ord_status == "NEW"
    assert found.changed.position == found.unchanged.position + 2


def test_other_settings_are_those_of_the_changed_run(recorder: MemoryRecorder) -> None:
    """A limit that the kernel did not have refuses what was placed."""
    limits = {"default": {"order_quantity_max": "0.03"}}
    found = supposed(recorder, 9, settings={"limits": limits})
    assert "more" in found.unchanged.orders
    assert any("order more" in text for text in found.changed.refused)


def test_a_tape_is_the_market(recorder: MemoryRecorder) -> None:
    """With a tape our fills of the original do not happen by themselves."""
    tape = (TapeTrade(1, 10_100, 50, 1_700_000_000 * NS_PER_S, False),)
    found = supposed(recorder, 9, venue=PaperExchangeOptions(tape=tape, symbol="S"))
    assert found.changed.orders["ask"].ord_status == "FILLED"
    assert found.unchanged.orders["ask"].ord_status == "CANCELED"


def test_the_same_gives_the_same() -> None:
    """Changes, seed and log decide the outcome, also of a run that was full of faults."""
    recorder = played(from_seed(2))

    def once() -> WhatIf:
        return asyncio.run(
            what_if(log_of(recorder), position=60, seed=5, run_for_s=10, faults=[fault("not_sent", "submit")])
        )

    first, again = once(), once()
    assert (first.changed, first.unchanged) == (again.changed, again.unchanged)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_any_history_can_be_played_on(path: Path) -> None:
    """From the middle of each golden history: its rows are kept byte for byte, and the kernel goes on."""
    kept: list[list[Any]] = []

    def note(self: SimulationRun, kernel: Any, recorder: MemoryRecorder, exchange: Any) -> Any:
        kept.append(recorder.rows)
        return outcome(self, kernel, recorder, exchange)

    outcome, recorder = SimulationRun._outcome, restored(path)
    middle = between_appends(recorder, len(recorder.rows) // 2)
    with pytest.MonkeyPatch.context() as watched:
        watched.setattr(SimulationRun, "_outcome", note)
        found = asyncio.run(what_if(log_of(recorder), position=middle, run_for_s=30))
    assert [rows[:middle] for rows in kept] == [recorder.rows[:middle]] * 2
    assert found.unchanged.position > middle


def between_appends(recorder: MemoryRecorder, position: int) -> int:
    """The end of the append that a position is in."""
    rows = recorder.rows
    while position < len(rows) and rows[position][6] == rows[position - 1][6]:
        position += 1
    return position


def test_the_fork_is_what_the_log_says(recorder: MemoryRecorder) -> None:
    """Rows of a fork fold to the state of the log there, and client order ids go on as the log's own."""
    position = at_second(recorder, 5)
    found: list[Any] = []

    def note(self: SimulationRun, kernel: Any, forked: MemoryRecorder, exchange: Any) -> Any:
        found.append((forked.identity(), [event_of(StoredRow(*row)) for row in forked.rows[:position]]))
        return outcome(self, kernel, forked, exchange)

    outcome = SimulationRun._outcome
    with pytest.MonkeyPatch.context() as watched:
        watched.setattr(SimulationRun, "_outcome", note)
        supposed(recorder, 5, run_for_s=1.0)
    state = State()
    state.apply(found[0][1])
    original = asyncio.run(fold(log_of(recorder), State(), upto=position))
    assert (state.digest(), found[0][0]) == (original.digest(), recorder.identity())


def test_a_fork_goes_by_the_settings_that_were_recorded(recorder: MemoryRecorder) -> None:
    """Not by the defaults: those of the newest leader before it."""
    position = at_second(recorder, 5)
    told = [event_of(StoredRow(*row)) for row in recorder.rows[:position]]
    started = [event for event in told if isinstance(event, KernelStarted)][-1]
    found = asyncio.run(forked(log_of(recorder), position, 1.0)).settings
    assert found == recorded_settings(started.settings)
    assert found != KernelSettings.model_construct()


BAD: dict[str, Callable[[MemoryRecorder], WhatIf]] = {
    "dropped, and placed before": lambda rows: supposed(rows, 5, DropCommands("bid")),
    "dropped, and never placed": lambda rows: supposed(rows, 5, DropCommands("nobody")),
    "altered, and never placed": lambda rows: supposed(rows, 5, AlterTerms("nobody", {"price": 1})),
    "no such term": lambda rows: supposed(rows, 5, AlterTerms("more", {"colour": "red"})),
    "no such price": lambda rows: supposed(rows, 5, AlterTerms("more", {"price": "99.601"})),
    "before the fork": lambda rows: supposed(rows, 5, AddCommand(0, CancelCommand("bid"))),
    "no such setting": lambda rows: supposed(rows, 5, settings={"speed": 1}),
    "no time": lambda rows: supposed(rows, 5, run_for_s=0),
    "beyond the head": lambda rows: asyncio.run(what_if(log_of(rows), position=10_000)),
    "before the first event": lambda rows: asyncio.run(what_if(log_of(rows), position=0)),
    "before any market": lambda rows: asyncio.run(what_if(log_of(rows), position=1)),
    "both": lambda rows: asyncio.run(what_if(log_of(rows), position=5, time_ns=5)),
}


@pytest.mark.parametrize("name", BAD)
def test_what_can_not_be_is_refused(recorder: MemoryRecorder, name: str) -> None:
    """Each is a clear error, and nothing is played."""
    before = len(recorder.rows)
    with pytest.raises(ValidationError) as problem:
        BAD[name](recorder)
    assert len(str(problem.value)) > 20
    assert len(recorder.rows) == before


def test_a_fork_is_never_amid_an_append(recorder: MemoryRecorder) -> None:
    """A fork inside a group of events appended together is refused; the error names the end of the group."""
    amid = next(row[0] for row in recorder.rows if row[3] == "GroupCreated")
    with pytest.raises(
        ValidationError, match=f"position {amid} is inside a group of events appended together; use {amid + 2}"
    ):
        asyncio.run(what_if(log_of(recorder), position=amid))


async def test_it_can_be_stopped(recorder: MemoryRecorder) -> None:
    """Cancelled while it plays a month, it ends."""
    plays = asyncio.Event()
    work = what_if(log_of(recorder), position=17, run_for_s=86_400 * 31, progress=lambda done, total: plays.set())
    task = asyncio.create_task(work)
    await plays.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_log_is_needed() -> None:
    """There is nothing to fork in a new log."""
    with pytest.raises(NotFoundError):
        asyncio.run(what_if("memory://", position=1))


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A golden history in a database."""
    found = f"sqlite:///{tmp_path}/kernel.db"
    asyncio.run(import_log(FOLDER / "a_crash_in_the_middle.jsonl", found, exchange_id="paper"))
    return found


def test_the_verb_shows_three_outcomes(url: str) -> None:
    """A row for each thing, marked where the changes made a difference; JSON has the three with decimals."""
    given = ["what-if", "--log", url, "--at", "14", "--set", "i2", "price=100.20", "--for", "20s"]
    table, programs = (CliRunner().invoke(cli, [*given, "-o", form]) for form in ("table", "json"))
    assert (table.exit_code, programs.exit_code) == (0, 0)
    (row,) = [line for line in table.stdout.splitlines() if line.startswith("order") and "i2" in line]
    assert row.endswith("*")
    data = json.loads(programs.stdout)
    (order,) = [item for item in data["changed"]["orders"] if item["intent_id"] == "i2"]
    assert (order["price"], data["position"]) == ("100.20", 14)


@pytest.mark.parametrize(
    "bad",
    [
        ["--at", "yesterday"],
        ["--at", "14", "--set", "i2", "price"],
        ["--at", "14", "--setting", "workers=none"],
        ["--at", "14", "--setting", "limits={"],
        ["--at", "14", "--fault", "rain", "submit"],
        ["--at", "14", "--tape", "no-such-file.csv", "--symbol", "S"],
        ["--at", "1970-01-01T00:00:00Z"],
    ],
    ids=lambda bad: " ".join(bad),
)
def test_bad_words_are_errors(url: str, bad: list[str]) -> None:
    """Each has an exit code and a line that says what is wrong, without a traceback."""
    ran = CliRunner().invoke(cli, ["what-if", "--log", url, *bad])
    assert (ran.exit_code in (2, 5), ran.stdout, "Traceback" in ran.stderr) == (True, "", False)
    assert ran.stderr.strip()
