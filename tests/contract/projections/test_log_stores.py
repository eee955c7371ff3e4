"""What the stores on a log promise beyond the stores' contract: events, baselines, facts that no write undoes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from kernel import events
from kernel.clock import NS_PER_S
from kernel.errors import AlreadyExistsError, ConflictError, IntegrityError, NotFoundError, ValidationError
from kernel.log import open_log
from kernel.models import AttemptKind, AttemptOutcome, Evidence, ExecType, LookScope, OrderState, OrdStatus
from kernel.values.edge import validated
from kernel.venues.base import ExecutionReport
from projections import State
from projections.stores import following
from tests.contract.backends import MemoryBackend
from tests.paper_world import HandClock
from tests.store_world import (
    A_RICH_STATE,
    EXCHANGE,
    LogWorld,
    a_log_world,
    a_report,
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


@pytest.fixture(params=["memory", "sqlite"])
async def logged(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> AsyncIterator[LogWorld]:
    """Stores on each kind of log that needs no server."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'log.db'}"
    async with open_log(url, exchange_id=EXCHANGE, clock=clock) as log, a_log_world(log, clock) as world:
        yield world


# ---------------------------------------------------------------------------------------------------- on a log: writes
async def test_a_write_is_one_event_with_the_whole_record(logged: LogWorld) -> None:
    """Each write is one event in the intent's stream, with the whole record, an operator's evidence and one actor."""
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
    """A refused write is not in the log."""
    await logged.intents.create_intent(an_intent())
    refused = (
        (AlreadyExistsError, logged.intents.create_intent(an_intent())),
        (NotFoundError, logged.intents.update_intent(an_intent("i2"))),
        (NotFoundError, logged.intents.delete_intent("i2")),
        (NotFoundError, logged.actual.update_order_state(a_state())),
        (NotFoundError, logged.actual.delete_order_state("i1")),
        (ValidationError, logged.intents.create_intent(structs.replace(an_intent("i3"), exchange_id="else"))),
        (ValidationError, logged.intents.update_intent(structs.replace(an_intent(), exchange_id="else"))),
    )
    for kind, write in refused:
        with pytest.raises(kind):
            await write
    assert len(await logged.stream("i1")) == 1
    assert (await logged.log.head()).position == logged.state.position == 2


async def test_an_intent_of_another_exchange_is_refused(logged: LogWorld) -> None:
    """A log belongs to one exchange account: the error names the field and both ids."""
    with pytest.raises(ValidationError) as caught:
        await logged.intents.create_intent(structs.replace(an_intent(), exchange_id="else"))
    [violation] = caught.value.violations
    assert (violation.field, violation.limit, violation.value) == ("exchange_id", EXCHANGE, "else")


async def test_concurrent_writers_decide_again(logged: LogWorld) -> None:
    """Each concurrent write to an intent succeeds, on top of the others."""
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
    """Stores of two log objects over one file write on top of each other, and read each other's writes."""
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
        with pytest.raises(ConflictError, match="generation 2, the update was made from 1"):
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
    """A recorded state is a baseline: a fill that was known before it counts once when it is reported again."""
    await logged.intents.create_intent(an_intent())
    trade = a_fill("t1", 30)
    await logged.hear("i1", trade)
    recorded = a_state(exchange_order_id="o1", client_order_id="c1", ord_status=OrdStatus.PARTIALLY_FILLED, cum_qty=30)
    await logged.actual.update_order_state(recorded)
    assert await logged.hear("i1", trade) == []
    assert await logged.actual.get_order_state("i1") == recorded
    assert position_of(logged) == 30


async def test_reports_apply_on_top_of_a_write(logged: LogWorld) -> None:
    """Reports after a write apply to it: recorded and reported quantities add up, and the order can end."""
    await logged.intents.create_intent(an_intent())
    await logged.actual.create_order_state(a_state(exchange_order_id="o1", client_order_id="c1"))
    await logged.hear("i1", a_fill("t1", 30))
    state = await logged.actual.get_order_state("i1")
    assert (state.status.ord_status, state.status.cum_qty, state.status.leaves_qty) == ("PARTIALLY_FILLED", 30, 70)
    await logged.hear("i1", a_report(ExecType.CANCELED, cum_qty=30))
    assert (await logged.actual.get_order_state("i1")).status.ord_status is OrdStatus.CANCELED
    assert state.last_sync_at == logged.clock.now_ns() // NS_PER_S


async def test_an_unexplained_recorded_quantity_raises_a_finding(logged: LogWorld) -> None:
    """The finding is raised with the write, counts for no position, and is resolved once fills explain the quantity."""
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
async def test_a_write_removes_no_fill(logged: LogWorld, written: object) -> None:
    """Fills are facts: whatever a store writes, they stay booked, and a repeated report adds nothing."""
    await logged.intents.create_intent(an_intent())
    trade = a_fill("t1", 30)
    await logged.hear("i1", trade)
    state = validated(written, OrderState)
    await logged.actual.update_order_state(state)
    positions = [(position.symbol_id, position.quantity) for position in logged.state.positions()]
    assert positions == [("BTCUSDT", 30)]
    assert await logged.actual.get_order_state("i1") == state
    await logged.hear("i1", trade)
    assert [(position.symbol_id, position.quantity) for position in logged.state.positions()] == positions


async def test_an_order_that_a_write_omits_is_live_again_once_a_query_shows_it(logged: LogWorld) -> None:
    """A write cannot end an order at the venue: an omitted order is live again once a later query shows it."""
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
    """An unresolved attempt that a write omits stays, so the intent cannot be deleted; one that only a write named goes."""
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


