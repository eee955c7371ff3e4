"""The port to an exchange: its capabilities, its requests and its reports.

Adapters implement `Venue`; the reconciler and the controller call it. An adapter translates: it has no policy, no
retries and no durable state. It raises `Rejected` (a definitive no), `NotSent` (the request provably never left) and
`OutcomeUnknown` (anything else: a timeout, a lost connection, a 5xx, a duplicate id, an unreadable answer), and nothing
else. The kernel's behavior depends on a venue's capabilities, never on its class.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from kernel.errors import Violation
from kernel.models import Balance, ExecType, Liquidity, OrdStatus
from kernel.order_spec import (
    AssetId,
    AssetMetadata,
    Counter,
    InstantNs,
    Int,
    OcoMode,
    OrderType,
    Side,
    StandardOrder,
    SymbolId,
    SymbolMetadata,
    TimeInForce,
    Uint64,
)
from kernel.values import Constraint, Value

Positive = Annotated[int, Meta(gt=0), Constraint(gt=0)]


class Dedupe(StrEnum):
    """How long a venue refuses a client order id that it has seen before."""

    NONE = "NONE"
    """Not at all: two live orders can have the same id."""
    WHILE_OPEN = "WHILE_OPEN"
    """While the first order is open (Binance, Kraken)."""
    FOR_EVER = "FOR_EVER"
    """For the life of the account (Alpaca)."""


class AmendDialect(StrEnum):
    """How a venue changes a working order."""

    NONE = "NONE"
    """Not at all: cancel, then submit the remaining quantity."""
    IN_PLACE = "IN_PLACE"
    """The same venue order with new terms."""
    CANCEL_REPLACE = "CANCEL_REPLACE"
    """A new venue order replaces the old one (FIX 35=G)."""


class AmendQuantity(StrEnum):
    """The meaning of the quantity in an amend request."""

    TOTAL = "TOTAL"
    """The order's total, filled part included (FIX 38)."""
    REMAINING = "REMAINING"
    """The quantity that works from then on; fills in the meantime come on top."""


class TriggerDialect(StrEnum):
    """How a venue reports a stop order that triggers."""

    SAME_ORDER = "SAME_ORDER"
    """The stop itself goes on, as a market or limit order."""
    NEW_ORDER = "NEW_ORDER"
    """A new venue order under the same client order id replaces it (Binance futures, OKX, Interactive Brokers)."""


class ReadLag(Value):
    """How long after a change each query may still show the state before it, in ns."""

    order_ns: InstantNs = 0
    """Query of one order by client order id."""
    open_orders_ns: InstantNs = 0
    """List of open orders."""
    trades_ns: InstantNs = 0
    """List of trades."""

    @property
    def longest_ns(self) -> int:
        return max(self.order_ns, self.open_orders_ns, self.trades_ns)


class Operation(StrEnum):
    """A kind of call to a venue."""

    SUBMIT = "SUBMIT"
    CANCEL = "CANCEL"
    AMEND = "AMEND"
    CONNECT = "CONNECT"
    ORDER = "ORDER"
    SNAPSHOT = "SNAPSHOT"
    ASSETS = "ASSETS"
    SYMBOLS = "SYMBOLS"


class RateLimitKind(StrEnum):
    """The unit that a rate limit counts, in Binance's terms."""

    REQUEST_WEIGHT = "REQUEST_WEIGHT"
    """Requests of any kind, each with its weight."""
    ORDERS = "ORDERS"
    """New orders."""


class RateLimit(Value):
    """The weight that a venue accepts in one window."""

    kind: RateLimitKind
    """The unit counted."""
    window_ns: Positive
    """Length of the window."""
    limit: Positive
    """Largest total weight in one window."""
    aligned: bool = False
    """Windows start at whole multiples of their length since 1970 (Binance) instead of sliding."""
    weights: Annotated[dict[Operation, Positive], Meta(min_length=1), Constraint(min_length=1)] = msgspec.field(
        default_factory=lambda: dict.fromkeys(Operation, 1)
    )
    """Weight of each kind of call; a kind that is not listed counts nothing. By default each call counts 1."""
    symbol_weights: dict[Operation, Positive] = msgspec.field(default_factory=dict)
    """Weight that a call costs in addition for each symbol that it names: a snapshot, where the lists are per symbol."""

    def contradictions(self) -> list[Violation]:
        heaviest = max(self.weights, key=lambda operation: self.weights[operation])
        if self.weights[heaviest] <= self.limit:
            return []
        text = f"{heaviest} has the weight {{value}}, above the limit of {{limit}}: raise the limit"
        return [Violation("weights", "maximum", str(self.limit), str(self.weights[heaviest]), text)]


