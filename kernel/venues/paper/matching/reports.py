"""Execution reports of the paper exchange, built from a change and the order after it.

Pure: the same change and order give the same report, byte for byte, live and in recovery.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import structs

from kernel.models import ExecType, OrdStatus
from kernel.order_spec import StandardOrder, TimeInForce
from kernel.values import as_json
from kernel.venues.base import ExecutionReport
from kernel.venues.paper.matching import changes
from kernel.venues.paper.matching.book import PaperBook
from kernel.venues.paper.matching.orders import PaperOrder, PaperTrade, terms_of

ORACLE_FIELDS = (
    "client_order_id", "symbol_id", "side", "status", "price", "quantity", "cum_qty", "leaves_qty", "order_type",
    "time_in_force", "stop_price", "armed", "expires_ns", "reduce_only", "display_quantity", "group_mode",
)  # fmt: skip


def report_of(change: changes.JournalEntry, book: PaperBook) -> ExecutionReport | None:
    """Return the report of a change that was just applied; None if it concerns no order of the client."""
    match change:
        case changes.Closed(is_reported=False):
            return None
        case (
            changes.Opened()
            | changes.Traded()
            | changes.Closed()
            | changes.Amended()
            | changes.Released()
            | changes.Triggered()
            | changes.Mirrored()
        ):
            order = book.current(change.order_id)
            return _order_report(change, order) if order.own else None
        case changes.Corrected():
            trade = book.trades[change.trade_id]
            return _correction_report(change, book.current(trade.order_id), trade)
        case _:
            return None


def status_report(order: PaperOrder, *, asked: str | None = None) -> ExecutionReport:
    """Return the answer to an order query, with the instant of the order's newest change.

    `asked` is the client order id of the query; it is reported as FIX 41 if an amend has changed it.
    """
    fields = _fields(order, ExecType.ORDER_STATUS) | {"transact_time_ns": order.updated_ns, "order": _terms(order)}
    if asked is not None and asked != order.client_order_id:
        fields["orig_client_order_id"] = asked
    return _sealed(fields)


def fill_key(order: PaperOrder, trade_id: int) -> str:
    return f"paper:{order.symbol_id}:{order.order_id}:{trade_id}"


def current_key(order: PaperOrder, trade: PaperTrade) -> str:
    """Return the key of a trade's newest version: its own, or that of its newest correction."""
    own = fill_key(order, trade.trade_id)
    return own if trade.last_exec_id is None else f"{own}:{trade.last_exec_id}"


def _order_report(change: changes.OrderChange, order: PaperOrder) -> ExecutionReport:
    common_fields: dict[str, Any] = {"exec_id": str(change.exec_id), "transact_time_ns": change.at_ns}
    match change:
        case changes.Opened():
            common_fields["orig_client_order_id"] = change.orig_client_order_id
            common_fields["order"] = _terms(order) if change.has_type else None
            return _sealed(_fields(order, ExecType.PENDING_NEW if change.waits else change.reported_as) | common_fields)
        case changes.Released():
            return _sealed(_fields(order, ExecType.NEW) | common_fields)
        case changes.Triggered():
            return _sealed(_fields(order, ExecType.TRIGGERED) | common_fields)
        case changes.Mirrored():
            status = OrdStatus.FILLED if change.cum_qty >= order.quantity else OrdStatus.PARTIALLY_FILLED
            total = {"ord_status": status, "cum_qty": change.cum_qty, "leaves_qty": order.quantity - change.cum_qty}
            return _sealed(_fields(order, ExecType.ORDER_STATUS) | common_fields | total)
        case changes.Amended():
            common_fields |= {"orig_client_order_id": change.orig_client_order_id, "text": change.text}
            return _sealed(
                _fields(order, ExecType.RESTATED if change.request_id is None else ExecType.REPLACED) | common_fields
            )
        case changes.Closed():
            return _closing_report(change, order, common_fields)
        case changes.Traded():
            return _trade_report(change, order, common_fields)


