"""The lifecycle under random histories: order, repetition and delay of reports do not matter, and nothing is made up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import events
from kernel.errors import OutcomeUnknown
from kernel.events import IntentCreated
from kernel.lifecycle.orders.order_facts import OrderFacts, effective_trades
from kernel.lifecycle.orders.order_status import TERMINAL, ord_status
from kernel.lifecycle.orders.trades import TradeEntry, fees_of
from kernel.lifecycle.record import Record, order_state
from kernel.models import AttemptKind, ExecType, OrdStatus
from kernel.order_spec import Side, TimeInForce
from kernel.venues.base import ExecutionReport
from tests.folding import (
    Journal,
    a_bust,
    a_correction,
    a_report,
    a_submitted_journal,
    a_trade,
    an_attempt,
    an_intent,
    an_order,
)
from tests.histories import History, Truth, deliveries, histories
from tests.unhurried import unhurried

VOIDS = frozenset({ExecType.TRADE_CANCEL, ExecType.TRADE_CORRECT})


def heard(history: History, reports: list[ExecutionReport]) -> Journal:
    """A journal in which everything was sent, then the reports came in."""
    journal = Journal()
    journal.append("i", IntentCreated(intent=an_intent()), *history.attempts)
    journal.hear_all("i", reports)
    return journal


def facts_of(facts: OrderFacts) -> dict[str, Any]:
    """What must not depend on how reports came in."""
    return {
        "cum_qty": facts.cum_qty,
        "amounts": facts.quantities,
        "final_cum_qty": facts.final_cum_qty,
        "leaves_qty": facts.leaves_qty,
        "closed": facts.closed,
        "ord_status": ord_status(facts),
        "live": facts.live,
        "open_requests": sorted(facts.open_requests),
        "terms": (facts.quantity, facts.price),
        "done_for_day": facts.done_for_day,
        "client_id": facts.client_order_id,
        "client_ids": frozenset(facts.client_order_ids) | facts.rare.superseded_ids,
    }


def orders_of(record: Record) -> dict[str, dict[str, Any]]:
    return {facts.exchange_order_id: facts_of(facts) for facts in record.orders}


def settled(orders: dict[str, dict[str, Any]], others: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Facts of orders without a final quantity that the others do not know: a query has yet to confirm the end (H21).

    Where trades after the end are busted, the order of delivery decides whether it is asked for.
    """
    asked = {name for name, facts in others.items() if facts["final_cum_qty"] is None}
    return {name: facts | ({"final_cum_qty": None} if name in asked else {}) for name, facts in orders.items()}


def order_of(record: Record, truth: Truth) -> OrderFacts | None:
    return next((facts for facts in record.orders if facts.exchange_order_id in ("", truth.order_id)), None)


@unhurried
@given(st.data())
def test_any_delivery_ends_in_the_same_facts(data: st.DataObject) -> None:
    """Any interleaving, duplication and delay of the same reports ends in the facts of the delivery in order."""
    history = data.draw(histories())
    in_order = heard(history, history.reports).record()
    delivered = heard(history, data.draw(deliveries(history.reports))).record()
    assert settled(orders_of(delivered), orders_of(in_order)) == settled(orders_of(in_order), orders_of(delivered))
    assert {facts.exchange_order_id for facts in delivered.live_orders} == {
        facts.exchange_order_id for facts in in_order.live_orders
    }


@unhurried
@given(st.data())
def test_all_reports_give_the_venues_quantities(data: st.DataObject) -> None:
    """Once every report has arrived, quantities and end are the venue's own."""
    history = data.draw(histories())
    record = heard(history, data.draw(deliveries(history.reports))).record()
    for truth in history.truths:
        facts = order_of(record, truth)
        if facts is None:
            assert truth.cum_qty == 0
            continue
        assert (facts.cum_qty, facts.traded_qty, facts.quantities.cum_notional) == (
            truth.cum_qty,
            truth.cum_qty,
            truth.cum_notional,
        )
        assert (facts.leaves_qty, facts.closed) == (truth.leaves_qty, truth.ended)
        assert facts.open_requests == []