class RateUsage(Value):
    """A venue's own counter of one rate limit, identified by its kind and window."""

    kind: RateLimitKind
    """The kind of the limit."""
    window_ns: Positive
    """The window of the limit."""
    used: Counter
    """Weight counted in the window, including calls of other clients of the account."""


class VenueCapabilities(Value):
    """A venue's abilities and guarantees. Recorded in the log, so that a replay needs no settings."""

    client_order_ids: bool = True
    """New orders carry our client order id. Without it, only an operator can attribute an order whose answer was lost."""
    orders_carry_client_id: bool = True
    """The list of open orders shows the client order ids."""
    trades_carry_client_id: bool = True
    """The list of trades shows the client order ids (Binance's does not)."""
    lists_open_orders: bool = True
    """Snapshots have the open orders; otherwise each live order is queried by itself."""
    lists_trades: bool = True
    """Snapshots have the trades; otherwise fills are known from the stream and from CumQty."""
    lists_balances: bool = True
    """Snapshots have the balances."""
    trades_history_ns: Positive | None = None
    """How long the list of trades reaches back; None for the life of the account."""
    absence_looks: Annotated[int, Meta(ge=1, le=5), Constraint(ge=1, le=5)] = 1
    """Complete lists that must lack an order before it is absent; more than 1 where lists are known to err."""
    confirm_all_ends: bool = False
    """Also the end of an order that the kernel canceled is confirmed by a query, as this venue reports false ends."""
    trigger: TriggerDialect = TriggerDialect.SAME_ORDER
    """The representation of a stop order that has triggered."""
    trigger_parent_stays_listed: bool = False
    """With NEW_ORDER: the stop stays in the list of open orders after it triggered."""
    order_ids_unique: bool = True
    """A venue order id is never given again within a symbol and side (not so: ids per day, testnets that reset)."""
    heartbeat_ns: Positive | None = None
    """The stream brings a report or a heartbeat at least this often; None for no such promise."""
    tells_time: bool = False
    """`time_ns` returns the venue's clock."""
    adjusts_clock: bool = False
    """Requests are stamped in venue time, so that none is refused while the host's clock differs. The kernel shifts the
    stamps by the difference that it measures with `tells_time`; a driver that stamps by itself does so too."""
    amend: AmendDialect = AmendDialect.NONE
    """How a working order is changed."""
    amend_quantity: AmendQuantity = AmendQuantity.TOTAL
    """The quantity that a change of an order states."""
    amend_atomic: bool = True
    """A cancel/replace whose new order is refused leaves the old order working."""
    replace_keeps_cum_qty: bool = False
    """CumQty and OrderQty of an order that replaces another include what the other filled (FIX); else it begins at 0."""
    native_groups: frozenset[OcoMode] = frozenset()
    """Group modes that the venue manages itself."""
    lookup: bool = True
    """An order can be queried by client order id."""
    lookup_closed: bool = True
    """The query also returns closed orders, for longer than any request of ours is valid."""
    client_order_id_max_length: Annotated[int, Meta(ge=12, le=64), Constraint(ge=12, le=64)] = 36
    """Longest client order id accepted; ids consist of the characters a-z and 2-7."""
    dedupe: Dedupe = Dedupe.WHILE_OPEN
    """How long a used client order id is refused."""
    dedupe_for_ns: InstantNs | None = None
    """Refuse an id for this long after its first use; None for no such period. At least WHILE_OPEN is assumed."""
    validity_window_ns: InstantNs | None = None
    """A request is refused later than this after its stamp (Binance's recvWindow); None for no window."""
    stamp_is_ours: bool = True
    """The request carries the attempt's stamp; otherwise the driver stamps it when it writes."""
    clock_skew_ns: InstantNs = 0
    """Largest difference between the venue's clock and ours."""
    read_lag: ReadLag = ReadLag()
    """How old the answers of each query may be."""
    cancel_reports_cum_qty: bool = True
    """The report of a cancel carries the final CumQty."""
    order_types: frozenset[OrderType] = frozenset({OrderType.MARKET, OrderType.LIMIT})
    """Order types accepted."""
    times_in_force: frozenset[TimeInForce] = frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK})
    """Times in force accepted."""
    dead_man_switch: bool = False
    """The venue can cancel all orders when it does not hear from us."""
    rate_limits: tuple[RateLimit, ...] = ()
    """Rate limits; each combination of kind and window at most once."""

    def contradictions(self) -> list[Violation]:
        names = {(item.kind, item.window_ns) for item in self.rate_limits}
        if len(names) == len(self.rate_limits):
            return []
        text = "two rate limits have the same kind and window: declare each combination once"
        return [Violation("rate_limits", "unique", "each combination once", "", text)]

    @property
    def hosts_skew_ns(self) -> int:
        """Largest difference between the clocks of two of our hosts, as each may differ from the venue's."""
        return 2 * self.clock_skew_ns

    @property
    def orders_lag_ns(self) -> int:
        """How long after an event is recorded a query of one order or of the open orders must begin to include it."""
        return max(self.read_lag.order_ns, self.read_lag.open_orders_ns) + self.hosts_skew_ns

    def reflects_ns(self, began_ns: int) -> int:
        """Return until when a query of orders includes everything that was recorded."""
        return max(0, began_ns - self.orders_lag_ns)

    def trades_from_ns(self, now_ns: int) -> int:
        """Return since when (host's time) the venue still lists every trade; 0 if it keeps all of them."""
        return 0 if self.trades_history_ns is None else now_ns - self.trades_history_ns + self.hosts_skew_ns

    @property
    def sees_closed(self) -> bool:
        """A query by client order id finds every order, open or closed."""
        return self.client_order_ids and self.lookup and self.lookup_closed

    @property
    def accepts_id_once(self) -> bool:
        """A client order id is accepted once for the life of the account."""
        return self.client_order_ids and self.dedupe is Dedupe.FOR_EVER

    @property
    def proves_absence(self) -> bool:
        """Queries can show that an order never arrived: one by client order id, or both lists."""
        return self.sees_closed or (self.lists_open_orders and self.lists_trades)

    @property
    def queries_single_orders(self) -> bool:
        """A known order is queried by itself: by client order id, or by the venue's where a list is not offered."""
        return self.sees_closed or not self.proves_absence

    @property
    def lists_anything(self) -> bool:
        """Snapshots show something."""
        return self.lists_open_orders or self.lists_trades or self.lists_balances

    @property
    def hides_triggered(self) -> bool:
        """The order that a stop's trigger makes may be shown without our client order id (H23)."""
        return self.trigger is TriggerDialect.NEW_ORDER and not self.sees_closed

    @property
    def hides_client_ids(self) -> bool:
        """An order of ours may be shown without our client order id, and no query by that id finds it (H20)."""
        return not self.sees_closed and not (self.client_order_ids and self.lists_client_ids)

    @property
    def lists_client_ids(self) -> bool:
        """Lists show the client order ids of orders and trades, if there are any."""
        return not self.client_order_ids or (self.orders_carry_client_id and self.trades_carry_client_id)


