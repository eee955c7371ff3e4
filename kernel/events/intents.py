"""Events about what is wanted: written by commands and by the intent store."""

from __future__ import annotations

from kernel.events.base import BaseEvent
from kernel.models import OrderIntent
from kernel.order_spec import Counter, InstantNs, IntentId, OcoMode, Uint64


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


class GroupWorked(BaseEvent):
    """Who sees to it that the members of a group depend on each other: decided when the first of them is sent. Decided anew
    only where nothing of the group came to be at the venue."""

    topic = "GroupWorked"
    group_id: IntentId
    """The group."""
    native: bool
    """True: the venue, which was sent all of them as one; false: the kernel, order by order."""
    group_client_id: str | None = None
    """The id that the venue was given for the group as a whole."""


class GroupUpdated(BaseEvent):
    """What has filled of a member changed: with it, what its siblings may be. Recorded next to the report that says so."""

    topic = "GroupUpdated"
    group_id: IntentId
    """The group."""
    intent_id: IntentId
    """The member."""
    cum_qty: Uint64
    """What it has filled, net of busts, as known when this was recorded."""
