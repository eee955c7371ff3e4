"""To which order a report belongs: by symbol, side, venue order id, client order id and time."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from kernel import events
from kernel.lifecycle.order_identity import bound, find_order, life_margin_ns, match, shows
from kernel.lifecycle.orders.order_facts import end_of_life, with_rare
from kernel.lifecycle.orders.trades import TradeEntry
from kernel.lifecycle.record import Record
from kernel.models import AttemptKind, ExecType, ExternalOrder, FindingKind, OrdStatus
from kernel.order_spec import Side
from kernel.venues.base import VenueCapabilities
from tests.folding import NS_PER_S, Journal, a_bust, a_report, a_trade, an_attempt, an_intent, an_order

MARGIN_NS = NS_PER_S
NAMELESS: dict[str, Any] = {"client_id": None, "exchange_order_id": "7"}


def an_order_of(journal: Journal, intent_id: str, *, begun: int, ended: int | None = None) -> Record:
    """An order under the client order id `c-INTENT` and the venue order id 7 that lived from one second to another."""
    order = an_order()
    attempt = an_attempt(AttemptKind.SUBMIT, f"c-{intent_id}", order, intent_id=intent_id, stamp_ns=begun * NS_PER_S)
    journal.append(intent_id, events.IntentCreated(intent=an_intent(order, intent_id)), attempt)
    named: dict[str, Any] = {"client_id": f"c-{intent_id}", "exchange_order_id": "7"}
    journal.hear(intent_id, a_report(ExecType.NEW, at=begun, **named))
    if ended is not None:
        journal.hear(intent_id, a_report(ExecType.CANCELED, at=ended, cum_qty=0, **named))
    return journal.record(intent_id)


def test_a_client_order_id_decides_if_symbol_and_side_agree() -> None:
    """A report under our client order id is ours, whatever else has the venue's id; not in another symbol or side."""
    journal = Journal()
    a, b = an_order_of(journal, "a", begun=1, ended=5), an_order_of(journal, "b", begun=10)
    named = a_trade("t", 1, at=11, client_id="c-b", exchange_order_id="7")
    found = match(named, b, [a, b], margin_ns=None)
    assert (found.intent_id, [name for name, _ in found.reused]) == ("b", ["a"])
    assert match(named, b, [a, b], margin_ns=MARGIN_NS).reused == ()
    for change in ({"symbol_id": "T"}, {"side": Side.SELL}):
        other = match(structs.replace(named, **change), b, [a, b], margin_ns=None)
        assert (other.intent_id, [name for name, _ in other.reused]) == (None, ["b"])


def test_another_client_order_id_is_external() -> None:
    """A report under a client order id that is not ours is external, and names the order whose venue id it has."""
    a = an_order_of(Journal(), "a", begun=1)
    found = match(a_trade("t", 1, at=2, client_id="web", exchange_order_id="7"), None, [a], margin_ns=None)
    assert (found.intent_id, [name for name, _ in found.reused]) == (None, ["a"])
    assert [name for name, _ in found.candidates] == ["a"]
    assert match(a_trade("t", 1, client_id="web", exchange_order_id="8"), None, [], margin_ns=None).reused == ()


def test_a_report_without_client_order_id_belongs_to_the_order_of_its_time() -> None:
    """Of two orders under one id the one whose life holds the venue time is meant; none or several make it external."""
    journal = Journal()
    a, b = an_order_of(journal, "a", begun=1, ended=5), an_order_of(journal, "b", begun=10)

    def owner(at: int) -> tuple[str | None, list[str]]:
        found = match(a_trade("t", 1, at=at, **NAMELESS), None, [a, b], margin_ns=MARGIN_NS)
        return found.intent_id, [name for name, _ in found.candidates]

    assert [owner(at) for at in (3, 6, 12)] == [("a", []), ("a", []), ("b", [])]
    assert owner(8) == (None, ["a", "b"])
    c = an_order_of(journal, "c", begun=4)
    found = match(a_trade("t", 1, at=5, **NAMELESS), None, [a, c], margin_ns=MARGIN_NS)
    assert (found.intent_id, [name for name, _ in found.candidates]) == (None, ["a", "c"])


