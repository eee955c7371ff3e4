"""`EventSourcedKernel`'s events, life and health, and the seed's `ReconciliationEngine`, against their contracts.

The whole kernel on the memory log and virtual time, with the scripted exchange; and one way of an order on SQLite and real
time.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kernel import EventSourcedKernel, ReconciliationEngine, events
from kernel.clock import LoopClock, SystemClock
from kernel.errors import (
    ExchangeError,
    IntegrityError,
    KernelError,
    NotFoundError,
    NotReadyError,
    Rejected,
    ValidationError,
    WaitTimeoutError,
)
from kernel.log import open_log
from kernel.models import OrderIntent, OrderState, OrderStatus, OrdStatus
from kernel.order_spec import StandardOrder
from kernel.plan import Nothing, Submit
from projections import InMemoryActualStateStore, InMemoryIntentStore, State
from replay import open_kernel
from replay.testing import ScriptedVenue
from replay.testing.scripted_exchange import ScriptedExchange
from tests.contract.backends import MemoryBackend
from tests.desk import a_desk, settled
from tests.orders import buy

virtual_time = pytest.mark.looptime


# ------------------------------------------------------------------------------------------------------- events
@virtual_time
async def test_events_come_from_now_on_or_from_the_beginning() -> None:
    """`after=None` is from now on, `0` from the beginning."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(), intent_id="a")
        late: list[events.BaseEvent] = []
        early: list[events.BaseEvent] = []

        async def take_late(event: events.BaseEvent) -> None:
            late.append(event)

        async def take_early(event: events.BaseEvent) -> None:
            early.append(event)

        wanted = {"event_type": "IntentCreated"}
        subscription_id = desk.kernel.subscribe_events(take_late, wanted)
        desk.kernel.subscribe_events(take_early, wanted, after=0)
        await desk.kernel.place_order(buy(), intent_id="b")
        await settled()
        assert [event.stream_id for event in late] == ["intent:b"]
        assert [event.stream_id for event in early] == ["intent:a", "intent:b"]
        desk.kernel.unsubscribe_events(subscription_id)
        with pytest.raises(NotFoundError):
            desk.kernel.unsubscribe_events(subscription_id)
        with pytest.raises(ValidationError):
            desk.kernel.subscribe_events(take_late, {"colour": "red"})


@virtual_time
async def test_events_can_be_iterated() -> None:
    """`kernel.events` is the same as an async iterator."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(), intent_id="a")
        async for event in desk.kernel.events({"intent_id": "a"}, after=0):
            assert event.topic == "IntentCreated"
            break


# ------------------------------------------------------------------------------------------------------- life
@virtual_time
async def test_start_and_stop_can_be_repeated_and_cancel_nothing() -> None:
    """Both are idempotent; what works at the venue goes on working."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy())
        await desk.kernel.start()
        await desk.kernel.stop()
        await desk.kernel.stop()
        assert desk.exchange.order("#0").open
        last = [row.topic async for page in desk.log.read() for row in page][-1]
        assert last == "KernelStopped"


@virtual_time
async def test_health_tells_what_holds() -> None:
    """Ready and leading, at the head, connected; every key of the contract is there."""
    async with a_desk() as desk:
        health = await desk.kernel.health_check()
        assert set(health) == {
            "exchange_id", "ready", "leader", "conditions", "position", "lag_events", "venue", "error_count",
        }  # fmt: skip
        assert (health["exchange_id"], health["ready"], health["leader"]) == ("paper", True, True)
        assert health["position"] == (await desk.log.head()).position
        assert (health["lag_events"], health["error_count"]) == (0, 0)
        assert health["venue"] == {"connected": True, "latency_ms": 0}
        assert [item["type"] for item in health["conditions"]] == [
            "LEASE_HELD", "PROJECTIONS_AT_HEAD", "VENUE_CONNECTED", "VENUE_SNAPSHOT_COMPLETE", "NOT_PAUSED",
        ]  # fmt: skip
        assert all(item["status"] for item in health["conditions"])


