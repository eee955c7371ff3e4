"""To which venue order, and so to which intent, a report belongs. Pure; the only place that decides it (law 11, H25).

A venue order is known by symbol, side and venue order id, and by its client order ids where a report has one. A report that
names a known venue order id with another client order id, symbol or side is about an external order. A report without a
client order id is about the one order of its key whose life holds the report's venue time; lives count only where the venue
gives order ids again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
from msgspec import structs

from kernel import events
from kernel.lifecycle.findings import finding_id, raised
from kernel.lifecycle.orders.order_facts import OrderFacts, end_of_life, in_life
from kernel.lifecycle.orders.trades import TradeEntry
from kernel.lifecycle.record import Record, SentModify, order_under, targets_of
from kernel.models import Attempt, AttemptKind, ExecType, ExternalOrder, FindingKind
from kernel.order_spec import Side, StandardOrder
from kernel.venues.base import ExecutionReport, VenueCapabilities

Report = ExecutionReport | events.OrderReport
Observed = Report | events.ExternalOrderObserved
REFUSALS = frozenset({ExecType.CANCEL_REJECTED, ExecType.REPLACE_REJECTED})


class OrderMatch(msgspec.Struct, frozen=True):
    """The intent that a report belongs to; None for an external order."""

    intent_id: str | None = None
    reused: tuple[tuple[str, OrderFacts], ...] = ()
    """Intents and their orders whose venue order id the report gives to another order."""
    candidates: tuple[tuple[str, OrderFacts], ...] = ()
    """Those that it casts doubt on: they are queried before their intents submit anything."""
    sender: tuple[str, StandardOrder] | None = None
    """The intent that sent its client order id, and the terms, if the report has another symbol or side."""


def life_margin_ns(capabilities: VenueCapabilities) -> int | None:
    """Return how far outside an order's life a report without a client order id may be; None if lives do not count."""
    return None if capabilities.order_ids_unique else capabilities.clock_skew_ns


def match(
    report: ExecutionReport,
    by_client_id: Record | None,
    by_order_id: Sequence[Record],
    *,
    margin_ns: int | None,
    external: ExternalOrder | None = None,
    external_trades: Sequence[TradeEntry] = (),
) -> OrderMatch:
    """Return to which intent a report belongs.

    `by_client_id` has one of its client order ids, `by_order_id` have an order with its venue order id; `external` is the
    known external order that it may be about, with the trades that count. For `margin_ns` see `life_margin_ns`.
    """
    changed = {record.intent_id for record in by_order_id if record.amends}
    known = [
        (record.intent_id, facts)
        for record in by_order_id
        for facts in record.orders
        if has_id(facts, report) and facts.order.symbol_id == report.symbol_id
    ]
    ids = client_ids_of(report)
    # An adopted order has a client order id that no attempt sent.
    by_client_id = by_client_id or next(
        (record for record in by_order_id if any(is_known(record, client_id) for client_id in ids)), None
    )
    if by_client_id is not None:
        return match_by_client_id(report, by_client_id, known, margin_ns=margin_ns)
    same = [item for item in known if has_terms_of(item[1].order, report) and (not ids or is_nameless(item[1]))]
    if not same and (parent := parent_of(report, by_order_id)) is not None:
        return OrderMatch(parent.intent_id)
    if ids and not same:
        return OrderMatch(reused=tuple(known), candidates=tuple(item for item in known if item[1].live))
    if margin_ns is None and len(same) == 1:
        return OrderMatch(same[0][0])
    held = [item for item in same if holds_trade(item[1], report, margin_ns)]
    if not held and report.ref_fill_key is None:  # the time of a correction is not that of its trade
        held = [
            item
            for item in same
            if in_life_of(item[1], report, margin_ns)
            and not is_nameless_reopening(item[1], report, margin_ns)
            and not (item[0] not in changed and is_end_of_other_terms(item[1], report))
            and not (external is not None and is_of(external, external_trades, report, item[1]))
        ]
    if len(held) == 1:
        return OrderMatch(held[0][0])
    # A list shows the order open at another time too; anything else may be a change that is told only once.
    told_once = report.exec_type is not ExecType.ORDER_STATUS
    return OrderMatch(reused=tuple(known), candidates=tuple(held or same) if told_once else ())


