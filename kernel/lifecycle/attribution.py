"""Requests for an order whose outcome is not known, and attribution: an external order becomes the order of one.

A request has all unresolved sends of one client order id; an ended stop that may have triggered as a new order stands for
one too. Attribution books the external order's trades as its own; it is
decided by the kernel on an exclusive account, by an operator, or by a report that shows both ids. The fold then removes the
external order and reverses its trades, so that each is booked once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import structs

from kernel import events
from kernel.lifecycle.decide_report import decide_report
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.lifecycle.orders.trades import TradeEntry
from kernel.lifecycle.orders.trigger_chain import shares_client_id, told_triggered
from kernel.lifecycle.record import Record, is_solicited
from kernel.models import Attempt, ExecType, ExternalOrder, OrdStatus
from kernel.order_spec import STOPPED, Side
from kernel.venues.base import ExecutionReport


class OrderRequest(NamedTuple):
    """A submit, or a replace that makes a new order, with all its unresolved sends."""

    intent_id: str
    client_order_id: str
    position: int
    """Log position of the first unresolved send."""
    symbol_id: str
    side: Side
    quantity: int
    """The largest quantity that it may have asked for."""
    stamp_ns: int
    valid_until_ns: int | None
    """The last instant at which the venue accepts a send, or the stop was open; None if that is not known."""
    stop_id: str | None = None
    """The venue's id of the stop whose trigger may have made the order."""
    is_final: bool = False
    """True if that stop counts as ended without one: a later list showed no such order."""


def order_requests(record: Record) -> list[OrderRequest]:
    """Return an intent's unresolved requests for orders, oldest first."""
    sends: dict[str, list[Attempt]] = {}
    for item in record.unresolved:
        if item.makes_order:
            sends.setdefault(item.client_order_id, []).append(item)
    return [found for items in sends.values() if (found := order_request(record, items)) is not None]


def order_request(record: Record, sends: list[Attempt]) -> OrderRequest | None:
    order = record.sent_order or (record.intent.order if record.intent is not None else None)
    if order is None:
        return None
    ends = [item.valid_until_ns for item in sends]
    return OrderRequest(
        intent_id=record.intent_id, client_order_id=sends[0].client_order_id,
        position=min(item.position for item in sends), symbol_id=order.symbol_id, side=order.side,
        quantity=max([order.quantity, record.wanted_most, *(item.quantity or 0 for item in sends)]),
        stamp_ns=min(item.stamp_ns for item in sends),
        valid_until_ns=None if None in ends else max(end for end in ends if end is not None),
    )  # fmt: skip


def stop_requests(record: Record) -> list[OrderRequest]:
    """Return for each stop that may have triggered unseen a request for the order that its trigger made (H23)."""
    return [stop_request(record, facts) for facts in record.orders if may_have_triggered(record, facts)]


def may_have_triggered(record: Record, facts: OrderFacts) -> bool:
    """Return whether a stop ended, not by our cancel, or filled without trades, and no order is known to follow it."""
    if facts.order.order_type not in STOPPED or facts.succeeded or facts.rare.retired or facts.rare.recorded:
        return False
    if told_triggered(facts) or any(item.succeeded and shares_client_id(item, facts) for item in record.orders):
        return False  # a trigger made it
    if facts.filled:
        return facts.inferred_qty > 0
    if facts.closed is OrdStatus.CANCELED and facts.gone_ns is None and not facts.rare.triggered:
        return not is_solicited(facts, record)
    return facts.ended and facts.closed is not OrdStatus.REJECTED


def stop_request(record: Record, facts: OrderFacts) -> OrderRequest:
    begun = (time_ns for time_ns in (facts.created_ns, facts.sent_ns, facts.rare.accepted_ns) if time_ns is not None)
    sends = (item for item in record.attempts if item.makes_order and item.client_order_id in facts.client_order_ids)
    return OrderRequest(
        intent_id=record.intent_id, client_order_id=facts.client_order_id,
        position=min((item.position for item in sends), default=0), symbol_id=facts.order.symbol_id,
        side=facts.order.side, quantity=max(facts.quantity, facts.order.quantity), stamp_ns=next(begun, 0),
        valid_until_ns=facts.closed_ns, stop_id=facts.exchange_order_id, is_final=facts.final_cum_qty is not None,
    )  # fmt: skip


def attribution_reports(
    order: ExternalOrder, trades: Sequence[TradeEntry], request: OrderRequest, *, text: str
) -> list[ExecutionReport]:
    """Return what is known of an external order, as reports about a request's order: its ids, its trades, its status."""
    known = ExecutionReport(
        exec_type=ExecType.ORDER_STATUS,
        symbol_id=order.symbol_id,
        side=request.side,
        client_order_id=request.client_order_id,
        exchange_order_id=order.exchange_order_id,
        parent_exchange_order_id=request.stop_id or None,
        ord_status=order.ord_status,
        order_qty=order.quantity,
        price=order.price,
        cum_qty=order.cum_qty,
        transact_time_ns=order.transact_time_ns,
        order_created_ns=order.created_ns,
        text=text,
    )
    bound = structs.replace(known, ord_status=None, cum_qty=None)
    return [bound, *trade_reports(known, trades, request.side), known]


def trade_reports(about: ExecutionReport, trades: Iterable[TradeEntry], side: Side) -> list[ExecutionReport]:
    """Return the known trades of an external order as reports with the ids of another report about it."""
    return [
        ExecutionReport(
            exec_type=ExecType.TRADE if entry.ref_fill_key is None else ExecType.TRADE_CORRECT,
            symbol_id=about.symbol_id,
            side=side,
            client_order_id=about.client_order_id,
            orig_client_order_id=about.orig_client_order_id,
            exchange_order_id=about.exchange_order_id,
            order_qty=about.order_qty,
            price=about.price,
            fill_key=entry.fill_key,
            ref_fill_key=entry.ref_fill_key,
            last_qty=entry.quantity,
            last_px=entry.price,
            fee=entry.fee,
            fee_asset=entry.fee_asset,
            fees=dict(entry.fees) if entry.fees is not None else None,
            transact_time_ns=entry.time_ns or None,
        )
        for entry in trades
    ]


def attribution(record: Record, reports: Iterable[ExecutionReport], *, now_ns: int) -> list[events.BaseEvent]:
    """Return the events of several reports about an intent's orders, in one append."""
    made: list[events.BaseEvent] = []
    for report in reports:
        found = decide_report(record, report, now_ns=now_ns)
        for event in found:
            record = evolve(record, event)
        made += found
    return made