def test_a_correction_belongs_to_the_order_that_has_its_trade() -> None:
    """A correction without client order id is about the order of its trade, not the one that has the id by then."""
    journal = Journal()
    an_order_of(journal, "a", begun=1, ended=5)
    journal.hear("a", a_trade("t1", 1, at=3, client_id="c-a", exchange_order_id="7"))
    a, b = journal.record("a"), an_order_of(journal, "b", begun=10)
    late = structs.replace(a_trade("t2", 1, at=12, **NAMELESS), exec_type=ExecType.TRADE_CORRECT, ref_fill_key="t1")
    assert match(late, None, [a, b], margin_ns=MARGIN_NS).intent_id == "a"
    unknown = match(structs.replace(late, ref_fill_key="t0"), None, [a, b], margin_ns=MARGIN_NS)
    assert (unknown.intent_id, [name for name, _ in unknown.candidates]) == (None, ["a", "b"])


def test_times_do_not_matter_where_ids_are_unique() -> None:
    """Where an id is never given again, the one order that has it is meant at any time."""
    a = an_order_of(Journal(), "a", begun=1, ended=5)
    assert match(a_trade("t", 1, at=99, **NAMELESS), None, [a], margin_ns=None).intent_id == "a"
    assert match(a_trade("t", 1, at=99, **NAMELESS), None, [a], margin_ns=MARGIN_NS).intent_id is None
    assert life_margin_ns(VenueCapabilities()) is None
    assert life_margin_ns(VenueCapabilities(order_ids_unique=False, clock_skew_ns=3)) == 3


def test_a_list_item_names_the_creation_of_its_order() -> None:
    """A list item made outside an order's life is another order, although it is shown within it."""
    a = an_order_of(Journal(), "a", begun=10)
    shown = a_report(ExecType.ORDER_STATUS, at=20, ord_status=OrdStatus.NEW, side=Side.BUY, **NAMELESS)
    assert match(shown, None, [a], margin_ns=MARGIN_NS).intent_id == "a"
    older = structs.replace(shown, order_created_ns=2 * NS_PER_S)
    assert match(older, None, [a], margin_ns=MARGIN_NS).intent_id is None
    assert shows(a, a.orders[0], shown)
    assert not shows(a, a.orders[0], structs.replace(shown, client_order_id="web"))


def test_an_end_learned_later_takes_trades_away() -> None:
    """A trade without a client order id no longer counts once the order is known to have ended before it."""
    journal = Journal()
    an_order_of(journal, "a", begun=1)
    trade = a_trade("t", 4, at=9, **NAMELESS)
    journal.append("a", event_with_margin(journal, trade))
    assert journal.record("a").cum_qty == 4
    made = journal.hear("a", a_report(ExecType.CANCELED, at=5, client_id="c-a", exchange_order_id="7", cum_qty=0))
    assert journal.record("a").cum_qty == 0
    (finding,) = [event.finding for event in made if isinstance(event, events.FindingRaised)]
    assert finding.kind is FindingKind.ID_REUSED
    found = match(trade, None, [journal.record("a")], margin_ns=MARGIN_NS)
    assert found.intent_id == "a"  # it is known there, and so no news


def event_with_margin(journal: Journal, report: Any) -> events.BaseEvent:
    """The event of a report at a venue that gives ids again."""
    shared = set(events.OrderFilled.__struct_fields__).intersection(report.__struct_fields__)
    fields = {name: getattr(report, name) for name in shared}
    return events.OrderFilled(intent_id="a", life_margin_ns=MARGIN_NS, **fields)


