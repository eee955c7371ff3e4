"""Finds the intent of a venue's report, in memory or evicted. `kernel.lifecycle.order_identity` decides which one it is.

Used for every report of the stream, of a relist and of a status query; the answer to a call names its attempt.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel.lifecycle.order_identity import OrderMatch, client_ids_of, match
from kernel.lifecycle.settled_orders import recalled
from kernel.log.base import EventLog
from kernel.state import KernelState
from kernel.streams.rehydration import ensure_loaded
from kernel.venues.base import ExecutionReport


async def match_report(
    log: EventLog, state: KernelState, report: ExecutionReport, *, margin_ns: int | None
) -> OrderMatch:
    """Return to which intent a report belongs, evicted or not."""
    found = match_in_memory(state, report, margin_ns=margin_ns)
    if not state.evicted_count or is_final(state, report, found, margin_ns=margin_ns):
        return found
    upto = state.position
    named = [
        name for item in client_ids_of(report) for name in await log.intent_ids_of(client_order_id=item, upto=upto)
    ]
    for order_id in order_ids_of(report):
        named += await log.intent_ids_of(exchange_order_id=order_id, upto=upto)
    await ensure_loaded(log, state, *named)
    return match_in_memory(state, report, margin_ns=margin_ns, evicted=named)


def parts_of(reports: Iterable[ExecutionReport], *, margin_ns: int | None) -> Iterable[list[ExecutionReport]]:
    """Split reports where one must be recorded before the next can be matched.

    Where order ids are given again, a report without a client order id is matched by the lives of the orders under its id.
    """
    part: list[ExecutionReport] = []
    named: dict[str | None, bool] = {}  # order id → whether all its reports in the part have a client order id
    for report in reports:
        order_id, is_named = report.exchange_order_id, bool(client_ids_of(report))
        if margin_ns is not None and order_id in named and not (is_named and named[order_id]):
            yield part
            part, named = [], {}
        part.append(report)
        named[order_id] = is_named and named.get(order_id, True)
    yield part


def match_in_memory(
    state: KernelState, report: ExecutionReport, *, margin_ns: int | None, evicted: Iterable[str] = ()
) -> OrderMatch:
    """Return to which intent a report belongs, of those in memory and the evicted ones that were loaded for it."""
    sender = next((name for item in client_ids_of(report) if (name := state.intent_id_of(client_order_id=item))), None)
    known = [name for order_id in order_ids_of(report) for name in state.intent_ids_of_order(order_id)]
    names = dict.fromkeys((*known, *evicted))
    by_client_id = recalled(state.record(sender), report) if sender is not None else None
    records = [recalled(state.record(name), report) for name in names]
    external = state.external_order_of(report) if margin_ns is not None else None
    trades = state.external_trades(external) if external is not None else ()
    return match(report, by_client_id, records, margin_ns=margin_ns, external=external, external_trades=trades)


def is_final(state: KernelState, report: ExecutionReport, found: OrderMatch, *, margin_ns: int | None) -> bool:
    """Return whether a match holds whatever is evicted.

    An id that memory does not know may be an evicted order's; where order ids are given again, so may any without a client
    order id.
    """
    ids = client_ids_of(report)
    if not ids and margin_ns is not None:
        return False
    named = not ids or any(state.intent_id_of(client_order_id=client_id) is not None for client_id in ids)
    return (found.intent_id is not None and named) or is_known_external(state, report)


def order_ids_of(report: ExecutionReport) -> list[str]:
    """Return the venue order ids that a report names: the order's, and that of the stop that made it."""
    return [name for name in (report.exchange_order_id, report.parent_exchange_order_id) if name]


def is_known_external(state: KernelState, report: ExecutionReport) -> bool:
    """Return whether a report is about a known external order, so that the log need not be searched."""
    known = state.external_order_of(report)
    return known is not None and known.client_order_id == report.client_order_id
