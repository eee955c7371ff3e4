"""The state: every event folded once, in order; its answers, its waiters and its digest."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from kernel import events
from kernel.errors import IntegrityError
from kernel.events import BaseEvent, intent_stream
from kernel.lifecycle.decide_report import decide_report
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.record import Record
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
    OrdStatus,
)
from kernel.order_spec import AssetMetadata, Side, StandardOrder, SymbolMetadata
from kernel.venues.base import ExecutionReport
from projections import State, diff
from tests.envelopes import envelope_by, with_envelope
from tests.folding import NS_PER_S, a_bust, a_report, a_trade, an_attempt, an_intent, an_order
from tests.histories import History, histories

SYMBOL = SymbolMetadata(symbol_id="S", base_asset="BTC", quote_asset="USDT", price_decimals=2, quantity_decimals=8)


class Tape:
    """A log in a list, of any streams: positions and versions without gaps, one second per event."""

    def __init__(self) -> None:
        self.events: list[BaseEvent] = []
        self.records: dict[str, Record] = {}
        self._versions: dict[str, int] = {}

    @property
    def now_ns(self) -> int:
        """When the next event is recorded."""
        return (len(self.events) + 1) * NS_PER_S

    def add(self, stream_id: str, *made: BaseEvent) -> int:
        """Record events; returns the last position."""
        for event in made:
            version = self._versions[stream_id] = self._versions.get(stream_id, 0) + 1
            position = len(self.events) + 1
            envelope = envelope_by(position, stream_id, version, self.now_ns, "strategy:test", Evidence.STREAM)
            recorded = with_envelope(event, envelope)
            self.events.append(recorded)
            if stream_id.startswith(events.INTENT_STREAM_PREFIX):
                intent_id = stream_id.removeprefix(events.INTENT_STREAM_PREFIX)
                self.records[intent_id] = evolve(self.records.get(intent_id, Record(intent_id)), recorded)
        return len(self.events)

    def create(self, intent_id: str, order: StandardOrder | None = None, **fields: Any) -> int:
        """Create an intent."""
        return self.add(
            intent_stream(intent_id), events.IntentCreated(intent=an_intent(order, intent_id=intent_id, **fields))
        )

    def send(self, intent_id: str, client_id: str, order: StandardOrder | None = None, **fields: Any) -> int:
        """Start a submit."""
        attempt = an_attempt(AttemptKind.SUBMIT, client_id, order or an_order(), intent_id=intent_id, **fields)
        return self.add(intent_stream(intent_id), attempt)

    def report(self, intent_id: str, report: ExecutionReport) -> int:
        """Record a report of the venue."""
        made = decide_report(self.records.get(intent_id, Record(intent_id)), report, now_ns=self.now_ns)
        return self.add(intent_stream(intent_id), *made)

    def working(self, intent_id: str, order: StandardOrder | None = None, **fields: Any) -> int:
        """Create an intent whose order works under the ids `c-…` and `o-…`."""
        self.create(intent_id, order, **fields)
        self.send(intent_id, f"c-{intent_id}", order)
        return self.report(
            intent_id, a_report(ExecType.NEW, client_id=f"c-{intent_id}", exchange_order_id=f"o-{intent_id}")
        )

    def end(self, intent_id: str) -> int:
        """Cancel its order, as the venue reports; the end is confirmed."""
        report = a_report(ExecType.CANCELED, client_id=f"c-{intent_id}", exchange_order_id=f"o-{intent_id}", cum_qty=0)
        made = decide_report(self.records.get(intent_id, Record(intent_id)), report, now_ns=self.now_ns)
        return self.add(intent_stream(intent_id), *(structs.replace(event, unconfirmed=None) for event in made))

    def snapshot(self, *scopes: LookScope, began_ns: int, ended_ns: int = 0, cursor_ns: int | None = None) -> int:
        """Record a snapshot of the account."""
        taken = events.VenueSnapshotTaken(
            scopes=scopes,
            complete=len(scopes) == 3,
            began_ns=began_ns,
            ended_ns=ended_ns or began_ns,
            trades_cursor_ns=cursor_ns,
        )
        return self.add(events.VENUE_STREAM, taken)


def folded(tape: Tape, *, size: int | None = None) -> State:
    """The state after a whole tape, applied in batches of a size."""
    state = State()
    size = size or len(tape.events) or 1
    for start in range(0, len(tape.events), size):
        state.apply(tape.events[start : start + size])
    return state


def told(state: State, intent_id: str) -> OrderState:
    order = state.order_state(intent_id)
    assert order is not None
    return order


# -------------------------------------------------------------------------------------------------------------- folding
def test_an_empty_state_answers() -> None:
    """Before the first event every query returns an empty answer."""
    state = State()
    assert (state.position, state.log_id, state.exchange_id, state.epoch, state.paused) == (0, "", "", 0, False)
    assert (state.trades_cursor_ns, state.order_state("x"), state.intent("x"), state.created_at_ns) == (
        None,
        None,
        None,
        0,
    )
    assert state.record("x") == Record("x")
    assert (list(state.intents()), list(state.order_states()), state.live_intent_ids()) == ([], [], [])
    assert (list(state.positions()), list(state.findings()), state.balance_drift()) == ([], [], {})
    assert state.apply([]).touched == ()


@pytest.mark.parametrize("external_first", [True, False])
def test_a_trade_recorded_as_an_intents_and_as_external_counts_once(external_first: bool) -> None:
    """Two reports of one trade are recorded at once, one of them without its client order id, in either order."""
    tape = Tape()
    tape.add(events.REFERENCE_STREAM, events.SymbolObserved(symbol=SYMBOL))
    tape.working("i")
    trade = a_trade("t", 40, client_id="c-i", exchange_order_id="o-i")
    names = {*events.ExternalOrderObserved.__struct_fields__} & {*ExecutionReport.__struct_fields__}
    names -= {"client_order_id"}
    external = events.ExternalOrderObserved(**{name: getattr(trade, name) for name in names}, id_reused=True)
    if external_first:
        tape.add(events.VENUE_STREAM, external)
    tape.report("i", trade)
    if not external_first:
        tape.add(events.VENUE_STREAM, external)
    state = folded(tape)
    assert [(position.symbol_id, position.quantity) for position in state.positions()] == [("S", 40)]
    left = state.external_order_of(trade)
    assert left is None or not state.external_trades(left)


@pytest.mark.parametrize("given_positions", [[2], [1, 3], [1, 1], [1, 2, 2]])
def test_positions_must_follow_each_other(given_positions: list[int]) -> None:
    """A gap or a repetition is refused with the expected position; events before it are folded."""
    tape = Tape()
    for name in ("a", "b", "c"):
        tape.create(name)
    state = State()
    with pytest.raises(IntegrityError) as caught:
        state.apply([tape.events[position - 1] for position in given_positions])
    assert caught.value.position == len(given_positions)
    assert state.position == len(given_positions) - 1


def test_the_log_and_its_leaders_are_known() -> None:
    """The first event identifies the log; elections, pauses and snapshots are folded."""
    tape = Tape()
    tape.add(events.CONTROL_STREAM, events.LogCreated(log_id="0" * 16, exchange_id="paper"))
    tape.add(events.CONTROL_STREAM, events.LeaderElected(epoch=3, holder="h"), events.Paused(reason="r"))
    state = folded(tape)
    assert (state.log_id, state.exchange_id, state.created_at_ns) == ("0" * 16, "paper", NS_PER_S)
    assert (state.epoch, state.paused, state.position) == (3, True, 3)
    tape.add(events.CONTROL_STREAM, events.Resumed())
    state.apply(tape.events[3:])
    assert not state.paused


def test_a_pause_of_one_intent_pauses_only_that() -> None:
    """A pause in an intent's stream shows in its order, and does not stop others."""
    tape = Tape()
    tape.working("a")
    tape.add(intent_stream("a"), events.Paused(intent_id="a"))
    state = folded(tape)
    assert (state.paused, told(state, "a").reconciliation_status) == (False, "PAUSED")


