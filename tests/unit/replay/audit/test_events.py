"""`verify` finds events that break the kernel's rules although their hashes are right: each rule is broken once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import structs
from msgspec.structs import replace

from kernel import events
from kernel.clock import NS_PER_S
from kernel.lifecycle.apply_report import ORDER_CHANGES
from kernel.log import open_log
from kernel.log.engine import records
from kernel.models import (
    AttemptKind,
    AttemptOutcome,
    Balance,
    Desired,
    Evidence,
    ExecType,
    Finding,
    FindingKind,
    LookScope,
    OrderState,
    OrderStatus,
    OrdStatus,
)
from kernel.order_spec import AssetMetadata, Side
from projections.folds import ledger
from replay import ProblemKind, VerifyReport, verify
from replay.audit import events as verify_events
from tests.folding import an_intent, an_order
from tests.stories import ABSENT_AFTER_NS, Story

Break = Callable[[Story], Awaitable[int]]
RULES: dict[str, tuple[ProblemKind, Break]] = {}
"""Functions that break one rule each and return the position."""


class Stepping:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at_ns = 1

    def now_ns(self) -> int:
        return self.at_ns

    async def sleep_until(self, deadline_ns: int) -> None:
        raise AssertionError("nothing here waits")


def breaks(kind: ProblemKind) -> Callable[[Break], Break]:
    """Register a way to break a rule, with the kind of problem."""

    def entered(break_rule: Break) -> Break:
        RULES[break_rule.__name__] = (kind, break_rule)
        return break_rule

    return entered


async def report_of(
    break_rule: Callable[[Story], Awaitable[Any]], clock: Stepping | None = None
) -> tuple[VerifyReport, Any]:
    """Verify a log that a story was written to."""
    async with open_log("memory://", exchange_id="paper", clock=clock or Stepping()) as log:
        position = await break_rule(Story(log))
        return await verify(log), position


async def working(story: Story, intent_id: str = "a") -> None:
    """A leader and an open order."""
    await story.lead()
    await story.place(intent_id)
    await story.send(intent_id, 1)
    await story.report(intent_id, events.OrderAccepted)


async def sent(story: Story) -> int:
    """A leader and an unresolved submit."""
    await story.lead()
    await story.place("a")
    return await story.send("a", 1)


# ------------------------------------------------------------------------------------------------------------- lifecycles
@breaks(ProblemKind.LIFECYCLE)
async def created_twice(story: Story) -> int:
    await story.place("a")
    return await story.place("a")


@breaks(ProblemKind.LIFECYCLE)
async def modified_without_being(story: Story) -> int:
    return await story.about("a", events.IntentModified(intent=an_intent(intent_id="a")))


@breaks(ProblemKind.LIFECYCLE)
async def changed_within_a_generation(story: Story) -> int:
    await story.place("a")
    return await story.about("a", events.IntentModified(intent=an_intent(an_order(7), intent_id="a", generation=1)))


@breaks(ProblemKind.LIFECYCLE)
async def canceled_twice(story: Story) -> int:
    await story.place("a")
    await story.about("a", events.IntentCancelRequested(intent_id="a", generation=2, requested_at_ns=1))
    return await story.about("a", events.IntentCancelRequested(intent_id="a", generation=3, requested_at_ns=1))


@breaks(ProblemKind.LIFECYCLE)
async def canceled_in_no_new_generation(story: Story) -> int:
    await story.place("a")
    return await story.about("a", events.IntentCancelRequested(intent_id="a", generation=1, requested_at_ns=1))


@breaks(ProblemKind.LIFECYCLE)
async def deleted_while_it_works(story: Story) -> int:
    await working(story)
    return await story.about("a", events.IntentDeleted(intent_id="a"))


@breaks(ProblemKind.LIFECYCLE)
async def forgotten_without_being(story: Story) -> int:
    return await story.about("a", events.OrderStateForgotten(intent_id="a"))


@breaks(ProblemKind.LIFECYCLE)
async def updated_without_being(story: Story) -> int:
    state = OrderState(intent_id="a", status=OrderStatus(order=an_order()))
    return await story.about("a", events.OrderStateRecorded(state=state, created=False))


@breaks(ProblemKind.LIFECYCLE)
async def in_the_stream_of_another(story: Story) -> int:
    await story.place("a")
    return await story.about("a", events.FindingResolved(finding_id="x"), events.IntentDeleted(intent_id="b")) + 1


@breaks(ProblemKind.LIFECYCLE)
async def an_epoch_left_out(story: Story) -> int:
    elected = events.LeaderElected(epoch=2, holder="here")
    await story.lead()
    return await story.record("control", structs.replace(elected, epoch=3), actor="kernel")


@breaks(ProblemKind.LIFECYCLE)
async def a_second_beginning(story: Story) -> int:
    log = story.log
    return await story.record("control", events.LogCreated(log_id=log.log_id, exchange_id=log.exchange_id))


# ------------------------------------------------------------------------------------------------------------------ sends
@breaks(ProblemKind.SEND)
async def sent_without_an_intent(story: Story) -> int:
    await story.lead()
    return await story.send("a", 1)


@breaks(ProblemKind.SEND)
async def sent_after_the_cancel(story: Story) -> int:
    await story.lead()
    await story.place("a")
    await story.about("a", events.IntentCancelRequested(intent_id="a", generation=2, requested_at_ns=1))
    return await story.send("a", 1, generation=2)


@breaks(ProblemKind.SEND)
async def sent_for_an_older_generation(story: Story) -> int:
    await story.lead()
    await story.place("a")
    await story.about("a", events.IntentModified(intent=an_intent(an_order(150), intent_id="a", generation=2)))
    return await story.send("a", 1)


@breaks(ProblemKind.SEND)
async def sent_in_an_older_epoch(story: Story) -> int:
    await story.lead()
    await story.lead()
    await story.place("a")
    return await story.send("a", 1, epoch=1)


@breaks(ProblemKind.SEND)
async def sent_under_a_made_up_id(story: Story) -> int:
    await story.lead()
    await story.place("a")
    return await story.send("a", 1, client_order_id="aaaaaaaaaaaaaaaaaaaaaaaaaa")


@breaks(ProblemKind.SEND)
async def a_number_used_again(story: Story) -> int:
    await working(story)
    target = {"target_client_order_id": story.name("a", 1), "target_exchange_order_id": "o-a"}
    await story.send("a", 3, AttemptKind.CANCEL, **target)
    return await story.send("a", 2, AttemptKind.CANCEL, **target)


@breaks(ProblemKind.SEND)
async def a_second_order_while_one_works(story: Story) -> int:
    await working(story)
    return await story.send("a", 2)


@breaks(ProblemKind.SEND)
async def a_second_order_while_the_first_is_unknown(story: Story) -> int:
    await sent(story)
    return await story.send("a", 2)


@breaks(ProblemKind.SEND)
async def a_resend_where_both_may_be_taken(story: Story) -> int:
    await sent(story)
    return await story.send("a", 1)


@breaks(ProblemKind.SEND)
async def more_than_the_quantity(story: Story) -> int:
    await story.lead()
    await story.place("a")
    return await story.send("a", 1, order=an_order(101))


@breaks(ProblemKind.SEND)
async def a_cancel_of_nothing(story: Story) -> int:
    await story.lead()
    await story.place("a")
    return await story.send("a", 1, AttemptKind.CANCEL, target_client_order_id="c", target_exchange_order_id="o")


@breaks(ProblemKind.SEND)
async def reported_before_it_was_sent(story: Story) -> int:
    await story.place("a")
    return await story.report("a", events.OrderAccepted)


@breaks(ProblemKind.SEND)
async def reported_under_another_number(story: Story) -> int:
    await working(story)
    return await story.report("a", events.OrderAccepted, 7, exchange_order_id="o-7")


# --------------------------------------------------------------------------------------------------------------- evidence
@breaks(ProblemKind.EVIDENCE)
async def ruled_out_too_early(story: Story) -> int:
    return await story.resolve_as_dead("a", await sent(story), began_ns=ABSENT_AFTER_NS - 1) + 1


@breaks(ProblemKind.EVIDENCE)
async def ruled_out_without_a_look(story: Story) -> int:
    position = await sent(story)
    dead = events.AttemptResolved(
        intent_id="a", attempt_position=position, outcome=AttemptOutcome.DEAD, began_ns=ABSENT_AFTER_NS
    )
    return await story.about("a", dead, evidence=Evidence.QUERY)


@breaks(ProblemKind.EVIDENCE)
async def ruled_out_where_it_may_always_arrive(story: Story) -> int:
    await story.lead()
    await story.place("a")
    position = await story.send("a", 1, valid_until_ns=None, absent_after_ns=None)
    return await story.resolve_as_dead("a", position) + 1


@breaks(ProblemKind.EVIDENCE)
async def refused_by_a_command(story: Story) -> int:
    position = await sent(story)
    no = events.AttemptFailed(intent_id="a", attempt_position=position, outcome=AttemptOutcome.REJECTED)
    return await story.about("a", no)


@breaks(ProblemKind.EVIDENCE)
async def canceled_by_a_command(story: Story) -> int:
    await working(story)
    return await story.report("a", events.OrderCanceled, evidence=Evidence.COMMAND, exec_type=ExecType.CANCELED)


@breaks(ProblemKind.EVIDENCE)
async def filled_by_a_guess(story: Story) -> int:
    await working(story)
    return await story.fill("a", 10, "t", evidence=Evidence.INFERRED)


@breaks(ProblemKind.EVIDENCE)
async def gone_by_no_look(story: Story) -> int:
    await working(story)
    look = {"gone": True, "exec_type": ExecType.ORDER_STATUS}
    return await story.report("a", events.OrderStateObserved, evidence=Evidence.QUERY, **look)


# ----------------------------------------------------------------------------------------------------------------- causes
@breaks(ProblemKind.CAUSE)
async def an_outcome_of_nothing(story: Story) -> int:
    await story.place("a")
    no = events.AttemptFailed(intent_id="a", attempt_position=1, outcome=AttemptOutcome.REJECTED)
    return await story.about("a", no, evidence=Evidence.STREAM)


@breaks(ProblemKind.CAUSE)
async def an_answer_to_nothing(story: Story) -> int:
    await sent(story)
    return await story.report("a", events.OrderAccepted, attempt_position=1)


@breaks(ProblemKind.CAUSE)
async def caused_by_what_comes_after(story: Story) -> int:
    return await story.record("control", events.Paused(), causation_position=99)


@breaks(ProblemKind.CAUSE)
async def caused_by_what_causes_no_such_thing(story: Story) -> int:
    await story.lead()
    await story.place("a")
    return await story.send("a", 1, cause=1)


# ------------------------------------------------------------------------------------------------------------- accounting
@breaks(ProblemKind.ACCOUNTING)
async def a_trade_on_the_other_side(story: Story) -> int:
    await working(story)
    return await story.fill("a", 10, "t", side=Side.SELL)


SHOWN = {"exec_type": ExecType.ORDER_STATUS, "evidence": Evidence.QUERY}


def missed(*, client_order_id: str) -> events.VenueSnapshotTaken:
    """A list at 10 ns that does not show the order."""
    return events.VenueSnapshotTaken(
        scopes=(LookScope.OPEN_ORDERS,), complete=True, began_ns=10, ended_ns=10, reflects_ns=10, intent_id="a",
        client_order_id=client_order_id, exchange_order_id="o-a", found=False,
    )  # fmt: skip


@breaks(ProblemKind.EVIDENCE)
async def gone_after_one_miss(story: Story) -> int:
    await working(story)
    await story.about("a", missed(client_order_id=story.name("a", 1)), evidence=Evidence.QUERY)
    return await story.report("a", events.OrderStateObserved, gone=True, began_ns=20, reflects_ns=20, **SHOWN)


@breaks(ProblemKind.EVIDENCE)
async def a_query_that_claims_too_much(story: Story) -> int:
    await working(story)
    lag = {"read_lag": {"order_ns": 5, "open_orders_ns": 5}}
    await story.record("control", events.CapabilitiesChanged(capabilities=lag), actor="kernel")
    return await story.report("a", events.OrderStateObserved, began_ns=10, reflects_ns=6, cum_qty=1, **SHOWN)


@breaks(ProblemKind.SEND)
async def sent_before_the_end_is_confirmed(story: Story) -> int:
    await working(story)
    await story.report("a", events.OrderCanceled, exec_type=ExecType.CANCELED, cum_qty=0, unconfirmed=True)
    return await story.send("a", 2)


async def reopened(story: Story, *, began_ns: int, **capabilities: Any) -> int:
    """A stop triggers as a new order at 1 ns, and a status query shows the stop open."""
    await working(story)
    await story.report("a", events.OrderTriggered, exec_type=ExecType.TRIGGERED)
    await story.report("a", events.OrderAccepted, exchange_order_id="o-2")
    await story.record("control", events.CapabilitiesChanged(capabilities=capabilities), actor="kernel")
    shown = {"exec_type": ExecType.ORDER_STATUS, "ord_status": OrdStatus.NEW, "began_ns": began_ns}
    return await story.report("a", events.OrderStateObserved, evidence=Evidence.QUERY, **shown)


@breaks(ProblemKind.EVIDENCE)
async def a_triggered_stop_reopened_by_an_old_list(story: Story) -> int:
    return await reopened(story, began_ns=10, read_lag={"open_orders_ns": 10})


@breaks(ProblemKind.EVIDENCE)
async def a_triggered_stop_reopened_where_it_stays_listed(story: Story) -> int:
    return await reopened(story, began_ns=1_000, trigger_parent_stays_listed=True)


async def test_a_triggered_stop_may_reopen() -> None:
    """A query that began a read lag after the trigger was recorded reopens it."""
    report, _ = await report_of(lambda story: reopened(story, began_ns=11, read_lag={"open_orders_ns": 10}))
    assert report.first_bad_position is None


@pytest.mark.parametrize("name", RULES)
async def test_a_broken_rule_is_found(name: str) -> None:
    """Each broken rule is reported with its kind at its position, and nothing before it."""
    kind, break_rule = RULES[name]
    report, position = await report_of(break_rule)
    assert (kind, position) in [(item.kind, item.position) for item in report.problems]
    assert report.first_bad_position == position


async def test_an_old_cause_is_read_from_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The topic of a cause that is no longer cached is read from the log."""
    monkeypatch.setattr(verify_events, "TOPICS_MAX", 0)
    async with open_log("memory://", exchange_id="x") as log:
        story = Story(log)
        await story.lead()
        command = await story.place("a")
        for name in ("b", "c"):
            await story.place(name)
        await story.send("a", 1, cause=command)
        wrong = await story.send("b", 1, cause=1)
        problems = (await verify(log)).problems
    assert [(item.kind, item.position) for item in problems] == [(ProblemKind.CAUSE, wrong)]


