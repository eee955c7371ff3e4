"""The records that stores keep and queries return: intents, observed orders, positions, account, findings.

Read by strategies, stores, projections and the engine. All are frozen; statuses are FIX's. `OrderState` is derived from
facts by `lifecycle.order_state`, or written whole through a store.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from kernel.order_spec import (
    INT64_MAX,
    AssetId,
    Counter,
    ExchangeId,
    InstantNs,
    Int,
    IntentId,
    Side,
    StandardOrder,
    SymbolId,
    Uint64,
)
from kernel.order_spec import AssetMetadata as AssetMetadata
from kernel.values import Constraint, Value


def is_json(value: dict[str, Any]) -> dict[str, Any]:
    """Return a copy as JSON holds it; `ValueError` for a value that would be stored as something else."""
    if not value:
        return {}
    import json

    try:
        copy: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
        return copy
    except TypeError as problem:
        raise ValueError(f"it must be JSON: {problem}") from problem


class _Copied:
    """Annotates an object that is copied where it comes from outside, so that nobody can change it afterwards."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import no_info_after_validator_function

        return no_info_after_validator_function(is_json, handler(source))


JsonObject = Annotated[dict[str, Any], _Copied()]
"""An object that JSON holds without loss."""


class Desired(StrEnum):
    """The desired state of an intent's order."""

    WORKING = "WORKING"
    CANCELED = "CANCELED"


class UnsolicitedCancelPolicy(StrEnum):
    """The policy for an order that the venue cancels by itself."""

    STOP = "STOP"
    """Do not replace it."""
    RECREATE = "RECREATE"
    """Place the rest again."""


class ExternalOrderPolicy(StrEnum):
    """The policy for orders at the venue that belong to no intent."""

    IGNORE = "IGNORE"
    """Record them and leave them alone."""
    ADOPT = "ADOPT"
    """Create an intent for each, with the terms that it has."""
    CANCEL = "CANCEL"
    """Create a canceled intent for each, so that it is canceled."""


class VenueTermsPolicy(StrEnum):
    """The policy for an order that works other terms than were requested."""

    REQUIRE = "REQUIRE"
    """Request the terms of the intent again; after a few times the order has failed."""
    ACCEPT = "ACCEPT"
    """Take the terms that work as the terms of the intent; never a larger quantity."""


class OrdStatus(StrEnum):
    """Status of an order (FIX 39), derived from facts."""

    PENDING_NEW = "PENDING_NEW"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    DONE_FOR_DAY = "DONE_FOR_DAY"
    STOPPED = "STOPPED"
    PENDING_CANCEL = "PENDING_CANCEL"
    PENDING_REPLACE = "PENDING_REPLACE"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class ReconciliationStatus(StrEnum):
    """Progress of making the observed order agree with the intent."""

    SYNCED = "SYNCED"
    """Intent and observed order agree."""
    PENDING = "PENDING"
    """They differ, and the kernel is about to act."""
    IN_FLIGHT = "IN_FLIGHT"
    """A request was sent and its answer is awaited."""
    UNKNOWN = "UNKNOWN"
    """A request may have happened; the kernel looks for evidence."""
    BACKING_OFF = "BACKING_OFF"
    """The last request failed in a way that may pass; the next follows later."""
    FAILED = "FAILED"
    """The venue rejected the order for good; nothing is sent until the intent changes."""
    PAUSED = "PAUSED"
    """An operator paused the intent."""


class AttemptKind(StrEnum):
    """The request that an attempt sends."""

    SUBMIT = "SUBMIT"
    CANCEL = "CANCEL"
    AMEND = "AMEND"


class AttemptOutcome(StrEnum):
    """Known outcome of an attempt."""

    PENDING = "PENDING"
    """Recorded; its call has not reported."""
    UNKNOWN = "UNKNOWN"
    """Its call ended without a conclusive answer."""
    ACCEPTED = "ACCEPTED"
    """Facts show that it happened."""
    REJECTED = "REJECTED"
    """The venue rejected it."""
    DEAD = "DEAD"
    """It did not happen and can no longer happen."""


