"""The fold of external orders: which of their trades count, and how many orders are kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from msgspec import structs
from msgspec.structs import replace

from kernel import events
from kernel.lifecycle.orders.order_facts import OrderFacts, with_rare
from kernel.lifecycle.orders.trades import TradeEntry, Trades, fees_of
from kernel.models import Evidence, ExecType, OrdStatus
from kernel.order_spec import Side
from projections.folds.external_orders import ENDED_MAX, Externals, key_of
from tests.envelopes import envelope_by, with_envelope
from tests.folding import an_order


def observed(position: int, exec_type: ExecType, **fields: Any) -> events.ExternalOrderObserved:
    """A report of an external buy order, at a position of the log."""
    event = events.ExternalOrderObserved(
        **{"symbol_id": "BTCUSDT", "exchange_order_id": "7", "exec_type": exec_type, "side": Side.BUY} | fields
    )
    envelope = envelope_by(
        position=position, stream_id=events.VENUE_STREAM, version=position, recorded_at_ns=position, actor="venue",
        evidence=Evidence.STREAM,
    )  # fmt: skip
    return with_envelope(event, envelope)


def traded(position: int, fill_key: str, quantity: int, ref: str | None = None) -> events.ExternalOrderObserved:
    """A trade, or the correction of one."""
    kind = ExecType.TRADE_CORRECT if ref is not None else ExecType.TRADE
    return observed(position, kind, fill_key=fill_key, last_qty=quantity, last_px=100, ref_fill_key=ref)


def ended(position: int) -> events.ExternalOrderObserved:
    """The end of an order that is named by the position."""
    return observed(position, ExecType.CANCELED, exchange_order_id=str(position), ord_status=OrdStatus.CANCELED)


def test_a_trade_that_comes_after_its_correction_does_not_count() -> None:
    """A corrected or busted trade changes no balance, whether it is reported before or after."""

    def sum_of(*reports: tuple[str, int, str | None]) -> int:
        externals = Externals()
        made = [externals.apply(traded(index, *report)) for index, report in enumerate(reports, start=1)]
        return sum(booking.signed_quantity for bookings in made for booking in bookings)

    trade, correction = ("t", 7, None), ("c", 6, "t")
    assert sum_of(trade, correction) == sum_of(correction, trade) == sum_of(correction, trade, correction) == 6


def test_the_newest_fees_of_a_trade_count() -> None:
    """A later report of a trade replaces its fees, one without fees changes nothing, another size is another trade."""
    externals, paid = Externals(), Counter[str]()
    told: list[dict[str, Any]] = [
        {"fee": 0, "fee_asset": "BNB"},
        {"fees": {"BNB": 5, "BTC": 2}},
        {},
        {"fees": {"BNB": 4}},
    ]
    for position, fees in enumerate([*told, {"last_qty": 8, "fees": {"BNB": 9}}], start=1):
        report = {"fill_key": "t", "last_qty": 7, "last_px": 100} | fees
        for booking in externals.apply(observed(position, ExecType.TRADE, **report)):
            paid["quantity"] += booking.signed_quantity
            paid[booking.fee_asset or "none"] += booking.fee
    assert {name: amount for name, amount in paid.items() if amount} == {"quantity": 15, "BNB": 13}
    assert externals.find("7").order.cum_qty == 15


def test_a_stale_report_does_not_reduce_the_filled_quantity() -> None:
    """A list that is older than the known reports does not reduce the filled quantity."""
    externals = Externals()
    for position, cum_qty in enumerate((5, 3, None), start=1):
        externals.apply(observed(position, ExecType.ORDER_STATUS, cum_qty=cum_qty))
        assert externals.find("7").order.cum_qty == 5


def test_a_late_report_does_not_reopen_an_order() -> None:
    """A trade or a working order that is reported after the end happened before it."""
    externals = Externals()
    externals.apply(ended(7))
    for late in (traded(8, "t", 3), observed(9, ExecType.NEW, ord_status=OrdStatus.NEW)):
        externals.apply(late)
        assert not externals.find("7").order.live


def test_the_newest_ended_orders_are_kept() -> None:
    """Beyond the maximum the ended order with the oldest report is dropped, also after a restore; open ones stay."""
    externals = Externals()
    externals.apply(observed(1, ExecType.NEW, exchange_order_id="open"))
    for position in range(2, ENDED_MAX + 2):
        externals.apply(ended(position))
    restored = Externals()
    restored.restore([*externals.entries.values()])
    for known in (externals, restored):
        assert len(known.entries) == ENDED_MAX + 1
        known.apply(ended(2))  # reported again: now "3" has the oldest report
        known.apply(ended(ENDED_MAX + 2))
        assert len(known.entries) == ENDED_MAX + 1
        assert None not in (known.find("open"), known.find("2"))
        assert known.find("3") is None


def test_orders_are_found_by_symbol_side_and_first_report() -> None:
    """Those first shown after a position, newest first; one without a side may have each; a restored fold agrees."""
    externals = Externals()
    for position, fields in enumerate(({}, {"side": Side.SELL}, {"side": None}, {"symbol_id": "ETHUSDT"}, {}), start=1):
        externals.apply(observed(position, ExecType.ORDER_STATUS, exchange_order_id=str(position), **fields))
    externals.apply(observed(6, ExecType.ORDER_STATUS, exchange_order_id="1"))
    restored = Externals()
    restored.restore(externals.entries.values())
    for fold in (externals, restored):
        found = [order.exchange_order_id for order in fold.seen_since("BTCUSDT", Side.BUY, position=0)]
        assert found == ["5", "3", "1"]
        assert [order.exchange_order_id for order in fold.seen_since("BTCUSDT", Side.BUY, position=1)] == ["5", "3"]


def test_an_attributed_order_hands_on_its_trades_with_times_and_fees() -> None:
    """Each trade that counts keeps its quantity, price, venue time and fees; the first trade's time is the order's."""
    externals = Externals()
    for position, (key, fees) in enumerate(
        (("t1", {"fee": 3, "fee_asset": "BNB"}), ("t2", {"fees": {"BNB": 1, "BTC": 2}}), ("t3", {})), start=1
    ):
        report = {"fill_key": key, "last_qty": position, "last_px": 100, "transact_time_ns": 50 - position} | fees
        externals.apply(observed(position, ExecType.TRADE, **report))
    externals.apply(observed(4, ExecType.TRADE_CANCEL, fill_key="b", ref_fill_key="t3"))
    known = externals.find("7")
    assert known is not None
    entry = externals.drop(key_of(known.order))
    assert [(item.fill_key, item.quantity, item.time_ns, fees_of(item)) for item in entry.trade_entries()] == [
        ("t1", 1, 49, {"BNB": 3}),
        ("t2", 2, 48, {"BNB": 1, "BTC": 2}),
    ]
    assert entry.order.first_trade_ns == 47
    assert not [*externals.seen_since("BTCUSDT", Side.BUY, position=0)]


def test_an_attributed_order_hands_on_which_trade_a_correction_replaces() -> None:
    """A correction names the first trade of its chain, and a smaller total with it counts."""
    externals = Externals()
    told = {"last_px": 100, "cum_qty": 5, "last_qty": 5}
    externals.apply(observed(1, ExecType.TRADE, fill_key="t1", **told))
    less = {"last_px": 100, "cum_qty": 4, "last_qty": 4}
    externals.apply(observed(2, ExecType.TRADE_CORRECT, fill_key="t2", ref_fill_key="t1", **less))
    externals.apply(observed(3, ExecType.TRADE_CORRECT, fill_key="t3", ref_fill_key="t2", **less))
    known = externals.find("7")
    assert known is not None
    assert [(item.fill_key, item.ref_fill_key) for item in known.trade_entries()] == [("t3", "t1")]
    assert known.order.cum_qty == 4


def test_an_adopted_order_takes_no_trades_of_an_earlier_one_with_its_id() -> None:
    """Where ids are given again, what was recorded before an adopted order was accepted is another order's."""
    externals = Externals()
    told = {"fill_key": "t1", "last_px": 100, "last_qty": 5, "id_reused": True}
    externals.apply(observed(1, ExecType.TRADE, **told))
    entry = externals.find("7")
    assert entry is not None
    terms = structs.replace(an_order(), symbol_id=entry.order.symbol_id, side=Side.BUY)
    begun_ns = entry.order.first_seen_ns + 1
    facts = OrderFacts("7", (), terms, 5, 100, 0, begun_ns, begun_ns)
    assert externals.take(with_rare(replace(facts, client_order_ids=("",)), accepted_ns=begun_ns)) == []
    assert externals.take(with_rare(replace(facts, client_order_ids=("",)), accepted_ns=begun_ns - 1)) != []