async def right(story: Story) -> None:
    """Record legal but unusual sequences."""
    await story.record_all()
    await story.place("c")
    position = await story.send("c", 1, valid_until_ns=None, absent_after_ns=None)
    vouched = events.AttemptResolved(intent_id="c", attempt_position=position, outcome=AttemptOutcome.DEAD, text="seen")
    await story.about("c", vouched, evidence=Evidence.OPERATOR)
    await story.send("c", 1)
    await story.report("c", events.OrderAccepted)
    await story.report("c", events.OrderCanceled, exec_type=ExecType.CANCELED, cum_qty=0)
    await story.fill("c", 5, "late")
    await story.fill("c", 5, "late")
    await story.report(
        "c", events.FillCorrected, side=Side.BUY, fill_key="late-2", ref_fill_key="late", last_qty=4, last_px=11,
        exec_type=ExecType.TRADE_CORRECT, fee=2, fee_asset="Y",
    )  # fmt: skip
    found = events.FindingRaised(finding=finding("c", FindingKind.FILL_AFTER_TERMINAL))
    await story.about("c", found, evidence=Evidence.STREAM)
    await story.report(
        "c", events.FillBusted, fill_key="bust", ref_fill_key="late-2", exec_type=ExecType.TRADE_CANCEL
    )  # fmt: skip
    await story.about("a", events.IntentDeleted(intent_id="a"))
    await story.place("a")
    await story.send("a", 3)
    adopted = events.IntentCreated(intent=an_intent(intent_id="ext-1", desired=Desired.CANCELED))
    await story.about("ext-1", adopted, evidence=Evidence.STREAM, actor="kernel")
    await story.report("ext-1", events.OrderAccepted, client_order_id="theirs")


