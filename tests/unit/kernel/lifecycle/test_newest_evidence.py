"""The newest evidence wins: ends that are confirmed or false, and orders that queries miss (H21, H22)."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from kernel.clock import NS_PER_S
from kernel.events import BaseEvent, OrderStateObserved
from kernel.lifecycle.findings import conditions
from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.lifecycle.record import order_state, stops
from kernel.models import ExecType, FindingKind, OrdStatus, ReconciliationStatus, UnsolicitedCancelPolicy
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.venues.base import ExecutionReport, VenueSnapshot
from tests.folding import Journal, a_report, a_submitted_journal, a_trade, an_order

CANCELED = a_report(ExecType.CANCELED, at=2, cum_qty=0)
OPEN = a_report(ExecType.ORDER_STATUS, ord_status=OrdStatus.NEW)


def facts_of(journal: Journal) -> OrderFacts:
    return journal.record().orders[0]


def ended(end: ExecutionReport = CANCELED) -> Journal:
    """A journal whose order was accepted and then reported as ended."""
    journal = a_submitted_journal()
    journal.hear_all("i", [a_report(ExecType.NEW, at=1), end])
    return journal


def shown_open(journal: Journal, *, reflects_ns: int) -> list[BaseEvent]:
    """Record a query that shows the order open, and includes what was recorded until then."""
    return journal.hear("i", OPEN, began_ns=reflects_ns, reflects_ns=reflects_ns)


@pytest.mark.parametrize("end", [CANCELED, a_report(ExecType.EXPIRED, at=2, cum_qty=0)])
def test_an_unsolicited_end_acts_once_it_is_confirmed(end: ExecutionReport) -> None:
    """Until a query does not show the order open, its final quantity is unknown, and STOP is not in force."""
    journal = ended(end)
    for confirmed in (False, True):
        state, intent = order_state(journal.record()), journal.record().intent
        assert state is not None
        assert intent is not None
        (item,) = state.venue_orders
        assert (item.final_cum_qty == 0, stops(item, intent)) == (confirmed, confirmed)
        assert (state.reconciliation_status is ReconciliationStatus.SYNCED) is confirmed
        journal.query()


@given(st.integers(min_value=0, max_value=10 * NS_PER_S))
def test_only_a_query_that_includes_the_end_reopens(reflects_ns: int) -> None:
    """An answer from before the end was recorded changes nothing; a later one opens the order and raises the finding."""
    journal = ended()
    closed_ns = facts_of(journal).closed_ns or 0
    shown_open(journal, reflects_ns=reflects_ns)
    newer = reflects_ns >= closed_ns
    assert facts_of(journal).live is newer
    assert (FindingKind.FALSE_END in conditions(journal.record())) is newer


@given(st.integers(min_value=1, max_value=4), st.sampled_from([ExecType.NEW, ExecType.RESTATED, ExecType.TRIGGERED]))
def test_a_report_of_the_stream_reopens_by_its_own_time(at: int, exec_type: ExecType) -> None:
    """Later than the end by venue time: open; not later: still ended."""
    journal = ended()
    journal.hear("i", a_report(exec_type, at=at))
    assert facts_of(journal).live is (at > 2)


@given(st.integers(min_value=1, max_value=4))
def test_a_fill_never_reopens(at: int) -> None:
    """It counts; one later than a confirmed end asks for another query."""
    journal = ended()
    journal.query()
    journal.hear("i", a_trade("t1", 30, at=at))
    facts = facts_of(journal)
    assert (facts.live, facts.cum_qty) == (False, 30)
    assert (facts.unconfirmed_ns is not None) is (at > 2)


@pytest.mark.parametrize("told", [None, 100])
@pytest.mark.parametrize("end_told", [None, 0])
@pytest.mark.parametrize("places", [*permutations(range(3))])
def test_a_status_filled_does_not_reopen(told: int | None, end_told: int | None, places: tuple[int, ...]) -> None:
    """An end, a trade that the venue books after it, and FILLED with or without a total: ended, in any order."""
    reports = [
        a_report(ExecType.EXPIRED, at=1, cum_qty=end_told),
        a_trade("t1", 100, at=2),
        a_report(ExecType.ORDER_STATUS, at=3, ord_status=OrdStatus.FILLED, order_qty=100, cum_qty=told),
    ]
    journal = a_submitted_journal()
    journal.hear_all("i", [reports[place] for place in places])
    facts = facts_of(journal)
    assert (facts.closed, facts.live, facts.final_cum_qty, facts.inferred_qty) == (OrdStatus.EXPIRED, False, 100, 0)
    assert FindingKind.FALSE_END not in conditions(journal.record())


@pytest.mark.parametrize("told", [{}, {"order_qty": 100}, {"cum_qty": 100}])
@pytest.mark.parametrize("stop", [False, True])
def test_filled_counts_only_as_told(told: dict[str, int], stop: bool) -> None:
    """After an end with nothing filled, FILLED gives the total, or the final quantity is unknown again; never nothing."""
    order = an_order()
    if stop:
        order = structs.replace(order, order_type=OrderType.STOP_LIMIT, stop_price=9)
    journal = a_submitted_journal(order)
    journal.hear_all("i", [a_report(ExecType.NEW, at=1), CANCELED])
    journal.query()
    journal.hear("i", a_report(ExecType.ORDER_STATUS, at=3, ord_status=OrdStatus.FILLED, **told))
    has_total = "cum_qty" in told or (bool(told) and not stop)
    assert facts_of(journal).final_cum_qty == (100 if has_total else None)


def test_a_false_end_that_is_repeated_stays_false() -> None:
    """The same end by venue time is no news; a later one ends the order, and is to be confirmed."""
    journal = ended()
    shown_open(journal, reflects_ns=10 * NS_PER_S)
    assert journal.hear("i", CANCELED) == []
    journal.hear("i", a_report(ExecType.CANCELED, at=3, cum_qty=0))
    assert (facts_of(journal).live, facts_of(journal).final_cum_qty) == (False, None)


@pytest.mark.parametrize("policy", UnsolicitedCancelPolicy)
@pytest.mark.parametrize("confirmed", [True, False])
def test_stop_stays_in_force_once_it_was_reported(policy: UnsolicitedCancelPolicy, confirmed: bool) -> None:
    """An order that is open after its confirmed end is not wanted, unless the policy is RECREATE."""
    journal = ended()
    if confirmed:
        journal.query()
    shown_open(journal, reflects_ns=10 * NS_PER_S)
    state, intent = order_state(journal.record()), journal.record().intent
    assert state is not None
    assert intent is not None
    intent = structs.replace(intent, on_unsolicited_cancel=policy)
    assert stops(state.venue_orders[0], intent) is (confirmed and policy is UnsolicitedCancelPolicy.STOP)


@given(st.lists(st.sampled_from(["list", "status", "open"]), max_size=8))
def test_misses_count_from_the_last_sighting_and_begin_with_a_list(queries: list[str]) -> None:
    """A lookup alone is no miss; after a list, each query is one; a query that shows the order starts anew."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.NEW, at=1))
    expected = 0
    for query in queries:
        if query == "open":
            shown_open(journal, reflects_ns=(len(journal.events) + 1) * NS_PER_S)
            expected = 0
        else:
            journal.query(lists=query == "list")
            expected += query == "list" or expected > 0
        assert (facts_of(journal).live, facts_of(journal).rare.misses) == (True, expected)


