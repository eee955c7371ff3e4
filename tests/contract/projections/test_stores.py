"""The contract of the stores: one suite for the plain ones and those on a log (see also `test_log_stores`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from kernel.clock import NS_PER_S
from kernel.errors import AlreadyExistsError, ConflictError, NotFoundError, ValidationError
from kernel.log import open_log
from kernel.models import Desired, OrderState, OrdStatus, ReconciliationStatus, UnsolicitedCancelPolicy
from kernel.values.edge import validated
from tests.paper_world import HandClock
from tests.store_world import (
    A_RICH_STATE,
    EXCHANGE,
    StoreWorld,
    a_log_world,
    a_plain_world,
    a_state,
    an_intent,
    an_order,
    intent_ids,
    state_ids,
)


@pytest.fixture
def clock() -> HandClock:
    """The clock of stores and log."""
    return HandClock()


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


# ------------------------------------------------------------------------------------------------------- intents: both
async def test_an_intent_is_read_as_it_was_created(world: StoreWorld) -> None:
    """Every field of a created intent is read back, generation and times included."""
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
    """Creating an existing id raises AlreadyExistsError, which is a ValueError, and changes nothing."""
    await world.intents.create_intent(an_intent())
    with pytest.raises(AlreadyExistsError, match="i1"):
        await world.intents.create_intent(an_intent(order=an_order("ETHUSDT")))
    with pytest.raises(ValueError, match="already exists"):
        await world.intents.create_intent(an_intent())
    assert await world.intents.get_intent("i1") == an_intent()


async def test_one_of_concurrent_creates_succeeds(world: StoreWorld) -> None:
    """Of concurrent creates of one id one is stored; the others raise AlreadyExistsError."""
    made = [world.intents.create_intent(an_intent(owner=str(number))) for number in range(5)]
    results = await asyncio.gather(*made, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["AlreadyExistsError"] * 4 + ["NoneType"]


@pytest.mark.parametrize("kind", [NotFoundError, KeyError])
async def test_an_unknown_intent_is_not_found(world: StoreWorld, kind: type[Exception]) -> None:
    """Read, update and delete of an unknown intent raise NotFoundError, which is a KeyError."""
    await world.intents.create_intent(an_intent("other"))
    with pytest.raises(kind, match="i1"):
        await world.intents.get_intent("i1")
    with pytest.raises(kind, match="i1"):
        await world.intents.update_intent(an_intent())
    with pytest.raises(kind, match="i1"):
        await world.intents.delete_intent("i1")
    assert await intent_ids(world) == ["other"]


async def test_a_change_of_the_order_is_a_new_generation(world: StoreWorld) -> None:
    """A change of `order` or `desired` adds one to the generation and sets the time of update, not that of creation."""
    await world.intents.create_intent(an_intent(created_at_ns=5, updated_at_ns=5))
    world.clock.forward(3)
    given_intent = an_intent(order=an_order(quantity=50), created_at_ns=99, updated_at_ns=99)
    await world.intents.update_intent(given_intent)
    stored = await world.intents.get_intent("i1")
    assert (stored.generation, stored.created_at_ns, stored.updated_at_ns) == (2, 5, world.clock.now_ns())
    assert stored.order == an_order(quantity=50)
    await world.intents.update_intent(structs.replace(stored, desired=Desired.CANCELED))
    assert (await world.intents.get_intent("i1")).generation == 3


async def test_other_changes_keep_the_generation(world: StoreWorld) -> None:
    """A change of owner, group, policy or metadata keeps the generation and sets the time of update."""
    await world.intents.create_intent(an_intent(created_at_ns=5))
    world.clock.forward(1)
    changed = an_intent(
        owner="b", group_id="g", metadata={"a": 1}, on_unsolicited_cancel=UnsolicitedCancelPolicy.RECREATE
    )
    await world.intents.update_intent(changed)
    expected = {"created_at_ns": 5, "updated_at_ns": world.clock.now_ns()}
    assert await world.intents.get_intent("i1") == structs.replace(changed, **expected)


async def test_an_older_generation_is_a_conflict(world: StoreWorld) -> None:
    """A write based on an older record is refused and changes nothing; a higher generation is ignored."""
    await world.intents.create_intent(an_intent())
    await world.intents.update_intent(an_intent(order=an_order(quantity=50)))
    known = await world.intents.get_intent("i1")
    with pytest.raises(ConflictError, match="generation 2, the update was made from 1"):
        await world.intents.update_intent(an_intent(order=an_order(quantity=60)))
    assert await world.intents.get_intent("i1") == known
    await world.intents.update_intent(structs.replace(known, generation=9))
    assert (await world.intents.get_intent("i1")).generation == 2


async def test_the_second_write_of_one_generation_is_a_conflict(world: StoreWorld) -> None:
    """Of two changes of the order based on one record the second is a conflict, not a lost update."""
    await world.intents.create_intent(an_intent())
    changes = [world.intents.update_intent(an_intent(order=an_order(quantity=size))) for size in (50, 60)]
    results = await asyncio.gather(*changes, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ConflictError", "NoneType"]
    assert (await world.intents.get_intent("i1")).generation == 2


async def test_a_deleted_intent_is_gone(world: StoreWorld) -> None:
    """A deleted intent is not found and not listed; created again, it is listed last."""
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
    """Lists are in order of creation, whatever the updates and filters."""
    for intent_id in ("c", "a", "b"):
        await world.intents.create_intent(an_intent(intent_id, group_id="g" if intent_id != "b" else None))
    await world.intents.update_intent(an_intent("c", order=an_order("ETHUSDT"), group_id="g"))
    await world.intents.update_intent(an_intent("c", generation=2, order=an_order("BTCUSDT"), group_id="g"))
    await world.intents.update_intent(an_intent("b", group_id="g"))
    assert await intent_ids(world) == ["c", "a", "b"]
    assert await intent_ids(world, symbol_id="BTCUSDT") == ["c", "a", "b"]
    assert await intent_ids(world, group_id="g") == ["c", "a", "b"]


async def test_filters_combine(world: StoreWorld) -> None:
    """Symbol and group filter alone and together; no match is an empty list, not an error."""
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
    """An intent that moved to another symbol or group is listed only there."""
    await world.intents.create_intent(an_intent("a", group_id="g"))
    await world.intents.update_intent(an_intent("a", group_id="h", order=an_order("ETHUSDT")))
    assert await intent_ids(world, symbol_id="BTCUSDT") == await intent_ids(world, group_id="g") == []
    assert await intent_ids(world, symbol_id="ETHUSDT", group_id="h") == ["a"]
    await world.intents.update_intent(an_intent("a", generation=2, order=an_order("ETHUSDT")))
    assert await world.intents.get_intents_by_group("h") == []


async def test_changing_a_returned_list_changes_no_store(world: StoreWorld) -> None:
    """Changes of a returned list do not change the store."""
    await world.intents.create_intent(an_intent())
    await world.actual.create_order_state(a_state())
    for found in (await world.intents.list_intents(), await world.actual.list_order_states()):
        found.clear()
    assert (await intent_ids(world), await state_ids(world)) == (["i1"], ["i1"])


# -------------------------------------------------------------------------------------------------- order states: both
@pytest.mark.parametrize("state", [a_state(), A_RICH_STATE], ids=["bare", "rich"])
async def test_a_state_is_read_as_it_was_written(world: StoreWorld, state: object) -> None:
    """Every field of a state is read back after a create and an update, also without an exchange order id."""
    written = validated(state, OrderState)
    await world.actual.create_order_state(written)
    assert await world.actual.get_order_state("i1") == written
    for again in (A_RICH_STATE, written):
        await world.actual.update_order_state(again)
        assert await world.actual.get_order_state("i1") == again


async def test_a_state_is_created_once(world: StoreWorld) -> None:
    """Creating an existing state raises AlreadyExistsError, which is a ValueError, and changes nothing."""
    await world.actual.create_order_state(a_state())
    with pytest.raises(AlreadyExistsError, match="i1"):
        await world.actual.create_order_state(a_state(failures=1))
    with pytest.raises(ValueError, match="already exists"):
        await world.actual.create_order_state(a_state())
    assert await world.actual.get_order_state("i1") == a_state()


@pytest.mark.parametrize("kind", [NotFoundError, KeyError])
async def test_an_unknown_state_is_not_found(world: StoreWorld, kind: type[Exception]) -> None:
    """Read, update and delete of an unknown state raise NotFoundError, also for an intent without a state."""
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
    """The look-up follows the exchange order id: none at first, then one, then another; the old one is not found."""
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
    """An exchange order id that moved to another intent is found there."""
    await world.actual.create_order_state(a_state(exchange_order_id="o1"))
    await world.actual.update_order_state(a_state(exchange_order_id="o2"))
    await world.actual.create_order_state(a_state("i2", exchange_order_id="o1"))
    assert (await world.actual.get_order_state_by_exchange_id("o1")).intent_id == "i2"
    await world.actual.delete_order_state("i2")
    await world.actual.update_order_state(a_state(exchange_order_id="o1"))
    assert (await world.actual.get_order_state_by_exchange_id("o1")).intent_id == "i1"


async def test_a_deleted_state_is_gone(world: StoreWorld) -> None:
    """A deleted state is not found by either id and not listed; created again, it is listed last."""
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


async def test_stale_orders_depend_on_the_clock(world: StoreWorld) -> None:
    """A state is stale if it was confirmed longer ago than the limit, by the store's clock, to the fraction of a second."""
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


