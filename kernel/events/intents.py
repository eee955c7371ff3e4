"""Events about intents and groups, appended by commands and by the intent store."""

from __future__ import annotations

from kernel.events.base import BaseEvent
from kernel.models import OrderIntent
from kernel.order_spec import Counter, InstantNs, IntentId, OcoMode, Uint64


class IntentCreated(BaseEvent):
    """An intent was created."""

    intent: OrderIntent
    """The intent."""


class IntentModified(BaseEvent):
    """An intent was replaced by a new record."""

    intent: OrderIntent
    """The new record."""


class IntentCancelRequested(BaseEvent):
    """An intent was canceled."""

    intent_id: IntentId
    """The intent."""
    generation: Counter
    """Its new generation."""
    requested_at_ns: InstantNs
    """When the cancel was requested."""
    reason: str | None = None
    """Why, if no command asked for this cancel by itself."""


class IntentDeleted(BaseEvent):
    """An intent's record was deleted. Its stream, attempt numbers and client order ids stay."""

    intent_id: IntentId
    """The intent."""


class TermsAccepted(BaseEvent):
    """The terms that the venue works, or still takes, count instead of the intent's until its generation changes."""

    intent_id: IntentId
    """The intent."""
    generation: Counter
    """Its generation."""
    quantity: Uint64
    """The total quantity that counts, filled part included."""
    price: Uint64 | None = None
    """The limit price that counts; absent: as in the intent."""
    asked: Uint64 | None = None
    """In a group: the total that was asked for; the quantity counts until the group permits more."""
    text: str = ""
    """Why, or how the operator knows."""


class GroupCreated(BaseEvent):
    """A group of contingent orders was created."""

    group_id: IntentId
    """The group."""
    mode: OcoMode
    """How its members depend on each other."""
    intent_ids: tuple[IntentId, ...]
    """Its members, in order."""


class GroupWorked(BaseEvent):
    """The venue or the kernel manages a group: decided when its first order is sent.

    Decided again only if the venue has no order of the group.
    """

    group_id: IntentId
    """The group."""
    native: bool
    """True: the venue manages it and received all orders in one request. False: the kernel does, order by order."""
    group_client_id: str | None = None
    """Client id of the group as a whole at the venue."""


class GroupUpdated(BaseEvent):
    """The filled quantity of a member changed, and with it the permitted quantity of its siblings.

    Appended together with the report that shows it.
    """

    group_id: IntentId
    """The group."""
    intent_id: IntentId
    """The member."""
    cum_qty: Uint64
    """Its filled quantity, net of busts."""
