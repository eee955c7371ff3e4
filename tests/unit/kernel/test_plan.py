"""What is to be done for one intent: `difference` and `plan`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from kernel.actions import ActionKind
from kernel.lifecycle.record import as_exit
from kernel.models import (
    UNRESOLVED,
    Attempt,
    AttemptKind,
    AttemptOutcome,
    Desired,
    OrderIntent,
    OrderState,
    OrderStatus,
    OrdStatus,
    UnsolicitedCancelPolicy,
    VenueOrder,
)
from kernel.order_spec import StandardOrder, SymbolMetadata, SymbolStatus, TimeInForce, expiry_violations
from kernel.plan import (
    Ask,
    Cancel,
    Modify,
    Nothing,
    RejectLocally,
    Resolve,
    Submit,
    TakeLess,
    WaitUntil,
    difference,
    live_orders,
    open_question,
    plan,
    remainder,
)
from kernel.venues.base import AmendDialect
from replay.testing.scripted_exchange import SYMBOL
from tests.orders import buy

FULL_SYMBOL = structs.replace(SYMBOL, iceberg=True, reduce_only=True, times_in_force=frozenset(TimeInForce))
"""The same market with every term."""
POLICY = UnsolicitedCancelPolicy


def an_intent(quantity: int = 3, **given_fields: Any) -> OrderIntent:
    """An intent for a LIMIT order at 100."""
    terms = {
        name: given_fields.pop(name) for name in ("price", "time_in_force", "expire_at_ns") if name in given_fields
    }
    return OrderIntent(intent_id="b1", exchange_id="paper", order=buy(quantity, **terms), **given_fields)


def an_order(
    number: int = 0, *, quantity: int = 3, filled: int = 0, live: bool = True, **given_fields: Any
) -> VenueOrder:
    """A venue order, live unless told otherwise; closed, its total is known."""
    ended = OrdStatus.FILLED if filled >= quantity else OrdStatus.CANCELED
    fields: dict[str, Any] = {
        "exchange_order_id": f"#{number}",
        "client_order_id": f"c{number}",
        "quantity": quantity,
        "price": 100,
        "live": live,
        "ord_status": OrdStatus.NEW if live else ended,
        "cum_qty": filled,
        "final_cum_qty": None if live else filled,
        "generation": 1,
    }
    return VenueOrder(**{**fields, **given_fields})


def an_attempt(outcome: AttemptOutcome, kind: AttemptKind = AttemptKind.SUBMIT) -> Attempt:
    """An attempt with that outcome."""
    return Attempt(number=1, kind=kind, position=1, outcome=outcome, client_order_id="c0")


def a_state(
    *orders: VenueOrder,
    attempts: tuple[Attempt, ...] | None = None,
    terms: StandardOrder | None = None,
    **given_fields: Any,
) -> OrderState:
    """What is at the venue, with these terms; the submit was accepted unless told otherwise."""
    accepted = (an_attempt(AttemptOutcome.ACCEPTED),)
    return OrderState(
        intent_id="b1",
        status=OrderStatus(order=terms or buy(3)),
        venue_orders=orders,
        attempts=accepted if attempts is None else attempts,
        **given_fields,
    )


def step(
    intent: OrderIntent | None, order: OrderState | None, *, symbol: SymbolMetadata | None = SYMBOL, now_ns: int = 0
) -> object:
    """The next step."""
    return plan(intent, order, symbol=symbol, now_ns=now_ns)


def test_a_new_intent_is_submitted_whole() -> None:
    """An intent without an order is submitted with its terms."""
    assert step(an_intent(), None) == Submit(buy(3))


def test_a_working_order_with_the_intents_terms_needs_nothing() -> None:
    """A working order with the intent's terms is left alone."""
    assert isinstance(step(an_intent(), a_state(an_order())), Nothing)


@pytest.mark.parametrize("outcome", sorted(UNRESOLVED))
def test_unresolved_attempts_come_first(outcome: AttemptOutcome) -> None:
    """An unresolved attempt is resolved first, even if the intent is canceled or two orders work."""
    state = a_state(an_order(0), an_order(1), attempts=(an_attempt(outcome),))
    assert isinstance(step(an_intent(desired=Desired.CANCELED), state), Resolve)


def test_the_newest_of_several_orders_is_canceled() -> None:
    """Of two live orders the newer one is canceled (H8)."""
    action = step(an_intent(), a_state(an_order(0), an_order(1)))
    assert isinstance(action, Cancel)
    assert action.order.exchange_order_id == "#1"


