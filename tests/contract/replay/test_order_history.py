"""The history of an intent: it is complete, events of other streams are marked, and each event has its cause."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kernel import events
from kernel.clock import SeededIds
from kernel.errors import NotFoundError
from kernel.log import Append, EventLog, Write, open_log
from kernel.log.backends.memory import MemoryRecorder
from kernel.models import AttemptKind, AttemptOutcome, Evidence, ExecType, Finding, FindingKind, OrdStatus
from kernel.order_spec import OcoMode, StandardOrderGroup
from replay import as_of, history
from replay.formatting.output import Format
from replay.histories.order_history import History, Part, Step, active_controls, is_inferred, is_relevant
from replay.histories.order_history_text import document, length_of, text
from tests.desk import a_desk
from tests.envelopes import envelope_by, with_envelope
from tests.folding import an_attempt, an_intent, an_order
from tests.orders import buy
from tests.recorded import intents_in, log_of, simulated

virtual_time = pytest.mark.looptime


def steps(found: History, part: Part = Part.INTENT) -> list[Step]:
    """The steps of a part."""
    return [step for step in found.steps if step.part is part]


def topics(found: History, part: Part = Part.INTENT) -> list[str]:
    """The topics of a part."""
    return [step.event.topic for step in steps(found, part)]


@pytest.fixture(params=(4, 15))
def recorded(request: pytest.FixtureRequest) -> MemoryRecorder:
    """The rows of a simulated run."""
    return simulated(request.param)


async def test_a_history_is_the_stream_and_marked_events(recorded: MemoryRecorder) -> None:
    """A history has each event of the stream once and in order, marks others, and has all causes and attempts."""
    async with log_of(recorded, page_rows=100) as log:
        for intent_id in intents_in(recorded):
            stream = await log.read_stream(events.intent_stream(intent_id))
            found = await history(log, intent_id)

            assert [step.event for step in steps(found)] == stream
            positions = [step.event.position for step in found.steps]
            assert positions == sorted(set(positions))
            own = {event.position for event in stream}
            assert all((step.event.position in own) == (step.part is Part.INTENT) for step in found.steps)
            assert {event.causation_position for event in stream if event.causation_position} <= set(positions)
            assert {span.position for span in found.attempts} == {
                event.position for event in stream if isinstance(event, events.AttemptStarted)
            }
            assert found.steps[0].since_ns is None
            assert all(step.since_ns is not None and step.since_ns >= 0 for step in found.steps[1:])


async def test_the_last_step_matches_the_state(recorded: MemoryRecorder) -> None:
    """The last step has the status and quantities of the folded state, and the same unresolved attempts."""
    async with log_of(recorded, page_rows=100) as log:
        state = await as_of(log)
        for intent_id in intents_in(recorded):
            found, record = await history(log, intent_id), state.record(intent_id)
            order = state.order_state(intent_id)
            last = steps(found)[-1].summary
            assert (order is None) == (last is None)
            if order is not None and last is not None:
                status = order.status
                assert (last.ord_status, last.cum_qty, last.leaves_qty) == (
                    status.ord_status, status.cum_qty, status.leaves_qty,
                )  # fmt: skip
            open_spans = {span.position for span in found.attempts if span.resolved_position is None}
            assert open_spans == {attempt.position for attempt in record.unresolved}


@virtual_time
async def test_a_filled_order() -> None:
    """Each event names its command and attempt; the fill has the venue's timestamp beside ours."""
    async with a_desk() as desk:
        intent_id = await desk.kernel.place_order(buy(), owner="mm")
        desk.exchange.fill("#0", 2)
        await asyncio.sleep(1)
        found = await history(desk.log, intent_id)

    assert topics(found) == ["IntentCreated", "AttemptStarted", "OrderAccepted", "OrderFilled"]
    created, sent, accepted, filled = steps(found)
    assert {step.command_position for step in (created, sent, accepted, filled)} == {created.event.position}
    assert (created.attempt_position, accepted.attempt_position, filled.attempt_position) == (
        None, sent.event.position, sent.event.position,
    )  # fmt: skip
    assert (created.summary, filled.summary and filled.summary.ord_status) == (None, OrdStatus.FILLED)
    assert filled.venue_time_ns is not None
    assert not any(step.inferred for step in found.steps)
    (span,) = found.attempts
    assert (span.kind, span.outcome, span.resolved_position) == (
        AttemptKind.SUBMIT, AttemptOutcome.ACCEPTED, accepted.event.position,
    )  # fmt: skip