def finding(intent_id: str, kind: FindingKind) -> Finding:
    """A finding about an intent."""
    return Finding(finding_id=f"{kind}:{intent_id}", kind=kind, text="so", intent_id=intent_id, raised_at_ns=1)


async def test_unusual_but_legal_events_are_no_problem() -> None:
    """Late fills, operator resolutions, reused ids of deleted intents and adopted external orders are legal."""
    report, _ = await report_of(right)
    assert [str(item) for item in report.problems] == []


async def look_at_account(story: Story, total: int = 0) -> int:
    """The leader takes a complete venue snapshot."""
    looked = events.VenueSnapshotTaken(
        scopes=(LookScope.OPEN_ORDERS, LookScope.BALANCES), complete=True, began_ns=10**18, ended_ns=10**18
    )
    balances = {"Y": Balance(asset_id="Y", total=total, free=total)}
    seen = events.BalancesObserved(balances=balances, began_ns=10**18, ended_ns=10**18)
    return await story.record("venue", seen, looked, evidence=Evidence.QUERY, actor="venue:paper")


@pytest.mark.parametrize("raised", [False, True])
async def test_two_live_orders_of_an_intent_need_their_finding(raised: bool) -> None:
    """A finding that an active leader has not raised within a minute is a problem at the event that requires it."""
    clock = Stepping()

    async def twins(story: Story) -> int:
        await working(story)
        second = await story.report("a", events.OrderAccepted, exchange_order_id="o-2")
        for at_s in (1, 30, 70):
            clock.at_ns = at_s * NS_PER_S
            await look_at_account(story)
            if raised and at_s == 30:
                found = events.FindingRaised(finding=finding("a", FindingKind.DUPLICATE_ORDER))
                await story.about("a", found, evidence=Evidence.STREAM)
        return second

    report, second = await report_of(twins, clock)
    expected = [] if raised else [(ProblemKind.FINDING, second)]
    assert [(item.kind, item.position) for item in report.problems] == expected