async def test_a_query_confirms_a_written_state(logged: LogWorld) -> None:
    """A query that finds a written order unchanged confirms it: it is not stale any more."""
    written = a_state(exchange_order_id="o1", client_order_id="c1", last_sync_at=1)
    await logged.actual.create_order_state(written)
    assert await logged.actual.get_stale_orders(10) == [written]
    now_ns = logged.clock.now_ns()
    look = events.VenueSnapshotTaken(
        scopes=(LookScope.ORDER,),
        complete=True,
        began_ns=now_ns,
        ended_ns=now_ns,
        intent_id="i1",
        client_order_id="c1",
        found=True,
    )
    await logged.append("i1", look)
    confirmed = structs.replace(written, last_sync_at=now_ns // NS_PER_S)
    assert await logged.actual.get_order_state("i1") == confirmed
    assert await logged.actual.get_stale_orders(10) == []


async def test_a_forgotten_state_comes_back_with_the_next_fact(logged: LogWorld) -> None:
    """A store's delete removes the state, not the facts: a later fill restores it, with the earlier one."""
    await logged.intents.create_intent(an_intent())
    await logged.hear("i1", a_fill("t1", 30))
    await logged.actual.delete_order_state("i1")
    assert position_of(logged) == 30
    await logged.hear("i1", a_fill("t2", 20))
    assert ((await logged.actual.get_order_state("i1")).status.cum_qty, position_of(logged)) == (50, 50)
    assert (await logged.actual.get_order_state_by_exchange_id("o1")).intent_id == "i1"


# ----------------------------------------------------------------------------------------------------- on a log: delete
async def test_an_order_that_may_be_live_cannot_be_deleted(logged: LogWorld) -> None:
    """An intent whose order is or may be live cannot be deleted until the order has ended."""
    await logged.intents.create_intent(an_intent())
    await logged.append("i1", a_submit())
    with pytest.raises(ConflictError, match="cancel it first"):
        await logged.intents.delete_intent("i1")
    await logged.hear("i1", a_report(ExecType.NEW))
    with pytest.raises(ConflictError, match="cancel it first"):
        await logged.intents.delete_intent("i1")
    await logged.hear("i1", a_report(ExecType.CANCELED, cum_qty=0))
    with pytest.raises(ConflictError, match="cancel it first"):
        await logged.intents.delete_intent("i1")
    await logged.append("i1", a_query())
    await logged.intents.delete_intent("i1")
    assert await intent_ids(logged) == []


async def test_a_recorded_live_order_cannot_be_deleted(logged: LogWorld) -> None:
    """A state written as working counts as live; written as canceled, it does not."""
    await logged.intents.create_intent(an_intent())
    await logged.actual.create_order_state(a_state(exchange_order_id="o1"))
    with pytest.raises(ConflictError, match="cancel it first"):
        await logged.intents.delete_intent("i1")
    await logged.actual.update_order_state(a_state(exchange_order_id="o1", ord_status=OrdStatus.CANCELED))
    await logged.intents.delete_intent("i1")


async def test_an_id_used_again_starts_afresh(logged: LogWorld) -> None:
    """After a delete and a new create there is no state and no fill; attempt numbers continue."""
    await logged.intents.create_intent(an_intent())
    await logged.append("i1", a_submit(number=4))
    await logged.hear("i1", a_fill("t1", 30))
    await logged.hear("i1", a_report(ExecType.CANCELED, cum_qty=30))
    await logged.append("i1", a_query())
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


def a_query() -> events.VenueSnapshotTaken:
    """A status query that does not show the order open."""
    return events.VenueSnapshotTaken(
        scopes=(LookScope.ORDER,), complete=True, began_ns=2**62, ended_ns=2**62, reflects_ns=2**62, intent_id="i1",
        client_order_id="c1", exchange_order_id="o1", found=False,
    )  # fmt: skip


async def test_a_forgotten_order_still_counts(logged: LogWorld) -> None:
    """After a store deletes a state, an order that may be live is still reconciled, and its intent cannot be deleted."""
    await logged.intents.create_intent(an_intent())
    await logged.append("i1", a_submit())
    await logged.actual.delete_order_state("i1")
    assert (logged.state.order_state("i1"), await state_ids(logged)) == (None, [])
    exposure = logged.state.observed_order("i1")
    assert exposure is not None
    assert [item.client_order_id for item in exposure.attempts] == ["c1"]
    assert (logged.state.live_intent_ids(), logged.state.open_orders("BTCUSDT")) == (["i1"], 1)
    with pytest.raises(ConflictError, match="cancel it first"):
        await logged.intents.delete_intent("i1")


# ---------------------------------------------------------------------------------------------------- on a log: reading
async def test_following_begins_at_the_head(logged: LogWorld) -> None:
    """A followed state is at the head when the block begins, and each batch is announced."""
    await logged.intents.create_intent(an_intent())
    state, batches = State(), list[int]()
    async with following(logged.log, state, lambda: batches.append(state.position)):
        assert state.digest() == logged.state.digest()
        await logged.intents.update_intent(an_intent(owner="b"))
        await state.reached(logged.state.position)
        assert batches[-1] == state.position == logged.state.position


async def test_a_log_that_cannot_be_folded_is_refused(clock: HandClock) -> None:
    """A changed row ends the block before it begins, with the first bad position."""
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
    """Once the reader has ended, waiting and later writes fail with the reason; none hangs."""
    await logged.intents.create_intent(an_intent())
    waiting = asyncio.create_task(logged.state.reached(99))
    await asyncio.sleep(0)
    logged.state.fail(IntegrityError("broken", position=9))
    for wait in (waiting, logged.state.reached(98)):
        with pytest.raises(IntegrityError, match="position 9: broken"):
            await wait
    await logged.state.reached(1)