@virtual_time
async def test_leaders_and_pauses_are_included() -> None:
    """A pause in force when the intent began and its end are included; one that had ended is not."""
    async with a_desk() as desk:
        await desk.kernel.pause(reason="long over")
        await desk.kernel.resume()
        await desk.kernel.pause(reason="maintenance")
        intent_id = await desk.kernel.place_order(buy(), wait="recorded")
        await asyncio.sleep(5)
        await desk.kernel.resume()
        await asyncio.sleep(5)
        found = await history(desk.log, intent_id)

    assert topics(found, Part.KERNEL) == ["LeaderElected", "Paused", "Resumed"]
    (paused,) = [step.event for step in found.steps if isinstance(step.event, events.Paused)]
    assert paused.reason == "maintenance"
    order = [step.event.topic for step in found.steps]
    assert order.index("Paused") < order.index("IntentCreated") < order.index("Resumed") < order.index("AttemptStarted")


@virtual_time
async def test_a_cancel_by_a_missed_heartbeat_has_its_cause() -> None:
    """The HeartbeatLapsed event of another stream is included as the cause, marked as inferred."""
    async with a_desk() as desk:
        intent_id = await desk.kernel.place_order(buy(), owner="mm-1")
        await desk.kernel.heartbeat("mm-1", 9.0)
        await asyncio.sleep(30)
        found = await history(desk.log, intent_id)

    (cause,) = steps(found, Part.CAUSE)
    assert (cause.event.topic, cause.inferred) == ("HeartbeatLapsed", True)
    (request,) = [step for step in steps(found) if step.event.topic == "IntentCancelRequested"]
    assert request.event.causation_position == cause.event.position
    assert found.attempts[-1].kind is AttemptKind.CANCEL
    assert "HeartbeatLapsed (cause)" in text(found, Format.TABLE)


@virtual_time
async def test_group_events_are_included() -> None:
    """Events of the group, such as its creation and the fill of a sibling, are included."""
    async with a_desk() as desk:
        legs = (buy(), buy(price=90))
        first, second = await desk.kernel.place_order_group(
            StandardOrderGroup(orders=legs, mode=OcoMode.ONE_CANCELS_OTHER)
        )
        desk.exchange.fill("#0", 2)
        await asyncio.sleep(5)
        found = await history(desk.log, second)

    assert topics(found, Part.GROUP)[:2] == ["GroupCreated", "GroupWorked"]
    updated = [step.event for step in found.steps if isinstance(step.event, events.GroupUpdated)]
    assert [(event.intent_id, event.cum_qty) for event in updated] == [(first, 2)]


@virtual_time
async def test_a_live_order_has_kernel_events_up_to_the_head() -> None:
    """A leader elected after the last event is included for an open order, but not for a terminal one."""
    async with a_desk() as desk:
        ended = await desk.kernel.place_order(buy())
        await desk.kernel.cancel_order(ended)
        works = await desk.kernel.place_order(buy())
        await desk.kernel.pause(reason="later")
        assert topics(await history(desk.log, works), Part.KERNEL)[-1] == "Paused"
        assert "Paused" not in topics(await history(desk.log, ended), Part.KERNEL)


async def put(log: EventLog, intent_id: str, *made: events.BaseEvent, evidence: Evidence = Evidence.STREAM) -> None:
    """Record events of an intent."""
    write = Write(events.intent_stream(intent_id), made)
    command_id = SeededIds().command_id(1)
    await log.append(Append(command_id, (write,), "venue:paper", evidence, is_fact=True))


