"""The records that stores keep and queries return: what is wanted, what is there, what it comes to.

Used by the stores, the projections, the engine and strategies. All are frozen; a change is a new record. Status words are
FIX's. `OrderState` is derived from facts by `lifecycle.order_state`, or written whole through a store.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import pydantic
from pydantic import Field, Strict

from kernel.order_spec import (
    AssetId,
    AssetMetadata,
    Counter,
    ExchangeId,
    InstantNs,
    Int,
    IntentId,
    Model,
    Side,
    StandardOrder,
    SymbolId,
    Uint64,
)

__all__ = [
    "AccountState", "AssetMetadata", "Attempt", "AttemptKind", "AttemptOutcome", "Balance", "Desired",
    "Evidence", "ExecType", "ExternalOrder", "ExternalOrderPolicy", "Finding", "FindingKind", "Liquidity",
    "LookScope", "OrdStatus", "OrderIntent", "OrderState", "OrderStatus", "Position", "ReconciliationStatus",
    "UnsolicitedCancelPolicy", "VenueOrder",
]  # fmt: skip


def is_json(value: dict[str, Any]) -> dict[str, Any]:
    """`ValueError` for what JSON can't hold: it would be stored as something else."""
    try:
        if value:
            json.dumps(value, allow_nan=False)
    except TypeError as problem:
        raise ValueError(f"it must be JSON: {problem}") from problem
    return value


JsonObject = Annotated[dict[str, Any], pydantic.AfterValidator(is_json)]
"""Data of any form that can be written as JSON and read again as it was."""


class Desired(StrEnum):
    """What an intent wants of its order."""

    WORKING = "WORKING"
    CANCELED = "CANCELED"


class UnsolicitedCancelPolicy(StrEnum):
    """What to do when the venue cancels an order that nobody asked it to cancel."""

    STOP = "STOP"
    RECREATE = "RECREATE"


class ExternalOrderPolicy(StrEnum):
    """What to do about orders at the venue that are nobody's intent."""

    IGNORE = "IGNORE"
    """Record them, and never touch them."""
    ADOPT = "ADOPT"
    """Make an intent for each: want what is there."""
    CANCEL = "CANCEL"
    """Adopt each as not wanted, so that it is canceled."""


class OrdStatus(StrEnum):
    """FIX 39, derived from facts."""

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
    """How far the kernel is with making the venue agree."""

    SYNCED = "SYNCED"
    """Wanted and actual agree."""
    PENDING = "PENDING"
    """They differ, and the kernel is about to act."""
    IN_FLIGHT = "IN_FLIGHT"
    """A request is out, and its answer is awaited."""
    UNKNOWN = "UNKNOWN"
    """A request may have happened; evidence is being looked for."""
    BACKING_OFF = "BACKING_OFF"
    """The last try failed in a way that may pass; the next comes later."""
    FAILED = "FAILED"
    """The venue refused for good; nothing more is sent until the intent changes."""
    PAUSED = "PAUSED"
    """An operator paused it."""


class AttemptKind(StrEnum):
    """What an attempt asks of the venue."""

    SUBMIT = "SUBMIT"
    CANCEL = "CANCEL"
    AMEND = "AMEND"


class AttemptOutcome(StrEnum):
    """What is known of an attempt."""

    PENDING = "PENDING"
    """Recorded; its call has not reported."""
    UNKNOWN = "UNKNOWN"
    """Its call ended without an answer that settles it."""
    ACCEPTED = "ACCEPTED"
    """Facts show that it happened."""
    REJECTED = "REJECTED"
    """The venue said no to it."""
    DEAD = "DEAD"
    """It did not happen and can no longer happen."""


class Evidence(StrEnum):
    """Where a fact comes from."""

    COMMAND = "COMMAND"
    """Somebody who may command said so."""
    STREAM = "STREAM"
    """The venue reported it by itself, or in answer to a request."""
    QUERY = "QUERY"
    """The venue said so when asked."""
    INFERRED = "INFERRED"
    """Concluded from other evidence; less than a fact."""
    OPERATOR = "OPERATOR"
    """A person or a store's writer vouches for it."""


UNRESOLVED = frozenset({AttemptOutcome.PENDING, AttemptOutcome.UNKNOWN})


class OrderIntent(Model):
    """An order that a strategy wants, and keeps wanting until it says otherwise."""

    intent_id: IntentId
    """Name of the intent; unique in its log for ever."""
    exchange_id: ExchangeId
    """The exchange account whose log holds it."""
    order: StandardOrder
    """The order wanted."""
    group_id: IntentId | None = None
    """The group it belongs to."""
    generation: Annotated[int, Strict(), Field(ge=1, le=2**63 - 1)] = 1
    """1, then one more for each accepted change of `order` or `desired`."""
    desired: Desired = Desired.WORKING
    """WORKING, or CANCELED once nobody wants it any more."""
    on_unsolicited_cancel: UnsolicitedCancelPolicy = UnsolicitedCancelPolicy.STOP
    """What to do when the venue cancels it by itself."""
    owner: str = Field(default="", max_length=128)
    """The strategy that owns it."""
    metadata: JsonObject = Field(default_factory=dict)
    """The strategy's own JSON data; the kernel never reads it."""
    created_at_ns: InstantNs = 0
    """When it was created, in Unix nanoseconds."""
    updated_at_ns: InstantNs = 0
    """When it last changed, in Unix nanoseconds."""


