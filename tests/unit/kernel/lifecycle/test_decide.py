"""Commands give events or a clear refusal; verdicts and facts resolve the attempts that they are about."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from kernel import events
from kernel.errors import AlreadyExistsError, ConflictError, ExchangeError, NotFoundError, ValidationError
from kernel.events import (
    AttemptFailed,
    AttemptResolved,
    AttemptUnknown,
    IntentCancelRequested,
    IntentCreated,
    IntentDeleted,
    IntentModified,
)
from kernel.lifecycle.decide import (
    CancelIntent,
    CreateIntent,
    CreateState,
    DeleteIntent,
    ForgetState,
    PlaceOrder,
    UpdateIntent,
    UpdateState,
    decide,
)
from kernel.lifecycle.record import Record, order_state
from kernel.models import (
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Desired,
    ExecType,
    OrderState,
    OrderStatus,
    OrdStatus,
    ReconciliationStatus,
)
from kernel.order_spec import SymbolMetadata
from tests.folding import Journal, a_report, a_submitted_journal, a_trade, an_attempt, an_intent, an_order

SYMBOL = SymbolMetadata(
    symbol_id="S",
    base_asset="B",
    quote_asset="Q",
    price_decimals=0,
    quantity_decimals=0,
    lot_size=10,
    tick_size=5,
    max_open_orders=3,
)


def a_created_journal(**given: Any) -> Journal:
    """A journal with the intent `i`, nothing sent."""
    journal = Journal()
    journal.append("i", IntentCreated(intent=an_intent(**given)))
    return journal


def do(journal: Journal, command: Any) -> list[events.BaseEvent]:
    """Decide a command on `i` and record what it comes to."""
    made = decide(journal.record(), command)
    journal.append("i", *made)
    return made


def state_of(journal: Journal) -> OrderState:
    state = order_state(journal.record())
    assert state is not None
    return state


def attempts_of(journal: Journal) -> dict[int, AttemptOutcome]:
    return {attempt.position: attempt.outcome for attempt in journal.record().attempts}


def a_state(**given: Any) -> OrderState:
    """A state as a store's writer would make it."""
    return OrderState(intent_id="i", **{"status": OrderStatus(order=an_order()), **given})


# ------------------------------------------------------------------------------------------------------------ intents
def test_create_records_the_whole_intent() -> None:
    """Creating an intent is one event that carries it unchanged."""
    journal = Journal()
    (made,) = do(journal, CreateIntent(an_intent(owner="mm-1")))
    assert isinstance(made, IntentCreated)
    assert journal.record().intent == an_intent(owner="mm-1")
    assert order_state(journal.record()) is None


def test_create_refuses_a_taken_id() -> None:
    """An existing intent id cannot be created again, whether or not the order is equal."""
    with pytest.raises(AlreadyExistsError, match="intent i already exists"):
        do(a_created_journal(), CreateIntent(an_intent()))


def test_create_lists_every_violation() -> None:
    """The refusal names every violation: the lot, the tick and the number of open orders."""
    with pytest.raises(ValidationError) as raised:
        do(Journal(), CreateIntent(an_intent(an_order(7, price=3)), SYMBOL, open_orders=3))
    assert {item.constraint for item in raised.value.violations} == {"lot_size", "tick_size", "max_open_orders"}


def test_create_without_a_symbol_checks_no_constraint() -> None:
    """A store's create does not check the symbol's constraints."""
    assert do(Journal(), CreateIntent(an_intent(an_order(7, price=3))))


def test_place_is_idempotent() -> None:
    """The same order under the same id adds no event; another order under that id is refused."""
    journal = a_created_journal(order=an_order(100))
    assert do(journal, PlaceOrder(an_intent(an_order(100), owner="other"), SYMBOL)) == []
    with pytest.raises(AlreadyExistsError, match="another order"):
        do(journal, PlaceOrder(an_intent(an_order(110)), SYMBOL))


def test_place_checks_the_symbols_constraints() -> None:
    """A new order must satisfy the symbol's constraints."""
    with pytest.raises(ValidationError, match="quantity 7 is not a multiple of the lot size 10"):
        do(Journal(), PlaceOrder(an_intent(an_order(7)), SYMBOL))


