"""The venue's answer to a status query, and the events that follow if it does not show an order open. Pure.

Used by the querier and by the session's relist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kernel import events
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.findings import finding_events
from kernel.lifecycle.order_identity import client_ids_of, find_order, key_of
from kernel.lifecycle.orders.order_facts import OrderFacts
from kernel.lifecycle.orders.order_status import TERMINAL
from kernel.lifecycle.record import Record, order_under
from kernel.lifecycle.settled_orders import recalled
from kernel.models import ExecType, LookScope, VenueOrder
from kernel.order_spec import StandardOrder
from kernel.venues.base import ExecutionReport, VenueCapabilities, VenueSnapshot

ORDER_SCOPES = (LookScope.ORDER,)
LIST_SCOPES = (LookScope.OPEN_ORDERS, LookScope.TRADES)


class StatusAnswer(msgspec.Struct, frozen=True):
    """The venue's answer to a status query, as far as it concerns one order."""

    scopes: tuple[LookScope, ...]
    began_ns: int
    ended_ns: int
    reports: tuple[ExecutionReport, ...]
    """Reports of the order; empty if the venue did not show it."""
    listed: bool
    """True if the answer shows the order open."""
    reflects_ns: int | None = None
    """The answer includes everything that was recorded until then."""
    others: tuple[ExecutionReport, ...] = ()
    """Reports of a list about other orders."""
    lead_ns: int = 0
    """By how much the host's clock, which tells when it began, was ahead of the venue's, as far as is known."""


def query_event(
    intent_id: str, answer: StatusAnswer, *, client_order_id: str, exchange_order_id: str | None, found: bool
) -> events.VenueSnapshotTaken:
    """Return the event that records a query about one order."""
    return events.VenueSnapshotTaken(
        scopes=answer.scopes,
        complete=True,
        began_ns=answer.began_ns,
        ended_ns=answer.ended_ns,
        reflects_ns=answer.reflects_ns,
        intent_id=intent_id,
        client_order_id=client_order_id,
        exchange_order_id=exchange_order_id,
        found=found,
    )


def missed_events(
    record: Record, facts: OrderFacts, answer: StatusAnswer, capabilities: VenueCapabilities
) -> list[events.BaseEvent]:
    """Return the events of a query that did not show an order open; none if it proves nothing new.

    It confirms the end of an ended order (H21), or is one of the misses that close a live one (H22).
    """
    if not {LookScope.ORDER, LookScope.OPEN_ORDERS} & set(answer.scopes):
        return []
    order_id = facts.exchange_order_id or None
    missed = query_event(
        record.intent_id, answer, client_order_id=facts.client_order_id, exchange_order_id=order_id, found=False
    )
    record = recalled(record, missed)
    after = evolve(record, missed)
    misses = next((item.rare.misses for item in after.orders if is_same(item, facts)), 0)
    if after.orders == record.orders:
        return []
    if not facts.live or misses < max(2, capabilities.absence_looks):
        return [missed]
    text = f"not found by {misses} queries since it was last seen"
    gone = observed(record, facts.client_order_id, answer, facts.exchange_order_id, gone=True, text=text)
    return [missed, gone, *finding_events(record, evolve(after, gone), now_ns=answer.ended_ns)]


def is_same(facts: OrderFacts, other: OrderFacts) -> bool:
    return (facts.exchange_order_id, facts.client_order_ids) == (other.exchange_order_id, other.client_order_ids)


def observed(
    record: Record, client_order_id: str, answer: StatusAnswer, exchange_order_id: str = "", **shown: Any
) -> events.OrderStateObserved:
    """Return what an answer shows of an order that it does not list."""
    return events.OrderStateObserved(
        intent_id=record.intent_id,
        symbol_id=symbol_id_of_record(record),
        client_order_id=client_order_id,
        exchange_order_id=exchange_order_id or None,
        exec_type=ExecType.ORDER_STATUS,
        began_ns=answer.began_ns,
        reflects_ns=answer.reflects_ns,
        **shown,
    )


def order_of_record(record: Record) -> StandardOrder | None:
    """Return the terms of the newest submit, else of the intent, else of the newest order: of a deleted adopted one."""
    known = [facts.order for facts in record.orders[-1:]]
    return record.sent_order or (record.intent.order if record.intent else next(iter(known), None))


def symbol_id_of_record(record: Record) -> str:
    order = order_of_record(record)
    return order.symbol_id if order is not None else ""


def names(facts: OrderFacts, item: VenueOrder) -> bool:
    same_id = not item.exchange_order_id or facts.exchange_order_id == item.exchange_order_id
    return same_id and facts.client_order_id == item.client_order_id


def facts_of(record: Record, item: VenueOrder) -> OrderFacts | None:
    return next((facts for facts in record.orders if names(facts, item)), None)


def is_open(report: ExecutionReport) -> bool:
    return report.ord_status not in TERMINAL


def may_concern(report: ExecutionReport, client_order_id: str, exchange_order_id: str | None) -> bool:
    """Return whether a report may be about an order: it shares an id with it, or has no client order id."""
    ids = client_ids_of(report)
    return not ids or client_order_id in ids or report.exchange_order_id == exchange_order_id


def answer_of(
    snapshot: VenueSnapshot,
    client_order_id: str,
    exchange_order_id: str | None,
    *,
    owners: Mapping[int, str | None],
    record: Record,
    sent_ns: int,
) -> StatusAnswer:
    """Return what a complete snapshot shows of one order of an intent, or of every order under one client order id.

    `record` is the intent's. `owners` has the intent of each report that may concern the order, by `id`; nothing before
    `sent_ns` can be the order's.
    """

    asked = order_under(record, client_order_id, exchange_order_id=exchange_order_id)

    def concerns(report: ExecutionReport) -> bool:
        if owners.get(id(report)) != record.intent_id:
            return False
        if exchange_order_id and report.exchange_order_id:
            if report.exchange_order_id != exchange_order_id:
                return False
            # Where order ids are given again, another order of the intent may have it.
            shown = find_order(recalled(record, report), report)
            return shown is asked or None in (shown, asked)
        return client_order_id in client_ids_of(report)

    listed = tuple(report for report in snapshot.open_orders if concerns(report))
    fills = tuple(report for report in snapshot.fills if concerns(report))
    keys = {key_of(report) for report in listed if report.exchange_order_id}
    # Trades that have only a venue order id which this answer tells; they follow the order that has it.
    nameless = tuple(
        report
        for report in snapshot.fills
        if not client_ids_of(report) and key_of(report) in keys and owners[id(report)] is None
        and (report.transact_time_ns or sent_ns) >= sent_ns
    )  # fmt: skip
    found = (*fills, *listed, *nameless)
    others = tuple(report for report in (*snapshot.fills, *snapshot.open_orders) if report not in found)
    return StatusAnswer(LIST_SCOPES, snapshot.began_ns, snapshot.ended_ns, found, bool(listed), others=others)


def others_under_id(
    snapshot: VenueSnapshot, client_order_id: str, exchange_order_id: str | None
) -> tuple[ExecutionReport, ...]:
    """Return what a snapshot shows under the client order id of an order of other orders: a triggered stop has one."""
    if not exchange_order_id or not client_order_id:
        return ()
    shown = (*snapshot.fills, *snapshot.open_orders)
    named = [report for report in shown if report.client_order_id == client_order_id]
    return tuple(report for report in named if report.exchange_order_id not in (None, exchange_order_id))