class OrderStatus(Model):
    """An order as it works at the venue; the fields of a FIX execution report that tell its state."""

    order: StandardOrder
    """The terms that work at the venue (before the first answer: the terms that were sent)."""
    ord_status: OrdStatus = OrdStatus.PENDING_NEW
    """FIX 39, derived from facts by precedence."""
    cum_qty: Uint64 = 0
    """Filled quantity over all venue orders of the intent, at the quantity scale."""
    leaves_qty: Uint64 = 0
    """Quantity still open for execution, at the quantity scale."""
    cum_notional: Int = 0
    """Sum of price × quantity over known fills, at the scale of both."""
    avg_px: Uint64 | None = None
    """Average fill price at the price scale, rounded down; for show, never an input. None without fills."""


class Attempt(Model):
    """One send to the venue, as the log knows it. See the protocol: one `AttemptStarted` is one send."""

    number: Counter
    """The intent's counter; a resend repeats it."""
    kind: AttemptKind
    """SUBMIT, CANCEL or AMEND."""
    position: Counter
    """Log position of its `AttemptStarted`: the identity that outcomes name."""
    outcome: AttemptOutcome
    """What is known of it."""
    client_order_id: str
    """The id that the request carries."""
    target_client_order_id: str | None = None
    """For CANCEL and AMEND: the client order id of the order aimed at."""
    target_exchange_order_id: str | None = None
    """For CANCEL and AMEND: the venue's id of the order aimed at."""
    new_order: bool = False
    """For AMEND: whether it makes a new venue order in the place of the one aimed at."""
    quantity: Uint64 | None = None
    """For AMEND: the total asked for."""
    price: Uint64 | None = None
    """For AMEND: the price asked for."""
    generation: Counter = 1
    """The intent's generation that it serves."""
    epoch: Counter = 0
    """The leader that started it."""
    stamp_ns: InstantNs = 0
    """The instant signed into the request."""
    send_by_ns: InstantNs = 0
    """It is not written to the wire after this."""
    valid_until_ns: InstantNs | None = None
    """The venue refuses the request after this; none when the venue has no such window."""
    absent_after_ns: InstantNs | None = None
    """A look begun at or after this may conclude that it never arrived; none when nothing may."""
    text: str = ""
    """What the venue or the kernel said of its outcome."""
    code: str | None = None
    """The venue's code of its outcome."""
    duplicate: bool = False
    """The venue refused it because its client order id was used before: an order under that id exists or existed."""
    list_look_ended_ns: InstantNs | None = None
    """End of the admissible look at the open orders that did not show it (venues without lookup by client id)."""


class VenueOrder(Model):
    """One order that the venue has, or had, under one of our client order ids."""

    exchange_order_id: str
    """The venue's id; empty while only the client order id is known."""
    client_order_id: str
    """The id under which we (or, after a replace, the venue) know it."""
    quantity: Uint64
    """Its quantity at the venue."""
    price: Uint64 | None = None
    """Its limit price at the venue."""
    live: bool
    """Whether it can still be filled, as far as is known."""
    ord_status: OrdStatus
    """Its own status."""
    cum_qty: Uint64
    """Its filled quantity: trades net of busts, plus what is inferred."""
    inferred_qty: Uint64 = 0
    """The part of `cum_qty` that evidence shows and no known trade explains."""
    cum_notional: Int = 0
    """Sum of price × quantity over its known trades."""
    final_cum_qty: Uint64 | None = None
    """Once closed: its final filled quantity when known. None while live, or closed and not yet known."""
    first_seen_ns: InstantNs = 0
    """When the log first had it."""
    last_seen_ns: InstantNs = 0
    """When the log last had news of it."""
    closed_ns: InstantNs | None = None
    """When the log had it closed."""
    generation: Counter = 0
    """The intent's generation whose submit made it; 0 when that is not known."""
    solicited: bool = False
    """Whether a cancel of it was ever started by us."""
    late: bool = False
    """Whether it turned up after its submit had been settled as refused or never arrived."""


class OrderState(Model):
    """What is known of an intent's order at the venue."""

    intent_id: IntentId
    """The intent it belongs to."""
    exchange_order_id: str | None = None
    """Venue id of the newest order; none before the venue named one."""
    client_order_id: str | None = None
    """Client order id of the newest submit."""
    status: OrderStatus
    """Terms and FIX status."""
    reconciliation_status: ReconciliationStatus = ReconciliationStatus.PENDING
    """How far the kernel is."""
    observed_generation: Counter = 0
    """The generation of the intent that the newest attempt serves."""
    attempts: tuple[Attempt, ...] = ()
    """Every attempt that is not settled, and the newest."""
    venue_orders: tuple[VenueOrder, ...] = ()
    """Every venue order seen under our ids, oldest first."""
    failures: Counter = 0
    """Failed tries in a row; a new generation resets it."""
    failed_generation: Counter = 0
    """The generation that the venue refused for good; 0 when none was."""
    not_before_ns: InstantNs = 0
    """Nothing new is sent before this."""
    last_sync_at: Annotated[int, Strict(), Field(ge=0)] | Annotated[float, Strict(), Field(ge=0)] = 0
    """When the venue last confirmed it, in Unix *seconds* (the seed's one exception to nanoseconds)."""


