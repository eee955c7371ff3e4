"""Events about the heartbeats of owners; each owner has its own stream.

Commands append `HeartbeatReceived` and `HeartbeatDisarmed`, the leader appends `HeartbeatLapsed`; their effect is in
`kernel.safety.heartbeat`.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from kernel.events.base import BaseEvent
from kernel.order_spec import Counter
from kernel.values import Constraint

Owner = Annotated[str, Meta(min_length=1, max_length=128), Constraint(min_length=1, max_length=128)]


class HeartbeatReceived(BaseEvent):
    """An owner is alive. The first heartbeat arms the dead-man switch: a gap of `ttl_ns` cancels the owner's orders.

    Later heartbeats renew it or change `ttl_ns`; at most one is recorded per third of `ttl_ns`.
    """

    owner: Owner
    """The owner, as in its intents."""
    ttl_ns: Counter
    """Longest permitted gap between heartbeats."""


class HeartbeatLapsed(BaseEvent):
    """An owner missed its heartbeat; its intents count as canceled until the next one."""

    owner: Owner
    """The owner."""
    beat_position: Counter
    """Log position of the newest heartbeat."""
    silent_ns: Counter
    """How long the leader has observed the gap."""


class HeartbeatDisarmed(BaseEvent):
    """The dead-man switch of an owner is off."""

    owner: Owner
    """The owner."""
    reason: str = ""
    """Why."""