@unhurried
@given(st.data())
def test_a_known_report_is_no_news(data: st.DataObject) -> None:
    """A report that was received before makes no event."""
    history = data.draw(histories())
    journal = heard(history, data.draw(deliveries(history.reports)))
    for report in history.reports:
        assert journal.hear("i", report) == []


def test_a_known_report_of_other_terms_is_no_news() -> None:
    """A change was pending when the order ended: its terms are compared then, and not when a report is repeated."""
    journal = Journal()
    journal.append("i", IntentCreated(intent=an_intent()), an_attempt(AttemptKind.SUBMIT, "c1", an_order(100)))
    journal.append("i", an_attempt(AttemptKind.AMEND, "r1", an_order(100), target_client_order_id="c1"))
    ids: dict[str, Any] = {"client_id": "c1", "exchange_order_id": "o1", "order_qty": 1}
    reports = [a_report(ExecType.RESTATED, at=1, side=Side.BUY, **ids), a_trade("t1", 1, at=3, **ids)]
    assert all(journal.hear("i", report) for report in reports)
    assert [journal.hear("i", report) for report in reports] == [[], []]


@unhurried
@given(st.data())
def test_lost_trades_are_never_counted_too_high(data: st.DataObject) -> None:
    """With every bust and correction known, losing other reports leaves at most the venue's quantity."""
    history = data.draw(histories())
    kept = [report for report in history.reports if report.exec_type in VOIDS or data.draw(st.booleans())]
    record = heard(history, data.draw(deliveries(kept))).record()
    for truth in history.truths:
        facts = order_of(record, truth)
        assert facts is None or facts.traded_qty <= facts.cum_qty <= truth.cum_qty


@unhurried
@given(st.data())
def test_inferred_quantity_shrinks_as_trades_arrive(data: st.DataObject) -> None:
    """The inferred quantity is always the evidence beyond the trades, and zero in the end."""
    history = data.draw(histories())
    journal = heard(history, [])
    for report in data.draw(deliveries(history.reports)):
        made = journal.hear("i", report)
        for event in made:
            if isinstance(event, events.FillInferred):
                inferred = [facts.inferred_qty for facts in journal.record().orders]
                assert event.inferred_qty in inferred
    assert all(facts.inferred_qty == 0 for facts in journal.record().orders)


@unhurried
@given(st.data())
def test_a_terminal_status_has_evidence(data: st.DataObject) -> None:
    """An order is never FILLED, CANCELED, EXPIRED or REJECTED without a report that shows it."""
    history = data.draw(histories())
    journal = heard(history, [])
    said: list[ExecutionReport] = []
    for report in data.draw(deliveries(history.reports)):
        journal.hear("i", report)
        said.append(report)
        state = order_state(journal.record())
        assert state is not None
        for order in state.venue_orders:
            own = [item for item in said if item.exchange_order_id in (None, order.exchange_order_id)]
            assert order.ord_status not in TERMINAL or is_evident(order.ord_status, order.quantity, own)


def is_evident(status: OrdStatus, quantity: int, said: list[ExecutionReport]) -> bool:
    if status is OrdStatus.FILLED:
        traded = sum(item.last_qty or 0 for item in said if item.exec_type is not ExecType.TRADE_CANCEL)
        shown = ((item.order_qty if item.ord_status is status else None, item.cum_qty) for item in said)
        told = max((total or 0 for totals in shown for total in totals), default=0)
        return max(traded, told) >= quantity
    return any(item.exec_type.value == status.value or item.ord_status is status for item in said)


ENDINGS = st.sampled_from([ExecType.CANCELED, ExecType.EXPIRED, ExecType.REJECTED])


