"""Everything that can be in the log: one frozen model per kind of event, and how each is stored and read again.

Appended by `decide`, `decide_report`, the reconciler, the controller and the stores; read by the fold, the CLI and
whoever opens the database. What is stored is canonical UTF-8 JSON (sorted keys, no white space, absent fields left out).

An event never changes its meaning: a changed one gets a higher `schema_version` and a pure upcaster from the one before.
Reading an event newer than this code, of an unknown topic, or not of its schema is a `SchemaError`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import pydantic
from pydantic import Field, PrivateAttr

from kernel.errors import SchemaError
from kernel.models import (
    AttemptKind,
    AttemptOutcome,
    Balance,
    Evidence,
    ExecType,
    Finding,
    Liquidity,
    LookScope,
    OrderIntent,
    OrderState,
    OrdStatus,
)
from kernel.order_spec import (
    AssetId,
    AssetMetadata,
    Counter,
    ExchangeId,
    InstantNs,
    Int,
    IntentId,
    Model,
    OcoMode,
    Side,
    StandardOrder,
    SymbolId,
    SymbolMetadata,
    Uint64,
)

CONTROL_STREAM = "control"
VENUE_STREAM = "venue"
REFERENCE_STREAM = "reference"
INTENT_STREAM_PREFIX = "intent:"
GROUP_STREAM_PREFIX = "group:"


def intent_stream(intent_id: str) -> str:
    """The stream that holds everything about one intent."""
    return INTENT_STREAM_PREFIX + intent_id


def group_stream(group_id: str) -> str:
    """The stream that holds what is shared by the members of a group."""
    return GROUP_STREAM_PREFIX + group_id


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where, when and why an event was recorded. Written by the log, never by the event's author."""

    position: int
    """Its place in the log, 1 … N without gaps."""
    stream_id: str
    """The stream it belongs to."""
    version: int
    """Its place in the stream, 1 … n without gaps."""
    recorded_at_ns: int
    """When it was recorded, Unix nanoseconds, never decreasing along the log."""
    actor: str
    """`strategy:x`, `reconciler`, `venue:y`, `operator:z`, `kernel`."""
    evidence: Evidence
    """Where the fact comes from."""
    correlation_id: str | None = None
    """The command that began it: its id in hex."""
    causation_position: int | None = None
    """Position of the event that caused it."""
    os_user: str | None = None
    """User of the operating system who wrote it."""
    host: str | None = None
    """Host that wrote it."""
    pid: int | None = None
    """Process that wrote it."""
    session_user: str | None = None
    """The database's session user (PostgreSQL)."""


Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class BaseEvent(Model):
    """Base of every event: its payload is the model's fields, its envelope is added by the log."""

    topic: ClassVar[str]
    """Stable name under which it is stored."""
    schema_version: ClassVar[int] = 1
    """Version of the payload's schema."""
    upcasters: ClassVar[Mapping[int, Upcaster]] = {}
    """From version n, a pure function to the payload of version n + 1."""

    _envelope: Envelope | None = PrivateAttr(default=None)

    @property
    def envelope(self) -> Envelope:
        """Where, when and why it was recorded; `ValueError` before it was."""
        if self._envelope is None:
            raise ValueError(f"{self.topic} was not recorded yet, so it has no envelope")
        return self._envelope

    @property
    def recorded(self) -> bool:
        """Whether it comes from a log."""
        return self._envelope is not None

    @property
    def position(self) -> int:
        """Its place in the log."""
        return self.envelope.position

    @property
    def stream_id(self) -> str:
        """The stream it belongs to."""
        return self.envelope.stream_id

    @property
    def version(self) -> int:
        """Its place in the stream."""
        return self.envelope.version

    @property
    def recorded_at_ns(self) -> int:
        """When it was recorded, Unix nanoseconds."""
        return self.envelope.recorded_at_ns

    @property
    def actor(self) -> str:
        """Who wrote it."""
        return self.envelope.actor

    @property
    def evidence(self) -> Evidence:
        """Where the fact comes from."""
        return self.envelope.evidence

    @property
    def correlation_id(self) -> str | None:
        """The command that began it."""
        return self.envelope.correlation_id

    @property
    def causation_position(self) -> int | None:
        """Position of the event that caused it."""
        return self.envelope.causation_position

    def with_envelope(self, envelope: Envelope) -> BaseEvent:
        """The same event as recorded there."""
        copy = self.model_copy()
        copy._envelope = envelope
        return copy


