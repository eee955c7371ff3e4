"""The port to an exchange: what a venue can, what it is asked, what it answers.

Implemented by the adapters beside this file, called by the reconciler and the controller alone (one door leads to the
venue). Adapters translate; they hold no policy, no retries and no state that matters. They raise `Rejected` (a
definitive no), `NotSent` (it provably never left) and `OutcomeUnknown` (anything else: a timeout, a lost connection, a
5xx, a duplicate id, an answer that can't be read), and nothing else. Capabilities decide what the kernel does with a
venue; its class never does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated, Protocol

import pydantic
from pydantic import Field

from kernel.models import Balance, ExecType, Liquidity, OrdStatus
from kernel.order_spec import (
    AssetId,
    AssetMetadata,
    Counter,
    InstantNs,
    Int,
    Model,
    OcoMode,
    OrderType,
    Side,
    StandardOrder,
    SymbolId,
    SymbolMetadata,
    TimeInForce,
    Uint64,
)


class Dedupe(StrEnum):
    """How long a venue refuses a client order id that it has already seen."""

    NONE = "NONE"
    """Never: the same id can make two live orders."""
    WHILE_OPEN = "WHILE_OPEN"
    """While the first order is open (Binance, Kraken)."""
    FOR_EVER = "FOR_EVER"
    """For the life of the account (Alpaca)."""


class AmendDialect(StrEnum):
    """How a venue changes a working order."""

    NONE = "NONE"
    """Not at all: cancel, then submit what is left."""
    IN_PLACE = "IN_PLACE"
    """The same venue order with new terms."""
    CANCEL_REPLACE = "CANCEL_REPLACE"
    """A new venue order takes the place of the old one (FIX)."""


class AmendQuantity(StrEnum):
    """What the quantity in an amend means to a venue."""

    TOTAL = "TOTAL"
    """The order's total, filled part included."""
    REMAINING = "REMAINING"
    """What is to work from then on: what fills on the way comes on top."""


class ReadLag(Model):
    """How long after a change each query may still show the state before it, in nanoseconds."""

    order_ns: InstantNs = 0
    """Order by client order id."""
    open_orders_ns: InstantNs = 0
    """List of open orders."""
    trades_ns: InstantNs = 0
    """List of trades."""

    @property
    def longest_ns(self) -> int:
        """The longest of them."""
        return max(self.order_ns, self.open_orders_ns, self.trades_ns)


class Operation(StrEnum):
    """What the venue is called for."""

    SUBMIT = "SUBMIT"
    CANCEL = "CANCEL"
    AMEND = "AMEND"
    CONNECT = "CONNECT"
    ORDER = "ORDER"
    SNAPSHOT = "SNAPSHOT"
    ASSETS = "ASSETS"
    SYMBOLS = "SYMBOLS"


class RateLimitKind(StrEnum):
    """What a rate limit counts; Binance's words."""

    REQUEST_WEIGHT = "REQUEST_WEIGHT"
    """Requests of any kind, each with its weight."""
    ORDERS = "ORDERS"
    """New orders."""


class RateLimit(Model):
    """How much a venue takes in a window of so long."""

    kind: RateLimitKind
    """What it counts."""
    window_ns: Annotated[int, Field(gt=0)]
    """How long the window is."""
    limit: Annotated[int, Field(gt=0)]
    """The largest weight that is taken in one window."""
    aligned: bool = False
    """Whether windows begin at fixed instants, whole multiples of their length since 1970 (Binance), and do not slide."""
    weights: dict[Operation, Annotated[int, Field(gt=0)]] = Field(
        default_factory=lambda: dict.fromkeys(Operation, 1), min_length=1
    )
    """What a call counts; one that is not named counts nothing. By default each call counts 1."""

    @pydantic.model_validator(mode="after")
    def _possible(self) -> RateLimit:
        heaviest = max(self.weights, key=lambda operation: self.weights[operation])
        if self.weights[heaviest] > self.limit:
            raise ValueError(
                f"{heaviest} weighs {self.weights[heaviest]}, more than the limit of {self.limit}: it could never be made"
            )
        return self


class RateUsage(Model):
    """A venue's own counter of one rate limit."""

    kind: RateLimitKind
    """Which limit: its kind …"""
    window_ns: Annotated[int, Field(gt=0)]
    """… and its window."""
    used: Counter
    """The weight that it has counted in the window; what others spend on the same account included."""