def test_a_batch_returns_touched_and_differing_intents() -> None:
    """The change feed: intents in order of first touch, and those whose sides differ."""
    tape = Tape()
    tape.create("a")
    tape.working("b")
    tape.create("c", order=None, desired=Desired.CANCELED)
    tape.create("d")
    applied = State().apply(tape.events)
    assert (applied.touched, applied.differing) == (("a", "b", "c", "d"), ("a", "d"))
    tape.add(events.VENUE_STREAM, events.AssetObserved(asset=AssetMetadata(asset_id="X", decimals=1)))
    state = folded(tape)
    tape.add(intent_stream("b"), events.IntentCancelRequested(intent_id="b", generation=2, requested_at_ns=1))
    applied = state.apply(tape.events[-1:])
    assert (applied.touched, applied.differing) == (("b",), ("b",))


def test_a_batch_costs_what_it_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch compares both sides of each touched intent at most once, however many others are live."""
    tape = Tape()
    for number in range(50):
        tape.create(f"i{number}")
    state = folded(tape)
    compared: list[str] = []
    differs = diff.differs

    def counting(observed: diff.ObservedSide, record: Record) -> bool:
        compared.append(record.intent_id)
        return differs(observed, record)

    monkeypatch.setattr(diff, "differs", counting)
    tape.send("i7", "c1")
    tape.report("i7", a_report(ExecType.NEW, exchange_order_id="o1"))
    tape.send("i9", "c2")
    applied = state.apply(tape.events[50:])
    assert compared == ["i7"]
    assert applied.differing == ("i9",)


# -------------------------------------------------------------------------------------------------------------- waiting
async def test_waiters_wake_at_their_position() -> None:
    """`reached` returns once its position is applied, at once if it is, and never before."""
    tape = Tape()
    for name in ("a", "b", "c"):
        tape.create(name)
    state = State()
    waits = [asyncio.create_task(state.reached(position)) for position in (3, 1, 2, 1)]
    await asyncio.sleep(0)
    state.apply(tape.events[:1])
    await asyncio.gather(waits[1], waits[3])
    assert [wait.done() for wait in waits] == [False, True, False, True]
    waits[2].cancel()
    await asyncio.gather(waits[2], return_exceptions=True)
    state.apply(tape.events[1:])
    await asyncio.gather(waits[0], state.reached(0), state.reached(3))


# --------------------------------------------------------------------------------------------------------------- lists
def test_lists_are_in_order_of_creation() -> None:
    """Intents and order states are listed by creation, also after updates and a delete; live ones by the intent's."""
    tape = Tape()
    for name in ("c", "a", "b"):
        tape.create(name, group_id="g")
    tape.send("b", "c-b")
    tape.working("d", group_id="g")
    tape.end("d")
    tape.send("c", "c-c")
    changed = an_intent(an_order(7), intent_id="c", generation=2, group_id="g")
    tape.add(intent_stream("c"), events.IntentModified(intent=changed))
    tape.add(intent_stream("a"), events.IntentDeleted(intent_id="a"))
    tape.create("a", group_id="g")
    state = folded(tape, size=1)
    expected = ["c", "b", "d", "a"]
    assert [intent.intent_id for intent in state.intents()] == expected
    assert [intent.intent_id for intent in state.intents_of_symbol("S")] == expected
    assert [intent.intent_id for intent in state.intents_of_group("g")] == expected
    assert [order.intent_id for order in state.order_states()] == ["b", "d", "c"]
    assert state.live_intent_ids() == folded(tape).live_intent_ids() == ["c", "b", "a"]
    assert list(state.intents_of_symbol("none")) == list(state.intents_of_group("none")) == []


