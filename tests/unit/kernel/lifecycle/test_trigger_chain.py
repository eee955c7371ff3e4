"""A stop that triggers as a new order: the reports of both may arrive in any order, and the quantity counts once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from kernel.lifecycle.attribution import attribution, attribution_reports, stop_requests
from kernel.lifecycle.decide_report import event_of
from kernel.lifecycle.findings import conditions
from kernel.lifecycle.orders.trades import TradeEntry
from kernel.lifecycle.record import stops, venue_order
from kernel.models import AttemptKind, ExecType, ExternalOrder, FindingKind, OrderIntent, OrdStatus
from kernel.order_spec import OrderType, Side, StandardOrder
from kernel.venues.base import ExecutionReport
from tests.folding import Journal, a_bust, a_report, a_submitted_journal, a_trade, an_attempt
from tests.histories import deliveries
from tests.unhurried import unhurried

STOP = StandardOrder(symbol_id="S", side=Side.SELL, order_type=OrderType.STOP, quantity=10, stop_price=9)
MARKET = StandardOrder(symbol_id="S", side=Side.SELL, order_type=OrderType.MARKET, quantity=10)
PARENT, CHILD = "#0", "#1"
TELLINGS: dict[str, dict[str, Any]] = {
    "nothing": {}, "the parent": {"parent_exchange_order_id": PARENT}, "the type": {"order": MARKET},
}  # fmt: skip


def of_stop(exec_type: ExecType, at: int, **given: Any) -> ExecutionReport:
    return a_report(exec_type, at=at, exchange_order_id=PARENT, order_qty=10, **given)


def of_child(exec_type: ExecType, at: int, **given: Any) -> ExecutionReport:
    return a_report(exec_type, at=at, exchange_order_id=CHILD, order_qty=10, **given)


@st.composite
def triggers(draw: st.DrawFn) -> tuple[list[ExecutionReport], int, bool]:
    """The reports of a trigger in the venue's order, the filled quantity, and whether the new order is still open."""
    told = draw(st.sampled_from(sorted(TELLINGS)))
    reports = [of_stop(ExecType.NEW, 1), of_stop(ExecType.TRIGGERED, 2)]
    if (end := draw(st.sampled_from([None, ExecType.EXPIRED, ExecType.CANCELED]))) is not None:
        reports.append(of_stop(end, 3, cum_qty=0))
    reports.append(of_child(ExecType.NEW, 4, cum_qty=0, **TELLINGS[told]))
    filled = 0
    for number, quantity in enumerate(draw(st.lists(st.integers(1, 6), max_size=2))):
        quantity = min(quantity, 10 - filled)
        filled += quantity
        trade = a_trade(f"t{number}", quantity, 9, at=5 + number, exchange_order_id=CHILD, order_qty=10, cum_qty=filled)
        reports += [trade] if quantity else []
    if filled and draw(st.booleans()):
        status = OrdStatus.FILLED if filled == 10 else OrdStatus.PARTIALLY_FILLED
        reports.append(of_stop(ExecType.ORDER_STATUS, 8, ord_status=status, cum_qty=filled))
    ends = filled < 10 and draw(st.booleans())
    if ends:
        reports.append(of_child(ExecType.CANCELED, 9, cum_qty=filled))
    return reports, filled, not ends and filled < 10


@unhurried
@given(st.data())
def test_the_reports_may_arrive_in_any_order(data: st.DataObject) -> None:
    """At no time more counts than was filled; in the end the new order stands for the stop, and nothing is a duplicate."""
    reports, filled, is_open = data.draw(triggers())
    journal = a_submitted_journal(STOP)
    for report in data.draw(deliveries(reports)):
        journal.hear("i", report)
        assert journal.record().cum_qty <= filled
    if is_open:  # a list shows it
        status = OrdStatus.PARTIALLY_FILLED if filled else OrdStatus.NEW
        listed = of_child(ExecType.ORDER_STATUS, 20, ord_status=status, cum_qty=filled)
        journal.hear("i", listed, began_ns=10**15)
    record = journal.record()
    live = [facts.exchange_order_id for facts in record.live_orders]
    assert record.cum_qty == filled
    assert CHILD in live if is_open else CHILD not in live
    assert all(facts.inferred_qty == 0 for facts in record.orders)


@unhurried
@given(st.data())
def test_after_the_acceptance_of_the_stop_no_query_is_needed(data: st.DataObject) -> None:
    """If the stop was known before, the new order is its successor in any order of the other reports."""
    (first, *reports), filled, is_open = data.draw(triggers())
    journal = a_submitted_journal(STOP)
    journal.hear_all("i", [first, *data.draw(deliveries(reports))])
    record = journal.record()
    assert [facts.exchange_order_id for facts in record.live_orders] == ([CHILD] if is_open else [])
    assert record.cum_qty == filled
    assert FindingKind.DUPLICATE_ORDER not in conditions(record)
    (stop,) = [facts for facts in record.orders if facts.exchange_order_id == PARENT]
    intent = record.intent
    assert isinstance(intent, OrderIntent)
    assert not stops(venue_order(stop, record), intent)


