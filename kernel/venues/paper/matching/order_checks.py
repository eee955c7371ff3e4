"""What the paper exchange refuses before it takes an order: in its words and with Binance's codes.

Called by `paper_engine`, `paper_amend` and `paper_groups` on a draft. Each check raises `Rejected`, or passes.
"""

from __future__ import annotations

from kernel.errors import Rejected, Violation
from kernel.order_spec import StandardOrder, SymbolMetadata, SymbolStatus
from kernel.venues.paper.matching.matching_rules import Ending, Match
from kernel.venues.paper.matching.orders import PaperOrder
from kernel.venues.paper.matching.transaction import NO_FUNDS, WOULD_ENLARGE, WOULD_TAKE, Transaction

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
"""Binance's name of the filter that checks a constraint."""
CODES = {"order_types": "-1116", "times_in_force": "-1115"}
"""Codes of constraints that Binance does not call filters."""
ICEBERG_PARTS_MAX = 100
"""Parts that an iceberg may have: each is a trade of its own."""


def check_terms(transaction: Transaction, order: StandardOrder, *, more_open: int = 0) -> None:
    """The symbol takes such orders now, and the terms pass its filters."""
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
    """An order that was just opened, or amended, can do what it is to do; whom it would trade with (none: a stop)."""
    matched: Match | None = None
    if order.armed:
        if order.reached_by(transaction.last_price(order.symbol_id)):
            raise Rejected("Stop price would trigger immediately.", code="-2010")
    else:
        matched = transaction.match(order)
        if matched.ending is Ending.REFUSED:
            raise Rejected(WOULD_TAKE, code="-2010")
    if order.own:
        check_means(transaction, order)
        cost = transaction.cost(order, matched) if order.price is None and matched is not None else 0
        if cost and cost > transaction.free_to_pay(order):
            raise Rejected(NO_FUNDS, code="-2010")
    return matched


def check_means(transaction: Transaction, order: PaperOrder) -> None:
    """The client has what its order holds, and the position that it is to reduce."""
    if transaction.would_enlarge(order):
        raise Rejected(WOULD_ENLARGE, code="-2022")
    if transaction.lacks_funds(order):
        raise Rejected(NO_FUNDS, code="-2010")


def iceberg_violations(symbol: SymbolMetadata, order: StandardOrder) -> list[Violation]:
    """A display quantity is for orders with a price, in parts that are not too many."""
    shown = order.display_quantity
    if shown is None:
        return []
    if order.price is None:
        text = "{field} is for {limit}, not {value}"
        return [Violation("display_quantity", "iceberg", "orders with a price", order.order_type, text)]
    if -(-order.quantity // shown) > ICEBERG_PARTS_MAX:
        value = f"{symbol.quantity_text(shown)} of {symbol.quantity_text(order.quantity)}"
        text = "{field} {value} makes more than {limit} parts"
        return [Violation("display_quantity", "iceberg_parts", str(ICEBERG_PARTS_MAX), value, text)]
    return []


def filter_failure(violations: list[Violation]) -> Rejected:
    """The refusal that names every violated filter; its code is the first one's."""
    code = CODES.get(violations[0].constraint, FILTER_CODE)
    named = "; ".join(
        f"Filter failure: {FILTERS.get(violation.constraint, violation.constraint)} ({violation})"
        for violation in violations
    )
    return Rejected(named, code=code)
