"""The short path of ordinary reports does what the general one does, whatever happened before."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kernel import events
from kernel.lifecycle.apply_report import PLAIN_REPORTS
from kernel.lifecycle.evolve import evolve, evolve_any
from kernel.lifecycle.findings import all_conditions, conditions
from kernel.lifecycle.orders.order_facts import NO_RARE, OrderFacts, general_quantities, has_same_trades, with_rare
from kernel.lifecycle.record import Record
from kernel.models import AttemptKind, AttemptOutcome, ExecType, OrdStatus
from kernel.order_spec import OrderType, Side
from projections.checkpoint import decoder, encode
from tests.folding import Journal, an_attempt, an_intent, an_order
from tests.histories import deliveries, histories
from tests.unhurried import unhurried

OFTEN = {
    "client_order_id": ["c1", "c1", "c1", "c2", None],
    "orig_client_order_id": [None, None, "c1"],
    "exchange_order_id": ["o1", "o1", "o1", "o2", None],
    "order_qty": [None, 100, 100, 90],
    "price": [None, 10, 10, 11],
    "cum_qty": [None, 0, 30, 30, 100, 110],
    "transact_time_ns": [None, 1, 2, 3, 4],
    "unconfirmed": [None, None, None, True],
    "order_created_ns": [None, None, None, 1],
    "life_margin_ns": [None, None, None, 1],
    "order_type": [None, None, None, OrderType.LIMIT],
    "ord_status": [None, OrdStatus.NEW, OrdStatus.FILLED],
}
"""What reports tell; the usual values are drawn more often."""
TRADES = {
    "side": [Side.BUY], "fill_key": ["t1", "t2", "t3"], "last_qty": [10, 30], "last_px": [10, 11], "fee": [None, 1],
    "fee_asset": ["BNB"],
}  # fmt: skip
KINDS: dict[type[events.OrderReport], dict[str, Any]] = {
    events.OrderAccepted: {"exec_type": [ExecType.NEW]},
    events.OrderFilled: {"exec_type": [ExecType.TRADE], **TRADES},
    events.OrderCanceled: {"exec_type": [ExecType.CANCELED]},
    events.OrderExpired: {"exec_type": [ExecType.EXPIRED]},
    events.OrderRejected: {"exec_type": [ExecType.REJECTED]},
    events.FillBusted: {"exec_type": [ExecType.TRADE_CANCEL], "fill_key": ["b1"], "ref_fill_key": ["t1", "t2"]},
    events.OrderStateObserved: {"exec_type": [ExecType.ORDER_STATUS], "reflects_ns": [None, 10**12]},
}


def reports(kind: type[events.OrderReport]) -> st.SearchStrategy[events.BaseEvent]:
    drawn = {name: st.sampled_from(values) for name, values in {**OFTEN, **KINDS[kind]}.items()}
    return st.builds(kind, intent_id=st.just("i"), symbol_id=st.just("S"), **drawn)


def requests() -> st.SearchStrategy[events.BaseEvent]:
    """Another send, a cancel, a change, or the outcome of an earlier one."""
    target = {"target_client_order_id": "c1", "target_exchange_order_id": "o1"}
    started = [
        an_attempt(AttemptKind.SUBMIT, "c1", an_order()),
        an_attempt(AttemptKind.CANCEL, "c2", an_order(), number=2, **target),
        an_attempt(AttemptKind.AMEND, "c2", an_order(90), number=2, **target),
    ]
    outcome = st.builds(
        events.AttemptResolved, intent_id=st.just("i"), attempt_position=st.integers(2, 8), text=st.just(""),
        outcome=st.sampled_from([AttemptOutcome.ACCEPTED, AttemptOutcome.REJECTED, AttemptOutcome.DEAD]),
    )  # fmt: skip
    canceled = events.IntentCancelRequested(intent_id="i", generation=2, requested_at_ns=1)
    return st.sampled_from([*started, canceled]) | outcome


def checked(record: Record, event: events.BaseEvent) -> Record:
    """Fold an event by both paths, which agree on everything."""
    after = evolve(record, event)
    assert after == evolve_any(record, event)
    assert conditions(after) == all_conditions(after)
    for facts in after.orders:
        assert facts.rare is NO_RARE or facts.rare != NO_RARE
    for old, new in zip(record.orders, after.orders, strict=False):
        assert not has_same_trades(old, new) or [*old.counted_trades] == [*new.counted_trades]
    assert [facts.quantities for facts in after.orders] == [general_quantities(facts) for facts in after.orders]
    return after


def test_rare_facts_that_are_taken_back_are_the_shared_value() -> None:
    """Ordinary orders share one value of the facts that few have, also after a checkpoint."""
    facts = OrderFacts("o1", ("c1",), an_order(), 100, 10, 1, 1, 1)
    assert with_rare(with_rare(facts, misses=1), misses=0).rare is NO_RARE
    assert decoder(OrderFacts)(encode(facts)).rare is NO_RARE


@unhurried
@given(st.lists(st.sampled_from([*KINDS]).flatmap(reports) | requests(), max_size=10))
def test_both_paths_agree_on_any_events(told: list[events.BaseEvent]) -> None:
    """Whatever is told of the orders of an intent, in any order, both paths give the same record."""
    journal = Journal(checked)
    journal.append("i", events.IntentCreated(intent=an_intent()), an_attempt(AttemptKind.SUBMIT, "c1", an_order()))
    journal.append("i", *told)


@unhurried
@given(st.data())
def test_both_paths_agree_on_what_venues_do(data: st.DataObject) -> None:
    """Histories of venues, delivered in any order and repeatedly, give the same records by both paths."""
    history = data.draw(histories())
    journal = Journal(checked)
    journal.append("i", events.IntentCreated(intent=an_intent()), *history.attempts)
    journal.hear_all("i", data.draw(deliveries(history.reports)))


def test_an_ordinary_life_takes_the_short_path(monkeypatch: Any) -> None:
    """An order that is accepted, filled in parts, and canceled on request needs no general arithmetic."""
    journal, ids = Journal(), {"intent_id": "i", "symbol_id": "S", "client_order_id": "c1", "exchange_order_id": "o1"}
    journal.append("i", events.IntentCreated(intent=an_intent()), an_attempt(AttemptKind.SUBMIT, "c1", an_order()))
    general = import_module("kernel.lifecycle.evolve")  # the package's name for it is the function

    def used(record: Record, event: events.BaseEvent) -> Record:
        assert type(event) not in PLAIN_REPORTS, "the short path gave this up"
        return evolve_any(record, event)

    monkeypatch.setattr(general, "evolve_any", used)
    fill = {"exec_type": ExecType.TRADE, "side": Side.BUY, "last_qty": 10, "last_px": 10, "transact_time_ns": 2}
    journal.append(
        "i",
        events.OrderAccepted(**ids, exec_type=ExecType.NEW, order_qty=100, price=10, cum_qty=0, transact_time_ns=1),
        events.OrderFilled(**ids, **fill, fill_key="t1", cum_qty=10),
        events.OrderFilled(**ids, **fill, fill_key="t2", cum_qty=20),
        an_attempt(AttemptKind.CANCEL, "c2", an_order(), target_client_order_id="c1", target_exchange_order_id="o1"),
        events.OrderCanceled(**ids, exec_type=ExecType.CANCELED, cum_qty=20, transact_time_ns=3),
    )
    assert journal.record().cum_qty == 20
