"""The actions of a reconciler run: one enum, and one table with their priority, attempt and venue call.

Read by `plan`, the decision, the work queue, the rate limiter and the metrics. The CLI and metrics show the values of
`ActionKind` and the labels of `Priority`: they are stable.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum

import msgspec

from kernel.models import AttemptKind
from kernel.venues.base import Operation


class Priority(IntEnum):
    """Priority of a key in the work queue and of a call under the rate limits; higher ones go first."""

    RESYNC = 0
    SUBMIT = 1
    MODIFY = 2
    RESOLVE = 3
    CANCEL = 4

    @property
    def label(self) -> str:
        return ActionKind.RESOLVE.value if self is Priority.RESOLVE else self.name


class ActionKind(StrEnum):
    """The action of a reconciler run for an intent."""

    RESOLVE = "SETTLE"
    """Find evidence for the outcome of an unresolved attempt."""
    ASK = "ASK"
    """Query the status of an order whose final quantity or fills are not known."""
    CANCEL = "CANCEL"
    """Cancel an order that should not work."""
    MODIFY = "MODIFY"
    """Change a working order to the terms of the intent."""
    SUBMIT = "SUBMIT"
    """Place the remaining quantity of the intent."""


class ActionRule(msgspec.Struct, frozen=True):
    """Priority, attempt and venue call of an action."""

    priority: Priority
    attempt: AttemptKind | None = None
    """The attempt that it records; None for a status query."""
    operations: tuple[Operation, ...] = ()
    """The venue call of the attempt; a status query chooses its calls as answers come in."""


ACTION_RULES: Mapping[ActionKind, ActionRule] = {
    ActionKind.CANCEL: ActionRule(Priority.CANCEL, AttemptKind.CANCEL, (Operation.CANCEL,)),
    ActionKind.RESOLVE: ActionRule(Priority.RESOLVE),
    ActionKind.ASK: ActionRule(Priority.RESOLVE),
    ActionKind.MODIFY: ActionRule(Priority.MODIFY, AttemptKind.AMEND, (Operation.AMEND,)),
    ActionKind.SUBMIT: ActionRule(Priority.SUBMIT, AttemptKind.SUBMIT, (Operation.SUBMIT,)),
}