class Evidence(StrEnum):
    """The source of a fact."""

    COMMAND = "COMMAND"
    """A command."""
    STREAM = "STREAM"
    """A report of the venue, unsolicited or in answer to a request."""
    QUERY = "QUERY"
    """The venue's answer to a query."""
    INFERRED = "INFERRED"
    """A conclusion from other evidence; less than a fact."""
    OPERATOR = "OPERATOR"
    """The word of an operator or of a store's writer."""


UNRESOLVED = frozenset({AttemptOutcome.PENDING, AttemptOutcome.UNKNOWN})


class OrderIntent(Value):
    """The desired state of one order, valid until a command changes it."""

    intent_id: IntentId
    """Id of the intent; never reused in its log."""
    exchange_id: ExchangeId
    """The exchange account whose log holds it."""
    order: StandardOrder
    """The desired terms; `quantity` is the total, filled part included."""
    group_id: IntentId | None = None
    """The group that it belongs to, if any."""
    generation: Annotated[int, Meta(ge=1, le=INT64_MAX), Constraint(strict=True, ge=1, le=INT64_MAX)] = 1
    """1, and one more for each accepted change of `order` or `desired`."""
    desired: Desired = Desired.WORKING
    """WORKING, or CANCELED once it was canceled."""
    on_unsolicited_cancel: UnsolicitedCancelPolicy = UnsolicitedCancelPolicy.STOP
    """The policy if the venue cancels the order by itself."""
    owner: Annotated[str, Meta(max_length=128), Constraint(max_length=128)] = ""
    """The strategy that owns it; heartbeats and bulk cancels select by it."""
    metadata: JsonObject = msgspec.field(default_factory=dict)
    """JSON data of the strategy; the kernel never reads it."""
    created_at_ns: InstantNs = 0
    """When it was created, in Unix nanoseconds."""
    updated_at_ns: InstantNs = 0
    """When it last changed, in Unix nanoseconds."""
    is_exit: ClassVar[bool] = False
    """True for the effective intent of a bracket's exit."""


class OrderStatus(Value):
    """Terms and status of an order at the venue, as in a FIX execution report (35=8)."""

    order: StandardOrder
    """The terms at the venue; before its first answer, the terms that were sent."""
    ord_status: OrdStatus = OrdStatus.PENDING_NEW
    """Status (FIX 39), derived from facts by precedence."""
    cum_qty: Uint64 = 0
    """Filled quantity of all venue orders of the intent, at the quantity scale (FIX 14)."""
    leaves_qty: Uint64 = 0
    """Quantity open for execution, at the quantity scale (FIX 151)."""
    cum_notional: Int = 0
    """Sum of price × quantity over known fills, at the scale of both."""
    avg_px: Uint64 | None = None
    """Average fill price at the price scale, rounded down (FIX 6); for display only. None without fills."""


class Attempt(Value):
    """One request to the venue: one `AttemptStarted` in the log is one send."""

    number: Counter
    """Number within the intent; a resend repeats it."""
    kind: AttemptKind
    """SUBMIT, CANCEL or AMEND."""
    position: Counter
    """Log position of its `AttemptStarted`, by which outcomes refer to it."""
    outcome: AttemptOutcome
    """Its outcome, as far as it is known."""
    client_order_id: str
    """Client order id of the request (FIX 11)."""
    target_client_order_id: str | None = None
    """CANCEL and AMEND: client order id of the target (FIX 41)."""
    target_exchange_order_id: str | None = None
    """CANCEL and AMEND: venue order id of the target (FIX 37)."""
    new_order: bool = False
    """AMEND: whether it replaces the target with a new venue order."""
    quantity: Uint64 | None = None
    """AMEND: the requested total."""
    price: Uint64 | None = None
    """AMEND: the requested price."""
    generation: Counter = 1
    """The generation of the intent that it serves."""
    epoch: Counter = 0
    """Epoch of the leader that started it."""
    stamp_ns: InstantNs = 0
    """Instant signed into the request."""
    send_by_ns: InstantNs = 0
    """Latest instant at which it is written to the wire."""
    valid_until_ns: InstantNs | None = None
    """Latest instant at which the venue accepts it; None without a validity window."""
    absent_after_ns: InstantNs | None = None
    """A status query begun at or after this instant can prove its absence; None where no query can."""
    text: str = ""
    """The venue's or the kernel's text about its outcome."""
    code: str | None = None
    """The venue's code of its outcome."""
    duplicate: bool = False
    """The venue refused its client order id as used before: an order with it exists or existed."""
    list_look_ended_ns: InstantNs | None = None
    """End of the newest admissible query that did not show it."""
    absent_looks: Counter | None = None
    """Admissible queries that did not show it, where the venue takes several (`absence_looks`)."""

    @property
    def makes_order(self) -> bool:
        """True if it makes a new venue order under its own client order id."""
        return self.kind is AttemptKind.SUBMIT or self.new_order