def test_a_surplus_order_is_canceled_before_a_query() -> None:
    """A surplus order is canceled even while another order's total is unknown."""
    unknown = an_order(0, live=False, final_cum_qty=None)
    action = step(an_intent(desired=Desired.CANCELED), a_state(unknown, an_order(1)))
    assert isinstance(action, Cancel)


def test_a_closed_order_without_a_total_is_queried() -> None:
    """Nothing is submitted before every closed order's final quantity is known (H13)."""
    action = step(an_intent(), a_state(an_order(live=False, final_cum_qty=None, solicited=True)))
    assert isinstance(action, Ask)


def test_an_unexplained_quantity_is_queried() -> None:
    """A total that no fill explains is queried (H16)."""
    assert isinstance(step(an_intent(), a_state(an_order(filled=1, inferred_qty=1))), Ask)


def test_the_rest_is_submitted_after_a_solicited_cancel() -> None:
    """A cancel of our own does not stop the intent: the rest is placed (H11)."""
    state = a_state(an_order(filled=1, live=False, solicited=True))
    assert step(an_intent(), state) == Submit(buy(2))


def test_an_expired_order_ends_the_intent_despite_a_cancel() -> None:
    """An order that ended by its own terms ends the intent, even if a cancel was on its way."""
    state = a_state(an_order(live=False, ord_status=OrdStatus.EXPIRED, solicited=True))
    assert isinstance(step(an_intent(time_in_force=TimeInForce.IOC), state), Nothing)


def test_an_unsolicited_cancel_stops_the_intent_by_default() -> None:
    """The venue's own cancel ends the intent."""
    assert isinstance(step(an_intent(), a_state(an_order(live=False))), Nothing)


def test_recreate_replaces_an_order_that_the_venue_canceled() -> None:
    """RECREATE places the rest."""
    intent = an_intent(on_unsolicited_cancel=POLICY.RECREATE)
    assert step(intent, a_state(an_order(filled=1, live=False))) == Submit(buy(2))


@pytest.mark.parametrize(
    ("status", "terms"),
    [
        (OrdStatus.REJECTED, {}),
        (OrdStatus.DONE_FOR_DAY, {}),
        (OrdStatus.EXPIRED, {"time_in_force": TimeInForce.DAY}),
        (OrdStatus.EXPIRED, {"time_in_force": TimeInForce.FOK}),
        (OrdStatus.EXPIRED, {"time_in_force": TimeInForce.GTD, "expire_at_ns": 5}),
        (OrdStatus.CANCELED, {"time_in_force": TimeInForce.GTD, "expire_at_ns": 5}),
    ],
)
def test_an_order_that_ended_by_its_terms_is_not_replaced(status: OrdStatus, terms: dict[str, Any]) -> None:
    """An order that was rejected after acceptance, or whose day, date or one chance is over, is not replaced."""
    intent = an_intent(on_unsolicited_cancel=POLICY.RECREATE, **terms)
    assert isinstance(step(intent, a_state(an_order(live=False, ord_status=status, closed_ns=5))), Nothing)


@pytest.mark.parametrize(
    "terms", [{}, {"time_in_force": TimeInForce.GTD, "expire_at_ns": 6}], ids=["GTC", "before its date"]
)
def test_recreate_replaces_an_order_that_expired_by_itself(terms: dict[str, Any]) -> None:
    """EXPIRED that the order's own terms do not explain is a cancel by the venue."""
    intent = an_intent(on_unsolicited_cancel=POLICY.RECREATE, **terms)
    action = step(intent, a_state(an_order(live=False, ord_status=OrdStatus.EXPIRED, closed_ns=5)), symbol=FULL_SYMBOL)
    assert isinstance(action, Submit)
    assert isinstance(step(an_intent(**terms), a_state(an_order(live=False, ord_status=OrdStatus.EXPIRED))), Nothing)


def test_nothing_is_placed_after_its_date() -> None:
    """From its date on an order is not submitted: one that never was is rejected, of another the rest is dropped."""
    terms = {"time_in_force": TimeInForce.GTD, "expire_at_ns": 6}
    intent = an_intent(on_unsolicited_cancel=POLICY.RECREATE, **terms)
    ended = a_state(an_order(filled=1, live=False, closed_ns=5))
    assert isinstance(step(intent, ended, symbol=FULL_SYMBOL, now_ns=5), Submit)
    assert step(intent, ended, now_ns=6) == TakeLess(1, str(expiry_violations(intent.order, now_ns=6)[0]))
    assert isinstance(step(intent, None, now_ns=6), RejectLocally)