# ---------------------------------------------------------------------------------------------------------- intents
class IntentCreated(BaseEvent):
    """An order is wanted. Carries the whole record."""

    topic = "IntentCreated"
    intent: OrderIntent
    """The intent as created."""


class IntentModified(BaseEvent):
    """The intent is replaced by this record."""

    topic = "IntentModified"
    intent: OrderIntent
    """The intent as it is from now on."""


class IntentCancelRequested(BaseEvent):
    """The order is not wanted any more."""

    topic = "IntentCancelRequested"
    intent_id: IntentId
    """The intent."""
    generation: Counter
    """Its generation from now on."""
    requested_at_ns: InstantNs
    """When it was requested."""


class IntentDeleted(BaseEvent):
    """The record is removed from the store. Its stream, its numbers and its client order ids stay."""

    topic = "IntentDeleted"
    intent_id: IntentId
    """The intent."""


class GroupCreated(BaseEvent):
    """Orders were tied together."""

    topic = "GroupCreated"
    group_id: IntentId
    """The group."""
    mode: OcoMode
    """How its members depend on each other."""
    intent_ids: tuple[IntentId, ...]
    """Its members, in order."""


# --------------------------------------------------------------------------------------------------------- attempts
class AttemptStarted(BaseEvent):
    """One send is about to happen. Durable before the venue hears of it."""

    topic = "AttemptStarted"
    intent_id: IntentId
    """The intent it serves."""
    number: Counter
    """The intent's counter; a resend of what is not settled repeats it."""
    kind: AttemptKind
    """SUBMIT, CANCEL or AMEND."""
    client_order_id: str
    """The id that the request carries."""
    target_client_order_id: str | None = None
    """For CANCEL and AMEND: the client order id of the order aimed at."""
    target_exchange_order_id: str | None = None
    """For CANCEL and AMEND: the venue's id of the order aimed at."""
    order: StandardOrder
    """What is sent (for CANCEL: the order aimed at, as the log knows it)."""
    generation: Counter
    """The intent's generation that it serves."""
    epoch: Counter
    """The leader's epoch."""
    stamp_ns: InstantNs
    """The instant signed into the request."""
    send_by_ns: InstantNs
    """It is not written to the wire after this."""
    valid_until_ns: InstantNs | None = None
    """The venue refuses the request after this; none when it has no such window."""
    absent_after_ns: InstantNs | None = None
    """valid_until + clock skew + read lag: a look begun at or after this may conclude absence; none when nothing may."""
    state_position: Counter
    """Log position of the state that the decision was made on."""
    decided_at_ns: InstantNs
    """When the decision was made."""


class AttemptFailed(BaseEvent):
    """A definitive no from the venue, or it was not sent."""

    topic = "AttemptFailed"
    intent_id: IntentId
    """The intent."""
    attempt_position: Counter
    """Position of the `AttemptStarted` that this answers."""
    outcome: AttemptOutcome
    """REJECTED (the venue said no) or DEAD (it was not sent)."""
    text: str = ""
    """What the venue or the kernel said."""
    code: str | None = None
    """The venue's code."""
    retry_at_ns: InstantNs | None = None
    """When it may be tried again; none when this generation is over."""
    failures: Counter = 0
    """Failures in a row, this one included."""


class AttemptUnknown(BaseEvent):
    """The call ended without an answer that settles it."""

    topic = "AttemptUnknown"
    intent_id: IntentId
    """The intent."""
    attempt_position: Counter
    """Position of the `AttemptStarted` that this answers."""
    text: str = ""
    """What happened instead of an answer."""
    code: str | None = None
    """The venue's code where there was one (duplicate id, unknown order)."""


class AttemptResolved(BaseEvent):
    """What was unknown is settled by evidence."""

    topic = "AttemptResolved"
    intent_id: IntentId
    """The intent."""
    attempt_position: Counter
    """Position of the `AttemptStarted` that this settles (with every earlier send of the same client order id)."""
    outcome: AttemptOutcome
    """ACCEPTED, REJECTED or DEAD."""
    text: str = ""
    """Which evidence settled it."""
    began_ns: InstantNs | None = None
    """When the look that settled it began."""


# ---------------------------------------------------------------------------------------------------------- reports
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