@pytest.mark.parametrize(
    ("changes", "generation"),
    [({"owner": "new"}, 1), ({"order": an_order(200)}, 2), ({"desired": Desired.CANCELED}, 2), ({"generation": 9}, 1)],
)
def test_update_sets_the_generation(changes: dict[str, Any], generation: int) -> None:
    """The generation goes up by one with `order` or `desired`, and with nothing else; times are the store's."""
    journal = a_created_journal(created_at_ns=3)
    given = structs.replace(an_intent(), updated_at_ns=99, created_at_ns=98, **changes)
    do(journal, UpdateIntent(given, now_ns=7))
    intent = journal.record().intent
    assert intent is not None
    assert (intent.generation, intent.created_at_ns, intent.updated_at_ns) == (generation, 3, 7)


def test_update_refuses_an_older_generation() -> None:
    """A record made from an older one is a conflict."""
    journal = a_created_journal(generation=3)
    with pytest.raises(ConflictError, match="read it again"):
        do(journal, UpdateIntent(an_intent(generation=2), now_ns=1))


@pytest.mark.parametrize(
    "command",
    [UpdateIntent(an_intent(), 1), CancelIntent("i", 1), DeleteIntent("i")],
    ids=lambda command: type(command).__name__,
)
def test_an_unknown_intent_is_not_found(command: Any) -> None:
    """Update, cancel and delete of an unknown intent are `NotFoundError`, which is a `KeyError`."""
    with pytest.raises(NotFoundError, match="intent i not found"):
        do(Journal(), command)


def test_cancel_is_idempotent() -> None:
    """A cancel is one event with the next generation; a repeat adds none."""
    journal = a_submitted_journal()
    (made,) = do(journal, CancelIntent("i", now_ns=5))
    assert isinstance(made, IntentCancelRequested)
    intent = journal.record().intent
    assert intent is not None
    assert (made.generation, intent.desired, intent.updated_at_ns) == (2, Desired.CANCELED, 5)
    assert do(journal, CancelIntent("i", now_ns=6)) == []


@pytest.mark.parametrize(
    "report",
    [a_trade("t1", 100, at=1), a_report(ExecType.EXPIRED, at=1, cum_qty=0), a_report(ExecType.REJECTED, at=1)],
    ids=["FILLED", "EXPIRED", "REJECTED"],
)
def test_cancel_of_an_ended_order_is_too_late(report: Any) -> None:
    """A filled, expired or rejected order cannot be canceled, and no event is recorded."""
    journal = a_submitted_journal()
    journal.hear("i", report)
    journal.query()
    with pytest.raises(ExchangeError, match="too late"):
        do(journal, CancelIntent("i", now_ns=5))


def test_cancel_is_not_too_late_while_an_attempt_is_unresolved() -> None:
    """A filled order with an unresolved attempt can still be canceled."""
    journal = a_submitted_journal()
    journal.hear("i", a_trade("t1", 100, at=1))
    journal.append("i", an_attempt(AttemptKind.SUBMIT, "c2", an_order(), number=2))
    assert len(do(journal, CancelIntent("i", now_ns=5))) == 1


