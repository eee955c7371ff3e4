"""Events about owners that want their orders canceled when they fall silent. Each owner has a stream of its own.

Written by commands (`HeartbeatReceived`, `HeartbeatDisarmed`) and by the leader (`HeartbeatLapsed`); what they come to is
in `kernel.safety.heartbeat`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kernel.events.base import BaseEvent
from kernel.order_spec import Counter

Owner = Annotated[str, Field(min_length=1, max_length=128)]


class HeartbeatReceived(BaseEvent):
    """An owner is alive, and wants its orders canceled once nothing is heard of it for `ttl_ns`. The first one arms that,
    later ones renew or change it; recorded at most every third of that time."""

    topic = "HeartbeatReceived"
    owner: Owner
    """The strategy, as in its intents."""
    ttl_ns: Counter
    """How long it may be silent."""


class HeartbeatLapsed(BaseEvent):
    """The leader has heard nothing of an owner for too long. What the owner wants is withdrawn until it is heard again."""

    topic = "HeartbeatLapsed"
    owner: Owner
    """The strategy that is silent."""
    beat_position: Counter
    """Position of the newest heartbeat; nothing of it was recorded between that and this."""
    silent_ns: Counter
    """For how long the leader has listened since, by its own clock."""


class HeartbeatDisarmed(BaseEvent):
    """An owner's silence means nothing any more."""

    topic = "HeartbeatDisarmed"
    owner: Owner
    """The strategy."""
    reason: str = ""
    """Why."""