# ---------------------------------------------------------------------------------------------------------- records
class OrderStateRecorded(BaseEvent):
    """A store's write: the state is this from now on; reports apply on top, known fill keys stay known."""

    topic = "OrderStateRecorded"
    state: OrderState
    """The record, whole."""
    created: bool
    """Whether it was a create (an update otherwise)."""


class OrderStateForgotten(BaseEvent):
    """A store's delete of an order state. Client order ids, numbers and fill keys stay known."""

    topic = "OrderStateForgotten"
    intent_id: IntentId
    """The intent."""


# ----------------------------------------------------------------------------------------------------- observations
class VenueSnapshotTaken(BaseEvent):
    """The venue was asked; what it answered is in the events before it. Without an order, it is about the account."""

    topic = "VenueSnapshotTaken"
    scopes: tuple[LookScope, ...]
    """What was asked."""
    complete: bool
    """Whether the answer is whole. An empty list from a failed query is no evidence."""
    began_ns: InstantNs
    """When the question was sent."""
    ended_ns: InstantNs
    """When the answer was whole."""
    intent_id: IntentId | None = None
    """The intent looked for."""
    client_order_id: str | None = None
    """The client order id looked for."""
    exchange_order_id: str | None = None
    """The venue order id looked for."""
    found: bool | None = None
    """Whether the order looked for was there."""
    trades_since_ns: InstantNs | None = None
    """Trades at or after this instant were asked for."""
    trades_cursor_ns: InstantNs | None = None
    """Every trade up to this instant is now in the log (complete pages of the trades query only)."""
    open_orders: Counter | None = None
    """How many open orders the answer had."""
    text: str = ""
    """Why it is incomplete."""


class BalancesObserved(BaseEvent):
    """The account's balances as the venue gives them."""

    topic = "BalancesObserved"
    balances: dict[AssetId, Balance]
    """By asset."""
    began_ns: InstantNs
    """When the question was sent."""
    ended_ns: InstantNs
    """When the answer was whole."""


class PositionObserved(BaseEvent):
    """A position as the venue gives it."""

    topic = "PositionObserved"
    symbol_id: SymbolId
    """The symbol."""
    quantity: Int
    """Signed quantity at the quantity scale."""
    observed_at_ns: InstantNs
    """When it was observed."""


class TransferObserved(BaseEvent):
    """An asset came or went without a trade."""

    topic = "TransferObserved"
    transfer_key: str
    """Names the transfer in the account for ever."""
    asset_id: AssetId
    """The asset."""
    amount: Int
    """Signed amount at the asset's scale."""
    transact_time_ns: InstantNs | None = None
    """The venue's instant of it."""


class ExternalOrderObserved(BaseEvent):
    """A report of an order that is not ours. Recorded, never touched."""

    topic = "ExternalOrderObserved"
    symbol_id: SymbolId
    """The symbol."""
    client_order_id: str | None = None
    """Its client order id."""
    exchange_order_id: str | None = None
    """Its venue order id."""
    exec_type: ExecType
    """What the report is about."""
    exec_id: str | None = None
    """The venue's id of the report."""
    side: Side | None = None
    """Its side."""
    fill_key: str | None = None
    """Names the trade, where it is one."""
    last_qty: Uint64 | None = None
    """Traded quantity."""
    last_px: Uint64 | None = None
    """Traded price."""
    order_qty: Uint64 | None = None
    """Its quantity."""
    price: Uint64 | None = None
    """Its limit price."""
    transact_time_ns: InstantNs | None = None
    """The venue's instant of it."""
    raw: str | None = None
    """The venue's frame, as it came."""


class SymbolObserved(BaseEvent):
    """A symbol's scales and constraints, new or changed."""

    topic = "SymbolObserved"
    symbol: SymbolMetadata
    """As observed."""


class AssetObserved(BaseEvent):
    """An asset's scale, new or changed in name."""

    topic = "AssetObserved"
    asset: AssetMetadata
    """As observed."""


# ---------------------------------------------------------------------------------------------------------- control
class LogCreated(BaseEvent):
    """The first event of every log."""

    topic = "LogCreated"
    log_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    """64 random bits, in hex; part of every client order id."""
    exchange_id: ExchangeId
    """The exchange account whose log this is."""


class LeaderElected(BaseEvent):
    """A kernel leads from here on; what older leaders still append as verdicts is refused."""

    topic = "LeaderElected"
    epoch: Counter
    """One more than the epoch before."""
    holder: str
    """Who leads: host, pid and a random part."""


