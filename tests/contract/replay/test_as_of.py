"""What was known at a point of the log, and what lies between two of them, on logs of simulated runs."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from kernel.clock import LoopClock
from kernel.errors import NotFoundError, ValidationError
from kernel.log import LogSettings
from kernel.log.backends.memory import MemoryRecorder
from kernel.log.base import EventLog
from kernel.log.engine.records import event_of
from projections import State
from replay import as_of, diff, history
from replay.histories.state_diff import ChangeKind, StateDiff, field_changes, listing
from replay.log_access.as_of import historic_state_at
from replay.views.describe import page
from replay.views.listing import listing as listed
from replay.views.listing import query_of
from tests.commands import an_append
from tests.contract.backends import Backend
from tests.contract.bench import a_bench, bid, virtual_time
from tests.recorded import log_of, simulated

POSITIONS = 100
"""Of each seed's log."""


@pytest.fixture(params=(4, 15))
def recorded(request: pytest.FixtureRequest) -> MemoryRecorder:
    """The rows of a simulated run."""
    return simulated(request.param)


@pytest.fixture
async def log(recorded: MemoryRecorder) -> AsyncIterator[EventLog]:
    """A log over them."""
    async with log_of(recorded, page_rows=100) as found:
        yield found


async def test_as_of_is_the_fold_up_to_there(log: EventLog) -> None:
    """At a hundred random positions the state is what folding one event after the other comes to."""
    head = (await log.head()).position
    chosen = {0, head, *random.Random(5).sample(range(1, head), POSITIONS)}
    state, expected = State(), {0: State().digest()}
    async for rows in log.read():
        for row in rows:
            state.apply([event_of(row)])
            if row.position in chosen:
                expected[row.position] = state.digest()

    assert len(expected) == POSITIONS + 2
    assert {position: (await as_of(log, position=position)).digest() for position in chosen} == expected


async def test_an_instant_is_all_that_was_recorded_by_then(log: EventLog) -> None:
    """As of the instant of any event, the last event of that instant is known and the next one is not."""
    stamps = [row.recorded_at_ns async for rows in log.read() for row in rows]
    for time_ns in random.Random(6).sample(stamps, 10):
        assert (await as_of(log, time_ns=time_ns)).position == sum(stamp <= time_ns for stamp in stamps)
        assert (await as_of(log, time_ns=time_ns - 1)).position == sum(stamp < time_ns for stamp in stamps)


