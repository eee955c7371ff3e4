"""What a whole kernel counts, at the scripted exchange and on virtual time: exactly what happened, and no more."""

from __future__ import annotations

import asyncio

import pytest

from kernel.actions import ActionKind
from kernel.errors import ExchangeError, Rejected
from kernel.gauges import observe_health, observe_intents, observe_kernel
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
from tests.desk import Desk, a_desk, settled
from tests.orders import buy

pytestmark = pytest.mark.looptime


async def seen(desk: Desk) -> Metrics:
    """The kernel's metrics, everything measured anew."""
    metrics, kernel = desk.kernel.metrics, desk.kernel
    now_ns = desk.exchange.clock.now_ns()
    observe_kernel(kernel, now_ns=now_ns)
    await observe_intents(metrics, kernel.state, now_ns=now_ns)
    observe_health(metrics, await kernel.health_check())
    return metrics


def attempts(metrics: Metrics) -> dict[tuple[str, ...], int]:
    """Attempts by kind and outcome, of those that happened."""
    return {labels: count for labels in metrics.attempts.combinations if (count := metrics.attempts.value(*labels))}


async def test_an_order_that_works_and_is_canceled() -> None:
    """Two attempts, each started once and accepted once, one call each, and nothing left to do."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(), intent_id="a")
        await desk.kernel.cancel_order("a")
        await asyncio.sleep(10)
        metrics = await seen(desk)

    accepted = AttemptOutcome.ACCEPTED
    assert attempts(metrics) == {(AttemptKind.SUBMIT, accepted): 1, (AttemptKind.CANCEL, accepted): 1}
    for kind in (AttemptKind.SUBMIT, AttemptKind.CANCEL):
        assert metrics.attempts_started.value(kind) == 1
        assert metrics.venue_requests.value(kind, CallResult.ANSWERED) == 1
        assert metrics.venue_duration.series(kind).count == 1
        assert metrics.intent_to_venue.series(kind).count == 1
    assert metrics.reconciles.value(RunResult.DONE) == metrics.reconcile_duration.series().count > 0
    assert metrics.appends.value(AppendResult.RECORDED) == metrics.append_duration.series().count
    assert metrics.work_duration.series(QUEUE).count == metrics.adds.value(QUEUE) > 0
    assert (metrics.depth.value(QUEUE), metrics.pending_reconciliations.value()) == (0, 0)


async def test_a_lost_answer_is_unknown_until_a_look_finds_it() -> None:
    """While nobody knows, one attempt is unknown and grows old; the look that finds the order ends that."""
    async with a_desk(request_timeout_s=1) as desk:
        desk.exchange.script.held |= {"submit-answer", "reports"}
        desk.exchange.script.failing["order"] = "503"
        await desk.kernel.place_order(buy(), intent_id="a", ack_timeout_s=3)
        metrics = await seen(desk)
        assert attempts(metrics) == {(AttemptKind.SUBMIT, AttemptOutcome.UNKNOWN): 1}
        assert metrics.venue_requests.value(Operation.SUBMIT, CallResult.UNKNOWN) == 1
        assert metrics.venue_duration.series(Operation.SUBMIT).sum == pytest.approx(1, abs=0.01)
        assert metrics.unknown_attempts.value() == 1
        assert metrics.oldest_unknown.value() == pytest.approx(3, abs=0.1)
        assert metrics.oldest_unsynced.value() == pytest.approx(3, abs=0.1)
        assert metrics.live_intents.value(ReconciliationStatus.UNKNOWN) == 1
        assert metrics.differences.value(ActionKind.RESOLVE) == 1
        assert metrics.looks.value(LookScope.ORDER, LookResult.FAILED) > 0
        desk.exchange.script.failing.clear()
        await asyncio.sleep(10)
        metrics = await seen(desk)

    assert metrics.looks.value(LookScope.ORDER, LookResult.FOUND) == 1
    assert (metrics.unknown_attempts.value(), metrics.oldest_unknown.value()) == (0, 0)
    assert metrics.oldest_unsynced.value() == 0
    assert metrics.live_intents.value(ReconciliationStatus.SYNCED) == 1
    assert metrics.intent_to_venue.series(AttemptKind.SUBMIT).count == 1


async def test_a_refusal_is_one() -> None:
    """A definitive no is counted as rejected, of the call and of the attempt."""
    async with a_desk() as desk:
        desk.exchange.script.refusal = Rejected("no money", code="BALANCE")
        with pytest.raises(ExchangeError):
            await desk.kernel.place_order(buy(), intent_id="a")
        metrics = await seen(desk)

    assert attempts(metrics) == {(AttemptKind.SUBMIT, AttemptOutcome.REJECTED): 1}
    assert metrics.venue_requests.value(Operation.SUBMIT, CallResult.REJECTED) == 1
    assert metrics.oldest_unsynced.value() == 0


async def test_what_never_left_is_dead_and_tried_again() -> None:
    """Each try is an attempt that is dead; the wish is as old as it is, and its first call is measured once."""
    async with a_desk() as desk:
        desk.exchange.script.unsendable = True
        await desk.kernel.place_order(buy(), intent_id="a", ack_timeout_s=2)
        metrics = await seen(desk)
        dead = metrics.attempts.value(AttemptKind.SUBMIT, AttemptOutcome.DEAD)
        assert dead > 1
        assert metrics.venue_requests.value(Operation.SUBMIT, CallResult.NOT_SENT) == dead
        assert metrics.retries.value(QUEUE) > 0
        assert metrics.live_intents.value(ReconciliationStatus.BACKING_OFF) == 1
        assert metrics.intent_to_venue.series(AttemptKind.SUBMIT).count == 1


async def test_fills_reports_and_connections() -> None:
    """A fill that comes by the stream and by a list counts once; a stream that ends is one reconnect, then a relist."""
    async with a_desk() as desk:
        await desk.kernel.place_order(buy(), intent_id="a")
        desk.exchange.fill("#0", 1)
        await settled()
        metrics = await seen(desk)
        assert (metrics.fills.value(), metrics.connects.value(), metrics.reconnects.value()) == (1, 1, 0)
        assert metrics.reports.value() > 0
        await asyncio.sleep(7)
        metrics = await seen(desk)
        assert metrics.heard_age.value() == pytest.approx(7, abs=0.1)
        relists = metrics.relists.value(RelistResult.COMPLETE)
        desk.exchange.disconnect()
        await asyncio.sleep(2)
        metrics = await seen(desk)

    assert (metrics.fills.value(), metrics.connects.value(), metrics.reconnects.value()) == (1, 2, 1)
    assert metrics.relists.value(RelistResult.COMPLETE) == relists + 1
    assert metrics.relist_age.value() < 2


async def test_what_stands() -> None:
    """It leads epoch 1, every condition holds, nothing is behind; stopped, it leads no more."""
    async with a_desk() as desk:
        metrics = await seen(desk)
        assert (metrics.leader.value(QUEUE), metrics.epoch.value(), metrics.ready.value()) == (1, 1, 1)
        assert {metrics.conditions.value(*labels) for labels in metrics.conditions.combinations} == {1}
        assert metrics.position.value() == (await desk.log.head()).position
        assert (metrics.lag_events.value(), metrics.log_reachable.value(), metrics.running.value()) == (0, 1, 1)
        await desk.kernel.stop()
        metrics = await seen(desk)

    assert (metrics.leader.value(QUEUE), metrics.ready.value(), metrics.running.value()) == (0, 0, 0)
    assert metrics.relist_age.value() == 0
    assert desk.kernel.get_reconciliation_metrics()["error_count"] == metrics.error_count.value() == 0
