"""Events of venue reports about the kernel's own orders: facts, accepted from any writer and never fenced."""

from __future__ import annotations

from kernel.events.base import BaseEvent
from kernel.models import ExecType, Liquidity, OrdStatus
from kernel.order_spec import AssetId, Counter, InstantNs, Int, IntentId, OrderType, Side, SymbolId, Uint64


class OrderReport(BaseEvent):
    """Base of a venue report about one order. Absent fields are None; the venue's totals are evidence, not state."""

    intent_id: IntentId
    """The intent of the order."""
    symbol_id: SymbolId
    """The symbol."""
    client_order_id: str | None = None
    """Client order id in the report: that of the request it answers, if it answers one (FIX 11)."""
    orig_client_order_id: str | None = None
    """Client order id of the target order, if the report answers a request (FIX 41)."""
    exchange_order_id: str | None = None
    """The venue's id of the order (FIX 37)."""
    parent_exchange_order_id: str | None = None
    """For an order made by a trigger: the venue's id of the stop."""
    order_type: OrderType | None = None
    """Type of the order at the venue, if it was sent as a stop: another type shows that a trigger made it."""
    exec_type: ExecType
    """Kind of report (FIX 150)."""
    exec_id: str | None = None
    """The venue's id of the report (FIX 17)."""
    ord_status: OrdStatus | None = None
    """Status of the order at the venue (FIX 39); evidence."""
    order_qty: Uint64 | None = None
    """Quantity of the order at the venue (FIX 38)."""
    price: Uint64 | None = None
    """Limit price of the order at the venue (FIX 44)."""
    cum_qty: Uint64 | None = None
    """Filled quantity at the venue (FIX 14); evidence."""
    leaves_qty: Uint64 | None = None
    """Open quantity at the venue (FIX 151); evidence."""
    transact_time_ns: InstantNs | None = None
    """Venue time (FIX 60): terms and flags change only by reports that are not older."""
    order_created_ns: InstantNs | None = None
    """Venue time at which the order was made."""
    life_margin_ns: InstantNs | None = None
    """Set on a report without a client order id at a venue that gives order ids again: it counts only within the order's
    life, extended by this. None: it counts at any time."""
    attempt_position: Counter | None = None
    """Log position of the `AttemptStarted` that the report answers."""
    text: str | None = None
    """Message of the venue."""
    raw: str | None = None
    """The venue's frame, unchanged."""
    unconfirmed: bool | None = None
    """True if a status query must confirm that the order has ended: the venue ended it by itself, or it traded after its
    end."""


class OrderAccepted(OrderReport):
    """The order is open at the venue."""


class OrderRejected(OrderReport):
    """The venue rejected the order."""


class OrderTriggered(OrderReport):
    """A stop order was triggered."""


class TradeReport(OrderReport):
    """Base of a trade and of its correction."""

    side: Side
    """Side of the order."""
    fill_key: str
    """Permanent unique key of the trade, or of the correction, in the account."""
    last_qty: Uint64
    """Traded quantity."""
    last_px: Uint64
    """Traded price."""
    fee: Int | None = None
    """Fee paid (negative: received), at the fee asset's scale."""
    fee_asset: AssetId | None = None
    """Asset of the fee."""
    fees: dict[AssetId, Int] | None = None
    """Every fee of the trade by asset, where the venue reports several; then `fee` and `fee_asset` are None."""


class OrderFilled(TradeReport):
    """A trade of the order."""

    liquidity: Liquidity | None = None
    """The liquidity side of the fill."""


class FillInferred(OrderReport):
    """The venue shows a filled quantity that no known trade explains. Records the estimate; changes no quantity."""

    inferred_qty: Uint64
    """The venue's cum_qty less the known trades, at this position."""


class FillCorrected(TradeReport):
    """A trade was corrected: quantity, price and fees are the corrected ones."""

    ref_fill_key: str
    """Key of the trade, or of the earlier correction, that it replaces."""


class FillBusted(OrderReport):
    """A trade was busted."""

    fill_key: str
    """Key of the bust."""
    ref_fill_key: str
    """Key of the busted trade or correction."""


class OrderModified(OrderReport):
    """The order's terms changed at the venue (FIX Replaced, Restated)."""

    corporate_action: bool = False
    """Restated for a split: earlier fills count in the new units from then on."""


class ModifyRejected(OrderReport):
    """The venue refused to modify the order; proves neither that it is open nor that it is closed."""


class OrderCanceled(OrderReport):
    """The order was canceled."""


class CancelRejected(OrderReport):
    """The venue refused to cancel the order; proves neither that it is open nor that it is closed."""


class OrderExpired(OrderReport):
    """The order ended by its own terms."""


class OrderStateObserved(OrderReport):
    """The order's state at the venue: the answer to a status query, or a pending, stopped or done-for-day report."""

    gone: bool = False
    """The venue no longer has it, by as many queries as it takes: closed, reason unknown."""
    began_ns: InstantNs | None = None
    """When the status query began."""
    reflects_ns: InstantNs | None = None
    """The answer includes everything that was recorded until then: `began_ns` less the read lag and the clock skew."""
    in_doubt: bool | None = None
    """True if it only marks the order: a report without a client order id may be about it, so it is queried first."""