class VenueOrder(Value):
    """One venue order under one of our client order ids."""

    exchange_order_id: str
    """Venue order id (FIX 37); empty while only the client order id is known."""
    client_order_id: str
    """Client order id (FIX 11), after a replace the newest one."""
    quantity: Uint64
    """Its quantity at the venue."""
    price: Uint64 | None = None
    """Its limit price at the venue."""
    live: bool
    """True if it can still fill, as far as known."""
    ord_status: OrdStatus
    """Its own status."""
    cum_qty: Uint64
    """Its filled quantity: fills less busts, plus `inferred_qty`."""
    inferred_qty: Uint64 = 0
    """The part of `cum_qty` that no known fill explains."""
    cum_notional: Int = 0
    """Sum of price × quantity over its known fills."""
    final_cum_qty: Uint64 | None = None
    """Final filled quantity of a closed order; None while live or not yet known."""
    first_seen_ns: InstantNs = 0
    """When the log first showed it."""
    last_seen_ns: InstantNs = 0
    """When the log last showed news of it."""
    closed_ns: InstantNs | None = None
    """When the log showed it closed."""
    generation: Counter = 0
    """Generation of the intent whose submit created it; 0 if unknown."""
    solicited: bool = False
    """True if the kernel ever started a cancel of it."""
    late: bool = False
    """True if it appeared after its submit had been resolved as rejected or dead."""
    carried_qty: Uint64 | None = None
    """Filled quantity of the order that it replaced, if the venue's totals of this one include it; `quantity` and
    `cum_qty` do not."""
    reduced_qty: Uint64 | None = None
    """Reduction of a reduce-only order's requested quantity by the venue; none of it is placed again."""
    end_acted: bool | None = None
    """True if it was shown open after an end by the venue had been confirmed."""
    other_terms: bool | None = None
    """True if the venue works it with another quantity or price than requested."""
    cancel_not_before_ns: InstantNs | None = None
    """It is not canceled again before this instant: earlier cancels had no effect."""
    in_doubt: bool | None = None
    """True if a report that no intent owns may be about it: its status is queried before anything is sent."""


class AcceptedTerms(Value):
    """Terms that count instead of those of the intent's order, for one generation."""

    generation: Counter
    """The generation of the intent."""
    quantity: Uint64
    """The total quantity, filled part included; only a smaller one than the intent's counts."""
    price: Uint64 | None = None
    """The limit price; None: as in the intent."""
    asked: Uint64 | None = None
    """In a group: the total that was asked for then; the quantity counts until more is."""


class EarlierOrders(Value):
    """The sum of venue orders that ended long ago."""

    count: Counter
    """Number of orders."""
    cum_qty: Uint64
    """Their filled quantity."""
    reduced_qty: Uint64 | None = None
    """Reduction of reduce-only orders' requested quantities by the venue; none of it is placed again."""