def match_by_client_id(
    report: ExecutionReport, record: Record, known: Sequence[tuple[str, OrderFacts]], *, margin_ns: int | None
) -> OrderMatch:
    """Match a report with one of our client order ids: it is that intent's, if symbol and side agree."""
    ids = client_ids_of(report)
    # A request about an order that was adopted without client order id names it by the venue's.
    named = [
        facts
        for facts in record.orders
        if any(answers(record, facts, client_id) for client_id in ids) or (is_nameless(facts) and has_id(facts, report))
    ]
    terms = [facts.order for facts in named] or sent_terms(record)
    if terms and not any(has_terms_of(order, report) for order in terms):
        reused = tuple((record.intent_id, facts) for facts in named) or tuple(known)
        return OrderMatch(reused=reused, sender=(record.intent_id, terms[0]))
    others = [
        (intent_id, facts)
        for intent_id, facts in known
        if has_terms_of(facts.order, report) and not (intent_id == record.intent_id and facts in named)
    ]
    # Where order ids are given again, an id of an ended order is no contradiction.
    return OrderMatch(record.intent_id, tuple(item for item in others if margin_ns is None or item[1].live))


def bound(report: ExecutionReport, attempt: Attempt) -> ExecutionReport:
    """Return the answer to a call as one about the call's order: it may lack the client order ids."""
    if client_ids_of(report):
        return report
    if attempt.kind is AttemptKind.SUBMIT or attempt.new_order:
        return structs.replace(report, client_order_id=attempt.client_order_id)
    return structs.replace(report, orig_client_order_id=attempt.target_client_order_id)


def shows(record: Record, facts: OrderFacts, report: ExecutionReport) -> bool:
    """Return whether a report in a list is about an order: it has its key, and none but its client order ids."""
    ids = client_ids_of(report)
    if not has_id(facts, report) or not has_terms_of(facts.order, report):
        return False
    named = any(answers(record, facts, client_id) for client_id in ids) and find_order(record, report) is facts
    return not ids or is_nameless(facts) or named


def reuse_findings(report: ExecutionReport, found: OrderMatch, *, now_ns: int) -> list[events.FindingRaised]:
    """Return the finding that an order id, the venue's or ours, stands for two orders; none if it does not."""
    if not found.reused and found.sender is None:
        return []
    order_id = report.exchange_order_id or ""
    told = f"{report.side or 'an order'} in {report.symbol_id} (client order id {report.client_order_id or 'not told'})"
    if found.sender is not None:
        intent_id, order = found.sender
        text = f"the venue shows {told} as order {order_id}, but intent {intent_id} sent that client order id for"
        text += f" {order.side} in {order.symbol_id}"
    else:
        ours = "; ".join(
            f"intent {name}, {facts.order.side} in {facts.order.symbol_id} (client order id {facts.client_order_id})"
            for name, facts in found.reused
        )
        text = f"the venue gives the order id {order_id} to {told}, but it is that of {ours}"
    name = finding_id(FindingKind.ID_REUSED, f"{report.symbol_id}/{report.side or '-'}/{order_id}")
    return [raised(name, FindingKind.ID_REUSED, text, symbol_id=report.symbol_id, now_ns=now_ns)]


def parent_of(report: ExecutionReport, records: Sequence[Record]) -> Record | None:
    """Return the intent of the stop whose trigger made the order of a report, if the report names the stop (H23)."""
    parent_id = report.parent_exchange_order_id
    found = [
        record
        for record in records
        if parent_id
        and any(facts.exchange_order_id == parent_id and has_terms_of(facts.order, report) for facts in record.orders)
    ]
    return found[0] if len(found) == 1 else None