async def test_nothing_differs_from_itself(log: EventLog) -> None:
    """Of equal points the comparison is empty, wherever they are."""
    head = (await log.head()).position
    for position in (0, 1, head // 2, head):
        assert (await diff(log, position, position)).changes == ()


def mirrored(found: StateDiff) -> set[tuple[str, str, str, tuple[tuple[str, str, str], ...]]]:
    """What differs, seen from the other side."""
    turned = {
        ChangeKind.APPEARED: ChangeKind.WENT,
        ChangeKind.WENT: ChangeKind.APPEARED,
        ChangeKind.CHANGED: ChangeKind.CHANGED,
    }
    return {(item.kind, item.name, turned[item.change], fields_of(item.fields, turned=True)) for item in found.changes}


def fields_of(fields: object, *, turned: bool) -> tuple[tuple[str, str, str], ...]:
    """Fields that differ, in an order of their own."""
    told = [(part.field, repr(part.before), repr(part.after)) for part in fields]  # type: ignore[attr-defined]
    return tuple(sorted((name, after, before) if turned else (name, before, after) for name, before, after in told))


async def test_two_points_compared_backwards_are_the_mirror(log: EventLog) -> None:
    """What appeared from A to B goes from B to A, and every field has its sides exchanged."""
    head = (await log.head()).position
    chance = random.Random(7)
    for _ in range(10):
        a, b = sorted(chance.sample(range(head + 1), 2))
        there, back = await diff(log, a, b), await diff(log, b, a)
        assert (back.a, back.b) == (b, a)
        assert mirrored(there) == {
            (item.kind, item.name, item.change, fields_of(item.fields, turned=False)) for item in back.changes
        }


async def test_a_comparison_names_each_record_that_differs(log: EventLog) -> None:
    """What is compared is what both points list: no record that differs is left out, none that does not is named."""
    head = (await log.head()).position
    a, b = head // 3, head
    before, after = await as_of(log, position=a), await as_of(log, position=b)
    found = await diff(log, a, b)

    named = {item.name: item.change for item in found.changes if item.kind == "intent"}
    known = {intent.intent_id: intent for intent in before.intents()}
    assert named == {
        intent.intent_id: ChangeKind.CHANGED if intent.intent_id in known else ChangeKind.APPEARED
        for intent in after.intents()
        if known.get(intent.intent_id) != intent
    }
    positions = {item.name: item.fields for item in found.changes if item.kind == "position"}
    quantity = {item.symbol_id: item.quantity for item in after.positions()}
    assert {
        name: [part.after for part in fields if part.field == "quantity"] for name, fields in positions.items()
    } == {name: [quantity[name]] if part_differs(before, after, name) else [] for name in positions}


def part_differs(before: State, after: State, symbol_id: str) -> bool:
    """Whether a position's quantity differs."""
    then, now = ({item.symbol_id: item.quantity for item in state.positions()} for state in (before, after))
    return then.get(symbol_id) != now.get(symbol_id)


def test_fields_are_compared_one_by_one() -> None:
    """Entries of a list are told apart by their names, a whole entry is one change, and mere confirmations are none."""
    before = {
        "attempts": [{"position": 4, "outcome": "PENDING"}], "metadata": {"a": {"b": 1}}, "last_sync_at": 1, "x": None,
    }  # fmt: skip
    after = {
        "attempts": [{"position": 9, "outcome": "PENDING"}, {"position": 4, "outcome": "ACCEPTED"}],
        "metadata": {"a": {"b": 2}}, "last_sync_at": 2, "x": {"y": 1},
    }  # fmt: skip

    assert [(part.field, part.before, part.after) for part in field_changes(before, after)] == [
        ("attempts[9]", None, {"position": 9, "outcome": "PENDING"}),
        ("attempts[4].outcome", "PENDING", "ACCEPTED"),
        ("metadata", {"a": {"b": 1}}, {"a": {"b": 2}}),
        ("x", None, {"y": 1}),
    ]


def test_entries_without_names_of_their_own_are_told_apart_by_place() -> None:
    """Two venue orders under one id are still two."""
    before = {"venue_orders": [{"exchange_order_id": "7", "live": True}, {"exchange_order_id": "7", "live": True}]}
    after = {"venue_orders": [{"exchange_order_id": "7", "live": True}, {"exchange_order_id": "7", "live": False}]}

    assert [part.field for part in field_changes(before, after)] == ["venue_orders[1].live"]


@virtual_time
async def test_a_past_is_asked_like_a_live_kernel() -> None:
    """A listing and a page of a point show what a kernel showed then, ages counted from that instant."""
    async with a_bench() as bench:
        await bench.kernel.place_order(bid(), intent_id="mine")
        await bench.kernel.state.reached((await bench.log.head()).position)
        shown = [await listed(bench.kernel, query_of((kind,))) for kind in ("orders", "fills", "account", "symbols")]
        text, then = await page(bench.kernel, ("mine",)), bench.kernel.state.position
        instant_ns = bench.kernel.now_ns
        await bench.kernel.cancel_order("mine")
        await bench.kernel.place_order(bid(), intent_id="later")

        past = await historic_state_at(bench.log, str(then), clock=LoopClock())
        assert past.now_ns <= instant_ns
        assert [await listed(past, query_of((kind,))) for kind in ("orders", "fills", "account", "symbols")] == shown
        assert await page(past, ("mine",)) == text
        assert past.title.startswith(f"as of position {then}, recorded at ")
        with pytest.raises(NotFoundError, match="later not found"):
            await listed(past, query_of(("intent", "later")))


@virtual_time
async def test_a_point_that_is_not_there_is_refused() -> None:
    """A position past the head, an instant without a zone and one that is yet to come name the limit and the value."""
    async with a_bench() as bench:
        head = (await bench.log.head()).position
        for text, problem in (
            (str(head + 1), f"must be between 0 and {head}, the head"),
            ("2023-11-14T22:13:20", "zone"),
            ("2999-01-01T00:00:00Z", "latest"),
        ):
            with pytest.raises(ValidationError, match=problem):
                await historic_state_at(bench.log, text, clock=LoopClock())
        nothing = await historic_state_at(bench.log, "1999-01-01T00:00:00Z", clock=LoopClock())
        assert nothing.title == "as of position 0, before the first event"
        assert (await listed(nothing, query_of(("account",)))).items == ()


@virtual_time
async def test_what_differs_is_told_in_decimals() -> None:
    """A table has a line for each field, in the symbol's own units; programs get the whole of what appeared."""
    async with a_bench() as bench:
        begin = (await bench.log.head()).position
        await bench.kernel.place_order(bid(), intent_id="mine")
        middle = (await bench.log.head()).position
        await bench.kernel.cancel_order("mine")

        appeared = listing(await diff(bench.log, begin, middle))
        changed = listing(await diff(bench.log, middle))
        assert ("intent", "mine", "APPEARED", "-", "<none>", "BUY 0.001 BTCUSDT at 60800.00") in appeared.items[0].lines
        assert appeared.items[0].data["after"]["order"]["quantity"] == "0.00100000"
        told = {line[3]: line[4:] for item in changed.items if item.name == "mine" for line in item.lines}
        assert told["status.ord_status"] == ("NEW", "CANCELED")
        assert told["status.leaves_qty"] == ("0.00100000", "0.00000000")
        assert told["desired"] == ("WORKING", "CANCELED")


async def test_every_backend_answers_alike(backend: Backend) -> None:
    """A point, a comparison and a story of a log on each backend, found page by page."""
    async with backend.open(settings=LogSettings(page_rows=2)) as log:
        for _ in range(4):
            await log.append(an_append("a"))
        assert (await as_of(log, position=3)).position == 3
        assert (await as_of(log)).digest() == (await as_of(log, time_ns=2**62)).digest()
        assert (await diff(log, 5, 2)).changes == ()
        assert [step.event.position for step in (await history(log, "a")).steps] == [2, 3, 4, 5]


async def test_progress_is_of_the_whole(log: EventLog) -> None:
    """Told of two folds, it never goes back, and ends where the later point is."""
    told: list[tuple[int, int]] = []
    head = (await log.head()).position
    await diff(log, head // 2, head, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (head, head)