class VenueRequest(Value):
    """A request that changes something at the venue."""

    stamp_ns: InstantNs
    """The request's timestamp, Unix nanoseconds: by the host's clock, or by the venue's with `adjusts_clock`."""
    valid_until_ns: InstantNs | None = None
    """The venue must refuse the request after this instant, where it supports that."""


class SubmitRequest(VenueRequest):
    """A request for a new order."""

    client_order_id: str
    """FIX 11; the reports carry it back."""
    order: StandardOrder
    """The terms; `quantity` is the quantity of this venue order."""


class CancelRequest(VenueRequest):
    """A request to cancel one order."""

    client_order_id: str
    """FIX 11: the id of this request."""
    symbol_id: SymbolId
    """FIX 55."""
    target_client_order_id: str
    """FIX 41: the client order id of the order to cancel."""
    target_exchange_order_id: str | None = None
    """FIX 37: the venue's id of the order to cancel, if known; it takes precedence."""


class ModifyRequest(CancelRequest):
    """A request to change one order."""

    order: StandardOrder
    """The new terms; `quantity` is the order's total, filled part included."""
    cum_qty: Uint64 = 0
    """Filled quantity known to the kernel; with `REMAINING` the adapter sends `order.quantity - cum_qty`."""


class SubmitGroupRequest(VenueRequest):
    """A request for new orders that the venue manages as a group; it accepts all or none."""

    group_client_id: str
    """Our id of the group."""
    mode: OcoMode
    """How the orders depend on each other."""
    orders: Annotated[tuple[SubmitRequest, ...], Meta(min_length=1), Constraint(min_length=1)]
    """The orders; their sequence matters where the mode has a parent (the first order)."""