def test_an_intent_is_live_until_its_order_ended_as_desired() -> None:
    """An intent is live from its creation until its order ended as desired; a deleted one whose order appears is again."""
    tape = Tape()
    tape.create("a")
    state = folded(tape)

    def live_after(position: int) -> list[str]:
        state.apply(tape.events[state.position : position])
        return state.live_intent_ids()

    assert state.live_intent_ids() == ["a"]
    assert live_after(tape.send("a", "c-a")) == ["a"]
    failed = events.AttemptFailed(intent_id="a", attempt_position=2, outcome=AttemptOutcome.REJECTED)
    assert live_after(tape.add(intent_stream("a"), failed)) == []
    assert live_after(tape.add(intent_stream("a"), events.IntentDeleted(intent_id="a"))) == []
    assert live_after(tape.report("a", a_report(ExecType.NEW, client_id="c-a", exchange_order_id="o"))) == ["a"]


def test_open_orders_are_counted_by_the_symbol_they_work_in() -> None:
    """An order counts in its symbol from its submit until it is known to have ended, whatever its intent says."""
    tape = Tape()
    tape.working("a")
    tape.create("b")
    tape.send("b", "c-b")
    tape.create("c")
    state = folded(tape)
    assert (state.open_orders("S"), state.open_orders("T")) == (2, 0)
    elsewhere = structs.replace(an_order(), symbol_id="T")
    tape.add(intent_stream("a"), events.IntentModified(intent=an_intent(elsewhere, intent_id="a", generation=2)))
    state.apply(tape.events[state.position :])
    assert (state.open_orders("S"), state.open_orders("T")) == (2, 0)
    tape.end("a")
    tape.send("a", "c-a2", elsewhere, generation=2)
    state.apply(tape.events[state.position :])
    assert (state.open_orders("S"), state.open_orders("T")) == (1, 1)
    assert [intent.intent_id for intent in state.intents_of_symbol("T")] == ["a"]


