"""Orders that ended long ago count by their sums, and late evidence about one counts as if it had never left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from kernel import events
from kernel.lifecycle import settled_orders
from kernel.lifecycle.decide_report import decide_report
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.findings import conditions
from kernel.lifecycle.record import Record, order_state
from kernel.lifecycle.settled_orders import recalled, with_settled
from kernel.models import AttemptKind, AttemptOutcome, EarlierOrders, Evidence, ExecType, LookScope, OrdStatus
from kernel.order_spec import Side
from kernel.plan import remainder
from kernel.venues.base import ExecutionReport
from projections import checkpoint
from tests.envelopes import envelope_by, with_envelope
from tests.folding import NS_PER_S, Journal, a_report, a_trade, an_attempt, an_intent, an_order
from tests.unhurried import unhurried

EVERY_ORDER = events.IntentDeleted(intent_id="i")


@pytest.fixture(autouse=True, scope="module")
def one_kept() -> Iterator[None]:
    """Settle all orders but the newest, so that short histories have settled ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settled_orders, "KEPT", 1)
        yield


@dataclass
class Sent:
    """One order at the venue."""

    client_id: str
    order_id: str
    quantity: int = 100
    cum_qty: int = 0
    open: bool = True
    trades: dict[str, int] = field(default_factory=dict)
    target: str | None = None