class VenueCapabilities(Model):
    """What a venue can and promises. Recorded in the log, so that a replay needs no settings."""

    amend: AmendDialect = AmendDialect.NONE
    """How a working order is changed."""
    amend_quantity: AmendQuantity = AmendQuantity.TOTAL
    """What the quantity in an amend means."""
    amend_atomic: bool = True
    """Whether a cancel-replace that cannot place the new order leaves the old one working."""
    native_groups: frozenset[OcoMode] = frozenset()
    """Which group modes the venue works by itself."""
    lookup: bool = True
    """Whether an order can be looked up by client order id, open or not."""
    lookup_closed: bool = True
    """Whether that look-up also returns closed orders, for longer than any request of ours is valid."""
    client_order_id_max_length: Annotated[int, Field(ge=12, le=64)] = 36
    """Longest client order id taken; ids are of the characters a-z and 2-7."""
    dedupe: Dedupe = Dedupe.WHILE_OPEN
    """How long a client order id seen before is refused."""
    dedupe_for_ns: InstantNs | None = None
    """Where ids are refused for a limited time after the first use: that time. Less than WHILE_OPEN is not assumed."""
    validity_window_ns: InstantNs | None = None
    """A request is refused later than this after its stamp; none when the venue has no such window."""
    stamp_is_ours: bool = True
    """Whether the request carries exactly the attempt's stamp; else the driver stamps as it writes."""
    clock_skew_ns: InstantNs = 0
    """How far the venue's clock and ours may be apart."""
    read_lag: ReadLag = ReadLag()
    """How far each query may lag."""
    cancel_reports_cum_qty: bool = True
    """Whether the report of a cancel tells the final filled quantity."""
    order_types: frozenset[OrderType] = frozenset({OrderType.MARKET, OrderType.LIMIT})
    """Order types taken."""
    times_in_force: frozenset[TimeInForce] = frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK})
    """Times in force taken."""
    dead_man_switch: bool = False
    """Whether the venue can cancel everything when it does not hear from us."""
    rate_limits: tuple[RateLimit, ...] = ()
    """Rate limits, each kind and window once; none when there are none."""

    @pydantic.field_serializer("native_groups", "order_types", "times_in_force")
    def _sorted(self, values: frozenset[StrEnum]) -> list[str]:
        return sorted(values)

    @pydantic.field_validator("rate_limits")
    @classmethod
    def _each_once(cls, limits: tuple[RateLimit, ...]) -> tuple[RateLimit, ...]:
        names = {(item.kind, item.window_ns) for item in limits}
        if len(names) < len(limits):
            raise ValueError("two rate limits have the same kind and window: their counters could not be told apart")
        return limits

    @property
    def hosts_skew_ns(self) -> int:
        """How far the clocks of two of our hosts may be apart, as each may differ from the venue's: what one recorded and
        another compares with its own clock is off by as much."""
        return 2 * self.clock_skew_ns

    @property
    def sees_closed(self) -> bool:
        """Whether a look-up by client order id finds the order whatever became of it."""
        return self.lookup and self.lookup_closed


class SubmitRequest(Model):
    """A new order."""

    client_order_id: str
    """Ours; the report carries it back."""
    order: StandardOrder
    """The terms; `quantity` is what this order is to trade."""
    stamp_ns: InstantNs
    """The instant to sign into the request."""
    valid_until_ns: InstantNs | None = None
    """The venue is to refuse it after this, where it can."""


class CancelRequest(Model):
    """Cancel one order."""

    client_order_id: str
    """Id of this request."""
    symbol_id: SymbolId
    """The symbol."""
    target_client_order_id: str
    """Client order id of the order to cancel."""
    target_exchange_order_id: str | None = None
    """Venue id of the order to cancel, where known; it then decides."""
    stamp_ns: InstantNs
    """The instant to sign into the request."""
    valid_until_ns: InstantNs | None = None
    """The venue is to refuse it after this, where it can."""


class ModifyRequest(CancelRequest):
    """Change one order."""

    order: StandardOrder
    """The terms wanted; `quantity` is the order's total, filled part included."""
    cum_qty: Uint64 = 0
    """What of it had filled as the kernel knew; with `REMAINING` the adapter asks for `order.quantity - cum_qty`."""


class SubmitGroupRequest(Model):
    """New orders that the venue is to work as a group; all or none are taken."""

    group_client_id: str
    """Ours, of the group as a whole."""
    mode: OcoMode
    """How the orders depend on each other."""
    orders: Annotated[tuple[SubmitRequest, ...], Field(min_length=1)]
    """The orders, in the order that the mode gives meaning to."""
    stamp_ns: InstantNs
    """The instant to sign into the request."""
    valid_until_ns: InstantNs | None = None
    """The venue is to refuse it after this, where it can."""