def a_fill(number: int, **given: Any) -> events.OrderFilled:
    """A trade of one lot of the order `c1`."""
    fields: dict[str, Any] = {
        "intent_id": "i", "symbol_id": "S", "client_order_id": "c1", "exchange_order_id": "o1", "side": "BUY",
        "exec_type": ExecType.TRADE, "fill_key": f"t{number}", "last_qty": 1, "last_px": 10,
        "transact_time_ns": number,
    }  # fmt: skip
    return events.OrderFilled(**{**fields, **given})


async def test_a_reused_id_has_one_history() -> None:
    """Both lives of a reused id are included; the second begins without an order, and inferred events are marked."""
    order = an_order(100)
    gone = events.OrderStateObserved(
        intent_id="i", symbol_id="S", client_order_id="c1", exec_type=ExecType.ORDER_STATUS, gone=True, began_ns=9
    )
    async with open_log("memory://", exchange_id="paper") as log:
        await put(log, "i", events.IntentCreated(intent=an_intent(order)), an_attempt(AttemptKind.SUBMIT, "c1", order))
        await put(log, "i", a_fill(1), gone, evidence=Evidence.QUERY)
        await put(log, "i", events.IntentDeleted(intent_id="i"), events.IntentCreated(intent=an_intent(order)))
        found = await history(log, "i")

    assert topics(found).count("IntentCreated") == 2
    assert [step.event.topic for step in found.steps if step.inferred] == ["OrderStateObserved"]
    assert found.steps[-1].summary is None


async def test_an_unknown_id_is_not_found() -> None:
    """An id that is not in the log is an error that names it."""
    async with open_log("memory://", exchange_id="paper") as log:
        with pytest.raises(NotFoundError, match="intent nobody not found"):
            await history(log, "nobody")


async def test_raw_messages_are_optional() -> None:
    """The venue's raw message is in text and data only with `raw`."""
    order = an_order(100)
    async with open_log("memory://", exchange_id="paper") as log:
        await put(log, "i", events.IntentCreated(intent=an_intent(order)), an_attempt(AttemptKind.SUBMIT, "c1", order))
        await put(log, "i", a_fill(1, raw='{"e":"\x1bfill"}'))
        found = await history(log, "i")

    assert 'raw: {"e":"\\x1bfill"}' in text(found, Format.TABLE, raw=True)
    assert "raw" not in text(found, Format.TABLE) + text(found, Format.JSON)
    assert document(found, raw=True)["steps"][-1]["event"]["raw"] == '{"e":"\x1bfill"}'


async def test_a_long_history_is_complete() -> None:
    """Ten thousand events with two hundred fills give the right totals."""
    order = an_order(200)
    look = events.VenueSnapshotTaken(
        scopes=("ORDER",), complete=True, began_ns=1, ended_ns=2, intent_id="i", client_order_id="c1", found=True
    )
    async with open_log("memory://", exchange_id="paper") as log:
        await put(log, "i", events.IntentCreated(intent=an_intent(order)), an_attempt(AttemptKind.SUBMIT, "c1", order))
        for number in range(200):
            await put(log, "i", a_fill(number), *[look] * 49)
        found = await history(log, "i")

    last = found.steps[-1].summary
    assert len(found.steps) == 10_002
    assert last is not None
    assert (last.ord_status, last.cum_qty) == (OrdStatus.FILLED, 200)


@virtual_time
async def test_an_attempt_is_unknown_until_it_is_resolved() -> None:
    """After a lost answer the attempt is unknown from the timeout until the status query resolves it."""
    async with a_desk(request_timeout_s=1.0) as desk:
        desk.exchange.hold("submit-answer", "reports", "order-answer")
        intent_id = await desk.kernel.place_order(buy(), wait="recorded")
        await asyncio.sleep(3)
        desk.exchange.flow()
        await asyncio.sleep(10)
        found = await history(desk.log, intent_id)

    (span,) = found.attempts
    unknown, resolved = (
        next(step.event for step in found.steps if step.event.position == position)
        for position in (span.unknown_position, span.resolved_position)
    )
    assert isinstance(unknown, events.AttemptUnknown)
    assert isinstance(resolved, events.OrderReport)
    assert span.outcome is AttemptOutcome.ACCEPTED