def test_the_answer_to_a_call_is_about_its_order() -> None:
    """An answer without client order ids gets those of the call; one that has any keeps them."""
    attempts = [
        an_order_of(Journal(), "a", begun=1).attempts[0],
    ]
    bare = a_report(ExecType.NEW, client_id=None, exchange_order_id="7")
    assert bound(bare, attempts[0]).client_order_id == "c-a"
    assert bound(a_report(ExecType.NEW, client_id="web"), attempts[0]).client_order_id == "web"


@given(
    times=st.lists(st.integers(1, 50), min_size=4, max_size=4, unique=True).map(sorted),
    at=st.integers(1, 60),
    newest_first=st.booleans(),
)
def test_the_match_does_not_depend_on_the_order_of_the_candidates(
    times: list[int], at: int, newest_first: bool
) -> None:
    """An owner's life holds the report's time, and no other candidate's does."""
    journal = Journal()
    records = [
        an_order_of(journal, "a", begun=times[0], ended=times[1]),
        an_order_of(journal, "b", begun=times[2], ended=times[3]),
    ]
    report = a_trade("t", 1, at=at, **NAMELESS)
    found = match(report, None, records[::-1] if newest_first else records, margin_ns=0)
    held = [name for name, begun, ended in (("a", *times[:2]), ("b", *times[2:])) if begun <= at <= ended]
    assert found.intent_id == (held[0] if len(held) == 1 else None)
    if found.intent_id is not None:
        assert find_order(journal.record(found.intent_id), report) is not None


def test_a_list_item_reopens_an_order_only_by_client_order_id_or_creation() -> None:
    """Where ids are given again, an open list item without either is not the ended order that has its id (H21)."""
    a = an_order_of(Journal(), "a", begun=1, ended=5)
    shown = a_report(ExecType.ORDER_STATUS, at=4, ord_status=OrdStatus.NEW, side=Side.BUY, **NAMELESS)
    assert match(shown, None, [a], margin_ns=MARGIN_NS).intent_id is None
    made = structs.replace(shown, order_created_ns=2 * NS_PER_S)
    assert match(made, None, [a], margin_ns=MARGIN_NS).intent_id == "a"
    assert match(shown, None, [a], margin_ns=None).intent_id == "a"


def test_a_replacement_may_have_an_id_that_an_order_of_its_intent_had() -> None:
    """The order of a replace is known by the client order id of the replace, whichever order has its venue id too."""
    journal = Journal()
    an_order_of(journal, "a", begun=1)
    before = "c-a"
    for at, name in enumerate(("r1", "r2"), start=2):
        attempt = an_attempt(AttemptKind.AMEND, name, an_order(), new_order=True, target_client_order_id=before)
        journal.append("a", attempt)
        ended = a_report(ExecType.CANCELED, at=at, client_id=name, exchange_order_id="7", cum_qty=0)
        journal.hear("a", structs.replace(ended, orig_client_order_id=before))
        assert not journal.record("a").live_orders
        journal.hear("a", a_report(ExecType.NEW, at=at, client_id=name, exchange_order_id="7"))
        before = name
    record = journal.record("a")
    assert [(facts.client_order_ids, facts.live) for facts in record.orders] == [
        (("c-a",), False),
        (("r1",), False),
        (("r2",), True),
    ]
    assert not record.unresolved
    shown = a_report(ExecType.ORDER_STATUS, at=9, client_id="r2", exchange_order_id="7", side=Side.BUY)
    assert [shows(record, facts, shown) for facts in record.orders] == [False, False, True]