def test_a_modified_stop_hands_its_generation_on() -> None:
    """The new order belongs to the generation of the stop's newest terms."""
    journal = a_submitted_journal(STOP)
    journal.hear("i", of_stop(ExecType.NEW, 1))
    amend = an_attempt(
        AttemptKind.AMEND, "c2", STOP, number=2, generation=2, target_client_order_id="c1",
        target_exchange_order_id=PARENT,
    )  # fmt: skip
    journal.append("i", amend)
    journal.hear("i", of_stop(ExecType.REPLACED, 2, client_id="c2", orig_client_order_id="c1"))
    journal.hear("i", of_child(ExecType.NEW, 3, client_id="c2"))
    (child,) = journal.record().live_orders
    assert (child.exchange_order_id, child.generation, child.client_order_id) == (CHILD, 2, "c2")


@pytest.mark.parametrize("keeps", [True, False])
def test_a_replaced_stop_triggers(keeps: bool) -> None:
    """The new order follows the order that replaced the stop, with that one's terms where the venue tells none."""
    journal = a_submitted_journal(STOP)
    journal.hear("i", of_stop(ExecType.NEW, 1))
    amend = an_attempt(
        AttemptKind.AMEND, "c2", STOP, number=2, generation=2, target_client_order_id="c1",
        target_exchange_order_id=PARENT, new_order=True, keeps_cum_qty=keeps,
    )  # fmt: skip
    journal.append("i", amend)
    replaced = {"client_id": "c2", "orig_client_order_id": "c1", "exchange_order_id": "#9", "order_qty": 7}
    journal.hear("i", a_report(ExecType.REPLACED, at=2, **replaced))
    journal.hear("i", a_report(ExecType.TRIGGERED, at=3, client_id="c2", exchange_order_id=CHILD))
    (child,) = journal.record().live_orders
    assert (child.exchange_order_id, child.generation, child.quantity, child.client_order_id) == (CHILD, 2, 7, "c2")


@pytest.mark.parametrize("began_ns", [None, 1])
def test_only_a_later_query_reopens_a_stop(began_ns: int | None) -> None:
    """A stream report, or a query from before the trigger was known, shows the stop as it was."""
    journal = opened_journal()
    journal.hear("i", of_stop(ExecType.ORDER_STATUS, 9, ord_status=OrdStatus.NEW, cum_qty=0), began_ns=began_ns)
    assert [facts.exchange_order_id for facts in journal.record().live_orders] == [CHILD]


def test_a_query_reopens_a_stop_for_good() -> None:
    """A later query that shows the stop open: both orders are live, a duplicate, until the stop ends."""
    journal = opened_journal()
    journal.hear("i", of_stop(ExecType.ORDER_STATUS, 9, ord_status=OrdStatus.NEW, cum_qty=0), began_ns=10**15)
    assert FindingKind.DUPLICATE_ORDER in conditions(journal.record())
    journal.hear("i", of_child(ExecType.TRIGGERED, 10))
    assert len(journal.record().live_orders) == 2
    journal.hear("i", of_stop(ExecType.EXPIRED, 11, cum_qty=0))
    assert FindingKind.DUPLICATE_ORDER not in conditions(journal.record())


@pytest.mark.parametrize("told", sorted(TELLINGS))
def test_a_canceled_duplicate_accounts_for_no_trigger(told: str) -> None:
    """The kernel canceled a copy of the stop: the new order is the successor of the other stop."""
    journal = a_submitted_journal(STOP)
    types = {"order": STOP} if told == "the type" else {}
    journal.hear("i", of_stop(ExecType.NEW, 1, **types))
    journal.hear("i", a_report(ExecType.NEW, at=2, exchange_order_id="#9", order_qty=10, **types))
    if told != "the type":
        journal.hear("i", of_stop(ExecType.ORDER_STATUS, 3, ord_status=OrdStatus.NEW), began_ns=10**15)
    assert len(journal.record().live_orders) == 2
    cancel = an_attempt(
        AttemptKind.CANCEL, "c2", STOP, number=2, target_client_order_id="c1", target_exchange_order_id="#9"
    )
    journal.append("i", cancel)
    journal.hear("i", a_report(ExecType.CANCELED, at=4, exchange_order_id="#9", cum_qty=0))
    journal.hear("i", of_child(ExecType.NEW, 5, **TELLINGS[told]))
    assert [facts.exchange_order_id for facts in journal.record().live_orders] == [CHILD]
    journal.hear("i", of_stop(ExecType.ORDER_STATUS, 6, ord_status=OrdStatus.FILLED, cum_qty=10))
    journal.hear("i", a_trade("t", 10, 9, at=6, exchange_order_id=CHILD, order_qty=10, cum_qty=10))
    assert journal.record().cum_qty == 10