class ExecutionReport(Value):
    """A venue's report about one order, in FIX terms. A field that the venue does not report is None."""

    exec_type: ExecType
    """FIX 150."""
    symbol_id: SymbolId
    """FIX 55."""
    exec_id: str | None = None
    """FIX 17."""
    fill_key: str | None = None
    """For a trade, a correction or a bust: a key built by the adapter, unique in the account forever."""
    ref_fill_key: str | None = None
    """For a correction or a bust: the fill key of the trade (FIX 19 ExecRefID)."""
    side: Side | None = None
    """FIX 54."""
    client_order_id: str | None = None
    """FIX 11; that of the request, if the report answers one."""
    orig_client_order_id: str | None = None
    """FIX 41: the order that the request targets."""
    exchange_order_id: str | None = None
    """FIX 37."""
    ord_status: OrdStatus | None = None
    """FIX 39, as the venue reports it."""
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
    fees: dict[AssetId, Int] | None = None
    """Every fee of the trade by asset, where there are several; then `fee` and `fee_asset` are None. A later report of
    the trade replaces them."""
    liquidity: Liquidity | None = None
    """FIX 851."""
    transact_time_ns: InstantNs | None = None
    """FIX 60, Unix nanoseconds."""
    order_created_ns: InstantNs | None = None
    """When the venue created the order, Unix nanoseconds."""
    parent_exchange_order_id: str | None = None
    """For an order made by a trigger: the venue's id of the stop."""
    corporate_action: bool = False
    """For RESTATED: FIX 378 = 0, a split. Earlier fills count in the new units from then on."""
    text: str | None = None
    """FIX 58."""
    order: StandardOrder | None = None
    """All terms of the order, if the report carries them; used to adopt an external order."""
    raw: str | None = None
    """The venue's frame, unchanged."""


class Transfer(Value):
    """A change of a balance without a trade: a deposit, withdrawal, funding, interest, or conversion of dust."""

    transfer_key: str
    """A key built by the adapter, unique in the account forever."""
    asset_id: AssetId
    """The asset."""
    amount: Int
    """Signed amount at the asset's scale."""
    transact_time_ns: InstantNs | None = None
    """Venue time, Unix nanoseconds."""
    text: str | None = None
    """The venue's name for it."""


class VenueSnapshot(Value):
    """The venue's answer about the account, or about the symbols that were asked for.

    A list that the venue does not offer (`VenueCapabilities.lists_…`) is empty and complete.
    """

    open_orders: tuple[ExecutionReport, ...] = ()
    """Every open order, as an ORDER_STATUS report."""
    fills: tuple[ExecutionReport, ...] = ()
    """Trades, corrections and busts since the requested instant, oldest first."""
    balances: dict[AssetId, Balance] | None = None
    """Balances by asset; None when they are unavailable."""
    transfers: tuple[Transfer, ...] = ()
    """Deposits, withdrawals and other flows since the requested instant, oldest first."""
    symbols: frozenset[SymbolId] | None = None
    """The symbols that `open_orders` and `fills` cover; None for the whole account."""
    order_types: frozenset[OrderType] | None = None
    """The order types that `open_orders` covers; None for all (some venues list stops apart)."""
    positions: dict[SymbolId, Int] | None = None
    """Signed non-zero positions by symbol; None when the venue has no positions or they are unavailable."""
    complete: bool
    """Open orders, fills and balances are all complete."""
    open_orders_complete: bool = True
    """`open_orders` lacks none."""
    fills_complete: bool = True
    """`fills` and `transfers` lack none."""
    began_ns: InstantNs
    """When the first query was sent."""
    ended_ns: InstantNs
    """When the last answer was complete."""
    text: str = ""
    """Why the snapshot is incomplete."""

    def covers(self, order: StandardOrder) -> bool:
        """Return whether `open_orders` would show an open order: its scope holds the symbol and the kind.

        A stop may have been triggered, and is then listed as what it has become.
        """
        kinds = {order.order_type}
        if order.order_type in (OrderType.STOP, OrderType.STOP_LIMIT):
            kinds.add(OrderType.MARKET if order.order_type is OrderType.STOP else OrderType.LIMIT)
        in_symbols = self.symbols is None or order.symbol_id in self.symbols
        return in_symbols and (self.order_types is None or kinds <= self.order_types)