def find_order(record: Record, report: Report) -> OrderFacts | None:
    """Return the venue order of a report that belongs to an intent; None for one that is not known yet."""
    known = [facts for facts in record.orders if has_id(facts, report)]
    ids = client_ids_of(report)
    if not ids:
        return known[0] if len(known) == 1 else of_several(known, report)
    if replacement(record, report) is not None and not (known and ends_replaced(report, known)):
        named_alike = (facts for facts in record.orders if report.client_order_id in facts.client_order_ids)
        return next((facts for facts in named_alike if not is_named_otherwise(facts, report)), None)
    aimed_at = chain.from_iterable(targets_of(record, client_id) for client_id in ids) if known else ()
    named = (facts for client_id in aimed_at for facts in reversed(known) if facts.answers_to(client_id))
    if found := next(chain(named, filter(is_nameless, known)), None):
        return found
    for client_id in ids:
        if facts := order_under(record, client_id, exchange_order_id=report.exchange_order_id):
            return facts
    # Logs of versions that matched by the venue's id alone have reports under client order ids of others.
    return known[0] if known and not any(is_known(record, client_id) for client_id in ids) else None


def ends_replaced(report: Report, known: Sequence[OrderFacts]) -> bool:
    """Return whether a report under the id of a replace is about the order that was replaced, one of `known`.

    The end of an order that was adopted without a client order id cannot name that order otherwise.
    """
    is_end = report.exec_type is ExecType.CANCELED and all(map(is_nameless, known))
    return is_end or report.exec_type is ExecType.REPLACED


def of_several(known: Sequence[OrderFacts], report: Report) -> OrderFacts | None:
    """Return which of several orders under one venue order id a report without a client order id is about."""
    margin_ns = getattr(report, "life_margin_ns", None)
    held = [facts for facts in known if holds_trade(facts, report, margin_ns)] or [
        facts for facts in known if in_life_of(facts, report, margin_ns)
    ]
    return next(reversed(held or known), None)


def client_ids_of(report: Report) -> list[str]:
    """Return the client order ids that a report names, that of the order first."""
    return [name for name in (report.orig_client_order_id, report.client_order_id) if name]


def key_of(report: ExecutionReport) -> tuple[str, Side | None, str | None]:
    """Return what a venue order is known by where no client order id is told."""
    return (report.symbol_id, report.side, report.exchange_order_id)


def has_id(facts: OrderFacts, report: Observed) -> bool:
    return bool(report.exchange_order_id) and facts.exchange_order_id == report.exchange_order_id


def is_named_otherwise(facts: OrderFacts, report: Report) -> bool:
    """Return whether the venue has another order id for an order than a report."""
    return bool(report.exchange_order_id) and facts.exchange_order_id not in ("", report.exchange_order_id)


def has_terms_of(order: StandardOrder, report: Observed) -> bool:
    """Return whether an order has the symbol of a report, and its side if the report has one."""
    side = getattr(report, "side", None)
    return order.symbol_id == report.symbol_id and side in (None, order.side)


def answers(record: Record, facts: OrderFacts, client_order_id: str) -> bool:
    """Return whether a client order id is an order's, or that of a request that aimed at it."""
    return any(map(facts.answers_to, targets_of(record, client_order_id)))


def is_nameless(facts: OrderFacts) -> bool:
    """Return whether no client order id of an order was ever told: it was adopted without one."""
    return not any(facts.client_order_ids)


def is_known(record: Record, client_order_id: str) -> bool:
    """Return whether an intent sent a client order id, or has an order under it."""
    sent = record.send_count(client_order_id) > 0 or record.target(client_order_id) is not None
    return sent or any(facts.answers_to(client_order_id) for facts in record.orders)


