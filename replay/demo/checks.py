"""Check the demo's log by `verify`, and compare it with the exchange's own state, which no adapter sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernel import EventSourcedKernel
from kernel.streams.fills import recorded_fills
from replay.audit.verify import verify


@dataclass(frozen=True, slots=True)
class Check:
    """A claim and its result."""

    statement: str
    passed: bool
    detail: str


async def checks(kernel: EventSourcedKernel, truth: Mapping[str, Any]) -> list[Check]:
    """Check every claim on the log and its state against the exchange's own state."""
    report = await verify(kernel.log)
    await kernel.state.reached(report.position)
    fills = [fill async for fill in recorded_fills(kernel.log, None, None)]  # including repeated reports
    logged = Counter((fill.fill_key, fill.last_qty, fill.last_px) for fill in fills)
    traded = Counter((trade["fill_key"], trade["last_qty"], trade["last_px"]) for trade in truth["trades"])
    sent = Counter(order["client_order_id"] for order in truth["orders"])
    known = {
        order.exchange_order_id: (str(order.ord_status), order.cum_qty)
        for state in kernel.state.order_states()
        for order in state.venue_orders
    }
    true = {order["exchange_order_id"]: (order["status"], order["cum_qty"]) for order in truth["orders"]}
    missing, surplus = (traded - logged).total(), (logged - traded).total()
    return [
        Check("the log verifies", report.ok, f"{report.position} events, {len(report.problems)} problems"),
        Check("no order was sent twice", max(sent.values()) == 1, f"{len(sent)} client order ids at the exchange"),
        Check("status and filled quantity of each order agree", known == true, f"{len(true)} orders"),
        Check(
            "the log has each fill once",
            logged == traded,
            f"{missing} missing, {surplus} extra, {traded.total()} fills",
        ),
    ]
