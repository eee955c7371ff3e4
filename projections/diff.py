"""The diff between what is wanted and what is there: which keys the reconciler has to look at.

Called by `State` for the intents that a batch touched; it is `plan.difference`, the one comparison, on what was folded.
"""

from __future__ import annotations

from typing import Protocol

from kernel import plan
from kernel.models import OrderIntent, OrderState


class BothSides(Protocol):
    """Where both sides of an intent can be read."""

    def wish(self, intent_id: str) -> OrderIntent | None:
        """What is wanted of it now."""

    def exposure(self, intent_id: str) -> OrderState | None:
        """What is there, forgotten by a store or not."""


def differs(sides: BothSides, intent_id: str) -> bool:
    """Whether something is to be done for an intent."""
    return plan.difference(sides.wish(intent_id), sides.exposure(intent_id)) is not None