class OrderState(Value):
    """The observed order of an intent: what the log shows of it at the venue."""

    intent_id: IntentId
    """The intent that it belongs to."""
    exchange_order_id: str | None = None
    """Venue id of the newest order; None before the venue reported one."""
    client_order_id: str | None = None
    """Client order id of the newest submit."""
    status: OrderStatus
    """Terms and FIX status."""
    reconciliation_status: ReconciliationStatus = ReconciliationStatus.PENDING
    """Progress of making the order agree with its intent."""
    observed_generation: Counter = 0
    """Generation of the intent that the newest attempt serves."""
    attempts: tuple[Attempt, ...] = ()
    """Every unresolved attempt, and the newest."""
    venue_orders: tuple[VenueOrder, ...] = ()
    """The venue orders seen under our client order ids, oldest first, without `earlier_orders`."""
    failures: Counter = 0
    """Failures in a row, while the next attempt waits for them or the generation has failed; else 0."""
    failed_generation: Counter = 0
    """Generation that the venue rejected for good; 0 if none."""
    not_before_ns: InstantNs = 0
    """Nothing new is sent before this instant."""
    last_sync_at: (
        Annotated[int, Meta(ge=0), Constraint(strict=True, ge=0)]
        | Annotated[float, Meta(ge=0), Constraint(strict=True, ge=0)]
    ) = 0
    """When the venue last confirmed it, in Unix *seconds*."""
    accepted_terms: AcceptedTerms | None = None
    """Terms that count instead of the intent's, as the venue works or takes no others."""
    earlier_orders: EarlierOrders | None = None
    """Older venue orders, of which nothing more is expected."""


class ExternalOrder(Value):
    """An order at the venue that belongs to no intent; None where the venue did not report a field."""

    exchange_order_id: str
    """Venue order id; without one, the client order id or fill key that it was reported by."""
    symbol_id: SymbolId
    """The symbol."""
    client_order_id: str | None = None
    """Client order id given by whoever placed it."""
    side: Side | None = None
    """BUY or SELL."""
    quantity: Uint64 | None = None
    """Its quantity."""
    price: Uint64 | None = None
    """Its limit price."""
    cum_qty: Uint64 = 0
    """Its filled quantity, as far as known."""
    ord_status: OrdStatus | None = None
    """Its status at the venue."""
    live: bool = True
    """True if it is open, as far as known."""
    first_seen_ns: InstantNs = 0
    """When the log first showed it."""
    last_seen_ns: InstantNs = 0
    """When the log last showed news of it."""
    first_position: Counter = 0
    """Log position of its first report."""
    created_ns: InstantNs | None = None
    """When the venue created it."""
    first_trade_ns: InstantNs | None = None
    """Venue time of its first trade."""
    transact_time_ns: InstantNs | None = None
    """Venue time of its newest report."""
    queried: bool = False
    """True if its status was queried by the venue's id."""


class Position(Value):
    """The position in one symbol that results from fills, in integer arithmetic."""

    symbol_id: SymbolId
    """The symbol."""
    quantity: Int = 0
    """Signed net quantity, at the quantity scale; negative is short."""
    avg_px: Uint64 | None = None
    """Average entry price at the price scale, rounded down; for display only. None when flat."""
    cost: Int = 0
    """Exact signed cost of the open quantity, at the scale of price × quantity."""
    realized_pnl: Int = 0
    """Realized profit before fees, at the scale of price × quantity."""
    fees: dict[AssetId, Int] = msgspec.field(default_factory=dict)
    """Asset → fees paid (positive) or received (negative), at the asset's scale."""


class Balance(Value):
    """The balance of one asset, at the asset's scale."""

    asset_id: AssetId
    """The asset."""
    total: Int = 0
    """Amount owned."""
    locked: Int = 0
    """Amount held by open orders."""
    free: Int = 0
    """Amount available."""