def test_the_rest_of_an_immediate_order_is_not_placed() -> None:
    """An IOC order ends by itself, whatever the policy."""
    intent = an_intent(on_unsolicited_cancel=POLICY.RECREATE, time_in_force=TimeInForce.IOC)
    assert isinstance(step(intent, a_state(an_order(filled=1, live=False))), Nothing)


def test_a_new_generation_starts_anew() -> None:
    """The end of one generation does not stop the next."""
    assert step(an_intent(generation=2), a_state(an_order(filled=1, live=False))) == Submit(buy(2))


def test_other_terms_mean_cancel_first() -> None:
    """A working order with another price, or quantity, is canceled, then what is left is placed."""
    assert isinstance(step(an_intent(price=101), a_state(an_order())), Cancel)
    assert isinstance(step(an_intent(5), a_state(an_order())), Cancel)


@pytest.mark.parametrize(
    "changed", [{"display_quantity": 1}, {"time_in_force": TimeInForce.GTD, "expire_at_ns": 90}, {"reduce_only": True}]
)
def test_terms_that_are_not_reported_back_are_changed_too(changed: dict[str, Any]) -> None:
    """What is shown in the book, when it ends, what it may do: another wish is another order; done, nothing is left."""
    asked = structs.replace(buy(3), **changed)
    intent = OrderIntent(intent_id="b1", exchange_id="paper", order=asked, generation=2)
    assert isinstance(step(intent, a_state(an_order()), symbol=FULL_SYMBOL), Cancel)
    done = a_state(an_order(generation=2), terms=asked)
    assert isinstance(step(intent, done, symbol=FULL_SYMBOL), Nothing)


IN_PLACE: dict[str, Any] = {"symbol": SYMBOL, "amend": AmendDialect.IN_PLACE}


def test_what_its_group_takes_from_an_order_does_not_wait() -> None:
    """Three work and two may: changed in place, and canceled where it can't be changed now; a strategy's own wish waits."""
    less, works = an_intent(2), an_order()
    assert isinstance(plan(less, a_state(works), now_ns=0, **IN_PLACE), Modify)
    waiting = a_state(works, not_before_ns=10, failures=1)
    assert isinstance(plan(less, waiting, now_ns=0, **IN_PLACE), Cancel)
    assert isinstance(plan(an_intent(2, generation=2), waiting, now_ns=0, **IN_PLACE), WaitUntil)
    too_small = {**IN_PLACE, "symbol": structs.replace(SYMBOL, min_quantity=3)}
    assert isinstance(plan(less, a_state(works), now_ns=0, **too_small), Cancel)
    assert isinstance(plan(an_intent(4), a_state(works), now_ns=10, **IN_PLACE), Modify)


@pytest.mark.parametrize("changed", [{"min_quantity": 3}, {"lot_size": 3}, {"min_notional": 10**6}, {"tick_size": 7}])
def test_an_exit_that_the_symbol_does_not_take_waits(changed: dict[str, int]) -> None:
    """The exit of a bracket is not rejected for good, as its position stays; any other order is."""
    market = structs.replace(SYMBOL, **changed)
    assert isinstance(plan(as_exit(an_intent(2)), None, now_ns=0, symbol=market), WaitUntil)
    assert isinstance(plan(an_intent(2), None, now_ns=0, symbol=market), RejectLocally)


def test_a_change_for_the_group_that_was_refused_is_made_by_a_cancel() -> None:
    """Also while it backs off, where less may work; for more, the order stays until then, and an exit stays for good.

    Without a group the change is repeated.
    """
    refused = structs.replace(an_attempt(AttemptOutcome.REJECTED, AttemptKind.AMEND), generation=1)
    backing_off = a_state(an_order(), attempts=(refused,), not_before_ns=10, failures=1)
    less, more = (structs.replace(an_intent(total), group_id="g") for total in (2, 4))
    assert isinstance(plan(less, backing_off, now_ns=0, **IN_PLACE), Cancel)
    assert isinstance(plan(more, backing_off, now_ns=0, **IN_PLACE), WaitUntil)
    assert isinstance(plan(more, backing_off, now_ns=10, **IN_PLACE), Cancel)
    assert isinstance(plan(an_intent(4), backing_off, now_ns=10, **IN_PLACE), Modify)
    assert isinstance(plan(as_exit(less), backing_off, now_ns=10, **IN_PLACE), Cancel)
    assert isinstance(plan(as_exit(more), backing_off, now_ns=0, **IN_PLACE), WaitUntil)
    grown = plan(as_exit(more), backing_off, now_ns=10, **IN_PLACE)
    assert isinstance(grown, Modify), "an exit that works is not taken away to be made larger"