def test_an_order_without_an_intent_is_counted_too() -> None:
    """A state that a store wrote as working counts in its symbol without an intent."""
    tape = Tape()
    tape.working("a")
    written = structs.replace(told(folded(tape), "a"), intent_id="z")
    tape.add(intent_stream("z"), events.OrderStateRecorded(state=written, created=True))
    state = folded(tape)
    assert (state.open_orders("S"), state.intent("z"), state.live_intent_ids()) == (2, None, ["z", "a"])


def test_order_ids_outlive_their_intent() -> None:
    """Client and venue order ids lead to their intent, also after its delete; the venue's id takes precedence."""
    tape = Tape()
    tape.create("a")
    tape.send("a", "c-a")
    state = folded(tape)
    assert state.intent_id_of(client_order_id="c-a") == "a"
    tape.report("a", a_report(ExecType.NEW, client_id="c-a", exchange_order_id="o-a"))
    tape.end("a")
    tape.add(intent_stream("a"), events.OrderStateForgotten(intent_id="a"), events.IntentDeleted(intent_id="a"))
    tape.working("b")
    state = folded(tape)
    assert state.intent_id_of(client_order_id="c-a") == state.intent_id_of(exchange_order_id="o-a") == "a"
    assert state.intent_id_of(client_order_id="c-a", exchange_order_id="o-b") == "b"
    assert state.intent_id_of(client_order_id="c-a", exchange_order_id="unknown") == "a"
    assert state.intent_id_of() is state.intent_id_of(client_order_id="", exchange_order_id="") is None


# --------------------------------------------------------------------------------------------------------------- looks
ALL = (LookScope.OPEN_ORDERS, LookScope.TRADES, LookScope.BALANCES)