async def test_the_two_stores_are_independent(world: StoreWorld) -> None:
    """A state may be written before its intent, survives changes of the order, and its delete leaves the intent."""
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


async def test_an_unreadable_record_is_refused(world: StoreWorld) -> None:
    """A record that bypassed its model's checks, or that JSON cannot hold, raises ValidationError; nothing is stored."""
    bad_order = structs.replace(an_order(), quantity=-1)
    for intent in (
        structs.replace(an_intent(), order=bad_order),
        structs.replace(an_intent(), metadata={"a": object()}),
    ):
        with pytest.raises(ValidationError):
            await world.intents.create_intent(intent)
    with pytest.raises(ValidationError):
        await world.actual.create_order_state(structs.replace(a_state(), failures="many"))
    assert (await intent_ids(world), await state_ids(world)) == ([], [])


async def test_a_store_keeps_its_own_copy(world: StoreWorld) -> None:
    """Changing a record after writing it does not change the store."""
    metadata = {"a": [1]}
    await world.intents.create_intent(an_intent(metadata=metadata))
    metadata["a"].append(2)
    metadata["b"] = []
    assert (await world.intents.get_intent("i1")).metadata == {"a": [1]}


# ------------------------------------------------------------------------------------------------ any writes: both agree
ACTIONS = st.one_of(
    st.tuples(st.just("create"), st.sampled_from("abc"), st.sampled_from(["X", "Y"]), st.sampled_from([None, "g"])),
    st.tuples(st.just("update"), st.sampled_from("abc"), st.sampled_from(["X", "Y"]), st.sampled_from([None, "g"])),
    st.tuples(st.just("delete"), st.sampled_from("abc")),
    st.tuples(st.just("write"), st.sampled_from("abc"), st.sampled_from([None, "o1", "o2"]), st.booleans()),
    st.tuples(st.just("forget"), st.sampled_from("abc")),
)


async def act(world: StoreWorld, action: tuple[object, ...]) -> str:
    """Perform one write; returns the name of the error, if any."""
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
    """Everything that can be read but the reconciliation status, which a log derives anew."""
    states = [*await world.actual.list_order_states(), *await world.actual.get_stale_orders(5)]
    return [
        await world.intents.list_intents(),
        await world.intents.list_intents("X"),
        await world.intents.list_intents("X", "g"),
        await world.intents.get_intents_by_group("g"),
        [structs.replace(state, reconciliation_status=None) for state in states],
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=st.lists(ACTIONS, max_size=12))
def test_plain_and_logged_stores_agree_on_any_writes(actions: list[tuple[object, ...]]) -> None:
    """Both kinds of stores refuse and return the same, whatever is written in whatever order."""

    async def run() -> None:
        plain = a_plain_world(HandClock())
        clock = HandClock()
        async with open_log("memory://", exchange_id=EXCHANGE, clock=clock) as log, a_log_world(log, clock) as logged:
            for action in actions:
                if action[0] == "create" and logged.state.record(str(action[1])).has_order:
                    continue  # an intent created again starts afresh on a log only
                assert await act(plain, action) == await act(logged, action)
                assert await everything(plain) == await everything(logged)

    asyncio.run(run())