def test_the_shown_part_of_less_is_no_change() -> None:
    """What is left of an order shows no more than what is left."""
    asked = structs.replace(buy(3), display_quantity=2)
    intent = OrderIntent(intent_id="b1", exchange_id="paper", order=asked)
    rest = structs.replace(buy(1), display_quantity=1)
    orders = (an_order(filled=2, live=False, solicited=True), an_order(1, quantity=1))
    assert isinstance(step(intent, a_state(*orders, terms=rest)), Nothing)


def test_a_total_at_the_filled_quantity_cancels_the_rest() -> None:
    """A new total at or below the filled quantity cancels the working order."""
    action = step(an_intent(1, generation=2), a_state(an_order(filled=1)))
    assert isinstance(action, Cancel)


def test_a_rejected_generation_sends_nothing_and_keeps_nothing() -> None:
    """After a definitive rejection nothing is sent, and an order that appears late is canceled (H7)."""
    assert isinstance(step(an_intent(), a_state(failed_generation=1)), Nothing)
    assert isinstance(step(an_intent(), a_state(an_order(late=True), failed_generation=1)), Cancel)


def test_backoff_delays_only_submits() -> None:
    """Before `not_before_ns` a submit waits, a cancel does not."""
    waiting = a_state(attempts=(an_attempt(AttemptOutcome.DEAD),), not_before_ns=10, failures=1)
    assert step(an_intent(), waiting, now_ns=9) == WaitUntil(10, "backing off after 1 failures")
    assert step(an_intent(), waiting, now_ns=10) == Submit(buy(3))
    canceled = an_intent(desired=Desired.CANCELED)
    assert isinstance(step(canceled, a_state(an_order(), not_before_ns=10), now_ns=9), Cancel)


def test_an_unknown_or_halted_symbol_waits() -> None:
    """Without a symbol, or while it is halted, nothing is submitted or rejected."""
    assert isinstance(step(an_intent(), None, symbol=None), WaitUntil)
    halted = structs.replace(SYMBOL, status=SymbolStatus.HALTED)
    assert isinstance(step(an_intent(), None, symbol=halted), WaitUntil)


def test_a_rest_that_violates_constraints_is_rejected_locally() -> None:
    """The rest is checked again before it is sent."""
    symbol = structs.replace(SYMBOL, tick_size=7)
    action = step(an_intent(), a_state(an_order(filled=2, live=False, solicited=True)), symbol=symbol)
    assert isinstance(action, RejectLocally)
    assert [item.constraint for item in action.violations] == ["tick_size"]


@pytest.mark.parametrize(
    ("limits", "total"),
    [({"min_quantity": 3}, 1), ({"lot_size": 2, "min_quantity": 2}, 3), ({"lot_size": 5, "min_quantity": 5}, 1)],
)
def test_of_a_rest_off_the_lot_the_symbol_takes_what_it_can(limits: dict[str, Any], total: int) -> None:
    """Once something is filled, a rest off the lot is rounded down, and one below the minimum is dropped."""
    state = a_state(an_order(filled=1, live=False, solicited=True))
    quantity = 4 if "lot_size" in limits else 3
    intent = an_intent(quantity=quantity)
    action = step(intent, state, symbol=structs.replace(SYMBOL, **limits))
    assert isinstance(action, TakeLess)
    assert action.quantity == total


def test_an_order_without_an_intent_is_canceled() -> None:
    """An order that we sent is canceled once its intent is gone; a mere record is left alone."""
    assert isinstance(step(None, a_state(an_order())), Cancel)
    assert isinstance(step(None, a_state(an_order(), attempts=())), Nothing)


