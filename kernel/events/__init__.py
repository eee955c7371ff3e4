"""The event types of the log: one frozen value per topic.

- `base`: stream names, the envelope and the base model.
- `attempts`: requests to the venue and their outcomes.
- `control`: the log itself, leaders, pauses and findings.
- `heartbeats`: heartbeats of owners.
- `intents`: intents and groups.
- `observations`: store writes, venue snapshots, balances, symbols and external orders.
- `reports`: venue reports about the kernel's own orders.
- `codec`: encoding to canonical JSON and decoding.

The meaning of an event type never changes: a changed payload gets a higher `schema_version` and a pure upcaster.
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
    Origin,
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
    TermsAccepted,
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
    "OrderTriggered", "Origin", "Paused", "PositionObserved", "Resumed", "SymbolObserved", "TermsAccepted",
    "TransferObserved",
    "VenueSnapshotTaken", "canonical_json", "decode", "encode", "group_stream", "heartbeat_stream", "intent_stream",
]  # fmt: skip