@unhurried
@given(ENDINGS, st.booleans(), st.integers(1, 100))
def test_no_status_refuses_a_fill(ending: ExecType, told: bool, quantity: int) -> None:
    """A trade counts after any end, with or without a reported total, and is a finding if it contradicts one."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ending, at=2, cum_qty=0 if told else None))
    journal.hear("i", a_trade("t1", quantity, at=1))
    record = journal.record()
    assert record.cum_qty == quantity
    contradicted = told or ending is ExecType.REJECTED
    assert any("FILL_AFTER_TERMINAL" in name for name in record.findings) == contradicted


@unhurried
@given(st.permutations(["trade", "bust"]), st.integers(1, 9))
def test_a_bust_before_its_fill_holds(order: list[str], quantity: int) -> None:
    """A busted trade never counts, whichever of the two arrives first."""
    reports = {"trade": a_trade("t1", quantity, at=1), "bust": a_bust("b1", "t1", at=2)}
    journal = a_submitted_journal()
    journal.hear_all("i", [reports[name] for name in order])
    assert journal.record().cum_qty == 0


def test_a_total_from_before_a_bust_is_stale() -> None:
    """A total older than a bust is recorded but changes no quantity; a newer one does."""
    journal = a_submitted_journal()
    journal.hear_all("i", [a_trade("t1", 4, at=1), a_bust("b1", "t1", at=3)])
    journal.hear("i", a_report(ExecType.ORDER_STATUS, at=2, cum_qty=4, ord_status=OrdStatus.PARTIALLY_FILLED))
    assert journal.record().cum_qty == 0
    journal.hear("i", a_report(ExecType.ORDER_STATUS, at=4, cum_qty=3, ord_status=OrdStatus.PARTIALLY_FILLED))
    assert journal.record().cum_qty == 3


def test_an_inferred_fill_is_not_added_to_its_trade() -> None:
    """A total of 5 before its trade of 5 is 5, and a later total of 8 infers 3."""
    journal = a_submitted_journal()
    made = journal.hear("i", a_report(ExecType.CANCELED, at=1, cum_qty=5))
    assert [type(event) for event in made] == [events.OrderCanceled, events.FillInferred]
    journal.hear("i", a_trade("t1", 5, at=1))
    assert (journal.record().cum_qty, journal.record().orders[0].inferred_qty) == (5, 0)
    journal.hear("i", a_report(ExecType.ORDER_STATUS, at=2, cum_qty=8, ord_status=OrdStatus.CANCELED))
    assert (journal.record().cum_qty, journal.record().orders[0].inferred_qty) == (8, 3)


def test_two_trades_under_one_key_both_count() -> None:
    """Two different trades under one fill key are a finding, and both count; a repeat of a trade does not."""
    journal = a_submitted_journal()
    journal.hear_all("i", [a_trade("t1", 4, at=1), a_trade("t1", 5, at=2), a_trade("t1", 5, at=2)])
    assert journal.record().cum_qty == 9
    assert "FILL_KEY_REUSED:i" in journal.record().findings


def test_a_later_fee_is_kept() -> None:
    """A trade received first without and then with its fee is one trade with a fee."""
    journal = a_submitted_journal()
    journal.hear("i", a_trade("t1", 4, at=1))
    assert len(journal.hear("i", a_trade("t1", 4, at=1, fee=7, fee_asset="USDT"))) == 1
    (trade,) = journal.record().orders[0].trades
    assert (trade.quantity, trade.fee, trade.fee_asset) == (4, 7, "USDT")


FEES = st.sampled_from(
    [None, {"fee": 0, "fee_asset": "BNB"}, {"fee": 7, "fee_asset": "USDT"}, {"fees": {"A": 1, "B": -2}}]
)


@unhurried
@given(st.lists(FEES, min_size=1, max_size=5))
def test_the_newest_report_of_fees_counts(reported: list[dict[str, Any] | None]) -> None:
    """Of several reports of a trade the newest that has fees replaces the others; one without fees changes nothing."""
    journal = a_submitted_journal()
    for fees in reported:
        journal.hear("i", a_trade("t1", 4, at=1, **fees or {}))
    (trade,) = journal.record().orders[0].trades
    newest = next((fees for fees in reversed(reported) if fees), {})
    single = {newest["fee_asset"]: newest["fee"]} if "fee" in newest else None
    assert (trade.quantity, fees_of(trade)) == (4, newest.get("fees", single))


@unhurried
@given(st.permutations(range(4)), st.booleans())
def test_a_chain_of_corrections_counts_once(order: list[int], busted: bool) -> None:
    """Of a trade and its corrections the newest counts; none does if any of them is busted."""
    chain = [
        a_trade("t1", 4, at=1),
        a_correction("k1", "t1", 5, at=2),
        a_correction("k2", "k1", 6, at=3),
        a_bust("b1", "k1", at=4) if busted else a_correction("k3", "k2", 7, at=4),
    ]
    journal = a_submitted_journal()
    journal.hear_all("i", [chain[place] for place in order])
    assert journal.record().cum_qty == (0 if busted else 7)


@unhurried
@given(st.permutations(range(3)))
def test_a_chain_without_times_ends_at_its_last_link(order: list[int]) -> None:
    """Without venue times, the correction that no other corrects counts."""
    chain = [a_trade("t1", 4), a_correction("z", "t1", 5), a_correction("k", "z", 6)]
    journal = a_submitted_journal()
    journal.hear_all("i", [chain[place] for place in order])
    assert journal.record().cum_qty == 6


def test_a_bust_after_the_end_makes_the_final_quantity_unknown() -> None:
    """A total reported with the end is no longer final after a later bust, until a newer one arrives."""
    journal = a_submitted_journal()
    journal.hear_all("i", [a_trade("t1", 4, at=1), a_report(ExecType.CANCELED, at=2, cum_qty=4)])
    journal.query()
    assert journal.record().orders[0].final_cum_qty == 4
    journal.hear("i", a_bust("b1", "t1", at=3))
    assert journal.record().orders[0].final_cum_qty is None
    journal.hear("i", a_report(ExecType.ORDER_STATUS, at=4, ord_status=OrdStatus.CANCELED, cum_qty=0))
    assert journal.record().orders[0].final_cum_qty == 0


def test_a_cycle_of_corrections_terminates() -> None:
    """A cycle of corrections counts one of them and does not hang."""
    ring = [TradeEntry("a", 1, 1, 1, "b", None, None), TradeEntry("b", 2, 1, 2, "a", None, None)]
    assert sum(entry.quantity for entry in effective_trades(ring, [])) in (1, 2, 3)


@pytest.mark.parametrize("tif", TimeInForce)
def test_done_for_day_ends_a_day_order(tif: TimeInForce) -> None:
    """Done for day is the end of a DAY order, and a pause of any other."""
    journal = a_submitted_journal(an_order(tif=tif))
    journal.hear_all("i", [a_trade("t1", 4, at=1), a_report(ExecType.DONE_FOR_DAY, at=2)])
    (facts,) = journal.record().orders
    is_day = tif is TimeInForce.DAY
    assert (facts.live, facts.leaves_qty) == (not is_day, 0 if is_day else 96)
    assert facts.final_cum_qty == (4 if is_day else None)


def test_stale_queries_answer_no_request() -> None:
    """A status older than a pending cancel does not answer it; a newer one does."""
    journal = a_submitted_journal()
    pending = a_report(ExecType.PENDING_CANCEL, at=3, client_id="r1", orig_client_order_id="c1")
    journal.hear_all("i", [a_report(ExecType.NEW, at=1), pending])
    journal.hear("i", a_report(ExecType.ORDER_STATUS, at=2, ord_status=OrdStatus.NEW, order_qty=100))
    assert journal.record().orders[0].open_requests == [AttemptKind.CANCEL]
    journal.hear("i", a_report(ExecType.ORDER_STATUS, at=4, ord_status=OrdStatus.NEW, order_qty=100))
    assert journal.record().orders[0].open_requests == []


def test_quantity_and_price_have_their_own_times() -> None:
    """A report with only a quantity and a newer one with only a price both count, in either order."""
    quantity = a_report(ExecType.RESTATED, at=2, order_qty=50)
    price = a_report(ExecType.RESTATED, at=3, price=11)
    for reports in ([quantity, price], [price, quantity]):
        journal = a_submitted_journal()
        journal.hear_all("i", [a_report(ExecType.NEW, at=1, order_qty=100, price=10), *reports])
        (facts,) = journal.record().orders
        assert (facts.quantity, facts.price) == (50, 11)


@unhurried
@given(st.permutations(range(5)))
def test_a_split_scales_what_was_filled_before_it(order: list[int]) -> None:
    """Two for one: earlier trades and totals count twice, later ones once, in whichever order they come."""
    reports = [
        a_report(ExecType.NEW, at=1, order_qty=100),
        a_trade("t1", 20, 50, at=2, order_qty=100),
        a_report(ExecType.DONE_FOR_DAY, at=3, cum_qty=20),
        a_report(ExecType.RESTATED, at=4, order_qty=200, corporate_action=True),
        a_trade("t2", 50, 25, at=5, order_qty=200),
    ]
    journal = a_submitted_journal()
    journal.hear_all("i", [reports[place] for place in order])
    (facts,) = journal.record().orders
    assert (facts.cum_qty, facts.leaves_qty, facts.quantities.cum_notional) == (90, 110, 2250)


def test_requests_find_their_order_without_the_venues_id() -> None:
    """A chain of replaces whose reports come youngest first, without order ids, stays one order."""
    journal = a_submitted_journal()
    for request_id, target in (("r1", "c1"), ("r2", "r1")):
        journal.append("i", an_attempt(AttemptKind.AMEND, request_id, an_order(), target_client_order_id=target))
    journal.hear("i", a_report(ExecType.REPLACED, at=5, client_id="r2", orig_client_order_id="r1", order_qty=100))
    journal.hear("i", a_trade("t1", 100, at=6, client_id="r2"))
    journal.hear("i", a_trade("t0", 0, at=3, client_id="r1"))
    journal.hear("i", a_report(ExecType.REPLACED, at=2, client_id="r1", orig_client_order_id="c1", order_qty=90))
    (facts,) = journal.record().orders
    assert (facts.quantity, facts.client_order_id, facts.cum_qty) == (100, "r2", 100)


@unhurried
@given(st.permutations(range(4)))
def test_the_newest_replace_names_the_order(places: list[int]) -> None:
    """Of two replaces, and a status and a trade between them in any order, the second one's id is the current one."""
    journal, ids = a_submitted_journal(), {"exchange_order_id": "o1"}
    for request_id, target in (("r1", "c1"), ("r2", "r1")):
        journal.append("i", an_attempt(AttemptKind.AMEND, request_id, an_order(), target_client_order_id=target))
    reports = [
        a_trade("t1", 1, at=2, **ids),
        a_report(ExecType.REPLACED, at=3, client_id="r1", orig_client_order_id="c1", **ids),
        a_report(ExecType.REPLACED, at=4, client_id="r2", orig_client_order_id="r1", **ids),
        a_report(ExecType.ORDER_STATUS, at=5, client_id="r2", ord_status=OrdStatus.PARTIALLY_FILLED, **ids),
    ]
    journal.hear_all("i", [reports[place] for place in places])
    assert journal.record().orders[0].client_order_id == "r2"


def test_a_report_that_names_no_order_is_unknown() -> None:
    """An answer without any order id is refused, however often it arrives."""
    journal = a_submitted_journal()
    for _ in range(2):
        with pytest.raises(OutcomeUnknown, match="an order id"):
            journal.hear("i", a_report(ExecType.NEW, client_id=None))
    assert journal.record().orders == ()
