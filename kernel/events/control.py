"""Events about the log itself, its leaders, pauses and findings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kernel.events.base import BaseEvent
from kernel.models import Finding, JsonObject
from kernel.order_spec import Counter, ExchangeId, IntentId, SymbolId


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
    """SHA-256 of the source files of the build that runs (`kernel.platform.version.build_hash`)."""
    epoch: Counter
    """Its epoch."""
    settings: JsonObject
    """Its settings."""
    capabilities: JsonObject
    """The venue's capabilities as given."""


class CapabilitiesChanged(BaseEvent):
    """The venue's capabilities are these from now on."""

    topic = "CapabilitiesChanged"
    capabilities: JsonObject
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
    """The intent paused; all of them, or those of a symbol, when absent."""
    reason: str = ""
    """Why."""
    symbol_id: SymbolId | None = None
    """The symbol whose intents are paused."""
    cancels: bool | None = None
    """True for a halt: cancels still go out. Absent: not even cancels."""


class Resumed(BaseEvent):
    """Sending may go on."""

    topic = "Resumed"
    intent_id: IntentId | None = None
    """The intent resumed; all of them, or those of a symbol, when absent."""
    symbol_id: SymbolId | None = None
    """The symbol whose intents are resumed."""


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
