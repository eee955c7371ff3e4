"""The stores' contract: one suite over the plain stores and those on a log, then what only a log can promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel import events
from kernel.clock import NS_PER_S
from kernel.errors import AlreadyExistsError, ConflictError, IntegrityError, NotFoundError, ValidationError
from kernel.log import open_log
from kernel.models import (
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Desired,
    Evidence,
    ExecType,
    OrdStatus,
    ReconciliationStatus,
    UnsolicitedCancelPolicy,
)
from kernel.venues.base import ExecutionReport
from projections import State
from projections.stores import following
from tests.contract.backends import MemoryBackend
from tests.paper_world import HandClock
from tests.store_world import (
    EXCHANGE,
    LogWorld,
    StoreWorld,
    a_log_world,
    a_plain_world,
    a_report,
    a_state,
    a_venue_order,
    an_intent,
    an_order,
)


@pytest.fixture
def clock() -> HandClock:
    """The clock of stores and log."""
    return HandClock()


@pytest.fixture(params=["memory", "sqlite"])
async def logged(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> AsyncIterator[LogWorld]:
    """Stores on each kind of log that needs no server."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'log.db'}"
    async with open_log(url, exchange_id=EXCHANGE, clock=clock) as log, a_log_world(log, clock) as world:
        yield world