@virtual_time
async def test_wait_ready_names_what_is_missing() -> None:
    """In time, with the conditions and their reasons."""
    async with a_desk(ready=False) as desk:
        desk.exchange.script.failing["connect"] = "the exchange is down"
        desk.exchange.disconnect()
        await settled()
        with pytest.raises(NotReadyError, match="the exchange is down") as caught:
            await desk.kernel.wait_ready(1)
        assert caught.value.missing == ("VENUE_CONNECTED", "VENUE_SNAPSHOT_COMPLETE")
        assert (await desk.kernel.health_check())["venue"]["connected"] is False


@virtual_time
async def test_while_not_ready_commands_are_recorded_and_nothing_is_sent() -> None:
    """Fail closed; and once ready, what was recorded is sent."""
    async with a_desk() as desk:
        desk.exchange.script.partial = True
        desk.exchange.disconnect()
        await asyncio.sleep(1)
        await desk.kernel.place_order(buy(), wait="recorded")
        await asyncio.sleep(1)
        assert desk.exchange.truth == ()
        desk.exchange.script.partial = False
        await asyncio.sleep(15)
        assert len(desk.exchange.truth) == 1


@virtual_time
async def test_a_scale_that_changes_stops_acting_and_says_so() -> None:
    """Scales never change: a venue that says otherwise is not acted on, commands are still recorded, and once it says the
    same as before the kernel goes on."""
    async with a_desk() as desk:
        true_symbol = desk.exchange.symbol
        desk.exchange.symbol = true_symbol.model_copy(update={"price_decimals": 2})
        desk.exchange.disconnect()
        await asyncio.sleep(1)
        await desk.kernel.place_order(buy(), wait="recorded")
        with pytest.raises(NotReadyError, match="scales never change"):
            await desk.kernel.wait_ready(1)
        assert desk.exchange.truth == ()
        desk.exchange.symbol = true_symbol
        await desk.kernel.wait_ready(20)
        await settled()
        assert len(desk.exchange.truth) == 1


@virtual_time
async def test_a_kernel_without_a_venue_takes_commands_and_never_leads() -> None:
    """Before a market is known it says so; later it records, answers, and sends nothing."""
    clock = LoopClock()
    async with open_log("memory://", exchange_id="paper", clock=clock) as log:
        async with open_kernel(log, clock=clock) as kernel:
            with pytest.raises(NotReadyError, match="no symbol"):
                await kernel.place_order(buy())
        async with open_kernel(log, venue=ScriptedVenue(ScriptedExchange(clock)), clock=clock) as leader:
            await leader.wait_ready(10)
        async with open_kernel(log, clock=clock) as kernel:
            intent_id = await kernel.place_order(buy(), wait="recorded")
            assert (await kernel.get_order_intent(intent_id)).order == buy()
            assert (await kernel.health_check())["leader"] is False
            with pytest.raises(NotReadyError) as caught:
                await kernel.wait_ready(1)
            assert "LEASE_HELD" in caught.value.missing


@virtual_time
async def test_wait_until_is_answered_by_facts_or_in_time() -> None:
    """True at once, true later, or a `WaitTimeoutError`."""
    async with a_desk() as desk:
        intent_id = await desk.kernel.place_order(buy(2))
        waiting = asyncio.create_task(
            desk.kernel.wait_until(intent_id, lambda record: record.cum_qty == 2, timeout_s=10)
        )
        await settled()
        desk.exchange.fill("#0", 2)
        await waiting
        with pytest.raises(WaitTimeoutError):
            await desk.kernel.wait_until(intent_id, lambda record: record.cum_qty == 3, timeout_s=1)


