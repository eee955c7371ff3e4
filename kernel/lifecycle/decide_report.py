"""`decide_report(record, report) -> events`: the events of a venue report.

Called by the venue session (stream, snapshots) and by the reconciler (answers and status queries). Pure. A report
without news makes no event, so a repeated report, or a trade received on two paths, is recorded once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from msgspec.structs import replace

from kernel import events
from kernel.errors import OutcomeUnknown
from kernel.lifecycle.evolve import evolve
from kernel.lifecycle.findings import finding_events
from kernel.lifecycle.order_identity import client_ids_of, find_order, sent_terms
from kernel.lifecycle.record import Record, is_one_shot, is_solicited
from kernel.lifecycle.settled_orders import recalled
from kernel.models import ExecType, OrdStatus
from kernel.order_spec import STOPPED, OrderType
from kernel.venues.base import ExecutionReport

EVENT_OF: dict[ExecType, type[events.OrderReport]] = {
    ExecType.NEW: events.OrderAccepted,
    ExecType.TRADE: events.OrderFilled,
    ExecType.TRADE_CORRECT: events.FillCorrected,
    ExecType.TRADE_CANCEL: events.FillBusted,
    ExecType.CANCELED: events.OrderCanceled,
    ExecType.EXPIRED: events.OrderExpired,
    ExecType.REJECTED: events.OrderRejected,
    ExecType.REPLACED: events.OrderModified,
    ExecType.RESTATED: events.OrderModified,
    ExecType.TRIGGERED: events.OrderTriggered,
    ExecType.CANCEL_REJECTED: events.CancelRejected,
    ExecType.REPLACE_REJECTED: events.ModifyRejected,
}
"""The event type of each kind of report; the pending, stopped, done-for-day and status kinds are `OrderStateObserved`."""

REQUIRED_FIELDS: dict[ExecType, tuple[str, ...]] = {
    ExecType.TRADE: ("side", "fill_key", "last_qty", "last_px"),
    ExecType.TRADE_CORRECT: ("side", "fill_key", "last_qty", "last_px", "ref_fill_key"),
    ExecType.TRADE_CANCEL: ("fill_key", "ref_fill_key"),
}
ID_FIELDS = ("client_order_id", "orig_client_order_id", "exchange_order_id")


def decide_report(
    record: Record,
    report: ExecutionReport,
    *,
    now_ns: int,
    began_ns: int | None = None,
    reflects_ns: int | None = None,
    attempt_position: int | None = None,
    confirm_all_ends: bool = False,
    life_margin_ns: int | None = None,
) -> list[events.BaseEvent]:
    """Return the events of a report about an order of this intent, received at `now_ns`; none if it has no news.

    `began_ns` is when the status query that brought it began, `reflects_ns` until when its answer includes everything that
    was recorded. `confirm_all_ends`: the ends of orders that the kernel canceled are to be confirmed too; `life_margin_ns`
    applies to a report without a client order id (`order_identity`). Raises `OutcomeUnknown` if the report lacks a field of
    its kind.
    """
    record = recalled(record, report)
    margin_ns = None if client_ids_of(report) else life_margin_ns
    event = event_of(
        record,
        report,
        began_ns=began_ns,
        reflects_ns=reflects_ns,
        attempt_position=attempt_position,
        life_margin_ns=margin_ns,
    )
    after = evolve(record, event)
    if is_no_news(record, after):
        return []
    if is_unconfirmed(event, record, after, confirm_all_ends=confirm_all_ends):
        event = replace(event, unconfirmed=True)
        after = evolve(record, event)
    inferred = inferred_event(event, record, after)
    return [event, *inferred, *finding_events(record, after, now_ns=now_ns)]


def event_of(
    record: Record,
    report: ExecutionReport,
    *,
    began_ns: int | None,
    reflects_ns: int | None,
    attempt_position: int | None,
    life_margin_ns: int | None = None,
) -> events.OrderReport:
    required = REQUIRED_FIELDS.get(report.exec_type, ())
    if report.side is None and "side" in required and (terms := sent_terms(record)):
        report = replace(report, side=terms[0].side)
    missing = [name for name in required if getattr(report, name) is None]
    if not any(getattr(report, name) for name in ID_FIELDS):
        missing.append("an order id")
    if missing:
        raise OutcomeUnknown(
            f"the venue's {report.exec_type} report lacks {', '.join(missing)}: {report.raw or report}"
        )
    fields: dict[str, Any] = {name: getattr(report, name) for name in copied_fields(report.exec_type)}
    event_type = EVENT_OF.get(report.exec_type, events.OrderStateObserved)
    if event_type is events.OrderStateObserved:
        fields |= {"began_ns": began_ns, "reflects_ns": reflects_ns}
    fields["order_type"] = told_type(record, report)
    return event_type(
        intent_id=record.intent_id, attempt_position=attempt_position, life_margin_ns=life_margin_ns, **fields
    )


@cache
def copied_fields(kind: ExecType) -> frozenset[str]:
    """Return the fields that reports of a kind share with their event; only a restatement can be a split."""
    event_type = EVENT_OF.get(kind, events.OrderStateObserved)
    shared = frozenset(event_type.__struct_fields__).intersection(ExecutionReport.__struct_fields__)
    return shared if kind is ExecType.RESTATED else shared - {"corporate_action"}


def told_type(record: Record, report: ExecutionReport) -> OrderType | None:
    """Return the type of a stop's order at the venue; None if it was not sent as a stop or the venue tells no type."""
    sent = record.sent_order or (record.intent.order if record.intent else None)
    is_stop = sent is not None and sent.order_type in STOPPED
    return report.order.order_type if is_stop and report.order is not None else None


def is_no_news(before: Record, after: Record) -> bool:
    """Return whether a report changed nothing but the time of the last confirmation."""
    times = {"last_sync_ns": before.last_sync_ns, "last_report_ns": before.last_report_ns}
    return before is after or replace(after, recorded=before.recorded, **times) == before


def is_unconfirmed(event: events.OrderReport, before: Record, after: Record, *, confirm_all_ends: bool) -> bool:
    """Return whether a status query must confirm that the order has ended (H21).

    So it is if the venue ended an accepted order by itself, other than at once as its terms say, or if the order traded
    after its end.
    """
    known, facts = find_order(before, event), find_order(after, event)
    if facts is None or facts.closed is None or facts.filled or facts.succeeded:
        return False
    if known is not None and known.ended:
        return facts.late_trades > known.late_trades
    if is_one_shot(facts.order) or (facts.closed is OrdStatus.REJECTED and not facts.accepted):
        return False
    return confirm_all_ends or facts.late_trades > 0 or not is_solicited(facts, after)


def inferred_event(event: events.OrderReport, before: Record, after: Record) -> list[events.BaseEvent]:
    """Record the inferred quantity if a query or the end of an order shows more than the known trades."""
    if not isinstance(event, events.OrderStateObserved | events.OrderCanceled | events.OrderExpired):
        return []
    facts = find_order(after, event)
    known = find_order(before, event)
    if facts is None or facts.inferred_qty == 0 or (known is not None and known.inferred_qty == facts.inferred_qty):
        return []
    fields = {name: getattr(event, name) for name in copied_fields(ExecType.NEW)}
    return [events.FillInferred(intent_id=event.intent_id, inferred_qty=facts.inferred_qty, **fields)]