def test_cancel_of_a_canceled_order_is_recorded() -> None:
    """An order that the venue canceled can still be canceled."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.CANCELED, at=1, cum_qty=0))
    assert len(do(journal, CancelIntent("i", now_ns=5))) == 1


def test_delete_is_refused_while_an_order_may_be_open() -> None:
    """An intent with an order or request that may be open cannot be deleted; a finished one can."""
    journal = a_submitted_journal()
    with pytest.raises(ConflictError, match="cancel it first"):
        do(journal, DeleteIntent("i"))
    journal.hear("i", a_report(ExecType.NEW, at=1))
    with pytest.raises(ConflictError, match="cancel it first"):
        do(journal, DeleteIntent("i"))
    journal.hear("i", a_report(ExecType.CANCELED, at=2))
    with pytest.raises(ConflictError, match="cancel it first"):
        do(journal, DeleteIntent("i"))
    journal.hear("i", a_report(ExecType.CANCELED, at=2, cum_qty=0))
    journal.query()
    (made,) = do(journal, DeleteIntent("i"))
    assert isinstance(made, IntentDeleted)
    assert journal.record().intent is None


def test_a_reused_id_keeps_its_attempt_numbers() -> None:
    """Attempt numbers and client order ids stay known after a delete; old fills no longer count."""
    journal = a_submitted_journal(number=4)
    journal.hear_all("i", [a_trade("t1", 30, at=1), a_report(ExecType.CANCELED, at=2, cum_qty=30)])
    journal.query()
    do(journal, DeleteIntent("i"))
    do(journal, CreateIntent(an_intent()))
    record = journal.record()
    assert (record.number, record.send_count("c1"), record.cum_qty, order_state(record)) == (4, 1, 0, None)


# ------------------------------------------------------------------------------------------------------------- states
def test_order_states_are_created_updated_and_deleted() -> None:
    """A store creates, reads, updates and deletes an order state, each with its error."""
    journal = Journal()
    for command in (UpdateState(a_state(), 1), ForgetState("i")):
        with pytest.raises(NotFoundError, match="order state"):
            do(journal, command)
    do(journal, CreateState(a_state(failures=3), 1))
    assert state_of(journal) == a_state(failures=3)
    with pytest.raises(AlreadyExistsError, match="order state"):
        do(journal, CreateState(a_state(), 1))
    do(journal, UpdateState(a_state(failures=4), 1))
    assert state_of(journal).failures == 4
    do(journal, ForgetState("i"))
    assert order_state(journal.record()) is None


@pytest.mark.parametrize("order_id", ["o1", None], ids=["named", "unnamed"])
def test_reports_apply_on_top_of_a_recorded_state(order_id: str | None) -> None:
    """A recorded state is a baseline: known fills stay known, and a total without fills is a finding."""
    journal = a_submitted_journal()
    trade = a_trade("t1", 30, at=1, exchange_order_id=order_id)
    journal.hear("i", trade)
    status = OrderStatus(order=an_order(), ord_status=OrdStatus.PARTIALLY_FILLED, cum_qty=50, leaves_qty=50)
    do(journal, UpdateState(a_state(status=status, exchange_order_id=order_id, client_order_id="c1"), 1))
    assert "UNEXPLAINED_QUANTITY:i" in journal.record().findings
    assert journal.hear("i", trade) == []
    journal.hear("i", a_trade("t2", 20, at=2, exchange_order_id=order_id))
    assert (state_of(journal).status.cum_qty, journal.record().findings) == (50, frozenset())


# ----------------------------------------------------------------------------------------------------------- verdicts
SUBMIT_POSITION = 2
"""Where `a_submitted_journal` has its AttemptStarted."""


def verdicts(position: int) -> list[events.BaseEvent]:
    """Each kind of verdict on one attempt."""
    return [
        AttemptFailed(intent_id="i", attempt_position=position, outcome=AttemptOutcome.DEAD, failures=1),
        AttemptUnknown(intent_id="i", attempt_position=position),
        AttemptResolved(intent_id="i", attempt_position=position, outcome=AttemptOutcome.DEAD),
    ]


@pytest.mark.parametrize("place", range(3), ids=["AttemptFailed", "AttemptUnknown", "AttemptResolved"])
def test_verdicts_on_other_positions_are_ignored(place: int) -> None:
    """A verdict that names another position leaves every attempt unchanged (H7, H18)."""
    journal = a_submitted_journal()
    journal.append("i", an_attempt(AttemptKind.SUBMIT, "c1", an_order()))
    before = attempts_of(journal)
    journal.append("i", verdicts(1)[place], verdicts(99)[place])
    assert attempts_of(journal) == before


@pytest.mark.parametrize("place", range(3), ids=["AttemptFailed", "AttemptUnknown", "AttemptResolved"])
def test_verdicts_on_resolved_attempts_are_ignored(place: int) -> None:
    """After facts resolve an attempt, no verdict changes it, its failures or its backoff."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.NEW, at=1))
    journal.append("i", verdicts(SUBMIT_POSITION)[place])
    assert attempts_of(journal) == {SUBMIT_POSITION: AttemptOutcome.ACCEPTED}
    assert journal.record().failures == 0


def test_a_rejected_resend_resolves_that_send_only() -> None:
    """`AttemptFailed` of the second send leaves the first one unknown (H7)."""
    journal = a_submitted_journal()
    journal.append("i", AttemptUnknown(intent_id="i", attempt_position=SUBMIT_POSITION))
    second = journal.append("i", an_attempt(AttemptKind.SUBMIT, "c1", an_order()))
    refused = AttemptFailed(intent_id="i", attempt_position=second, outcome=AttemptOutcome.REJECTED, failures=1)
    journal.append("i", refused)
    assert attempts_of(journal) == {SUBMIT_POSITION: AttemptOutcome.UNKNOWN, second: AttemptOutcome.REJECTED}
    assert state_of(journal).reconciliation_status is ReconciliationStatus.UNKNOWN
    journal.hear("i", a_report(ExecType.NEW, at=1))
    assert state_of(journal).status.ord_status is OrdStatus.NEW