def test_a_complete_list_confirms_live_orders() -> None:
    """`last_sync_at` of a live order is the end of the newest complete list of open orders that began after it was seen."""
    tape = Tape()
    tape.working("a")
    seen_ns = len(tape.events) * NS_PER_S
    state = folded(tape)
    assert told(state, "a").last_sync_at == seen_ns // NS_PER_S

    def synced_after(*scopes: LookScope, began_ns: int, ended_s: int) -> int | float:
        tape.snapshot(*scopes, began_ns=began_ns, ended_ns=ended_s * NS_PER_S)
        state.apply(tape.events[-1:])
        return told(state, "a").last_sync_at

    assert synced_after(*ALL, began_ns=seen_ns, ended_s=60) == seen_ns // NS_PER_S
    assert synced_after(LookScope.TRADES, LookScope.BALANCES, began_ns=seen_ns + 1, ended_s=70) == seen_ns // NS_PER_S
    assert synced_after(LookScope.OPEN_ORDERS, began_ns=seen_ns + 1, ended_s=80) == 80
    assert synced_after(*ALL, began_ns=seen_ns, ended_s=90) == 80
    tape.working("b")
    tape.end("a")
    state.apply(tape.events[state.position :])
    assert told(state, "a").last_sync_at < 80
    assert told(state, "b").last_sync_at < 80


def test_the_trades_cursor_comes_from_complete_trades_queries() -> None:
    """Only a query with all trades moves the cursor, and never back."""
    tape = Tape()
    state = State()

    def cursor_after(*scopes: LookScope, cursor_ns: int | None) -> int | None:
        tape.snapshot(*scopes, began_ns=1, cursor_ns=cursor_ns)
        state.apply(tape.events[-1:])
        return state.trades_cursor_ns

    assert cursor_after(LookScope.OPEN_ORDERS, cursor_ns=5) is None
    assert cursor_after(*ALL, cursor_ns=None) is None
    assert cursor_after(LookScope.TRADES, cursor_ns=7) == 7
    assert cursor_after(*ALL, cursor_ns=6) == 7
    assert cursor_after(LookScope.OPEN_ORDERS, LookScope.BALANCES, cursor_ns=9) == 7


def test_balances_are_compared_with_fills() -> None:
    """The account shows the newest balances and their time; the first are the opening balance, later ones are explained."""
    tape = Tape()
    tape.add(events.CONTROL_STREAM, events.LogCreated(log_id="0" * 16, exchange_id="paper"))
    assert (folded(tape).account().evidence, folded(tape).account().balances) == (None, {})
    for asset in ("BTC", "USDT"):
        tape.add(events.REFERENCE_STREAM, events.AssetObserved(asset=AssetMetadata(asset_id=asset, decimals=8)))
    tape.add(events.REFERENCE_STREAM, events.SymbolObserved(symbol=SYMBOL))
    observe(tape, BTC=0, USDT=10**6)
    tape.working("a")
    tape.report("a", a_trade("t1", 30, 1000, client_id="c-a", exchange_order_id="o-a"))
    observe(tape, BTC=30, USDT=10**6 - 300)
    state = folded(tape)
    assert (state.balance_drift(), state.account().balances["BTC"].total) == ({}, 30)
    assert (state.account().observed_at_ns, state.account().evidence) == (len(tape.events) * NS_PER_S, "QUERY")
    observe(tape, BTC=31, USDT=10**6 - 300)
    state.apply(tape.events[-1:])
    assert state.balance_drift() == {"BTC": 1}
    transfer = events.TransferObserved(transfer_key="d", asset_id="BTC", amount=1)
    tape.add(events.VENUE_STREAM, transfer)
    tape.add(events.VENUE_STREAM, transfer)
    observe(tape, BTC=31, USDT=10**6 - 300)
    state.apply(tape.events[-3:])
    assert state.balance_drift() == {}
    assert state.symbol("S") == SYMBOL
    assert [asset.asset_id for asset in state.assets()] == ["BTC", "USDT"]


def observe(tape: Tape, **totals: int) -> None:
    """Record balances of a snapshot that began just before."""
    balances = {asset: Balance(asset_id=asset, total=total) for asset, total in totals.items()}
    tape.add(
        events.VENUE_STREAM,
        events.BalancesObserved(balances=balances, began_ns=tape.now_ns - 1, ended_ns=tape.now_ns),
    )