@pytest.mark.parametrize(("sent_position", "is_taken"), [(None, False), (2, False), (1, False), (0, True)])
def test_an_order_takes_what_the_log_shows_behind_its_send(sent_position: int | None, is_taken: bool) -> None:
    """A host whose clock is ahead of the log's sends an order: the log's order of the two decides, not their times."""
    externals = Externals()
    externals.apply(observed(1, ExecType.TRADE, fill_key="t1", last_px=100, last_qty=5))
    entry = externals.find("7")
    assert entry is not None
    terms = structs.replace(an_order(), symbol_id=entry.order.symbol_id, side=Side.BUY)
    ahead_ns = entry.order.first_seen_ns + 1
    facts = OrderFacts("7", ("c1",), terms, 5, 100, 0, ahead_ns, ahead_ns, sent_ns=ahead_ns)
    assert bool(externals.take(facts, sent_position=sent_position)) is is_taken


def test_an_adopted_order_takes_no_trades_of_one_that_ended_before_it_was_accepted() -> None:
    """Which of the two clocks is ahead does not matter: both times are the venue's."""
    told = {"fill_key": "t1", "last_px": 100, "last_qty": 5, "ord_status": OrdStatus.FILLED, "transact_time_ns": 900}
    terms = structs.replace(an_order(), symbol_id="BTCUSDT", side=Side.BUY)
    facts = OrderFacts("7", ("",), terms, 5, 100, 0, first_seen_ns=2, last_seen_ns=2)
    for accepted_ns, is_taken in ((None, True), (900, True), (901, False)):
        externals = Externals()
        externals.apply(observed(1, ExecType.TRADE, client_order_id="web", **told))
        assert bool(externals.take(with_rare(facts, accepted_ns=accepted_ns))) is is_taken