# ----------------------------------------------------------------------------------------------------- properties
@st.composite
def venue_orders(draw: st.DrawFn) -> VenueOrder:
    """Any venue order whose parts fit together."""
    quantity = draw(st.integers(1, 5))
    traded = draw(st.integers(0, quantity))
    inferred = draw(st.integers(0, quantity - traded))
    filled = traded + inferred == quantity
    live = not filled and draw(st.booleans())
    ended = st.sampled_from([OrdStatus.CANCELED, OrdStatus.EXPIRED, OrdStatus.REJECTED])
    status = OrdStatus.NEW if live else OrdStatus.FILLED if filled else draw(ended)
    known = filled or draw(st.booleans())
    return an_order(
        draw(st.integers(0, 9)),
        quantity=quantity,
        filled=traded + inferred,
        live=live,
        ord_status=status,
        inferred_qty=inferred,
        final_cum_qty=traded + inferred if not live and known else None,
        solicited=draw(st.booleans()),
        generation=draw(st.integers(0, 2)),
        price=draw(st.sampled_from([100, 101])),
    )


INTENTS = st.builds(
    lambda quantity, desired, policy, tif: an_intent(
        quantity, desired=desired, on_unsolicited_cancel=policy, time_in_force=tif
    ),
    st.integers(1, 8),
    st.sampled_from(Desired),
    st.sampled_from(POLICY),
    st.sampled_from([TimeInForce.GTC, TimeInForce.IOC]),
)
STATES = st.builds(
    lambda orders, attempts, failed, not_before: a_state(
        *orders, attempts=tuple(attempts), failed_generation=failed, not_before_ns=not_before
    ),
    st.lists(venue_orders(), max_size=3),
    st.lists(st.builds(an_attempt, st.sampled_from(AttemptOutcome)), min_size=1, max_size=2),
    st.integers(0, 1),
    st.sampled_from([0, 5]),
)


@given(intent=st.none() | INTENTS, order=st.none() | STATES, now_ns=st.sampled_from([0, 10]))
def test_a_submit_never_doubles_an_order(intent: OrderIntent | None, order: OrderState | None, now_ns: int) -> None:
    """A submit is planned only if nothing works, is unresolved or has an open question, and only for the rest."""
    action = step(intent, order, now_ns=now_ns)
    if not isinstance(action, Submit):
        return
    assert intent is not None
    assert intent.desired is Desired.WORKING
    if order is None:
        assert action.order == intent.order
        return
    assert not live_orders(order)
    assert not any(attempt.outcome in UNRESOLVED for attempt in order.attempts)
    assert open_question(order) is None
    filled = sum(max(item.final_cum_qty or 0, item.cum_qty) for item in order.venue_orders)
    assert 0 < action.order.quantity == intent.order.quantity - filled == remainder(intent, order)


@given(intent=st.none() | INTENTS, order=st.none() | STATES, now_ns=st.sampled_from([0, 10]))
def test_no_difference_means_nothing_to_do(intent: OrderIntent | None, order: OrderState | None, now_ns: int) -> None:
    """`difference` is None exactly if `plan` is `Nothing`; otherwise `plan` does what it names, or waits."""
    found, action = difference(intent, order), step(intent, order, now_ns=now_ns)
    assert (found is None) == isinstance(action, Nothing)
    if found is None:
        return
    expected: dict[ActionKind, tuple[type, ...]] = {
        ActionKind.RESOLVE: (Resolve,),
        ActionKind.ASK: (Ask,),
        ActionKind.CANCEL: (Cancel,),
        ActionKind.MODIFY: (Cancel, WaitUntil, RejectLocally),
        ActionKind.SUBMIT: (Submit, WaitUntil, RejectLocally),
    }
    assert isinstance(action, expected[found.kind])


@given(intent=INTENTS, order=STATES)
def test_several_live_orders_are_reduced(intent: OrderIntent, order: OrderState) -> None:
    """While several orders work, the next action resolves an attempt or cancels one of them."""
    if len(live_orders(order)) > 1:
        assert isinstance(step(intent, order), Resolve | Cancel)


@given(intent=INTENTS, order=STATES)
def test_a_canceled_intent_ends_without_live_orders(intent: OrderIntent, order: OrderState) -> None:
    """A canceled intent needs nothing only without live orders, unresolved attempts and open questions."""
    canceled = structs.replace(intent, desired=Desired.CANCELED)
    if isinstance(step(canceled, order), Nothing):
        assert not live_orders(order)
        assert open_question(order) is None


@given(intent=INTENTS, order=STATES)
def test_a_plan_depends_on_the_clock_only_for_backoff(intent: OrderIntent, order: OrderState) -> None:
    """Two plans of one state differ at most in a wait for backoff."""
    early, late = step(intent, order, now_ns=0), step(intent, order, now_ns=10)
    assert early == late or isinstance(early, WaitUntil)