@pytest.mark.parametrize("last", ["the trade's bust", "the stop's total"])
def test_a_bust_retires_the_total_that_the_stop_showed_before(last: str) -> None:
    """What the stop showed of the new order's fill does not count once that fill is busted, whichever is reported last."""
    journal = opened_journal()
    journal.hear("i", a_trade("t", 10, 9, at=5, exchange_order_id=CHILD, order_qty=10, cum_qty=10))
    told = [
        of_stop(ExecType.ORDER_STATUS, 6, ord_status=OrdStatus.FILLED, cum_qty=10),
        a_bust("b", "t", at=8, exchange_order_id=CHILD, order_qty=10, cum_qty=0),
    ]
    journal.hear_all("i", told if last == "the trade's bust" else told[::-1])
    assert journal.record().cum_qty == 0


def opened_journal() -> Journal:
    """A journal with a stop and the new order of its trigger, without more than their acceptance."""
    journal = a_submitted_journal(STOP)
    journal.hear_all("i", [of_stop(ExecType.NEW, 1), of_child(ExecType.NEW, 4)])
    return journal


CANCEL = an_attempt(
    AttemptKind.CANCEL, "c2", STOP, number=2, target_client_order_id="c1", target_exchange_order_id=PARENT
)
UNSEEN = {
    "told as expired": ([of_stop(ExecType.EXPIRED, 3, cum_qty=0)], True),
    "told as canceled by the venue": ([of_stop(ExecType.CANCELED, 3, cum_qty=0)], True),
    "gone": ([], True),
    "told as filled": ([of_stop(ExecType.ORDER_STATUS, 3, ord_status=OrdStatus.FILLED, cum_qty=10)], True),
    "filled itself": ([a_trade("t", 10, 9, at=3, exchange_order_id=PARENT, order_qty=10, cum_qty=10)], False),
    "rejected": ([of_stop(ExecType.REJECTED, 3)], False),
    "followed": ([of_stop(ExecType.EXPIRED, 3, cum_qty=0), of_child(ExecType.NEW, 4)], False),
}


@pytest.mark.parametrize("way", UNSEEN)
def test_which_stops_may_have_triggered_unseen(way: str) -> None:
    """A stop that ended, or is filled without trades, may have triggered as an order that is not known."""
    reports, expected = UNSEEN[way]
    journal = a_submitted_journal(STOP)
    journal.hear("i", of_stop(ExecType.NEW, 1))
    assert stop_requests(journal.record()) == []
    journal.hear_all("i", reports)
    if way == "gone":
        query = {"began_ns": 10**15, "reflects_ns": 10**15, "attempt_position": None}
        event = event_of(journal.record(), of_stop(ExecType.ORDER_STATUS, 3), **query)
        journal.append("i", structs.replace(event, gone=True))
    assert [item.stop_id for item in stop_requests(journal.record())] == ([PARENT] if expected else [])


@pytest.mark.parametrize("triggers", [True, False])
def test_a_stop_that_was_canceled_did_not_trigger(triggers: bool) -> None:
    """The end that a cancel asked for explains itself, unless the venue told the trigger before."""
    journal = a_submitted_journal(STOP)
    journal.hear("i", of_stop(ExecType.NEW, 1))
    journal.append("i", CANCEL)
    journal.hear_all("i", [of_stop(ExecType.TRIGGERED, 2)] if triggers else [])
    journal.hear("i", of_stop(ExecType.CANCELED, 3, cum_qty=0))
    assert len(stop_requests(journal.record())) == triggers


def test_an_attributed_order_succeeds_the_stop() -> None:
    """The order of the trigger is the stop's successor whatever became of the stop, and its end is no ghost any more."""
    journal = a_submitted_journal(STOP)
    journal.hear_all("i", [of_stop(ExecType.NEW, 1), of_stop(ExecType.EXPIRED, 3, cum_qty=0)])
    (request,) = stop_requests(journal.record())
    made = ExternalOrder(exchange_order_id=CHILD, symbol_id="S", side=Side.SELL, quantity=10, cum_qty=4)
    trade = TradeEntry("t", 4, 9, 3, None, None, None)
    reports = attribution_reports(made, [trade], request, text="seen")
    journal.append("i", *attribution(journal.record(), reports, now_ns=9))
    stop, child = journal.record().orders
    assert (stop.succeeded, child.rare.parent_id, child.client_order_id) == (True, PARENT, "c1")
    assert journal.record().cum_qty == 4
    assert stop_requests(journal.record()) == []