def test_a_resolution_covers_earlier_sends_of_the_id() -> None:
    """A status query resolves every earlier send of the same client order id, and no later one."""
    journal = a_submitted_journal()
    second = journal.append("i", an_attempt(AttemptKind.SUBMIT, "c1", an_order()))
    third = journal.append("i", an_attempt(AttemptKind.SUBMIT, "c1", an_order()))
    journal.append("i", AttemptResolved(intent_id="i", attempt_position=second, outcome=AttemptOutcome.DEAD))
    assert attempts_of(journal)[third] is AttemptOutcome.PENDING
    assert [attempt.position for attempt in journal.record().unresolved] == [third]


def test_a_new_generation_may_be_sent_at_once_and_keeps_the_failures() -> None:
    """A failed attempt sets the recorded backoff; a new generation need not wait for it, but its next failure counts on."""
    journal = a_submitted_journal()
    failed = AttemptFailed(
        intent_id="i", attempt_position=SUBMIT_POSITION, outcome=AttemptOutcome.DEAD, retry_at_ns=77, failures=2
    )
    journal.append("i", failed)
    state = state_of(journal)
    assert (state.failures, state.not_before_ns) == (2, 77)
    assert state.reconciliation_status is ReconciliationStatus.BACKING_OFF
    do(journal, UpdateIntent(an_intent(an_order(200)), now_ns=1))
    state = state_of(journal)
    assert (state.failures, state.not_before_ns) == (0, 0)
    assert journal.record().failures == 2


def test_a_definitive_rejection_fails_the_generation() -> None:
    """A definitive rejection makes the intent FAILED until its generation changes."""
    journal = a_submitted_journal()
    refused = AttemptFailed(
        intent_id="i", attempt_position=SUBMIT_POSITION, outcome=AttemptOutcome.REJECTED, text="no funds", failures=1
    )
    journal.append("i", refused)
    state = state_of(journal)
    assert (state.failed_generation, state.status.ord_status) == (1, OrdStatus.REJECTED)
    assert state.reconciliation_status is ReconciliationStatus.FAILED
    do(journal, UpdateIntent(an_intent(an_order(200)), now_ns=1))
    assert state_of(journal).reconciliation_status is not ReconciliationStatus.FAILED


def test_a_rejected_cancel_does_not_fail_the_generation() -> None:
    """A rejected cancel proves nothing about the order."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.NEW, at=1))
    position = journal.append("i", an_attempt(AttemptKind.CANCEL, "r1", an_order(), target_client_order_id="c1"))
    journal.append(
        "i", AttemptFailed(intent_id="i", attempt_position=position, outcome=AttemptOutcome.REJECTED, failures=1)
    )
    assert journal.record().failed_generation == 0


# -------------------------------------------------------------------------------------------------------------- facts
def test_a_report_resolves_every_send_of_the_id() -> None:
    """A reported order resolves all submits under its id and resets failures."""
    journal = a_submitted_journal()
    journal.append("i", AttemptUnknown(intent_id="i", attempt_position=SUBMIT_POSITION))
    journal.append("i", an_attempt(AttemptKind.SUBMIT, "c1", an_order()))
    journal.hear("i", a_report(ExecType.NEW, at=1))
    assert journal.record().unresolved == []
    assert set(attempts_of(journal).values()) == {AttemptOutcome.ACCEPTED}


def test_a_report_resolves_no_submit_of_another_id() -> None:
    """An order resolves only submits of its own client order id."""
    journal = a_submitted_journal()
    second = journal.append("i", an_attempt(AttemptKind.SUBMIT, "c2", an_order(), number=2))
    journal.hear("i", a_report(ExecType.NEW, at=1))
    assert [attempt.position for attempt in journal.record().unresolved] == [second]


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        (a_report(ExecType.CANCELED, at=2, cum_qty=0), AttemptOutcome.ACCEPTED),
        (a_trade("t1", 100, at=2), AttemptOutcome.DEAD),
        (a_report(ExecType.EXPIRED, at=2, cum_qty=0), AttemptOutcome.DEAD),
    ],
    ids=["canceled", "filled", "expired"],
)
def test_the_end_of_an_order_resolves_its_cancel(ending: Any, outcome: AttemptOutcome) -> None:
    """A cancel is accepted if the order was canceled, and dead if it ended otherwise."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.NEW, at=1))
    position = journal.append("i", an_attempt(AttemptKind.CANCEL, "r1", an_order(), target_client_order_id="c1"))
    journal.hear("i", ending)
    assert attempts_of(journal)[position] is outcome


