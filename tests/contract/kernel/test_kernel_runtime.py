"""`EventSourcedKernel`'s events, start, stop and health, and the `ReconciliationEngine`.

The kernel runs on the memory log and virtual time with the scripted exchange; one test runs on SQLite and real time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

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
    """`after=None` subscribes to new events, `after=0` to all."""
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
    """`kernel.events` gives the same events as an async iterator."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(), intent_id="a")
        async for event in desk.kernel.events({"intent_id": "a"}, after=0):
            assert event.topic == "IntentCreated"
            break


# ------------------------------------------------------------------------------------------------------- life
@virtual_time
async def test_start_and_stop_can_be_repeated_and_cancel_nothing() -> None:
    """Start and stop are idempotent; working orders keep working."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy())
        await desk.kernel.start()
        await desk.kernel.stop()
        await desk.kernel.stop()
        assert desk.exchange.order("#0").open
        last = [row.topic async for page in desk.log.read() for row in page][-1]
        assert last == "KernelStopped"


@virtual_time
async def test_health_shows_every_condition() -> None:
    """A ready leader is at the head and connected; `health_check` has every key of its contract."""
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
            "LEASE_HELD", "PROJECTIONS_AT_HEAD", "VENUE_CONNECTED", "VENUE_SNAPSHOT_COMPLETE", "VENUE_CLOCK",
            "NOT_PAUSED", "VENUE_STREAM", "EXITS_WORKING",
        ]  # fmt: skip
        assert all(item["status"] for item in health["conditions"])


@virtual_time
async def test_wait_ready_names_what_is_missing() -> None:
    """`wait_ready` times out with the unmet conditions and their reasons."""
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
    """Before the kernel is ready commands are recorded and nothing is sent; once ready, the orders are sent."""
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
async def test_a_changed_scale_stops_the_symbol() -> None:
    """While the venue shows a symbol with another scale, its commands are recorded and nothing is sent."""
    async with a_desk() as desk:
        true_symbol = desk.exchange.symbol
        desk.exchange.symbol = structs.replace(true_symbol, price_decimals=2)
        desk.exchange.disconnect()
        await asyncio.sleep(1)
        await desk.kernel.place_order(buy(), wait="recorded")
        await settled()
        assert desk.exchange.truth == ()
        [finding] = desk.kernel.state.findings()
        assert "X/Y with 2 decimals in prices and 0 in quantities, the log has X/Y with 0" in finding.text
        desk.exchange.symbol = true_symbol
        desk.exchange.disconnect()
        await asyncio.sleep(1)
        assert len(desk.exchange.truth) == 1
        assert desk.kernel.state.finding(finding.finding_id).resolved_at_ns is not None


@virtual_time
async def test_a_kernel_without_a_venue_takes_commands_and_never_leads() -> None:
    """A kernel without a venue records commands once a symbol is known, answers queries, and sends nothing."""
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
async def test_wait_until_is_answered_by_facts_or_a_timeout() -> None:
    """`wait_until` returns at once, later, or raises `WaitTimeoutError`."""
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
async def test_metrics_have_the_five_keys() -> None:
    """The engine's metrics: running, lag, pending, errors, retries."""
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
async def test_failed_queries_are_counted_as_errors_and_retries() -> None:
    """A failed status query is counted and retried until it is answered."""
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
    """A key in backoff is reconciled at once, and once."""
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
async def test_force_reconciliation_respects_unknown_outcomes() -> None:
    """A submit of unknown outcome is queried, not repeated."""
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
    """Return an intent for the in-memory stores."""
    return OrderIntent(intent_id=intent_id, exchange_id="paper", order=order or buy(2))


async def test_an_engine_over_plain_stores_plans_and_never_acts() -> None:
    """Without a venue the engine plans over any two stores and does not change them."""
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
    """An engine with a venue but without a log, or with in-memory stores, is refused."""
    venue = ScriptedVenue(ScriptedExchange(SystemClock()))
    intents, actual = InMemoryIntentStore(), InMemoryActualStateStore()
    with pytest.raises(ValidationError, match="recorded before it is sent"):
        ReconciliationEngine(intents, actual, venue=venue)
    async with open_log("memory://", exchange_id="paper") as log:
        with pytest.raises(ValidationError, match="lease"):
            ReconciliationEngine(intents, actual, venue=venue, log=log)
        with pytest.raises(ValidationError, match="lease"):
            EventSourcedKernel(log, State(), intents, actual, venue=venue)


# ------------------------------------------------------------------------------------------------------- integrity
@virtual_time
async def test_a_corrupted_log_is_refused_with_the_first_bad_position() -> None:
    """A kernel does not start on a log with a changed row, and names its position."""
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
async def test_a_failed_reader_is_reported() -> None:
    """When the log is damaged under a running kernel, commands and health queries raise the reader's error."""
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


class Resumptions:
    """Runs a coroutine, and counts how often it is resumed."""

    def __init__(self, running: Coroutine[Any, Any, Any]) -> None:
        self._running = running
        self.count = 0

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._running.__await__()
        for waits_for in steps:
            yield waits_for
            self.count += 1


async def test_a_command_is_resumed_once(tmp_path: Path) -> None:
    """A committed batch is folded before its callers resume, so that none waits again, unless the log is being read."""
    url = f"sqlite:///{tmp_path / 'kernel.db'}"
    async with a_desk(url=url, clock=SystemClock()):  # for the symbol
        pass
    async with open_kernel(url, exchange_id="paper") as kernel:

        async def resumptions() -> int:
            running = Resumptions(kernel.place_order(buy(), wait="recorded"))
            await running
            return running.count

        rounds = [await asyncio.gather(*(resumptions() for _ in range(32))) for _ in range(20)]
        assert min(map(max, rounds)) == 1


async def test_one_order_on_sqlite(tmp_path: Path) -> None:
    """On a file and real time an order is placed, filled and canceled too late; a second kernel on the file agrees."""
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