def test_a_trade_that_may_be_of_the_external_order_before_is_not_ours() -> None:
    """An id has one open order: what is older than all that is told of ours may be of the external one that had it."""
    journal = Journal()
    older = an_order_of(journal, "b", begun=1, ended=2)
    an_order_of(journal, "a", begun=10)
    journal.hear("a", a_trade("t1", 1, at=13, client_id="c-a", exchange_order_id="7"))
    records = [older, journal.record("a")]
    known = ExternalOrder(exchange_order_id="7", symbol_id="S", side=Side.BUY, client_order_id="")

    def found(at: int, external: ExternalOrder | None, *trades: TradeEntry) -> tuple[str | None, int]:
        trade = a_trade("t", 1, at=at, **NAMELESS)
        given: Any = {"external": external, "external_trades": trades}
        owner = match(trade, None, records, margin_ns=MARGIN_NS, **given)
        return owner.intent_id, len(owner.candidates)

    ended = structs.replace(known, live=False, transact_time_ns=11 * NS_PER_S)
    assert [found(12, external) for external in (None, known, ended)] == [("a", 0), (None, 2), ("a", 0)]
    assert found(11, ended) == (None, 2)
    assert found(14, known) == ("a", 0)
    earlier = structs.replace(known, first_seen_ns=records[1].orders[0].first_seen_ns)
    later = structs.replace(known, first_seen_ns=records[1].orders[0].first_seen_ns + 1)
    trade = TradeEntry("t", 1, 100, 14 * NS_PER_S, None, None, None)
    assert [found(14, external, trade)[0] for external in (earlier, later)] == [None, "a"]


def test_the_life_of_a_stop_ends_when_it_triggers() -> None:
    """What comes under the id of a stop whose trigger made a new order is another order's."""
    facts = an_order_of(Journal(), "a", begun=1).orders[0]
    assert end_of_life(facts) is None
    assert end_of_life(with_rare(facts, succeeded_ns=9)) == 9


def test_an_order_that_a_bust_reopened_lives_on() -> None:
    """The life of a filled order whose trade was busted ends when it is told as filled again."""
    journal = Journal()
    an_order_of(journal, "a", begun=1)
    named: dict[str, Any] = {"client_id": "c-a", "exchange_order_id": "7"}
    whole = an_order().quantity
    journal.hear("a", a_trade("t1", whole, at=3, cum_qty=whole, **named))
    journal.hear("a", a_bust("b", "t1", at=5, cum_qty=0, **named))

    def owner(at: int) -> str | None:
        return match(a_trade("t2", 1, at=at, **NAMELESS), None, [journal.record("a")], margin_ns=0).intent_id

    assert owner(7) == "a"
    journal.hear("a", a_report(ExecType.ORDER_STATUS, at=9, ord_status=OrdStatus.FILLED, cum_qty=whole, **named))
    assert [owner(at) for at in (7, 9, 10)] == ["a", "a", None]


def test_an_end_of_other_terms_is_not_that_of_an_order_adopted_without_client_order_id() -> None:
    """A status of an ended order with other terms may be one that got the id later, unless a request of ours changed it."""
    journal, order = Journal(), an_order(1)
    shown = {"intent_id": "a", "symbol_id": "S", "client_order_id": "", "exchange_order_id": "7", "cum_qty": 0}
    adopted = events.OrderStateObserved(
        exec_type=ExecType.ORDER_STATUS, ord_status=OrdStatus.NEW, order_qty=1, leaves_qty=1, price=10, **shown
    )
    journal.append("a", events.IntentCreated(intent=an_intent(order, "a")), adopted)

    def is_ours(price: int, quantity: int, leaves: int = 0) -> bool:
        terms = {"order_qty": quantity, "price": price, "leaves_qty": leaves, "cum_qty": quantity - leaves}
        status = a_report(ExecType.ORDER_STATUS, at=9, ord_status=OrdStatus.FILLED, side=Side.BUY, **terms, **NAMELESS)
        return match(status, None, [journal.record("a")], margin_ns=MARGIN_NS).intent_id == "a"

    assert [is_ours(*terms) for terms in ((10, 1), (10, 2), (11, 1), (11, 2, 1))] == [True, False, False, True]
    change = an_attempt(AttemptKind.AMEND, "c-a", an_order(2), intent_id="a", target_exchange_order_id="7")
    journal.append("a", change)
    assert is_ours(10, 2)