def test_a_rejected_cancel_proves_nothing() -> None:
    """A cancel rejected by the venue stays unknown and leaves the order unchanged (H12)."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.NEW, at=1))
    position = journal.append("i", an_attempt(AttemptKind.CANCEL, "r1", an_order(), target_client_order_id="c1"))
    journal.hear("i", a_report(ExecType.CANCEL_REJECTED, at=2, client_id="r1", orig_client_order_id="c1"))
    assert attempts_of(journal)[position] is AttemptOutcome.UNKNOWN
    assert [facts.live for facts in journal.record().orders] == [True]


def test_an_ambiguous_rejection_resolves_nothing() -> None:
    """A rejection without a venue id, under an id sent twice, may be about either send (H7)."""
    journal = a_submitted_journal()
    journal.append("i", an_attempt(AttemptKind.SUBMIT, "c1", an_order()))
    assert journal.hear("i", a_report(ExecType.REJECTED, at=1)) == []
    assert len(journal.record().unresolved) == 2


@pytest.mark.parametrize("outcome", [AttemptOutcome.DEAD, AttemptOutcome.REJECTED])
def test_a_late_accept_is_live_at_once(outcome: AttemptOutcome) -> None:
    """An order that appears after its submit was resolved as failed is live, late, and a finding until it ends (H8)."""
    journal = a_submitted_journal()
    journal.append("i", AttemptResolved(intent_id="i", attempt_position=SUBMIT_POSITION, outcome=outcome))
    made = journal.hear("i", a_report(ExecType.NEW, at=1))
    raised = [event.finding.kind for event in made if isinstance(event, events.FindingRaised)]
    (order,) = state_of(journal).venue_orders
    assert (order.live, order.late, raised) == (True, True, ["LATE_ACCEPT"])
    ended = journal.hear("i", a_report(ExecType.CANCELED, at=2, cum_qty=0))
    assert "LATE_ACCEPT:i" in [event.finding_id for event in ended if isinstance(event, events.FindingResolved)]


def test_two_orders_under_one_id_are_both_counted() -> None:
    """Orders are keyed by the venue's id: a duplicated request is two live orders, and a finding while both are open."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.NEW, at=1, exchange_order_id="o1"))
    journal.hear("i", a_report(ExecType.NEW, at=2, exchange_order_id="o2"))
    assert len(journal.record().live_orders) == 2
    assert "DUPLICATE_ORDER:i" in journal.record().findings
    journal.hear("i", a_report(ExecType.CANCELED, at=3, exchange_order_id="o1", cum_qty=0))
    assert [facts.exchange_order_id for facts in journal.record().live_orders] == ["o2"]
    assert journal.record().findings == {"DUPLICATE_ORDER:i"}
    journal.hear("i", a_report(ExecType.CANCELED, at=4, exchange_order_id="o2", cum_qty=0))
    assert journal.record().findings == frozenset()


def test_a_cancel_once_started_stays_solicited() -> None:
    """An order canceled after its cancel was resolved as dead counts as canceled on request (H11)."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.NEW, at=1))
    position = journal.append("i", an_attempt(AttemptKind.CANCEL, "r1", an_order(), target_client_order_id="c1"))
    journal.append("i", AttemptResolved(intent_id="i", attempt_position=position, outcome=AttemptOutcome.DEAD))
    journal.hear("i", a_report(ExecType.CANCELED, at=2, cum_qty=0))
    (order,) = state_of(journal).venue_orders
    assert (order.solicited, order.ord_status) == (True, OrdStatus.CANCELED)


def test_a_cancel_by_the_venue_is_unsolicited() -> None:
    """Without a cancel ever started, a canceled order was canceled by the venue."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.CANCELED, at=2, cum_qty=0))
    assert [order.solicited for order in state_of(journal).venue_orders] == [False]


