"""What a whole kernel counts, at the scripted exchange and on virtual time: exactly what happened, and no more."""

from __future__ import annotations

import asyncio

import pytest

from kernel.actions import ActionKind
from kernel.errors import ExchangeError, Rejected
from kernel.metrics import (
    QUEUE,
    AppendResult,
    CallResult,
    LookResult,
    Metrics,
    Operation,
    RelistResult,
    RunResult,
)
from kernel.models import AttemptKind, AttemptOutcome, LookScope, ReconciliationStatus
from kernel.safety.readiness import CONDITIONS
from tests.desk import Desk, a_desk, settled
from tests.orders import buy
from tests.readings import Samples, count, gauges_of, samples, samples_of, total_s, value

pytestmark = pytest.mark.looptime


async def seen(desk: Desk) -> Samples:
    """The kernel's gauges, read anew."""
    return await gauges_of(desk.kernel, desk.exchange.clock)


def attempts(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Attempts by kind and outcome, of those that happened."""
    return {labels: times for labels, times in samples_of(metrics.attempts, suffix="_total").items() if times}


async def test_an_order_that_works_and_is_canceled() -> None:
    """Two attempts, each started once and accepted once, one call each, and nothing left to do."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(), intent_id="a")
        await desk.kernel.cancel_order("a")
        await asyncio.sleep(10)
        metrics, gauges = desk.kernel.metrics, await seen(desk)

    accepted = AttemptOutcome.ACCEPTED
    assert attempts(metrics) == {(AttemptKind.SUBMIT, accepted): 1, (AttemptKind.CANCEL, accepted): 1}
    for kind in (AttemptKind.SUBMIT, AttemptKind.CANCEL):
        assert value(metrics.attempts_started, kind) == 1
        assert value(metrics.venue_requests, kind, CallResult.ANSWERED) == 1
        assert count(metrics.venue_duration, kind) == 1
        assert count(metrics.intent_to_venue, kind) == 1
    assert value(metrics.reconciles, RunResult.DONE) == count(metrics.reconcile_duration) > 0
    assert value(metrics.appends, AppendResult.RECORDED) == count(metrics.append_duration)
    assert count(metrics.work_duration, QUEUE) == value(metrics.adds, QUEUE) > 0
    assert (gauges["workqueue_depth", QUEUE], gauges["pending_reconciliations",]) == (0, 0)


async def test_a_lost_answer_is_unknown_until_a_query_finds_it() -> None:
    """One attempt is unknown and its age grows, until a status query finds the order."""
    async with a_desk(request_timeout_s=1) as desk:
        desk.exchange.script.held |= {"submit-answer", "reports"}
        desk.exchange.script.failing["order"] = "503"
        await desk.kernel.place_order(buy(), intent_id="a", ack_timeout_s=3)
        metrics, gauges = desk.kernel.metrics, await seen(desk)
        assert attempts(metrics) == {(AttemptKind.SUBMIT, AttemptOutcome.UNKNOWN): 1}
        assert value(metrics.venue_requests, Operation.SUBMIT, CallResult.UNKNOWN) == 1
        assert total_s(metrics.venue_duration, Operation.SUBMIT) == pytest.approx(1, abs=0.01)
        assert gauges["unknown_attempts",] == 1
        assert gauges["oldest_unknown_attempt_seconds",] == pytest.approx(3, abs=0.1)
        assert gauges["oldest_unsynced_intent_seconds",] == pytest.approx(3, abs=0.1)
        assert gauges["live_intents", ReconciliationStatus.UNKNOWN] == 1
        assert gauges["intent_actual_diff", ActionKind.RESOLVE] == 1
        assert value(metrics.looks, LookScope.ORDER, LookResult.FAILED) > 0
        desk.exchange.script.failing.clear()
        await asyncio.sleep(10)
        metrics, gauges = desk.kernel.metrics, await seen(desk)

    assert value(metrics.looks, LookScope.ORDER, LookResult.FOUND) == 1
    assert (gauges["unknown_attempts",], gauges["oldest_unknown_attempt_seconds",]) == (0, 0)
    assert gauges["oldest_unsynced_intent_seconds",] == 0
    assert gauges["live_intents", ReconciliationStatus.SYNCED] == 1
    assert count(metrics.intent_to_venue, AttemptKind.SUBMIT) == 1


async def test_a_rejection_is_counted() -> None:
    """A definitive rejection is counted for the call and for the attempt."""
    async with a_desk() as desk:
        desk.exchange.script.refusal = Rejected("no money", code="BALANCE")
        with pytest.raises(ExchangeError):
            await desk.kernel.place_order(buy(), intent_id="a")
        metrics, gauges = desk.kernel.metrics, await seen(desk)

    assert attempts(metrics) == {(AttemptKind.SUBMIT, AttemptOutcome.REJECTED): 1}
    assert value(metrics.venue_requests, Operation.SUBMIT, CallResult.REJECTED) == 1
    assert gauges["oldest_unsynced_intent_seconds",] == 0


async def test_an_unsent_request_is_dead_and_retried() -> None:
    """Each try is a dead attempt; the intent's first call is measured once."""
    async with a_desk() as desk:
        desk.exchange.script.unsendable = True
        await desk.kernel.place_order(buy(), intent_id="a", ack_timeout_s=2)
        metrics, gauges = desk.kernel.metrics, await seen(desk)
        dead = value(metrics.attempts, AttemptKind.SUBMIT, AttemptOutcome.DEAD)
        assert dead > 1
        assert value(metrics.venue_requests, Operation.SUBMIT, CallResult.NOT_SENT) == dead
        assert value(metrics.retries, QUEUE) > 0
        assert gauges["live_intents", ReconciliationStatus.BACKING_OFF] == 1
        assert count(metrics.intent_to_venue, AttemptKind.SUBMIT) == 1


async def test_fills_reports_and_connections() -> None:
    """A fill reported by stream and list counts once; an ended stream is one reconnect and one relist."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(), intent_id="a")
        desk.exchange.fill("#0", 1)
        await settled()
        metrics, gauges = desk.kernel.metrics, await seen(desk)
        assert (value(metrics.fills), value(metrics.connects), value(metrics.reconnects)) == (1, 1, 0)
        assert value(metrics.reports) > 0
        await asyncio.sleep(7)
        metrics, gauges = desk.kernel.metrics, await seen(desk)
        assert gauges["venue_stream_last_report_age_seconds",] == pytest.approx(7, abs=0.1)
        relists = value(metrics.relists, RelistResult.COMPLETE)
        desk.exchange.disconnect()
        await asyncio.sleep(2)
        metrics, gauges = desk.kernel.metrics, await seen(desk)

    assert (value(metrics.fills), value(metrics.connects), value(metrics.reconnects)) == (1, 2, 1)
    assert value(metrics.relists, RelistResult.COMPLETE) == relists + 1
    assert gauges["relist_age_seconds",] < 2


async def test_gauges_show_leadership_and_conditions() -> None:
    """It leads epoch 1, every condition holds, nothing lags; after the stop it does not lead."""
    async with a_desk() as desk:
        metrics, gauges = desk.kernel.metrics, await seen(desk)
        assert (gauges["leader_election_master_status", QUEUE], gauges["epoch",], gauges["ready",]) == (1, 1, 1)
        assert {gauges["condition", name] for name in CONDITIONS} == {1}
        assert gauges["projection_position",] == (await desk.log.head()).position
        assert (gauges["projection_lag_events",], gauges["log_reachable",], gauges["running",]) == (0, 1, 1)
        await desk.kernel.stop()
        metrics, gauges = desk.kernel.metrics, await seen(desk)

    assert (gauges["leader_election_master_status", QUEUE], gauges["ready",], gauges["running",]) == (0, 0, 0)
    assert gauges["relist_age_seconds",] == 0
    assert desk.kernel.get_reconciliation_metrics()["error_count"] == value(metrics.error_count) == 0


async def test_events_create_no_series() -> None:
    """Orders, fills and a lost answer create no series."""
    async with a_desk() as desk:
        desk.exchange.script.failing["order"] = "503"
        await desk.kernel.place_order(buy(), intent_id="a")
        desk.exchange.fill("#0", 1)
        await desk.kernel.cancel_order("a")
        await asyncio.sleep(10)

    assert samples(desk.kernel.metrics.registry).keys() == samples(Metrics().registry).keys()