# ------------------------------------------------------------------------------------------------------- the engine
@virtual_time
async def test_metrics_are_true() -> None:
    """The seed's five keys: running, lag, pending, errors, retries."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy())
        await settled()
        metrics = desk.kernel.get_reconciliation_metrics()
        assert metrics == {
            "running": True,
            "reconciliation_lag_ms": 0,
            "pending_reconciliations": 0,
            "error_count": 0,
            "retry_count": 0,
        }
        desk.exchange.hold("submit-answer")
        await desk.kernel.place_order(buy(), wait="recorded")
        await settled()
        assert desk.kernel.get_reconciliation_metrics()["pending_reconciliations"] == 1
        desk.exchange.script.failing["order"] = "503"
        desk.exchange.hold("reports")
        await desk.kernel.cancel_order((await desk.kernel.get_all_intents())[0].intent_id, wait="recorded")
        await desk.kernel.stop()
        assert desk.kernel.get_reconciliation_metrics()["running"] is False


@virtual_time
async def test_failed_questions_are_counted_as_errors_and_retries() -> None:
    """A look that fails is counted, tried again, and in the end answered."""
    async with a_desk() as desk:
        desk.exchange.hold("submit", "reports")
        desk.exchange.script.failing["order"] = "503"
        await desk.kernel.place_order(buy(), wait="recorded")
        await settled()
        desk.exchange.fail("w1", "connection reset")
        await asyncio.sleep(0.2)
        metrics = desk.kernel.get_reconciliation_metrics()
        assert metrics["error_count"] == metrics["retry_count"] >= 1
        assert (await desk.kernel.health_check())["error_count"] == metrics["error_count"]
        desk.exchange.script.failing.clear()
        desk.exchange.deliver("w1")
        await asyncio.sleep(10)
        assert desk.kernel.get_reconciliation_metrics()["pending_reconciliations"] == 0


@virtual_time
async def test_force_reconciliation_runs_past_backoff() -> None:
    """A key that backs off is run at once, and once."""
    async with a_desk() as desk:
        desk.exchange.script.refusal = Rejected("busy", retry_after_s=1_000)
        intent_id = await desk.kernel.place_order(buy(), ack_timeout_s=0)
        await settled()
        desk.exchange.script.refusal = None
        await desk.kernel.force_reconciliation(intent_id)
        await settled()
        assert len(desk.exchange.truth) == 1
        await desk.kernel.force_reconciliation()
        await settled()
        assert len(desk.exchange.truth) == 1


@virtual_time
async def test_force_reconciliation_never_runs_past_what_is_unknown() -> None:
    """A submit whose outcome is unknown is looked for, not repeated."""
    async with a_desk() as desk:
        desk.exchange.hold("submit", "reports")
        intent_id = await desk.kernel.place_order(buy(), wait="recorded")
        await settled()
        desk.exchange.fail("w1", "connection reset")
        for _ in range(3):
            await desk.kernel.force_reconciliation(intent_id)
            await settled()
        assert (await desk.topics(intent_id)).count("AttemptStarted") == 1


def an_intent(intent_id: str = "mine", order: StandardOrder | None = None) -> OrderIntent:
    """A record for the plain stores."""
    return OrderIntent(intent_id=intent_id, exchange_id="paper", order=order or buy(2))


async def test_an_engine_over_plain_stores_plans_and_never_acts() -> None:
    """Without a venue it computes plans over any two stores; the stores stay as they are."""
    intents, actual = InMemoryIntentStore(), InMemoryActualStateStore()
    engine = ReconciliationEngine(intents, actual)
    await intents.create_intent(an_intent("a"))
    await intents.create_intent(an_intent("b"))
    filled = OrderStatus(order=buy(2), ord_status=OrdStatus.FILLED, cum_qty=2)
    await actual.create_order_state(OrderState(intent_id="b", exchange_order_id="#0", status=filled))
    await engine.start()
    await engine.start()
    assert await engine.reconcile_intent("a") == Submit(buy(2))
    plans = await engine.reconcile_all()
    assert list(plans) == ["a", "b"]
    assert isinstance(plans["b"], Nothing)
    with pytest.raises(NotFoundError):
        await engine.reconcile_intent("nobody")
    assert engine.get_metrics() == {
        "running": True,
        "reconciliation_lag_ms": 0,
        "pending_reconciliations": 0,
        "error_count": 0,
        "retry_count": 0,
    }
    assert await actual.list_order_states() == [await actual.get_order_state("b")]
    await engine.stop()
    await engine.stop()
    assert engine.get_metrics()["running"] is False


async def test_an_engine_with_a_venue_needs_a_log_and_its_stores() -> None:
    """Durable before the wire: a venue without a log, or with plain stores, is refused."""
    venue = ScriptedVenue(ScriptedExchange(SystemClock()))
    intents, actual = InMemoryIntentStore(), InMemoryActualStateStore()
    with pytest.raises(ValidationError, match="durable"):
        ReconciliationEngine(intents, actual, venue=venue)
    async with open_log("memory://", exchange_id="paper") as log:
        with pytest.raises(ValidationError, match="lease"):
            ReconciliationEngine(intents, actual, venue=venue, log=log)
        with pytest.raises(ValidationError, match="lease"):
            EventSourcedKernel(log, State(), intents, actual, venue=venue)


# ------------------------------------------------------------------------------------------------------- integrity
@virtual_time
async def test_a_corrupted_log_is_refused_with_the_first_bad_position() -> None:
    """A kernel on a log whose row was changed does not start, and names the row."""
    backend, clock = MemoryBackend("paper"), LoopClock()
    exchange = ScriptedExchange(clock)
    async with backend.open(clock=clock) as log:
        async with open_kernel(log, venue=ScriptedVenue(exchange), clock=clock) as kernel:
            await kernel.wait_ready(10)
            await kernel.place_order(buy(2), intent_id="mine")
        (created, *_) = await log.read_stream("intent:mine")
        state = events.encode(created).replace(b'"quantity":2', b'"quantity":9')
        backend.update(created.position, "state", state)
        with pytest.raises(IntegrityError) as caught:
            async with open_kernel(log, venue=ScriptedVenue(exchange), clock=clock):
                pass
        assert caught.value.position == created.position


@virtual_time
async def test_a_kernel_that_no_longer_reads_says_so() -> None:
    """When the log breaks under a running kernel, commands and queries of its health tell what broke."""
    backend, clock = MemoryBackend("paper"), LoopClock()
    async with (
        backend.open(clock=clock) as log,
        open_kernel(log, venue=ScriptedVenue(ScriptedExchange(clock)), clock=clock) as kernel,
    ):
        await kernel.wait_ready(10)
        kernel._runtime.fail(IntegrityError("a row was changed", position=3))
        with pytest.raises(IntegrityError, match="position 3"):
            await kernel.place_order(buy())
        await settled()
        health = await kernel.health_check()
        assert health["ready"] is False


async def test_the_way_of_one_order_on_sqlite(tmp_path: Path) -> None:
    """On a file and real time: placed, filled, canceled too late; a second kernel on it knows the same."""
    url = f"sqlite:///{tmp_path / 'kernel.db'}"
    async with a_desk(url=url, clock=SystemClock()) as desk:
        intent_id = await desk.kernel.place_order(buy(2), intent_id="mine")
        desk.exchange.fill("#0", 2)
        await desk.kernel.wait_until(intent_id, lambda record: record.cum_qty == 2, timeout_s=10)
        with pytest.raises(ExchangeError, match="too late"):
            await desk.kernel.cancel_order(intent_id)
        known = await desk.kernel.get_order_state(intent_id)
    async with open_kernel(url, exchange_id="paper") as again:
        assert await again.get_order_state(intent_id) == known
        assert [fill.fill_key for fill in await again.get_fills(intent_id)] == ["t0"]
        with pytest.raises(KernelError):
            async with open_kernel(url, exchange_id="other"):
                pass