def test_positions_count_fills_and_reverse_busts() -> None:
    """A position is the sum of the counting trades, each once; if all are busted, nothing is left."""
    tape = Tape()
    tape.working("a")
    trade = a_trade("t1", 30, client_id="c-a", exchange_order_id="o-a", fee=3, fee_asset="BNB")
    tape.report("a", trade)
    tape.report("a", trade)
    [position] = folded(tape).positions()
    assert (position.quantity, position.cost, position.avg_px, position.fees) == (30, 300, 10, {"BNB": 3})
    tape.report("a", a_bust("b1", "t1", client_id="c-a", exchange_order_id="o-a"))
    [position] = folded(tape).positions()
    assert (position.quantity, position.cost, position.realized_pnl, position.fees) == (0, 0, 0, {"BNB": 0})


# ------------------------------------------------------------------------------------------------------------- findings
def test_findings_are_open_until_they_are_resolved() -> None:
    """A finding of any stream is listed once; resolved, it keeps time and reason; raised again, it is open again."""
    tape = Tape()
    finding = Finding(finding_id="f", kind=FindingKind.CLOCK_SKEW, text="one", raised_at_ns=1)
    tape.add(events.VENUE_STREAM, events.FindingRaised(finding=finding))
    other = structs.replace(finding, finding_id="g", intent_id="a")
    tape.add(intent_stream("a"), events.FindingRaised(finding=other))
    tape.add(events.CONTROL_STREAM, events.FindingResolved(finding_id="f", text="set right"))
    tape.add(events.CONTROL_STREAM, events.FindingResolved(finding_id="never raised"))
    state = folded(tape)
    assert [(item.finding_id, item.resolved_at_ns, item.resolution) for item in state.findings()] == [
        ("f", 3 * NS_PER_S, "set right"),
        ("g", None, ""),
    ]
    tape.add(events.VENUE_STREAM, events.FindingRaised(finding=finding))
    state.apply(tape.events[-1:])
    assert [(item.finding_id, item.resolved_at_ns) for item in state.findings()] == [("g", None), ("f", None)]


# --------------------------------------------------------------------------------------------------------------- digest
def a_tape_of(history: History) -> Tape:
    """A log of a history with a leader, reference data and balances."""
    tape = Tape()
    tape.add(events.CONTROL_STREAM, events.LogCreated(log_id="0" * 16, exchange_id="paper"))
    tape.add(events.REFERENCE_STREAM, events.SymbolObserved(symbol=SYMBOL))
    tape.create("i")
    tape.add(intent_stream("i"), *history.attempts)
    for number, report in enumerate(history.reports):
        tape.report("i", report)
        if number % 3 == 1:
            tape.snapshot(*ALL, began_ns=tape.now_ns - 1, cursor_ns=tape.now_ns)
            observe(tape, BTC=number)
            tape.create(f"other{number}", group_id="g")
    return tape


@settings(max_examples=40, deadline=None)
@given(history=histories(), size=st.integers(1, 7))
def test_equal_folds_have_equal_digests(history: History, size: int) -> None:
    """The same events give the same state, whatever the batches and the queries in between."""
    tape = a_tape_of(history)
    whole, pieces = folded(tape), State()
    for start in range(0, len(tape.events), size):
        pieces.apply(tape.events[start : start + size])
        pieces.order_state("i")
        list(pieces.positions())
        pieces.symbol_exposure("S")
    assert pieces.digest() == whole.digest()
    assert pieces.live_intent_ids() == whole.live_intent_ids()
    assert list(pieces.order_states()) == list(whole.order_states())
    assert list(pieces.intents()) == list(whole.intents())
    assert [pieces.open_orders(symbol) for symbol in "ST"] == [whole.open_orders(symbol) for symbol in "ST"]
    assert [pieces.symbol_exposure(symbol) for symbol in "ST"] == [whole.symbol_exposure(symbol) for symbol in "ST"]


