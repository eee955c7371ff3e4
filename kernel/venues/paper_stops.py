"""Stop orders and ends by time: what the market's last price, and the exchange's clock, set off.

Called by `paper_engine` on a draft: `spring` after each trade of the market, `expire` before whatever the exchange does.
The price that stops look at is that of the tape's last trade; trades between accounts, or with the ladder, are none.
"""

from __future__ import annotations

from kernel.models import OrdStatus
from kernel.venues.paper_draft import Draft
from kernel.venues.paper_groups import settle


def spring(draft: Draft, symbol_id: str) -> None:
    """Trigger every stop that the market has reached, oldest first; each trades before the next is triggered."""
    last_price = draft.last_price(symbol_id)
    reached = [order for order in draft.book.armed(symbol_id) if order.reached_by(last_price)]
    for order in sorted(reached, key=lambda order: order.rank):
        now = draft.order(order.order_id)
        if now.open and now.armed:
            draft.trigger(now.order_id)
            settle(draft)


def expire(draft: Draft, order_ids: list[int]) -> None:
    """End orders whose time has come."""
    for order_id in order_ids:
        if draft.order(order_id).open:
            draft.close(order_id, OrdStatus.EXPIRED)
            settle(draft)