def sent_terms(record: Record) -> list[StandardOrder]:
    """Return the terms under which an order may have been sent that no report has shown yet."""
    desired = record.intent.order if record.intent is not None else None
    return [order for order in (record.sent_order, desired) if order is not None]


def in_life_of(facts: OrderFacts, report: Report, margin_ns: int | None) -> bool:
    """Return whether an order's life holds the venue times of a report; without any, only an open order's does."""
    times = [time for time in (report.transact_time_ns, report.order_created_ns) if time is not None]
    end_ns = end_of_life(facts)
    return all(in_life(facts, time_ns, margin_ns or 0, ended_ns=end_ns) for time_ns in times) if times else facts.live


def is_of(external: ExternalOrder, trades: Sequence[TradeEntry], report: ExecutionReport, facts: OrderFacts) -> bool:
    """Return whether a report is, or may be, about an external order rather than about an intent's in whose life it is.

    A trade that came after an order had ended is first taken for an external one; it is the order's if newer evidence shows
    it open.
    """
    known = report.fill_key is not None and any(entry.fill_key == report.fill_key for entry in trades)
    return (known and external.first_seen_ns <= facts.first_seen_ns) or is_before(facts, report, external)


def is_before(facts: OrderFacts, report: ExecutionReport, external: ExternalOrder) -> bool:
    """Return whether a report may be about the external order that had an order's id before.

    It is older than all that is known of the order by client order id, and the external order was still open then.
    """
    named = (facts.rare.accepted_ns, *(entry.time_ns for entry in facts.counted_trades if entry.margin_ns is None))
    begin_ns = min(filter(None, named), default=0)
    time_ns = report.transact_time_ns or begin_ns
    return time_ns < begin_ns and (external.live or (external.transact_time_ns or 0) >= time_ns)


def is_nameless_reopening(facts: OrderFacts, report: ExecutionReport, margin_ns: int | None) -> bool:
    """Return whether a list shows an ended order open, and nothing tells that it is none that got the order id later.

    A client order id would, the time of its creation, or a last change before that end.
    """
    if not facts.ended or report.exec_type is not ExecType.ORDER_STATUS or report.order_created_ns is not None:
        return False
    return report.transact_time_ns is None or report.transact_time_ns >= facts.first_end_ns - (margin_ns or 0)


def is_end_of_other_terms(facts: OrderFacts, report: ExecutionReport) -> bool:
    """Return whether a status that names no client order id shows an order that ended with other terms than a nameless one.

    It may be an order that got the id later. If not, the trades and lists tell what became of the order.
    """
    if report.exec_type is not ExecType.ORDER_STATUS or report.leaves_qty != 0 or not is_nameless(facts):
        return False
    return (report.order_qty or facts.quantity, report.price or facts.price) != (facts.quantity, facts.price)


def holds_trade(facts: OrderFacts, report: Observed, margin_ns: int | None) -> bool:
    """Return whether a reported trade, or the one that it corrects or busts, is known of the order, counted or not."""
    given: Any = report
    if corrects := getattr(report, "ref_fill_key", None):
        return any(entry.fill_key == corrects for entry in facts.trades)
    if report.exec_type is not ExecType.TRADE or None in (given.fill_key, given.last_qty, given.last_px):
        return False
    time_ns = report.transact_time_ns or 0
    trade = (given.fill_key, given.last_qty, given.last_px, time_ns, None, None, None)
    entry = TradeEntry(*trade, margin_ns=margin_ns)
    return facts.trades.same_as(entry) is not None


def replacement(record: Record, report: Report) -> SentModify | None:
    """Return the replace whose new order a report is about; the end of the old order may name the replace's id too."""
    sent = record.sent_modify(report.client_order_id or "")
    if sent is None or not sent.new_order or report.exec_type in REFUSALS:
        return None
    return None if report.orig_client_order_id and report.exec_type is ExecType.CANCELED else sent