def test_a_cancel_without_cum_qty_leaves_the_final_quantity_unknown() -> None:
    """A closed order has no final quantity until a report states it (H13)."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.CANCELED, at=2))
    assert [order.final_cum_qty for order in state_of(journal).venue_orders] == [None]
    assert state_of(journal).reconciliation_status is ReconciliationStatus.PENDING
    journal.hear("i", a_report(ExecType.ORDER_STATUS, at=2, ord_status=OrdStatus.CANCELED, cum_qty=30))
    journal.query()
    assert [order.final_cum_qty for order in state_of(journal).venue_orders] == [30]


def test_an_order_missing_from_the_list_is_closed_until_shown_again() -> None:
    """A missing order is closed, reason unknown (H15); a later query that shows it reopens it."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.NEW, at=1, order_qty=100))
    gone = events.OrderStateObserved(
        intent_id="i", symbol_id="S", client_order_id="c1", exec_type=ExecType.ORDER_STATUS, gone=True, began_ns=50
    )
    journal.append("i", gone)
    (order,) = state_of(journal).venue_orders
    assert (order.live, order.ord_status, order.final_cum_qty) == (False, OrdStatus.NEW, None)
    look = a_report(ExecType.ORDER_STATUS, at=1, ord_status=OrdStatus.NEW, order_qty=100)
    assert journal.hear("i", look, began_ns=40) == []
    assert journal.hear("i", look, began_ns=60)
    (order,) = state_of(journal).venue_orders
    assert (order.live, order.closed_ns) == (True, None)


def test_findings_are_raised_once_and_resolved() -> None:
    """An overfill is one finding however it grows, and is resolved when a bust reverses it."""
    journal = a_submitted_journal()
    first = journal.hear("i", a_trade("t1", 101, at=1))
    assert [event.topic for event in first] == ["OrderFilled", "FindingRaised"]
    assert [event.topic for event in journal.hear("i", a_trade("t2", 1, at=2))] == ["OrderFilled"]
    journal.hear("i", a_report(ExecType.TRADE_CANCEL, at=3, fill_key="b1", ref_fill_key="t2"))
    assert journal.record().findings == {"OVERFILL:i"}
    last = journal.hear("i", a_report(ExecType.TRADE_CANCEL, at=4, fill_key="b2", ref_fill_key="t1"))
    assert [event.topic for event in last] == ["FillBusted", "FindingResolved"]
    assert journal.record().findings == frozenset()


def test_a_pause_is_shown() -> None:
    """A paused intent reads PAUSED until it is resumed."""
    journal = a_submitted_journal()
    journal.append("i", events.Paused(intent_id="i"))
    assert state_of(journal).reconciliation_status is ReconciliationStatus.PAUSED
    journal.append("i", events.Resumed(intent_id="i"))
    assert state_of(journal).reconciliation_status is ReconciliationStatus.IN_FLIGHT


def test_a_new_generation_resets_recorded_backoff() -> None:
    """A recorded state is read as written until a later fact; a changed intent resets only its backoff and status."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.NEW, at=1, exchange_order_id="o1"))
    written = a_state(failures=5, not_before_ns=9, exchange_order_id="o1", client_order_id="c1", last_sync_at=7.5)
    do(journal, UpdateState(structs.replace(written, reconciliation_status=ReconciliationStatus.SYNCED), 1))
    changed = an_intent(an_order(200), generation=2)
    journal.append("i", IntentModified(intent=changed))
    forgotten = {"failures": 0, "not_before_ns": 0, "reconciliation_status": ReconciliationStatus.PENDING}
    assert state_of(journal) == structs.replace(written, **forgotten)


def test_numbers_never_go_back() -> None:
    """Neither a recorded state nor an older attempt lowers the attempt number."""
    journal = a_submitted_journal(number=7)
    attempt = Attempt(number=3, kind=AttemptKind.SUBMIT, position=1, outcome=AttemptOutcome.DEAD, client_order_id="c3")
    do(journal, UpdateState(a_state(attempts=(attempt,)), 1))
    assert journal.record().number == 7


def test_versions_follow_the_stream() -> None:
    """The record's version is that of the last event of its stream, of any type."""
    journal = a_submitted_journal()
    journal.append("i", events.Resumed(intent_id="i"), *verdicts(99))
    assert journal.record() != Record("i")
    assert journal.record().version == len(journal.events)


def test_shrinking_an_order_below_what_is_filled_is_no_overfill() -> None:
    """Overfilled is what exceeds the largest quantity ever; a later, smaller quantity changes no fill."""
    journal = a_submitted_journal()
    wanted = journal.record().intent
    assert wanted is not None
    journal.hear("i", a_report(ExecType.NEW, at=1, exchange_order_id="o1"))
    journal.hear("i", a_trade("t1", 60, at=2, exchange_order_id="o1"))
    smaller = structs.replace(wanted.order, quantity=50)
    journal.append("i", IntentModified(intent=structs.replace(wanted, order=smaller, generation=2)))
    journal.hear("i", a_report(ExecType.CANCELED, at=3, exchange_order_id="o1", cum_qty=60))

    assert journal.record().findings == frozenset()
