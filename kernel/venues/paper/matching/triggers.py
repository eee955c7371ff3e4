"""Stop orders and ends by time: what the market's last price, and the exchange's clock, set off.

Called by `paper_engine` on a draft: `fire` after each trade of the market, `expire` before whatever the exchange does.
The price that stops look at is that of the tape's last trade; trades between accounts, or with the ladder, are none.
"""

from __future__ import annotations

from kernel.models import OrdStatus
from kernel.venues.paper.matching.contingent import settle_groups
from kernel.venues.paper.matching.transaction import Transaction


def fire(transaction: Transaction, symbol_id: str) -> None:
    """Trigger every stop that the market has reached, oldest first; each trades before the next is triggered."""
    last_price = transaction.last_price(symbol_id)
    reached = [order for order in transaction.book.armed(symbol_id) if order.reached_by(last_price)]
    for order in sorted(reached, key=lambda order: order.rank):
        now = transaction.order(order.order_id)
        if now.open and now.armed:
            transaction.trigger(now.order_id)
            settle_groups(transaction)


def expire(transaction: Transaction, order_ids: list[int]) -> None:
    """End orders whose time has come."""
    for order_id in order_ids:
        if transaction.order(order_id).open:
            transaction.close(order_id, OrdStatus.EXPIRED)
            settle_groups(transaction)