async def test_two_trades_under_one_key_need_their_finding() -> None:
    """Different trades under one fill key both count and need a finding."""
    clock = Stepping()

    async def reused(story: Story) -> int:
        await working(story)
        await story.fill("a", 10, "t")
        second = await story.fill("a", 11, "t")
        for at_s in (1, 70):
            clock.at_ns = at_s * NS_PER_S
            await look_at_account(story)
        return second

    report, second = await report_of(reused, clock)
    assert [(item.kind, item.position) for item in report.problems] == [(ProblemKind.FINDING, second)]


@pytest.mark.parametrize("raised", [False, True])
async def test_unexplained_balances_need_their_finding(raised: bool) -> None:
    """A balance drift without a finding is a problem at the third account observation."""

    async def drifted(story: Story) -> int:
        await story.lead()
        await story.record("reference", events.AssetObserved(asset=AssetMetadata(asset_id="Y", decimals=2)))
        await look_at_account(story, 100)
        for total in (101, 101):
            await look_at_account(story, total)
        if raised:
            drift = FindingKind.BALANCE_DRIFT
            finding = Finding(finding_id=f"{drift}:Y", kind=drift, text="so", raised_at_ns=1)
            await story.record("venue", events.FindingRaised(finding=finding), evidence=Evidence.QUERY)
        return await look_at_account(story, 101)

    report, last = await report_of(drifted)
    expected = [] if raised else [(ProblemKind.FINDING, last)]
    assert [(item.kind, item.position) for item in report.problems] == expected


