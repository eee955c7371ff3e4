"""Events about what the venue says of our orders: facts, taken from anybody, never fenced."""

from __future__ import annotations

from kernel.events.base import BaseEvent
from kernel.models import ExecType, Liquidity, OrdStatus
from kernel.order_spec import AssetId, Counter, InstantNs, Int, IntentId, Side, SymbolId, Uint64


class OrderReport(BaseEvent):
    """Base of what a venue says about one order of ours. Absent is None; totals are evidence, never the truth."""

    topic = "OrderReport"
    intent_id: IntentId
    """The intent whose order it is."""
    symbol_id: SymbolId
    """The symbol."""
    client_order_id: str | None = None
    """The client order id in the report (of the request that it answers, where it answers one)."""
    orig_client_order_id: str | None = None
    """The client order id of the order aimed at, where the report answers a request."""
    exchange_order_id: str | None = None
    """The venue's id of the order."""
    exec_type: ExecType
    """What the report is about."""
    exec_id: str | None = None
    """The venue's id of the report."""
    ord_status: OrdStatus | None = None
    """The venue's own status of the order; kept as evidence."""
    order_qty: Uint64 | None = None
    """Quantity of the order at the venue."""
    price: Uint64 | None = None
    """Limit price of the order at the venue."""
    cum_qty: Uint64 | None = None
    """Filled quantity as the venue counts it; evidence."""
    leaves_qty: Uint64 | None = None
    """Open quantity as the venue counts it; evidence."""
    transact_time_ns: InstantNs | None = None
    """The venue's instant of it; the ratchet of the order."""
    attempt_position: Counter | None = None
    """Position of the `AttemptStarted` that it answers, where it came as an answer."""
    text: str | None = None
    """The venue's words."""
    raw: str | None = None
    """The venue's frame, as it came."""


class OrderAccepted(OrderReport):
    """The order works at the venue."""

    topic = "OrderAccepted"


class OrderRejected(OrderReport):
    """The venue reports a refused order."""

    topic = "OrderRejected"


class OrderTriggered(OrderReport):
    """A stop order was triggered."""

    topic = "OrderTriggered"


class OrderFilled(OrderReport):
    """A trade."""

    topic = "OrderFilled"
    side: Side
    """Our side of it."""
    fill_key: str
    """Names the trade in the account for ever."""
    last_qty: Uint64
    """Traded quantity."""
    last_px: Uint64
    """Traded price."""
    fee: Int | None = None
    """Fee paid (negative: received), at the fee asset's scale."""
    fee_asset: AssetId | None = None
    """Asset of the fee."""
    liquidity: Liquidity | None = None
    """Whether it added or took liquidity."""


class FillInferred(OrderReport):
    """Evidence shows a filled quantity that no known trade explains. Changes no quantity by itself: it says that a guess
    is being made, and how large it is."""

    topic = "FillInferred"
    inferred_qty: Uint64
    """cum_qty of the evidence less the trades known, at this position."""


class FillCorrected(OrderReport):
    """A trade is replaced by another."""

    topic = "FillCorrected"
    side: Side
    """Our side of it."""
    fill_key: str
    """Names the correction."""
    ref_fill_key: str
    """Names the trade (or the correction) that it replaces."""
    last_qty: Uint64
    """Quantity as corrected."""
    last_px: Uint64
    """Price as corrected."""
    fee: Int | None = None
    """Fee as corrected."""
    fee_asset: AssetId | None = None
    """Asset of the fee."""


class FillBusted(OrderReport):
    """A trade is void."""

    topic = "FillBusted"
    fill_key: str
    """Names the bust."""
    ref_fill_key: str
    """Names the trade (or its correction) that is void."""


class OrderModified(OrderReport):
    """The order's terms changed at the venue (FIX: Replaced, Restated)."""

    topic = "OrderModified"
    corporate_action: bool = False
    """Restated for a split: what was filled before it counts in the new units from then on."""


class ModifyRejected(OrderReport):
    """The venue refused a change; no proof of life, nor of death."""

    topic = "ModifyRejected"


class OrderCanceled(OrderReport):
    """The order is off the book."""

    topic = "OrderCanceled"


class CancelRejected(OrderReport):
    """The venue refused to cancel; no proof of life, nor of death."""

    topic = "CancelRejected"


class OrderExpired(OrderReport):
    """The order ended by its own terms."""

    topic = "OrderExpired"


class OrderStateObserved(OrderReport):
    """The venue's view of the order: asked for, or one of FIX's pending, stopped and done-for-day reports."""

    topic = "OrderStateObserved"
    gone: bool = False
    """A complete list of open orders, begun late enough, no longer has it: closed, reason unknown."""
    began_ns: InstantNs | None = None
    """When the look began, where it was one."""