def lists_complete(snapshot: VenueSnapshot, capabilities: VenueCapabilities) -> bool:
    """Return whether the lists of orders and trades lack nothing, of those that the venue offers."""
    orders = snapshot.open_orders_complete or not capabilities.lists_open_orders
    return orders and (snapshot.fills_complete or not capabilities.lists_trades)


def all_complete(snapshot: VenueSnapshot, capabilities: VenueCapabilities) -> bool:
    """Return whether a snapshot lacks nothing that the venue offers."""
    if snapshot.complete:
        return True
    missing = (
        (snapshot.open_orders_complete, capabilities.lists_open_orders),
        (snapshot.fills_complete, capabilities.lists_trades),
        (snapshot.balances is not None, capabilities.lists_balances),
    )
    explained = any(not complete and not offered for complete, offered in missing)
    return explained and all(complete or not offered for complete, offered in missing)


class Venue(Protocol):
    """An exchange account.

    Every method except `reports` raises only `VenueError`s; any other exception is treated as a defect of the adapter
    (`kernel.venues.guard`). Prices and quantities are integers at the symbol's scales, instants are Unix nanoseconds.

    An adapter makes unique what the venue does not: a fill key must never be given again in the account. Venue order ids
    are compared within a symbol and side; where the venue gives them again, `order_ids_unique` is False.
    """

    @property
    def capabilities(self) -> VenueCapabilities:
        """The venue's abilities and guarantees."""

    @property
    def rate_usage(self) -> tuple[RateUsage, ...]:
        """The venue's rate-limit counters in its newest answer; empty if it reports none."""

    async def connect(self) -> None:
        """Open the session.

        Raises:
            NotSent: The venue cannot be reached.
        """

    async def close(self) -> None:
        """Close the session. Cancels no orders; idempotent."""

    async def submit(self, request: SubmitRequest) -> ExecutionReport:
        """Place an order.

        Returns:
            The first report: NEW, or an immediate TRADE or EXPIRED.
        """

    async def submit_group(self, request: SubmitGroupRequest) -> list[ExecutionReport]:
        """Place orders that the venue manages as a group; it accepts all or none.

        Returns:
            The first report of each order, in the order of the request.
        """

    async def modify(self, request: ModifyRequest) -> ExecutionReport:
        """Change an order.

        Returns:
            The report of the change, REPLACED, with both client order ids; with the order's own alone if it keeps it.
        """

    async def cancel(self, request: CancelRequest) -> ExecutionReport:
        """Cancel an order; returns the report of the cancel.

        Raises:
            OutcomeUnknown: Also for "unknown order": it does not tell how the order ended.
        """

    async def order(
        self, symbol_id: str, client_order_id: str | None, exchange_order_id: str | None
    ) -> ExecutionReport | None:
        """Query an order (FIX OrderStatusRequest).

        Args:
            symbol_id: The order's symbol.
            client_order_id: Its client order id; it takes precedence. None to query by the venue's id.
            exchange_order_id: The venue's id, where it is known.

        Returns:
            The newest such order as an ORDER_STATUS report; None if the venue has none.
        """

    async def snapshot(self, since_ns: int, symbols: Sequence[str]) -> VenueSnapshot:
        """Query open orders, balances, trades and transfers.

        Args:
            since_ns: Return trades and transfers from this instant on, in venue time.
            symbols: The symbols of live and recent intents, sorted. A venue that lists a whole account ignores them.
        """

    async def time_ns(self) -> int:
        """Return the venue's clock, Unix nanoseconds. Called only with the capability `tells_time`."""

    def recorded(self, report: ExecutionReport) -> None:
        """Take note that a report of `reports` is durable, was known already, or makes no event.

        Called once for each report, with the one that `reports` yielded; with an equal one if a field of that has another
        type, such as a text instead of an enum's member. An adapter with a session advances its incoming sequence number
        or cursor only over the unbroken prefix of recorded reports, so that a crash loses none. By default nothing happens.
        """
        return

    async def symbols(self) -> list[SymbolMetadata]:
        """Return the tradable symbols."""

    async def assets(self) -> list[AssetMetadata]:
        """Return the assets that an account can hold."""

    def reports(self) -> AsyncIterator[ExecutionReport | None]:
        """Yield reports as they arrive; None for a heartbeat, which only shows that the stream is alive.

        An adapter that polls counts its polls in `rate_usage`, and yields None where they bring nothing.

        The end of the iterator means that the stream is lost: the caller must query what it missed.
        """