class ExternalOrder(Model):
    """An order at the venue that is nobody's intent, as far as the venue told of it."""

    exchange_order_id: str
    """The venue's id; where it gave none, the client order id or the fill key by which it was told of."""
    symbol_id: SymbolId
    """The symbol."""
    client_order_id: str | None = None
    """The id that whoever placed it gave it."""
    side: Side | None = None
    """BUY or SELL; none where it was not told."""
    quantity: Uint64 | None = None
    """Its quantity; none where it was not told."""
    price: Uint64 | None = None
    """Its limit price."""
    cum_qty: Uint64 = 0
    """Its filled quantity, as far as known."""
    ord_status: OrdStatus | None = None
    """Its status as the venue has it; none where it was not told."""
    live: bool = True
    """Whether it is open, as far as known."""
    first_seen_ns: InstantNs = 0
    """When the log first had it."""
    last_seen_ns: InstantNs = 0
    """When the log last had news of it."""


class Position(Model):
    """What fills in one symbol come to. Integer arithmetic; see `projections.folds.ledger`."""

    symbol_id: SymbolId
    """The symbol."""
    quantity: Int = 0
    """Signed net quantity, at the quantity scale; negative is short."""
    avg_px: Uint64 | None = None
    """Average price of what is open, at the price scale, rounded down; for show. None when flat."""
    cost: Int = 0
    """Exact signed cost of what is open, at the scale of price × quantity."""
    realized_pnl: Int = 0
    """Realized profit, at the scale of price × quantity; fees not included."""
    fees: dict[AssetId, Int] = Field(default_factory=dict)
    """Fees paid (positive) or received (negative) per asset, at the asset's scale."""


class Balance(Model):
    """One asset of an account, at the asset's scale."""

    asset_id: AssetId
    """The asset."""
    total: Int = 0
    """All that is owned."""
    locked: Int = 0
    """The part held by open orders."""
    free: Int = 0
    """The part that can be used."""


class AccountState(Model):
    """The account as last observed."""

    exchange_id: ExchangeId
    """The exchange account."""
    balances: dict[AssetId, Balance] = Field(default_factory=dict)
    """By asset."""
    margin: dict[AssetId, Int] | None = None
    """Margin used per asset where the venue has it."""
    evidence: Evidence | None = None
    """Where the balances come from; none before the first observation."""
    observed_at_ns: InstantNs | None = None
    """When they were observed; none before the first observation."""


class FindingKind(StrEnum):
    """What should not be, and is."""

    OVERFILL = "OVERFILL"
    FILL_AFTER_TERMINAL = "FILL_AFTER_TERMINAL"
    LATE_ACCEPT = "LATE_ACCEPT"
    DUPLICATE_ORDER = "DUPLICATE_ORDER"
    UNEXPECTED_TRADE = "UNEXPECTED_TRADE"
    UNEXPLAINED_QUANTITY = "UNEXPLAINED_QUANTITY"
    FILL_KEY_REUSED = "FILL_KEY_REUSED"
    POSITION_DRIFT = "POSITION_DRIFT"
    BALANCE_DRIFT = "BALANCE_DRIFT"
    UNKNOWN_TOO_LONG = "UNKNOWN_TOO_LONG"
    GROUP_OVERFILL = "GROUP_OVERFILL"
    CLOCK_SKEW = "CLOCK_SKEW"
    STORM = "STORM"


class Finding(Model):
    """Something that should not be, raised and resolved as events."""

    finding_id: str
    """Names it: raised twice under one id, it is one finding."""
    kind: FindingKind
    """What it is."""
    text: str
    """What was seen, for people."""
    intent_id: IntentId | None = None
    """The intent concerned."""
    symbol_id: SymbolId | None = None
    """The symbol concerned."""
    raised_at_ns: InstantNs = 0
    """When it was raised."""
    resolved_at_ns: InstantNs | None = None
    """When it was resolved; none while it stands."""
    resolution: str = ""
    """Why it was resolved."""


class ExecType(StrEnum):
    """FIX 150: what a report is about. The two `…_REJECTED` requests are FIX's OrderCancelReject (35=9)."""

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
    """FIX 851: whether a fill added or took liquidity."""

    MAKER = "MAKER"
    TAKER = "TAKER"


class LookScope(StrEnum):
    """What a look at the venue covered."""

    OPEN_ORDERS = "OPEN_ORDERS"
    TRADES = "TRADES"
    BALANCES = "BALANCES"
    ORDER = "ORDER"