class Story:
    """An intent that is changed again and again, in two records: one with all of its orders, and one that settles them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.full = self.small = Record("i")
        self.position = 0
        self.generation = 1
        self.orders: list[Sent] = []
        self.keys = 0
        self.settled = 0
        """How often an order was among the settled ones."""
        self.append(events.IntentCreated(intent=an_intent()))
        self.submit()

    @property
    def now_ns(self) -> int:
        return (self.position + 1) * NS_PER_S

    def append(self, event: events.BaseEvent, *, evidence: Evidence = Evidence.STREAM) -> None:
        """Record an event; both records stand for the same facts after it."""
        self.position += 1
        version, now_ns = self.full.version + 1, self.position * NS_PER_S
        envelope = envelope_by(self.position, "intent:i", version, now_ns, "strategy:test", evidence)
        recorded = with_envelope(event, envelope)
        self.full = evolve(self.full, recorded)
        self.small = with_settled(evolve(self.small, recorded))
        self.settled += len(self.small.settled)
        assert recalled(self.small, EVERY_ORDER) == self.full
        assert shown(self.small) == shown(self.full)

    def report(self, sent: Sent, exec_type: ExecType, **given: Any) -> None:
        """Report something about an order; both records make the same events of it."""
        fields: dict[str, Any] = {
            "exec_type": exec_type, "symbol_id": "S", "side": Side.BUY, "client_order_id": sent.client_id,
            "exchange_order_id": sent.order_id, "transact_time_ns": self.now_ns,
        }  # fmt: skip
        report = ExecutionReport(**(fields | given))
        made = decide_report(self.full, report, now_ns=self.now_ns)
        assert decide_report(self.small, report, now_ns=self.now_ns) == made
        for event in made:
            self.append(event)

    def chance(self, share: float = 0.5) -> bool:
        return self.random.random() < share

    def key(self, prefix: str) -> str:
        self.keys += 1
        return f"{prefix}{self.keys}"

    def started(self, kind: AttemptKind, client_id: str, **given: Any) -> None:
        terms = an_order(100, price=10 + self.generation)
        fields = {"number": self.keys, "generation": self.generation} | given
        self.append(an_attempt(kind, client_id, terms, **fields))

    def resolved(self, position: int) -> None:
        outcome = self.random.choice([AttemptOutcome.ACCEPTED, AttemptOutcome.ACCEPTED, AttemptOutcome.DEAD, None])
        if outcome is not None:
            self.append(events.AttemptResolved(intent_id="i", attempt_position=position, outcome=outcome))

    # what the kernel and the venue do

    def submit(self) -> None:
        sent = Sent(self.key("c"), self.key("o"), self.random.choice([20, 100]))
        self.orders.append(sent)
        self.started(AttemptKind.SUBMIT, sent.client_id)
        if self.chance():
            self.report(sent, ExecType.NEW, order_qty=sent.quantity)

    def change(self) -> None:
        """Give the intent new terms, and work them by one of the dialects."""
        self.generation += 1
        order = an_order(self.random.choice([1, 40, 100, 300]), price=10 + self.generation)
        self.append(events.IntentModified(intent=an_intent(order, generation=self.generation)))
        self.random.choice([self.place_again, self.replace, self.amend])()

    def place_again(self) -> None:
        for sent in self.orders[-1:]:
            self.cancel(sent)
        self.submit()

    def cancel(self, sent: Sent) -> None:
        name = self.key("r")
        known = self.random.choice([sent.order_id, None])
        self.started(AttemptKind.CANCEL, name, target_client_order_id=sent.client_id, target_exchange_order_id=known)
        position, sent.open = self.position, False
        names = self.random.choice([{}, {"client_order_id": name, "orig_client_order_id": sent.client_id}])
        self.report(sent, ExecType.CANCELED, cum_qty=sent.cum_qty if self.chance(0.9) else None, **names)
        self.resolved(position)

    def replace(self) -> None:
        old = self.orders[-1]
        name, keeps = self.key("r"), self.chance()
        self.started(
            AttemptKind.AMEND, name, target_client_order_id=old.client_id, target_exchange_order_id=old.order_id,
            new_order=True, keeps_cum_qty=keeps,
        )  # fmt: skip
        position, old.open = self.position, False
        made = Sent(name, self.key("o"), cum_qty=old.cum_qty if keeps else 0, target=old.client_id)
        self.orders.append(made)
        told = {"orig_client_order_id": old.client_id} if self.chance() else {}
        self.report(made, ExecType.REPLACED, order_qty=made.quantity, cum_qty=made.cum_qty, **told)
        if self.chance(0.9):
            self.report(old, ExecType.CANCELED, cum_qty=old.cum_qty)
        self.resolved(position)

    def amend(self) -> None:
        sent, name = self.orders[-1], self.key("r")
        self.started(
            AttemptKind.AMEND, name, target_client_order_id=sent.client_id, target_exchange_order_id=sent.order_id
        )
        self.report(sent, ExecType.REPLACED, client_order_id=name, orig_client_order_id=sent.client_id, order_qty=100)
        if self.chance():
            sent.client_id = name

    # evidence about any order, also long after its end

    def any_order(self) -> Sent:
        return self.random.choice(self.orders)

    def trade(self) -> None:
        sent, key, quantity = self.any_order(), self.key("t"), self.random.randint(1, 20)
        sent.trades[key] = quantity
        sent.cum_qty += quantity
        total = {"cum_qty": sent.cum_qty} if self.chance() else {}
        self.report(sent, ExecType.TRADE, fill_key=key, last_qty=quantity, last_px=10, **total, **self.naming())

    def naming(self) -> dict[str, Any]:
        return self.random.choice([{}, {}, {"client_order_id": None}, {"exchange_order_id": None}])

    def void(self) -> None:
        sent = self.any_order()
        if sent.trades:
            ref = self.random.choice(sorted(sent.trades))
            sent.cum_qty -= sent.trades.pop(ref)
            self.report(sent, ExecType.TRADE_CANCEL, fill_key=self.key("b"), ref_fill_key=ref, **self.naming())

    def end(self) -> None:
        status = self.random.choice([ExecType.EXPIRED, ExecType.CANCELED, ExecType.REJECTED])
        self.report(self.any_order(), status, **self.naming())

    def look(self) -> None:
        """A query shows an order, open or ended, or does not show it."""
        sent = self.any_order()
        shown = [OrdStatus.NEW] if sent.open or self.chance(0.1) else [OrdStatus.CANCELED] * 6
        status = self.random.choice([None, OrdStatus.FILLED, *shown])
        if status is not None:
            cum_qty = sent.quantity if status is OrdStatus.FILLED else sent.cum_qty
            self.report(
                sent,
                ExecType.ORDER_STATUS,
                ord_status=status,
                order_qty=sent.quantity,
                cum_qty=cum_qty,
                **self.naming(),
            )
        taken = events.VenueSnapshotTaken(
            scopes=(LookScope.OPEN_ORDERS, LookScope.TRADES), complete=True, began_ns=self.now_ns,
            ended_ns=self.now_ns, reflects_ns=self.now_ns, intent_id="i", found=status is not None,
            client_order_id=self.random.choice([sent.client_id, None]),
            exchange_order_id=self.random.choice([sent.order_id, None]),
        )  # fmt: skip
        self.append(taken)

    def doubt(self) -> None:
        sent = self.any_order()
        mark = events.OrderStateObserved(
            intent_id="i", symbol_id="S", client_order_id=sent.client_id, exchange_order_id=sent.order_id,
            exec_type=ExecType.ORDER_STATUS, in_doubt=True,
        )  # fmt: skip
        self.append(mark)

    def reuse(self) -> None:
        """The venue gives the id of an order again, or takes a client order id again."""
        sent, again = self.any_order(), self.chance()
        other = Sent(sent.client_id, self.key("o")) if again else Sent(self.key("c"), sent.order_id)
        if not again:
            self.started(AttemptKind.SUBMIT, other.client_id)
        self.orders.append(other)
        self.report(other, ExecType.NEW, order_qty=100)

    def command(self) -> None:
        """Delete and create it again, or end a disagreement."""
        if self.chance():
            self.append(events.FindingResolved(finding_id="VENUE_DISAGREES:i"), evidence=Evidence.OPERATOR)
            return
        self.append(events.IntentDeleted(intent_id="i"))
        self.generation = 1
        self.append(events.IntentCreated(intent=an_intent()))

    def record_state(self) -> None:
        """A store writes a state, with all orders or with a sum of the earlier ones."""
        state = order_state(self.random.choice([self.full, self.small]))
        if state is not None:
            self.append(events.OrderStateRecorded(state=state, created=False))

    def step(self) -> None:
        """Change it, or add evidence about any order."""
        rare = (self.end, self.doubt, self.reuse, self.command, self.record_state)
        often = (self.change, self.change, self.change, self.trade, self.look, self.void)
        self.random.choice(rare if self.chance(0.07) else often)()


def shown(record: Record) -> dict[str, Any]:
    """What follows from a record, without the list of its orders."""
    state = order_state(record)
    seen = structs.replace(state, venue_orders=(), earlier_orders=None) if state is not None else None
    left = remainder(record.intent, state) if record.intent is not None else None
    return {"state": seen, "left": left, "cum_qty": record.cum_qty, "conditions": conditions(record)}


@settings(parent=unhurried, max_examples=30)
@given(st.integers(0, 2**32))
def test_settled_orders_stand_for_the_same_facts(seed: int) -> None:
    """After any history, with evidence about any order at any time, the sums and the full arithmetic agree."""
    story = Story(seed)
    for _ in range(30):
        story.step()
    assert checkpoint.decoder(Record)(checkpoint.encode(story.small)) == story.small


def a_story_of(orders: int) -> Record:
    """A record of so many orders of ten, each filled by a half, canceled and placed again."""
    journal = Journal()
    journal.append("i", events.IntentCreated(intent=an_intent()))
    for number in range(1, orders + 1):
        client_id, order_id = f"c{number}", f"o{number}"
        ids: dict[str, Any] = {"client_id": client_id, "exchange_order_id": order_id}
        journal.append("i", an_attempt(AttemptKind.SUBMIT, client_id, an_order(10), number=number))
        journal.hear("i", a_trade(f"t{number}", 5, **ids))
        journal.append(
            "i", an_attempt(AttemptKind.CANCEL, f"r{number}", an_order(10), target_exchange_order_id=order_id)
        )
        journal.hear("i", a_report(ExecType.CANCELED, cum_qty=5, **ids))
    return journal.record()


@pytest.mark.parametrize(("known", "total"), [(0, 20), (4, 22)])
def test_a_written_sum_counts(known: int, total: int) -> None:
    """A store's write with a sum of earlier orders counts as they did, whether they are known or of another log."""
    state = order_state(with_settled(a_story_of(4)))
    assert state is not None
    assert state.earlier_orders == EarlierOrders(count=3, cum_qty=15)
    written = evolve(a_story_of(known), events.OrderStateRecorded(state=state, created=False))
    late = a_trade("t9", 2, client_id="c4", exchange_order_id="o4")
    (fill, *_) = decide_report(written, late, now_ns=99 * NS_PER_S)
    assert (written.cum_qty, evolve(written, fill).cum_qty) == (20, total)