@pytest.mark.parametrize(
    ("span_ns", "words"),
    [(0, "0 ns"), (999, "999 ns"), (1_500, "1.5 µs"), (82_100_000, "82.1 ms"), (1_250_000_000, "1.25 s"),
     (7_380_000_000_000, "123m"), (90_000_000_000_000, "25h")],
)  # fmt: skip
def test_a_duration_has_a_suitable_unit(span_ns: int, words: str) -> None:
    """Durations from nanoseconds to hours are formatted with a suitable unit."""
    assert length_of(span_ns) == words


SEEN = {"intent_id": "i", "symbol_id": "S", "exec_type": ExecType.ORDER_STATUS, "client_order_id": "c1"}
DEAD = {"intent_id": "i", "attempt_position": 2, "outcome": AttemptOutcome.DEAD}


@pytest.mark.parametrize(
    ("event", "evidence", "inferred"),
    [
        (events.FillInferred(**SEEN, inferred_qty=1), Evidence.QUERY, True),
        (events.OrderStateObserved(**SEEN, gone=True, began_ns=1), Evidence.QUERY, True),
        (events.OrderStateObserved(**SEEN), Evidence.QUERY, False),
        (events.OrderStateObserved(**SEEN), Evidence.INFERRED, True),
        (events.AttemptResolved(**DEAD), Evidence.QUERY, True),
        (events.AttemptResolved(**DEAD), Evidence.OPERATOR, False),
        (events.OrderCanceled(**SEEN), Evidence.STREAM, False),
    ],
)
def test_inferred_events_are_marked(event: events.BaseEvent, evidence: Evidence, inferred: bool) -> None:
    """Inferred fills, absences and events with inferred evidence are marked; an operator's resolution is not."""
    assert is_inferred(with_envelope(event, envelope_by(3, "intent:i", 3, 1, "reconciler", evidence))) is inferred


@pytest.mark.parametrize("symbol_id", ["S", "T", None])
@pytest.mark.parametrize("kind", FindingKind)
def test_only_controls_of_the_symbol_are_included(kind: FindingKind, symbol_id: str | None) -> None:
    """Global pauses and those of the symbol are included, and of findings only the symbol's rejection storms."""
    finding = Finding(finding_id=f"{kind}:{symbol_id}", kind=kind, symbol_id=symbol_id, text="…", raised_at_ns=1)
    raised, resolved = events.FindingRaised(finding=finding), events.FindingResolved(finding_id=finding.finding_id)
    is_storm = (kind, symbol_id) == (FindingKind.STORM, "S")
    assert [is_relevant(raised, {"S"}), is_relevant(resolved, {"S"})] == [is_storm, is_storm]
    paused, resumed = events.Paused(symbol_id=symbol_id), events.Resumed(symbol_id=symbol_id)
    assert [is_relevant(paused, {"S"}), is_relevant(resumed, {"S"})] == [symbol_id != "T"] * 2


def test_ended_controls_are_not_active() -> None:
    """Of earlier pauses, storms and leaders only those are included that were in force at the intent's first event."""

    def at(position: int, event: events.BaseEvent) -> events.BaseEvent:
        return with_envelope(event, envelope_by(position, "control", position, position, "kernel", Evidence.COMMAND))

    storm = Finding(finding_id="STORM:S", kind=FindingKind.STORM, symbol_id="S", text="…", raised_at_ns=1)
    told = [
        at(1, events.LeaderElected(epoch=1, holder="a")),
        at(2, events.Paused(symbol_id="S")),
        at(3, events.Paused()),
        at(4, events.FindingRaised(finding=storm)),
        at(5, events.Resumed(symbol_id="S")),
        at(6, events.LeaderElected(epoch=2, holder="b")),
        at(7, events.FindingResolved(finding_id="STORM:S")),
    ]
    assert [event.position for event in active_controls(told)] == [3, 6]
    assert [event.position for event in active_controls(told[:4])] == [1, 2, 3, 4]
