"""Everything that can be in the log: one frozen model per kind of event, and how each is stored and read again.

Appended by `decide`, `decide_report`, the reconciler, the controller and the stores; read by the fold, the CLI and
whoever opens the database. What is stored is canonical UTF-8 JSON (sorted keys, no white space, absent fields left out).

An event never changes its meaning: a changed one gets a higher `schema_version` and a pure upcaster from the one before.
Reading an event newer than this code, of an unknown topic, or not of its schema is a `SchemaError`.
"""

from kernel.events.attempts import AttemptFailed, AttemptResolved, AttemptStarted, AttemptUnknown
from kernel.events.base import (
    CONTROL_STREAM,
    GROUP_STREAM_PREFIX,
    INTENT_STREAM_PREFIX,
    REFERENCE_STREAM,
    VENUE_STREAM,
    BaseEvent,
    Envelope,
    group_stream,
    heartbeat_stream,
    intent_stream,
)
from kernel.events.codec import EVENT_TYPES, REGISTRY, canonical_json, decode, encode
from kernel.events.control import (
    CapabilitiesChanged,
    FindingRaised,
    FindingResolved,
    KernelStarted,
    KernelStopped,
    LeaderElected,
    LogCreated,
    Paused,
    Resumed,
)
from kernel.events.heartbeats import HeartbeatDisarmed, HeartbeatLapsed, HeartbeatReceived
from kernel.events.intents import (
    GroupCreated,
    GroupUpdated,
    GroupWorked,
    IntentCancelRequested,
    IntentCreated,
    IntentDeleted,
    IntentModified,
)
from kernel.events.observations import (
    AssetObserved,
    BalancesObserved,
    ExternalOrderObserved,
    OrderStateForgotten,
    OrderStateRecorded,
    PositionObserved,
    SymbolObserved,
    TransferObserved,
    VenueSnapshotTaken,
)
from kernel.events.reports import (
    CancelRejected,
    FillBusted,
    FillCorrected,
    FillInferred,
    ModifyRejected,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderRejected,
    OrderReport,
    OrderStateObserved,
    OrderTriggered,
)

__all__ = [
    "CONTROL_STREAM", "EVENT_TYPES", "GROUP_STREAM_PREFIX", "INTENT_STREAM_PREFIX", "REFERENCE_STREAM", "REGISTRY",
    "VENUE_STREAM", "AssetObserved", "AttemptFailed", "AttemptResolved", "AttemptStarted", "AttemptUnknown",
    "BalancesObserved", "BaseEvent", "CancelRejected", "CapabilitiesChanged", "Envelope", "ExternalOrderObserved",
    "FillBusted", "FillCorrected", "FillInferred", "FindingRaised", "FindingResolved", "GroupCreated", "GroupUpdated",
    "GroupWorked", "HeartbeatDisarmed", "HeartbeatLapsed", "HeartbeatReceived", "IntentCancelRequested",
    "IntentCreated", "IntentDeleted", "IntentModified", "KernelStarted", "KernelStopped", "LeaderElected",
    "LogCreated", "ModifyRejected", "OrderAccepted", "OrderCanceled", "OrderExpired", "OrderFilled", "OrderModified",
    "OrderRejected", "OrderReport", "OrderStateForgotten", "OrderStateObserved", "OrderStateRecorded",
    "OrderTriggered", "Paused", "PositionObserved", "Resumed", "SymbolObserved", "TransferObserved",
    "VenueSnapshotTaken", "canonical_json", "decode", "encode", "group_stream", "heartbeat_stream", "intent_stream",
]  # fmt: skip