def test_the_newest_filled_order_stands_for_the_intent() -> None:
    """When the fill of the newest one is busted, that is an order that was settled: its status and ids are shown."""
    journal = Journal()
    journal.append("i", events.IntentCreated(intent=an_intent()))
    for number in (1, 2, 3):
        journal.append("i", events.IntentModified(intent=an_intent(an_order(10 * number), generation=number)))
        started = an_attempt(AttemptKind.SUBMIT, f"c{number}", an_order(10), number=number, generation=number)
        journal.append("i", started)
        journal.hear("i", a_trade(f"t{number}", 10, client_id=f"c{number}", exchange_order_id=f"o{number}"))
    full = journal.record()
    small = with_settled(full)
    assert [facts.exchange_order_id for facts in small.orders] == ["o3"]
    gone = {"client_id": "c3", "exchange_order_id": "o3"}
    ended = a_report(ExecType.CANCELED, **gone)
    bust = a_report(ExecType.TRADE_CANCEL, fill_key="b3", ref_fill_key="t3", **gone)
    for report in (bust, ended):
        for event in decide_report(full, report, now_ns=99 * NS_PER_S):
            full, small = evolve(full, event), with_settled(evolve(small, event))
    assert [facts.exchange_order_id for facts in small.orders] == ["o2", "o3"]
    assert shown(small) == shown(full)
