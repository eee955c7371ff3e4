"""Checks on an order before the paper exchange accepts it, with Binance's texts and codes.

Each check raises `Rejected` or passes.
"""

from __future__ import annotations

from kernel.errors import Rejected, Violation
from kernel.order_spec import StandardOrder, SymbolMetadata, SymbolStatus
from kernel.venues.paper.matching.matching_rules import Ending, Match
from kernel.venues.paper.matching.orders import PaperOrder
from kernel.venues.paper.matching.transaction import NO_FUNDS, WOULD_INCREASE, WOULD_TAKE, Transaction

FILTER_CODE = "-1013"
FILTERS = {
    "price range": "PRICE_FILTER",
    "tick_size": "PRICE_FILTER",
    "quantity range": "LOT_SIZE",
    "lot_size": "LOT_SIZE",
    "min_notional": "NOTIONAL",
    "max_notional": "NOTIONAL",
    "max_open_orders": "MAX_NUM_ORDERS",
    "iceberg_parts": "ICEBERG_PARTS",
}
"""Binance's filter for each constraint."""
CODES = {"order_types": "-1116", "times_in_force": "-1115"}
"""Codes of constraints that are not filters on Binance."""
ICEBERG_PARTS_MAX = 100
"""Most parts of an iceberg; each is a trade of its own."""


def check_terms(transaction: Transaction, order: StandardOrder, *, more_open: int = 0) -> None:
    """Check that the symbol accepts such orders now and that the terms pass its filters."""
    symbol = transaction.book.symbols.get(order.symbol_id)
    if symbol is None:
        raise Rejected("Invalid symbol.", code="-1121")
    if symbol.status is SymbolStatus.HALTED:
        raise Rejected("Market is closed.", code="-2010", retry_after_s=transaction.config.halt_retry_after_s)
    if symbol.status is SymbolStatus.CLOSED:
        raise Rejected("Market is closed.", code="-2010")
    violations = symbol.violations(order, open_orders=transaction.book.open_count(order.symbol_id) + more_open)
    violations += iceberg_violations(symbol, order)
    if violations:
        raise filter_failure(violations)
    if order.expire_at_ns is not None and order.expire_at_ns <= transaction.sequence.clock.now_ns():
        raise Rejected("Order would immediately expire.", code="-2010")


def check_entry(transaction: Transaction, order: PaperOrder) -> Match | None:
    """Check that a new or amended order can start to work; returns its match (None for a stop order)."""
    matched: Match | None = None
    if order.armed:
        if order.reached_by(transaction.last_price(order.symbol_id)):
            raise Rejected("Stop price would trigger immediately.", code="-2010")
    else:
        matched = transaction.match(order)
        if matched.ending is Ending.REFUSED:
            raise Rejected(WOULD_TAKE, code="-2010")
    if order.own:
        check_funding(transaction, order)
        cost = transaction.cost(order, matched) if order.price is None and matched is not None else 0
        if cost and cost > transaction.free_quote(order):
            raise Rejected(NO_FUNDS, code="-2010")
    return matched


def check_funding(transaction: Transaction, order: PaperOrder) -> None:
    """Check that the client has the funds that the order locks, and the position that it may only reduce."""
    if transaction.exceeds_position(order):
        raise Rejected(WOULD_INCREASE, code="-2022")
    if transaction.lacks_funds(order):
        raise Rejected(NO_FUNDS, code="-2010")


def iceberg_violations(symbol: SymbolMetadata, order: StandardOrder) -> list[Violation]:
    """Return the violations of the rules for display quantities."""
    shown = order.display_quantity
    if shown is None:
        return []
    if order.price is None:
        text = "{field} is for {limit}, not {value}"
        return [Violation("display_quantity", "iceberg", "orders with a price", order.order_type, text)]
    if -(-order.quantity // shown) > ICEBERG_PARTS_MAX:
        limit = f"at most {ICEBERG_PARTS_MAX} parts"
        value = f"{symbol.quantity_to_decimal(shown)} of {symbol.quantity_to_decimal(order.quantity)}"
        return [Violation("display_quantity", "iceberg_parts", limit, value)]
    return []


def filter_failure(violations: list[Violation]) -> Rejected:
    """Return the refusal that names every violated filter; its code is that of the first."""
    code = CODES.get(violations[0].constraint, FILTER_CODE)
    named = "; ".join(
        f"Filter failure: {FILTERS.get(violation.constraint, violation.constraint)} ({violation})"
        for violation in violations
    )
    return Rejected(named, code=code)
