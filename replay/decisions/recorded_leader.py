"""The settings and the venue's capabilities that leaders recorded, in the types of this version.

Used by `decision_replay` and by `replay.whatif`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernel import events
from kernel.settings import KernelSettings
from kernel.values.edge import validated
from kernel.venues.base import VenueCapabilities


class RecordedLeader:
    """The newest leader's records about itself, event by event."""

    def __init__(self) -> None:
        self.settings: Mapping[str, Any] | None = None
        self.capabilities: Mapping[str, Any] = {}
        """Empty until the leader has queried the venue for them."""
        self.last_capabilities: Mapping[str, Any] = {}
        """Those of an earlier leader while the newest has none."""

    def apply(self, event: events.BaseEvent) -> bool:
        """Apply an event; whether it changed anything."""
        match event:
            case events.KernelStarted(settings=settings, capabilities=capabilities):
                self.settings, self.capabilities = settings, capabilities
            case events.CapabilitiesChanged(capabilities=capabilities):
                self.capabilities = capabilities
            case _:
                return False
        self.last_capabilities = self.capabilities or self.last_capabilities
        return True


def recorded_settings(recorded: Mapping[str, Any]) -> KernelSettings:
    """A kernel's recorded settings. New ones have their defaults, not the environment's values; removed ones are ignored.

    Raises `pydantic.ValidationError` if this version cannot read them.
    """
    defaults = KernelSettings.model_construct().model_dump(mode="json")
    known = {name: value for name, value in recorded.items() if name in defaults}
    return KernelSettings.model_validate({**defaults, **known})


def recorded_capabilities(recorded: Mapping[str, Any]) -> VenueCapabilities:
    """A venue's recorded capabilities; removed ones are ignored.

    Raises `ValidationError` if this version cannot read them.
    """
    known = {name: value for name, value in recorded.items() if name in VenueCapabilities.__struct_fields__}
    return validated(known, VenueCapabilities)