def test_a_miss_must_include_the_last_sighting() -> None:
    """A list from before the newest report of the order is no miss."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.NEW, at=1))
    late = journal.query().orders[0].rare.misses
    old = Journal()
    old.append("i", *journal.events[:3])
    taken = structs.replace(journal.events[-1], reflects_ns=NS_PER_S)
    old.append("i", taken)
    assert (late, facts_of(old).rare.misses) == (1, 0)


def test_an_order_that_was_seen_since_is_not_gone() -> None:
    """An order closes as gone only by a query that includes its last sighting."""
    for reflects_ns, live in ((1, True), (10 * NS_PER_S, False)):
        journal = a_submitted_journal()
        journal.hear("i", a_report(ExecType.NEW, at=1))
        gone = OrderStateObserved(
            intent_id="i", symbol_id="S", client_order_id="c1", exec_type=ExecType.ORDER_STATUS, gone=True,
            began_ns=reflects_ns, reflects_ns=reflects_ns,
        )  # fmt: skip
        journal.append("i", gone)
        assert facts_of(journal).live is live


@pytest.mark.parametrize("kind", OrderType)
def test_a_list_covers_the_symbols_and_kinds_of_its_scope(kind: OrderType) -> None:
    """A stop needs also the kind that it becomes when it triggers."""
    price = 10 if kind in (OrderType.LIMIT, OrderType.STOP_LIMIT) else None
    stop_price = 9 if kind in (OrderType.STOP, OrderType.STOP_LIMIT) else None
    order = StandardOrder(
        symbol_id="S", side=Side.BUY, order_type=kind, quantity=1, price=price, stop_price=stop_price
    )  # fmt: skip
    whole = VenueSnapshot(complete=True, began_ns=1, ended_ns=1)
    plain = frozenset({OrderType.LIMIT, OrderType.MARKET})
    assert whole.covers(order)
    assert not structs.replace(whole, symbols=frozenset({"T"})).covers(order)
    assert structs.replace(whole, order_types=plain).covers(order) is (kind in plain)
    assert structs.replace(whole, order_types=plain | {kind}).covers(order)
    assert not structs.replace(whole, order_types=frozenset({OrderType.STOP})).covers(order)


def test_the_rest_of_an_order_that_ends_at_once_needs_no_query() -> None:
    """A MARKET order's end is final as reported."""
    journal = a_submitted_journal(an_order(price=None))
    journal.hear_all("i", [a_report(ExecType.NEW, at=1), CANCELED])
    assert facts_of(journal).final_cum_qty == 0