async def test_a_fold_that_counts_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the ledger differs from the independently recomputed totals."""
    booked = ledger.booked
    monkeypatch.setattr(
        ledger,
        "booked",
        lambda position, booking: booked(position, replace(booking, price=booking.price + 1)),
    )
    report, _ = await report_of(Story.record_all)
    assert [(item.kind, item.position) for item in report.problems] == [(ProblemKind.ACCOUNTING, 7)]


async def test_an_event_that_cannot_be_read_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A payload that violates its schema is reported, and later events of its stream are not checked against it."""

    async def unreadable(story: Story) -> int:
        await working(story)
        append = events.IntentCancelRequested(intent_id="a", generation=-1, requested_at_ns=1)
        with monkeypatch.context() as unchecked:
            unchecked.setattr(records, "decoded", lambda kind, state, **_: append)
            position = await story.about("a", append)
        await story.fill("a", 1, "t")
        return position

    report, position = await report_of(unreadable)
    assert [(item.kind, item.position) for item in report.problems] == [(ProblemKind.UNREADABLE, position)]


async def test_a_terminal_order_can_only_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """An illegal status change is reported where it happens: here a fold forgets the terminal status."""
    monkeypatch.setitem(ORDER_CHANGES, events.OrderTriggered, lambda facts, event: replace(facts, closed=None))

    async def taken_back(story: Story) -> int:
        await working(story)
        await story.report("a", events.OrderCanceled, exec_type=ExecType.CANCELED, cum_qty=0)
        return await story.report("a", events.OrderTriggered, exec_type=ExecType.TRIGGERED)

    report, position = await report_of(taken_back)
    assert (ProblemKind.LIFECYCLE, position) in [(item.kind, item.position) for item in report.problems]
    assert OrdStatus.CANCELED in report.problems[0].text
