"""Events about the log itself, leaders, pauses and findings."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from kernel.events.base import BaseEvent
from kernel.models import Finding, JsonObject
from kernel.order_spec import Counter, ExchangeId, IntentId, SymbolId
from kernel.values import Constraint, whole

LOG_ID_PATTERN = r"^[0-9a-f]{16}$"


class LogCreated(BaseEvent):
    """The first event of every log."""

    log_id: Annotated[str, Meta(pattern=whole(LOG_ID_PATTERN)), Constraint(pattern=LOG_ID_PATTERN)]
    """64 random bits in hex; part of every client order id."""
    exchange_id: ExchangeId
    """The exchange account of this log."""


class LeaderElected(BaseEvent):
    """A kernel became the leader; verdicts of earlier epochs are refused from here on."""

    epoch: Counter
    """The previous epoch plus one."""
    holder: str
    """The leader: host, process id and a random part."""


class KernelStarted(BaseEvent):
    """A kernel started to reconcile."""

    kernel_version: str
    """Version of the software."""
    code_hash: str
    """SHA-256 of the source files of the running build (`kernel.platform.version.build_hash`)."""
    epoch: Counter
    """Its epoch."""
    settings: JsonObject
    """Its settings."""
    capabilities: JsonObject
    """The venue's capabilities."""


class CapabilitiesChanged(BaseEvent):
    """The venue's capabilities changed."""

    capabilities: JsonObject
    """The new capabilities."""


class KernelStopped(BaseEvent):
    """A kernel stopped in order."""

    epoch: Counter
    """Its epoch."""
    reason: str = ""
    """Why it stopped."""


class Paused(BaseEvent):
    """Sending is paused; commands are still recorded."""

    intent_id: IntentId | None = None
    """The paused intent; absent for a symbol or for all intents."""
    reason: str = ""
    """Why."""
    symbol_id: SymbolId | None = None
    """The symbol whose intents are paused."""
    cancels: bool | None = None
    """True for a halt, which still sends cancels; absent if cancels are paused too."""


class Resumed(BaseEvent):
    """Sending is resumed."""

    intent_id: IntentId | None = None
    """The resumed intent; absent for a symbol or for all intents."""
    symbol_id: SymbolId | None = None
    """The symbol whose intents are resumed."""


class FindingRaised(BaseEvent):
    """A condition that needs attention was found."""

    finding: Finding
    """The finding."""


class FindingResolved(BaseEvent):
    """A finding no longer holds, or an operator has dealt with it."""

    finding_id: str
    """Id of the finding."""
    text: str = ""
    """Why."""