@pytest.mark.parametrize(
    ("trades", "is_taken"),
    [
        ([("t2", 901)], False),
        ([("t2", 900)], True),
        ([("t2", 901), ("t0", 800)], True),
        ([("t1", 901)], True),
        ([("t2", 0)], True),
    ],
)
def test_an_order_adopted_by_its_trade_takes_none_of_one_that_had_ended(
    trades: list[tuple[str, int]], is_taken: bool
) -> None:
    """An order whose acceptance was never reported is another than one that ended before its first trade, unless they
    share a trade."""
    told = {"fill_key": "t1", "last_px": 100, "last_qty": 5, "ord_status": OrdStatus.FILLED, "transact_time_ns": 900}
    externals = Externals()
    externals.apply(observed(1, ExecType.TRADE, client_order_id="web", **told))
    terms = structs.replace(an_order(), symbol_id="BTCUSDT", side=Side.BUY)
    facts = OrderFacts("7", ("",), terms, 5, 100, 0, first_seen_ns=2, last_seen_ns=2)
    entries = Trades(TradeEntry(name, 5, 100, time_ns, None, None, None) for name, time_ns in trades)
    assert bool(externals.take(replace(facts, trades=entries))) is is_taken


def test_a_correction_is_about_the_order_that_has_its_trade() -> None:
    """Of two orders under one id, a bust or correction without client order id changes the one that traded."""
    externals = Externals()
    trade = {"last_px": 100, "last_qty": 5}
    externals.apply(observed(1, ExecType.TRADE, client_order_id="web-1", fill_key="t1", **trade))
    externals.apply(observed(2, ExecType.NEW, client_order_id="web-2"))
    bookings = externals.apply(observed(3, ExecType.TRADE_CANCEL, fill_key="t2", ref_fill_key="t1"))
    assert [booking.signed_quantity for booking in bookings] == [-5]
    assert [*externals.entries.values()][-1].order.client_order_id == "web-1"
