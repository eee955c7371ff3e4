"""Events about what is wanted: written by commands and by the intent store."""

from __future__ import annotations

from kernel.events.base import BaseEvent
from kernel.models import (
    OrderIntent,
)
from kernel.order_spec import (
    Counter,
    InstantNs,
    IntentId,
    OcoMode,
)


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
    reason: str | None = None
    """Why, where nobody asked for it by itself."""


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
