"""The decision of a reconciler run is a pure function, and the loop appends its value."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import events
from kernel.lifecycle.record import Record
from kernel.log.backends.memory import MemoryRecorder
from kernel.log.engine.records import event_of
from kernel.models import OrderIntent, OrderState
from kernel.plan import Ask, Nothing, WaitUntil
from kernel.reconciler import venue_reconciler
from kernel.reconciler.decide_run import decide_resend, decide_run
from kernel.reconciler.decision import AttemptResolution, Decision, LocalRejection, SendOrder, attempt_of
from kernel.reconciler.run_inputs import DecisionContext, RunInputs, RunMemory
from kernel.safety.trading_halts import TradingStatus
from kernel.settings import KernelSettings, ns
from kernel.venues.base import AmendDialect, Dedupe, VenueCapabilities
from replay.testing.scripted_exchange import SYMBOL
from tests.nightly import after_the_first
from tests.recorded import log_of, played
from tests.simulation.plan import from_seed
from tests.unit.kernel.test_plan import INTENTS, STATES

SETTINGS = KernelSettings()
NOW_NS = 1_000_000_000
CAPABILITIES = st.builds(
    VenueCapabilities,
    amend=st.sampled_from(AmendDialect),
    dedupe=st.sampled_from(Dedupe),
    validity_window_ns=st.sampled_from([None, 5_000_000_000]),
    clock_skew_ns=st.sampled_from([0, 7]),
    stamp_is_ours=st.booleans(),
)
UNMET = st.sampled_from([(), ("NOT_PAUSED",), ("LEASE_HELD", "VENUE_SNAPSHOT_COMPLETE")])


def inputs_of(
    intent: OrderIntent | None,
    order: OrderState | None,
    capabilities: VenueCapabilities,
    *,
    unmet: tuple[str, ...] = (),
    symbol: Any = SYMBOL,
    forced: bool = False,
) -> RunInputs:
    """The inputs of one intent without a group; its record has what its order has."""
    record = Record("b1", version=4, intent=intent, attempts=order.attempts if order else (), number=1 if order else 0)
    context = DecisionContext(SETTINGS, capabilities, 3, NOW_NS, unmet)
    return RunInputs(
        "b1", intent, order, record, symbol, None, None, None, 0, TradingStatus(), "ab" * 8, 42, context,
        RunMemory(forced=forced),
    )  # fmt: skip


INPUTS = st.builds(inputs_of, st.none() | INTENTS, st.none() | STATES, CAPABILITIES, unmet=UNMET, forced=st.booleans())


@given(INPUTS)
def test_equal_inputs_give_equal_decisions(inputs: RunInputs) -> None:
    """The decision depends on its inputs only: a deep copy gives an equal value, and the inputs do not change."""
    before = copy.deepcopy(inputs)
    assert decide_run(inputs) == decide_run(before)
    assert decide_resend(inputs) == decide_resend(before)
    assert inputs == before


@given(INPUTS)
def test_an_attempt_carries_the_inputs_of_its_decision(inputs: RunInputs) -> None:
    """Epoch, position and instants come from the inputs; absence is admissible after validity, skew and lag (H1 - H4)."""
    started = attempt_of(decide_run(inputs), "b1")
    if started is None:
        return
    capabilities = inputs.capabilities
    assert (started.epoch, started.state_position, started.decided_at_ns, started.stamp_ns) == (3, 42, NOW_NS, NOW_NS)
    assert started.send_by_ns == NOW_NS + ns(SETTINGS.send_budget_s)
    if capabilities.validity_window_ns is None:
        assert (started.valid_until_ns, started.absent_after_ns) == (None, None)
        return
    stamped_ns = NOW_NS if capabilities.stamp_is_ours else started.send_by_ns
    assert started.valid_until_ns == stamped_ns + capabilities.validity_window_ns
    lag_ns = capabilities.clock_skew_ns + capabilities.read_lag.longest_ns
    assert started.absent_after_ns == started.valid_until_ns + 1 + lag_ns


@given(INPUTS)
def test_unmet_conditions_stop_sending(inputs: RunInputs) -> None:
    """While a readiness condition is unmet, only status queries that do not depend on it continue."""
    decision = decide_run(inputs)
    if inputs.context.unmet:
        assert isinstance(decision, Nothing | WaitUntil | Ask | AttemptResolution)
    if "LEASE_HELD" in inputs.context.unmet:
        assert isinstance(decision, Nothing | WaitUntil)


@given(INPUTS)
def test_a_decision_is_bound_to_its_stream_version(inputs: RunInputs) -> None:
    """Another append to the stream in the meantime stops the decision."""
    decision = decide_run(inputs)
    if isinstance(decision, SendOrder | LocalRejection):
        assert decision.expected_version == inputs.record.version


@pytest.mark.parametrize("seed", after_the_first(2, (1, 3, 7, 11)))
def test_the_loop_appends_the_decided_attempts(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a simulated run with crashes and lost answers, each recorded attempt is the event of a decision."""
    decided: dict[tuple[str, int, int], events.AttemptStarted] = {}

    def noting(decide: Any) -> Any:
        def noted(inputs: RunInputs) -> Decision:
            decision: Decision = decide(inputs)
            members = inputs.group.group.intent_ids if inputs.group is not None else (inputs.intent_id,)
            for intent_id in members:
                if (started := attempt_of(decision, intent_id)) is not None:
                    decided[started.intent_id, started.decided_at_ns, started.state_position] = started
            return decision

        return noted

    monkeypatch.setattr(venue_reconciler, "decide_run", noting(decide_run))
    monkeypatch.setattr(venue_reconciler, "decide_resend", noting(decide_resend))
    appended = asyncio.run(attempts_in(played(from_seed(seed))))
    assert len(appended) > 10
    for event in appended:
        assert decided[event.intent_id, event.decided_at_ns, event.state_position] == event


async def attempts_in(recorder: MemoryRecorder) -> list[events.AttemptStarted]:
    """Every recorded attempt."""
    found = [event_of(row) async for rows in log_of(recorder).read() for row in rows]
    return [event for event in found if isinstance(event, events.AttemptStarted)]