def _trade_report(change: changes.Traded, order: PaperOrder, common_fields: dict[str, Any]) -> ExecutionReport:
    trade = {
        "fill_key": fill_key(order, change.trade_id),
        "last_qty": change.quantity,
        "last_px": change.price,
        "fee": change.fee,
        "fee_asset": change.fee_asset,
        "liquidity": change.liquidity,
    }
    return _sealed(_fields(order, ExecType.TRADE) | common_fields | trade)


def _closing_report(change: changes.Closed, order: PaperOrder, common_fields: dict[str, Any]) -> ExecutionReport:
    exec_type = ExecType.CANCELED if change.status is OrdStatus.CANCELED else ExecType.EXPIRED
    fields = _fields(order, exec_type) | common_fields | {"text": change.text}
    if change.request_id is not None:
        fields |= {"client_order_id": change.request_id, "orig_client_order_id": order.client_order_id}
    if change.bare:
        fields |= {"cum_qty": None, "leaves_qty": None}
    return _sealed(fields)


def _correction_report(change: changes.Corrected, order: PaperOrder, trade: PaperTrade) -> ExecutionReport:
    common_fields = {
        "exec_id": str(change.exec_id),
        "transact_time_ns": change.at_ns,
        "fill_key": current_key(order, trade),
        "ref_fill_key": _ref_key(change, order),
    }
    if change.quantity == 0:
        return _sealed(_fields(order, ExecType.TRADE_CANCEL) | common_fields)
    terms = {"last_qty": change.quantity, "last_px": change.price, "fee": change.fee, "fee_asset": trade.fee_asset}
    return _sealed(_fields(order, ExecType.TRADE_CORRECT) | common_fields | terms | {"liquidity": trade.liquidity})


def _ref_key(change: changes.Corrected, order: PaperOrder) -> str:
    own = fill_key(order, change.trade_id)
    return own if change.ref_exec_id is None else f"{own}:{change.ref_exec_id}"


def _fields(order: PaperOrder, exec_type: ExecType) -> dict[str, Any]:
    return {
        "exec_type": exec_type,
        "symbol_id": order.symbol_id,
        "side": order.side,
        "client_order_id": order.client_order_id,
        "exchange_order_id": str(order.order_id),
        "ord_status": order.status,
        "order_qty": order.quantity + order.carried_qty,
        "price": order.price,
        "cum_qty": order.cum_qty + order.carried_qty,
        "leaves_qty": order.leaves_qty,
    }


def _terms(order: PaperOrder) -> StandardOrder | None:
    """Return all terms of an order; None while its group permits no quantity."""
    if order.quantity == 0:
        return None
    expire_at_ns = order.expires_ns if order.time_in_force is TimeInForce.GTD else None
    return StandardOrder(**terms_of(order), expire_at_ns=expire_at_ns)


def _sealed(fields: dict[str, Any]) -> ExecutionReport:
    return sealed(ExecutionReport(**fields))


def sealed(report: ExecutionReport) -> ExecutionReport:
    """Return the report with its own JSON text as the venue's frame."""
    return structs.replace(report, raw=msgspec.json.encode(frame(report)).decode())


def frame(report: ExecutionReport) -> dict[str, Any]:
    """Return a report as it travels: without `raw`, which is its text."""
    fields: dict[str, Any] = as_json(structs.replace(report, raw=None), defaults=False)
    return fields


def order_oracle_state(order: PaperOrder) -> dict[str, Any]:
    return {name: getattr(order, name) for name in ORACLE_FIELDS} | {
        "exchange_order_id": str(order.order_id),
        "group": order.group_client_id,
    }


def trade_oracle_state(trade: PaperTrade, order: PaperOrder) -> dict[str, Any]:
    return {
        "trade_id": str(trade.trade_id),
        "fill_key": fill_key(order, trade.trade_id),
        "exchange_order_id": str(order.order_id),
        "client_order_id": order.client_order_id,
        "symbol_id": order.symbol_id,
        "side": str(order.side),
        "last_qty": trade.quantity,
        "last_px": trade.price,
        "fee": trade.fee,
        "fee_asset": trade.fee_asset,
        "busted": trade.quantity == 0,
    }