@pytest.fixture(params=["plain", "memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> AsyncIterator[StoreWorld]:
    """Each kind of stores in turn."""
    async with AsyncExitStack() as stack:
        if request.param == "plain":
            yield a_plain_world(clock)
            return
        url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'log.db'}"
        log = await stack.enter_async_context(open_log(url, exchange_id=EXCHANGE, clock=clock))
        yield await stack.enter_async_context(a_log_world(log, clock))


async def intent_ids(world: StoreWorld, *, symbol_id: str | None = None, group_id: str | None = None) -> list[str]:
    return [intent.intent_id for intent in await world.intents.list_intents(symbol_id, group_id)]


async def state_ids(
    world: StoreWorld, *, symbol_id: str | None = None, status: ReconciliationStatus | None = None
) -> list[str]:
    return [state.intent_id for state in await world.actual.list_order_states(symbol_id, status)]


# ------------------------------------------------------------------------------------------------------- intents: both
async def test_an_intent_is_read_as_it_was_created(world: StoreWorld) -> None:
    """Every field of a created intent comes back, generation and times as given."""
    intent = an_intent(
        group_id="g1",
        generation=7,
        desired=Desired.CANCELED,
        on_unsolicited_cancel=UnsolicitedCancelPolicy.RECREATE,
        owner="mm-1",
        metadata={"ladder": [1, 2.5, None, {"é": "ü\n"}], "big": 2**63},
        created_at_ns=5,
        updated_at_ns=6,
    )
    await world.intents.create_intent(intent)
    assert await world.intents.get_intent("i1") == intent


async def test_an_id_is_created_once(world: StoreWorld) -> None:
    """Creating an id that exists is an AlreadyExistsError, which is a ValueError, and changes nothing."""
    await world.intents.create_intent(an_intent())
    with pytest.raises(AlreadyExistsError, match="i1"):
        await world.intents.create_intent(an_intent(order=an_order("ETHUSDT")))
    with pytest.raises(ValueError, match="already exists"):
        await world.intents.create_intent(an_intent())
    assert await world.intents.get_intent("i1") == an_intent()


async def test_of_many_who_create_an_id_one_succeeds(world: StoreWorld) -> None:
    """Two creates at once of one id: one is stored, the others are told that it exists."""
    made = [world.intents.create_intent(an_intent(owner=str(number))) for number in range(5)]
    results = await asyncio.gather(*made, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["AlreadyExistsError"] * 4 + ["NoneType"]


@pytest.mark.parametrize("kind", [NotFoundError, KeyError])
async def test_an_unknown_intent_is_not_found(world: StoreWorld, kind: type[Exception]) -> None:
    """Read, update and delete of an unknown intent are a NotFoundError, which is a KeyError."""
    await world.intents.create_intent(an_intent("other"))
    with pytest.raises(kind, match="i1"):
        await world.intents.get_intent("i1")
    with pytest.raises(kind, match="i1"):
        await world.intents.update_intent(an_intent())
    with pytest.raises(kind, match="i1"):
        await world.intents.delete_intent("i1")
    assert await intent_ids(world) == ["other"]


async def test_a_change_of_the_order_is_a_new_generation(world: StoreWorld) -> None:
    """A change of `order` or `desired` adds one to the generation; the store sets the time of it, and keeps that of
    creation."""
    await world.intents.create_intent(an_intent(created_at_ns=5, updated_at_ns=5))
    world.clock.forward(3)
    given_intent = an_intent(order=an_order(quantity=50), created_at_ns=99, updated_at_ns=99)
    await world.intents.update_intent(given_intent)
    stored = await world.intents.get_intent("i1")
    assert (stored.generation, stored.created_at_ns, stored.updated_at_ns) == (2, 5, world.clock.now_ns())
    assert stored.order == an_order(quantity=50)
    await world.intents.update_intent(stored.model_copy(update={"desired": Desired.CANCELED}))
    assert (await world.intents.get_intent("i1")).generation == 3


async def test_other_changes_are_no_new_generation(world: StoreWorld) -> None:
    """A change of owner, group, policy or metadata keeps the generation and sets the time of update."""
    await world.intents.create_intent(an_intent(created_at_ns=5))
    world.clock.forward(1)
    changed = an_intent(
        owner="b", group_id="g", metadata={"a": 1}, on_unsolicited_cancel=UnsolicitedCancelPolicy.RECREATE
    )
    await world.intents.update_intent(changed)
    expected = {"created_at_ns": 5, "updated_at_ns": world.clock.now_ns()}
    assert await world.intents.get_intent("i1") == changed.model_copy(update=expected)


async def test_an_older_generation_is_a_conflict(world: StoreWorld) -> None:
    """A write that was made from an older record is refused and changes nothing; a higher number given is not taken."""
    await world.intents.create_intent(an_intent())
    await world.intents.update_intent(an_intent(order=an_order(quantity=50)))
    known = await world.intents.get_intent("i1")
    with pytest.raises(ConflictError, match="generation 2, given 1"):
        await world.intents.update_intent(an_intent(order=an_order(quantity=60)))
    assert await world.intents.get_intent("i1") == known
    await world.intents.update_intent(known.model_copy(update={"generation": 9}))
    assert (await world.intents.get_intent("i1")).generation == 2


async def test_of_two_writers_with_one_generation_one_wins(world: StoreWorld) -> None:
    """Two changes of the order made from one record: the second is a conflict, not a lost update."""
    await world.intents.create_intent(an_intent())
    changes = [world.intents.update_intent(an_intent(order=an_order(quantity=size))) for size in (50, 60)]
    results = await asyncio.gather(*changes, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ConflictError", "NoneType"]
    assert (await world.intents.get_intent("i1")).generation == 2


async def test_a_deleted_intent_is_gone(world: StoreWorld) -> None:
    """After a delete, the intent is not found and in no list; its id may be created again, and comes last then."""
    for intent_id in ("i1", "i2"):
        await world.intents.create_intent(an_intent(intent_id, group_id="g"))
    await world.intents.delete_intent("i1")
    with pytest.raises(NotFoundError):
        await world.intents.get_intent("i1")
    for found in (await intent_ids(world), await intent_ids(world, symbol_id="BTCUSDT")):
        assert found == ["i2"]
    assert [intent.intent_id for intent in await world.intents.get_intents_by_group("g")] == ["i2"]
    await world.intents.create_intent(an_intent("i1", group_id="g"))
    assert await intent_ids(world) == await intent_ids(world, symbol_id="BTCUSDT") == ["i2", "i1"]
    assert await intent_ids(world, group_id="g") == ["i2", "i1"]


async def test_lists_are_in_order_of_creation(world: StoreWorld) -> None:
    """Whatever was updated since, and whatever the filter, lists are in order of creation."""
    for intent_id in ("c", "a", "b"):
        await world.intents.create_intent(an_intent(intent_id, group_id="g" if intent_id != "b" else None))
    await world.intents.update_intent(an_intent("c", order=an_order("ETHUSDT"), group_id="g"))
    await world.intents.update_intent(an_intent("c", generation=2, order=an_order("BTCUSDT"), group_id="g"))
    await world.intents.update_intent(an_intent("b", group_id="g"))
    assert await intent_ids(world) == ["c", "a", "b"]
    assert await intent_ids(world, symbol_id="BTCUSDT") == ["c", "a", "b"]
    assert await intent_ids(world, group_id="g") == ["c", "a", "b"]


async def test_filters_combine(world: StoreWorld) -> None:
    """Symbol and group filter alone and together; what nobody has is an empty list, not an error."""
    await world.intents.create_intent(an_intent("a", group_id="g"))
    await world.intents.create_intent(an_intent("b", group_id="g", order=an_order("ETHUSDT")))
    await world.intents.create_intent(an_intent("c"))
    assert await intent_ids(world, symbol_id="BTCUSDT") == ["a", "c"]
    assert await intent_ids(world, group_id="g") == ["a", "b"]
    assert await intent_ids(world, symbol_id="BTCUSDT", group_id="g") == ["a"]
    assert await intent_ids(world, symbol_id="XRPUSDT") == await intent_ids(world, group_id="none") == []
    assert await intent_ids(world, symbol_id="", group_id="") == await intent_ids(world, symbol_id="") == []
    assert await world.intents.get_intents_by_group("none") == []


async def test_lists_follow_a_change_of_symbol_and_group(world: StoreWorld) -> None:
    """An intent that moved to another symbol or group is found there alone."""
    await world.intents.create_intent(an_intent("a", group_id="g"))
    await world.intents.update_intent(an_intent("a", group_id="h", order=an_order("ETHUSDT")))
    assert await intent_ids(world, symbol_id="BTCUSDT") == await intent_ids(world, group_id="g") == []
    assert await intent_ids(world, symbol_id="ETHUSDT", group_id="h") == ["a"]
    await world.intents.update_intent(an_intent("a", generation=2, order=an_order("ETHUSDT")))
    assert await world.intents.get_intents_by_group("h") == []


async def test_a_list_is_the_callers_own(world: StoreWorld) -> None:
    """What a caller does to a list does nothing to the store."""
    await world.intents.create_intent(an_intent())
    await world.actual.create_order_state(a_state())
    for found in (await world.intents.list_intents(), await world.actual.list_order_states()):
        found.clear()
    assert (await intent_ids(world), await state_ids(world)) == (["i1"], ["i1"])


# -------------------------------------------------------------------------------------------------- order states: both
A_RICH_STATE = a_state(
    ord_status=OrdStatus.PARTIALLY_FILLED,
    cum_qty=40,
    exchange_order_id="o2",
    client_order_id="c2",
    reconciliation_status=ReconciliationStatus.BACKING_OFF,
    observed_generation=3,
    attempts=(
        Attempt(
            number=2,
            kind=AttemptKind.SUBMIT,
            position=4,
            outcome=AttemptOutcome.DEAD,
            client_order_id="c1",
            generation=2,
            list_look_ended_ns=4,
        ),
        Attempt(
            number=3,
            kind=AttemptKind.CANCEL,
            position=5,
            outcome=AttemptOutcome.UNKNOWN,
            client_order_id="c3",
            target_client_order_id="c2",
        ),
    ),
    venue_orders=(
        a_venue_order("o1", "c1", live=False, ord_status=OrdStatus.CANCELED, cum_qty=10, final_cum_qty=10),
        a_venue_order("o2", "c2", cum_qty=30, inferred_qty=5, first_seen_ns=8, last_seen_ns=9, solicited=True),
    ),
    failures=2,
    failed_generation=1,
    not_before_ns=77,
    last_sync_at=1_699_999_999.5,
)


@pytest.mark.parametrize("state", [a_state(), A_RICH_STATE], ids=["bare", "rich"])
async def test_a_state_is_read_as_it_was_written(world: StoreWorld, state: object) -> None:
    """Every field of a state comes back after a create and after an update, also where it has no exchange order id."""
    written = a_state().model_validate(state)
    await world.actual.create_order_state(written)
    assert await world.actual.get_order_state("i1") == written
    for again in (A_RICH_STATE, written):
        await world.actual.update_order_state(again)
        assert await world.actual.get_order_state("i1") == again


async def test_a_state_is_created_once(world: StoreWorld) -> None:
    """Creating a state that exists is an AlreadyExistsError, which is a ValueError, and changes nothing."""
    await world.actual.create_order_state(a_state())
    with pytest.raises(AlreadyExistsError, match="i1"):
        await world.actual.create_order_state(a_state(failures=1))
    with pytest.raises(ValueError, match="already exists"):
        await world.actual.create_order_state(a_state())
    assert await world.actual.get_order_state("i1") == a_state()


@pytest.mark.parametrize("kind", [NotFoundError, KeyError])
async def test_an_unknown_state_is_not_found(world: StoreWorld, kind: type[Exception]) -> None:
    """Read, update and delete of an unknown state are a NotFoundError; an intent without a state has none."""
    await world.intents.create_intent(an_intent())
    with pytest.raises(kind, match="i1"):
        await world.actual.get_order_state("i1")
    with pytest.raises(kind, match="i1"):
        await world.actual.update_order_state(a_state())
    with pytest.raises(kind, match="i1"):
        await world.actual.delete_order_state("i1")
    with pytest.raises(kind, match="o1"):
        await world.actual.get_order_state_by_exchange_id("o1")


async def test_a_state_is_found_by_its_exchange_id(world: StoreWorld) -> None:
    """The look-up follows the exchange order id: none at first, then one, then another; the old one is not found then."""
    await world.actual.create_order_state(a_state())
    await world.actual.create_order_state(a_state("i2", exchange_order_id="o9"))
    with pytest.raises(NotFoundError):
        await world.actual.get_order_state_by_exchange_id("")
    for order_id in ("o1", "o2"):
        await world.actual.update_order_state(a_state(exchange_order_id=order_id, client_order_id="c1"))
        assert (await world.actual.get_order_state_by_exchange_id(order_id)).intent_id == "i1"
    with pytest.raises(NotFoundError, match="o1"):
        await world.actual.get_order_state_by_exchange_id("o1")
    await world.actual.update_order_state(a_state())
    with pytest.raises(NotFoundError, match="o2"):
        await world.actual.get_order_state_by_exchange_id("o2")
    assert (await world.actual.get_order_state_by_exchange_id("o9")).intent_id == "i2"


async def test_an_exchange_id_may_move_to_another_intent(world: StoreWorld) -> None:
    """An exchange order id that was corrected from one intent to another is found there."""
    await world.actual.create_order_state(a_state(exchange_order_id="o1"))
    await world.actual.update_order_state(a_state(exchange_order_id="o2"))
    await world.actual.create_order_state(a_state("i2", exchange_order_id="o1"))
    assert (await world.actual.get_order_state_by_exchange_id("o1")).intent_id == "i2"
    await world.actual.delete_order_state("i2")
    await world.actual.update_order_state(a_state(exchange_order_id="o1"))
    assert (await world.actual.get_order_state_by_exchange_id("o1")).intent_id == "i1"


async def test_a_deleted_state_is_gone(world: StoreWorld) -> None:
    """A deleted state is not found by either id and in no list; it may be created again, and comes last then."""
    for intent_id, order_id in (("i1", "o1"), ("i2", "o2")):
        await world.actual.create_order_state(a_state(intent_id, exchange_order_id=order_id))
    await world.actual.delete_order_state("i1")
    with pytest.raises(NotFoundError):
        await world.actual.get_order_state("i1")
    with pytest.raises(NotFoundError):
        await world.actual.get_order_state_by_exchange_id("o1")
    assert await state_ids(world) == ["i2"]
    again = a_state(exchange_order_id="o3")
    await world.actual.create_order_state(again)
    assert await world.actual.get_order_state("i1") == again
    assert await state_ids(world) == ["i2", "i1"]


async def test_states_are_listed_by_symbol_and_status(world: StoreWorld) -> None:
    """Lists are in order of creation, filter by symbol, by status and by both, and follow updates."""
    synced, failed = ReconciliationStatus.SYNCED, ReconciliationStatus.FAILED
    await world.actual.create_order_state(a_state("c", reconciliation_status=synced))
    await world.actual.create_order_state(a_state("a", order=an_order("ETHUSDT"), reconciliation_status=synced))
    await world.actual.create_order_state(a_state("b"))
    assert await state_ids(world) == ["c", "a", "b"]
    await world.actual.update_order_state(a_state("c", order=an_order("ETHUSDT"), reconciliation_status=failed))
    assert await state_ids(world, symbol_id="ETHUSDT") == ["c", "a"]
    assert await state_ids(world, symbol_id="BTCUSDT") == ["b"]
    assert await state_ids(world, status=synced) == ["a"]
    assert await state_ids(world, symbol_id="ETHUSDT", status=failed) == ["c"]
    assert await state_ids(world, symbol_id="none") == await state_ids(world, symbol_id="BTCUSDT", status=failed) == []


async def test_stale_orders_are_told_by_the_clock(world: StoreWorld) -> None:
    """Stale is what was confirmed longer ago than asked, by the store's clock, to the fraction of a second."""
    now_s = world.clock.now_ns() // NS_PER_S
    for intent_id, last_sync_at in (("old", now_s - 61), ("even", now_s - 60), ("new", now_s - 59.5), ("never", 0)):
        await world.actual.create_order_state(a_state(intent_id, last_sync_at=last_sync_at))

    async def stale() -> list[str]:
        return [state.intent_id for state in await world.actual.get_stale_orders(60)]

    assert await stale() == ["old", "never"]
    world.clock.forward(0.25)
    assert await stale() == ["old", "even", "never"]
    world.clock.forward(0.5)
    assert await stale() == ["old", "even", "new", "never"]
    await world.actual.update_order_state(a_state("old", last_sync_at=now_s))
    assert "old" not in await stale()


async def test_a_state_may_come_before_its_intent(world: StoreWorld) -> None:
    """The two stores are two: a state that was written before the intent, or whose intent changed in name alone, reads
    as written; where the order wanted changed, what was written of the order at the venue stays; a deleted state leaves
    the intent."""
    state = a_state(exchange_order_id="o1", ord_status=OrdStatus.CANCELED, failures=1)
    await world.actual.create_order_state(state)
    await world.intents.create_intent(an_intent())
    assert await world.actual.get_order_state("i1") == state
    await world.intents.update_intent(an_intent(owner="b"))
    assert await world.actual.get_order_state("i1") == state
    await world.intents.update_intent(an_intent(order=an_order(quantity=7)))
    assert (await world.actual.get_order_state("i1")).status == state.status
    await world.actual.delete_order_state("i1")
    assert await intent_ids(world) == ["i1"]


async def test_what_could_not_be_read_again_is_refused(world: StoreWorld) -> None:
    """A record that was built past its model's checks, or that JSON can't hold, is a ValidationError; nothing is stored."""
    bad_order = an_order().model_copy(update={"quantity": -1})
    for intent in (
        an_intent().model_copy(update={"order": bad_order}),
        an_intent().model_copy(update={"metadata": {"a": object()}}),
    ):
        with pytest.raises(ValidationError):
            await world.intents.create_intent(intent)
    with pytest.raises(ValidationError):
        await world.actual.create_order_state(a_state().model_copy(update={"failures": "many"}))
    assert (await intent_ids(world), await state_ids(world)) == ([], [])


async def test_what_was_written_does_not_follow_its_writer(world: StoreWorld) -> None:
    """A store keeps what it was given, whatever the writer does to its own copy afterwards."""
    metadata = {"a": [1]}
    await world.intents.create_intent(an_intent(metadata=metadata))
    metadata["a"].append(2)
    metadata["b"] = []
    assert (await world.intents.get_intent("i1")).metadata == {"a": [1]}


# ---------------------------------------------------------------------------------------------------- on a log: writes
async def test_a_write_is_one_event_with_the_whole_record(logged: LogWorld) -> None:
    """Each write is one event of the intent's stream: the record whole, on an operator's word, from one actor."""
    await logged.intents.create_intent(an_intent())
    await logged.intents.update_intent(an_intent(order=an_order(quantity=50)))
    await logged.actual.create_order_state(A_RICH_STATE)
    closed = a_state(ord_status=OrdStatus.CANCELED, exchange_order_id="o2")
    await logged.actual.update_order_state(closed)
    stored = await logged.intents.get_intent("i1")
    await logged.actual.delete_order_state("i1")
    await logged.intents.delete_intent("i1")
    stream = [event for event in await logged.stream("i1") if not isinstance(event, FINDINGS)]
    assert stream == [
        events.IntentCreated(intent=an_intent()),
        events.IntentModified(intent=stored),
        events.OrderStateRecorded(state=A_RICH_STATE, created=True),
        events.OrderStateRecorded(state=closed, created=False),
        events.OrderStateForgotten(intent_id="i1"),
        events.IntentDeleted(intent_id="i1"),
    ]
    assert {event.evidence for event in stream} == {Evidence.OPERATOR}
    assert {event.actor for event in stream} == {"operator:store"}


FINDINGS = (events.FindingRaised, events.FindingResolved)


async def test_a_refused_write_leaves_no_event(logged: LogWorld) -> None:
    """What is refused is not in the log."""
    await logged.intents.create_intent(an_intent())
    refused = (
        (AlreadyExistsError, logged.intents.create_intent(an_intent())),
        (NotFoundError, logged.intents.update_intent(an_intent("i2"))),
        (NotFoundError, logged.intents.delete_intent("i2")),
        (NotFoundError, logged.actual.update_order_state(a_state())),
        (NotFoundError, logged.actual.delete_order_state("i1")),
        (ValidationError, logged.intents.create_intent(an_intent("i3").model_copy(update={"exchange_id": "else"}))),
        (ValidationError, logged.intents.update_intent(an_intent().model_copy(update={"exchange_id": "else"}))),
    )
    for kind, write in refused:
        with pytest.raises(kind):
            await write
    assert len(await logged.stream("i1")) == 1
    assert (await logged.log.head()).position == logged.state.position == 2


async def test_an_intent_of_another_exchange_is_refused(logged: LogWorld) -> None:
    """A log is of one exchange account: the error names the field and both ids."""
    with pytest.raises(ValidationError) as caught:
        await logged.intents.create_intent(an_intent().model_copy(update={"exchange_id": "else"}))
    [violation] = caught.value.violations
    assert (violation.field, violation.limit, violation.value) == ("exchange_id", EXCHANGE, "else")


async def test_concurrent_writers_decide_again(logged: LogWorld) -> None:
    """Writers that meet on one intent each get their write in, on top of what the others wrote."""
    await logged.intents.create_intent(an_intent())
    writes = [logged.intents.update_intent(an_intent(owner=f"w{number}")) for number in range(8)]
    states = [logged.actual.create_order_state(a_state(failures=number)) for number in range(3)]
    results = await asyncio.gather(*writes, *states, return_exceptions=True)
    assert results[:8] == [None] * 8
    assert sorted(type(result).__name__ for result in results[8:]) == ["AlreadyExistsError"] * 2 + ["NoneType"]
    stream = await logged.stream("i1")
    owners = {event.intent.owner for event in stream if isinstance(event, events.IntentModified)}
    assert owners == {f"w{number}" for number in range(8)}
    assert [event.version for event in stream] == list(range(1, 11))


async def test_a_second_process_over_the_log_agrees(tmp_path: Path, clock: HandClock) -> None:
    """Stores of two log objects over one file write on top of each other, and both read what either wrote."""
    url = f"sqlite:///{tmp_path / 'log.db'}"
    async with AsyncExitStack() as stack:
        logs = [await stack.enter_async_context(open_log(url, exchange_id=EXCHANGE, clock=clock)) for _ in range(2)]
        one, two = [await stack.enter_async_context(a_log_world(log, clock)) for log in logs]
        await one.intents.create_intent(an_intent())
        await asyncio.gather(
            *(side.intents.update_intent(an_intent(owner=f"w{number}")) for number in range(3) for side in (one, two)),
            return_exceptions=True,
        )
        await two.intents.update_intent(an_intent(order=an_order(quantity=7)))
        with pytest.raises(ConflictError, match="generation 2, given 1"):
            await one.intents.update_intent(an_intent(order=an_order(quantity=8)))
        head = await one.log.head()
        await asyncio.gather(one.state.reached(head.position), two.state.reached(head.position))
        assert one.state.digest() == two.state.digest()


# --------------------------------------------------------------------------------------------------- on a log: baseline
def a_fill(key: str, quantity: int, **given: Any) -> ExecutionReport:
    return a_report(ExecType.TRADE, fill_key=key, last_qty=quantity, last_px=10, **given)


def position_of(world: LogWorld) -> int:
    return sum(position.quantity for position in world.state.positions())


async def test_a_fill_known_before_a_write_counts_once(logged: LogWorld) -> None:
    """A recorded state is a baseline: a fill that was known is known still, and counts once when it comes again."""
    await logged.intents.create_intent(an_intent())
    trade = a_fill("t1", 30)
    await logged.hear("i1", trade)
    recorded = a_state(exchange_order_id="o1", client_order_id="c1", ord_status=OrdStatus.PARTIALLY_FILLED, cum_qty=30)
    await logged.actual.update_order_state(recorded)
    assert await logged.hear("i1", trade) == []
    assert await logged.actual.get_order_state("i1") == recorded
    assert position_of(logged) == 30


async def test_reports_apply_on_top_of_a_write(logged: LogWorld) -> None:
    """After a write, the next fact shows: recorded and reported quantities come together, and the order can end."""
    await logged.intents.create_intent(an_intent())
    await logged.actual.create_order_state(a_state(exchange_order_id="o1", client_order_id="c1"))
    await logged.hear("i1", a_fill("t1", 30))
    state = await logged.actual.get_order_state("i1")
    assert (state.status.ord_status, state.status.cum_qty, state.status.leaves_qty) == ("PARTIALLY_FILLED", 30, 70)
    await logged.hear("i1", a_report(ExecType.CANCELED, cum_qty=30))
    assert (await logged.actual.get_order_state("i1")).status.ord_status is OrdStatus.CANCELED
    assert state.last_sync_at == logged.clock.now_ns() // NS_PER_S


async def test_a_recorded_quantity_that_fills_do_not_explain_is_a_finding(logged: LogWorld) -> None:
    """It is raised with the write, counts for no position, and is resolved once fills explain it."""
    await logged.intents.create_intent(an_intent())
    recorded = a_state(exchange_order_id="o1", client_order_id="c1", ord_status=OrdStatus.PARTIALLY_FILLED, cum_qty=50)
    await logged.actual.create_order_state(recorded)
    [finding] = logged.state.findings()
    assert (finding.kind, finding.intent_id, finding.resolved_at_ns) == ("UNEXPLAINED_QUANTITY", "i1", None)
    assert (await logged.actual.get_order_state("i1"), position_of(logged)) == (recorded, 0)
    await logged.hear("i1", a_fill("t1", 30))
    assert [finding.resolved_at_ns for finding in logged.state.findings()] == [None]
    assert ((await logged.actual.get_order_state("i1")).status.cum_qty, position_of(logged)) == (50, 30)
    await logged.hear("i1", a_fill("t2", 20))
    assert [finding.resolved_at_ns is not None for finding in logged.state.findings()] == [True]
    assert ((await logged.actual.get_order_state("i1")).status.cum_qty, position_of(logged)) == (50, 50)


@pytest.mark.parametrize(
    "written",
    [
        a_state(exchange_order_id="o2", client_order_id="c1", cum_qty=30, ord_status=OrdStatus.PARTIALLY_FILLED),
        a_state(exchange_order_id="o2", client_order_id="c2"),
        a_state(),
    ],
    ids=["renamed", "another order", "no order"],
)
async def test_a_write_takes_no_fill_away(logged: LogWorld, written: object) -> None:
    """Fills are facts: whatever a store writes of the order, what was traded stays in the books, and a repeat adds none."""
    await logged.intents.create_intent(an_intent())
    trade = a_fill("t1", 30)
    await logged.hear("i1", trade)
    state = a_state().model_validate(written)
    await logged.actual.update_order_state(state)
    positions = [(position.symbol_id, position.quantity) for position in logged.state.positions()]
    assert positions == [("BTCUSDT", 30)]
    assert await logged.actual.get_order_state("i1") == state
    await logged.hear("i1", trade)
    assert [(position.symbol_id, position.quantity) for position in logged.state.positions()] == positions


async def test_an_order_that_a_write_leaves_out_works_again_once_a_look_shows_it(logged: LogWorld) -> None:
    """A write can't end an order at the venue: a traded one that it leaves out is live again when a later look shows it."""
    await logged.intents.create_intent(an_intent())
    await logged.hear("i1", a_fill("t1", 30))
    await logged.actual.update_order_state(a_state())
    assert not logged.state.record("i1").may_be_live
    logged.clock.forward(1)
    look = a_report(ExecType.ORDER_STATUS, ord_status=OrdStatus.PARTIALLY_FILLED, order_qty=100, cum_qty=30)
    await logged.hear("i1", look, began_ns=logged.clock.now_ns())
    state = await logged.actual.get_order_state("i1")
    assert (state.exchange_order_id, state.status.cum_qty, state.status.leaves_qty) == ("o1", 30, 70)
    with pytest.raises(ConflictError, match="cancel it first"):
        await logged.intents.delete_intent("i1")


async def test_a_write_undoes_no_attempt(logged: LogWorld) -> None:
    """An attempt that may have happened stays unsettled though a write leaves it out, so the intent can't be deleted; one
    that a write told of and the next one leaves out is gone."""
    await logged.intents.create_intent(an_intent())
    position = await logged.append("i1", a_submit())
    await logged.actual.update_order_state(A_RICH_STATE)
    written = a_state(ord_status=OrdStatus.CANCELED)
    await logged.actual.update_order_state(written)
    read = await logged.actual.get_order_state("i1")
    assert [(item.position, item.client_order_id, item.outcome) for item in read.attempts] == [
        (position, "c1", AttemptOutcome.PENDING)
    ]
    with pytest.raises(ConflictError, match="cancel it first"):
        await logged.intents.delete_intent("i1")
    await logged.hear("i1", a_report(ExecType.REJECTED))
    await logged.intents.delete_intent("i1")


async def test_a_forgotten_state_comes_back_with_the_next_fact(logged: LogWorld) -> None:
    """A store's delete forgets the state, not the facts: a later fill brings it back, with the earlier one."""
    await logged.intents.create_intent(an_intent())
    await logged.hear("i1", a_fill("t1", 30))
    await logged.actual.delete_order_state("i1")
    assert position_of(logged) == 30
    await logged.hear("i1", a_fill("t2", 20))
    assert ((await logged.actual.get_order_state("i1")).status.cum_qty, position_of(logged)) == (50, 50)
    assert (await logged.actual.get_order_state_by_exchange_id("o1")).intent_id == "i1"


# ----------------------------------------------------------------------------------------------------- on a log: delete
async def test_what_may_be_live_cannot_be_deleted(logged: LogWorld) -> None:
    """An intent whose order works, or may, is not deleted: it is to be canceled first; once it ended, it is."""
    await logged.intents.create_intent(an_intent())
    await logged.append("i1", a_submit())
    with pytest.raises(ConflictError, match="cancel it first"):
        await logged.intents.delete_intent("i1")
    await logged.hear("i1", a_report(ExecType.NEW))
    with pytest.raises(ConflictError, match="cancel it first"):
        await logged.intents.delete_intent("i1")
    await logged.hear("i1", a_report(ExecType.CANCELED, cum_qty=0))
    await logged.intents.delete_intent("i1")
    assert await intent_ids(logged) == []


async def test_a_recorded_live_order_cannot_be_deleted(logged: LogWorld) -> None:
    """A state that a store wrote as working counts as live; written as canceled, it does not."""
    await logged.intents.create_intent(an_intent())
    await logged.actual.create_order_state(a_state(exchange_order_id="o1"))
    with pytest.raises(ConflictError, match="cancel it first"):
        await logged.intents.delete_intent("i1")
    await logged.actual.update_order_state(a_state(exchange_order_id="o1", ord_status=OrdStatus.CANCELED))
    await logged.intents.delete_intent("i1")


async def test_an_id_used_again_starts_afresh(logged: LogWorld) -> None:
    """After a delete and a new create there is no state, nothing is filled, and numbers go on: they never go back."""
    await logged.intents.create_intent(an_intent())
    await logged.append("i1", a_submit(number=4))
    await logged.hear("i1", a_fill("t1", 30))
    await logged.hear("i1", a_report(ExecType.CANCELED, cum_qty=30))
    await logged.intents.delete_intent("i1")
    assert logged.state.record("i1").number == 4
    await logged.intents.create_intent(an_intent(order=an_order(quantity=40)))
    with pytest.raises(NotFoundError):
        await logged.actual.get_order_state("i1")
    assert (logged.state.record("i1").number, logged.state.record("i1").cum_qty) == (4, 0)
    assert position_of(logged) == 30
    assert logged.state.intent_id_of(client_order_id="c1") == "i1"
    await logged.actual.create_order_state(a_state())
    assert await state_ids(logged) == ["i1"]


def a_submit(number: int = 1) -> events.AttemptStarted:
    return events.AttemptStarted(
        intent_id="i1",
        number=number,
        kind=AttemptKind.SUBMIT,
        client_order_id="c1",
        order=an_order(),
        generation=1,
        epoch=0,
        stamp_ns=1,
        send_by_ns=2,
        state_position=0,
        decided_at_ns=1,
    )


async def test_a_forgotten_order_still_counts(logged: LogWorld) -> None:
    """A store may forget a state; an order that may be live is still acted on, and its intent still can't be deleted."""
    await logged.intents.create_intent(an_intent())
    await logged.append("i1", a_submit())
    await logged.actual.delete_order_state("i1")
    assert (logged.state.order_state("i1"), await state_ids(logged)) == (None, [])
    exposure = logged.state.exposure("i1")
    assert exposure is not None
    assert [item.client_order_id for item in exposure.attempts] == ["c1"]
    assert (logged.state.live_intent_ids(), logged.state.open_orders("BTCUSDT")) == (["i1"], 1)
    with pytest.raises(ConflictError, match="cancel it first"):
        await logged.intents.delete_intent("i1")


# ---------------------------------------------------------------------------------------------------- on a log: reading
async def test_following_begins_at_the_head(logged: LogWorld) -> None:
    """A state that follows a log has all of it when the block begins, and each batch is announced."""
    await logged.intents.create_intent(an_intent())
    state, batches = State(), list[int]()
    async with following(logged.log, state, lambda: batches.append(state.position)):
        assert state.digest() == logged.state.digest()
        await logged.intents.update_intent(an_intent(owner="b"))
        await state.reached(logged.state.position)
        assert batches[-1] == state.position == logged.state.position


async def test_a_log_that_cannot_be_folded_is_refused(clock: HandClock) -> None:
    """A row that was changed past the log ends the block before it begins, with the first bad position."""
    backend = MemoryBackend(EXCHANGE)
    async with backend.open(clock=clock) as log, a_log_world(log, clock) as world:
        await world.intents.create_intent(an_intent())
        await world.intents.create_intent(an_intent("i2"))
    backend.update(2, "state", b"{}")
    async with backend.open(clock=clock) as log:
        with pytest.raises(IntegrityError) as caught:
            async with following(log, State()):
                pytest.fail("the block began")
    assert caught.value.position == 2


async def test_no_write_waits_for_a_reader_that_ended(logged: LogWorld) -> None:
    """Once the reader has ended, a write that waits for it and every later one fails with the reason, and none hangs."""
    await logged.intents.create_intent(an_intent())
    waiting = asyncio.create_task(logged.state.reached(99))
    await asyncio.sleep(0)
    logged.state.fail(IntegrityError("broken", position=9))
    for wait in (waiting, logged.state.reached(98)):
        with pytest.raises(IntegrityError, match="position 9: broken"):
            await wait
    await logged.state.reached(1)


# ------------------------------------------------------------------------------------------------ any writes: both agree
ACTIONS = st.one_of(
    st.tuples(st.just("create"), st.sampled_from("abc"), st.sampled_from(["X", "Y"]), st.sampled_from([None, "g"])),
    st.tuples(st.just("update"), st.sampled_from("abc"), st.sampled_from(["X", "Y"]), st.sampled_from([None, "g"])),
    st.tuples(st.just("delete"), st.sampled_from("abc")),
    st.tuples(st.just("write"), st.sampled_from("abc"), st.sampled_from([None, "o1", "o2"]), st.booleans()),
    st.tuples(st.just("forget"), st.sampled_from("abc")),
)


async def act(world: StoreWorld, action: tuple[object, ...]) -> str:
    """Do one thing; the name of the error where it is refused."""
    name, intent_id, *rest = action
    assert isinstance(intent_id, str)
    world.clock.forward(1)
    try:
        match name:
            case "create" | "update":
                intent = an_intent(intent_id, order=an_order(str(rest[0])), group_id=rest[1], generation=9)
                write = world.intents.create_intent if name == "create" else world.intents.update_intent
                await write(intent)
            case "delete":
                await world.intents.delete_intent(intent_id)
            case "write":
                state = a_state(intent_id, exchange_order_id=rest[0], ord_status=OrdStatus.CANCELED)
                record = world.actual.create_order_state if rest[1] else world.actual.update_order_state
                await record(state)
            case _:
                await world.actual.delete_order_state(intent_id)
    except (NotFoundError, AlreadyExistsError, ConflictError) as error:
        return type(error).__name__
    return ""


async def everything(world: StoreWorld) -> list[object]:
    """All that can be read, but how far the kernel is: a log tells that anew when the intent changes."""
    states = [*await world.actual.list_order_states(), *await world.actual.get_stale_orders(5)]
    return [
        await world.intents.list_intents(),
        await world.intents.list_intents("X"),
        await world.intents.list_intents("X", "g"),
        await world.intents.get_intents_by_group("g"),
        [state.model_copy(update={"reconciliation_status": None}) for state in states],
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=st.lists(ACTIONS, max_size=12))
def test_plain_and_logged_stores_agree_on_any_writes(actions: list[tuple[object, ...]]) -> None:
    """Whatever is written in whatever order, both kinds refuse the same and read the same."""

    async def run() -> None:
        plain = a_plain_world(HandClock())
        clock = HandClock()
        async with open_log("memory://", exchange_id=EXCHANGE, clock=clock) as log, a_log_world(log, clock) as logged:
            for action in actions:
                if action[0] == "create" and logged.state.record(str(action[1])).has_order:
                    continue  # an intent created again starts afresh on a log, which plain stores can't know of
                assert await act(plain, action) == await act(logged, action)
                assert await everything(plain) == await everything(logged)

    asyncio.run(run())