class ExecutionReport(Model):
    """What a venue says about one order, in FIX's words. What it does not say is None."""

    exec_type: ExecType
    """FIX 150: what the report is about."""
    symbol_id: SymbolId
    """FIX 55."""
    exec_id: str | None = None
    """FIX 17: the venue's id of this report."""
    fill_key: str | None = None
    """For a trade, a correction or a bust: a name, built by the adapter, unique in the account for ever."""
    ref_fill_key: str | None = None
    """For a correction or a bust: the fill key of the trade concerned (FIX 19 ExecRefID)."""
    side: Side | None = None
    """FIX 54."""
    client_order_id: str | None = None
    """FIX 11; of the request, where the report answers one."""
    orig_client_order_id: str | None = None
    """FIX 41: the order that the request aimed at."""
    exchange_order_id: str | None = None
    """FIX 37."""
    ord_status: OrdStatus | None = None
    """FIX 39 as the venue has it."""
    order_qty: Uint64 | None = None
    """FIX 38."""
    price: Uint64 | None = None
    """FIX 44."""
    last_qty: Uint64 | None = None
    """FIX 32."""
    last_px: Uint64 | None = None
    """FIX 31."""
    cum_qty: Uint64 | None = None
    """FIX 14."""
    leaves_qty: Uint64 | None = None
    """FIX 151."""
    fee: Int | None = None
    """Fee paid (negative: received), at the fee asset's scale."""
    fee_asset: AssetId | None = None
    """Asset of the fee."""
    liquidity: Liquidity | None = None
    """FIX 851."""
    transact_time_ns: InstantNs | None = None
    """FIX 60 in Unix nanoseconds."""
    corporate_action: bool = False
    """For RESTATED: FIX 378 = 0, a split. What was filled before it counts in the new units from then on."""
    text: str | None = None
    """FIX 58."""
    order: StandardOrder | None = None
    """All of the order's terms, where the report has them: what an order that is nobody's intent is adopted with."""
    raw: str | None = None
    """The venue's frame, as it came."""


class VenueSnapshot(Model):
    """The venue asked about the whole account."""

    open_orders: tuple[ExecutionReport, ...] = ()
    """Every open order, as an ORDER_STATUS report."""
    fills: tuple[ExecutionReport, ...] = ()
    """Trades, corrections and busts since the instant asked for, oldest first."""
    balances: dict[AssetId, Balance] | None = None
    """Balances by asset; none when they could not be had."""
    positions: dict[SymbolId, Int] | None = None
    """Signed positions by symbol, of all that are not flat; none where the venue keeps none, or they could not be had."""
    complete: bool
    """Whether open orders, fills and balances are all whole."""
    open_orders_complete: bool = True
    """Whether the list of open orders is whole."""
    fills_complete: bool = True
    """Whether the list of fills is whole."""
    began_ns: InstantNs
    """When the first question was sent."""
    ended_ns: InstantNs
    """When the last answer was whole."""
    text: str = ""
    """Why it is incomplete."""


class Venue(Protocol):
    """An exchange account. Every method but `reports` raises only `VenueError`s."""

    @property
    def capabilities(self) -> VenueCapabilities:
        """What this venue can and promises."""

    @property
    def rate_usage(self) -> tuple[RateUsage, ...]:
        """The venue's own counters as its newest answer told them; empty where it tells none."""

    async def connect(self) -> None:
        """Make the session; `NotSent` when that fails."""

    async def close(self) -> None:
        """End the session. Cancels nothing. Idempotent."""

    async def submit(self, request: SubmitRequest) -> ExecutionReport:
        """Place an order; its first report (NEW, or a TRADE or EXPIRED that came at once)."""

    async def submit_group(self, request: SubmitGroupRequest) -> list[ExecutionReport]:
        """Place orders that the venue works as a group; the first report of each, in their order. All or none are taken."""

    async def modify(self, request: ModifyRequest) -> ExecutionReport:
        """Change an order; the report of the change."""

    async def cancel(self, request: CancelRequest) -> ExecutionReport:
        """Cancel an order; the report of the cancel. "Unknown order" is `OutcomeUnknown`: it settles nothing."""

    async def order(self, symbol_id: str, client_order_id: str) -> ExecutionReport | None:
        """The newest order under a client order id as an ORDER_STATUS report; None when the venue says there is none."""

    async def snapshot(self, since_ns: int) -> VenueSnapshot:
        """Open orders, trades since an instant (venue time), and balances."""

    async def symbols(self) -> list[SymbolMetadata]:
        """The symbols that can be traded."""

    async def assets(self) -> list[AssetMetadata]:
        """The assets that an account can hold."""

    def reports(self) -> AsyncIterator[ExecutionReport]:
        """Reports as they come. Its end means that the stream is lost: what came in between has to be asked for."""