def ends_of_one_tape() -> list[tuple[str, BaseEvent]]:
    """Last events that each leave a state which differs in one field."""
    trade = {"intent_id": "a", "symbol_id": "S", "exec_type": ExecType.TRADE, "side": Side.BUY, "last_px": 10}
    finding = Finding(finding_id="f", kind=FindingKind.STORM, text="t")
    balance = Balance(asset_id="BTC", total=1)
    looked = {"complete": True, "began_ns": 1, "ended_ns": 2}
    return [
        (events.CONTROL_STREAM, events.Resumed()),
        (events.CONTROL_STREAM, events.Paused()),
        (events.CONTROL_STREAM, events.Paused(cancels=True)),
        (events.CONTROL_STREAM, events.Paused(symbol_id="S")),
        (events.CONTROL_STREAM, events.LeaderElected(epoch=2, holder="h")),
        (events.VENUE_STREAM, events.FindingRaised(finding=finding)),
        (events.VENUE_STREAM, events.FindingRaised(finding=structs.replace(finding, text="u"))),
        (events.VENUE_STREAM, events.BalancesObserved(balances={"BTC": balance}, began_ns=1, ended_ns=2)),
        (
            events.VENUE_STREAM,
            events.BalancesObserved(balances={"BTC": structs.replace(balance, locked=1)}, began_ns=1, ended_ns=2),
        ),
        (events.VENUE_STREAM, events.VenueSnapshotTaken(scopes=(LookScope.OPEN_ORDERS,), **looked)),
        (events.VENUE_STREAM, events.VenueSnapshotTaken(scopes=(LookScope.TRADES,), trades_cursor_ns=3, **looked)),
        (events.REFERENCE_STREAM, events.SymbolObserved(symbol=SYMBOL)),
        (events.REFERENCE_STREAM, events.SymbolObserved(symbol=structs.replace(SYMBOL, tick_size=5))),
        (events.REFERENCE_STREAM, events.AssetObserved(asset=AssetMetadata(asset_id="X", decimals=1))),
        (intent_stream("a"), events.Paused(intent_id="a")),
        (intent_stream("a"), events.IntentCancelRequested(intent_id="a", generation=2, requested_at_ns=1)),
        (intent_stream("a"), events.IntentCancelRequested(intent_id="a", generation=2, requested_at_ns=2)),
        (intent_stream("a"), events.IntentModified(intent=an_intent(intent_id="a", metadata={"k": 1}))),
        (intent_stream("a"), events.IntentModified(intent=an_intent(intent_id="a", metadata={"k": "1"}))),
        (intent_stream("a"), events.OrderFilled(fill_key="t", last_qty=3, client_order_id="c-a", **trade)),
        (intent_stream("a"), events.OrderFilled(fill_key="u", last_qty=3, client_order_id="c-a", **trade)),
        (
            intent_stream("a"),
            events.OrderFilled(fill_key="t", last_qty=3, client_order_id="c-a", fee=1, fee_asset="B", **trade),
        ),
        (intent_stream("b"), events.IntentCreated(intent=an_intent(intent_id="b"))),
    ]


def test_any_difference_shows_in_the_digest() -> None:
    """States that differ in one field have different digests."""
    digests: dict[str, BaseEvent] = {}
    for stream_id, event in ends_of_one_tape():
        tape = Tape()
        tape.working("a")
        tape.add(stream_id, event)
        digest = folded(tape).digest()
        assert digest not in digests, (event, digests[digest])
        digests[digest] = event


def test_a_digest_does_not_depend_on_hash_order_or_queries() -> None:
    """The same events fold to the same state in a process with another hash order, and queries change nothing."""
    tape = Tape()
    tape.working("a", metadata={"x": 1, "y": {"b": 1, "a": 2}})
    state = folded(tape)
    before = state.digest()
    assert told(state, "a").status.ord_status is OrdStatus.NEW
    told(state, "a")
    state.live_intent_ids()
    assert state.digest() == before
    other = Tape()
    other.working("a", metadata={"y": {"a": 2, "b": 1}, "x": 1})
    assert folded(other).digest() == before