class AccountState(Value):
    """The account as last observed, and as expected now."""

    exchange_id: ExchangeId
    """The exchange account."""
    balances: dict[AssetId, Balance] = msgspec.field(default_factory=dict)
    """Asset → balance."""
    margin: dict[AssetId, Int] | None = None
    """Asset → margin used, at venues with margin."""
    evidence: Evidence | None = None
    """Source of the balances; None before the first observation."""
    observed_at_ns: InstantNs | None = None
    """When they were observed; None before the first observation."""
    expected: dict[AssetId, Balance] | None = None
    """Asset → balance as expected now, at the asset's scale; None before the first observation. `total`: as observed, plus
    and minus the fills, fees and transfers recorded since. `locked`: held by the orders that work or may work, as far as
    known (a buy locks its cost in the quote asset, a sell its quantity in the base asset). `free`: the rest, negative if
    they lock more than there is."""


class FindingKind(StrEnum):
    """The kind of an anomaly."""

    OVERFILL = "OVERFILL"
    FILL_AFTER_TERMINAL = "FILL_AFTER_TERMINAL"
    LATE_ACCEPT = "LATE_ACCEPT"
    DUPLICATE_ORDER = "DUPLICATE_ORDER"
    UNEXPECTED_TRADE = "UNEXPECTED_TRADE"
    UNEXPLAINED_QUANTITY = "UNEXPLAINED_QUANTITY"
    FILL_KEY_REUSED = "FILL_KEY_REUSED"
    ID_REUSED = "ID_REUSED"
    POSITION_DRIFT = "POSITION_DRIFT"
    BALANCE_DRIFT = "BALANCE_DRIFT"
    UNKNOWN_TOO_LONG = "UNKNOWN_TOO_LONG"
    GROUP_OVERFILL = "GROUP_OVERFILL"
    CLOCK_SKEW = "CLOCK_SKEW"
    STORM = "STORM"
    ADAPTER_ERROR = "ADAPTER_ERROR"
    STREAM_SILENT = "STREAM_SILENT"
    SYMBOL_QUARANTINED = "SYMBOL_QUARANTINED"
    TRADES_GAP = "TRADES_GAP"
    EXIT_MISSING = "EXIT_MISSING"
    UNOWNED_CANDIDATE = "UNOWNED_CANDIDATE"
    FALSE_END = "FALSE_END"
    GHOST = "GHOST"
    VENUE_DISAGREES = "VENUE_DISAGREES"


class Finding(Value):
    """An anomaly, raised and resolved by events."""

    finding_id: str
    """Id; raised twice, it is one finding."""
    kind: FindingKind
    """Kind of the anomaly."""
    text: str
    """Description of the observation, for people."""
    intent_id: IntentId | None = None
    """The intent concerned, if any."""
    symbol_id: SymbolId | None = None
    """The symbol concerned, if any."""
    blocks_sending: bool | None = None
    """True if nothing is sent while it is open."""
    raised_at_ns: InstantNs = 0
    """When it was raised."""
    resolved_at_ns: InstantNs | None = None
    """When it was resolved; None while open."""
    resolution: str = ""
    """How it was resolved."""


class ExecType(StrEnum):
    """Type of an execution report (FIX 150); the two `…_REJECTED` are OrderCancelReject (FIX 35=9)."""

    PENDING_NEW = "PENDING_NEW"
    NEW = "NEW"
    TRADE = "TRADE"
    TRADE_CORRECT = "TRADE_CORRECT"
    TRADE_CANCEL = "TRADE_CANCEL"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"
    REPLACED = "REPLACED"
    RESTATED = "RESTATED"
    PENDING_CANCEL = "PENDING_CANCEL"
    PENDING_REPLACE = "PENDING_REPLACE"
    STOPPED = "STOPPED"
    DONE_FOR_DAY = "DONE_FOR_DAY"
    TRIGGERED = "TRIGGERED"
    ORDER_STATUS = "ORDER_STATUS"
    CANCEL_REJECTED = "CANCEL_REJECTED"
    REPLACE_REJECTED = "REPLACE_REJECTED"


class Liquidity(StrEnum):
    """The liquidity side of a fill (FIX 851)."""

    MAKER = "MAKER"
    TAKER = "TAKER"


class LookScope(StrEnum):
    """A list or order that a status query covered."""

    OPEN_ORDERS = "OPEN_ORDERS"
    TRADES = "TRADES"
    BALANCES = "BALANCES"
    ORDER = "ORDER"