class KernelStarted(BaseEvent):
    """A kernel started to act."""

    topic = "KernelStarted"
    kernel_version: str
    """Version of the software."""
    code_hash: str
    """SHA-256 of the code that folds and decides."""
    epoch: Counter
    """Its epoch."""
    settings: dict[str, Any]
    """Its settings."""
    capabilities: dict[str, Any]
    """The venue's capabilities as given."""


class CapabilitiesChanged(BaseEvent):
    """The venue's capabilities are these from now on."""

    topic = "CapabilitiesChanged"
    capabilities: dict[str, Any]
    """As they are now."""


class KernelStopped(BaseEvent):
    """A kernel stopped in order."""

    topic = "KernelStopped"
    epoch: Counter
    """Its epoch."""
    reason: str = ""
    """Why."""


class Paused(BaseEvent):
    """Nothing is sent until resumed; commands are still recorded."""

    topic = "Paused"
    intent_id: IntentId | None = None
    """The intent paused; all of them when absent."""
    reason: str = ""
    """Why."""


class Resumed(BaseEvent):
    """Sending may go on."""

    topic = "Resumed"
    intent_id: IntentId | None = None
    """The intent resumed; all of them when absent."""


class FindingRaised(BaseEvent):
    """Something should not be, and is."""

    topic = "FindingRaised"
    finding: Finding
    """What."""


class FindingResolved(BaseEvent):
    """It is no longer so, or somebody dealt with it."""

    topic = "FindingResolved"
    finding_id: str
    """Which."""
    text: str = ""
    """Why."""


EVENT_TYPES: tuple[type[BaseEvent], ...] = (
    IntentCreated, IntentModified, IntentCancelRequested, IntentDeleted, GroupCreated,
    AttemptStarted, AttemptFailed, AttemptUnknown, AttemptResolved,
    OrderAccepted, OrderRejected, OrderTriggered, OrderFilled, FillInferred, FillCorrected, FillBusted,
    OrderModified, ModifyRejected, OrderCanceled, CancelRejected, OrderExpired, OrderStateObserved,
    OrderStateRecorded, OrderStateForgotten,
    VenueSnapshotTaken, BalancesObserved, PositionObserved, TransferObserved, ExternalOrderObserved,
    SymbolObserved, AssetObserved,
    LogCreated, LeaderElected, KernelStarted, CapabilitiesChanged, KernelStopped, Paused, Resumed,
    FindingRaised, FindingResolved,
)  # fmt: skip
"""Every event that can be in a log."""

REGISTRY: Mapping[str, type[BaseEvent]] = {event_type.topic: event_type for event_type in EVENT_TYPES}
"""Topic → model."""


def encode(event: BaseEvent) -> bytes:
    """An event's payload as canonical UTF-8 JSON."""
    return canonical_json(event.model_dump(mode="json", exclude_none=True))


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no white space, UTF-8, no NaN: one value, one text. `ValueError` for what JSON can't hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def decode(
    topic: str,
    schema_version: int,
    state: bytes,
    envelope: Envelope | None = None,
    *,
    registry: Mapping[str, type[BaseEvent]] = REGISTRY,
) -> BaseEvent:
    """A stored payload as its event, brought up to this code's schema version.

    Raises `SchemaError` (with the position) for an unknown topic, a version newer than this code, or a payload that is
    not of its schema.
    """
    position = envelope.position if envelope else None
    event_type = registry.get(topic)
    if event_type is None:
        raise SchemaError(f"unknown topic {topic!r}: written by a newer version? upgrade to read it", position=position)
    if not 1 <= schema_version <= event_type.schema_version:
        raise SchemaError(
            f"{topic} has schema version {schema_version}, this code reads 1 … {event_type.schema_version}: upgrade to read it",
            position=position,
        )
    try:
        if schema_version == event_type.schema_version:
            event = event_type.model_validate_json(state)
        else:
            event = event_type.model_validate(upcast(event_type, schema_version, state))
    except (pydantic.ValidationError, ValueError) as problem:
        raise SchemaError(f"{topic} is not of its schema: {problem}", position=position) from problem
    event._envelope = envelope
    return event


def upcast(event_type: type[BaseEvent], schema_version: int, state: bytes) -> dict[str, Any]:
    """A payload of an older version as one of the current version, by the chain of upcasters."""
    payload = json.loads(state)
    for version in range(schema_version, event_type.schema_version):
        payload = event_type.upcasters[version](payload)
    return dict(payload)
